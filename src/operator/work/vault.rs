//! Work on vaults: opening, testing, and the regions that use one.

use jiff::Timestamp;

use super::{failure, object, open};
use crate::{
    core::work::{Failure, Outcome},
    operator::{context::Context, secrets::vault_failure},
    vault::{VaultError, conformance, immutability},
};

pub(super) async fn test(name: &str, context: &Context) -> Result<Outcome, Failure> {
    let encryption = object(name, context)?.spec.encryption.clone();
    let vault = open(name, context).await?;
    if let Err(error) = vault.check().await {
        // What is there now may be opened by the same key: it is looked at anew.
        context.secrets.forget(name);
        return Err(vault_failure(&error));
    }
    vault.escrow(&encryption.recipients).await.map_err(|error| vault_failure(&error))?;
    vault.mark(&context.region).await.map_err(|error| failure("StoreFailed", error))?;
    let found = conformance::test(vault.store(), &context.region)
        .await
        .map_err(|error| vault_failure(&VaultError::Store(error)))?;
    let failures = if found.passed { Vec::new() } else { found.failures };
    let keys = vault.list_keys().await.map_err(|error| vault_failure(&error))?;
    let locks = immutability::test(vault.store(), &context.region, Timestamp::now())
        .await
        .map_err(|error| vault_failure(&VaultError::Store(error)))?;
    Ok(Outcome::VaultTested {
        id: vault.id().to_owned(),
        failures,
        regions: vault.regions().await.map_err(|error| failure("StoreFailed", error))?,
        key: vault.key_id(),
        keys: keys.into_iter().map(|it| it.id).collect(),
        locks,
    })
}

pub(super) async fn list_regions(name: &str, context: &Context) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    vault.regions().await.map(Outcome::Regions).map_err(|error| failure("StoreFailed", error))
}
