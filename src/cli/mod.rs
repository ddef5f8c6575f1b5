//! The verbs of `kubectl reprise`: what people type, and what they are told.
//!
//! They read and make objects of the Kubernetes API with the rights of whoever calls them; the work is done by the
//! operator. Nothing here reaches a vault, a DNS server or another region: what is asked of a vault is answered by the
//! operator's own program, inside its pod (`inside`).

pub mod backup;
pub mod claim;
pub mod connection;
pub mod copies;
pub mod crds;
pub mod failover;
pub mod inside;
pub mod key;
pub mod look;
pub mod output;
pub mod points;
pub mod recover;
pub mod restore;
pub mod rewind;
pub mod status;
pub mod vault;
mod vault_points;

use std::{io, time::Duration};

use clap::{Args, Parser, Subcommand};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::{
    api::{application::ProtectedApplication, span::Span},
    cli::{
        connection::{Connection, ConnectionError},
        output::{Format, Printer},
    },
    core::condition::{self, SUCCEEDED},
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the API server or the operator could not be asked, or failed
  2  wrong usage
  3  refused, with the reason: nothing was changed
  4  the failover, the backup or the restore ended without success
  5  it had not ended when --timeout ran out; it goes on in the cluster";

/// Recovery points and failovers of protected applications, from the command line.
#[derive(Parser, Debug)]
#[command(name = "kubectl-reprise", bin_name = "kubectl reprise", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// The cluster that is asked.
    #[command(flatten)]
    pub connection: Connection,
    /// Print a document instead of text.
    #[arg(short, long, global = true, value_enum)]
    pub output: Option<Format>,
    /// What is wanted.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What is wanted.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Show applications against their objectives, as this region sees them.
    Status(status::StatusArguments),
    /// Bring an application into service in this cluster's region.
    Failover(failover::FailoverArguments),
    /// Make a recovery point now.
    Backup(backup::BackupArguments),
    /// List recovery points, and say why the vault keeps which.
    Points(points::PointsArguments),
    /// The keys of a vault: list, export, rotate, retire, confirm, recover.
    Key(key::KeyArguments),
    /// Bring an application back, in place, to what it was in a recovery point.
    Restore(Box<restore::RestoreArguments>),
    /// Show what is in a recovery point: its objects and volumes, or what lies at a path of one.
    Ls(look::LsArguments),
    /// Show in what two recovery points differ: objects, and files of volumes.
    Diff(look::DiffArguments),
    /// List the applications of a vault, or bring some of them back where nothing is left of them.
    Recover(recover::RecoverArguments),
    /// A vault: look whether it has what it should, or rewind it to what it was.
    Vault(vault::VaultArguments),
    /// Who may serve an application: show its claim, or decide a conflict.
    Claim(claim::ClaimArguments),
}

/// Whether and how long to wait for the end of what was started.
#[derive(Args, Debug)]
pub struct Waiting {
    /// Stay until it has ended, and tell how it goes.
    #[arg(long, group = "staying")]
    pub wait: bool,
    /// How long to stay, written as 90s, 15m or 1h30m.
    #[arg(long, default_value = "30m", requires = "staying")]
    pub timeout: Span,
}

/// Why a verb did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The cluster could not be found in the kubeconfig.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The API server could not be asked, or refused.
    #[error("cannot {doing}: {}", told(source))]
    Request {
        /// What was tried.
        doing: String,
        /// What went wrong.
        source: Box<kube::Error>,
    },
    /// The operator's program, in its pod, did not do it.
    #[error("{message}")]
    Inside {
        /// Its exit code, not 0.
        code: u8,
        /// What it said.
        message: String,
    },
    /// This program will not do it.
    #[error("refused: {0}")]
    Refused(String),
    /// It was started, and ended without success.
    #[error("{what} did not succeed: {message}")]
    Unsuccessful {
        /// Kind and name.
        what: String,
        /// The message of its condition.
        message: String,
    },
    /// It was started, and had not ended in time.
    #[error("{what} had not ended after {after}; it goes on. Follow it with: {follow}")]
    TimedOut {
        /// Kind and name.
        what: String,
        /// How long was waited.
        after: Span,
        /// A command.
        follow: String,
    },
    /// The answer could not be printed.
    #[error("cannot print the answer: {0}")]
    Print(#[from] io::Error),
}

