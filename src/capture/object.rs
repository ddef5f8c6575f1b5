//! Objects as plain JSON: what is asked of all of them, and how parts are taken out.

use serde_json::{Map, Value};

use crate::core::hex::hex;

/// Whether it is being deleted.
#[must_use]
pub fn deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|it| !it.is_null())
}

/// The name of an object; empty when it has none.
#[must_use]
pub fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// The value of an annotation.
#[must_use]
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// The value of a label.
#[must_use]
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

/// Whether there is nothing in a list or map.
#[must_use]
pub fn empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Drops annotations by their name, or by the prefix of it that ends in a slash.
pub fn drop_annotations(object: &mut Value, names: &[&str]) {
    if let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") {
        annotations
            .retain(|key, _| !names.iter().any(|it| if it.ends_with('/') { key.starts_with(it) } else { key == it }));
    }
}

/// The maps of a list.
pub fn maps(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    list.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Keeps some items of a list, and drops the list when none is left.
pub fn retain(of: &mut Map<String, Value>, list: &str, keep: impl FnMut(&Value) -> bool) {
    if let Some(Value::Array(items)) = of.get_mut(list) {
        items.retain(keep);
        if items.is_empty() {
            of.remove(list);
        }
    }
}

/// A name as part of an address: roles may be called nearly anything.
#[must_use]
pub fn segment(name: &str) -> String {
    let mut done = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            done.push(char::from(byte));
        } else {
            done.extend(['%'].into_iter().chain(hex(&[byte]).to_uppercase().chars()));
        }
    }
    done
}

/// The owners of a live object and those that are wanted, together; none when all of these are among them, by identity.
#[must_use]
pub fn with_owners(live: &Value, wanted: &Value) -> Option<Value> {
    let list = |it: Option<&Value>| it.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut owners = list(live.pointer("/metadata/ownerReferences"));
    let before = owners.len();
    for owner in list(Some(wanted)) {
        if !owners.iter().any(|it| it["uid"] == owner["uid"]) {
            owners.push(owner);
        }
    }
    (owners.len() > before).then_some(Value::Array(owners))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_to_another_address() {
        assert_eq!(segment("system:web.a-b_c"), "system:web.a-b_c");
        assert_eq!(segment("a?b/c d#e"), "a%3Fb%2Fc%20d%23e");
    }
}
