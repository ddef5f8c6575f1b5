//! Makes of a recorded object what is sent to the API server. No questions are asked here: it runs beside the sending.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::core::Request;
use serde_json::Value;

use super::{
    apply::Options,
    bundle::{Id, Index, Object},
    claims,
    clean::{self, Move},
    discover::{Discovered, Resource},
    graph::Plan,
    isolate,
    map::{Mapper, Selector},
    order::{self, Way},
    policy::Verdict,
};

/// What a restore knows before it begins. Cheap to clone.
#[derive(Clone)]
pub struct Setup {
    /// The namespace that the objects come from.
    pub from: String,
    /// The one that they go to.
    pub to: String,
    /// What the bundle says about itself.
    pub index: Arc<Index>,
    /// When each object goes back.
    pub plan: Arc<Plan>,
    /// The kinds that are served.
    pub served: Arc<Discovered>,
    /// What is changed in them.
    pub mapper: Mapper,
    /// Which of them.
    pub only: Vec<Selector>,
    /// How they go back.
    pub options: Options,
    /// What was left out of a rehearsal: why, and how many.
    pub left_out: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

/// An object on its way.
pub struct Prepared {
    /// Which one.
    pub id: Id,
    /// What people may want to know about it.
    pub notes: Vec<&'static str>,
    /// What is sent; or why nothing can be.
    pub ready: Result<Ready, String>,
}

/// What is sent.
pub struct Ready {
    /// The kind, as it is served.
    pub resource: Resource,
    /// Where objects of its kind are.
    pub path: Request,
    /// The object.
    pub json: Value,
    /// The object as bytes.
    pub body: Vec<u8>,
    /// Its owners that are in the bundle, as references without identity.
    pub owners: Vec<Value>,
    /// Whether those are written after it was made.
    pub orphan: bool,
    /// What the policy says.
    pub verdict: Verdict,
}

/// Told of objects that lost owners.
pub const NO_OWNER: &str = "owner references were left out: their owners are not there";

impl Setup {
    /// The namespaces that objects come from and go to.
    #[must_use]
    pub fn between(&self) -> Move<'_> {
        Move { from: &self.from, to: &self.to }
    }

    /// Makes an object ready; none when it is not among those that are asked for.
    #[must_use]
    pub fn prepare(&self, object: Object) -> Option<Prepared> {
        let Object { id, version, mut json } = object;
        if !self.only.is_empty() && !self.only.iter().any(|it| it.fits(&id, &json)) {
            return None;
        }
        let refused = match self.options.isolated.then(|| isolate::isolate(&id, &mut json)) {
            Some(isolate::Verdict::LeftOut(why)) => {
                *self.left_out.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
                return None;
            }
            Some(isolate::Verdict::Refused(why)) => Some(why),
            Some(isolate::Verdict::Closed) | None => None,
        };
        if let Some(why) = refused {
            return Some(Prepared { id, notes: Vec::new(), ready: Err(why) });
        }
        let mut notes = Vec::new();
        let ready = self.ready(&id, &version, json, &mut notes);
        Some(Prepared { id, notes, ready })
    }

    fn ready(&self, id: &Id, version: &str, mut json: Value, notes: &mut Vec<&'static str>) -> Result<Ready, String> {
        let Some(resource) = self.served.find(&id.group, version, &id.kind) else {
            let served = Resource::new(&id.group, version, &id.kind, "");
            return Err(format!("{} is not served here: install its definition first", served.api_version()));
        };
        let between = self.between();
        let verdict = self.options.policy.judge(id, &json, between);
        let owners = self.owners(&json, notes);
        clean::clean(&id.group, &id.kind, &mut json, between);
        self.mapper.map(id, &mut json, between)?;
        if order::way(&id.group, &id.kind) == Way::WithData {
            claims::bare(&mut json);
        }
        let body = serde_json::to_vec(&json).map_err(|error| format!("it cannot be written as JSON: {error}"))?;
        let path = Request::new(resource.path(&self.to));
        Ok(Ready { path, resource: resource.clone(), json, body, owners, orphan: self.plan.orphan(id), verdict })
    }

    /// The owners that come back too.
    fn owners(&self, json: &Value, notes: &mut Vec<&'static str>) -> Vec<Value> {
        let all = json.pointer("/metadata/ownerReferences").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let there = |it: &&Value| match (it["kind"].as_str(), it["name"].as_str()) {
            (Some(kind), Some(name)) => self.plan.has_owner(kind, name),
            (None, _) | (_, None) => false,
        };
        let found: Vec<Value> = all.iter().filter(there).cloned().collect();
        if found.len() < all.len() {
            notes.push(NO_OWNER);
        }
        found
    }
}
