//! Which kinds the API server serves.
//!
//! Only what can be both listed and created is of interest: the rest can't be captured, or can't be put back. Which
//! of these kinds are left out all the same is decided in `rules`.

use futures::future::try_join;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use kube::{Client, client::APIGroupDiscoveryList};

use super::{
    bundle::Scope,
    call::{self, CallError, DEADLINE},
    rules,
};

/// A kind of object in one version, as the API server serves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version within the group.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// Its name in addresses.
    pub plural: String,
    /// Where its objects stand.
    pub scope: Scope,
}

impl Resource {
    /// A kind by its parts, of objects that stand in a namespace.
    #[must_use]
    pub fn new(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        let scope = Scope::Namespaced;
        Self { group: group.into(), version: version.into(), kind: kind.into(), plural: plural.into(), scope }
    }

    /// A kind by its parts, of objects that stand in no namespace.
    #[must_use]
    pub fn of_cluster(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        Self { scope: Scope::Cluster, ..Self::new(group, version, kind, plural) }
    }

    /// `apiVersion` of its objects.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of its objects: those in a namespace, or those of the cluster when it stands in none.
    #[must_use]
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        match self.scope {
            Scope::Namespaced => format!("/{root}/{}/namespaces/{namespace}/{}", self.api_version(), self.plural),
            Scope::Cluster => format!("/{root}/{}/{}", self.api_version(), self.plural),
        }
    }

    /// How people write it: `deployments.apps`.
    #[must_use]
    pub fn name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// What the API server serves, and what it could not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovered {
    /// Kinds that can be listed and created, in every version served; within a group in the server's order of
    /// preference.
    pub resources: Vec<Resource>,
    /// API groups whose kinds are not known since their server does not answer, with the reason.
    pub failed: Vec<String>,
}

impl Discovered {
    /// Each kind once, in the version that its group prefers.
    #[must_use]
    pub fn preferred(&self) -> Vec<&Resource> {
        let mut chosen: Vec<&Resource> = Vec::new();
        for resource in &self.resources {
            if !chosen.iter().any(|it| it.group == resource.group && it.kind == resource.kind) {
                chosen.push(resource);
            }
        }
        chosen.sort();
        chosen
    }

    /// The kind of an object, if it is served in that version.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|it| it.group == group && it.version == version && it.kind == kind)
    }

    fn fail(&mut self, group: &str, version: &str, reason: &str) {
        if rules::group_left_out(group).is_none() {
            self.failed.push(format!("{group}/{version}: {reason}"));
        }
    }
}

/// Asks for everything in two requests; API servers before 1.27 are asked group by group.
///
/// # Errors
/// When the API server does not say which groups there are. A group that does not answer is in `failed`.
pub async fn discover(client: &Client) -> Result<Discovered, CallError> {
    let core = call::ask(DEADLINE, || async { Ok(client.list_core_api_versions_aggregated().await?) });
    let groups = call::ask(DEADLINE, || async { Ok(client.list_api_groups_aggregated().await?) });
    let (core, groups) = try_join(core, groups).await?;
    if core.items.is_empty() {
        return group_by_group(client).await;
    }
    let mut discovered = Discovered::default();
    aggregated(core, &mut discovered);
    aggregated(groups, &mut discovered);
    discovered.failed.sort();
    Ok(discovered)
}

fn aggregated(list: APIGroupDiscoveryList, discovered: &mut Discovered) {
    for group in list.items {
        let name = group.metadata.and_then(|it| it.name).unwrap_or_default();
        for version in group.versions {
            let number = version.version.unwrap_or_default();
            // A stale document with kinds in it is tried: if its server is away, listing them says so, kind by kind.
            if version.freshness.as_deref() == Some("Stale") && version.resources.is_empty() {
                discovered.fail(&name, &number, "its API server does not answer");
            }
            for resource in version.resources {
                let kind = resource.response_kind.and_then(|it| it.kind).unwrap_or_default();
                let plural = resource.resource.unwrap_or_default();
                if !usable(&kind, &plural, &resource.verbs) {
                    continue;
                }
                match resource.scope.as_deref() {
                    Some("Namespaced") => discovered.resources.push(Resource::new(&name, &number, &kind, &plural)),
                    Some("Cluster") => discovered.resources.push(Resource::of_cluster(&name, &number, &kind, &plural)),
                    Some(_) | None => {}
                }
            }
        }
    }
}

async fn group_by_group(client: &Client) -> Result<Discovered, CallError> {
    let mut discovered = Discovered::default();
    let core = call::ask(DEADLINE, || async { Ok(client.list_core_api_versions().await?) }).await?;
    for version in &core.versions {
        let list = call::ask(DEADLINE, || async { Ok(client.list_core_api_resources(version).await?) }).await;
        unaggregated("", version, list, &mut discovered);
    }
    let groups: APIGroupList = call::ask(DEADLINE, || async { Ok(client.list_api_groups().await?) }).await?;
    for group in groups.groups {
        let mut versions = group.versions;
        let preferred = group.preferred_version.map(|it| it.version);
        versions.sort_by_key(|it| Some(&it.version) != preferred.as_ref());
        for version in versions {
            let path = &version.group_version;
            let list = call::ask(DEADLINE, || async { Ok(client.list_api_group_resources(path).await?) }).await;
            unaggregated(&group.name, &version.version, list, &mut discovered);
        }
    }
    discovered.failed.sort();
    Ok(discovered)
}

