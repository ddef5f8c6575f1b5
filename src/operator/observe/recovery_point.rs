//! What is looked at for a `RecoveryPoint`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, ResourceExt, api::ListParams};

use super::{groups, listed::all, movers, snapshots_of, sources::claims};
use crate::{
    api::{
        application::ProtectedApplication,
        recovery_point::{Purpose, RecoveryPoint, RecoveryPointStatus},
        restore::RestoreStatus,
    },
    core::{
        self,
        app_key::AppKey,
        child::{CLAIM, RUN, Run, claim_key, content_key, job_key, key, snapshot_key},
        condition::{self, SUCCEEDED},
        dump::Earlier,
        effect::{Decision, ObjectKey},
        locks::Previous,
        point::begun_at,
        recovery_point::{Before, Observed, SnapshotSeen},
        verified::Found,
    },
    operator::{
        context::Context,
        shell::{Error, Reconciled},
        stores,
    },
};

/// A point is compared with so many before it.
const COMPARED: usize = 5;

impl Reconciled for RecoveryPoint {
    type Observed = Observed;

    async fn observe(&self, context: &Context) -> Result<Observed, Error> {
        let namespace = self.namespace().unwrap_or_default();
        let uid = self.uid().unwrap_or_default();
        let application = stores::get(&context.stores.applications, Some(&namespace), &self.spec.application);
        let app = AppKey { namespace: namespace.clone(), name: self.spec.application.clone() };
        let vault = application.as_ref().and_then(|it| it.spec.backup.vaults.first().cloned());
        let id = self.status.as_ref().and_then(|it| it.id.as_ref());
        let mut observed = Observed {
            region: context.region.clone(),
            movers: Some(context.movers.clone()),
            vault: vault.as_ref().and_then(|it| stores::get(&context.stores.vaults, None, it)),
            noted: vault.as_ref().zip(id).map_or(Found::Unknown, |(vault, id)| context.notes.of(vault, &app, id)),
            claim: context.keeper.view(&app),
            restoring: stores::all(&context.stores.restores, |it| {
                it.is_of(&namespace, &app.name)
                    && it.in_place()
                    && it.status.as_ref().is_some_and(RestoreStatus::changing)
            })
            .first()
            .map(|it| it.name_any()),
            hindrance: context.works.hindrance(self),
            works: context.works.of(self),
            application,
            ..Observed::default()
        };
        if self.spec.purpose == Purpose::Imported {
            return Ok(observed);
        }
        let conditions = self.status.as_ref().map_or(&[][..], |it| &it.conditions);
        let groups = self.status.as_ref().map_or(&[][..], |it| &it.groups);
        let run = Run { namespace: namespace.clone(), name: self.name_any(), uid: uid.clone() };
        if condition::ended(conditions) {
            // Long ended ones stand in the cluster by the dozen: they cost no request at each start.
            let ended = self.status.as_ref().and_then(|it| it.finished_at.as_ref());
            let long_ago = ended.is_some_and(|it| it.0 + jiff::SignedDuration::from_mins(10) < Timestamp::now());
            if long_ago {
                return Ok(observed);
            }
            observed.made = made(&namespace, &uid, context).await?;
            if !groups.is_empty() {
                observed.made.extend(groups::made(groups, &run, &context.client).await?);
                observed.groups.marked = groups::marked(groups, &app.name, &run, &context.client).await?;
            }
            return Ok(observed);
        }
        observed.previous = self.previous(&namespace, observed.application.as_deref(), context);
        (observed.sources, observed.unbound) = claims(&namespace, &context.client).await?;
        observed.before = self.before(&namespace, context);
        observed.dumps = self.dumps(&namespace, context);
        observed.snapshot_classes = snapshot_classes(context).await?;
        if self.status.as_ref().is_some_and(|it| it.id.is_some()) {
            observed.snapshots = snapshots(&namespace, &uid, context).await?;
            observed.jobs = movers(&uid, context).await?;
            observed.groups.of_run = groups::of_run(groups, &run, context).await?;
        } else if observed.sources.len() > 1
            && let Some(version) = groups::served(&context.client).await?
        {
            observed.groups.classes = groups::classes(version, &context.client).await?;
            observed.groups.stuck = groups::stuck(version, &namespace, &context.client).await?;
            observed.groups.failed = self.ungrouped(&namespace, context);
        }
        Ok(observed)
    }

    fn decide(&self, observed: &Observed, now: Timestamp) -> Decision<RecoveryPointStatus> {
        core::recovery_point::decide(self, observed, now)
    }

    fn written(&self, context: &Context) {
        let namespace = self.namespace().unwrap_or_default();
        context.wake_application(&AppKey { namespace, name: self.spec.application.clone() });
    }
}

