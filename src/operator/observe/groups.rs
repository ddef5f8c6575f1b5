//! What is looked at of group snapshots. Their API is optional and has three versions: the newest that is served is used.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::PersistentVolumeClaim,
    apimachinery::pkg::apis::meta::v1::{APIGroup, GroupVersionForDiscovery},
};
use kube::{
    Api, Client, ResourceExt,
    api::ListParams,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};

use super::{
    listed::{all, all_if_served, each},
    recovery_point::snapshot_seen,
};
use crate::{
    api::recovery_point::{GroupInPoint, GroupVersion},
    core::{
        child::{MANAGED_BY, RUN, Run, group_content_key, group_key},
        effect::ObjectKey,
        recovery_point::{
            SnapshotSeen,
            groups::{GroupClass, GroupSeen, made_for, mark},
        },
    },
    operator::{context::Context, shell::Error},
};

/// How long a group snapshot that was deleted may take to go.
const GOING: SignedDuration = SignedDuration::from_mins(5);
/// Their API.
const GROUP: &str = "groupsnapshot.storage.k8s.io";

/// The newest version of the API that is served, if any is.
pub(in crate::operator) async fn served(client: &Client) -> Result<Option<GroupVersion>, Error> {
    let path = format!("/apis/{GROUP}");
    let request = http::Request::get(path).body(Vec::new()).expect("a path is a request");
    match client.request::<APIGroup>(request).await {
        Ok(group) => Ok(newest(&group.versions)),
        // By the code: the answer for a group that is not served is no JSON, and so has no reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(Error::observe("the API of group snapshots")(error)),
    }
}

fn newest(versions: &[GroupVersionForDiscovery]) -> Option<GroupVersion> {
    let known = |it: &GroupVersionForDiscovery| serde_json::from_value(it.version.clone().into()).ok();
    versions.iter().filter_map(known).max()
}

/// The group snapshot class of each driver: the default one, or the first by name.
pub(super) async fn classes(version: GroupVersion, client: &Client) -> Result<BTreeMap<String, GroupClass>, Error> {
    let mut classes = list("VolumeGroupSnapshotClass", version, None, "", client).await?;
    let default = |it: &DynamicObject| {
        it.annotations().get("groupsnapshot.storage.kubernetes.io/is-default-class").is_some_and(|it| it == "true")
    };
    classes.sort_by_key(|it| (!default(it), it.name_any()));
    let mut by_driver = BTreeMap::new();
    for class in classes {
        if let Some(driver) = class.data["driver"].as_str() {
            let found = || GroupClass { name: class.name_any(), version };
            by_driver.entry(driver.to_owned()).or_insert_with(found);
        }
    }
    Ok(by_driver)
}

/// A group snapshot of ours in a namespace that was deleted, and does not go.
pub(super) async fn stuck(version: GroupVersion, namespace: &str, client: &Client) -> Result<Option<String>, Error> {
    let ours = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
    let listed = list("VolumeGroupSnapshot", version, Some(namespace), &ours, client).await?;
    let since = Timestamp::now() - GOING;
    let stuck = |it: &&DynamicObject| it.metadata.deletion_timestamp.as_ref().is_some_and(|it| it.0 < since);
    Ok(listed.iter().find(stuck).map(ResourceExt::name_any))
}

/// A run's group snapshots, by driver.
pub(super) async fn of_run(
    groups: &[GroupInPoint],
    run: &Run,
    context: &Context,
) -> Result<BTreeMap<String, GroupSeen>, Error> {
    let mut seen = BTreeMap::new();
    for group in groups {
        let name = run.derived(&made_for(&group.driver));
        let snapshots = api("VolumeGroupSnapshot", group.version, Some(&run.namespace), &context.client);
        let found = snapshots.get_opt(&name).await.map_err(Error::observe("the group snapshot"))?;
        // One that is going is no use, and can't be asked for anew before it has gone.
        let Some(found) = found.filter(|it| it.metadata.deletion_timestamp.is_none()) else { continue };
        let bound = match found.data["status"]["boundVolumeGroupSnapshotContentName"].as_str() {
            Some(name) => {
                let contents = api("VolumeGroupSnapshotContent", group.version, None, &context.client);
                contents.get_opt(name).await.map_err(Error::observe("VolumeGroupSnapshotContent"))?
            }
            None => None,
        };
        let mut it = group_seen(&found, bound.as_ref());
        if it.cut_at.is_some() {
            it.members = members(&found, context).await?;
        }
        seen.insert(group.driver.clone(), it);
    }
    Ok(seen)
}

