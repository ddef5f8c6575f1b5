//! How far the movers of a run are, from their logs. Nothing is decided on it: what cannot be read is not told.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};

use crate::{
    core::{
        child::{CLAIM, RUN},
        mover_progress::MoverProgress,
    },
    operator::context::Context,
};

/// How long a log may take: a node that is away must not hold a pass up.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many logs are asked for at a time.
const AT_ONCE: usize = 8;
/// Lines of a log: a mover writes one every five seconds.
const LINES: i64 = 24;
/// Bytes of a log.
const BYTES: i64 = 64 * 1024;

/// How far each mover of a run is that runs, by claim.
pub(super) async fn told(uid: &str, context: &Context) -> BTreeMap<String, MoverProgress> {
    let pods = Api::<Pod>::namespaced(context.client.clone(), &context.movers.namespace);
    let of_run = ListParams::default().labels(&format!("{RUN}={uid}")).limit(100);
    let running = match tokio::time::timeout(PATIENCE, pods.list(&of_run)).await {
        Ok(Ok(list)) => list.items,
        Ok(Err(_)) | Err(_) => return BTreeMap::new(),
    };
    let running =
        running.into_iter().filter(|it| it.status.as_ref().is_some_and(|it| it.phase.as_deref() == Some("Running")));
    let asked = running.map(|pod| {
        let pods = pods.clone();
        async move {
            let tail = LogParams { tail_lines: Some(LINES), limit_bytes: Some(BYTES), ..LogParams::default() };
            let log = tokio::time::timeout(PATIENCE, pods.logs(&pod.name_any(), &tail)).await.ok()?.ok()?;
            Some((pod.annotations().get(CLAIM)?.clone(), MoverProgress::of_restoring(&log)?))
        }
    });
    stream::iter(asked).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}