impl RecoveryPoint {
    /// The newest good point before this one: of those that this cluster has records of, or what the application's status
    /// tells of, which may have been made in another region.
    fn previous(
        &self,
        namespace: &str,
        application: Option<&ProtectedApplication>,
        context: &Context,
    ) -> Option<Previous> {
        let good = stores::all(&context.stores.points, |it| {
            it.namespace().as_deref() == Some(namespace)
                && it.spec.application == self.spec.application
                && !matches!(it.spec.purpose, Purpose::Branch | Purpose::Imported)
                && it.uid() != self.uid()
        });
        let good = good.iter().filter_map(|it| it.status.as_ref());
        let good = good.filter(|it| condition::is_true(&it.conditions, SUCCEEDED));
        let failed = |it: &RecoveryPointStatus| it.lock.as_ref().filter(|it| it.failure.is_some()).map(|it| it.class);
        let recorded = good.filter_map(|it| Some((it.id.clone()?, failed(it))));
        let told = application.and_then(|it| it.status.as_ref()?.last_point.as_ref()).map(|it| (it.id.clone(), None));
        // Of the same point, its record says more: it comes last.
        let (id, failed) = told.into_iter().chain(recorded).max_by(|one, other| one.0.cmp(&other.0))?;
        Some(Previous { at: begun_at(&id)?, failed })
    }

    /// The newest points before this one that count, newest first: down to the last that was made by hand.
    fn before(&self, namespace: &str, context: &Context) -> Vec<Before> {
        let Some(own) = self.status.as_ref().and_then(|it| it.id.clone()) else { return Vec::new() };
        let earlier = stores::all(&context.stores.points, |it| {
            it.namespace().as_deref() == Some(namespace)
                && it.spec.application == self.spec.application
                && !matches!(it.spec.purpose, Purpose::Branch | Purpose::Imported)
        });
        let mut known: Vec<_> = earlier.iter().filter_map(|it| Some((before(it, &own)?, it.spec.purpose))).collect();
        known.sort_by(|(one, _), (other, _)| other.id.cmp(&one.id));
        let by_hand = known.iter().position(|(_, purpose)| *purpose == Purpose::Manual);
        known.truncate(by_hand.map_or(COMPARED, |it| it + 1).min(COMPARED));
        known.into_iter().map(|(it, _)| it).collect()
    }
}

impl RecoveryPoint {
    /// When points of the application had a group snapshot last that was not taken, and why, by driver.
    fn ungrouped(&self, namespace: &str, context: &Context) -> BTreeMap<String, (Timestamp, String)> {
        let others = stores::all(&context.stores.points, |it| {
            it.namespace().as_deref() == Some(namespace)
                && it.spec.application == self.spec.application
                && it.uid() != self.uid()
        });
        let mut last: BTreeMap<String, (Timestamp, String)> = BTreeMap::new();
        for group in others.iter().flat_map(|it| it.status.iter().flat_map(|it| &it.groups)) {
            if let (Some(at), Some(why)) = (&group.asked_at, &group.failure)
                && last.get(&group.driver).is_none_or(|(before, _)| *before < at.0)
            {
                last.insert(group.driver.clone(), (at.0, why.clone()));
            }
        }
        last
    }
}

/// What is in a point that counts, and is older than the one with this id.
fn before(point: &RecoveryPoint, own: &str) -> Option<Before> {
    let status = point.status.as_ref().filter(|it| condition::is_true(&it.conditions, SUCCEEDED))?;
    let (id, objects) = (status.id.clone().filter(|id| id.as_str() < own)?, status.objects.as_ref()?.count);
    let volumes = status.volumes.iter().filter(|it| it.left_out.is_none());
    Some(Before { id, objects, volumes: volumes.map(|it| (it.claim.clone(), (it.files, it.bytes))).collect() })
}

impl RecoveryPoint {
    /// The good dumps that other points of the application made, by name.
    fn dumps(&self, namespace: &str, context: &Context) -> BTreeMap<String, Vec<Earlier>> {
        let mut dumps: BTreeMap<String, Vec<Earlier>> = BTreeMap::new();
        let others = stores::all(&context.stores.points, |it| {
            it.namespace().as_deref() == Some(namespace)
                && it.spec.application == self.spec.application
                && it.uid() != self.uid()
                // What an imported point has of another region's cadence is not known.
                && it.spec.purpose != Purpose::Imported
        });
        // Of a point that never came into the vault, nothing there speaks for the dump.
        let stored = |it: &&RecoveryPointStatus| {
            condition::find(&it.conditions, SUCCEEDED)
                .is_some_and(|it| ["Stored", "Partial"].contains(&it.reason.as_str()))
        };
        for status in others.iter().filter_map(|it| it.status.as_ref()).filter(stored) {
            for dump in status.dumps.iter().filter(|it| it.failure.is_none() && it.made_for.is_none()) {
                if let (Some(point), Some(snapshot), Some(at)) = (&status.id, &dump.snapshot, &dump.consistent_at) {
                    let (point, snapshot) = (point.clone(), snapshot.clone());
                    let earlier = Earlier { point, snapshot, consistent_at: at.0, bytes: dump.bytes };
                    dumps.entry(dump.name.clone()).or_default().push(earlier);
                }
            }
        }
        dumps
    }
}

