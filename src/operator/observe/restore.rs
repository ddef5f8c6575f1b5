//! What is looked at for a `Restore`. Volumes are read directly: what is decided on them cannot be undone.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    networking::v1::NetworkPolicy,
};
use kube::{Api, ResourceExt};

use super::{
    copy,
    dumps::dumps,
    failover::{marked_volumes, volumes},
    movers, not_ready,
    progress::told,
    recent,
    recovery_point::made,
};
use crate::{
    api::{
        application::ProtectedApplication,
        failover::Failover,
        restore::{Restore, RestoreStatus, RestoreStepName},
    },
    capture::isolate::NODE_PORTS,
    core::{
        self,
        app_key::AppKey,
        application::LocalCopy,
        child::{RUN, Run},
        condition, dump_target,
        effect::Decision,
        point::Point,
        restore::{
            Observed, mappings, progress,
            rehearsal::{POLICY, REHEARSAL, Space, Stage},
            vault_export,
        },
    },
    operator::{
        clock,
        context::Context,
        shell::{Error, Reconciled},
        stores,
    },
};

impl Reconciled for Restore {
    type Observed = Observed;

    async fn observe(&self, context: &Context) -> Result<Observed, Error> {
        let namespace = self.namespace().unwrap_or_default();
        // Of a rehearsal, all that is restored is in a namespace of its own.
        let run = core::restore::run(self);
        let source = self.spec.source_namespace.clone().unwrap_or_else(|| namespace.clone());
        let app = AppKey { namespace: source, name: self.spec.application.clone() };
        let application = stores::get(&context.stores.applications, Some(&app.namespace), &app.name);
        let ended = self.status.as_ref().is_some_and(|it| condition::ended(&it.conditions));
        let step = self.status.as_ref().and_then(|it| it.step).filter(|_| !ended);
        let stopping = self.in_place() && matches!(step, Some(RestoreStepName::Stop | RestoreStepName::RestoreVolumes));
        let restoring = step == Some(RestoreStepName::RestoreVolumes);
        let handing = restoring || step == Some(RestoreStepName::Cancel);
        let works = context.works.of(self);
        let recent = recent(self.status.as_ref().and_then(|it| it.finished_at.as_ref()));
        let mappings = application.as_ref().map(|it| mappings(self, it, &context.region)).unwrap_or_default();
        Ok(Observed {
            region: context.region.clone(),
            movers: context.movers.clone(),
            hindrance: context.works.hindrance(self),
            vault: application
                .as_ref()
                .and_then(|it| stores::get(&context.stores.vaults, None, core::restore::place(self, it)?)),
            claim: context.keeper.view(&app),
            protected: protected(&namespace, context),
            points: stores::all(&context.stores.points, |it| {
                it.namespace().as_ref() == Some(&namespace) && it.spec.application == app.name
            }),
            others: self.others(&app, context),
            copy: if stopping { copy(&run.namespace, context).await? } else { LocalCopy::default() },
            volumes: if handing {
                let wanted = |point: &Point| core::restore::volumes(self, point, &mappings);
                volumes(&run, &works, &mappings, wanted, context).await?
            } else {
                BTreeMap::new()
            },
            dumps: if matches!(step, Some(RestoreStepName::LoadDumps | RestoreStepName::Plan | RestoreStepName::Cancel))
            {
                let named = self.spec.only.as_ref().map(|it| it.dumps.as_slice());
                let targets = application.as_ref().map(|it| dump_target::targets(it, named)).unwrap_or_default();
                dumps((&run.namespace, &run.uid), &targets, context).await?
            } else {
                BTreeMap::new()
            },
            export: self.export_seen(&run, step, context).await?,
            not_ready: if step == Some(RestoreStepName::AwaitReady) {
                not_ready(&run.namespace, context).await?
            } else {
                Vec::new()
            },
            made: if (ended && recent) || restoring || step == Some(RestoreStepName::CleanUp) {
                made(&run.namespace, &run.uid, context).await?
            } else {
                Vec::new()
            },
            stage: match step.filter(|_| self.spec.rehearse) {
                Some(step) => stage(&run, step, application.as_deref(), context).await?,
                None => Stage::default(),
            },
            told: if (restoring || step == Some(RestoreStepName::Export))
                && progress::due(self.status.as_ref(), clock::second())
            {
                told(&run.uid, context).await
            } else {
                BTreeMap::new()
            },
            objects_done: context.works.count(self, "RestoreObjects"),
            works,
            application,
        })
    }

    fn decide(&self, observed: &Observed, now: Timestamp) -> Decision<RestoreStatus> {
        core::restore::decide(self, observed, now)
    }

    fn written(&self, context: &Context) {
        let namespace = self.namespace().unwrap_or_default();
        context.wake_application(&AppKey { namespace, name: self.spec.application.clone() });
    }
}

