//! What is looked at of volumes that are restored ahead: by the application that restores them, and by a failover that
//! takes them over.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::{
    failover::{claim, marked_volumes, volumes_of},
    movers,
    recovery_point::made,
};
use crate::{
    api::application::{ProtectedApplication, Role, Standby},
    core::{
        app_key::AppKey,
        application::warm::{WarmSeen, run},
        child::{CLAIM, RUN},
        volume_ahead::Ahead,
        volume_restore::Seen,
        work::{Outcome, Progress, Works},
    },
    operator::{context::Context, shell::Error},
};

impl ProtectedApplication {
    /// Asks nothing while no round goes on and nothing is to be tidied away.
    pub(super) async fn warm(
        &self,
        key: &AppKey,
        foreign: bool,
        works: &Works,
        context: &Context,
    ) -> Result<WarmSeen, Error> {
        let Some(status) = self.status.as_ref() else { return Ok(WarmSeen::default()) };
        let Some(warm) = &status.warm else { return Ok(WarmSeen::default()) };
        let wanted = self.standby(&context.region) == Some(Standby::Warm);
        let going = wanted && foreign && warm.round.is_some();
        let over = !wanted || status.role == Some(Role::Active);
        if !going && !over {
            return Ok(WarmSeen::default());
        }
        let run = run(key, self.uid().unwrap_or_default());
        let made = made(&key.namespace, &run.uid, context).await?;
        let volumes = match works.get("ReadPoint") {
            Some(Progress::Done { outcome: Outcome::PointRead(point), .. })
                if going && warm.round.as_ref().is_some_and(|it| it.point == point.id) =>
            {
                volumes_of(&run, point, &self.mappings(&context.region), context).await?
            }
            Some(_) | None => BTreeMap::new(),
        };
        Ok(WarmSeen { movers: Some(context.movers.clone()), volumes, made })
    }
}

/// Adds what was restored ahead to what a failover sees of its volumes.
pub(super) async fn ahead(
    application: &ProtectedApplication,
    seen: &mut BTreeMap<String, Seen>,
    context: &Context,
) -> Result<(), Error> {
    let key = AppKey { namespace: application.namespace().unwrap_or_default(), name: application.name_any() };
    let run = run(&key, application.uid().unwrap_or_default());
    let marked = marked_volumes(&format!("{RUN}={}", run.uid), &context.client).await?;
    let mut jobs = movers(&run.uid, context).await?;
    for (name, seen) in seen {
        let volume = marked.iter().find(|it| it.annotations.get(CLAIM) == Some(name)).cloned();
        let own = claim(&context.movers.namespace, &run.derived(name), context).await?;
        let job = jobs.remove(name);
        if volume.is_some() || own.is_some() || job.is_some() {
            seen.ahead = Some(Ahead { run: run.clone(), volume, own, job });
        }
    }
    Ok(())
}
