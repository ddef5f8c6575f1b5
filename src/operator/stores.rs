//! Objects as the API server's watches tell them: reading them costs no request.
//!
//! They may be a moment old: what must not be is read directly, in `observe`.

use std::{collections::HashSet, fmt::Debug, future::ready, sync::Arc};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, ObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::shell::Kind;
use crate::{
    api::{
        application::ProtectedApplication, dns_zone::DnsZone, failover::Failover, recovery_point::RecoveryPoint,
        restore::Restore, vault::Vault,
    },
    core::app_key::AppKey,
};

/// A store of one of our own kinds. What cannot be read stands in it as such.
pub type Guarded<K> = Store<DeserializeGuard<K>>;

/// All stores.
pub struct Stores {
    /// `ProtectedApplication`s.
    pub applications: Guarded<ProtectedApplication>,
    /// `RecoveryPoint`s.
    pub points: Guarded<RecoveryPoint>,
    /// `Failover`s.
    pub failovers: Guarded<Failover>,
    /// `Restore`s.
    pub restores: Guarded<Restore>,
    /// `Vault`s.
    pub vaults: Guarded<Vault>,
    /// `DnsZone`s.
    pub zones: Guarded<DnsZone>,
    /// `Deployment`s.
    pub deployments: Store<Deployment>,
    /// `StatefulSet`s.
    pub stateful_sets: Store<StatefulSet>,
    /// `DaemonSet`s.
    pub daemon_sets: Store<DaemonSet>,
}

impl Stores {
    /// The uids of everything of ours that stands in the cluster, readable or not.
    pub async fn uids(&self) -> HashSet<String> {
        self.ready().await;
        let all = [
            standing(&self.applications),
            standing(&self.points),
            standing(&self.failovers),
            standing(&self.restores),
            standing(&self.vaults),
            standing(&self.zones),
        ];
        all.into_iter().flatten().filter_map(|it| it.uid).collect()
    }

    /// The kinds that could not be listed yet.
    #[must_use]
    pub fn unfilled(&self) -> Vec<&'static str> {
        let filled = [
            ("ProtectedApplication", self.applications.wait_until_ready().now_or_never().is_some()),
            ("RecoveryPoint", self.points.wait_until_ready().now_or_never().is_some()),
            ("Failover", self.failovers.wait_until_ready().now_or_never().is_some()),
            ("Restore", self.restores.wait_until_ready().now_or_never().is_some()),
            ("Vault", self.vaults.wait_until_ready().now_or_never().is_some()),
            ("DnsZone", self.zones.wait_until_ready().now_or_never().is_some()),
            ("Deployment", self.deployments.wait_until_ready().now_or_never().is_some()),
            ("StatefulSet", self.stateful_sets.wait_until_ready().now_or_never().is_some()),
            ("DaemonSet", self.daemon_sets.wait_until_ready().now_or_never().is_some()),
        ];
        filled.into_iter().filter(|(_, filled)| !filled).map(|(kind, _)| kind).collect()
    }

    /// Waits until every store has been filled once: an object that is not in one is not there only then.
    pub async fn ready(&self) {
        // A store whose writer is gone ends with the process.
        let _ = futures::join!(
            self.applications.wait_until_ready(),
            self.points.wait_until_ready(),
            self.failovers.wait_until_ready(),
            self.restores.wait_until_ready(),
            self.vaults.wait_until_ready(),
            self.zones.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.stateful_sets.wait_until_ready(),
            self.daemon_sets.wait_until_ready(),
        );
    }
}

/// An object of one of our own kinds.
#[must_use]
pub fn get<K: Kind>(store: &Guarded<K>, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
    let mut key = ObjectRef::<DeserializeGuard<K>>::new(name);
    key.namespace = namespace.map(ToOwned::to_owned);
    store.get(&key).and_then(|it| it.0.as_ref().ok().cloned()).map(Arc::new)
}

/// The readable objects of one of our own kinds that fit.
pub fn all<K: Kind>(store: &Guarded<K>, fits: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
    let readable = store.state().into_iter().filter_map(|it| it.0.as_ref().ok().filter(|it| fits(it)).cloned());
    readable.map(Arc::new).collect()
}

/// The metadata of all objects of one of our own kinds, readable or not: what is not among them was deleted, as a
/// successful list or a deletion said. Only to be asked once the stores are ready.
pub fn standing<K: Kind>(store: &Guarded<K>) -> Vec<ObjectMeta> {
    store.state().iter().map(|it| it.meta().clone()).collect()
}

/// Watches a kind of workload, and wakes the applications of its namespaces when one changes.
pub fn workloads<K>(
    client: &Client,
    wake: mpsc::Sender<AppKey>,
    applications: Guarded<ProtectedApplication>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store::<K>();
    let stream = watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(|it| {
            it.managed_fields_mut().clear();
            it.annotations_mut().retain(|key, _| key.starts_with("reprise.dev/"));
        })
        .reflect(writer)
        .touched_objects();
    tokio::spawn(stream.for_each(move |touched| {
        if let Ok(object) = touched {
            let namespace = object.namespace().unwrap_or_default();
            for application in all(&applications, |it| it.namespace().as_deref() == Some(namespace.as_str())) {
                // A full queue already holds enough to wake for.
                let _ = wake.try_send(AppKey { namespace: namespace.clone(), name: application.name_any() });
            }
        }
        ready(())
    }));
    reader
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_is_not_gone() {
        let (reader, mut writer) = reflector::store::<DeserializeGuard<Failover>>();
        let spec = json!({"application": 7});
        let broken = json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "Failover", "spec": spec,
            "metadata": {"name": "move", "namespace": "shop", "uid": "u1"},
        });
        writer.apply_watcher_event(&watcher::Event::Apply(serde_json::from_value(broken).unwrap()));
        assert!(get(&reader, Some("shop"), "move").is_none() && all(&reader, |_| true).is_empty());
        let uids: Vec<_> = standing(&reader).into_iter().map(|it| (it.name, it.uid)).collect();
        assert_eq!(uids, [(Some("move".to_owned()), Some("u1".to_owned()))]);
    }
}
