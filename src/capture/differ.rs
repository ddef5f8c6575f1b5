//! Which fields of an object that is there are not as they are wanted: their paths, for people, and no values.
//!
//! It compares as `compare` does, and tells what made the difference. Whoever reads of it may not be one who may read the
//! object: what is in the fields is left out, and told by `kubectl reprise diff` to those who may.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    compare::{bare, recorded, unowned},
    discover::Resource,
    object,
};

/// So many fields of an object are named, each with so many letters at most.
const FIELDS: usize = 8;
const LETTERS: usize = 80;

/// The fields that `compare::covers` misses.
#[must_use]
pub fn missing(wanted: &Value, live: &Value) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let owners = wanted.pointer("/metadata/ownerReferences");
    if owners.is_some_and(|it| object::with_owners(live, it).is_some()) {
        fields.insert("metadata.ownerReferences".to_owned());
    }
    gather(wanted, live, "", &mut fields);
    fields
}

/// The fields that `compare::exact` finds to differ: also those that are there and not wanted.
#[must_use]
pub fn inexact(of: &Resource, wanted: &Value, live: &Value, namespace: &str) -> BTreeSet<String> {
    let mut fields = missing(wanted, live);
    let (bare, there) = (bare(wanted), recorded(of, live, namespace));
    gather(&bare, &there, "", &mut fields);
    gather(&there, &bare, "", &mut fields);
    fields
}

/// In a few words.
#[must_use]
pub fn text(fields: &BTreeSet<String>) -> String {
    let named: Vec<String> = fields.iter().take(FIELDS).map(|it| it.chars().take(LETTERS).collect()).collect();
    match fields.len() - named.len() {
        0 => named.join(", "),
        more => format!("{}, and {more} more", named.join(", ")),
    }
}

fn gather(wanted: &Value, live: &Value, at: &str, fields: &mut BTreeSet<String>) {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            for (key, value) in wanted {
                let path = below(at, key);
                match live.get(key) {
                    // Owners are compared by themselves.
                    Some(there) if path == "metadata" => gather(&unowned(value), there, &path, fields),
                    Some(there) => gather(value, there, &path, fields),
                    None if value.is_null() || object::empty(value) => {}
                    None => drop(fields.insert(path)),
                }
            }
        }
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => {
            for (index, (wanted, live)) in wanted.iter().zip(live).enumerate() {
                gather(wanted, live, &format!("{at}[{index}]"), fields);
            }
        }
        (wanted, live) if wanted == live => {}
        _ => drop(fields.insert(at.to_owned())),
    }
}

/// A key may hold anything: what would be read as more than one, or steer a terminal, is quoted.
fn below(at: &str, key: &str) -> String {
    let plain = key.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_'));
    match (plain, at) {
        (true, "") => key.to_owned(),
        (true, at) => format!("{at}.{key}"),
        (false, at) => format!("{at}[{key:?}]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::capture::compare::{covers, exact};

    #[test]
    fn the_fields_that_would_be_changed_are_named_and_what_is_in_them_is_not() {
        let wanted = json!({"metadata": {"labels": {"app.kubernetes.io/name": "a"}}, "data": {"password": "s3cret", "same": "x"},
            "spec": {"ports": [{"port": 80}], "replicas": 2, "none": {}}});
        let live = json!({"metadata": {"uid": "1"}, "data": {"password": "older", "same": "x", "more": "y"},
            "spec": {"ports": [{"port": 81, "protocol": "TCP"}], "replicas": 2}});
        let told = text(&missing(&wanted, &live));
        assert_eq!(told, "data.password, metadata.labels, spec.ports[0].port");
        let labelled = json!({"metadata": {"labels": {"app.kubernetes.io/name": "b"}}});
        assert_eq!(
            text(&missing(&wanted, &labelled).into_iter().skip(1).collect()),
            "metadata.labels[\"app.kubernetes.io/name\"], spec"
        );
        assert_eq!(covers(&wanted, &wanted), missing(&wanted, &wanted).is_empty());
    }

    #[test]
    fn what_a_replacement_would_take_away_is_named_too() {
        let config = Resource::new("", "v1", "ConfigMap", "configmaps");
        let object =
            |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
        let (wanted, live) = (object(json!({"a": "1"})), object(json!({"a": "1", "b": "2"})));
        assert!(covers(&wanted, &live) && !exact(&config, &wanted, &live, "shop"));
        assert_eq!(text(&inexact(&config, &wanted, &live, "shop")), "data.b");
    }

    #[test]
    fn an_object_that_differs_everywhere_fills_no_status() {
        let data: serde_json::Map<String, Value> = (0..500).map(|it| (format!("{it:0>300}"), it.into())).collect();
        let told = text(&missing(&json!({"data": data}), &json!({"data": {}})));
        assert!(told.len() < 1_000 && told.ends_with(", and 492 more"), "{told}");
    }
}
