//! What is looked at while dumps are loaded: the pods that may take them, and the movers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

use super::movers;
use crate::{
    api::application::ProtectedApplication,
    core::{dump, dump_load},
    exec,
    operator::{context::Context, shell::Error},
};

/// What the application's dumps would be loaded in, in that namespace, and this run's movers that load them.
pub(super) async fn dumps(
    (namespace, uid): (&str, &str),
    application: Option<&ProtectedApplication>,
    context: &Context,
) -> Result<BTreeMap<String, dump_load::Seen>, Error> {
    let Some(application) = application else { return Ok(BTreeMap::new()) };
    let (mut jobs, mut seen) = (movers(uid, context).await?, BTreeMap::new());
    let pods = Api::<Pod>::namespaced(context.client.clone(), namespace);
    for dump in &application.spec.backup.dumps {
        let labels = exec::labels(&dump.pods.match_labels);
        let listed = pods.list(&ListParams::default().labels(&labels).limit(500)).await;
        let pods = listed.map_err(Error::observe("pods"))?.items.iter().map(dump_pod).collect();
        let job = jobs.remove(&dump::label(&dump.name));
        seen.insert(dump.name.clone(), dump_load::Seen { pods, job });
    }
    Ok(seen)
}

fn dump_pod(pod: &Pod) -> dump_load::PodSeen {
    let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
    let claims = volumes.filter_map(|it| Some(it.persistent_volume_claim.as_ref()?.claim_name.clone())).collect();
    dump_load::PodSeen { ready: exec::is_ready(pod), claims }
}
