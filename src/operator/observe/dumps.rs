//! What is looked at while dumps are loaded: the pods that may take them, and the movers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};

use super::{listed::each, movers};
use crate::{
    api::application::Dump,
    core::{dump, dump_load},
    exec,
    operator::{context::Context, shell::Error},
};

/// What these dumps would be loaded in, in that namespace, and the movers of the run that load them.
pub(super) async fn dumps(
    (namespace, uid): (&str, &str),
    dumps: &[Dump],
    context: &Context,
) -> Result<BTreeMap<String, dump_load::Seen>, Error> {
    let (mut jobs, mut seen) = (movers(uid, context).await?, BTreeMap::new());
    let pods = Api::<Pod>::namespaced(context.client.clone(), namespace);
    for dump in dumps {
        let labels = exec::labels(&dump.pods.match_labels);
        let mut fitting = Vec::new();
        let listed = each(&pods, ListParams::default().labels(&labels), "pods", |it| fitting.push(dump_pod(&it))).await;
        let forbidden = match listed {
            Ok(()) => None,
            Err(Error::Observe { what, source }) => match *source {
                // That is told: it does not pass by itself.
                kube::Error::Api(status) if status.code == 403 => Some(status.message),
                source => return Err(Error::observe(what)(source)),
            },
            Err(error) => return Err(error),
        };
        let job = jobs.remove(&dump::label(&dump.name));
        seen.insert(dump.name.clone(), dump_load::Seen { pods: fitting, forbidden, job });
    }
    Ok(seen)
}

fn dump_pod(pod: &Pod) -> dump_load::PodSeen {
    let volumes = pod.spec.iter().flat_map(|it| it.volumes.iter().flatten());
    let claims = volumes.filter_map(|it| Some(it.persistent_volume_claim.as_ref()?.claim_name.clone())).collect();
    dump_load::PodSeen { name: pod.name_any(), ready: exec::is_ready(pod), claims }
}
