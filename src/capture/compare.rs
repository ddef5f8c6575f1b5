//! Whether an object that is there is the one that is wanted, and what makes it that.

use json_patch::{Patch, PatchOperation, ReplaceOperation, jsonptr::PointerBuf};
use serde_json::{Map, Value};

use super::{
    clean::{self, Move},
    discover::Resource,
    object, rules,
};

/// Whether everything that is wanted is there. The server adds defaults, and others add labels: what is there besides
/// does not matter, except in lists, whose order and length mean something. Of owners each must be there, in any order.
#[must_use]
pub fn covers(wanted: &Value, live: &Value) -> bool {
    let owners = wanted.pointer("/metadata/ownerReferences");
    owners.is_none_or(|it| object::with_owners(live, it).is_none()) && covers_but_owners(wanted, live)
}

/// The same, whoever owns it.
#[must_use]
pub fn covers_but_owners(wanted: &Value, live: &Value) -> bool {
    within(wanted, live, true)
}

fn within(wanted: &Value, live: &Value, top: bool) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| match live.get(key) {
            // Owners are compared by themselves.
            Some(there) if top && key == "metadata" => within(&unowned(value), there, false),
            Some(there) => within(value, there, false),
            None => value.is_null() || object::empty(value),
        }),
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len() && wanted.iter().zip(live).all(|(wanted, live)| within(wanted, live, false))
        }
        (wanted, live) => wanted == live,
    }
}

pub(super) fn unowned(metadata: &Value) -> Value {
    let mut metadata = metadata.clone();
    metadata.as_object_mut().map(|it| it.remove("ownerReferences"));
    metadata
}

/// What is wanted, whoever owns it.
pub(super) fn bare(wanted: &Value) -> Value {
    let mut bare = wanted.clone();
    bare["metadata"] = unowned(&wanted["metadata"]);
    bare
}

/// What is there, as it would be captured and cleaned.
pub(super) fn recorded(of: &Resource, live: &Value, namespace: &str) -> Value {
    let mut there = live.clone();
    rules::record(of, &mut there);
    clean::clean(&of.group, &of.kind, &mut there, Move { from: namespace, to: namespace });
    there
}

/// Whether what is there would be captured, and cleaned, as what is wanted; owners aside, which must be there.
#[must_use]
pub fn exact(of: &Resource, wanted: &Value, live: &Value, namespace: &str) -> bool {
    let (bare, there) = (bare(wanted), recorded(of, live, namespace));
    // Both ways: what is empty in one need not be there in the other.
    covers(&bare, &there) && covers(&there, &bare) && covers(wanted, live)
}

/// What makes of the object that is there the one that is wanted, as long as nobody has changed it since.
#[must_use]
pub fn replacement(wanted: &Value, live: &Value) -> Patch {
    let nothing = Map::new();
    let map = |it: &Value| it.as_object().cloned().unwrap_or_else(|| nothing.clone());
    let mut to = map(live);
    let wanted = map(wanted);
    to.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    for (key, value) in &wanted {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            to.insert(key.clone(), value.clone());
        }
    }
    if let Some(Value::Object(metadata)) = to.get_mut("metadata") {
        for field in ["labels", "annotations"] {
            match wanted.get("metadata").and_then(|it| it.get(field)) {
                Some(value) => metadata.insert(field.to_owned(), value.clone()),
                None => metadata.remove(field),
            };
        }
        if let Some(owners) = wanted.get("metadata").and_then(|it| it.get("ownerReferences")) {
            metadata.insert("ownerReferences".to_owned(), owners.clone());
        }
    }
    let mut patch = json_patch::diff(live, &Value::Object(to));
    // As it stands: the API server refuses the patch when another version is there by now.
    let version = ReplaceOperation {
        path: PointerBuf::from_tokens(["metadata", "resourceVersion"]),
        value: live.pointer("/metadata/resourceVersion").cloned().unwrap_or_default(),
    };
    patch.0.insert(0, PatchOperation::Replace(version));
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_there_covers_what_is_wanted_when_nothing_wanted_is_missing() {
        let wanted = json!({"spec": {"ports": [{"port": 80}], "selector": {}}, "metadata": {"labels": {"a": "b"}}});
        let live = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"},
            "metadata": {"labels": {"a": "b", "x": "y"}, "uid": "1"}});
        assert!(covers(&wanted, &live));
        for other in
            [json!({"spec": {"ports": [{"port": 81}]}}), json!({"spec": {"ports": []}}), json!({"data": {"k": "v"}})]
        {
            assert!(!covers(&other, &live), "{other}");
        }
    }

    #[test]
    fn owners_that_others_added_make_no_difference_and_ones_that_lack_do() {
        let owner = |uid: &str| json!({"kind": "App", "name": uid, "uid": uid});
        let object = |owners: Vec<Value>| json!({"metadata": {"name": "a", "ownerReferences": owners}});
        assert!(covers(&object(vec![owner("1")]), &object(vec![owner("2"), owner("1")])));
        assert!(!covers(&object(vec![owner("1")]), &object(vec![owner("2")])));
        assert!(covers(&object(vec![]), &object(vec![owner("2")])));
    }

    #[test]
    fn a_replacement_leaves_nothing_behind_but_what_the_cluster_keeps() {
        let live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "1", "resourceVersion": "7",
            "labels": {"x": "y"}, "annotations": {"k": "v"}}, "data": {"a": "1", "b": "2"}, "immutable": false});
        let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "labels": {"team": "shop"}}, "data": {"b": "3"}});
        let mut there = live.clone();
        json_patch::patch(&mut there, &replacement(&wanted, &live)).expect("it fits");
        assert_eq!(
            there,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "1", "resourceVersion": "7",
                "labels": {"team": "shop"}}, "data": {"b": "3"}})
        );
        let first = serde_json::to_value(&replacement(&wanted, &live).0[0]).expect("JSON");
        assert_eq!(first, json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}));
        let config = Resource::new("", "v1", "ConfigMap", "configmaps");
        let mut same = wanted.clone();
        same["metadata"]["uid"] = "1".into();
        assert!(exact(&config, &wanted, &same, "shop") && !exact(&config, &wanted, &live, "shop"));
        same["data"]["more"] = "x".into();
        assert!(covers(&wanted, &same) && !exact(&config, &wanted, &same, "shop"));
    }
}
