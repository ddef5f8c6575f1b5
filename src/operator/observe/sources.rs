//! The volumes of a namespace, and the pods that use them: what a point may be made of.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec, Pod,
};
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{
    BOUND, alive,
    listed::{all, each},
    phase, requested,
};
use crate::{
    core::{
        child::{EXCLUDE, volume_mode},
        recovery_point::{Mounting, Source, Unbound},
    },
    operator::shell::Error,
};

/// So many volumes are asked for at a time.
const AT_ONCE: usize = 16;

/// The claims of a namespace: those that are bound, with what is needed to read them, and the others.
pub(super) async fn claims(namespace: &str, client: &Client) -> Result<(Vec<Source>, Vec<Unbound>), Error> {
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
    let claims = all(&claims, ListParams::default(), &format!("claims in {namespace}")).await?;
    let mut users = Users::default();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    each(&pods, ListParams::default(), &format!("pods in {namespace}"), |it| users.add(&it)).await?;
    let (bound, others): (Vec<_>, Vec<_>) =
        claims.into_iter().partition(|it| phase(it) == BOUND && volume_of(it).is_some());
    let mut unbound: Vec<_> = others.iter().filter_map(|it| without_volume(it, &users)).collect();
    unbound.sort_by(|one, other| one.claim.cmp(&other.claim));
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let (volumes, users) = (&volumes, &users);
    let with_volume = bound.into_iter().map(|claim| async move {
        let volume = volume_of(&claim).unwrap_or_default();
        let found = volumes.get_opt(&volume).await.map_err(Error::observe(format!("PersistentVolume {volume}")))?;
        Ok::<_, Error>(source(&claim, volume, found.as_ref().and_then(|it| it.spec.as_ref()), users))
    });
    let mut sources: Vec<_> = stream::iter(with_volume).buffered(AT_ONCE).try_collect().await?;
    sources.sort_by(|one, other| one.claim.cmp(&other.claim));
    Ok((sources, unbound))
}

fn volume_of(claim: &PersistentVolumeClaim) -> Option<String> {
    claim.spec.as_ref()?.volume_name.clone()
}

fn without_volume(claim: &PersistentVolumeClaim, users: &Users) -> Option<Unbound> {
    let spec = claim.spec.as_ref()?;
    let wanted_by = users.wanting.get(&claim.name_any()).cloned();
    // What never had a volume, and is about to go, is not to be told of.
    if claim.metadata.deletion_timestamp.is_some() && wanted_by.is_none() {
        return None;
    }
    Some(Unbound {
        claim: claim.name_any(),
        labels: claim.metadata.labels.clone().unwrap_or_default(),
        size: requested(Some(spec)),
        storage_class: spec.storage_class_name.clone(),
        access_modes: spec.access_modes.clone().unwrap_or_default(),
        block: is_block(spec),
        phase: phase(claim).to_owned(),
        wanted_by,
        excluded: excluded(claim),
    })
}

fn source(claim: &PersistentVolumeClaim, volume: String, kind: Option<&PersistentVolumeSpec>, users: &Users) -> Source {
    let spec = claim.spec.clone().unwrap_or_default();
    Source {
        claim: claim.name_any(),
        labels: claim.metadata.labels.clone().unwrap_or_default(),
        size: requested(Some(&spec)),
        resource_version: claim.metadata.resource_version.clone(),
        block: is_block(&spec),
        storage_class: spec.storage_class_name,
        access_modes: spec.access_modes.unwrap_or_default(),
        driver: kind.and_then(|it| it.csi.as_ref()).map(|it| it.driver.clone()),
        node_path: kind.and_then(|it| {
            it.host_path.as_ref().map(|it| it.path.clone()).or_else(|| it.local.as_ref().map(|it| it.path.clone()))
        }),
        mounted_by: users.mounting.get(&claim.name_any()).cloned(),
        volume,
        deleting: claim.metadata.deletion_timestamp.is_some(),
        excluded: excluded(claim),
    }
}

/// Whether people left it out, as they do with any object.
fn excluded(claim: &PersistentVolumeClaim) -> bool {
    [claim.labels(), claim.annotations()].iter().any(|it| it.get(EXCLUDE).is_some_and(|it| it == "true"))
}

fn is_block(spec: &PersistentVolumeClaimSpec) -> bool {
    spec.volume_mode.as_deref() == Some(volume_mode(true))
}

/// What is kept of the pods of a namespace: by claim, the first that uses it.
#[derive(Default)]
struct Users {
    /// Pods that are not finished.
    wanting: BTreeMap<String, String>,
    /// Pods that run.
    mounting: BTreeMap<String, Mounting>,
}

