//! `reprise vault …`: what a person asks of a vault, answered where its key is.
//!
//! `kubectl reprise` has the rights of whoever calls it, and reaches no vault. It runs this program inside the operator's
//! pod, which reads the `Vault` and its Secrets as the operator does. Secrets come on standard input and never as
//! arguments; answers are JSON on standard output, errors one line on standard error. Nothing here is told to the
//! operator that runs beside it: what both do to a vault must agree by compare-and-swap.

mod key;

use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use kube::{Api, Client, api::ListParams};
use serde::Serialize;

use crate::{
    api::vault::Vault as VaultObject,
    core::work::Failure,
    operator::secrets::Secrets,
    vault::{StoreError, VaultError},
};

/// Exit code: it was not done, and is not done by trying again.
const REFUSED: u8 = 3;

/// What is asked, and where the Secrets are.
#[derive(Args, Debug)]
pub struct VaultArguments {
    /// The operator's namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    #[command(subcommand)]
    verb: VaultVerb,
}

#[derive(Subcommand, Debug)]
enum VaultVerb {
    /// The keys of a vault.
    Key(key::KeyArguments),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum InspectError {
    /// The API server did not answer as it should.
    #[error("cannot {doing}: {source}")]
    Request { doing: String, source: Box<kube::Error> },
    /// There is no such vault.
    #[error("there is no Vault '{0}' in this cluster")]
    NoVault(String),
    /// Its object or Secrets are not in order.
    #[error("{}", .0.message)]
    Settings(Failure),
    /// The vault did not do it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What was given can't be used.
    #[error("{0}")]
    Input(String),
    /// The answer could not be written.
    #[error("cannot write the answer: {0}")]
    Print(#[from] std::io::Error),
}

impl From<StoreError> for InspectError {
    fn from(error: StoreError) -> Self {
        Self::Vault(error.into())
    }
}

impl InspectError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::NoVault(_) => REFUSED,
            Self::Vault(error) => match error {
                VaultError::Retire { .. } | VaultError::OtherKey | VaultError::Key(_) => REFUSED,
                VaultError::Settings(_)
                | VaultError::Store(_)
                | VaultError::Wrap { .. }
                | VaultError::Recipient { .. }
                | VaultError::Format { .. }
                | VaultError::Identity
                | VaultError::Stray { .. } => 1,
            },
            Self::Request { .. } | Self::Settings(_) | Self::Print(_) => 1,
        }
    }
}

/// The vault that is asked about, and how its Secrets are read.
struct Asked {
    object: VaultObject,
    secrets: Secrets,
}

impl Asked {
    async fn open(namespace: &str, name: &str) -> Result<Self, InspectError> {
        let doing = |doing: &str| {
            let doing = doing.to_owned();
            move |source| InspectError::Request { doing, source: Box::new(source) }
        };
        let client = Client::try_default().await.map_err(doing("find the API server"))?;
        // The operator may list vaults, and needs no other right for this.
        let one = ListParams::default().fields(&format!("metadata.name={name}"));
        let found = Api::<VaultObject>::all(client.clone()).list(&one).await.map_err(doing("read the Vault"))?;
        let object = found.items.into_iter().next().ok_or_else(|| InspectError::NoVault(name.to_owned()))?;
        Ok(Self { object, secrets: Secrets::new(client, namespace) })
    }

    /// The vault, not opened yet.
    async fn locked(&self) -> Result<crate::vault::Locked, InspectError> {
        self.secrets.locked(&self.object).await.map_err(InspectError::Settings)
    }

    /// The vault, opened.
    async fn vault(&self) -> Result<crate::vault::Vault, InspectError> {
        Ok(self.locked().await?.unlock().await?)
    }
}

/// Writes the answer.
fn answer<T: Serialize>(document: &T) -> Result<(), InspectError> {
    let mut text = serde_json::to_vec(document).map_err(std::io::Error::other)?;
    text.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&text)?;
    Ok(out.flush()?)
}

/// Answers, and ends with an exit code.
#[must_use]
pub fn run(arguments: &VaultArguments) -> ExitCode {
    let ended =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(InspectError::Print).and_then(
            |runtime| {
                runtime.block_on(async {
                    match &arguments.verb {
                        VaultVerb::Key(wanted) => Box::pin(key::run(&arguments.namespace, wanted)).await,
                    }
                })
            },
        );
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
