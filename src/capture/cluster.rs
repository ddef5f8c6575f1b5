//! Objects of the cluster that a namespace's application needs: found by what refers to them, and by what they say of
//! the namespace themselves (`references`).
//!
//! Taken whole: definitions of the custom resources that are captured, cluster roles of the namespace's accounts and the
//! bindings to them, priority classes, and webhooks and API services that the namespace serves. By name only: what each
//! cluster has of its own.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    Client,
    api::GetParams,
    core::{Request, Selector, SelectorExt},
};
use serde_json::Value;

use super::{
    bundle::Named,
    call,
    collect::CaptureError,
    discover::Resource,
    listed::{Listed, Page, Work},
    object, order,
    page::{self, PageError, Place},
    references::{self, Carried, Reference, Subjects},
    rules,
};

/// How many objects are asked for at once.
const AT_ONCE: usize = 8;

/// What was found in the cluster.
#[derive(Debug, Default)]
pub(super) struct OfCluster {
    pub lists: Vec<Listed>,
    pub named: BTreeSet<Named>,
    pub failed: Vec<String>,
}

/// Collects what is needed besides these lists and refers to nothing in the namespace.
pub(super) async fn collect(
    client: &Client,
    served: &[&Resource],
    lists: &[Listed],
    references: BTreeSet<Reference>,
    work: &Work,
) -> Result<OfCluster, CaptureError> {
    let mut search =
        Search { client, served, work, accounts: accounts(&references, work), found: OfCluster::default() };
    let (mut whole, by_name): (BTreeSet<_>, BTreeSet<_>) = references
        .into_iter()
        .filter(|it| references::carried(it) != Carried::WithNamespace)
        .partition(|it| references::carried(it) == Carried::Whole && work.selection.cluster_scoped);
    search.found.named.extend(by_name.into_iter().map(name_of));
    if work.selection.cluster_scoped {
        for (group, kind) in references::searched() {
            whole.extend(search.belonging(group, kind).await?);
        }
        for (group, kind) in [("rbac.authorization.k8s.io", "ClusterRole"), ("scheduling.k8s.io", "PriorityClass")] {
            let names = whole.iter().filter(|it| (it.group, it.kind) == (group, kind)).map(|it| it.name.clone());
            search.named(group, kind, names.collect()).await?;
        }
        let custom = lists.iter().filter(|it| !it.rows.is_empty() && !order::built_in(&it.of.group));
        let definitions = custom.map(|it| format!("{}.{}", it.of.plural, it.of.group)).collect();
        search.definitions(definitions).await?;
    }
    Ok(search.found)
}

/// The accounts whose rights are captured; `None` when all of the namespace are.
fn accounts(references: &BTreeSet<Reference>, work: &Work) -> Option<BTreeSet<String>> {
    let named = references.iter().filter(|it| it.kind == "ServiceAccount").map(|it| it.name.clone());
    work.selection.by_labels().then(|| named.collect())
}

fn name_of(it: Reference) -> Named {
    Named { group: it.group.to_owned(), kind: it.kind.to_owned(), name: it.name }
}

struct Search<'a> {
    client: &'a Client,
    served: &'a [&'a Resource],
    work: &'a Work,
    accounts: Option<BTreeSet<String>>,
    found: OfCluster,
}

