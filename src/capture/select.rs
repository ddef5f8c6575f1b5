//! Which objects of a namespace are captured: what `spec.backup.objects` says.
//!
//! Kinds are told by name, objects by their labels. What a selected object cannot do without comes with it, whatever its
//! labels: the `ConfigMap`s, Secrets and accounts of its pods, their roles, and the claims of its volumes (`references`).

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use super::{
    discover::Resource,
    references::{Reference, Subjects},
};
use crate::{
    api::application::{ObjectSettings, ProtectedApplication},
    core::{labels::selector, point::Protection},
};

/// What is selected.
#[derive(Clone, Debug)]
pub struct Selection {
    labels: Option<Selector>,
    include: Vec<String>,
    exclude: Vec<String>,
    /// Whether objects of the cluster are captured with it.
    pub cluster_scoped: bool,
    /// The `ProtectedApplication` that it is captured for, to be recorded with it.
    pub protection: Option<Protection>,
}

impl Default for Selection {
    fn default() -> Self {
        Self::new(&ObjectSettings::default())
    }
}

impl Selection {
    /// What the settings say.
    #[must_use]
    pub fn new(settings: &ObjectSettings) -> Self {
        Self {
            labels: settings.selector.as_ref().map(selector),
            include: settings.include_kinds.clone(),
            exclude: settings.exclude_kinds.clone(),
            cluster_scoped: settings.cluster_scoped,
            protection: None,
        }
    }

    /// The same, recorded with the application that it is captured for.
    ///
    /// # Panics
    /// Never: the specification is plain data.
    #[must_use]
    pub fn of(self, application: &ProtectedApplication) -> Self {
        let metadata = application.metadata.clone();
        let mut annotations = metadata.annotations.unwrap_or_default();
        // What a tool applied last: the same once more.
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        let protection = Protection {
            name: metadata.name.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            annotations,
            spec: serde_json::to_value(&application.spec).expect("our own kinds are plain data"),
        };
        Self { protection: Some(protection), ..self }
    }

    /// Whether objects are selected by their labels.
    #[must_use]
    pub fn by_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Whether a kind of the namespace is selected.
    #[must_use]
    pub fn has_kind(&self, of: &Resource) -> bool {
        let name = kind_name(of);
        (self.include.is_empty() || self.include.contains(&name)) && !self.exclude.contains(&name)
    }

    /// Whether a kind is ruled out.
    #[must_use]
    pub fn excludes(&self, of: &Resource) -> bool {
        self.exclude.contains(&kind_name(of))
    }

    /// Included kinds that are not among these, each with the remedy: a kind that is misspelt must not pass for one of
    /// which there are no objects.
    #[must_use]
    pub fn unknown(&self, served: &[&Resource]) -> Vec<String> {
        let names: BTreeSet<String> = served.iter().map(|it| kind_name(it)).collect();
        let unknown = self.include.iter().filter(|it| !names.contains(*it));
        let told = |it: &String| {
            format!(
                "{it}: spec.backup.objects.includeKinds names it, and no such kind is served in namespaces: correct or remove it"
            )
        };
        unknown.map(told).collect()
    }

    /// Whether an object is selected by its labels.
    #[must_use]
    pub fn has(&self, object: &Value) -> bool {
        let Some(selector) = &self.labels else { return true };
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let labels: BTreeMap<String, String> = labels.into_iter().flatten().filter_map(text).collect();
        selector.matches(&labels)
    }
}

fn kind_name(of: &Resource) -> String {
    if of.group.is_empty() { of.kind.clone() } else { format!("{}.{}", of.kind, of.group) }
}

/// An object that its labels do not select, and that one which is selected may need.
#[derive(Clone, Debug)]
pub struct Candidate<T> {
    /// Its API group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// To which accounts it gives rights, if it is a binding.
    pub gives_to: Option<Subjects>,
    /// What it refers to itself.
    pub refers_to: Vec<Reference>,
    /// What the caller keeps with it.
    pub with: T,
}

impl<T> Candidate<T> {
    /// The same, with something else.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Candidate<U> {
        let Self { group, kind, name, gives_to, refers_to, with } = self;
        Candidate { group, kind, name, gives_to, refers_to, with: change(with) }
    }
}

/// Those of the candidates that what is selected cannot do without, and the rest. What they refer to in turn is added
/// to the references.
#[must_use]
pub fn needed<T>(
    mut candidates: Vec<Candidate<T>>,
    references: &mut BTreeSet<Reference>,
) -> (Vec<Candidate<T>>, Vec<Candidate<T>>) {
    let mut needed = Vec::new();
    loop {
        let (more, rest): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|it| is_needed(it, references));
        if more.is_empty() {
            return (needed, rest);
        }
        references.extend(more.iter().flat_map(|it| it.refers_to.iter().cloned()));
        needed.extend(more);
        candidates = rest;
    }
}

