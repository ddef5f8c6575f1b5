//! Admission webhooks of the cluster that will refuse what is restored, since nothing answers for them.
//!
//! They are told before the first object is sent: what they refuse is told again with each object. Only webhooks that must
//! be asked (`failurePolicy: Fail`), by way of a Service, about kinds of the bundle are looked at.

use kube::Client;
use serde_json::Value;

use super::{
    bundle::Index,
    call::CallError,
    object::name,
    page::{self, PageError},
};

/// How many are told.
const TOLD: usize = 20;

/// What is wrong, for people. Also when it could not be found out.
pub async fn without_endpoints(client: &Client, index: &Index) -> Vec<String> {
    match look(client, index).await {
        Ok(found) => {
            for it in &found {
                tracing::warn!("{it}");
            }
            found
        }
        Err(error) => {
            tracing::warn!(%error, "it is not known whether admission webhooks will refuse what is restored");
            Vec::new()
        }
    }
}

async fn look(client: &Client, index: &Index) -> Result<Vec<String>, PageError> {
    let mut found = Vec::new();
    for plural in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
        for configuration in page::all(client, &path, None).await? {
            for (webhook, [namespace, service]) in asked(&configuration, index) {
                if found.len() < TOLD && !answers(client, namespace, service).await? {
                    found.push(format!(
                        "webhook {webhook} of {} refuses what it is asked about: its Service {namespace}/{service} has no ready \
                         endpoint",
                        name(&configuration)
                    ));
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The webhooks that must be asked about kinds of the bundle, with the namespace and name of their Service.
fn asked<'a>(configuration: &'a Value, index: &Index) -> Vec<(&'a str, [&'a str; 2])> {
    let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
    let must = webhooks.filter(|it| it.get("failurePolicy").is_none_or(|it| it == "Fail") && concerns(it, index));
    must.filter_map(|it| {
        let service = &it["clientConfig"]["service"];
        Some((it["name"].as_str()?, [service["namespace"].as_str()?, service["name"].as_str()?]))
    })
    .collect()
}

/// Whether a webhook is asked when objects of the bundle are made. Resources are compared by their group.
fn concerns(webhook: &Value, index: &Index) -> bool {
    let has = |list: &Value, wanted: &str| list.as_array().into_iter().flatten().any(|it| it == wanted || it == "*");
    let rules = webhook["rules"].as_array();
    rules.into_iter().flatten().any(|rule| {
        (has(&rule["operations"], "CREATE") || has(&rule["operations"], "UPDATE"))
            && rule.get("scope").is_none_or(|it| it != "Cluster")
            && index.kinds.iter().any(|it| has(&rule["apiGroups"], &it.group))
    })
}

async fn answers(client: &Client, namespace: &str, service: &str) -> Result<bool, PageError> {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let slices = match page::all(client, &path, None).await {
        Err(PageError::Call(CallError::Refused(status))) if status.code == 404 => return Ok(false),
        slices => slices?,
    };
    Ok(slices.iter().filter(|it| super::object::label(it, "kubernetes.io/service-name") == Some(service)).any(ready))
}

fn ready(slice: &Value) -> bool {
    let endpoints = slice["endpoints"].as_array();
    endpoints.into_iter().flatten().any(|it| it.pointer("/conditions/ready").is_none_or(|it| it != false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::bundle::{Count, Scope};
    use serde_json::json;

    #[test]
    fn only_webhooks_that_must_answer_for_what_is_restored_are_looked_at() {
        let kinds = vec![Count {
            group: "apps".into(),
            kind: "Deployment".into(),
            version: "v1".into(),
            scope: Scope::Namespaced,
            count: 1,
        }];
        let index = Index { kinds, ..Index::default() };
        let hook = |policy: &str, group: &str, operation: &str| {
            json!({"webhooks": [{"name": "w", "failurePolicy": policy,
                "clientConfig": {"service": {"namespace": "gate", "name": "keeper"}},
                "rules": [{"apiGroups": [group], "operations": [operation], "resources": ["*"]}]}]})
        };
        assert_eq!(asked(&hook("Fail", "apps", "CREATE"), &index), [("w", ["gate", "keeper"])]);
        assert_eq!(asked(&hook("Fail", "*", "*"), &index).len(), 1);
        for other in [hook("Ignore", "apps", "CREATE"), hook("Fail", "batch", "CREATE"), hook("Fail", "apps", "DELETE")]
        {
            assert!(asked(&other, &index).is_empty(), "{other}");
        }
    }

    #[test]
    fn an_endpoint_counts_as_ready_unless_it_says_otherwise() {
        assert!(ready(&json!({"endpoints": [{"conditions": {"ready": false}}, {"conditions": {}}]})));
        assert!(!ready(&json!({"endpoints": [{"conditions": {"ready": false}}]})) && !ready(&json!({})));
    }
}
