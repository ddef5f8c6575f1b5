//! What is looked at of volumes that are restored ahead: by the application that restores them, and by a failover that
//! takes them over.

use std::collections::BTreeMap;

use k8s_openapi::api::{batch::v1::Job, core::v1::PersistentVolumeClaim};
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    failover::{claim, marked_volumes, volumes_of},
    listed::all,
    movers,
};
use crate::{
    api::application::{ProtectedApplication, Role, Standby},
    core::{
        app_key::AppKey,
        application::{run, warm::WarmSeen},
        child::{CLAIM, RUN, claim_key, job_key, names_claim},
        effect::ObjectKey,
        volume_ahead::Ahead,
        volume_restore::{Seen, mapped},
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
    ) -> Result<Option<WarmSeen>, Error> {
        let Some(status) = self.status.as_ref() else { return Ok(None) };
        let Some(warm) = &status.warm else { return Ok(None) };
        let wanted = self.standby(&context.region) == Some(Standby::Warm);
        let going = wanted && foreign && warm.round.is_some();
        let over = !wanted || status.role == Some(Role::Active);
        if !going && !over {
            return Ok(None);
        }
        let run = run(key, self.uid().unwrap_or_default());
        let made = made(&run.uid, context).await?;
        let volumes = match works.get("ReadPoint") {
            Some(Progress::Done { outcome: Outcome::PointRead(point, _), .. })
                if going && warm.round.as_ref().is_some_and(|it| it.point == point.id) =>
            {
                let mappings = self.mappings(&context.region);
                let volumes: Vec<_> = point.volumes.iter().map(|it| mapped(it, &mappings)).collect();
                volumes_of(&run, point, &volumes, &mappings, context).await?
            }
            Some(_) | None => BTreeMap::new(),
        };
        Ok(Some(WarmSeen { volumes, made }))
    }
}

/// The movers of volumes and the claims in the operator's namespace that stand there for the application itself. What
/// prunes its repository, or copies its points, stands there for it too.
async fn made(uid: &str, context: &Context) -> Result<Vec<ObjectKey>, Error> {
    let (home, client) = (context.movers.namespace.as_str(), &context.client);
    let ours = || ListParams::default().labels(&format!("{RUN}={uid}"));
    let jobs = all(&Api::<Job>::namespaced(client.clone(), home), ours(), "jobs").await?;
    let claims = all(&Api::<PersistentVolumeClaim>::namespaced(client.clone(), home), ours(), "claims").await?;
    Ok(of_volumes(home, &jobs, &claims))
}

fn of_volumes(home: &str, jobs: &[Job], claims: &[PersistentVolumeClaim]) -> Vec<ObjectKey> {
    let ours = |it: &&Job| it.annotations().get(CLAIM).is_some_and(|it| names_claim(it));
    let jobs = jobs.iter().filter(ours).map(|it| job_key(home, &it.name_any()));
    jobs.chain(claims.iter().map(|it| claim_key(home, &it.name_any()))).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::application::{copy_retention::prune_job, retention::PRUNE_JOB, scrub::SCRUB_JOB};

    #[test]
    fn jobs_that_prune_and_read_back_are_not_tidied_away_with_what_was_restored_ahead() {
        let job = |name: &str, of: &str| {
            let metadata = json!({"name": name, "annotations": {CLAIM: of}});
            serde_json::from_value::<Job>(json!({"metadata": metadata})).unwrap()
        };
        let others = [job("a", PRUNE_JOB), job("b", &prune_job("second")), job("e", SCRUB_JOB)];
        let jobs = [others.as_slice(), &[job("c", "prune"), job("d", "data-0")]].concat();
        assert_eq!(of_volumes("home", &jobs, &[]), [job_key("home", "c"), job_key("home", "d")]);
    }
}