/// A group snapshot, of which only its content tells what the driver has done as soon as it is done.
fn group_seen(group: &DynamicObject, content: Option<&DynamicObject>) -> GroupSeen {
    let message = |it: &DynamicObject| it.data["status"]["error"]["message"].as_str().map(ToOwned::to_owned);
    let handles = |it: &DynamicObject| it.data["spec"]["source"]["volumeHandles"].as_array().map_or(0, Vec::len);
    let cut_at = |it: &DynamicObject| it.data["status"]["creationTime"].as_str()?.parse().ok();
    let retained = |it: &&DynamicObject| it.data["spec"]["deletionPolicy"] == "Retain";
    GroupSeen {
        volumes: content.map(handles),
        cut_at: content.and_then(cut_at),
        ready: group.data["status"]["readyToUse"] == true,
        error: content.and_then(message).or_else(|| message(group)),
        retained: content.filter(retained).map(ResourceExt::name_any),
        members: BTreeMap::new(),
    }
}

/// The snapshots of a group, by claim. They have no label that they could be listed by.
async fn members(group: &DynamicObject, context: &Context) -> Result<BTreeMap<String, SnapshotSeen>, Error> {
    let namespace = group.namespace().unwrap_or_default();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshot"));
    let snapshots: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &resource);
    let (mut found, mut members) = (Vec::new(), BTreeMap::new());
    let keep = |it| {
        if is_member(&it, group) {
            found.push(it);
        }
    };
    each(&snapshots, ListParams::default(), "VolumeSnapshots", keep).await?;
    for member in &found {
        if let Some(claim) = member.data["spec"]["source"]["persistentVolumeClaimName"].as_str() {
            members.insert(claim.to_owned(), snapshot_seen(member, context).await?);
        }
    }
    Ok(members)
}

/// The group owns its members from the start; their own status names it only later.
fn is_member(snapshot: &DynamicObject, group: &DynamicObject) -> bool {
    let owned = snapshot.owner_references().iter().any(|it| Some(&it.uid) == group.metadata.uid.as_ref());
    let named = snapshot.data["status"]["volumeGroupSnapshotName"].as_str();
    owned || named.is_some() && named == group.metadata.name.as_deref()
}

/// What stands of a run's group snapshots, and is not going: where its driver knows none, one never goes.
pub(super) async fn made(groups: &[GroupInPoint], run: &Run, client: &Client) -> Result<Vec<ObjectKey>, Error> {
    let stands = |it: &DynamicObject| it.metadata.deletion_timestamp.is_none();
    let mut keys = Vec::new();
    for group in groups {
        let name = run.derived(&made_for(&group.driver));
        let snapshots = api("VolumeGroupSnapshot", group.version, Some(&run.namespace), client);
        let found = snapshots.get_opt(&name).await.map_err(Error::observe("the group snapshot"))?;
        if found.is_some_and(|it| stands(&it)) {
            keys.push(group_key(group.version, &run.namespace, &name));
        }
    }
    if let Some(version) = groups.first().map(|it| it.version) {
        let contents = contents(version, &format!("{RUN}={}", run.uid), client).await?;
        let contents = contents.iter().filter(|it| stands(it));
        keys.extend(contents.map(|it| group_content_key(version, &it.name_any())));
    }
    Ok(keys)
}

/// Every group snapshot with these labels.
pub(in crate::operator) async fn snapshots(
    version: GroupVersion,
    labels: &str,
    client: &Client,
) -> Result<Vec<DynamicObject>, Error> {
    list("VolumeGroupSnapshot", version, None, labels, client).await
}

/// Every content of a group snapshot with these labels.
pub(in crate::operator) async fn contents(
    version: GroupVersion,
    labels: &str,
    client: &Client,
) -> Result<Vec<DynamicObject>, Error> {
    list("VolumeGroupSnapshotContent", version, None, labels, client).await
}

/// The claims that a run has marked, each with its resource version.
pub(super) async fn marked(
    groups: &[GroupInPoint],
    application: &str,
    run: &Run,
    client: &Client,
) -> Result<Vec<(String, Option<String>)>, Error> {
    let names: Vec<_> = groups.iter().map(|it| run.derived(&made_for(&it.driver))).collect();
    let with = ListParams::default().labels(&format!("{} in ({})", mark(application), names.join(",")));
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &run.namespace);
    let claims = all(&claims, with, "marked claims").await?;
    Ok(claims.into_iter().map(|it| (it.name_any(), it.metadata.resource_version)).collect())
}

