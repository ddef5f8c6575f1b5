//! Whether a workload is ready, from what the API server says of it. How it is read is handed in.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};

use crate::api::application::WorkloadKind;

/// A workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The application's namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// What was read.
#[derive(Clone, Debug)]
pub enum WorkloadView {
    /// The object.
    Deployment(Arc<Deployment>),
    /// The object.
    StatefulSet(Arc<StatefulSet>),
    /// The object.
    DaemonSet(Arc<DaemonSet>),
    /// There is none.
    Absent,
    /// It could not be read, and why: in words that stay the same while the reason does.
    Unreadable(String),
}

/// Reads a workload, by namespace, kind and name: from a cache, or from the API server.
pub type WorkloadReader = Arc<dyn Fn(&str, WorkloadKind, &str) -> BoxFuture<'static, WorkloadView> + Send + Sync>;

impl Workload {
    pub(super) async fn ask(&self, read: &WorkloadReader) -> Result<(), String> {
        let view = read(&self.namespace, self.kind, &self.name).await;
        ready(&view).map_err(|reason| format!("{:?} {}: {reason}", self.kind, self.name))
    }
}

/// Whether it is ready: its status describes its newest generation, it is meant to run, and as many pods as are meant to
/// run are ready. Pods of an older generation count: while an update rolls out, they serve.
///
/// # Errors
/// Why it is not. How many are ready is told, since it changes seldom, and is what a person asks next.
pub fn ready(view: &WorkloadView) -> Result<(), String> {
    let (metadata, observed, wanted, ready) = match view {
        WorkloadView::Deployment(it) => {
            let wanted = it.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
            let status = it.status.as_ref();
            let ready = status.and_then(|it| it.ready_replicas).unwrap_or_default();
            (&it.metadata, status.and_then(|it| it.observed_generation), wanted, ready)
        }
        WorkloadView::StatefulSet(it) => {
            let wanted = it.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
            let status = it.status.as_ref();
            let ready = status.and_then(|it| it.ready_replicas).unwrap_or_default();
            (&it.metadata, status.and_then(|it| it.observed_generation), wanted, ready)
        }
        WorkloadView::DaemonSet(it) => {
            let status = it.status.clone().unwrap_or_default();
            (&it.metadata, status.observed_generation, status.desired_number_scheduled, status.number_ready)
        }
        WorkloadView::Absent => return Err("does not exist".to_owned()),
        WorkloadView::Unreadable(reason) => return Err(format!("cannot be read: {reason}")),
    };
    if observed.unwrap_or_default() < metadata.generation.unwrap_or_default() {
        Err("its newest generation has not been taken up yet".to_owned())
    } else if wanted <= 0 {
        Err("no pod is meant to run".to_owned())
    } else if ready < wanted {
        Err(format!("{ready} of {wanted} pods are ready"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(text: &str) -> WorkloadView {
        WorkloadView::Deployment(Arc::new(serde_yaml::from_str(text).unwrap()))
    }

    #[test]
    fn a_deployment_is_ready_when_all_its_pods_are() {
        let ready_of = |spec: &str, status: &str| {
            ready(&deployment(&format!(
                "{{metadata: {{generation: 2}}, spec: {{{spec} selector: {{}}, template: {{}}}}, status: {{{status}}}}}"
            )))
        };
        assert_eq!(ready_of("replicas: 2,", "observedGeneration: 2, readyReplicas: 2"), Ok(()));
        assert_eq!(ready_of("", "observedGeneration: 2, readyReplicas: 1"), Ok(()));
        for (spec, status, reason) in [
            (
                "replicas: 2,",
                "observedGeneration: 1, readyReplicas: 2",
                "its newest generation has not been taken up yet",
            ),
            ("replicas: 2,", "", "its newest generation has not been taken up yet"),
            ("replicas: 2,", "observedGeneration: 2, readyReplicas: 1", "1 of 2 pods are ready"),
            ("replicas: 2,", "observedGeneration: 2", "0 of 2 pods are ready"),
            ("replicas: 0,", "observedGeneration: 2", "no pod is meant to run"),
        ] {
            assert_eq!(ready_of(spec, status), Err(reason.to_owned()), "{spec} {status}");
        }
    }

    #[test]
    fn a_stateful_set_is_ready_when_all_its_pods_are() {
        let ready_of = |count: i32| {
            ready(&WorkloadView::StatefulSet(Arc::new(
                serde_yaml::from_str(&format!(
                    "{{metadata: {{generation: 2}}, spec: {{replicas: 3, selector: {{}}, serviceName: a, template: {{}}}}, status: {{observedGeneration: 2, replicas: 3, readyReplicas: {count}}}}}"
                ))
                .unwrap(),
            )))
        };
        assert_eq!((ready_of(3), ready_of(2)), (Ok(()), Err("2 of 3 pods are ready".to_owned())));
    }

    #[test]
    fn a_daemon_set_that_no_node_takes_is_not_ready() {
        let ready_of = |status: &str| {
            ready(&WorkloadView::DaemonSet(Arc::new(
                serde_yaml::from_str(&format!(
                    "{{metadata: {{generation: 1}}, status: {{observedGeneration: 1, currentNumberScheduled: 0, numberMisscheduled: 0, {status}}}}}"
                ))
                .unwrap(),
            )))
        };
        assert_eq!(ready_of("desiredNumberScheduled: 2, numberReady: 2"), Ok(()));
        assert!(ready_of("desiredNumberScheduled: 2, numberReady: 1").is_err());
        assert_eq!(ready_of("desiredNumberScheduled: 0, numberReady: 0"), Err("no pod is meant to run".to_owned()));
    }

    #[test]
    fn what_is_not_there_or_not_readable_is_not_ready() {
        assert_eq!(ready(&WorkloadView::Absent), Err("does not exist".to_owned()));
        assert_eq!(ready(&WorkloadView::Unreadable("forbidden".into())), Err("cannot be read: forbidden".to_owned()));
    }
}