impl CliError {
    /// The exit code of the program, as its help lists them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Connection(_) | Self::Request { .. } | Self::Print(_) => 1,
            Self::Inside { code, .. } => *code,
            Self::Refused(_) => 3,
            Self::Unsuccessful { .. } => 4,
            Self::TimedOut { .. } => 5,
        }
    }
}

/// The server's own words where it gave some: kube's `Display` adds the whole structure behind them.
fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

fn request(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> CliError {
    let doing = doing.into();
    move |source| CliError::Request { doing, source: Box::new(source) }
}

/// Do what was asked.
///
/// # Errors
/// When it was not done; [`CliError::exit_code`] sums up why.
pub async fn run(arguments: Arguments) -> Result<(), CliError> {
    let cluster = arguments.connection.open().await?;
    let mut printer = Printer::new(arguments.output);
    match arguments.verb {
        Verb::Status(wanted) => status::run(&cluster, &wanted, &mut printer).await,
        Verb::Failover(wanted) => failover::run(&cluster, &wanted, &mut printer).await,
        Verb::Backup(wanted) => backup::run(&cluster, &wanted, &mut printer).await,
        Verb::Points(wanted) => points::run(&cluster, &wanted, &mut printer).await,
        Verb::Key(wanted) => key::run(&cluster, &wanted, &mut printer).await,
        Verb::Restore(wanted) => restore::run(&cluster, &wanted, &mut printer).await,
        Verb::Ls(wanted) => look::list(&cluster, &wanted, &mut printer).await,
        Verb::Diff(wanted) => look::difference(&cluster, &wanted, &mut printer).await,
        Verb::Recover(wanted) => recover::run(&cluster, &wanted, &mut printer).await,
        Verb::Vault(wanted) => vault::run(&cluster, &wanted, &mut printer).await,
        Verb::Claim(wanted) => claim::run(&cluster, &wanted, &mut printer).await,
    }
}

/// The application that is meant.
async fn application(cluster: &connection::Cluster, name: &str) -> Result<ProtectedApplication, CliError> {
    let applications: Api<ProtectedApplication> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let found = applications.get_opt(name).await.map_err(request(format!("read the application {name}")))?;
    found.ok_or_else(|| CliError::Refused(absent(name, &cluster.namespace)))
}

/// What to say when there is no such application.
fn absent(application: &str, namespace: &str) -> String {
    format!(
        "there is no ProtectedApplication {application} in namespace {namespace}; name another with -n, or see them all with: kubectl reprise status -A"
    )
}

/// How a run ended, by its conditions.
fn succeeded(what: String, conditions: &[Condition]) -> Result<(), CliError> {
    match condition::find(conditions, SUCCEEDED) {
        Some(it) if it.status == "True" => Ok(()),
        other => Err(CliError::Unsuccessful { what, message: other.map_or_else(String::new, |it| it.message.clone()) }),
    }
}

const POLL: Duration = Duration::from_secs(1);
/// So many readings in a row may fail: an API server that restarts is no reason to give up.
const UNANSWERED: u32 = 30;

/// Reads an object again and again until `ended` says so.
async fn follow<K>(
    api: &Api<K>,
    name: &str,
    timeout: Span,
    mut ended: impl FnMut(&K) -> bool,
) -> Result<Option<K>, CliError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let deadline = tokio::time::Instant::now() + timeout.duration();
    let mut unanswered = 0;
    loop {
        match api.get(name).await {
            Ok(object) if ended(&object) => return Ok(Some(object)),
            Ok(_) => unanswered = 0,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Err(CliError::Unsuccessful { what: name.to_owned(), message: "it was deleted".to_owned() });
            }
            Err(error) if unanswered >= UNANSWERED => return Err(request(format!("follow {name}"))(error)),
            Err(_) => unanswered += 1,
        }
        if tokio::time::Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_timeout_without_wait_is_wrong_usage() {
        let given = ["kubectl-reprise", "backup", "shop", "--timeout", "5m"];
        assert!(Arguments::try_parse_from(given).is_err());
        assert!(Arguments::try_parse_from(given.iter().chain(&["--wait"])).is_ok());
    }

    #[test]
    fn an_exit_code_tells_what_kind_of_failure_it_was() {
        let refused = CliError::Refused("x".to_owned());
        let failed = CliError::Unsuccessful { what: "a".to_owned(), message: "b".to_owned() };
        let late = CliError::TimedOut { what: "a".to_owned(), after: Span::from_secs(60), follow: "b".to_owned() };
        assert_eq!([refused.exit_code(), failed.exit_code(), late.exit_code()], [3, 4, 5]);
    }
}