fn is_needed<T>(candidate: &Candidate<T>, references: &BTreeSet<Reference>) -> bool {
    match &candidate.gives_to {
        Some(Subjects::All) => references.iter().any(|it| it.kind == "ServiceAccount"),
        Some(Subjects::Accounts(names)) => {
            let account = |name: &String| Reference { group: "", kind: "ServiceAccount", name: name.clone() };
            names.iter().any(|it| references.contains(&account(it)))
        }
        None => {
            Reference::to(&candidate.group, &candidate.kind, &candidate.name).is_some_and(|it| references.contains(&it))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::application::{LabelOperator, LabelRequirement, ObjectSelector},
        capture::references,
    };
    use serde_json::json;

    fn labelled(name: &str, value: &str) -> Value {
        json!({"metadata": {"labels": {name: value}}})
    }

    #[test]
    fn without_settings_everything_is_selected() {
        let all = Selection::default();
        assert!(all.has_kind(&Resource::new("apps", "v1", "Deployment", "deployments")) && all.cluster_scoped);
        assert!(all.has(&json!({"metadata": {}})) && !all.by_labels());
    }

    #[test]
    fn labels_select_as_kubernetes_has_them() {
        let requirement = |operator, values: &[&str]| LabelRequirement {
            key: "tier".into(),
            operator,
            values: values.iter().map(|it| (*it).to_owned()).collect(),
        };
        let has = |selector: ObjectSelector, object: &Value| {
            Selection::new(&ObjectSettings { selector: Some(selector), ..ObjectSettings::default() }).has(object)
        };
        let equal =
            ObjectSelector { match_labels: [("tier".into(), "web".into())].into(), ..ObjectSelector::default() };
        let that = |it| ObjectSelector { match_expressions: vec![it], ..ObjectSelector::default() };
        let (web, db, none) = (labelled("tier", "web"), labelled("tier", "db"), json!({"metadata": {}}));
        let cases = [
            (equal, [true, false, false]),
            (that(requirement(LabelOperator::In, &["web", "db"])), [true, true, false]),
            (that(requirement(LabelOperator::NotIn, &["db"])), [true, false, true]),
            (that(requirement(LabelOperator::Exists, &[])), [true, true, false]),
            (that(requirement(LabelOperator::DoesNotExist, &[])), [false, false, true]),
        ];
        for (selector, expected) in cases {
            assert_eq!([&web, &db, &none].map(|it| has(selector.clone(), it)), expected, "{selector:?}");
        }
    }

    #[test]
    fn a_kind_is_its_name_and_its_group() {
        let settings = |include: &[&str], exclude: &[&str]| {
            let names = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect();
            let (include_kinds, exclude_kinds) = (names(include), names(exclude));
            Selection::new(&ObjectSettings { include_kinds, exclude_kinds, ..ObjectSettings::default() })
        };
        let deployment = Resource::new("apps", "v1", "Deployment", "deployments");
        let foreign = Resource::new("acme.dev", "v1", "Deployment", "deployments");
        let only = settings(&["Deployment.apps"], &[]);
        assert!(only.has_kind(&deployment) && !only.has_kind(&foreign));
        let without = settings(&[], &["Deployment.acme.dev"]);
        assert!(without.has_kind(&deployment) && !without.has_kind(&foreign));
        let misspelt = settings(&["Deploiment.apps", "Deployment.apps"], &["Gone.acme.dev"]).unknown(&[&deployment]);
        assert_eq!(misspelt.len(), 1, "{misspelt:?}");
        assert!(misspelt[0].starts_with("Deploiment.apps: spec.backup.objects.includeKinds"), "{misspelt:?}");
    }

    #[test]
    fn what_a_selected_object_needs_comes_with_it_and_what_that_needs_too() {
        let candidate = |group: &str, kind: &str, object: Value| Candidate {
            group: group.into(),
            kind: kind.into(),
            name: object["metadata"]["name"].as_str().expect("a name").into(),
            gives_to: references::subjects(&object, "shop").filter(|_| kind == "RoleBinding"),
            refers_to: references::of(group, kind, &object),
            with: (),
        };
        let rbac = "rbac.authorization.k8s.io";
        let binding = |name: &str, account: &str| {
            json!({"metadata": {"name": name}, "roleRef": {"kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "shop"}]})
        };
        let candidates = vec![
            candidate("", "Secret", json!({"metadata": {"name": "registry"}})),
            candidate("", "Secret", json!({"metadata": {"name": "other"}})),
            candidate(rbac, "Role", json!({"metadata": {"name": "reader"}})),
            candidate(rbac, "RoleBinding", binding("reader", "web")),
            candidate(rbac, "RoleBinding", binding("writer", "batch")),
            candidate(
                "",
                "ServiceAccount",
                json!({"metadata": {"name": "web"}, "imagePullSecrets": [{"name": "registry"}]}),
            ),
            candidate("", "ConfigMap", json!({"metadata": {"name": "web"}})),
        ];
        let pod = json!({"spec": {"serviceAccountName": "web", "containers": [
            {"envFrom": [{"configMapRef": {"name": "settings"}}]}]}});
        let mut references: BTreeSet<_> = references::of("", "Pod", &pod).into_iter().collect();
        let (needed, rest) = needed(candidates, &mut references);
        let told =
            |it: &[Candidate<()>]| it.iter().map(|it| format!("{} {}", it.kind, it.name)).collect::<BTreeSet<_>>();
        assert_eq!(
            told(&needed),
            ["Role reader", "RoleBinding reader", "Secret registry", "ServiceAccount web"].map(str::to_owned).into()
        );
        assert_eq!(told(&rest), ["ConfigMap web", "RoleBinding writer", "Secret other"].map(str::to_owned).into());
    }
}
