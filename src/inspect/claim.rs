//! The claim of an application, read for a person; and given up where it names this region, of which nothing is left.
//!
//! A region that was lost with all that its operator knew is still named as the holder. It can't take the claim from
//! itself, and a `ProtectedApplication` made anew in it would serve at once, with nothing restored. So the claim is
//! given up first, to this region, as a person would by hand. That is right only when nobody renews it: it is watched
//! for as long as any other region would wait.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::InspectError;
use crate::{
    core::{
        app_key::AppKey,
        claim::record::{Claim, Intent},
        vault_answer::{ClaimSeen, Released},
    },
    vault::{Condition, Store, StoreError},
};

/// The claim, if there is one.
pub(super) async fn read(store: &Store, key: &AppKey) -> Result<Option<Claim>, InspectError> {
    Ok(find(store, key).await?.map(|(claim, _)| claim))
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
    let (long, often) = watching(&claim);
    let end = Instant::now() + long;
    let unchanged = |found: Option<(Claim, String)>| match found {
        Some((other, _)) if other.nonce == claim.nonce => Ok(()),
        _ => Err(InspectError::Input(format!(
            "the claim of {key} is renewed: an operator of region {region} holds it, and what it has is newer than any \
             point. Is there another cluster with this region's name?"
        ))),
    };
    while Instant::now() < end {
        sleep(often).await;
        unchanged(find(store, key).await?)?;
    }
    let epoch = claim.epoch;
    let given_up = Claim {
        holder: None,
        seq: claim.seq + 1,
        nonce: format!("recover.{region}.{}", ulid::Ulid::generate()),
        intent: Intent::Released {
            to: Some(region.to_owned()),
            from: None,
            point: None,
            reason: format!("nothing of it is left in {region}: it is recovered"),
        },
        reason: "recovered".to_owned(),
        health: None,
        ..claim.clone()
    };
    match store.put_if(&key.claim_object(), given_up.to_bytes().into(), Condition::Unchanged(&tag)).await {
        Ok(_) => Ok(Released { released: true, epoch }),
        Err(StoreError::Lost | StoreError::Unknown { .. }) => match find(store, key).await? {
            Some((now, _)) if now.nonce == given_up.nonce => Ok(Released { released: true, epoch }),
            found => unchanged(found).and(Err(InspectError::Input(
                "the vault did not take the claim that was given up: try again".to_owned(),
            ))),
        },
        Err(error) => Err(error.into()),
    }
}
