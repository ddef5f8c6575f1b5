//! Work on vaults: opening, testing, and the regions that use one.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{failure, open};
use crate::{
    core::work::{Failure, Outcome},
    operator::{context::Context, secrets::vault_failure},
    vault::{Vault, VaultError, conformance},
};

/// Where regions leave their mark.
const REGIONS: &str = "regions/";

/// The mark of a region.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    region: String,
    version: String,
    opened_at: Timestamp,
}

pub(super) async fn test(name: &str, context: &Context) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let id = vault.identify().await.map_err(|error| vault_failure(&error))?;
    mark(&vault, context).await?;
    let found = conformance::test(vault.store(), &context.region)
        .await
        .map_err(|error| vault_failure(&VaultError::Store(error)))?;
    let failures = if found.passed { Vec::new() } else { found.failures };
    Ok(Outcome::VaultTested { id, failures, regions: regions(&vault).await? })
}

pub(super) async fn list_regions(name: &str, context: &Context) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    regions(&vault).await.map(Outcome::Regions)
}

/// Tells the other regions that an operator of this one uses the vault.
async fn mark(vault: &Vault, context: &Context) -> Result<(), Failure> {
    let mark = Mark {
        region: context.region.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        opened_at: Timestamp::now(),
    };
    let bytes = Bytes::from(serde_json::to_vec(&mark).expect("a mark is plain data"));
    let key = format!("{REGIONS}{}.json", context.region);
    vault.store().put(&key, bytes).await.map_err(|error| failure("StoreFailed", error))
}

async fn regions(vault: &Vault) -> Result<Vec<String>, Failure> {
    let marks = vault.store().list(REGIONS).await.map_err(|error| failure("StoreFailed", error))?;
    let name = |key: &str| key.strip_prefix(REGIONS)?.strip_suffix(".json").map(ToOwned::to_owned);
    Ok(marks.iter().filter_map(|it| name(&it.key)).collect())
}
