//! What is counted, in the text format of Prometheus.

mod objects;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64},
    },
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::context::Context;
use objects::Objects;

/// One application.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Application {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub application: String,
}

/// Another vault that an application's points are copied into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct Copy {
    namespace: String,
    application: String,
    vault: String,
}

/// Gauges by application.
pub type ByApplication = Family<Application, Gauge<i64, AtomicI64>>;

/// What is counted.
pub struct Metrics {
    registry: Registry,
    /// Passes of the loop.
    pub passes: Counter<u64, AtomicU64>,
    /// Passes that failed.
    pub failed_passes: Counter<u64, AtomicU64>,
    /// Requests to vaults for claims.
    pub claim_requests: Counter<u64, AtomicU64>,
    /// 1 where this region serves.
    pub active: ByApplication,
    /// The instant of the newest good point, in seconds since 1970: age it against the present.
    pub last_point: ByApplication,
    /// The objective, in seconds.
    pub rpo_objective: ByApplication,
    /// 1 healthy, 0 not, -1 unknown.
    pub healthy: ByApplication,
    /// 1 when `Ready` is `True`.
    pub ready: ByApplication,
    /// The epoch of the claim.
    pub epoch: ByApplication,
    /// 0 while the newest points look emptied.
    pub sources_sound: ByApplication,
    /// Points that the vault keeps, where retention is done.
    pub kept_points: ByApplication,
    /// When a prune last ended well, in seconds since 1970.
    pub pruned: ByApplication,
    /// The instant of the newest point in another vault, in seconds since 1970.
    copied_points: Family<Copy, Gauge<i64, AtomicI64>>,
    copies: Mutex<BTreeSet<Copy>>,
    /// Conditions, and how runs ended.
    objects: Objects,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("reprise");
        let it = Self {
            passes: Counter::default(),
            failed_passes: Counter::default(),
            claim_requests: Counter::default(),
            active: Family::default(),
            last_point: Family::default(),
            rpo_objective: Family::default(),
            healthy: Family::default(),
            ready: Family::default(),
            epoch: Family::default(),
            sources_sound: Family::default(),
            kept_points: Family::default(),
            pruned: Family::default(),
            copied_points: Family::default(),
            copies: Mutex::default(),
            objects: Objects::default(),
            registry: Registry::default(),
        };
        registry.register("reconciles", "Passes of the loop", it.passes.clone());
        registry.register("reconcile_failures", "Passes of the loop that failed", it.failed_passes.clone());
        registry.register("claim_requests", "Requests to vaults for claims", it.claim_requests.clone());
        registry.register("application_active", "1 where this region serves the application", it.active.clone());
        let help = "Instant of the newest good recovery point, in seconds since 1970";
        registry.register("last_recovery_point_timestamp_seconds", help, it.last_point.clone());
        registry.register("recovery_point_objective_seconds", "The declared RPO", it.rpo_objective.clone());
        registry.register("application_healthy", "1 healthy, 0 not, -1 unknown, as seen from here", it.healthy.clone());
        registry.register("application_ready", "1 when the condition Ready is True", it.ready.clone());
        registry.register("claim_epoch", "Epoch of the claim, as last read", it.epoch.clone());
        registry.register("sources_sound", "0 while the newest points look emptied", it.sources_sound.clone());
        registry.register("recovery_points_kept", "Points that the vault keeps", it.kept_points.clone());
        let help = "When a prune last ended well, in seconds since 1970";
        registry.register("last_prune_timestamp_seconds", help, it.pruned.clone());
        let help = "Instant of the newest recovery point that was copied into the vault, in seconds since 1970";
        registry.register("last_copied_point_timestamp_seconds", help, it.copied_points.clone());
        registry.register_collector(Box::new(it.objects.clone()));
        Self { registry, ..it }
    }
}

impl Metrics {
    /// From here on this replica says that it leads, and what stands in statuses.
    pub fn leads(&self, context: &Arc<Context>) {
        self.objects.lead(context);
    }

    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a string does not fail");
        out
    }

    /// Tells what is in the other vaults of an application, each with the instant of its newest point; of no others.
    pub fn tell_copies(&self, of: &Application, vaults: &[(&str, i64)]) {
        let mut told = self.copies.lock().expect("no holder of this lock panics");
        told.retain(|it| {
            let keep = it.namespace != of.namespace || it.application != of.application;
            keep || {
                self.copied_points.remove(it);
                false
            }
        });
        for (vault, at) in vaults {
            let (namespace, application) = (of.namespace.clone(), of.application.clone());
            let copy = Copy { namespace, application, vault: (*vault).to_owned() };
            self.copied_points.get_or_create(&copy).set(*at);
            told.insert(copy);
        }
    }

    /// Forgets what is told of one application.
    pub fn forget(&self, of: &Application) {
        for family in self.by_application() {
            family.remove(of);
        }
        self.tell_copies(of, &[]);
    }

    fn by_application(&self) -> [&ByApplication; 9] {
        [
            &self.active,
            &self.last_point,
            &self.rpo_objective,
            &self.healthy,
            &self.ready,
            &self.epoch,
            &self.sources_sound,
            &self.kept_points,
            &self.pruned,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An alert on what nobody tells never fires.
    #[test]
    fn what_the_documents_and_the_alerts_name_is_told() {
        let (metrics, of) = (Metrics::default(), Application { namespace: "a".into(), application: "b".into() });
        metrics.by_application().into_iter().for_each(|it| drop(it.get_or_create(&of)));
        metrics.tell_copies(&of, &[("second", 1)]);
        let told = metrics.text();
        let mut named = BTreeSet::new();
        for path in ["docs/getting-started.md", "charts/reprise/templates/metrics.yaml"] {
            let text =
                std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path);
            let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
            named.extend(words.filter(|it| it.starts_with("reprise_")).map(ToOwned::to_owned));
        }
        assert!(named.len() > 10, "{named:?}");
        for name in named {
            let family = name.strip_suffix("_total").unwrap_or(&name);
            assert!(told.contains(&format!("# HELP {family} ")), "{name} is not told: {told}");
        }
    }

    #[test]
    fn a_replica_that_does_not_lead_says_so() {
        assert!(Metrics::default().text().contains("\nreprise_leading 0\n"));
    }
}
