//! What differs between the place that an object comes from and the one that it goes to: names, and single fields.
//!
//! Kubernetes' own kinds and custom ones call the same things by the same names of fields, so one walk finds them, and the
//! table below is all there is to know. `ConfigMap`s and `Secret`s hold the application's own words: only patches reach
//! them. Objects that grant rights, or are the whole cluster's, are never mapped or patched: what an administrator allows
//! to come back is what was captured.

use globset::{Glob, GlobMatcher};
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::{bundle::Id, clean::Move, object::label, policy::RBAC};
use crate::api::mappings::{Mappings, ObjectPatch, ObjectSelector, PatchStep, Rename};

/// What the text of a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Image,
    Host,
    StorageClass,
}

/// Names of fields, and what their text is, also as items of a list.
const FIELDS: [(&str, Text); 12] = [
    ("image", Text::Image),
    ("imageName", Text::Image),
    ("reference", Text::Image),
    ("host", Text::Host),
    ("hosts", Text::Host),
    ("hostname", Text::Host),
    ("hostnames", Text::Host),
    ("dnsNames", Text::Host),
    ("commonName", Text::Host),
    ("externalName", Text::Host),
    ("storageClassName", Text::StorageClass),
    ("storageClass", Text::StorageClass),
];

/// Annotations that hold names of hosts, with commas between them.
const HOST_ANNOTATIONS: [&str; 3] = [
    "external-dns.alpha.kubernetes.io/hostname",
    "external-dns.alpha.kubernetes.io/internal-hostname",
    "external-dns.alpha.kubernetes.io/target",
];

/// How deep an object is looked into.
const DEEPEST: usize = 64;

/// Why mappings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// A name with stars that is none.
    #[error("mappings: select.name {0:?} is no pattern: use letters, *, ? and nothing else")]
    Pattern(String),
    /// A patch that is none.
    #[error("mappings: patches[{0}].patch is no JSON patch: {1}")]
    Patch(usize, #[source] serde_json::Error),
}

/// Chooses objects.
#[derive(Clone, Debug)]
pub struct Selector {
    wanted: ObjectSelector,
    name: Option<GlobMatcher>,
}

impl Selector {
    /// Reads it.
    ///
    /// # Errors
    /// `Pattern` when its name is none.
    pub fn new(wanted: &ObjectSelector) -> Result<Self, MapError> {
        let glob =
            |it: &String| Glob::new(it).map(|it| it.compile_matcher()).map_err(|_| MapError::Pattern(it.clone()));
        Ok(Self { name: wanted.name.as_ref().map(glob).transpose()?, wanted: wanted.clone() })
    }

    /// Whether an object is chosen.
    #[must_use]
    pub fn fits(&self, id: &Id, object: &Value) -> bool {
        self.wanted.group.as_ref().is_none_or(|it| *it == id.group)
            && self.wanted.kind.as_ref().is_none_or(|it| *it == id.kind)
            && self.name.as_ref().is_none_or(|it| it.is_match(&id.name))
            && self.wanted.labels.iter().all(|(key, value)| label(object, key) == Some(value))
    }
}

/// Mappings, ready to be used on many objects.
#[derive(Clone, Debug, Default)]
pub struct Mapper {
    mappings: Mappings,
    patches: Vec<(Selector, Patch)>,
}

impl Mapper {
    /// Reads the mappings.
    ///
    /// # Errors
    /// When a pattern or a patch is none.
    pub fn new(mappings: &Mappings) -> Result<Self, MapError> {
        let mut patches = Vec::new();
        for (at, patch) in mappings.patches.iter().enumerate() {
            patches.push((Selector::new(&patch.select)?, self::patch(patch).map_err(|it| MapError::Patch(at, it))?));
        }
        Ok(Self { mappings: mappings.clone(), patches })
    }

    /// Changes an object that was cleaned already.
    ///
    /// # Errors
    /// Why a patch does not fit. The object must not be restored then.
    pub fn map(&self, id: &Id, object: &mut Value, between: Move) -> Result<(), String> {
        if id.namespace.is_none() || id.group == RBAC {
            return Ok(());
        }
        let moved = between.from != between.to;
        let Mappings { namespaces, storage_classes, images, hostnames, patches: _ } = &self.mappings;
        let named = [namespaces, storage_classes, images, hostnames].iter().any(|it| !it.is_empty());
        if (named || moved) && !(id.group.is_empty() && matches!(id.kind.as_str(), "ConfigMap" | "Secret")) {
            self.annotations(object);
            for (field, value) in object.as_object_mut().into_iter().flatten() {
                if field != "metadata" && field != "data" {
                    self.walk(field, value, between, DEEPEST);
                }
            }
        }
        for (at, (select, patch)) in self.patches.iter().enumerate() {
            if !select.fits(id, object) {
                continue;
            }
            let before = identity(object);
            json_patch::patch(object, patch)
                .map_err(|error| format!("mappings.patches[{at}] does not fit: {error}"))?;
            if identity(object) != before {
                return Err(format!(
                    "mappings.patches[{at}] would make another object of it: leave its kind, name and namespace"
                ));
            }
        }
        Ok(())
    }

