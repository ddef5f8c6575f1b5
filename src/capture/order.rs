//! In which order kinds go back; `graph` has the order of single objects.
//!
//! A rank is done before the next one begins, and within a rank the order does not matter. Two things may not start
//! before the data is there: workloads, and custom resources, whose operators may start pods or claim empty volumes.
//! Everything from `Custom` on is therefore the second half of a restore that is split around the data.

use serde::Serialize;

use crate::api;

/// When an object goes back; earlier ranks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Rank {
    /// Definitions of kinds: what is of them can only be made afterwards.
    Definitions,
    /// Defaults, bounds and priorities that everything after is admitted with.
    Limits,
    /// Accounts before their tokens: a token without its account is deleted.
    Accounts,
    /// Secrets, `ConfigMap`s and whatever plain object has no place of its own.
    Plain,
    /// Roles before the bindings that name them.
    Roles,
    /// Bindings.
    Bindings,
    /// Hand-written endpoints before the Services that point to them.
    Endpoints,
    /// Services, before the pods that find them in their environment.
    Services,
    /// Claims that stand with their data by now: what selects them and owns them finds them as they were.
    Claims,
    /// Objects of kinds that were added to the cluster: their operators find accounts, secrets and services ready.
    Custom,
    /// What starts pods.
    Workloads,
    /// What changes workloads.
    Scaling,
    /// Quotas last: a quota that its controller has not counted yet refuses everything.
    Quotas,
    /// Admission webhooks at the very end: until its pods run, one refuses everything.
    Webhooks,
}

impl Rank {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Definitions,
        Self::Limits,
        Self::Accounts,
        Self::Plain,
        Self::Roles,
        Self::Bindings,
        Self::Endpoints,
        Self::Services,
        Self::Claims,
        Self::Custom,
        Self::Workloads,
        Self::Scaling,
        Self::Quotas,
        Self::Webhooks,
    ];

    /// Whether it belongs to the second half of a restore, which needs the data.
    #[must_use]
    pub fn needs_data(self) -> bool {
        self >= Self::Custom
    }
}

/// What a restore does with the objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Makes them, at this rank.
    Make(Rank),
    /// Leaves their making to the data plane, which makes claims together with their data. Those that stand get their
    /// labels, annotations and owners.
    WithData,
    /// Never makes them.
    Never,
}

impl Way {
    /// When it is done; none when nothing is.
    #[must_use]
    pub fn rank(self) -> Option<Rank> {
        match self {
            Self::Make(rank) => Some(rank),
            Self::WithData => Some(Rank::Claims),
            Self::Never => None,
        }
    }
}

/// Kinds that have a place of their own.
const RANKS: [(&str, &str, Rank); 28] = [
    ("apiextensions.k8s.io", "CustomResourceDefinition", Rank::Definitions),
    ("scheduling.k8s.io", "PriorityClass", Rank::Limits),
    ("", "LimitRange", Rank::Limits),
    ("", "ServiceAccount", Rank::Accounts),
    ("rbac.authorization.k8s.io", "Role", Rank::Roles),
    ("rbac.authorization.k8s.io", "RoleBinding", Rank::Bindings),
    ("rbac.authorization.k8s.io", "ClusterRole", Rank::Roles),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", Rank::Bindings),
    ("", "Endpoints", Rank::Endpoints),
    ("discovery.k8s.io", "EndpointSlice", Rank::Endpoints),
    ("", "Service", Rank::Services),
    ("", "Pod", Rank::Workloads),
    ("", "ReplicationController", Rank::Workloads),
    ("apps", "ReplicaSet", Rank::Workloads),
    ("apps", "Deployment", Rank::Workloads),
    ("apps", "StatefulSet", Rank::Workloads),
    ("apps", "DaemonSet", Rank::Workloads),
    ("batch", "Job", Rank::Workloads),
    ("batch", "CronJob", Rank::Workloads),
    ("autoscaling", "HorizontalPodAutoscaler", Rank::Scaling),
    ("autoscaling.k8s.io", "VerticalPodAutoscaler", Rank::Scaling),
    ("keda.sh", "ScaledObject", Rank::Scaling),
    ("keda.sh", "ScaledJob", Rank::Scaling),
    ("", "ResourceQuota", Rank::Quotas),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", Rank::Webhooks),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", Rank::Webhooks),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", Rank::Webhooks),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", Rank::Webhooks),
];

