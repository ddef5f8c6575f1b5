//! What is looked at for a `ProtectedApplication`, and what it has the keeper and the watch attend to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{address, copy, movers, recent, slowest};
use crate::{
    api::application::{ProtectedApplication, Role, Verdict},
    core::{
        self,
        app_key::AppKey,
        application::{LocalCopy, retention::PRUNE_JOB, scrub::SCRUB_JOB},
        claim::{record::Deadlines, state::Evidence, state::Settings},
        effect::Decision,
        recovery_point::JobSeen,
        work::{Outcome, Progress, Works},
    },
    operator::{
        context::Context,
        metrics::Application,
        shell::{Error, Reconciled},
        stores,
        watch::Objective,
    },
    probe::Probe,
};

impl Reconciled for ProtectedApplication {
    type Observed = core::application::Observed;

    async fn observe(&self, context: &Context) -> Result<Self::Observed, Error> {
        let namespace = self.namespace().unwrap_or_default();
        let key = AppKey { namespace: namespace.clone(), name: self.name_any() };
        let works = context.works.of(self);
        let unaskable = self.attend(&key, &works, context);
        let claim = context.keeper.view(&key);
        let foreign = claim.as_ref().is_some_and(|it| !it.mine && it.claim.is_some());
        let stopping = self.status.as_ref().is_some_and(|it| it.fence.is_some())
            || claim.as_ref().is_some_and(|it| it.must_fence || it.requested_handover.is_some());
        let address = match &self.spec.traffic {
            Some(it) if !foreign => address(&namespace, &it.target.service, context).await?,
            Some(_) | None => Err("it is published by the active region".to_owned()),
        };
        let vault = |name: &str| stores::get(&context.stores.vaults, None, name);
        let mut jobs = self.jobs(context).await?;
        Ok(core::application::Observed {
            region: context.region.clone(),
            vault: self.spec.backup.vaults.first().and_then(|it| vault(it)),
            zone: self.spec.traffic.as_ref().and_then(|it| stores::get(&context.stores.zones, None, &it.zone)),
            claim,
            health: context.watch.health(&key),
            slo: context.watch.service_level(&key),
            points: stores::all(&context.stores.points, |it| {
                of(&key, it.metadata.namespace.as_deref(), &it.spec.application)
            }),
            failovers: stores::all(&context.stores.failovers, |it| {
                of(&key, it.metadata.namespace.as_deref(), &it.spec.application)
            }),
            restores: stores::all(&context.stores.restores, |it| it.is_of(&key.namespace, &key.name)),
            copy: if foreign || stopping { copy(&namespace, context).await? } else { LocalCopy::default() },
            slowest: slowest(&namespace, context),
            unaskable,
            address,
            movers: Some(context.movers.clone()),
            prune: jobs.remove(PRUNE_JOB),
            scrub: jobs.remove(SCRUB_JOB),
            copy_vaults: self.spec.backup.copies.iter().filter_map(|it| vault(&it.vault)).collect(),
            copy_jobs: jobs,
            warm: self.warm(&key, foreign, &works, context).await?,
            works,
        })
    }

    fn decide(&self, observed: &Self::Observed, now: Timestamp) -> Decision<Self::Status> {
        core::application::decide(self, observed, now)
    }

    fn measure(&self, status: &Self::Status, context: &Context) {
        let of = Application { namespace: self.namespace().unwrap_or_default(), application: self.name_any() };
        let metrics = &context.metrics;
        metrics.active.get_or_create(&of).set(i64::from(status.role == Some(Role::Active)));
        metrics.epoch.get_or_create(&of).set(i64::try_from(status.epoch.unwrap_or(0)).unwrap_or(i64::MAX));
        let rpo = self.spec.objectives.rpo.as_secs();
        metrics.rpo_objective.get_or_create(&of).set(i64::try_from(rpo).unwrap_or(i64::MAX));
        let healthy = status.health.as_ref().map_or(-1, |it| match it.verdict {
            Verdict::Healthy => 1,
            Verdict::Unhealthy => 0,
            Verdict::Unknown => -1,
        });
        metrics.healthy.get_or_create(&of).set(healthy);
        let ready = core::condition::is_true(&status.conditions, core::condition::READY);
        metrics.ready.get_or_create(&of).set(i64::from(ready));
        let sound = core::condition::find(&status.conditions, core::condition::SOURCES_SOUND);
        metrics.sources_sound.get_or_create(&of).set(i64::from(sound.is_none_or(|it| it.status != "False")));
        if let Some(retention) = &status.retention {
            metrics.kept_points.get_or_create(&of).set(i64::try_from(retention.kept).unwrap_or(i64::MAX));
            let ended =
                retention.prune.as_ref().filter(|it| it.failure.is_none()).and_then(|it| it.finished_at.as_ref());
            if let Some(at) = ended {
                metrics.pruned.get_or_create(&of).set(at.0.as_second());
            }
        }
        let copies = status.copies.iter();
        let copies: Vec<_> =
            copies.filter_map(|it| Some((it.vault.as_str(), it.consistent_at.as_ref()?.0.as_second()))).collect();
        metrics.tell_copies(&of, &copies);
        if let Some(point) = &status.last_point {
            metrics.last_point.get_or_create(&of).set(point.consistent_at.0.as_second());
        }
    }
}

