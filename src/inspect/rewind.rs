//! What differs in a vault from an earlier time. It needs no key of the vault: that may be what was deleted.

use clap::Args;
use jiff::Timestamp;

use super::{Asked, InspectError, answer};
use crate::vault::versions::Rewind;

/// Which vault, and to when.
#[derive(Args, Debug)]
pub(super) struct RewindArguments {
    /// The `Vault`.
    vault: String,
    /// The time, as 2027-01-15T08:00:00Z.
    #[arg(long)]
    at: Timestamp,
    /// The wraps of all keys as well.
    #[arg(long)]
    keys: bool,
    /// Bring it back.
    #[arg(long)]
    apply: bool,
}

pub(super) async fn run(namespace: &str, wanted: &RewindArguments) -> Result<(), InspectError> {
    let vault = Asked::open(namespace, &wanted.vault).await?.locked().await?;
    let RewindArguments { at, keys: all_keys, apply, .. } = *wanted;
    let wanted = Rewind { at, key: vault.key().id(), all_keys, apply };
    answer(&vault.store().rewind(&wanted).await?)
}
