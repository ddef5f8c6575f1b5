//! How health is judged: probes.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Span, seconds};

/// How health is judged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct HealthSettings {
    /// What is asked, from where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 20))]
    pub probes: Vec<Probe>,
    /// When a bad verdict is believed.
    #[serde(default)]
    pub confirm: Confirm,
}

/// When a bad verdict is believed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Confirm {
    /// From how many vantage points it must look bad before an automatic failover: the standby that would take over
    /// is one, the holder the other; a holder that has gone silent counts as one that looks bad. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 2))]
    pub vantages: u32,
}

impl Default for Confirm {
    fn default() -> Self {
        Self { vantages: two() }
    }
}

/// One question that is asked again and again. Exactly one of `http`, `tcp` and `workload`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.http), has(self.tcp), has(self.workload)].filter(it, it).size() == 1")
    .message("a probe has exactly one of http, tcp and workload"))]
#[x_kube(validation = Rule::new("self.failures <= self.of").message("probe.failures cannot be greater than probe.of"))]
#[x_kube(validation = Rule::new("duration(self.timeout) <= duration(self.interval) && duration(self.timeout) >= duration('1s')")
    .message("probe.timeout must be at least 1s and at most probe.interval: probes of one kind never overlap"))]
pub struct Probe {
    /// Its name in status and events.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// How often it is asked. Default `10s`.
    #[serde(default = "seconds::<10>")]
    pub interval: Span,
    /// How long an answer may take. Default `3s`.
    #[serde(default = "seconds::<3>")]
    pub timeout: Span,
    /// It is failing when this many of the last `of` answers were bad. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 60))]
    pub failures: u32,
    /// How many answers are looked at. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 60))]
    pub of: u32,
    /// Ask by HTTP, from every region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// Open a TCP connection, from every region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// Ask the API server whether a workload is ready, in the region that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadProbe>,
}

/// A GET request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// The address, through the public name: `https://shop.example.com/healthz`.
    #[schemars(length(max = 2048), regex(pattern = "^https?://[^/ ]+"))]
    pub url: String,
    /// The status codes that are good. Default 200.
    #[serde(default = "ok_only")]
    #[schemars(length(min = 1, max = 20))]
    pub status: Vec<u16>,
    /// A text that the first 64 KiB of the body must hold. Default: any body is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub contains: Option<String>,
}

/// A connection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct TcpProbe {
    /// A name or an address.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// A workload of the application's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct WorkloadProbe {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kinds of workload that know whether they are ready.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

const fn two() -> u32 {
    2
}

const fn three() -> u32 {
    3
}

fn ok_only() -> Vec<u16> {
    vec![200]
}
