//! The lab: two regions and a hub on this machine, as `tests/lab/lab` makes them, and the faults it can cause.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Resource;
use serde::de::DeserializeOwned;

use super::{
    command::{run, show},
    file,
    wait::{Look, until},
};

/// A command of the lab that changes something small.
const SHORT: Duration = Duration::from_mins(2);
/// `fault power-on` waits for a whole cluster.
const FAULT: Duration = Duration::from_mins(5);
/// `up`, with everything to be built: on two cores.
const BUILD: Duration = Duration::from_mins(70);
/// One request of kubectl.
const REQUEST: Duration = Duration::from_secs(20);

/// A lab that is up, or two clusters in its place.
#[derive(Clone, Debug)]
pub struct Lab {
    /// What `lab env` prints.
    pub env: BTreeMap<String, String>,
}

/// The clusters that a developer gives in place of the lab: the variable with the path of each kubeconfig, and the region
/// that it stands for. There are no faults in them, and commands "in a region" run on this machine.
const GIVEN: [(&str, &str); 2] = [("KUBECONFIG_A", "EU_WEST"), ("KUBECONFIG_B", "EU_NORTH")];

/// Whether clusters are given.
pub fn given() -> bool {
    GIVEN.iter().all(|(variable, _)| std::env::var_os(variable).is_some())
}

/// One region of it.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// The address of its node.
    pub address: String,
    /// The file with the administrator's credentials.
    pub kubeconfig: PathBuf,
    /// The kubelet's root directory.
    pub kubelet_root: String,
    kubectl: String,
    /// The program helm.
    pub helm: String,
}

#[expect(clippy::unused_self, reason = "faults and archives need a lab that is up, and having one proves it")]
impl Lab {
    /// Bring a fresh one up, building what is missing, and use it. One that this clone had up goes down first.
    ///
    /// # Errors
    /// When it does not come up, or another clone has one up; the lab has said why.
    pub fn fresh() -> Result<Self> {
        show(FAULT, &[script().as_path(), Path::new("down")])?;
        show(BUILD, &[script().as_path(), Path::new("up")])?;
        Self::attach()
    }

    /// Use the one that is up, or the clusters that are given.
    ///
    /// # Errors
    /// When none is up; when a given cluster does not answer.
    pub fn attach() -> Result<Self> {
        if given() {
            return Self::of_given();
        }
        let exported = run(SHORT, &[script().as_os_str(), "env".as_ref()], None)?;
        // The values are quoted for a shell, so a shell reads them.
        let read = format!("{exported}\nenv | grep -a ^LAB_");
        let env = run(SHORT, &["bash", "-c", &read], None)?;
        Ok(Self { env: env.lines().filter_map(|it| it.split_once('=')).map(|(a, b)| (a.into(), b.into())).collect() })
    }

    /// The facts that `lab env` would print, from the environment; what is not there is asked of the clusters.
    fn of_given() -> Result<Self> {
        let mut env: BTreeMap<String, String> = std::env::vars().filter(|(name, _)| name.starts_with("LAB_")).collect();
        let mut unless_set = |name: String, value: String| {
            env.entry(name).or_insert(value);
        };
        unless_set("LAB_KUBECTL".to_owned(), "kubectl".to_owned());
        unless_set("LAB_HELM".to_owned(), "helm".to_owned());
        for (variable, region) in GIVEN {
            let file = std::env::var(variable)?;
            let address = r#"jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}"#;
            let asked = ["kubectl", "--kubeconfig", &file, "--request-timeout=10s", "get", "nodes", "-o", address];
            unless_set(format!("LAB_NODE_IP_{region}"), run(REQUEST, &asked, None)?);
            unless_set(format!("LAB_KUBELET_ROOT_{region}"), "/var/lib/kubelet".to_owned());
            unless_set(format!("LAB_KUBECONFIG_{region}"), file);
        }
        Ok(Self { env })
    }

    /// A value of `lab env`.
    ///
    /// # Errors
    /// When the lab does not tell it.
    pub fn value(&self, name: &str) -> Result<&str> {
        self.env.get(name).map(String::as_str).with_context(|| format!("lab env does not tell {name}"))
    }

    /// A region by its name.
    ///
    /// # Errors
    /// When the lab does not know it.
    pub fn region(&self, name: &str) -> Result<Region> {
        let of = |what: &str| self.value(&format!("{what}_{}", name.to_uppercase().replace('-', "_")));
        Ok(Region {
            name: name.to_owned(),
            address: of("LAB_NODE_IP")?.to_owned(),
            kubeconfig: of("LAB_KUBECONFIG")?.into(),
            kubelet_root: of("LAB_KUBELET_ROOT")?.to_owned(),
            kubectl: self.value("LAB_KUBECTL")?.to_owned(),
            helm: self.value("LAB_HELM")?.to_owned(),
        })
    }

    /// Cause or end a fault: `["power-loss", "eu-west"]`. Returns the lab's line about it.
    ///
    /// # Errors
    /// When it could not be caused or ended.
    pub fn fault(&self, words: &[&str]) -> Result<String> {
        ensure!(!given(), "there are no faults in clusters that are given: unset KUBECONFIG_A to test in the lab");
        verb(FAULT, &[&["fault"], words].concat())
    }

