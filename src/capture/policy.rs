//! What an administrator lets restores bring back of objects that grant rights or reach beyond a namespace.
//!
//! Whoever writes a `ProtectedApplication`, a `Failover` or a `Restore` must gain nothing by it: neither a right that was
//! taken away since the point was made, nor one in a namespace where nobody granted it, nor anything of the whole cluster.
//! This stands in the operator's own configuration, `restore.allow` of the chart, which such a person can't write.

use serde::Deserialize;
use serde_json::Value;

use super::{bundle::Id, clean::Move};

/// The API group of roles and bindings.
pub const RBAC: &str = "rbac.authorization.k8s.io";

/// What may come back. The default is the most careful one with which an application works again where it was.
#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// `Role`s and `RoleBinding`s.
    pub roles: Roles,
    /// `ClusterRole`s and `ClusterRoleBinding`s.
    pub cluster_roles: Allow,
    /// `CustomResourceDefinition`s.
    pub custom_resource_definitions: Allow,
    /// Configurations of admission webhooks, and admission policies.
    pub webhooks: Allow,
    /// `PriorityClass`es.
    pub priority_classes: Allow,
}

/// Which roles and bindings of a namespace come back.
#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roles {
    /// None.
    Never,
    /// Those of the same namespace, as long as a binding names only the namespace's own service accounts: they grant
    /// again, to the application, what somebody with the right to do so had granted it there.
    #[default]
    SameNamespace,
    /// All, also in other namespaces, and to people.
    Any,
}

/// What may be done to objects of the whole cluster.
#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allow {
    /// Nothing.
    #[default]
    Never,
    /// They are made when they are not there.
    Create,
    /// They are made, and those that are there are changed.
    Update,
}

/// What the policy says to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may come back.
    Free,
    /// It may be made when it is not there. The value that allows more.
    CreateOnly(String),
    /// It is held back. Why, and the value that allows it.
    Held(String),
}

impl Policy {
    /// What may become of an object, as it was captured.
    #[must_use]
    pub fn judge(self, id: &Id, object: &Value, between: Move) -> Verdict {
        match (id.group.as_str(), id.kind.as_str()) {
            (RBAC, "Role" | "RoleBinding") => self.judge_roles(&id.kind, object, between),
            (RBAC, "ClusterRole" | "ClusterRoleBinding") => allow(self.cluster_roles, "clusterRoles"),
            ("apiextensions.k8s.io", _) => allow(self.custom_resource_definitions, "customResourceDefinitions"),
            ("admissionregistration.k8s.io", _) => allow(self.webhooks, "webhooks"),
            ("scheduling.k8s.io", "PriorityClass") => allow(self.priority_classes, "priorityClasses"),
            _ if id.namespace.is_none() => {
                Verdict::Held("it belongs to the whole cluster, and no policy lets restores change it".to_owned())
            }
            _ => Verdict::Free,
        }
    }

    fn judge_roles(self, kind: &str, object: &Value, between: Move) -> Verdict {
        let held = |why: &str| Verdict::Held(format!("held back, since {why}: restore.allow.roles=Any allows it"));
        match self.roles {
            Roles::Never => {
                let why = "restore.allow.roles is Never: SameNamespace allows it where nothing but the namespace's own service accounts gain by it";
                Verdict::Held(format!("held back, since {why}"))
            }
            Roles::SameNamespace if between.from != between.to => {
                held("in another namespace than its own it would grant what nobody has granted there")
            }
            Roles::SameNamespace if kind == "RoleBinding" && !own_accounts(object, between.from) => {
                held("it grants rights to others than the namespace's own service accounts")
            }
            Roles::SameNamespace | Roles::Any => Verdict::Free,
        }
    }
}

fn allow(allow: Allow, value: &str) -> Verdict {
    match allow {
        Allow::Update => Verdict::Free,
        Allow::Create => Verdict::CreateOnly(format!("restore.allow.{value}=Update")),
        Allow::Never => Verdict::Held(format!(
            "held back, since it reaches beyond the namespace: restore.allow.{value}=Create or Update allows it"
        )),
    }
}

