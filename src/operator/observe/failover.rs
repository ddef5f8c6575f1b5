//! What is looked at for a `Failover`. Volumes are read directly: what is decided on them cannot be undone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec},
    storage::v1::StorageClass,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{
    BOUND, address, copy,
    dumps::dumps,
    listed::{all, each},
    movers, not_ready, phase, recent,
};
use crate::{
    api::{
        application::ProtectedApplication,
        failover::{Failover, FailoverStatus, StepName},
        mappings::Mappings,
    },
    core::{
        self,
        app_key::AppKey,
        application::LocalCopy,
        child::{CLAIM, RUN, Run},
        claim_kept::Kept,
        condition,
        effect::Decision,
        failover::Observed,
        point::{Point, Volume},
        volume_restore::{ClaimSeen, Seen, VolumeSeen, mapped},
        work::{Outcome, Progress, Works},
    },
    operator::{
        context::Context,
        shell::{Error, Reconciled},
        stores,
    },
};

impl Reconciled for Failover {
    type Observed = Observed;

    async fn observe(&self, context: &Context) -> Result<Observed, Error> {
        let namespace = self.namespace().unwrap_or_default();
        let run = Run { namespace: namespace.clone(), name: self.name_any(), uid: self.uid().unwrap_or_default() };
        let application = stores::get(&context.stores.applications, Some(&namespace), &self.spec.application);
        let app = AppKey { namespace: namespace.clone(), name: self.spec.application.clone() };
        let step = self.status.as_ref().and_then(|it| it.step);
        let ended = self.status.as_ref().is_some_and(|it| condition::ended(&it.conditions));
        let works = context.works.of(self);
        let going = |it: &Failover| !it.status.as_ref().is_some_and(|it| condition::ended(&it.conditions));
        let first = |it: &Failover| it.status.as_ref().is_some_and(|it| it.step.is_some()) || it.name_any() < run.name;
        let same = |it: &Failover| it.namespace().as_ref() == Some(&namespace) && it.spec.application == app.name;
        let others = stores::all(&context.stores.failovers, |it| {
            same(it) && it.name_any() != run.name && going(it) && first(it)
        });
        let restoring = step == Some(StepName::RestoreVolumes) && !ended;
        let service = application.as_ref().and_then(|it| it.spec.traffic.as_ref()).map(|it| it.target.service.clone());
        let address = match service {
            Some(service) if step >= Some(StepName::ProbeAddress) && !ended => {
                address(&namespace, &service, context).await?
            }
            Some(_) | None => Err("it is not looked up yet".to_owned()),
        };
        let recent = recent(self.status.as_ref().and_then(|it| it.finished_at.as_ref()));
        Ok(Observed {
            region: context.region.clone(),
            movers: context.movers.clone(),
            hindrance: context.works.hindrance(self),
            vault: application
                .as_ref()
                .and_then(|it| stores::get(&context.stores.vaults, None, it.spec.backup.vaults.first()?)),
            copies: application
                .iter()
                .flat_map(|it| it.vaults().skip(1))
                .filter_map(|it| stores::get(&context.stores.vaults, None, it))
                .collect(),
            zone: application
                .as_ref()
                .and_then(|it| stores::get(&context.stores.zones, None, &it.spec.traffic.as_ref()?.zone)),
            claim: context.keeper.view(&app),
            health: context.watch.health(&app),
            copy: if restoring { copy(&namespace, context).await? } else { LocalCopy::default() },
            volumes: if restoring {
                all_volumes(&run, &works, application.as_deref(), context).await?
            } else {
                BTreeMap::new()
            },
            dumps: if step == Some(StepName::LoadDumps) && !ended {
                let all = application.as_ref().map_or(&[][..], |it| &it.spec.backup.dumps);
                dumps((&run.namespace, &run.uid), all, context).await?
            } else {
                BTreeMap::new()
            },
            not_ready: if step == Some(StepName::AwaitReady) {
                not_ready(&namespace, context).await?
            } else {
                Vec::new()
            },
            address,
            others: others.iter().map(|it| it.name_any()).collect(),
            made: if (ended && recent) || restoring {
                super::recovery_point::made(&namespace, &run.uid, context).await?
            } else {
                Vec::new()
            },
            works,
            application,
        })
    }

