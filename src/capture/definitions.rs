//! Definitions of kinds: whether one serves what is needed, and how long it takes until new ones do.

use std::time::Duration;

use kube::{Client, api::GetParams, core::Request};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    bundle::{Id, Index},
    call::{self, CallError},
    discover::{self, Discovered},
    object::segment,
};

/// How long new definitions may take until they are served.
const DEADLINE: Duration = Duration::from_mins(1);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Whether an object is one.
#[must_use]
pub fn is_one(id: &Id) -> bool {
    (id.group.as_str(), id.kind.as_str()) == ("apiextensions.k8s.io", "CustomResourceDefinition")
}

/// Whether a definition that is there serves the version that the bundle's objects are written in.
#[must_use]
pub fn serves(live: &Value, index: &Index) -> bool {
    let (group, kind) = (&live["spec"]["group"], &live["spec"]["names"]["kind"]);
    let served = |version: &str| {
        let versions = live["spec"]["versions"].as_array();
        versions.into_iter().flatten().any(|it| it["name"] == version && it["served"] == true)
    };
    let mut needed = index.kinds.iter().filter(|it| it.group.as_str() == group && it.kind.as_str() == kind);
    needed.all(|it| served(&it.version))
}

/// Waits until the definitions of these names are established, and discovery tells of their kinds. Also returned is what
/// did not come about in time, for people.
///
/// # Errors
/// When the API server does not say which kinds it serves.
pub async fn wait(client: &Client, index: &Index, made: &[String]) -> Result<(Discovered, Vec<String>), CallError> {
    let end = Instant::now() + DEADLINE;
    let mut kinds = Vec::new();
    let mut late = Vec::new();
    for name in made {
        match established(client, name, end).await? {
            Some(live) => kinds.push((live["spec"]["group"].clone(), live["spec"]["names"]["kind"].clone())),
            None => late.push(format!(
                "CustomResourceDefinition {name}: not established within {} s: look at its conditions",
                DEADLINE.as_secs()
            )),
        }
    }
    let needed: Vec<_> = index
        .kinds
        .iter()
        .filter(|of| kinds.iter().any(|(group, kind)| of.group.as_str() == group && of.kind.as_str() == kind))
        .collect();
    loop {
        let served = discover::discover(client).await?;
        let all = needed.iter().all(|it| served.find(&it.group, &it.version, &it.kind).is_some());
        // What is still missing is told object by object.
        if all || Instant::now() >= end {
            return Ok((served, late));
        }
        sleep(LOOK).await;
    }
}

async fn established(client: &Client, name: &str, end: Instant) -> Result<Option<Value>, CallError> {
    let path = Request::new("/apis/apiextensions.k8s.io/v1/customresourcedefinitions");
    let name = segment(name);
    while Instant::now() < end {
        let body = call::object(client, || path.get(&name, &GetParams::default())).await?;
        let live: Value = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
        let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
        if conditions.into_iter().flatten().any(|it| it["type"] == "Established" && it["status"] == "True") {
            return Ok(Some(live));
        }
        sleep(LOOK).await;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::bundle::{Count, Scope};
    use serde_json::json;

    #[test]
    fn a_definition_serves_what_is_needed_when_it_serves_the_version_that_was_captured() {
        let kinds = vec![Count {
            group: "acme.dev".into(),
            kind: "Widget".into(),
            version: "v1".into(),
            scope: Scope::Namespaced,
            count: 1,
        }];
        let index = Index { kinds, ..Index::default() };
        let live = |kind: &str, version: &str, served: bool| {
            json!({"spec": {"group": "acme.dev", "names": {"kind": kind},
                "versions": [{"name": "v9", "served": true}, {"name": version, "served": served}]}})
        };
        assert!(serves(&live("Widget", "v1", true), &index));
        assert!(!serves(&live("Widget", "v1", false), &index));
        assert!(!serves(&live("Widget", "v2", true), &index));
        assert!(serves(&live("Gadget", "v2", true), &index), "nothing of it is in the bundle");
    }
}
