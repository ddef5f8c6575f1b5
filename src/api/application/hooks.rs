//! Hooks: commands of the application's owner around the instant of the snapshots, run in pods of its own namespace.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PodSelector, Span, seconds};

/// Commands around the instant of the snapshots.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// What is run: each `before` in this order, then the snapshots are taken, then each `after` in the reverse order.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(min = 1, max = 8))]
    pub commands: Vec<Hook>,
    /// How long the application may be held before it is released without its snapshots: the point fails then. From the
    /// first hook on; in each pod, from its own. Default `2m`.
    #[serde(default = "seconds::<120>")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('20m')").message("backup.hooks.holdAtMost must be 1s to 20m, written in h, m and s"))]
    pub hold_at_most: Span,
}

/// What quiesces an application, and what releases it again, run at once in each running pod that it names.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.before) && size(self.before) > 0) || (has(self.after) && size(self.after) > 0)").message("backup.hooks.commands: each needs before, after, or both"))]
pub struct Hook {
    /// Its name in points.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The pods it runs in: every one that is running.
    pub pods: PodSelector,
    /// The container. Default: the one that kubectl would take. It needs `sh`, and with `before` and `after` also `sleep`,
    /// `rm` and a `/dev/shm` that can be written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// The command that quiesces. Its words are not expanded: `[store-ctl, freeze]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    pub before: Vec<String>,
    /// The command that releases. Run as soon as the snapshots are taken, when something failed, and by the pod itself when
    /// nobody has run it within `holdAtMost`. It may be run more than once, and where nothing was quiesced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    pub after: Vec<String>,
    /// How long each of the two may take. Default `30s`.
    #[serde(default = "seconds::<30>")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("backup.hooks.commands.timeout must be 1s to 10m, written in h, m and s"))]
    pub timeout: Span,
    /// Whether its failure ends the point. Default `Fail`.
    #[serde(default)]
    pub on_error: OnError,
}

/// What the failure of a hook means for the point.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The point fails. What was quiesced is released.
    #[default]
    Fail,
    /// The point is made nevertheless; its status tells of the failure.
    Continue,
}