    fn decide(&self, observed: &Observed, now: Timestamp) -> Decision<FailoverStatus> {
        core::failover::decide(self, observed, now)
    }

    fn written(&self, context: &Context) {
        let namespace = self.namespace().unwrap_or_default();
        context.wake_application(&AppKey { namespace, name: self.spec.application.clone() });
    }
}

/// The volumes of the chosen point, and what was restored ahead of them.
async fn all_volumes(
    run: &Run,
    works: &Works,
    application: Option<&ProtectedApplication>,
    context: &Context,
) -> Result<BTreeMap<String, Seen>, Error> {
    let mappings = application.map(|it| it.mappings(&context.region)).unwrap_or_default();
    let all = |point: &Point| point.volumes.iter().map(|it| mapped(it, &mappings)).collect();
    let mut seen = volumes(run, works, &mappings, all, context).await?;
    if let Some(application) = application {
        super::warm::ahead(application, &mut seen, context).await?;
    }
    Ok(seen)
}

/// The volumes of the chosen point, those that are `wanted`, as far as they are here.
pub(super) async fn volumes(
    run: &Run,
    works: &Works,
    mappings: &Mappings,
    wanted: impl Fn(&Point) -> Vec<Volume>,
    context: &Context,
) -> Result<BTreeMap<String, Seen>, Error> {
    let work = works.get("SurveyPoints").or_else(|| works.get("FindPoint"));
    let Some(Progress::Done { outcome: Outcome::Surveyed { chosen: Some(point), .. }, .. }) = work else {
        return Ok(BTreeMap::new());
    };
    volumes_of(run, point, &wanted(point), mappings, context).await
}

/// The volumes of a point that are wanted, and its claims without data, as a run left them.
pub(super) async fn volumes_of(
    run: &Run,
    point: &Point,
    wanted: &[Volume],
    mappings: &Mappings,
    context: &Context,
) -> Result<BTreeMap<String, Seen>, Error> {
    let marked = marked_volumes(&format!("{RUN}={}", run.uid), &context.client).await?;
    let classes = Api::<StorageClass>::all(context.client.clone());
    let classes = all(&classes, ListParams::default(), "StorageClasses").await?;
    let mut jobs = movers(&run.uid, context).await?;
    let mut seen = BTreeMap::new();
    let has = |class: Option<&str>| classes.iter().any(|it| Some(it.name_any().as_str()) == class);
    for skipped in &point.skipped {
        let tenant = claim(&run.namespace, &skipped.claim, context).await?;
        let class_present = has(skipped.storage_class.as_deref().map(|it| mappings.storage_class(it)));
        seen.insert(skipped.claim.clone(), Seen { tenant, class_present, ..Seen::default() });
    }
    for volume in wanted {
        let class_present = has(volume.storage_class.as_deref());
        let job = jobs.remove(&volume.claim);
        let marked = marked.iter().find(|it| it.annotations.get(CLAIM) == Some(&volume.claim));
        let found = one(run, volume, marked, context).await?;
        seen.insert(volume.claim.clone(), Seen { job, class_present, ..found });
    }
    Ok(seen)
}

/// The volumes with these labels: all of them, page by page.
pub(in crate::operator) async fn marked_volumes(labels: &str, client: &Client) -> Result<Vec<VolumeSeen>, Error> {
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let mut found = Vec::new();
    let labelled = ListParams::default().labels(labels);
    each(&volumes, labelled, "PersistentVolumes", |it| found.push(volume_seen(it))).await?;
    Ok(found)
}