impl Users {
    fn add(&mut self, pod: &Pod) {
        if !alive(pod) {
            return;
        }
        let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
        let running = phase == Some("Running") && pod.metadata.deletion_timestamp.is_none();
        let node = pod.spec.as_ref().and_then(|it| it.node_name.clone()).filter(|_| running);
        let mounting = node.and_then(|node| Some(Mounting { pod_uid: pod.uid()?, node }));
        for volume in pod.spec.iter().flat_map(|it| it.volumes.iter().flatten()) {
            let claim = match &volume.persistent_volume_claim {
                Some(source) => source.claim_name.clone(),
                // The claim of a generic ephemeral volume has a name made of the pod's and the volume's.
                None if volume.ephemeral.is_some() => format!("{}-{}", pod.name_any(), volume.name),
                None => continue,
            };
            if let Some(mounting) = &mounting {
                self.mounting.entry(claim.clone()).or_insert_with(|| mounting.clone());
            }
            self.wanting.entry(claim).or_insert_with(|| pod.name_any());
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::Path, http::Uri, routing::get};
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::played;

    /// An API server with 501 claims and as many pods that mount one each, by pages of 500.
    async fn many() -> Client {
        let paged = |item: fn(usize) -> Value| {
            get(move |uri: Uri| async move {
                let second = uri.query().unwrap_or_default().contains("continue=");
                let (items, next) = if second { (500..501, "") } else { (0..500, "2") };
                json!({"metadata": {"continue": next}, "items": items.map(item).collect::<Vec<_>>()}).to_string()
            })
        };
        let claim = |it| {
            let phase = if it == 499 { "Pending" } else { "Bound" };
            let volume = (it != 499).then(|| format!("pv-{it}"));
            let marks = if it == 7 { json!({"reprise.dev/exclude": "true"}) } else { json!({}) };
            json!({"metadata": {"name": format!("data-{it:03}"), "annotations": marks}, "spec": {"volumeName": volume}, "status": {"phase": phase}})
        };
        let pod = |it| {
            let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": format!("data-{it:03}")}});
            json!({"metadata": {"name": format!("pod-{it}"), "uid": format!("uid-{it}")},
                "spec": {"nodeName": "node", "containers": [], "volumes": [volume]}, "status": {"phase": "Running"}})
        };
        let volume = |Path(name): Path<String>| async move {
            json!({"metadata": {"name": name}, "spec": {"csi": {"driver": "d", "volumeHandle": name}}}).to_string()
        };
        let routes = Router::new()
            .route("/api/v1/namespaces/shop/persistentvolumeclaims", paged(claim))
            .route("/api/v1/namespaces/shop/pods", paged(pod))
            .route("/api/v1/persistentvolumes/{name}", get(volume));
        played::client(routes).await
    }

    #[tokio::test]
    async fn of_501_claims_each_is_seen_with_its_volume_and_its_pod() {
        let (sources, unbound) = claims("shop", &many().await).await.unwrap();
        assert_eq!((sources.len(), unbound.len()), (500, 1));
        let last = sources.last().unwrap();
        assert_eq!(
            (last.claim.as_str(), last.volume.as_str(), last.driver.as_deref()),
            ("data-500", "pv-500", Some("d"))
        );
        assert_eq!(last.mounted_by.as_ref().map(|it| it.pod_uid.as_str()), Some("uid-500"));
        let excluded: Vec<_> = sources.iter().filter(|it| it.excluded).map(|it| it.claim.as_str()).collect();
        assert_eq!(excluded, ["data-007"]);
        assert_eq!(unbound[0].wanted_by.as_deref(), Some("pod-499"));
    }

    #[test]
    fn the_claim_of_an_ephemeral_volume_is_its_pods_and_a_finished_pod_wants_none() {
        let pod = |phase: &str| {
            let volumes = json!([{"name": "tmp", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}, {"name": "x", "emptyDir": {}}]);
            let pod = json!({"metadata": {"name": "web", "uid": "u"}, "spec": {"nodeName": "n", "containers": [], "volumes": volumes},
                "status": {"phase": phase}});
            let mut users = Users::default();
            users.add(&serde_json::from_value(pod).unwrap());
            (users.wanting.into_keys().collect::<Vec<_>>(), users.mounting.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(pod("Running"), (vec!["web-tmp".to_owned()], vec!["web-tmp".to_owned()]));
        assert_eq!(pod("Pending"), (vec!["web-tmp".to_owned()], vec![]));
        assert_eq!(pod("Succeeded"), (vec![], vec![]));
    }
}
