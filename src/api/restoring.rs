//! What is said about a restore of objects and of dumps, wherever one is asked for. Data only.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of an object that is there already and says something else than the point. One that says the same is
/// left as it is, and one that is not there is made, whatever stands here.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// It is left as it is, and told as not restored.
    Skip,
    /// It is made to say what the point says. What the point says nothing of stays. This is what a failover does.
    #[default]
    Update,
    /// It is made to be what the point has and nothing else; where Kubernetes does not change it into that, it is deleted
    /// and made anew.
    Replace,
    /// Nothing at all is restored.
    Fail,
}

/// A dump of the point, and whether it was loaded. Written before anything is done about it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DumpLoad {
    /// Its name in `backup.dumps`.
    pub name: String,
    /// The snapshot in the vault.
    pub snapshot: String,
    /// The instant of its data.
    pub consistent_at: Time,
    /// When it was found to be loaded: from then on it is not loaded again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_at: Option<Time>,
    /// Why it is not loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// Bytes that the command was given.
    #[serde(default)]
    pub bytes: u64,
    /// The pod that the command ran in, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The end of its standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// Why it failed, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How often it failed.
    #[serde(default)]
    pub failures: u32,
    /// When it failed, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
}
