//! What `reprise vault key …`, inside the operator's pod, answers to `kubectl reprise key …`, outside of it.
//!
//! Data only: it travels as JSON on the program's output. Some of it is secret, and is meant for the person who asked.

use serde::{Deserialize, Serialize};

/// The keys of a vault.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyList {
    /// The vault's own identity.
    pub vault_id: String,
    /// Its keys.
    pub keys: Vec<ListedKey>,
    /// For how many offline recipients its root is stored.
    pub recipients: usize,
}

/// A key of a vault.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ListedKey {
    /// Its id.
    pub id: String,
    /// When it became one.
    pub created: String,
    /// Why.
    pub note: String,
    /// The regions that were last seen with it.
    pub regions: Vec<String>,
}

/// A key of a vault, itself.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WholeKey {
    /// The vault's own identity.
    pub vault_id: String,
    /// The key's id.
    pub id: String,
    /// The key.
    pub key: String,
}

/// What reads one application's data, and nothing else.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationKeys {
    /// The namespace.
    pub namespace: String,
    /// The application.
    pub application: String,
    /// The key that the other two come of: 64 hexadecimal digits.
    pub key: String,
    /// The password of the repository that its volumes are in.
    pub repository_password: String,
    /// The age identity that its objects are encrypted to.
    pub identity: String,
    /// The repository, as restic names it.
    pub repository: String,
    /// Where the objects of its points lie: a URL, or a path in the operator's pod.
    pub manifests: String,
}

/// One key was added, or is there.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyId {
    /// Its id.
    pub id: String,
}

/// The root, stored for offline recipients.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Escrowed {
    /// age files, in base64.
    pub files: Vec<String>,
}
