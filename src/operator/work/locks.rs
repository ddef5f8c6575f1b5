//! Work on locks: a step of a round over an application's objects.

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::open;
use crate::{
    core::{
        app_key::AppKey,
        work::{Failure, Outcome},
    },
    operator::{context::Context, secrets::vault_failure},
    vault::{VaultError, immutability},
};

/// How many steps go on at once: nobody waits for them, and the vault has others to serve.
static STEPS: Semaphore = Semaphore::const_new(2);

pub(super) async fn extend(
    name: &str,
    application: &AppKey,
    began: Timestamp,
    after: Option<&str>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let _turn = STEPS.acquire().await.expect("it is never closed");
    let whose = (application.namespace.as_str(), application.name.as_str());
    let step = immutability::go_on(vault.store(), whose, began, after).await;
    let step = step.map_err(|error| vault_failure(&VaultError::Store(error)))?;
    Ok(Outcome::LocksExtended { after: step.after, objects: step.objects })
}