/// The snapshot class of each driver: the default one, or the first by name.
async fn snapshot_classes(context: &Context) -> Result<BTreeMap<String, String>, Error> {
    let mut classes = snapshots_of("VolumeSnapshotClass", None, None, context).await?;
    let default = |it: &kube::core::DynamicObject| {
        it.annotations().get("snapshot.storage.kubernetes.io/is-default-class").is_some_and(|it| it == "true")
    };
    classes.sort_by_key(|it| (!default(it), it.name_any()));
    let mut by_driver = BTreeMap::new();
    for class in classes {
        if let Some(driver) = class.data["driver"].as_str() {
            by_driver.entry(driver.to_owned()).or_insert_with(|| class.name_any());
        }
    }
    Ok(by_driver)
}

/// The tenant's snapshots of a run, by claim.
async fn snapshots(namespace: &str, uid: &str, context: &Context) -> Result<BTreeMap<String, SnapshotSeen>, Error> {
    let labels = format!("{RUN}={uid}");
    let mut seen = BTreeMap::new();
    for snapshot in snapshots_of("VolumeSnapshot", Some(namespace), Some(&labels), context).await? {
        let claim = snapshot.annotations().get(CLAIM).cloned().unwrap_or_default();
        seen.insert(claim, snapshot_seen(&snapshot, context).await?);
    }
    Ok(seen)
}

/// A `VolumeSnapshot`, with what its content says once it is ready.
pub(super) async fn snapshot_seen(
    snapshot: &kube::core::DynamicObject,
    context: &Context,
) -> Result<SnapshotSeen, Error> {
    let status = &snapshot.data["status"];
    let mut seen = SnapshotSeen {
        handle: None,
        instant: None,
        taken_at: status["creationTime"].as_str().and_then(|it| it.parse().ok()),
        error: status["error"]["message"].as_str().map(ToOwned::to_owned),
        retained: None,
    };
    if let (Some(true), Some(content)) =
        (status["readyToUse"].as_bool(), status["boundVolumeSnapshotContentName"].as_str())
    {
        let resource = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
            "snapshot.storage.k8s.io",
            "v1",
            "VolumeSnapshotContent",
        ));
        let contents: Api<kube::core::DynamicObject> = Api::all_with(context.client.clone(), &resource);
        let found = contents.get_opt(content).await.map_err(Error::observe("VolumeSnapshotContent"))?;
        let data = found.map(|it| it.data).unwrap_or_default();
        seen.handle = data["status"]["snapshotHandle"].as_str().map(ToOwned::to_owned);
        let nanoseconds = data["status"]["creationTime"].as_i64();
        seen.instant = nanoseconds.and_then(|it| Timestamp::from_nanosecond(it.into()).ok());
        seen.retained = (data["spec"]["deletionPolicy"] == "Retain").then(|| content.to_owned());
    }
    Ok(seen)
}

/// Everything that stands in the cluster for a run. What others depend on comes last.
pub(super) async fn made(namespace: &str, uid: &str, context: &Context) -> Result<Vec<ObjectKey>, Error> {
    let (home, labels) = (&context.movers.namespace, format!("{RUN}={uid}"));
    let of_run = || ListParams::default().labels(&labels);
    let mut keys = Vec::new();
    let jobs = Api::<k8s_openapi::api::batch::v1::Job>::namespaced(context.client.clone(), home);
    for it in all(&jobs, of_run(), "jobs").await? {
        keys.push(job_key(home, &it.name_any()));
    }
    let pods = Api::<Pod>::namespaced(context.client.clone(), namespace);
    for it in all(&pods, of_run(), "pods").await? {
        keys.push(key("v1", "Pod", Some(namespace), &it.name_any()));
    }
    let claims = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), home);
    for it in all(&claims, of_run(), "claims").await? {
        keys.push(claim_key(home, &it.name_any()));
    }
    for space in [home.as_str(), namespace] {
        for it in snapshots_of("VolumeSnapshot", Some(space), Some(&labels), context).await? {
            keys.push(snapshot_key(space, &it.name_any()));
        }
    }
    for it in snapshots_of("VolumeSnapshotContent", None, Some(&labels), context).await? {
        keys.push(content_key(&it.name_any()));
    }
    Ok(keys)
}
