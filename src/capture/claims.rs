//! What of a claim goes back with the objects: labels, annotations and owners, by which operators and people find it.
//!
//! Claims are made by the data plane, with their volumes. What it asks for in `spec` is settled with that, so only what
//! else the bundle says is put on the claim that stands. Nothing is ever taken off: what binds it to its volume, and
//! what its operator has written since, stays. A claim that is not there is not made.

use kube::api::Patch;
use serde_json::{Map, Value, json};

use super::{
    bundle::Id,
    call::{self, CallError},
    differ,
    object::{self, deleting, segment},
    prepare::Ready,
    put::{LOOKS, Outcome, PAUSE, Target, merging},
};
use crate::api::restoring::OnConflict;

/// The maps that are put on a claim.
const MAPS: [&str; 2] = ["labels", "annotations"];

/// Leaves of a recorded claim what is put on the one that stands.
pub(super) fn bare(claim: &mut Value) {
    if let Some(fields) = claim.as_object_mut() {
        fields.retain(|field, _| ["apiVersion", "kind", "metadata"].contains(&field.as_str()));
    }
    if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| ["name", "namespace"].iter().chain(&MAPS).any(|it| it == field));
    }
}

/// What a claim that stands has otherwise than the recorded one.
#[derive(Debug, Default, PartialEq)]
struct Gap {
    /// What is put on it: metadata of a merge patch.
    put: Map<String, Value>,
    /// What it says something else of, and is left.
    left: Vec<String>,
}

/// What a claim lacks is put on it, whatever is said of conflicts: the data plane made it a moment ago, with nothing on
/// it. `on_conflict` is about what it says otherwise.
fn gap(wanted: &Value, live: &Value, on_conflict: OnConflict) -> Gap {
    let overwrites = match on_conflict {
        OnConflict::Update | OnConflict::Replace => true,
        OnConflict::Skip | OnConflict::Fail => false,
    };
    let mut gap = Gap::default();
    for field in MAPS {
        let (wanted, there) = (&wanted["metadata"][field], &live["metadata"][field]);
        let mut put = Map::new();
        for (key, value) in wanted.as_object().into_iter().flatten() {
            match there.get(key) {
                Some(it) if it == value => {}
                Some(_) if !overwrites => gap.left.push(format!("{field}[{key}]")),
                Some(_) | None => drop(put.insert(key.clone(), value.clone())),
            }
        }
        if !put.is_empty() {
            gap.put.insert(field.to_owned(), put.into());
        }
    }
    // Several owners may be there already, made by their operator: each that is wanted is added.
    if let Some(owners) =
        wanted.pointer("/metadata/ownerReferences").and_then(|wanted| object::with_owners(live, wanted))
    {
        gap.put.insert("ownerReferences".to_owned(), owners);
    }
    gap
}

/// What is told of a claim that keeps what it says.
fn kept(left: &[String], on_conflict: OnConflict) -> Outcome {
    Outcome::Not(
        format!("it is there and says something else in {}, and onConflict is {on_conflict:?}", left.join(", ")),
        false,
    )
}

/// What would become of a claim.
pub(super) fn look(ready: &Ready, live: Option<&Value>, on_conflict: OnConflict) -> Outcome {
    let Some(live) = live.filter(|it| !deleting(it)) else { return Outcome::LeftToData };
    let Gap { put, left } = gap(&ready.json, live, on_conflict);
    match on_conflict {
        OnConflict::Fail if !left.is_empty() => Outcome::WouldChange(differ::text(&left.into_iter().collect())),
        _ if !left.is_empty() => kept(&left, on_conflict),
        _ if put.is_empty() => Outcome::Unchanged,
        // That is no conflict: nothing that it says is changed.
        OnConflict::Fail => Outcome::Unchanged,
        OnConflict::Skip | OnConflict::Update | OnConflict::Replace => {
            Outcome::WouldChange(differ::text(&differ::missing(&json!({"metadata": put}), live)))
        }
    }
}

