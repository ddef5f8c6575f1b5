//! What stands in the statuses of our own objects, told at each scrape: their conditions, and how the newest runs ended.
//!
//! It is read from the watches' stores, so that nothing has to be forgotten: what was deleted is not told. Runs are many,
//! and are not told one by one: of each kind of run of an application there is one series, whatever became of how many.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::gauge::ConstGauge,
};

use crate::{
    api::recovery_point::Purpose,
    core::{
        condition::{self, SUCCEEDED},
        vault::NOT_ASKED,
    },
    operator::{
        context::Context,
        shell::Kind,
        stores::{Guarded, Stores},
    },
};

/// A condition of one object.
#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
struct ConditionOf {
    kind: String,
    /// Empty where the kind stands in the cluster.
    namespace: String,
    name: String,
    r#type: String,
}

/// Runs of one application.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct RunsOf {
    run: &'static str,
    namespace: String,
    application: String,
}

/// The newest end of each kind of run, and whether it was a success.
type Ends = BTreeMap<RunsOf, (Timestamp, bool)>;

/// What is asked at each scrape: says nothing before the operator leads.
#[derive(Clone, Default)]
pub(super) struct Objects(Arc<OnceLock<Weak<Context>>>);

impl Objects {
    /// From here on the leader's stores are told of.
    pub(super) fn lead(&self, context: &Arc<Context>) {
        let _ = self.0.set(Arc::downgrade(context));
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Objects")
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let context = self.0.get().and_then(Weak::upgrade);
        // Followers say that they are: an alert can tell that nobody leads from nobody being asked.
        let leading = ConstGauge::new(i64::from(context.is_some()));
        let described =
            encoder.encode_descriptor("leading", "1 in the replica that leads", None, leading.metric_type())?;
        leading.encode(described)?;
        let stores = context.as_deref().map(|it| &it.stores);
        let help = "Conditions of Reprise's own lasting objects: 1 True, 0 False, -1 Unknown";
        gauge(&mut encoder, "condition", help, stores.map(conditions).unwrap_or_default())?;
        let help = "1 when the newest run of the kind that ended succeeded, else 0";
        let ends = stores.map(ends).unwrap_or_default().into_iter().map(|(of, (_, succeeded))| (of, succeeded.into()));
        gauge(&mut encoder, "last_run_succeeded", help, ends)
    }
}