/// Groups that every API server has: what is not ranked above is plain. Other groups are custom.
const BUILT_IN: [&str; 12] = [
    "",
    "apps",
    "autoscaling",
    "batch",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Whether every API server has this group by itself.
#[must_use]
pub fn built_in(group: &str) -> bool {
    BUILT_IN.contains(&group)
}

/// What a restore does with the objects of a kind, and when.
#[must_use]
pub fn way(group: &str, kind: &str) -> Way {
    if group == api::GROUP {
        return Way::Never;
    }
    if (group, kind) == ("", "PersistentVolumeClaim") {
        return Way::WithData;
    }
    let ranked = RANKS.iter().find(|row| (row.0, row.1) == (group, kind)).map(|(_, _, rank)| *rank);
    Way::Make(ranked.unwrap_or(if BUILT_IN.contains(&group) { Rank::Plain } else { Rank::Custom }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::marks;

    fn before(first: (&str, &str), second: (&str, &str)) -> bool {
        match (way(first.0, first.1), way(second.0, second.1)) {
            (Way::Make(first), Way::Make(second)) => first < second,
            (Way::Make(_) | Way::WithData | Way::Never, _) => false,
        }
    }

    #[test]
    fn what_is_needed_goes_back_before_what_needs_it() {
        let deployment = ("apps", "Deployment");
        assert!(before(("", "ServiceAccount"), ("", "Secret")));
        assert!(before(("", "Secret"), deployment) && before(("", "ConfigMap"), deployment));
        assert!(before(("rbac.authorization.k8s.io", "Role"), ("rbac.authorization.k8s.io", "RoleBinding")));
        assert!(before(("", "Service"), deployment) && before(("networking.k8s.io", "NetworkPolicy"), deployment));
        assert!(before(("", "Secret"), ("postgresql.cnpg.io", "Cluster")), "operators find their secrets");
        assert!(before(("cert-manager.io", "Certificate"), deployment));
        assert!(before(deployment, ("autoscaling", "HorizontalPodAutoscaler")));
        assert!(before(deployment, ("", "ResourceQuota")));
        let definition = ("apiextensions.k8s.io", "CustomResourceDefinition");
        assert!(before(definition, ("", "LimitRange")) && before(definition, ("postgresql.cnpg.io", "Cluster")));
        assert!(before(("scheduling.k8s.io", "PriorityClass"), deployment));
    }

    #[test]
    fn admission_webhooks_go_back_when_the_pods_that_answer_them_are_there() {
        for (_, _, rank) in RANKS.iter().filter(|it| it.0 == "admissionregistration.k8s.io") {
            assert_eq!(Some(rank), Rank::ALL.last());
        }
    }

    #[test]
    fn nothing_that_may_start_a_pod_goes_back_before_the_data() {
        let kinds = marks::KINDS.iter().map(|it| (it.group, it.kind));
        for (group, kind) in
            kinds.chain([("", "Pod"), ("postgresql.cnpg.io", "Cluster"), ("gateway.networking.k8s.io", "Gateway")])
        {
            assert!(matches!(way(group, kind), Way::Make(rank) if rank.needs_data()), "{kind}");
        }
        assert!(matches!(way("", "ConfigMap"), Way::Make(rank) if !rank.needs_data()));
    }

    #[test]
    fn claims_go_back_with_their_data_and_our_own_kinds_never() {
        let claims = way("", "PersistentVolumeClaim");
        assert_eq!(claims, Way::WithData);
        assert!(claims.rank() < way("postgresql.cnpg.io", "Cluster").rank(), "its operator looks for them at once");
        assert_eq!(way("reprise.dev", "ProtectedApplication"), Way::Never);
    }

    #[test]
    fn every_rank_has_its_turn() {
        assert!(Rank::ALL.is_sorted() && RANKS.iter().all(|(_, _, rank)| Rank::ALL.contains(rank)));
    }
}
