//! Performs effects: the only place where the operator changes the world. Its rights can be read off here.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::events::{Event, EventType},
};
use serde_json::{Value, json};

use super::{context::Context, shell::FIELD_MANAGER, work};
use crate::{
    capture::fence,
    core::{
        app_key::AppKey,
        effect::{Announcement, Effect, ObjectKey},
    },
};

/// Why an effect failed. Each is tried again with the next pass.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object could not be made.
    #[error("apply {what}: {source}")]
    Apply {
        /// Which.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// An object could not be deleted.
    #[error("delete {what}: {source}")]
    Delete {
        /// Which.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// A volume could not be changed.
    #[error("patch PersistentVolume {name}: {source}")]
    PatchVolume {
        /// Which.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// A claim could not be labelled.
    #[error("label PersistentVolumeClaim {name}: {source}")]
    LabelClaim {
        /// Which.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Workloads could not be stopped or started.
    #[error("stop or start the workloads: {0}")]
    Fence(#[from] fence::FenceError),
    /// The claim is not valid at this moment.
    #[error("not done: this region cannot prove that it holds the claim of {namespace}/{name} with epoch {epoch}")]
    NoClaim {
        /// The application's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The epoch.
        epoch: u64,
    },
}

/// Performs one effect that was wanted for `object`.
///
/// # Errors
/// Why it was not done.
pub async fn perform<K>(effect: Effect, object: &K, context: &Context) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Sync,
{
    match effect {
        Effect::Apply(child) => apply(&child, &context.client).await,
        Effect::Delete(key) => delete(&key, &context.client).await,
        Effect::PatchVolume { name, patch, resource_version } => {
            patch_volume(name, patch, resource_version, &context.client).await
        }
        Effect::LabelClaim { namespace, name, label, value, resource_version } => {
            let mut metadata = json!({"labels": {label: value}});
            if let Some(version) = resource_version {
                metadata["resourceVersion"] = version.into();
            }
            label_claim(&namespace, name, metadata, &context.client).await
        }
        Effect::StopWorkloads { namespace } => {
            fence::stop(&context.client, &namespace).await?;
            Ok(())
        }
        Effect::Begin(work) => {
            if let Some((application, epoch)) = work.needs_claim() {
                claimed(application, epoch, context)?;
            }
            work::begin(*work, object, context);
            Ok(())
        }
        Effect::Wish { application, wish } => {
            // An application that is not looked after (any more) has no claim to wish for.
            let _ = context.keeper.wish(&application, wish);
            Ok(())
        }
        Effect::Announce(announcement) => {
            announce(announcement, object, context).await;
            Ok(())
        }
    }
}

fn claimed(application: &AppKey, epoch: u64, context: &Context) -> Result<(), Error> {
    if context.keeper.valid_now(application, epoch) {
        return Ok(());
    }
    Err(Error::NoClaim { namespace: application.namespace.clone(), name: application.name.clone(), epoch })
}

fn api_of(api_version: &str, kind: &str, namespace: Option<&str>, client: &Client) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn apply(child: &DynamicObject, client: &Client) -> Result<(), Error> {
    let types = child.types.clone().unwrap_or_default();
    let api = api_of(&types.api_version, &types.kind, child.namespace().as_deref(), client);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch(&child.name_any(), &params, &Patch::Apply(child)).await {
        Ok(_) => Ok(()),
        Err(source) => {
            let what = format!("{} {}", types.kind, child.name_any());
            Err(Error::Apply { what, source: Box::new(source) })
        }
    }
}

/// Changes a volume, unless it is another one than was read.
///
/// # Errors
/// When the API server refuses.
pub(super) async fn patch_volume(
    name: String,
    mut patch: serde_json::Value,
    resource_version: Option<String>,
    client: &Client,
) -> Result<(), Error> {
    if let Some(version) = resource_version {
        patch["metadata"]["resourceVersion"] = version.into();
    }
    let api = Api::<PersistentVolume>::all(client.clone());
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        // Somebody changed it since it was read: the next pass reads and decides anew.
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        Err(source) => Err(Error::PatchVolume { name, source: Box::new(source) }),
    }
}

async fn label_claim(namespace: &str, name: String, metadata: Value, client: &Client) -> Result<(), Error> {
    let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&name, &params, &Patch::Merge(json!({ "metadata": metadata }))).await {
        Ok(_) => Ok(()),
        // It is gone, or another than was read: the next pass reads and decides anew.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        Err(source) => Err(Error::LabelClaim { name, source: Box::new(source) }),
    }
}

/// Deletes an object, if it is there.
///
/// # Errors
/// When the API server refuses.
pub(super) async fn delete(key: &ObjectKey, client: &Client) -> Result<(), Error> {
    let api = api_of(key.api_version, key.kind, key.namespace.as_deref(), client);
    // A Job goes after its pods: as long as one of them may still write, the Job is seen, and nothing follows on it.
    let params = if key.kind == "Job" { DeleteParams::foreground() } else { DeleteParams::background() };
    match api.delete(&key.name, &params).await {
        Ok(_) => Ok(()),
        // By the code: the answer for a kind that is not served is no JSON, and so has no reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(Error::Delete { what: format!("{} {}", key.kind, key.name), source: Box::new(source) }),
    }
}

/// Events are for people: one that is lost keeps nothing from being done.
async fn announce<K: Resource<DynamicType = ()>>(it: Announcement, object: &K, context: &Context) {
    let event = Event {
        type_: if it.warning { EventType::Warning } else { EventType::Normal },
        reason: it.reason.to_owned(),
        note: Some(it.note.chars().take(1000).collect()),
        action: "Reprise".to_owned(),
        secondary: None,
    };
    tracing::info!(kind = %K::kind(&()), namespace = object.namespace(), name = object.name_any(), reason = it.reason, note = it.note);
    if let Err(error) = context.recorder.publish(&event, &object.object_ref(&())).await {
        tracing::warn!(%error, "an event could not be published");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Router, body::Bytes, extract::State, http::StatusCode};

    use super::*;
    use crate::{
        core::child::{content_key, job_key, snapshot_key},
        operator::played,
    };

    type Asked = Arc<Mutex<Vec<Value>>>;

    /// An API server that serves no kind at all: its answer is not JSON.
    async fn serves_nothing(asked: Asked) -> Client {
        let answer = |State(asked): State<Asked>, body: Bytes| async move {
            asked.lock().unwrap().push(serde_json::from_slice(&body).unwrap_or_default());
            (StatusCode::NOT_FOUND, "404 page not found\n")
        };
        played::client(Router::new().fallback(answer).with_state(asked)).await
    }

    #[tokio::test]
    async fn in_a_cluster_without_the_snapshot_kinds_none_is_left_to_delete() {
        let client = serves_nothing(Asked::default()).await;
        for key in [snapshot_key("shop", "reprise-1"), content_key("reprise-1")] {
            delete(&key, &client).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_job_is_deleted_only_after_its_pods() {
        let asked = Asked::default();
        let client = serves_nothing(asked.clone()).await;
        delete(&job_key("reprise", "mover"), &client).await.unwrap();
        delete(&snapshot_key("shop", "reprise-1"), &client).await.unwrap();
        let policies: Vec<Value> = asked.lock().unwrap().iter().map(|it| it["propagationPolicy"].clone()).collect();
        assert_eq!(policies, ["Foreground", "Background"]);
    }

    #[tokio::test]
    async fn a_label_is_left_on_a_claim_that_is_another_than_was_read_and_one_that_is_gone_needs_none() {
        for (code, fine) in [(409, true), (404, true), (403, false)] {
            let asked = Asked::default();
            let answer = move |State(asked): State<Asked>, body: Bytes| async move {
                asked.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                let reason =
                    ["Forbidden", "NotFound", "Conflict"][[403, 404, 409].iter().position(|it| *it == code).unwrap()];
                let status = json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code});
                (StatusCode::from_u16(code).unwrap(), status.to_string())
            };
            let client = played::client(Router::new().fallback(answer).with_state(asked.clone())).await;
            let metadata = json!({"labels": {"a": null}, "resourceVersion": "7"});
            let done = label_claim("shop", "data".into(), metadata.clone(), &client).await;
            assert_eq!(done.is_ok(), fine, "{code}: {done:?}");
            assert_eq!(*asked.lock().unwrap(), [json!({ "metadata": metadata })]);
        }
    }
}