impl Search<'_> {
    /// A kind that is served, and not ruled out.
    fn kind(&self, group: &str, kind: &str) -> Option<Arc<Resource>> {
        let mut kinds = self.served.iter().filter(|it| it.group == group && it.kind == kind);
        kinds.next().filter(|it| !self.work.selection.excludes(it)).map(|it| Arc::new((*it).clone()))
    }

    fn fail(&mut self, of: &Resource, error: &PageError) {
        tracing::warn!(kind = of.name(), namespace = self.work.namespace, %error, "not captured");
        self.found.failed.push(format!("{}: {}", of.name(), error.reason()));
    }

    /// Takes in the objects of a kind that say that they belong to the namespace, and returns what they refer to.
    async fn belonging(&mut self, group: &str, kind: &str) -> Result<BTreeSet<Reference>, CaptureError> {
        let Some(of) = self.kind(group, kind) else { return Ok(BTreeSet::new()) };
        let mut taken = Page::new(&of, self.work);
        let namespace = &self.work.namespace;
        let listed = each(self.client, &of, |mut object| {
            let ours = references::belongs(group, kind, &mut object, namespace);
            if !ours || references::made_by_the_cluster(kind, &object) || !self.bound(&object, kind) {
                return;
            }
            if let Some(reason) = rules::left_out(&of, &object) {
                taken.listed.leave_out(kind, reason);
            } else {
                rules::record(&of, &mut object);
                taken.add_of_cluster(&object);
            }
        });
        if let Err(error) = listed.await {
            self.fail(&of, &error);
        }
        let mut done = taken.done()?;
        let references = std::mem::take(&mut done.references);
        self.found.lists.push(done);
        Ok(references)
    }

    /// Whether a binding is one to an account that is captured. Everything else is.
    fn bound(&self, object: &Value, kind: &str) -> bool {
        let (Some(accounts), "ClusterRoleBinding") = (&self.accounts, kind) else { return true };
        match references::subjects(object, &self.work.namespace) {
            None => false,
            Some(Subjects::All) => !accounts.is_empty(),
            Some(Subjects::Accounts(names)) => names.iter().any(|it| accounts.contains(it)),
        }
    }

    /// Takes in objects by their names. Those that each cluster makes by itself, or that are not there, are only named.
    async fn named(&mut self, group: &str, kind: &str, mut names: BTreeSet<String>) -> Result<(), CaptureError> {
        let Some(of) = self.kind(group, kind) else {
            let only = |name| Named { group: group.to_owned(), kind: kind.to_owned(), name };
            self.found.named.extend(names.into_iter().map(only));
            return Ok(());
        };
        let mut taken = Page::new(&of, self.work);
        let mut asked = BTreeSet::new();
        while !names.is_empty() {
            let objects = self.get(&of, std::mem::take(&mut names)).await;
            for (name, object) in objects {
                asked.insert(name.clone());
                match object {
                    Err(error) => self.fail(&of, &error),
                    Ok(Some(object)) if !references::made_by_the_cluster(kind, &object) => {
                        if let Some(reason) = rules::left_out(&of, &object) {
                            taken.listed.leave_out(kind, reason);
                            continue;
                        }
                        names.extend(self.aggregated(&of, &object).await);
                        take(&of, object, &mut taken);
                    }
                    Ok(_) => {
                        let (group, kind) = (group.to_owned(), kind.to_owned());
                        self.found.named.insert(Named { group, kind, name });
                    }
                }
            }
            names.retain(|it| !asked.contains(it));
        }
        self.found.lists.push(taken.done()?);
        Ok(())
    }

    /// Takes in the definitions of custom resources. What is not there is no custom resource, but another server's.
    async fn definitions(&mut self, names: BTreeSet<String>) -> Result<(), CaptureError> {
        let Some(of) = self.kind("apiextensions.k8s.io", "CustomResourceDefinition") else { return Ok(()) };
        let mut taken = Page::new(&of, self.work);
        for (_, object) in self.get(&of, names).await {
            match object {
                Err(error) => self.fail(&of, &error),
                Ok(Some(object)) => match rules::left_out(&of, &object) {
                    Some(reason) => taken.listed.leave_out(&of.kind, reason),
                    None => take(&of, object, &mut taken),
                },
                Ok(None) => {}
            }
        }
        self.found.lists.push(taken.done()?);
        Ok(())
    }

    /// The names of the roles that a role is made of by their labels.
    async fn aggregated(&mut self, of: &Arc<Resource>, role: &Value) -> Vec<String> {
        let rules = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
        let selector = |it: &Value| Selector::try_from(serde_json::from_value::<LabelSelector>(it.clone()).ok()?).ok();
        let selectors: Vec<Selector> = rules.into_iter().flatten().filter_map(selector).collect();
        let mut names = Vec::new();
        if selectors.is_empty() {
            return names;
        }
        let listed = each(self.client, of, |object| {
            let labels = object.pointer("/metadata/labels").cloned().unwrap_or_default();
            let labels = serde_json::from_value(labels).unwrap_or_default();
            if selectors.iter().any(|it| it.matches(&labels)) {
                names.push(object::name(&object).to_owned());
            }
        });
        if let Err(error) = listed.await {
            self.fail(of, &error);
        }
        names
    }

    /// Asks for objects, each by its name.
    async fn get(&self, of: &Resource, names: BTreeSet<String>) -> Vec<(String, Result<Option<Value>, PageError>)> {
        let path = Request::new(of.path(&self.work.namespace));
        let path = &path;
        let requests: Vec<_> = names
            .into_iter()
            .map(|name| async move {
                let answer =
                    call::object(self.client, || path.get(&object::segment(&name), &GetParams::default())).await;
                let object = match answer {
                    Ok(body) => serde_json::from_slice(&body).map(Some).map_err(PageError::Content),
                    Err(error) if error.code() == Some(404) => Ok(None),
                    Err(error) => Err(error.into()),
                };
                (name, object)
            })
            .collect();
        // In the order of the names: the same objects are written in the same order.
        stream::iter(requests).buffered(AT_ONCE).collect().await
    }
}

fn take(of: &Resource, mut object: Value, into: &mut Page<'_>) {
    rules::record(of, &mut object);
    into.add_of_cluster(&object);
}

/// Hands over all objects of a kind, page by page.
async fn each(client: &Client, of: &Resource, mut visit: impl FnMut(Value)) -> Result<(), PageError> {
    let (path, mut at) = (of.path(""), Some(Place::default()));
    while let Some(place) = at {
        let (body, next) = page::fetch(client, &path, None, place).await?;
        page::each(&body, &mut visit).map_err(PageError::Content)?;
        at = next;
    }
    Ok(())
}
