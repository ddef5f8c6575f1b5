//! `regions/<region>.json`: that an operator of a region uses the vault, and with which key. Never removed.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, Vault};

const PREFIX: &str = "regions/";

/// The mark of a region.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Its name.
    pub region: String,
    /// The version of its operator.
    pub version: String,
    /// When it last tested the vault.
    pub opened_at: Timestamp,
    /// The id of the key that it opened it with.
    pub key: String,
}

impl Vault {
    /// Tells the other regions that this one uses the vault, and with which key.
    ///
    /// # Errors
    /// When the store does not take it.
    ///
    /// # Panics
    /// Never: a mark is plain data.
    pub async fn mark(&self, region: &str) -> Result<(), StoreError> {
        let mark = Mark {
            region: region.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            opened_at: Timestamp::now(),
            key: self.key_id(),
        };
        let bytes = Bytes::from(serde_json::to_vec(&mark).expect("a mark is plain data"));
        self.store().put(&format!("{PREFIX}{region}.json"), bytes).await
    }

    /// The names of the regions that have used the vault, in their order.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn regions(&self) -> Result<Vec<String>, StoreError> {
        let marks = self.store().list(PREFIX).await?;
        Ok(marks.iter().filter_map(|it| name(&it.key)).map(ToOwned::to_owned).collect())
    }
}

fn name(key: &str) -> Option<&str> {
    key.strip_prefix(PREFIX)?.strip_suffix(".json")
}

/// The marks of all regions. One that can't be read is an error: it may name any key.
///
/// # Errors
/// When the store does not answer, or a mark is damaged.
pub async fn marks(store: &Store) -> Result<Vec<Mark>, StoreError> {
    let mut found = Vec::new();
    for entry in store.list(PREFIX).await?.iter().filter(|it| name(&it.key).is_some()) {
        let Some(object) = store.get(&entry.key).await? else { continue };
        let mark = serde_json::from_slice(&object.bytes).map_err(|error| {
            StoreError::Other(format!(
                "`{}` is damaged ({error}): delete it; its region makes it anew with its next test of the vault",
                entry.key
            ))
        })?;
        found.push(mark);
    }
    Ok(found)
}