/// Whether a binding names service accounts of that namespace, and nobody else.
fn own_accounts(binding: &Value, namespace: &str) -> bool {
    binding["subjects"].as_array().into_iter().flatten().all(|it| {
        it["kind"] == "ServiceAccount" && it.get("namespace").is_none_or(|it| it.is_null() || it == namespace)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STAY: Move = Move { from: "shop", to: "shop" };
    const AWAY: Move = Move { from: "shop", to: "drill" };

    fn id(group: &str, kind: &str, namespace: Option<&str>) -> Id {
        Id { group: group.into(), kind: kind.into(), namespace: namespace.map(Into::into), name: "it".into() }
    }

    fn policy(json: Value) -> Policy {
        serde_json::from_value(json).expect("a policy")
    }

    fn binding(subjects: &Value) -> Value {
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": subjects})
    }

    #[test]
    fn by_default_an_applications_own_accounts_get_their_roles_back_where_they_had_them() {
        let (role, bound) = (id(RBAC, "Role", Some("shop")), id(RBAC, "RoleBinding", Some("shop")));
        let own = binding(&json!([{"kind": "ServiceAccount", "name": "web", "namespace": "shop"}]));
        assert_eq!(Policy::default().judge(&role, &json!({}), STAY), Verdict::Free);
        assert_eq!(Policy::default().judge(&bound, &own, STAY), Verdict::Free);
        for (id, object) in [(&role, &json!({})), (&bound, &own)] {
            assert!(matches!(Policy::default().judge(id, object, AWAY), Verdict::Held(_)), "another namespace");
            assert_eq!(policy(json!({"roles": "Any"})).judge(id, object, AWAY), Verdict::Free);
            assert!(matches!(policy(json!({"roles": "Never"})).judge(id, object, STAY), Verdict::Held(_)));
        }
    }

    #[test]
    fn no_person_and_no_other_tenant_gets_rights_back_by_default() {
        let bound = id(RBAC, "RoleBinding", Some("shop"));
        for subject in [
            json!({"kind": "User", "name": "ann"}),
            json!({"kind": "Group", "name": "system:authenticated"}),
            json!({"kind": "ServiceAccount", "name": "ci", "namespace": "tools"}),
        ] {
            let object = binding(&json!([{"kind": "ServiceAccount", "name": "web"}, subject]));
            let Verdict::Held(why) = Policy::default().judge(&bound, &object, STAY) else { panic!("{object}") };
            assert!(why.contains("restore.allow.roles=Any"), "{why}");
        }
    }

    #[test]
    fn what_reaches_beyond_the_namespace_needs_a_value_that_is_named() {
        for (group, kind, value) in [
            (RBAC, "ClusterRole", "clusterRoles"),
            (RBAC, "ClusterRoleBinding", "clusterRoles"),
            ("apiextensions.k8s.io", "CustomResourceDefinition", "customResourceDefinitions"),
            ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "webhooks"),
            ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "webhooks"),
            ("scheduling.k8s.io", "PriorityClass", "priorityClasses"),
        ] {
            let judge = |policy: Policy| policy.judge(&id(group, kind, None), &json!({}), STAY);
            let Verdict::Held(why) = judge(Policy::default()) else { panic!("{kind}") };
            assert!(why.contains(&format!("restore.allow.{value}=Create")), "{why}");
            assert_eq!(
                judge(policy(json!({value: "Create"}))),
                Verdict::CreateOnly(format!("restore.allow.{value}=Update"))
            );
            assert_eq!(judge(policy(json!({value: "Update"}))), Verdict::Free);
        }
    }

    #[test]
    fn of_the_cluster_nothing_comes_back_that_no_policy_speaks_of() {
        let all = json!({"roles": "Any", "clusterRoles": "Update", "customResourceDefinitions": "Update",
            "webhooks": "Update", "priorityClasses": "Update"});
        let node = id("", "Node", None);
        assert!(matches!(policy(all).judge(&node, &json!({}), STAY), Verdict::Held(_)));
        assert_eq!(Policy::default().judge(&id("", "ConfigMap", Some("shop")), &json!({}), AWAY), Verdict::Free);
    }

    #[test]
    fn a_misspelt_value_is_refused_by_name() {
        let error = serde_json::from_str::<Policy>(r#"{"clusterRole": "Create"}"#).expect_err("misspelt");
        assert!(error.to_string().contains("clusterRole"), "{error}");
        assert!(serde_json::from_str::<Policy>(r#"{"roles": true}"#).is_err());
    }
}