impl Target<'_> {
    /// Puts on the claim that stands what the bundle says of it.
    pub(super) async fn dress(
        &self,
        id: &Id,
        ready: &mut Ready,
        notes: &mut Vec<&'static str>,
    ) -> Result<Outcome, CallError> {
        if !ready.orphan {
            self.own(ready, notes).await?;
        }
        let (on_conflict, name) = (self.setup.options.on_conflict, segment(&id.name));
        let mut last = None;
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let Some(live) = self.read(id, ready).await?.filter(|it| !deleting(it)) else {
                return Ok(Outcome::LeftToData);
            };
            let Gap { mut put, left } = gap(&ready.json, &live, on_conflict);
            let done = if put.is_empty() { Outcome::Unchanged } else { Outcome::Updated };
            if !put.is_empty() {
                put.insert("resourceVersion".to_owned(), live["metadata"]["resourceVersion"].clone());
                let change = Patch::Merge(json!({"metadata": put}));
                let path = &ready.path;
                match call::object(self.client, || path.patch(&name, &merging(), &change).map(call::briefly)).await {
                    Ok(_) => {}
                    Err(error) if matches!(error.code(), Some(404 | 409)) => {
                        last = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(if left.is_empty() { done } else { kept(&left, on_conflict) });
        }
        Err(last.expect("it was looked at"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Value {
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "db-1", "namespace": "shop", "labels": {"cluster": "db"}, "annotations": {"serial": "1"}},
            "spec": {"selector": {"matchLabels": {"disk": "a"}}, "storageClassName": "fast"},
        });
        bare(&mut claim);
        claim
    }

    fn live(labels: &Value) -> Value {
        json!({
            "metadata": {"name": "db-1", "labels": labels, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": "pvc-1"},
        })
    }

    #[test]
    fn a_claim_that_the_data_plane_made_gets_what_it_lacks_whatever_is_said_of_conflicts() {
        assert_eq!(recorded().get("spec"), None, "what it asks for is settled with its volume");
        for way in [OnConflict::Skip, OnConflict::Update, OnConflict::Replace, OnConflict::Fail] {
            let gap = gap(&recorded(), &live(&json!({})), way);
            let put = json!({"labels": {"cluster": "db"}, "annotations": {"serial": "1"}});
            assert_eq!((Value::from(gap.put), gap.left.len()), (put, 0), "{way:?}");
        }
    }

    #[test]
    fn what_a_claim_says_otherwise_is_changed_or_told_and_what_it_has_besides_stays() {
        let there = live(&json!({"cluster": "other", "mine": "x"}));
        for way in [OnConflict::Update, OnConflict::Replace] {
            let gap = gap(&recorded(), &there, way);
            assert_eq!(gap.put["labels"], json!({"cluster": "db"}), "a merge: {way:?} takes nothing off");
        }
        let gap = gap(&recorded(), &there, OnConflict::Skip);
        assert_eq!((gap.put.get("labels"), gap.left), (None, vec!["labels[cluster]".to_owned()]));
    }

    #[test]
    fn owners_are_added_to_those_that_are_there() {
        let mut wanted = recorded();
        wanted["metadata"]["ownerReferences"] = json!([{"kind": "Cluster", "name": "db", "uid": "new"}]);
        let mut there = live(&json!({"cluster": "db"}));
        there["metadata"]["ownerReferences"] = json!([{"kind": "App", "name": "a", "uid": "1"}]);
        let owners = gap(&wanted, &there, OnConflict::Skip).put["ownerReferences"].clone();
        assert_eq!((owners[0]["uid"].as_str(), owners[1]["uid"].as_str()), (Some("1"), Some("new")));
        there["metadata"]["ownerReferences"] = owners;
        assert_eq!(gap(&wanted, &there, OnConflict::Skip).put.get("ownerReferences"), None);
    }
}
