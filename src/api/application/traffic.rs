//! The public name that follows the application.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Span, seconds};

/// The public name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct TrafficSettings {
    /// The `DnsZone` that the name lies in.
    #[schemars(length(min = 1, max = 63))]
    pub zone: String,
    /// The name, without a final dot: `shop.example.com`. It must lie inside the zone.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([a-z0-9_]([-a-z0-9_]*[a-z0-9])?\.)+[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub hostname: String,
    /// How long resolvers may keep the answer: part of the recovery time. Default `30s`.
    #[serde(default = "seconds::<30>")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("traffic.ttl must be 1s to 24h"))]
    pub ttl: Span,
    /// What the name leads to.
    pub target: TrafficTarget,
}

/// What the name leads to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct TrafficTarget {
    /// A Service of the application's namespace, of type `LoadBalancer` (its address or name is published) or
    /// `NodePort` (the address of a ready node is published).
    #[schemars(length(min = 1, max = 63))]
    pub service: String,
}
