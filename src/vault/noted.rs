//! Signed documents that lie beside an application's points and are written anew by whoever finds something out: notes about
//! points, and the list of those that stay. The head, by which a region is fenced, has rules of its own (`catalogue`).

use std::time::Duration;

use rand::RngExt;
use serde::{Serialize, de::DeserializeOwned};

use super::catalogue::CatalogueError;
use super::keys::Signed;
use super::{Condition, StoreError, Vault, envelope};

/// How often one is written that others write at the same time.
const ATTEMPTS: u32 = 8;
/// The pause in between.
const PAUSE: Duration = Duration::from_millis(200);

impl Vault {
    /// Writes what `change` makes of what was written before, `None` leaving it. Another writer who is first is not written
    /// over: `change` is asked again. What is none of ours, or does not `fit`, counts as absent, and is replaced.
    ///
    /// # Errors
    /// `Store`, also when it has more than `limit` bytes; `Contended` when another writer was first each time.
    ///
    /// # Panics
    /// Never: what is written is plain data.
    pub(super) async fn change_noted<T: Serialize + DeserializeOwned + PartialEq>(
        &self,
        (key, limit): (&str, u64),
        (of, whose): (Signed, (&str, &str)),
        fits: impl Fn(&T) -> bool,
        change: impl Fn(Option<&T>) -> Option<T>,
    ) -> Result<(), CatalogueError> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                let spread = PAUSE.mul_f64(rand::rng().random_range(0.5..1.5));
                tokio::time::sleep(spread).await;
            }
            let found = self.store().get_up_to(key, limit).await?;
            let json = found.as_ref().and_then(|it| envelope::open(self.keys(), of, whose, &it.bytes).ok());
            let before: Option<T> = json.and_then(|it| serde_json::from_str(it).ok()).filter(&fits);
            let Some(now) = change(before.as_ref()) else { return Ok(()) };
            if before.as_ref() == Some(&now) {
                return Ok(());
            }
            let json = serde_json::to_string(&now).expect("it is plain data");
            let bytes = envelope::sign(self.keys(), of, whose, &json);
            let condition = found.as_ref().map_or(Condition::Absent, |it| Condition::Unchanged(&it.tag));
            match self.store().put_if(key, bytes, condition).await {
                Ok(_) => return Ok(()),
                // A write whose reply was lost is found at the next attempt.
                Err(StoreError::Lost | StoreError::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CatalogueError::Contended)
    }
}