fn of(key: &AppKey, namespace: Option<&str>, application: &str) -> bool {
    namespace == Some(key.namespace.as_str()) && application == key.name
}

impl ProtectedApplication {
    /// The Jobs that prune its repository, read a share of it back, and copy its points. Asked for only while the status
    /// tells of one, and a little longer.
    async fn jobs(&self, context: &Context) -> Result<BTreeMap<String, JobSeen>, Error> {
        let status = self.status.as_ref();
        let prune = status.and_then(|it| it.retention.as_ref()).and_then(|it| it.prune.as_ref());
        let prune = prune.filter(|it| it.started_at.is_some()).map(|it| it.finished_at.as_ref());
        let copies = status.map_or(&[][..], |it| &it.copies).iter().filter_map(|it| it.last_run.as_ref());
        let pruned =
            status.map_or(&[][..], |it| &it.copies).iter().filter_map(|it| it.retention.as_ref()?.prune.as_ref());
        let of_copies = copies.map(|it| it.finished_at.as_ref()).chain(pruned.map(|it| it.finished_at.as_ref()));
        let scrubs = status.map_or(&[][..], |it| &it.copies).iter().filter_map(|it| it.scrub.as_ref());
        let of_copies = of_copies.chain(scrubs.map(|it| it.finished_at.as_ref()));
        let scrub = status.and_then(|it| it.scrub.as_ref()).map(|it| it.finished_at.as_ref());
        let mut ended = prune.into_iter().chain(scrub).chain(of_copies);
        if !ended.any(recent) {
            return Ok(BTreeMap::new());
        }
        movers(&self.uid().unwrap_or_default(), context).await
    }

    /// Has the keeper look after the claim and the watch ask the probes: in memory, and the same each time. Gives the
    /// probes that cannot be asked, with the reason.
    fn attend(&self, key: &AppKey, works: &Works, context: &Context) -> Vec<String> {
        let here = self.spec.regions.iter().any(|it| it.name == context.region);
        let vault = self.spec.backup.vaults.first();
        let (Some(vault), true) = (vault, here) else {
            context.keeper.remove(key);
            context.watch.remove(key);
            return Vec::new();
        };
        let claims = context.claims_of(vault);
        if let Err(error) = context.keeper.set(key, self.claim_settings(key, works, context), claims) {
            tracing::warn!(%error, application = %key, "the claim is not looked after");
        }
        let (mut probes, mut unaskable) = (Vec::new(), Vec::new());
        for probe in &self.spec.health.probes {
            // Workloads are asked where they are meant to run.
            let serving =
                self.status.as_ref().is_none_or(|it| matches!(it.role, Some(Role::Active | Role::Activating)));
            if probe.workload.is_some() && !serving {
                continue;
            }
            match Probe::parse(&key.namespace, probe) {
                Ok(probe) => probes.push(probe),
                Err(error) => unaskable.push(error.to_string()),
            }
        }
        let objective = self.spec.objectives.slo.as_ref().and_then(|it| {
            let target = it.availability.parse().ok()?;
            Some(Objective { target, window: u32::try_from(it.window.as_secs() / 60).unwrap_or(u32::MAX) })
        });
        context.watch.set(key, probes, objective);
        let healthy = context.watch.health(key).and_then(|it| match it.verdict {
            Verdict::Healthy => Some(true),
            Verdict::Unhealthy => Some(false),
            Verdict::Unknown => None,
        });
        if let Err(error) = context.keeper.set_health(key, healthy) {
            tracing::debug!(%error, application = %key, "the health does not reach the claim");
        }
        unaskable
    }

    /// What the claim is kept by. Nothing is claimed for the first time before the vault was asked for evidence.
    fn claim_settings(&self, key: &AppKey, works: &Works, context: &Context) -> Settings {
        let status = self.status.as_ref();
        let head = match works.get("ReadHead") {
            Some(Progress::Done { outcome: Outcome::HeadRead(epoch), .. }) => Some(*epoch),
            Some(_) | None => None,
        };
        let epoch = status.and_then(|it| it.epoch);
        let fence = status.and_then(|it| it.fence.as_ref());
        // What the status knows counts at once, also after a restart; without it, nothing is claimed before the head was read.
        let evidence = (epoch.is_some() || head.is_some()).then(|| Evidence {
            status: epoch,
            head: head.flatten(),
            fenced: fence.filter(|it| it.unproven).map(|it| it.epoch),
            held: epoch.filter(|_| status.and_then(|it| it.active_region.as_ref()) == Some(&context.region)),
        });
        Settings {
            region: context.region.clone(),
            group: key.group(),
            candidates: self.spec.regions.iter().map(|it| it.name.clone()).collect(),
            fencing: self.spec.claim.fencing,
            deadlines: Deadlines::from(&self.spec.claim),
            evidence,
        }
    }
}