fn unaggregated(group: &str, version: &str, list: Result<APIResourceList, CallError>, discovered: &mut Discovered) {
    match list {
        Err(error) => discovered.fail(group, version, &error.reason()),
        Ok(list) => discovered
            .resources
            .extend(list.resources.iter().filter(|it| usable(&it.kind, &it.name, &it.verbs)).map(
            |it| if it.namespaced { Resource::new } else { Resource::of_cluster }(group, version, &it.kind, &it.name),
        )),
    }
}

/// Whether objects of it can be read and made; parts of objects (`pods/log`) are none.
fn usable(kind: &str, plural: &str, verbs: &[String]) -> bool {
    let can = |verb: &str| verbs.iter().any(|it| it == verb);
    !kind.is_empty() && !plural.is_empty() && !plural.contains('/') && can("list") && can("create")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn version(version: &str, freshness: &str, kinds: &[&str]) -> Value {
        let resources: Vec<_> = kinds
            .iter()
            .map(|kind| {
                json!({"resource": kind.to_lowercase() + "s", "responseKind": {"kind": kind},
                       "scope": "Namespaced", "verbs": ["create", "list", "get"]})
            })
            .collect();
        json!({"version": version, "freshness": freshness, "resources": resources})
    }

    fn read(groups: &Value) -> Discovered {
        let mut discovered = Discovered::default();
        aggregated(serde_json::from_value(json!({"items": groups})).expect("a list of groups"), &mut discovered);
        discovered
    }

    #[test]
    fn each_kind_is_taken_once_in_the_version_its_group_prefers() {
        let found = read(&json!([{"metadata": {"name": "acme.dev"}, "versions": [
            version("v2", "Current", &["Widget"]), version("v1", "Current", &["Widget", "Gadget"])]}]));
        let preferred: Vec<_> = found.preferred().iter().map(|it| (it.kind.clone(), it.version.clone())).collect();
        assert_eq!(preferred, [("Gadget".into(), "v1".into()), ("Widget".into(), "v2".into())]);
        assert!(found.find("acme.dev", "v1", "Widget").is_some(), "an old version can still be put back");
    }

    #[test]
    fn a_group_without_an_answer_is_named_and_the_others_are_read() {
        let found = read(&json!([
            {"metadata": {"name": "away.dev"}, "versions": [version("v1", "Stale", &[])]},
            {"metadata": {"name": "acme.dev"}, "versions": [version("v1", "Current", &["Widget"])]}]));
        assert_eq!(found.failed, ["away.dev/v1: its API server does not answer"]);
        assert_eq!(found.resources, [Resource::new("acme.dev", "v1", "Widget", "widgets")]);
    }

    #[test]
    fn a_group_that_is_left_out_anyway_may_be_away() {
        let found = read(&json!([{"metadata": {"name": "metrics.k8s.io"}, "versions": [version("v1", "Stale", &[])]}]));
        assert_eq!(found, Discovered::default());
    }

    #[test]
    fn what_cannot_be_listed_or_made_again_is_not_of_interest() {
        let found = read(&json!([{"metadata": {}, "versions": [{"version": "v1", "resources": [
            {"resource": "componentstatuses", "responseKind": {"kind": "ComponentStatus"}, "scope": "Cluster",
                "verbs": ["list"]},
            {"resource": "reviews", "responseKind": {"kind": "Review"}, "scope": "Namespaced", "verbs": ["create"]},
            {"resource": "podmetrics", "responseKind": {"kind": "PodMetrics"}, "scope": "Namespaced", "verbs": ["list"]}
        ]}]}]));
        assert_eq!(found, Discovered::default());
    }

    #[test]
    fn kinds_of_the_cluster_are_told_from_those_in_namespaces() {
        let found = read(&json!([{"metadata": {"name": "acme.dev"}, "versions": [{"version": "v1", "resources": [
            {"resource": "zones", "responseKind": {"kind": "Zone"}, "scope": "Cluster", "verbs": ["create", "list"]}]}]}]));
        assert_eq!(found.resources, [Resource::of_cluster("acme.dev", "v1", "Zone", "zones")]);
    }

    #[test]
    fn paths_and_names_are_those_of_the_api() {
        let (core, apps) =
            (Resource::new("", "v1", "Pod", "pods"), Resource::new("apps", "v1", "Deployment", "deployments"));
        assert_eq!((core.path("shop"), core.name()), ("/api/v1/namespaces/shop/pods".into(), "pods".into()));
        assert_eq!(apps.path("shop"), "/apis/apps/v1/namespaces/shop/deployments");
        assert_eq!(apps.name(), "deployments.apps");
        let class = Resource::of_cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses");
        assert_eq!(class.path("shop"), "/apis/scheduling.k8s.io/v1/priorityclasses");
    }
}
