//! Everything Reprise can do to the world. It is performed in `operator::perform`, and nowhere else.

use std::time::Duration;

use kube::core::DynamicObject;

use super::{app_key::AppKey, claim::state::Wish, work::Work};

/// What the core wants for one object: the status to report, the effects, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<Status> {
    /// Written after the effects, if it differs from what stands.
    pub status: Status,
    /// Performed in order, before the status is written.
    pub effects: Vec<Effect>,
    /// `None` waits for the next change.
    pub recheck: Option<Duration>,
}

/// What a run waits for; and what an effect of its last pass was refused for, which may be the reason.
#[must_use]
pub fn hindered(waits: String, hindrance: Option<&str>) -> String {
    match hindrance {
        Some(refused) => format!("{waits}; refused: {refused}"),
        None => waits,
    }
}

/// One thing done to the world. Each is idempotent: repeated, it meets what the first one made.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make the object, or make it as given: server-side apply under its derived name.
    Apply(Box<DynamicObject>),
    /// Delete the object, if it is there.
    Delete(ObjectKey),
    /// Merge a patch into a `PersistentVolume`.
    PatchVolume {
        /// Its name.
        name: String,
        /// A JSON merge patch.
        patch: serde_json::Value,
        /// The resource version it was decided on: another one refuses the patch.
        resource_version: Option<String>,
    },
    /// Put a label on a `PersistentVolumeClaim`, or take it away.
    LabelClaim {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The label's name.
        label: String,
        /// Its value. `None` takes it away.
        value: Option<String>,
        /// The resource version it was decided on: another one is left as it is.
        resource_version: Option<String>,
    },
    /// Scale every workload of the namespace to zero, remembering its replicas.
    StopWorkloads {
        /// The namespace.
        namespace: String,
    },
    /// Begin work that outlasts one pass, unless it goes on already.
    Begin(Box<Work>),
    /// Say what is wanted of an application's claim, until something else is said.
    Wish {
        /// The application.
        application: AppKey,
        /// What is wanted.
        wish: Wish,
    },
    /// Tell people, on the object's event stream.
    Announce(Announcement),
}

/// A Kubernetes event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Whether somebody should look.
    pub warning: bool,
    /// One word in `CamelCase`.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
}

/// What names one Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// `v1`, `batch/v1`, ...
    pub api_version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace, if its kind has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Effect {
    /// An event that informs.
    pub fn note(reason: &'static str, note: impl Into<String>) -> Self {
        Self::Announce(Announcement { warning: false, reason, note: note.into() })
    }

    /// An event that warns.
    pub fn warn(reason: &'static str, note: impl Into<String>) -> Self {
        Self::Announce(Announcement { warning: true, reason, note: note.into() })
    }
}
