//! Dumps: commands of the application's owner, run in pods of the application's own namespace.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Span, seconds};

/// A command that writes all data of a database to its standard output, and one that reads it back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Dump {
    /// Its name in points.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// How old the dump in a point may be: one that is younger is not made anew. At least `1m`. Without it, each point
    /// makes its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m')").message("backup.dumps.every must be at least 1m, and written in h, m and s; without it each point makes its own dump"))]
    pub every: Option<Span>,
    /// The pods it may run in: the first one by name that is running and ready is taken.
    pub pods: PodSelector,
    /// The container. Default: the one that kubectl would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// The command that writes the dump to its standard output: `[pg_dump, -Fc, orders]`. Nothing adds a shell to it.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub dump: Vec<String>,
    /// The command that reads the dump from its standard input: `[pg_restore, --clean, --if-exists, -d, orders]`.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub load: Vec<String>,
    /// Whether a failover or a restore of the whole point loads it. Default `Auto`.
    #[serde(default)]
    pub load_on_restore: LoadOnRestore,
    /// How long either may take. Default `1h`.
    #[serde(default = "seconds::<3600>")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("backup.dumps.timeout must be 1s to 24h, written in h, m and s"))]
    pub timeout: Span,
    /// A dump of more bytes than this is broken off, and missing from its point. Default: any size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_bytes: Option<i64>,
}

/// Whether a dump is loaded when its point is restored.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadOnRestore {
    /// When the point has no volume that the dump's pods mount: its data is nowhere else then.
    #[default]
    Auto,
    /// Whatever volumes are restored.
    Always,
    /// It is left to people.
    Never,
}

/// Pods of the application's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodSelector {
    /// The labels that a pod must have, all of them.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}
