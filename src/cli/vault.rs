//! `kubectl reprise vault …`: what is asked of a vault as a whole, inside the operator's pod.

use clap::{Args, Subcommand};

use super::{
    CliError,
    connection::Cluster,
    inside::Inside,
    output::Printer,
    rewind::{self, RewindArguments},
};

/// What is wanted of a vault.
#[derive(Args, Debug)]
pub struct VaultArguments {
    /// Where the operator is.
    #[command(flatten)]
    pub inside: Inside,
    /// What is wanted.
    #[command(subcommand)]
    pub verb: VaultVerb,
}

/// What is wanted of a vault.
#[derive(Subcommand, Debug)]
pub enum VaultVerb {
    /// Say what was deleted or overwritten since a time, and bring it back with --apply. Exit code 4 when something is lost.
    Rewind(RewindArguments),
}

/// Do what is wanted.
///
/// # Errors
/// When the operator's pod does not do it; `Unsuccessful` when something is lost that was not brought back.
pub async fn run(cluster: &Cluster, wanted: &VaultArguments, printer: &mut Printer) -> Result<(), CliError> {
    match &wanted.verb {
        VaultVerb::Rewind(to) => rewind::run(cluster, &wanted.inside, to, printer).await,
    }
}