fn gauge<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (L, i64)>,
) -> fmt::Result {
    let one = |value: i64| ConstGauge::new(value);
    let mut family = encoder.encode_descriptor(name, help, None, one(0).metric_type())?;
    for (labels, value) in series {
        one(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn conditions(stores: &Stores) -> Vec<(ConditionOf, i64)> {
    let mut told = Vec::new();
    lasting(&stores.applications, &mut told, |it| it.status.as_ref().map_or(&[][..], |it| &it.conditions));
    lasting(&stores.vaults, &mut told, |it| it.status.as_ref().map_or(&[][..], |it| &it.conditions));
    lasting(&stores.zones, &mut told, |it| it.status.as_ref().map_or(&[][..], |it| &it.conditions));
    told
}

fn lasting<K: Kind>(store: &Guarded<K>, told: &mut Vec<(ConditionOf, i64)>, conditions: impl Fn(&K) -> &[Condition]) {
    for object in store.state() {
        let Ok(object) = &object.0 else { continue };
        // An alert on what nobody asked for would stay on.
        for it in conditions(object).iter().filter(|it| it.reason != NOT_ASKED) {
            let of = ConditionOf {
                kind: K::kind(&()).into_owned(),
                namespace: object.meta().namespace.clone().unwrap_or_default(),
                name: object.meta().name.clone().unwrap_or_default(),
                r#type: it.type_.clone(),
            };
            told.push((of, truth(&it.status)));
        }
    }
}

fn truth(status: &str) -> i64 {
    match status {
        "True" => 1,
        "False" => 0,
        _ => -1,
    }
}

fn ends(stores: &Stores) -> Ends {
    let mut ends = Ends::new();
    ended(&stores.points, &mut ends, |it| {
        // What another region made has no end here.
        let made = it.spec.purpose != Purpose::Imported;
        made.then_some(("RecoveryPoint", it.spec.application.as_str(), it.status.as_ref()?.conditions.as_slice()))
    });
    ended(&stores.failovers, &mut ends, |it| {
        Some(("Failover", it.spec.application.as_str(), it.status.as_ref()?.conditions.as_slice()))
    });
    ended(&stores.restores, &mut ends, |it| {
        let run = if it.spec.rehearse { "Rehearsal" } else { "Restore" };
        (!it.spec.dry_run).then_some((run, it.spec.application.as_str(), it.status.as_ref()?.conditions.as_slice()))
    });
    ends
}

fn ended<K: Kind>(store: &Guarded<K>, ends: &mut Ends, of: impl Fn(&K) -> Option<(&'static str, &str, &[Condition])>) {
    for object in store.state() {
        let Some((object, (run, application, conditions))) = object.0.as_ref().ok().and_then(|it| Some((it, of(it)?)))
        else {
            continue;
        };
        // That somebody cancelled it is news to nobody.
        let end =
            condition::find(conditions, SUCCEEDED).filter(|it| it.status != "Unknown" && it.reason != "Cancelled");
        let Some(end) = end else { continue };
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let of = RunsOf { run, namespace, application: application.to_owned() };
        let this = (end.last_transition_time.0, end.status == "True");
        let newest = ends.entry(of).or_insert(this);
        if newest.0 < this.0 {
            *newest = this;
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::{
        core::DeserializeGuard,
        runtime::{reflector, watcher},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{recovery_point::RecoveryPoint, vault::Vault};

    fn store<K: Kind>(objects: &[Value]) -> Guarded<K> {
        let (reader, mut writer) = reflector::store::<DeserializeGuard<K>>();
        for it in objects {
            let object = serde_json::from_value(it.clone()).expect("an object");
            writer.apply_watcher_event(&watcher::Event::Apply(object));
        }
        reader
    }

    fn told(type_: &str, status: &str, reason: &str, at: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": at})
    }

    fn point(name: &str, status: &str, reason: &str, at: &str) -> Value {
        json!({"apiVersion": "reprise.dev/v1alpha1", "kind": "RecoveryPoint",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"application": "shop"},
            "status": {"conditions": [told("Succeeded", status, reason, at)]}})
    }

    fn of_points(objects: &[Value]) -> Vec<bool> {
        let mut ends = Ends::new();
        ended(&store::<RecoveryPoint>(objects), &mut ends, |it| {
            Some(("RecoveryPoint", it.spec.application.as_str(), it.status.as_ref()?.conditions.as_slice()))
        });
        ends.into_values().map(|it| it.1).collect()
    }

    #[test]
    fn the_newest_run_that_ended_says_whether_runs_succeed_and_one_that_goes_on_or_was_cancelled_does_not() {
        let good = point("a", "True", "Stored", "2026-11-22T11:00:00Z");
        let failed = point("b", "False", "Partial", "2026-11-22T12:00:00Z");
        let running = point("c", "Unknown", "Reading", "2026-11-22T13:00:00Z");
        let cancelled = point("d", "False", "Cancelled", "2026-11-22T13:00:00Z");
        assert_eq!(of_points(&[good.clone(), failed, running.clone(), cancelled.clone()]), [false]);
        assert_eq!(of_points(&[good, running, cancelled.clone()]), [true]);
        assert!(of_points(&[cancelled]).is_empty(), "nothing is told before the first end");
    }

    #[test]
    fn a_condition_that_is_false_is_not_the_same_as_one_that_is_not_known() {
        let vault = json!({"apiVersion": "reprise.dev/v1alpha1", "kind": "Vault", "metadata": {"name": "main"},
            "spec": {"directory": {"claimName": "shared"}, "encryption": {"secret": {"name": "key"}}},
            "status": {"conditions": [told("NotTold", "False", "NotAsked", "2026-11-22T11:00:00Z"), told("Ready", "True", "Opened", "2026-11-22T11:00:00Z"),
                told("Immutable", "False", "NotLocked", "2026-11-22T11:00:00Z"),
                told("KeyEscrowed", "Unknown", "NotSaid", "2026-11-22T11:00:00Z")]}});
        let mut all = Vec::new();
        lasting(&store::<Vault>(&[vault]), &mut all, |it| it.status.as_ref().map_or(&[][..], |it| &it.conditions));
        let all: Vec<_> =
            all.iter().map(|(of, value)| (of.kind.as_str(), of.name.as_str(), of.r#type.as_str(), *value)).collect();
        let expected =
            [("Vault", "main", "Ready", 1), ("Vault", "main", "Immutable", 0), ("Vault", "main", "KeyEscrowed", -1)];
        assert_eq!(all, expected);
    }
}
