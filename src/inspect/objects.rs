//! In what the objects of two points differ, as a unified diff of YAML. What is in Secrets stays there.

use std::{
    cmp::Ordering,
    ops::ControlFlow,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use serde_json::{Value, json};
use similar::TextDiff;

use super::InspectError;
use crate::{
    capture::bundle::{Bundle, BundleError, Object},
    core::vault_answer::{Change, ObjectChange},
};

/// How many objects of each bundle wait to be compared.
const AHEAD: usize = 4;
/// The most text that all diffs together have, in bytes: an answer has a limit.
const TEXT: usize = 8 << 20;
/// Where tools keep what they applied: a second copy of what an object says.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A kind with its group.
pub(super) fn kind_name(group: &str, kind: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") }
}

/// The objects that are not alike, at most `limit`, and whether there are more. Both bundles are read side by side,
/// an object at a time. Blocks.
pub(super) fn compare(
    before: &Bundle,
    after: &Bundle,
    limit: usize,
) -> Result<(Vec<ObjectChange>, bool), InspectError> {
    thread::scope(|scope| {
        let read = |bundle: &Bundle| {
            let (send, objects) = sync_channel(AHEAD);
            let bundle = bundle.clone();
            scope.spawn(move || {
                let pass_on = |object| match send.send(Ok(object)) {
                    Ok(()) => ControlFlow::Continue(()),
                    // Enough was told.
                    Err(_) => ControlFlow::Break(()),
                };
                if let Err(error) = bundle.visit(|_| true, pass_on) {
                    let _ = send.send(Err(error));
                }
            });
            objects
        };
        merge(&read(before), &read(after), limit).map_err(Into::into)
    })
}

type Objects = Receiver<Result<Object, BundleError>>;

fn merge(before: &Objects, after: &Objects, limit: usize) -> Result<(Vec<ObjectChange>, bool), BundleError> {
    let next = |from: &Objects| from.recv().ok().transpose();
    let (mut changes, mut text) = (Vec::new(), 0);
    let (mut old, mut new) = (next(before)?, next(after)?);
    loop {
        let change = match (old.take(), new.take()) {
            (None, None) => return Ok((changes, false)),
            (Some(one), None) => {
                old = next(before)?;
                Some(only(&one, Change::Removed))
            }
            (None, Some(other)) => {
                new = next(after)?;
                Some(only(&other, Change::Added))
            }
            (Some(one), Some(other)) => match one.id.cmp(&other.id) {
                Ordering::Less => {
                    (old, new) = (next(before)?, Some(other));
                    Some(only(&one, Change::Removed))
                }
                Ordering::Greater => {
                    (old, new) = (Some(one), next(after)?);
                    Some(only(&other, Change::Added))
                }
                Ordering::Equal => {
                    (old, new) = (next(before)?, next(after)?);
                    changed(one, other)
                }
            },
        };
        let Some(change) = change else { continue };
        text += change.diff.len();
        if changes.len() == limit || text > TEXT {
            return Ok((changes, true));
        }
        changes.push(change);
    }
}

fn only(object: &Object, change: Change) -> ObjectChange {
    let kind = kind_name(&object.id.group, &object.id.kind);
    ObjectChange { kind, name: object.id.name.clone(), change, diff: String::new() }
}

fn changed(mut old: Object, mut new: Object) -> Option<ObjectChange> {
    if old.json == new.json {
        return None;
    }
    if old.id.group.is_empty() && old.id.kind == "Secret" {
        conceal(&mut old.json, &mut new.json);
    }
    let yaml = |it: &Value| serde_yaml::to_string(it).unwrap_or_default();
    let (one, other) = (yaml(&old.json), yaml(&new.json));
    let diff = TextDiff::from_lines(&one, &other).unified_diff().context_radius(3).to_string();
    Some(ObjectChange { diff, ..only(&new, Change::Changed) })
}

/// Puts stars for the values of a Secret: other ones where they differ.
fn conceal(old: &mut Value, new: &mut Value) {
    for field in ["data", "stringData"] {
        let before = old.get(field).cloned().unwrap_or_default();
        let after = new.get(field).cloned().unwrap_or_default();
        for (object, stars) in [(&mut *old, "*** (before)"), (&mut *new, "*** (after)")] {
            let Some(Value::Object(values)) = object.get_mut(field) else { continue };
            for (name, value) in values {
                let alike = before.get(name) == after.get(name);
                *value = json!(if alike { "***" } else { stars });
            }
        }
    }
    for object in [old, new] {
        if let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") {
            annotations.remove(APPLIED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{
        blocks::Span,
        bundle::{Count, Entry, FORMAT, Id, Index, Namespace, Scope, canonical, write},
    };
    use std::{collections::BTreeMap, io::Write};

    fn bundle(objects: &[(&str, &str, Value)]) -> Bundle {
        let mut sorted = BTreeMap::new();
        let mut counts = BTreeMap::<&str, u64>::new();
        for (kind, name, content) in objects {
            let id =
                Id { group: String::new(), kind: (*kind).into(), namespace: Some("shop".into()), name: (*name).into() };
            let mut json = content.clone();
            json["apiVersion"] = "v1".into();
            json["kind"] = (*kind).into();
            json["metadata"]["name"] = (*name).into();
            json["metadata"]["namespace"] = "shop".into();
            sorted.insert(id, json);
            *counts.entry(kind).or_default() += 1;
        }
        let kinds = counts.iter().map(|(kind, count)| Count {
            group: String::new(),
            kind: (*kind).into(),
            version: "v1".into(),
            scope: Scope::Namespaced,
            count: *count,
        });
        let namespace = Namespace { name: "shop".into(), ..Namespace::default() };
        let count = objects.len() as u64;
        let index = Index { format: FORMAT, namespace, kinds: kinds.collect(), count, ..Index::default() };
        let entries = sorted.keys().map(|id| Entry { id: id.clone(), at: Span::new(0, 0) });
        let text = |entry: &Entry, to: &mut Vec<u8>| to.write_all(&canonical(&sorted[&entry.id])?);
        write(&index, entries, text).expect("a bundle")
    }

    fn config(value: &str) -> Value {
        json!({"data": {"key": value}})
    }

    #[test]
    fn what_was_added_removed_and_changed_is_told_in_order_and_what_is_alike_is_not() {
        let before = bundle(&[
            ("ConfigMap", "a", config("1")),
            ("ConfigMap", "b", config("1")),
            ("ConfigMap", "d", config("1")),
            ("Service", "gone", json!({})),
        ]);
        let after = bundle(&[
            ("ConfigMap", "b", config("2")),
            ("ConfigMap", "c", config("1")),
            ("ConfigMap", "d", config("1")),
        ]);
        let (changes, more) = compare(&before, &after, 10).expect("compared");
        let told: Vec<_> = changes.iter().map(|it| (it.name.as_str(), it.change)).collect();
        let expected =
            [("a", Change::Removed), ("b", Change::Changed), ("c", Change::Added), ("gone", Change::Removed)];
        assert_eq!((told, more), (expected.to_vec(), false));
        assert!(changes[1].diff.contains("-  key: '1'\n+  key: '2'"), "{}", changes[1].diff);
        let (few, more) = compare(&before, &after, 2).expect("compared");
        assert_eq!((few.len(), more), (2, true), "and both readers end");
    }

    #[test]
    fn what_a_secret_holds_is_not_told_only_that_it_differs() {
        let secret = |changed: &str| {
            json!({"data": {"user": "YWRtaW4=", "password": changed},
                "metadata": {"annotations": {APPLIED: changed}}})
        };
        let (before, after) = (bundle(&[("Secret", "s", secret("b2xk"))]), bundle(&[("Secret", "s", secret("bmV3"))]));
        let (changes, _) = compare(&before, &after, 10).expect("compared");
        let diff = &changes[0].diff;
        assert!(diff.contains("-  password: '*** (before)'\n+  password: '*** (after)'"), "{diff}");
        assert!(diff.contains("   user: '***'"), "{diff}");
        assert!(!["b2xk", "bmV3", "YWRtaW4="].iter().any(|it| diff.contains(it)), "{diff}");
    }
}
