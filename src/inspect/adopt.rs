//! A claim in conflict, written anew as a person decided: epoch and seq above all that anybody knows.
//!
//! Who has the newest data no program can tell. Nothing is written while somebody renews the claim: there is no conflict
//! for that one, and it may be serving.

use std::time::Duration;

use clap::Args;
use kube::{Api, Client, api::ListParams};

use super::{
    Asked, InspectError,
    claim::{SEQ, read, seen, watching, write},
};
use crate::{
    api::application::{ProtectedApplication, ProtectedApplicationSpec},
    core::{
        app_key::AppKey,
        claim::record::{Claim, Deadlines, FORMAT, Intent},
        vault_answer::Adopted,
    },
    vault::{Vault, catalogue::CatalogueError},
};

/// What was decided.
#[derive(Args, Debug)]
pub(super) struct Decided {
    /// The `Vault`.
    pub(super) vault: String,
    /// The application, as NAMESPACE/NAME.
    #[arg(value_parser = super::application)]
    pub(super) application: AppKey,
    /// The region that has the newest data.
    #[arg(long = "for")]
    pub(super) region: String,
    /// It runs in no region: the claim is released to that one, and a `Failover` takes it.
    #[arg(long)]
    pub(super) stopped: bool,
    /// The highest epoch that anybody knows.
    #[arg(long, default_value_t = 0)]
    pub(super) known_epoch: u64,
    /// Why, for the record.
    #[arg(long)]
    pub(super) reason: String,
}

pub(super) async fn run(namespace: &str, decided: &Decided) -> Result<Adopted, InspectError> {
    let key = &decided.application;
    let doing = |source| InspectError::Request { doing: format!("read {key}"), source: Box::new(source) };
    let client = Client::try_default().await.map_err(doing)?;
    let one = ListParams::default().fields(&format!("metadata.name={}", key.name));
    let found = Api::<ProtectedApplication>::namespaced(client, &key.namespace).list(&one).await.map_err(doing)?;
    let gone = || InspectError::Input(format!("there is no ProtectedApplication {key} in this cluster"));
    let application = found.items.into_iter().next().ok_or_else(gone)?;
    let vault = Asked::open(namespace, &decided.vault).await?.vault().await?;
    adopt(&vault, decided, &application.spec, watching).await
}

pub(super) async fn adopt(
    vault: &Vault,
    decided: &Decided,
    spec: &ProtectedApplicationSpec,
    watching: impl Fn(&Claim) -> (Duration, Duration),
) -> Result<Adopted, InspectError> {
    let (store, key) = (vault.store(), &decided.application);
    let candidates: Vec<String> = spec.regions.iter().map(|it| it.name.clone()).collect();
    if !candidates.contains(&decided.region) {
        let all = candidates.join(", ");
        return Err(InspectError::Input(format!("{} is none of spec.regions of {key}: {all}", decided.region)));
    }
    let object = store.get(&key.claim_object()).await?;
    let before = object.as_ref().and_then(|it| Claim::parse(&it.bytes).ok());
    let head = match vault.read_head(&key.namespace, &key.name).await {
        Ok(head) => head.map_or(0, |(head, _)| head.epoch),
        // It is repaired from the points, which bear their epochs; whoever decides knows the highest.
        Err(CatalogueError::Corrupt { .. } | CatalogueError::Absent { .. }) => 0,
        Err(error) => return Err(error.into()),
    };
    let highest = before.as_ref().map_or(0, |it| it.epoch).max(head).max(decided.known_epoch);
    let (holder, intent) = if decided.stopped {
        let (to, reason) = (Some(decided.region.clone()), decided.reason.clone());
        (None, Intent::Released { to, from: None, point: None, reason })
    } else {
        (Some(decided.region.clone()), Intent::None)
    };
    let claim = Claim {
        format: FORMAT,
        group: key.group(),
        epoch: highest + 1,
        holder,
        candidates,
        seq: before.as_ref().map_or(0, |it| it.seq).saturating_add(SEQ),
        // No operator may take it for one of its own.
        nonce: format!("adopt.{}.{}", decided.region, ulid::Ulid::generate()),
        intent,
        deadlines: Deadlines::from(&spec.claim),
        reason: decided.reason.clone(),
        health: None,
        renewed_at: jiff::Timestamp::now(),
    };
    let tag = object.map(|it| it.tag);
    let watched = watching(before.as_ref().unwrap_or(&claim));
    if !write(store, key, &claim, tag.as_deref(), watched).await? {
        return Err(renewed(key, read(store, key).await.ok().flatten()));
    }
    Ok(Adopted { epoch: claim.epoch, seq: claim.seq, holder: claim.holder, before: before.as_ref().map(seen) })
}

fn renewed(key: &AppKey, claim: Option<Claim>) -> InspectError {
    let by = claim.and_then(|it| it.holder).map_or_else(String::new, |it| format!(" by {it}"));
    InspectError::Input(format!(
        "the claim of {key} was written{by} meanwhile, and nothing was changed: whoever renews it is in no conflict. Do two \
         operators bear one region's name? If not, stop the one that is not to serve, and try again"
    ))
}
