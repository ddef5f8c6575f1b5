//! The product in a region of the lab: its image, its chart, and the vault and zone that the regions share.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use reprise::api::{dns_zone::DnsZone, vault::Vault};
use serde_json::json;

use super::{
    command::{run, show},
    file,
    lab::{Lab, Region, filled},
    wait::{Look, until},
};

/// Where the chart is installed: the lab's faults look for it there.
pub const NAMESPACE: &str = "reprise-system";
/// The name of the image that `make image` makes.
const IMAGE: (&str, &str) = ("localhost/reprise", "dev");

/// Make the image (with optimised dependencies), unless `REPRISE_IMAGE` names an archive that is made already.
///
/// # Errors
/// When it cannot be made.
pub fn image() -> Result<PathBuf> {
    if let Some(archive) = std::env::var_os("REPRISE_IMAGE") {
        return Ok(archive.into());
    }
    let root = file("");
    let root = root.to_str().context("the project's path is no text")?;
    show(Duration::from_mins(30), &["make", "--no-print-directory", "-C", root, "image", "PROFILE=dev"])?;
    Ok(file("target/image/reprise.tar"))
}

/// Install the chart, or upgrade it, and wait until the operator is ready. `settings` are helm's `--set`s.
///
/// # Errors
/// When helm fails, or the operator is not ready within two minutes.
pub fn install(region: &Region, settings: &[&str]) -> Result<()> {
    let chart = file("charts/reprise");
    let mut command: Vec<String> = vec![
        region.helm.clone(),
        format!("--kubeconfig={}", region.kubeconfig.display()),
        "upgrade".into(),
        "--install".into(),
        "reprise".into(),
        chart.to_string_lossy().into_owned(),
        format!("--namespace={NAMESPACE}"),
        "--create-namespace".into(),
        "--wait".into(),
        "--timeout=120s".into(),
    ];
    let own = [
        format!("region={}", region.name),
        format!("image.repository={}", IMAGE.0),
        format!("image.tag={}", IMAGE.1),
        // The archive was loaded; there is no registry.
        "image.pullPolicy=Never".to_owned(),
        format!("movers.direct.kubeletRoot={}", region.kubelet_root),
        "log.format=text".to_owned(),
        "rehearsals.enabled=true".to_owned(),
        r"log.level=info\,reprise=debug".to_owned(),
    ];
    for setting in own.iter().map(String::as_str).chain(settings.iter().copied()) {
        command.extend(["--set".to_owned(), setting.to_owned()]);
    }
    run(Duration::from_secs(150), &command, None)
        .with_context(|| region.story(NAMESPACE))
        .with_context(|| format!("install the chart in {}", region.name))?;
    Ok(())
}

/// What the regions of one test share: a vault of its own, in a folder of the lab's bucket, with a key of its own.
///
/// # Errors
/// When the lab does not tell what is needed.
pub fn shared(lab: &Lab) -> Result<String> {
    let fresh = ulid::Ulid::generate().to_string().to_lowercase();
    let mut values: BTreeMap<String, String> = lab.env.clone();
    values.insert("VAULT_PREFIX".to_owned(), format!("run-{fresh}"));
    values.insert("VAULT_KEY".to_owned(), format!("{fresh}{}", ulid::Ulid::generate()));
    filled(&std::fs::read_to_string(file("tests/lab/demo/shared.yaml"))?, &values)
}

/// Wait until vault and zone are ready in a region.
///
/// # Errors
/// When one is not within `within`: with its condition.
pub fn await_shared(region: &Region, within: Duration) -> Result<()> {
    let what = format!("the vault and the zone of {}", region.name);
    until(&what, within, || {
        let vaults: Vec<Vault> = region.list("")?;
        let zones: Vec<DnsZone> = region.list("")?;
        let vault = |it: &Vault| {
            let status = it.status.clone().unwrap_or_default();
            unready(&it.metadata, status.observed_generation, &status.conditions)
        };
        let zone = |it: &DnsZone| {
            let status = it.status.clone().unwrap_or_default();
            unready(&it.metadata, status.observed_generation, &status.conditions)
        };
        let unready = vaults.iter().filter_map(vault).chain(zones.iter().filter_map(zone));
        let unready: Vec<String> = unready.collect();
        let there = !vaults.is_empty() && !zones.is_empty();
        Ok(if there && unready.is_empty() { Look::Seen(()) } else { Look::NotYet(unready.join("; ")) })
    })
}

/// What an object of these lacks to be ready, by its last change.
fn unready(object: &ObjectMeta, observed: Option<i64>, conditions: &[Condition]) -> Option<String> {
    let name = object.name.as_deref().unwrap_or_default();
    match conditions.iter().find(|it| it.type_ == "Ready") {
        _ if observed != object.generation => Some(format!("{name}: its last change was not looked at yet")),
        Some(it) if it.status == "True" => None,
        Some(it) => Some(format!("{name}: {} ({})", it.reason, it.message)),
        None => Some(format!("{name}: no condition Ready")),
    }
}

/// Ends both of the region's operators at once, with no time to say good-bye.
///
/// # Errors
/// When the API server does not take it.
pub fn kill_operators(region: &Region) -> Result<()> {
    let label = "app.kubernetes.io/component=operator";
    let delete = ["delete", "pods", "-n", NAMESPACE, "-l", label, "--grace-period=0", "--force", "--wait=false"];
    region.kubectl(&delete, None).map(|_| ())
}

/// Gives the region's operator another secret key for the first vault: a wrong one shuts it.
///
/// # Errors
/// When the API server does not take it.
pub fn set_vault_secret(region: &Region, text: &str) -> Result<()> {
    let patch = json!({"stringData": {"secretAccessKey": text}}).to_string();
    region.kubectl(&["patch", "secret", "vault-main", "-n", NAMESPACE, "--type=merge", "-p", &patch], None).map(|_| ())
}
