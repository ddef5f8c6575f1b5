//! The vault as the keeper of claims sees it: opened anew with the Secrets as they are.

use std::sync::Weak;

use bytes::Bytes;

use super::{
    context::Context,
    keeper::{ClaimStore, Found, WriteError},
    stores,
};
use crate::{
    core::claim::step::Expected,
    vault::{Condition, Store, StoreError},
};

/// The claims of one vault.
pub struct Claims {
    context: Weak<Context>,
    vault: String,
}

impl Claims {
    /// Of the vault of that name.
    #[must_use]
    pub fn new(context: Weak<Context>, vault: &str) -> Self {
        Self { context, vault: vault.to_owned() }
    }

    async fn store(&self) -> Result<Store, String> {
        let context = self.context.upgrade().ok_or("the operator ends")?;
        let object = stores::get(&context.stores.vaults, None, &self.vault);
        let object = object.ok_or_else(|| format!("there is no Vault '{}' in this cluster", self.vault))?;
        context.metrics.claim_requests.inc();
        context.secrets.locked(&object).await.map(|it| it.store().clone()).map_err(|failure| failure.message)
    }
}

impl ClaimStore for Claims {
    async fn read(&self, object: &str) -> Result<Option<Found>, String> {
        let found = self.store().await?.get(object).await.map_err(|error| error.to_string())?;
        Ok(found.map(|it| Found { bytes: it.bytes, tag: it.tag }))
    }

    async fn write(&self, object: &str, bytes: Bytes, expected: &Expected) -> Result<String, WriteError> {
        let store = self.store().await.map_err(WriteError::Unknown)?;
        let condition = match expected {
            Expected::Absent => Condition::Absent,
            Expected::Unchanged(tag) => Condition::Unchanged(tag),
        };
        store.put_if(object, bytes, condition).await.map_err(|error| match error {
            StoreError::Lost => WriteError::Lost,
            other => WriteError::Unknown(other.to_string()),
        })
    }
}
