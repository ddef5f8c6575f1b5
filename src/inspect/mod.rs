//! `reprise vault …`: what a person asks of a vault, answered where its key is.
//!
//! `kubectl reprise` has the rights of whoever calls it, and reaches no vault. It runs this program inside the operator's
//! pod, which reads the `Vault` and its Secrets as the operator does. Secrets come on standard input and never as
//! arguments; answers are JSON on standard output, errors one line on standard error. Nothing here is told to the
//! operator that runs beside it: what both do to a vault must agree by compare-and-swap.

mod adopt;
mod check;
mod claim;
mod key;
mod listed;
mod look;
mod objects;
mod points;
mod recorded;
mod rewind;

use std::{io::Write, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use kube::{Api, Client, api::ListParams};
use serde::Serialize;

use crate::{
    api::vault::Vault as VaultObject,
    capture::bundle::BundleError,
    core::{app_key::AppKey, vault_answer::Released, work::Failure},
    mover::error::MoverError,
    operator::secrets::Secrets,
    vault::{StoreError, VaultError, catalogue::CatalogueError},
};

/// Exit code: it was not done, and is not done by trying again.
const REFUSED: u8 = 3;
/// So long nothing is said at most.
const SILENCE: Duration = Duration::from_secs(5);

/// What is asked, and where the Secrets are.
#[derive(Args, Debug)]
pub struct VaultArguments {
    /// The operator's namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// The operator's region.
    #[arg(long, env = "REPRISE_REGION")]
    region: String,
    #[command(subcommand)]
    verb: VaultVerb,
}

#[derive(Subcommand, Debug)]
enum VaultVerb {
    /// The keys of a vault.
    Key(key::KeyArguments),
    /// What differs from an earlier time, and how it comes back.
    Rewind(rewind::RewindArguments),
    /// The applications that the vault has something of.
    Applications {
        /// The `Vault`.
        vault: String,
    },
    /// All points of an application, and what retention makes of each.
    Points(Box<listed::PointsArguments>),
    /// What the newest point records of an application's own objects.
    Recorded {
        /// The `Vault`.
        vault: String,
        /// The application, as NAMESPACE/NAME.
        #[arg(value_parser = application)]
        application: AppKey,
    },
    /// Give up a claim that names this region, and that nobody renews. One that is gone is made anew.
    Release {
        /// The `Vault`.
        vault: String,
        /// The application, as NAMESPACE/NAME.
        #[arg(value_parser = application)]
        application: AppKey,
    },
    /// The claim of an application, as it lies in the vault.
    Claim {
        /// The `Vault`.
        vault: String,
        /// The application, as NAMESPACE/NAME.
        #[arg(value_parser = application)]
        application: AppKey,
    },
    /// Write a claim in conflict anew, as a person decided.
    Adopt(adopt::Decided),
    /// What is in a point: its objects and volumes, or what lies at a path of one.
    Ls {
        #[command(flatten)]
        which: look::Which,
        /// The point's id.
        point: String,
        /// One of its volumes, by its claim.
        #[arg(long)]
        volume: Option<String>,
        /// A path in the volume.
        #[arg(long, default_value = "", requires = "volume")]
        path: String,
        /// List each object.
        #[arg(long)]
        objects: bool,
    },
    /// In what two points differ.
    Diff {
        #[command(flatten)]
        which: look::Which,
        /// The id of the first point.
        before: String,
        /// The id of the second one.
        after: String,
    },
    /// What is missing.
    Check {
        /// The `Vault`.
        vault: String,
        /// Only these applications, as NAMESPACE/NAME.
        #[arg(value_parser = application)]
        applications: Vec<AppKey>,
        #[command(flatten)]
        depth: check::Depth,
    },
}

impl VaultArguments {
    async fn answer(&self) -> Result<(), InspectError> {
        let (namespace, region) = (self.namespace.as_str(), self.region.as_str());
        let open = async |name: &str| Asked::open(namespace, name).await?.vault().await;
        match &self.verb {
            VaultVerb::Rewind(wanted) => rewind::run(namespace, wanted).await,
            VaultVerb::Key(wanted) => Box::pin(key::run(namespace, wanted)).await,
            VaultVerb::Applications { vault } => answer(&points::applications(&open(vault).await?, region).await?),
            VaultVerb::Points(wanted) => {
                let first = match &wanted.held_in {
                    Some(first) => Some(open(first).await?),
                    None => None,
                };
                answer(&listed::points(&open(&wanted.vault).await?, first.as_ref(), wanted).await?)
            }
            VaultVerb::Recorded { vault, application } => {
                answer(&points::recorded(&open(vault).await?, application, region).await?)
            }
            VaultVerb::Release { vault, application } => {
                answer(&give_up(&open(vault).await?, application, region).await?)
            }
            VaultVerb::Claim { vault, application } => {
                answer(&claim::read(open(vault).await?.store(), application).await?)
            }
            VaultVerb::Adopt(decided) => answer(&adopt::run(namespace, decided).await?),
            VaultVerb::Ls { which, point, volume: Some(volume), path, objects: _ } => {
                answer(&look::list(&open(&which.vault).await?, which, point, volume, path).await?)
            }
            VaultVerb::Ls { which, point, volume: None, path: _, objects } => {
                answer(&look::content(&open(&which.vault).await?, which, point, *objects).await?)
            }
            VaultVerb::Diff { which, before, after } => {
                answer(&look::difference(&open(&which.vault).await?, which, before, after).await?)
            }
            VaultVerb::Check { vault, applications, depth } => {
                answer(&check::check(&open(vault).await?, applications, depth).await?)
            }
        }
    }
}

async fn give_up(vault: &crate::vault::Vault, key: &AppKey, region: &str) -> Result<Released, InspectError> {
    if claim::legible(vault.store(), key).await?.is_some() {
        return claim::release(vault.store(), key, region, claim::watching).await;
    }
    let recorded = points::recorded(vault, key, region).await?;
    claim::renew(vault, key, region, recorded.protection.as_ref(), claim::watching).await
}

/// How an application is written.
fn application(text: &str) -> Result<AppKey, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(AppKey { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("an application is written NAMESPACE/NAME".to_owned()),
    }
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
    /// Its object or Secrets are not in order, or its points can't all be read.
    #[error("{}", .0.message)]
    Settings(Failure),
    /// The vault did not do it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What was asked for could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The objects of a point can't be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The volumes of a point can't be read.
    #[error(transparent)]
    Repository(#[from] MoverError),
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
            Self::Input(_) | Self::NoVault(_) | Self::Catalogue(CatalogueError::Absent { .. }) => REFUSED,
            Self::Vault(error) => match error {
                VaultError::Retire { .. } | VaultError::OtherKey | VaultError::Key(_) => REFUSED,
                VaultError::Settings(_)
                | VaultError::Store(_)
                | VaultError::Wrap { .. }
                | VaultError::Recipient { .. }
                | VaultError::Format { .. }
                | VaultError::Identity
                | VaultError::Stray { .. }
                | VaultError::Emptied => 1,
            },
            Self::Request { .. }
            | Self::Settings(_)
            | Self::Catalogue(_)
            | Self::Bundle(_)
            | Self::Repository(_)
            | Self::Print(_) => 1,
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

/// White space before the answer, now and then: a connection on which nothing is said for 20 s is given up.
fn say_something() {
    loop {
        std::thread::sleep(SILENCE);
        let mut out = std::io::stdout().lock();
        if out.write_all(b"\n").and_then(|()| out.flush()).is_err() {
            // Whoever asked is gone, and need not be answered.
            std::process::exit(1);
        }
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
    std::thread::spawn(say_something);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(InspectError::Print).and_then(|runtime| runtime.block_on(arguments.answer()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

#[cfg(test)]
mod tests;
