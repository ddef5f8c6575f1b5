//! The claim of an application, read for a person; and given up where it names this region, of which nothing is left.
//!
//! A region that was lost with all that its operator knew is still named as the holder. It can't take the claim from
//! itself, and a `ProtectedApplication` made anew in it would serve at once, with nothing restored. So the claim is
//! given up first, to this region, as a person would by hand. That is right only when nobody renews it: it is watched
//! for as long as any other region would wait. One that somebody deleted is made anew the same way.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::InspectError;
use crate::{
    api::application::ProtectedApplicationSpec,
    core::{
        app_key::AppKey,
        claim::record::{Claim, Deadlines, FORMAT, Intent},
        point::Protection,
        vault_answer::{ClaimSeen, Released},
    },
    vault::{Condition, Store, StoreError, Vault},
};

/// The `seq` of a claim that is made anew: above any that an operator may remember.
pub(super) const SEQ: u64 = 1_000_000;

/// The claim, if there is one.
pub(super) async fn read(store: &Store, key: &AppKey) -> Result<Option<Claim>, InspectError> {
    Ok(find(store, key).await?.map(|(claim, _)| claim))
}

/// The claim, if there is one that can be read.
pub(super) async fn legible(store: &Store, key: &AppKey) -> Result<Option<Claim>, InspectError> {
    let found = store.get(&key.claim_object()).await?;
    Ok(found.and_then(|object| Claim::parse(&object.bytes).ok()))
}

/// Makes a claim anew that is gone or cannot be read, given up to `region`, if nobody else writes one meanwhile. The
/// catalogue tells its epoch, and what the newest point records how long others wait.
pub(super) async fn renew(
    vault: &Vault,
    key: &AppKey,
    region: &str,
    protection: Option<&Protection>,
    watching: impl Fn(&Claim) -> (Duration, Duration),
) -> Result<Released, InspectError> {
    let head = vault.read_head(&key.namespace, &key.name).await?;
    let Some((head, _)) = head else {
        let what =
            format!("{key} has no head in the vault: kubectl reprise vault check --repair makes it from its points");
        return Err(InspectError::Input(what));
    };
    let spec: Option<ProtectedApplicationSpec> = protection.and_then(|it| serde_json::from_value(it.spec.clone()).ok());
    let settings = spec.as_ref().map(|it| it.claim.clone()).unwrap_or_default();
    let claim = Claim {
        format: FORMAT,
        group: key.group(),
        // Somebody may have taken it once more than the catalogue knows.
        epoch: head.epoch + 1,
        holder: None,
        candidates: spec.iter().flat_map(|it| &it.regions).map(|it| it.name.clone()).collect(),
        seq: SEQ,
        nonce: format!("recover.{region}.{}", ulid::Ulid::generate()),
        intent: released(region),
        deadlines: Deadlines::from(&settings),
        reason: "recovered".to_owned(),
        health: None,
        renewed_at: Timestamp::now(),
    };
    let store = vault.store();
    let tag = store.get(&key.claim_object()).await?.map(|it| it.tag);
    if write(store, key, &claim, tag.as_deref(), watching(&claim)).await? {
        Ok(Released { released: true, epoch: claim.epoch })
    } else {
        Err(InspectError::Input(format!("somebody wrote a claim of {key}: look at it, and try again")))
    }
}

/// Writes a claim once nobody wrote another one for so long, looking so often. Whether it stands now: an open outcome is
/// read back. `tag` is of what it was made from; `None`: there was no claim.
pub(super) async fn write(
    store: &Store,
    key: &AppKey,
    claim: &Claim,
    tag: Option<&str>,
    (long, often): (Duration, Duration),
) -> Result<bool, InspectError> {
    let end = Instant::now() + long;
    while Instant::now() < end {
        sleep(often).await;
        if store.get(&key.claim_object()).await?.map(|it| it.tag).as_deref() != tag {
            return Ok(false);
        }
    }
    let condition = tag.map_or(Condition::Absent, Condition::Unchanged);
    match store.put_if(&key.claim_object(), claim.to_bytes().into(), condition).await {
        Ok(_) => Ok(true),
        Err(StoreError::Lost | StoreError::Unknown { .. }) => {
            Ok(read(store, key).await?.is_some_and(|now| now.nonce == claim.nonce))
        }
        Err(error) => Err(error.into()),
    }
}

/// Given up, and to be taken by this region only.
fn released(region: &str) -> Intent {
    Intent::Released {
        to: Some(region.to_owned()),
        from: None,
        point: None,
        reason: format!("nothing of it is left in {region}: it is recovered"),
    }
}

async fn find(store: &Store, key: &AppKey) -> Result<Option<(Claim, String)>, InspectError> {
    let Some(object) = store.get(&key.claim_object()).await? else { return Ok(None) };
    let claim = Claim::parse(&object.bytes)
        .map_err(|error| InspectError::Input(format!("`{}` in the vault: {error}", key.claim_object())))?;
    Ok(Some((claim, object.tag)))
}

pub(super) fn seen(claim: &Claim) -> ClaimSeen {
    ClaimSeen { epoch: claim.epoch, holder: claim.holder.clone(), wait: claim.deadlines.wait }
}

/// For how long, and how often, a claim is looked at before it is given up.
pub(super) fn watching(claim: &Claim) -> (Duration, Duration) {
    let often = claim.deadlines.renew().clamp(Duration::from_secs(1), Duration::from_secs(10));
    (claim.deadlines.wait(), often)
}

/// Gives the claim up, to the same region, if it names `region` and nobody renews it meanwhile.
pub(super) async fn release(
    store: &Store,
    key: &AppKey,
    region: &str,
    watching: impl Fn(&Claim) -> (Duration, Duration),
) -> Result<Released, InspectError> {
    let Some((claim, tag)) = find(store, key).await? else { return Ok(Released { released: false, epoch: 0 }) };
    if claim.holder.as_deref() != Some(region) {
        return Ok(Released { released: false, epoch: claim.epoch });
    }
    let unchanged = |found: Option<(Claim, String)>| match found {
        Some((other, _)) if other.nonce == claim.nonce => Ok(()),
        _ => Err(InspectError::Input(format!(
            "the claim of {key} is renewed: an operator of region {region} holds it, and what it has is newer than any \
             point. Is there another cluster with this region's name?"
        ))),
    };
    let epoch = claim.epoch;
    let given_up = Claim {
        holder: None,
        seq: claim.seq + 1,
        nonce: format!("recover.{region}.{}", ulid::Ulid::generate()),
        intent: released(region),
        reason: "recovered".to_owned(),
        health: None,
        ..claim.clone()
    };
    if write(store, key, &given_up, Some(&tag), watching(&claim)).await? {
        return Ok(Released { released: true, epoch });
    }
    unchanged(find(store, key).await?)?;
    Err(InspectError::Input("the vault did not take the claim that was given up: try again".to_owned()))
}