async fn one(run: &Run, volume: &Volume, marked: Option<&VolumeSeen>, context: &Context) -> Result<Seen, Error> {
    let tenant = claim(&run.namespace, &volume.claim, context).await?;
    let own = claim(&context.movers.namespace, &run.derived(&volume.claim), context).await?;
    let bound_to = [&tenant, &own].into_iter().find_map(|it| it.as_ref()?.volume.clone());
    let found = match (marked, bound_to) {
        (Some(found), _) => Some(found.clone()),
        (None, Some(name)) => {
            let volumes = Api::<PersistentVolume>::all(context.client.clone());
            let found = volumes.get_opt(&name).await.map_err(Error::observe(format!("PersistentVolume {name}")))?;
            found.map(volume_seen)
        }
        (None, None) => None,
    };
    Ok(Seen { tenant, own, volume: found, ..Seen::default() })
}

/// A claim, read directly.
pub(in crate::operator) async fn claim(
    namespace: &str,
    name: &str,
    context: &Context,
) -> Result<Option<ClaimSeen>, Error> {
    let claims = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), namespace);
    let found = claims.get_opt(name).await.map_err(Error::observe(format!("claim {namespace}/{name}")))?;
    Ok(found.map(|it| ClaimSeen {
        uid: it.metadata.uid.clone().unwrap_or_default(),
        volume: it.spec.as_ref().and_then(|it| it.volume_name.clone()),
        bound: phase(&it) == BOUND,
        deleting: it.metadata.deletion_timestamp.is_some(),
        kept: Kept::of(it.labels(), it.annotations()),
        size: it.spec.as_ref().and_then(requests).map(|it| it.0.clone()),
        storage_class: it.spec.and_then(|it| it.storage_class_name),
    }))
}

fn requests(claim: &PersistentVolumeClaimSpec) -> Option<&Quantity> {
    claim.resources.as_ref()?.requests.as_ref()?.get("storage")
}

fn volume_seen(it: PersistentVolume) -> VolumeSeen {
    let spec = it.spec.clone().unwrap_or_default();
    let claim = spec
        .claim_ref
        .map(|it| (it.namespace.unwrap_or_default(), it.name.unwrap_or_default(), it.uid.filter(|it| !it.is_empty())));
    VolumeSeen {
        name: it.name_any(),
        reclaim: spec.persistent_volume_reclaim_policy.unwrap_or_else(|| "Retain".to_owned()),
        claim,
        storage_class: spec.storage_class_name,
        attributes_class: spec.volume_attributes_class_name,
        run: it.labels().get(RUN).cloned(),
        annotations: it.metadata.annotations.clone().unwrap_or_default(),
        resource_version: it.metadata.resource_version,
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::Uri, routing::get};
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::played;

    /// An API server with three pages of 500 volumes, named by their labels and the page.
    async fn many_volumes() -> Client {
        let list = |uri: Uri| async move {
            let asked = |name: &str| uri.query()?.split('&').find_map(|it| it.strip_prefix(&format!("{name}=")));
            let page = asked("continue").unwrap_or("1");
            let next = ["", "2", "3", ""][page.parse::<usize>().unwrap()];
            let labels = asked("labelSelector").unwrap_or_default();
            let volume = |it: usize| json!({"metadata": {"name": format!("{labels}-{page}-{it}")}});
            let items: Vec<Value> = (0..500).map(volume).collect();
            json!({"metadata": {"continue": next}, "items": items}).to_string()
        };
        played::client(Router::new().route("/api/v1/persistentvolumes", get(list))).await
    }

    #[tokio::test]
    async fn of_more_volumes_than_fit_a_page_every_one_is_seen() {
        let client = many_volumes().await;
        let found = marked_volumes("mine", &client).await.unwrap();
        assert_eq!((found.len(), found[1_499].name.as_str()), (1_500, "mine-3-499"));
    }
}