    fn annotations(&self, object: &mut Value) {
        let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") else { return };
        for key in HOST_ANNOTATIONS {
            if let Some(Value::String(hosts)) = annotations.get_mut(key) {
                let mapped = hosts.split(',').map(|it| below(it.trim(), '.', &self.mappings.hostnames));
                *hosts = mapped.collect::<Vec<_>>().join(",");
            }
        }
    }

    fn walk(&self, field: &str, value: &mut Value, between: Move, deep: usize) {
        match value {
            Value::String(text) => {
                if let Some((_, what)) = FIELDS.iter().find(|(it, _)| *it == field) {
                    self.text(*what, text);
                }
            }
            Value::Array(items) if deep > 0 => {
                for it in items {
                    self.walk(field, it, between, deep - 1);
                }
            }
            Value::Object(map) => {
                // A namespace beside a name: a reference to an object.
                if map.get("name").is_some_and(Value::is_string)
                    && let Some(Value::String(namespace)) = map.get_mut("namespace")
                {
                    self.namespace(namespace, between);
                }
                if deep > 0 {
                    map.iter_mut().for_each(|(field, value)| self.walk(field, value, between, deep - 1));
                }
            }
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn namespace(&self, namespace: &mut String, between: Move) {
        let to = match self.mappings.namespaces.iter().find(|it| it.from == *namespace) {
            Some(it) => it.to.as_str(),
            None if *namespace == between.from => between.to,
            None => return,
        };
        to.clone_into(namespace);
    }

    fn text(&self, what: Text, text: &mut String) {
        match what {
            Text::Host => *text = below(text, '.', &self.mappings.hostnames),
            Text::StorageClass => *text = self.mappings.storage_class(text).to_owned(),
            Text::Image => {
                let whole = with_registry(text);
                let mapped = below(&whole, '/', &self.mappings.images);
                if mapped != whole {
                    *text = mapped;
                }
            }
        }
    }
}

fn patch(of: &ObjectPatch) -> Result<Patch, serde_json::Error> {
    let step = |it: &PatchStep| {
        let mut step = serde_json::to_value(it)?;
        // An absent value is null.
        step.as_object_mut().expect("a struct is an object").entry("value").or_insert(Value::Null);
        serde_json::from_value::<PatchOperation>(step)
    };
    of.patch.iter().map(step).collect::<Result<Vec<_>, _>>().map(Patch)
}

/// What may not change: which object it is.
fn identity(object: &Value) -> [Option<Value>; 4] {
    ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"].map(|it| object.pointer(it).cloned())
}

/// The name of an image with its registry, as a node reads it.
fn with_registry(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

/// The name that stands for one, or for what it is below: hosts from the right, images from the left. The longest wins.
fn below(text: &str, separator: char, renames: &[Rename]) -> String {
    let rest = |it: &Rename| match separator {
        '.' => text.strip_suffix(it.from.as_str()).filter(|it| it.is_empty() || it.ends_with('.')),
        _ => text.strip_prefix(it.from.as_str()).filter(|it| it.is_empty() || it.starts_with(['/', ':', '@'])),
    };
    let fits = renames.iter().filter_map(|it| Some((it, rest(it)?))).max_by_key(|(it, _)| it.from.len());
    match fits {
        Some((it, rest)) if separator == '.' => format!("{rest}{}", it.to),
        Some((it, rest)) => format!("{}{rest}", it.to),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STAY: Move = Move { from: "shop", to: "shop" };

    fn id(group: &str, kind: &str) -> Id {
        Id { group: group.into(), kind: kind.into(), namespace: Some("shop".into()), name: "web".into() }
    }

    fn mapper(mappings: Value) -> Mapper {
        Mapper::new(&serde_json::from_value(mappings).expect("mappings")).expect("usable ones")
    }

    fn mapped(mapper: &Mapper, of: &Id, mut object: Value, between: Move) -> Value {
        mapper.map(of, &mut object, between).expect("it fits");
        object
    }

    #[test]
    fn images_come_from_the_registry_of_the_region_and_the_longest_name_wins() {
        let mapper = mapper(json!({"images": [{"from": "docker.io", "to": "mirror.example.com"},
            {"from": "eu.example.com", "to": "us.example.com"}, {"from": "eu.example.com/shop", "to": "us.example.com/eu"}]}));
        for (from, to) in [
            ("eu.example.com/shop/web:1", "us.example.com/eu/web:1"),
            ("eu.example.com/shopping/web", "us.example.com/shopping/web"),
            ("nginx:1.27", "mirror.example.com/library/nginx:1.27"),
            ("bitnami/redis@sha256:0", "mirror.example.com/bitnami/redis@sha256:0"),
            ("localhost:5000/x", "localhost:5000/x"),
        ] {
            let pod = json!({"spec": {"initContainers": [{"image": from}]}});
            assert_eq!(mapped(&mapper, &id("", "Pod"), pod, STAY)["spec"]["initContainers"][0]["image"], to);
            let cluster = json!({"spec": {"imageName": from}});
            assert_eq!(mapped(&mapper, &id("postgresql.cnpg.io", "Cluster"), cluster, STAY)["spec"]["imageName"], to);
        }
    }

    #[test]
    fn hosts_are_mapped_wherever_the_usual_kinds_name_them() {
        let mapper = mapper(json!({"hostnames": [{"from": "eu.example.com", "to": "us.example.com"}]}));
        let same = |group: &str, kind: &str, object: Value| {
            let wanted: Value = serde_json::from_str(&object.to_string().replace(".eu.", ".us.")).expect("JSON");
            assert_eq!(mapped(&mapper, &id(group, kind), object, STAY), wanted, "{kind}");
        };
        same(
            "networking.k8s.io",
            "Ingress",
            json!({"spec": {"rules": [{"host": "a.eu.example.com"}], "tls": [{"hosts": ["*.eu.example.com"]}]}}),
        );
        same("gateway.networking.k8s.io", "HTTPRoute", json!({"spec": {"hostnames": ["b.eu.example.com"]}}));
        same(
            "gateway.networking.k8s.io",
            "Gateway",
            json!({"spec": {"listeners": [{"hostname": "*.eu.example.com"}]}}),
        );
        same(
            "cert-manager.io",
            "Certificate",
            json!({"spec": {"dnsNames": ["c.eu.example.com"], "commonName": "c.eu.example.com"}}),
        );
        same(
            "",
            "Service",
            json!({"metadata": {"annotations": {"external-dns.alpha.kubernetes.io/hostname": "d.eu.example.com,e.eu.example.com"}},
            "spec": {"externalName": "f.eu.example.com"}}),
        );
        let other = json!({"spec": {"rules": [{"host": "neu.example.com"}]}});
        assert_eq!(mapped(&mapper, &id("networking.k8s.io", "Ingress"), other.clone(), STAY), other);
    }

    #[test]
    fn storage_classes_and_the_namespaces_of_references_get_the_names_they_have_here() {
        let mapper = mapper(
            json!({"storageClasses": [{"from": "gp3", "to": "premium"}], "namespaces": [{"from": "tools", "to": "tools-us"}]}),
        );
        let set = json!({"spec": {"volumeClaimTemplates": [{"spec": {"storageClassName": "gp3"}}]}});
        let set = mapped(&mapper, &id("apps", "StatefulSet"), set, STAY);
        assert_eq!(set["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"], "premium");
        let named = |namespace: &str| json!({"spec": {"ref": {"name": "a", "namespace": namespace}}});
        let drill = Move { from: "shop", to: "drill" };
        for (from, to) in [("tools", "tools-us"), ("shop", "drill"), ("other", "other")] {
            assert_eq!(mapped(&mapper, &id("acme.dev", "Widget"), named(from), drill), named(to));
        }
    }

    #[test]
    fn an_applications_own_words_are_not_mapped_and_rights_are_not_even_patched() {
        let all = mapper(json!({"hostnames": [{"from": "eu.example.com", "to": "us.example.com"}],
            "patches": [{"select": {"name": "*"}, "patch": [{"op": "add", "path": "/patched", "value": true}]}]}));
        let settings = json!({"data": {"host": "eu.example.com"}});
        let patched = mapped(&all, &id("", "ConfigMap"), settings, STAY);
        assert_eq!(patched, json!({"data": {"host": "eu.example.com"}, "patched": true}));
        let role = json!({"rules": []});
        assert_eq!(mapped(&all, &id(RBAC, "Role"), role.clone(), STAY), role);
        let of_cluster = Id { namespace: None, ..id("acme.dev", "Zone") };
        assert_eq!(mapped(&all, &of_cluster, role.clone(), STAY), role);
    }

    #[test]
    fn a_patch_is_for_what_it_selects_and_one_that_does_not_fit_is_told() {
        let patch = |select: Value, path: &str| {
            mapper(json!({"patches": [{"select": select, "patch": [{"op": "replace", "path": path, "value": 3}]}]}))
        };
        let object = json!({"kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"replicas": 1}});
        let replicas = |select: Value| {
            mapped(&patch(select, "/spec/replicas"), &id("apps", "Deployment"), object.clone(), STAY)["spec"]["replicas"].clone()
        };
        for fits in [
            json!({"kind": "Deployment"}),
            json!({"name": "w*"}),
            json!({"labels": {"app": "web"}}),
            json!({"group": "apps", "name": "we?"}),
        ] {
            assert_eq!(replicas(fits.clone()), 3, "{fits}");
        }
        for other in [
            json!({"kind": "Pod"}),
            json!({"name": "w"}),
            json!({"labels": {"app": "db"}}),
            json!({"group": "", "name": "*"}),
        ] {
            assert_eq!(replicas(other.clone()), 1, "{other}");
        }
        let refused =
            |path: &str| patch(json!({"name": "*"}), path).map(&id("apps", "Deployment"), &mut object.clone(), STAY);
        assert!(refused("/spec/none").unwrap_err().starts_with("mappings.patches[0] does not fit"));
        assert!(refused("/metadata/name").unwrap_err().contains("another object"));
    }
}