    /// Give an image archive to every region.
    ///
    /// # Errors
    /// When a region does not take it.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let archive = archive.to_str().context("the archive's path is no text")?;
        verb(SHORT, &["load", archive]).map(|_| ())
    }
}

/// The command that runs another one in the network of a region or of the hub.
pub fn inside(node: &str) -> Vec<String> {
    if given() {
        return Vec::new();
    }
    vec![script().to_string_lossy().into_owned(), "in".to_owned(), node.to_owned()]
}

fn verb(within: Duration, words: &[&str]) -> Result<String> {
    let script = script();
    let mut command = vec![script.to_str().context("the project's path is no text")?];
    command.extend(words);
    run(within, &command, None)
}

fn script() -> PathBuf {
    file("tests/lab/lab")
}

impl Region {
    /// Run kubectl as the region's administrator.
    ///
    /// # Errors
    /// When it fails, or takes longer than 20 seconds.
    pub fn kubectl(&self, words: &[&str], input: Option<&str>) -> Result<String> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        let mut command = vec![self.kubectl.as_str(), &kubeconfig, "--request-timeout=10s"];
        command.extend(words);
        run(REQUEST, &command, input).with_context(|| format!("in {}", self.name))
    }

    /// Apply documents, on the server's side.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply(&self, documents: &str) -> Result<()> {
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(documents)).map(|_| ())
    }

    /// Delete a namespace, if it is there, and wait until it is gone.
    ///
    /// # Errors
    /// When it does not go within `within`.
    pub fn remove_namespace(&self, name: &str, within: Duration) -> Result<()> {
        self.kubectl(&["delete", "namespace", name, "--ignore-not-found", "--wait=false"], None)?;
        until(&format!("namespace {name} to go from {}", self.name), within, || {
            let there = self.get::<Namespace>("", name)?.is_some();
            Ok(if there { Look::NotYet("it is there".to_owned()) } else { Look::Seen(()) })
        })
    }

    /// Read one object, if it is there. Give no namespace for one of the cluster.
    ///
    /// # Errors
    /// When the API server does not answer, or answers something else.
    pub fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let answer = self.kubectl(&read(namespace, &["get", &kind::<K>(), name, "--ignore-not-found"]), None)?;
        if answer.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&answer).map(Some).with_context(|| format!("read {} {name} of {}", kind::<K>(), self.name))
    }

    /// Read all objects of a kind in a namespace.
    ///
    /// # Errors
    /// When the API server does not answer, or answers something else.
    pub fn list<K>(&self, namespace: &str) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let answer = self.kubectl(&read(namespace, &["get", &kind::<K>()]), None)?;
        let mut list: serde_json::Value = serde_json::from_str(&answer)?;
        serde_json::from_value(list["items"].take()).with_context(|| format!("list {} of {}", kind::<K>(), self.name))
    }

    /// What happened in a namespace, for a failed test's message.
    pub fn story(&self, namespace: &str) -> String {
        let mut out = String::new();
        let looks: [&[&str]; 4] = [
            &["get", "papp,fo,rp,pods,pvc", "-n", namespace, "-o", "wide"],
            &["get", "vaults,dnszones"],
            &["get", "events", "-n", namespace, "--sort-by=.lastTimestamp"],
            &["logs", "-n", "reprise-system", "-l", "app.kubernetes.io/component=operator", "--tail=40", "--prefix"],
        ];
        for look in looks {
            let seen = self.kubectl(look, None).unwrap_or_else(|error| format!("{error:#}"));
            let _ = writeln!(out, "--- {}: kubectl {}\n{seen}", self.name, look.join(" "));
        }
        out
    }
}

/// The kind as kubectl is told it: with its group, so that no other kind of that name is meant.
fn kind<K: Resource<DynamicType = ()>>() -> String {
    match (K::plural(&()), K::group(&())) {
        (plural, group) if group.is_empty() => plural.into_owned(),
        (plural, group) => format!("{plural}.{group}"),
    }
}

fn read<'a>(namespace: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    let mut all = words.to_vec();
    all.extend(["-o", "json"]);
    if !namespace.is_empty() {
        all.extend(["-n", namespace]);
    }
    all
}

/// Replace each `${NAME}` by its value.
///
/// # Errors
/// When a name has none.
pub fn filled(text: &str, values: &BTreeMap<String, String>) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    // A comment may speak of ${NAMES}.
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, behind)) = after.split_once('}') else { bail!("no closing brace in: {line}") };
            let value = values.get(name).with_context(|| format!("nothing to put in place of ${{{name}}}"))?;
            out.push_str(before);
            out.push_str(value);
            rest = behind;
        }
        out.push_str(rest);
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_replaced_or_complained_about() {
        let values = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(filled("# ${NAMES}\nx: ${A}${A}y", &values).expect("filled"), "x: 11y\n");
        assert!(filled("x: ${B}", &values).is_err());
    }
}
