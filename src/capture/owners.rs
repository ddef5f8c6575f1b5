//! The identities that owners have here: each is asked for once.

use std::{collections::HashMap, sync::Mutex};

use kube::{
    Client,
    api::GetParams,
    core::{PartialObjectMeta, Request},
};
use serde_json::Value;

use super::{
    call::{self, CallError},
    object::segment,
    prepare::Setup,
};

/// So many identities are remembered; another one is asked for anew.
const REMEMBERED: usize = 10_000;

/// Identities by version, kind and name; none of those that are not there.
#[derive(Default)]
pub struct Owners {
    known: Mutex<HashMap<[String; 3], Option<String>>>,
}

impl Owners {
    /// The identity of an owner, by the reference to it: of the object of that name in the same namespace, or in none.
    pub async fn identity(&self, client: &Client, setup: &Setup, owner: &Value) -> Result<Option<String>, CallError> {
        let text = |field: &str| owner[field].as_str().unwrap_or_default().to_owned();
        let key @ [version, kind, name] = &[text("apiVersion"), text("kind"), text("name")];
        if let Some(known) = self.known.lock().expect("no holder of this lock panics").get(key) {
            return Ok(known.clone());
        }
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let Some(resource) = setup.served.find(group, version, kind) else { return Ok(None) };
        let path = Request::new(resource.path(&setup.to));
        let name = segment(name);
        let uid = match call::object(client, || path.get(&name, &GetParams::default()).map(call::briefly)).await {
            Ok(body) => {
                let live: PartialObjectMeta = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
                live.metadata.uid.filter(|_| live.metadata.deletion_timestamp.is_none())
            }
            Err(error) if error.code() == Some(404) => None,
            Err(error) => return Err(error),
        };
        let mut known = self.known.lock().expect("no holder of this lock panics");
        if known.len() < REMEMBERED {
            known.insert(key.clone(), uid.clone());
        }
        Ok(uid)
    }
}