async fn list(
    kind: &str,
    version: GroupVersion,
    namespace: Option<&str>,
    labels: &str,
    client: &Client,
) -> Result<Vec<DynamicObject>, Error> {
    // The versions of a group are those of all of its kinds: this one may not have it.
    all_if_served(&api(kind, version, namespace, client), ListParams::default().labels(labels), kind).await
}

fn api(kind: &str, version: GroupVersion, namespace: Option<&str>, client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, version.as_str(), kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use serde_json::json;

    use super::*;
    use crate::operator::played;

    #[tokio::test]
    async fn of_the_versions_that_are_served_the_newest_that_is_known_is_used() {
        for (versions, newest) in [
            (vec!["v1beta1", "v1beta2", "v1", "v2"], Some(GroupVersion::V1)),
            (vec!["v1beta2", "v1beta1"], Some(GroupVersion::V1beta2)),
            (vec!["v1alpha1"], None),
        ] {
            let of = |it: &str| json!({"groupVersion": format!("{GROUP}/{it}"), "version": it});
            let versions: Vec<_> = versions.into_iter().map(of).collect();
            let answer = json!({"kind": "APIGroup", "name": GROUP, "versions": versions}).to_string();
            let router = Router::new().route(&format!("/apis/{GROUP}"), get(|| async move { answer }));
            assert_eq!(served(&played::client(router).await).await.unwrap(), newest);
        }
        assert_eq!(served(&played::client(Router::new()).await).await.unwrap(), None, "a cluster without them");
    }

    #[test]
    fn a_group_is_cut_as_soon_as_its_content_says_so() {
        let object = |it| serde_json::from_value::<DynamicObject>(it).unwrap();
        let group = object(json!({"metadata": {}, "status": {"boundVolumeGroupSnapshotContentName": "c"}}));
        let content = |status| {
            object(json!({"metadata": {"name": "c"}, "status": status,
                "spec": {"deletionPolicy": "Retain", "source": {"volumeHandles": ["a", "b"]}}}))
        };
        assert_eq!(group_seen(&group, None), GroupSeen::default());
        let asked = group_seen(&group, Some(&content(json!(null))));
        assert_eq!((asked.volumes, asked.cut_at, asked.retained.as_deref()), (Some(2), None, Some("c")));
        let refused = group_seen(&group, Some(&content(json!({"error": {"message": "no"}}))));
        assert_eq!(refused.error.as_deref(), Some("no"));
        let cut = group_seen(&group, Some(&content(json!({"creationTime": "2027-01-15T08:00:00Z"}))));
        assert_eq!((cut.cut_at, cut.ready), (Some("2027-01-15T08:00:00Z".parse().unwrap()), false));
        let ready = object(json!({"metadata": {}, "status": {"readyToUse": true}}));
        assert!(group_seen(&ready, None).ready);
    }

    #[test]
    fn a_member_is_known_before_its_status_names_the_group() {
        let group = json!({"metadata": {"name": "g", "uid": "1"}});
        let group = serde_json::from_value(group).unwrap();
        let member = |uid: &str, name: Option<&str>| {
            let owner = json!({"apiVersion": "x/v1", "kind": "VolumeGroupSnapshot", "name": "g", "uid": uid});
            let snapshot =
                json!({"metadata": {"ownerReferences": [owner]}, "status": {"volumeGroupSnapshotName": name}});
            is_member(&serde_json::from_value(snapshot).unwrap(), &group)
        };
        assert!(member("1", None) && member("0", Some("g")));
        assert!(!member("0", None) && !member("0", Some("h")), "one of that name that is gone");
    }

    #[tokio::test]
    async fn a_driver_with_several_classes_has_its_default_one() {
        let class = |name: &str, driver: &str, default: &str| {
            let annotations = json!({"groupsnapshot.storage.kubernetes.io/is-default-class": default});
            json!({"metadata": {"name": name, "annotations": annotations}, "driver": driver})
        };
        let all = json!({"metadata": {}, "items": [
            class("b", "one", "false"), class("c", "one", "true"), class("a", "one", "false"), class("z", "two", "false"),
        ]})
        .to_string();
        let path = format!("/apis/{GROUP}/v1beta2/volumegroupsnapshotclasses");
        let client = played::client(Router::new().route(&path, get(|| async move { all }))).await;
        let classes = classes(GroupVersion::V1beta2, &client).await.unwrap();
        let names: Vec<_> = classes.iter().map(|(driver, it)| (driver.as_str(), it.name.as_str())).collect();
        assert_eq!(names, [("one", "c"), ("two", "z")]);
    }
}
