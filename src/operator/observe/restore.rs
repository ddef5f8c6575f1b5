//! What is looked at for a `Restore`. Volumes are read directly: what is decided on them cannot be undone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{copy, dumps::dumps, failover::volumes, movers, not_ready, progress::told, recent, recovery_point::made};
use crate::{
    api::{
        application::ProtectedApplication,
        failover::Failover,
        restore::{Restore, RestoreStatus, RestoreStepName},
    },
    core::{
        self,
        app_key::AppKey,
        application::LocalCopy,
        child::Run,
        condition, dump_target,
        effect::Decision,
        point::Point,
        restore::{Observed, mappings, progress, vault_export},
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
        let run = Run { namespace: namespace.clone(), name: self.name_any(), uid: self.uid().unwrap_or_default() };
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
            vault: application
                .as_ref()
                .and_then(|it| stores::get(&context.stores.vaults, None, core::restore::place(self, it)?)),
            claim: context.keeper.view(&app),
            protected: protected(&namespace, context),
            points: stores::all(&context.stores.points, |it| {
                it.namespace().as_ref() == Some(&namespace) && it.spec.application == app.name
            }),
            others: self.others(&app, context),
            copy: if stopping { copy(&namespace, context).await? } else { LocalCopy::default() },
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
                dumps(&run.uid, &namespace, &targets, context).await?
            } else {
                BTreeMap::new()
            },
            export: self.export_seen(&run, step, context).await?,
            not_ready: if step == Some(RestoreStepName::AwaitReady) {
                not_ready(&namespace, context).await?
            } else {
                Vec::new()
            },
            made: if (ended && recent) || restoring { made(&namespace, &run.uid, context).await? } else { Vec::new() },
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