/// What is known of the namespace of a rehearsal, as far as the step looks at it.
async fn stage(
    run: &Run,
    step: RestoreStepName,
    application: Option<&ProtectedApplication>,
    context: &Context,
) -> Result<Stage, Error> {
    let (making, removing) = (step == RestoreStepName::Isolate, step == RestoreStepName::CleanUp);
    let target = application.and_then(|it| it.spec.traffic.as_ref()).map(|it| it.target.service.clone());
    Ok(Stage {
        allowed: context.rehearsals,
        space: if making || removing { space(run, context).await? } else { None },
        security: match application.and_then(ResourceExt::namespace).filter(|_| making) {
            Some(source) => security(&source, context).await?,
            None => BTreeMap::new(),
        },
        volumes: if removing {
            marked_volumes(&format!("{RUN}={}", run.uid), &context.client).await?
        } else {
            Vec::new()
        },
        wanted: if step == RestoreStepName::AwaitReady { copy(&run.namespace, context).await?.wanted } else { 0 },
        service: match target.filter(|_| step == RestoreStepName::Probe) {
            Some(target) => service(&run.namespace, &target, context).await?,
            None => None,
        },
    })
}

async fn space(run: &Run, context: &Context) -> Result<Option<Space>, Error> {
    let spaces = Api::<Namespace>::all(context.client.clone());
    let found = spaces.get_opt(&run.namespace).await;
    let Some(found) = found.map_err(Error::observe(format!("namespace {}", run.namespace)))? else { return Ok(None) };
    let label = |key: &str, value: &str| found.labels().get(key).is_some_and(|it| it == value);
    let ours = label(RUN, &run.uid) && label(REHEARSAL.0, REHEARSAL.1);
    let policies = Api::<NetworkPolicy>::namespaced(context.client.clone(), &run.namespace);
    let closed = policies.get_opt(POLICY).await.map_err(Error::observe("the network policy of the rehearsal"))?;
    Ok(Some(Space { ours, going: found.metadata.deletion_timestamp.is_some(), closed: closed.is_some() }))
}

/// The labels of pod security of a namespace.
async fn security(namespace: &str, context: &Context) -> Result<BTreeMap<String, String>, Error> {
    let spaces = Api::<Namespace>::all(context.client.clone());
    let found = spaces.get_opt(namespace).await.map_err(Error::observe(format!("namespace {namespace}")))?;
    let mut labels = found.and_then(|it| it.metadata.labels).unwrap_or_default();
    labels.retain(|key, _| key.starts_with("pod-security.kubernetes.io/"));
    Ok(labels)
}

/// A Service's address in the cluster, and its port for each that nodes had for it where it was captured.
async fn service(
    namespace: &str,
    name: &str,
    context: &Context,
) -> Result<Option<(IpAddr, BTreeMap<u16, u16>)>, Error> {
    let services = Api::<Service>::namespaced(context.client.clone(), namespace);
    let found = services.get_opt(name).await.map_err(Error::observe(format!("Service {name}")))?;
    let Some(found) = found else { return Ok(None) };
    let address = found.spec.as_ref().and_then(|it| it.cluster_ip.as_deref()?.parse().ok());
    let ports = found.annotations().get(NODE_PORTS).map_or("", String::as_str).split(',');
    let pair = |it: &str| it.split_once(':').and_then(|(node, own)| Some((node.parse().ok()?, own.parse().ok()?)));
    Ok(address.map(|it| (it, ports.filter_map(pair).collect())))
}

/// The applications that are protected in a namespace.
fn protected(namespace: &str, context: &Context) -> Vec<String> {
    let here = |it: &ProtectedApplication| it.namespace().as_deref() == Some(namespace);
    stores::all(&context.stores.applications, here).iter().map(|it| it.name_any()).collect()
}

impl Restore {
    /// Where it exports to, and the mover that does.
    async fn export_seen(
        &self,
        run: &Run,
        step: Option<RestoreStepName>,
        context: &Context,
    ) -> Result<vault_export::Seen, Error> {
        let Some(to) = self.exports_to() else { return Ok(vault_export::Seen::default()) };
        let job = if matches!(step, Some(RestoreStepName::Export | RestoreStepName::Cancel)) {
            movers(&run.uid, context).await?.remove(vault_export::LABEL)
        } else {
            None
        };
        Ok(vault_export::Seen { vault: stores::get(&context.stores.vaults, None, &to.name), job })
    }

    /// What goes on with the application and comes first: failovers, and restores that were begun, or made before.
    fn others(&self, app: &AppKey, context: &Context) -> Vec<String> {
        // What goes on where the data comes from is in nobody's way.
        let namespace = self.namespace();
        let failovers = stores::all(&context.stores.failovers, |it: &Failover| {
            let ended = it.status.as_ref().is_some_and(|it| condition::ended(&it.conditions));
            it.namespace() == namespace && it.spec.application == app.name && !ended
        });
        let age = |it: &Self| (it.metadata.creation_timestamp.as_ref().map(|it| it.0), it.name_any());
        let restores = stores::all(&context.stores.restores, |it: &Self| {
            // A rehearsal is in nobody's way but another's.
            if it.spec.rehearse != self.spec.rehearse {
                return false;
            }
            let ended = it.status.as_ref().is_some_and(|it| condition::ended(&it.conditions));
            let begun = it.status.as_ref().is_some_and(|it| it.step > Some(RestoreStepName::Check));
            it.namespace() == namespace
                && it.spec.application == app.name
                && it.name_any() != self.name_any()
                && !ended
                && (begun || age(it) < age(self))
        });
        let failovers = failovers.iter().map(|it| format!("Failover {}", it.name_any()));
        failovers.chain(restores.iter().map(|it| format!("Restore {}", it.name_any()))).collect()
    }
}
