//! What goes wrong while a point is made or restored: nothing is lost, the status says what is so, there is an end, and
//! nothing is left behind. What the vault does wrong is `tests/vault_faults.rs`.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use reprise::api::{
    recovery_point::{RecoveryPoint, RecoveryPointStatus},
    restore::Restore,
};
use serde_json::json;

use super::stage::{SOON, Scene, TERMS, WEST, ask, point, reprise, serving};
use crate::harness::{
    app::App,
    command::run,
    lab::Region,
    product::{NAMESPACE, kill_operators, set_vault_secret},
    residue::Residue,
    wait::{Look, until},
};

/// How long a run may take that is hindered.
const HINDERED: Duration = Duration::from_mins(3);
/// The claim of the application's volume.
const VOLUME: &str = "data-notes-0";

/// Asks for a point, as a program would, and does not wait for it.
fn ask_for(app: &App, region: &Region, name: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "RecoveryPoint",
        "metadata": {"name": name, "namespace": app.name}, "spec": {"application": app.name},
    });
    region.apply(&object.to_string())
}

/// The reason and the message of its condition, and the rest of its status.
fn told(app: &App, region: &Region, name: &str) -> Result<(String, String, RecoveryPointStatus)> {
    let found: RecoveryPoint = region.get(app.name, name)?.with_context(|| format!("there is no {name}"))?;
    let status = found.status.unwrap_or_default();
    let condition = status.conditions.iter().find(|it| it.type_ == "Succeeded");
    let (reason, message) = condition.map(|it| (it.reason.clone(), it.message.clone())).unwrap_or_default();
    Ok((reason, message, status))
}

/// Waits until it is as `good` says.
fn await_point(
    app: &App,
    region: &Region,
    name: &str,
    what: &str,
    good: impl Fn(&str, &str, &RecoveryPointStatus) -> bool,
) -> Result<RecoveryPointStatus> {
    until(&format!("{name}: {what}"), HINDERED, || {
        let (reason, message, status) = told(app, region, name)?;
        Ok(if good(&reason, &message, &status) {
            Look::Seen(status)
        } else {
            Look::NotYet(format!("{reason}: {message}"))
        })
    })
    .with_context(|| region.story(app.name))
}

fn stored(app: &App, region: &Region, name: &str) -> Result<RecoveryPointStatus> {
    await_point(app, region, name, "stored", |reason, _, _| reason == "Stored")
}

/// The vault takes so many bytes a second from each mover: so slowly that something can happen meanwhile.
fn slow_down(region: &Region, bytes: Option<&str>) -> Result<()> {
    let patch = json!({"spec": {"limits": bytes.map(|it| json!({"upload": it, "download": it}))}}).to_string();
    region.kubectl(&["patch", "vault", "main", "--type=merge", "-p", &patch], None)?;
    until("the vault with its new limits", SOON, || {
        let answer = region.kubectl(&["get", "vault", "main", "-o", "json"], None)?;
        let vault: serde_json::Value = serde_json::from_str(&answer)?;
        let seen = vault["metadata"]["generation"] == vault["status"]["observedGeneration"];
        let conditions = vault["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        Ok(if seen && ready { Look::Seen(()) } else { Look::NotYet(vault["status"].to_string()) })
    })
}

/// Runs a command in the application's pod.
fn in_pod(app: &App, region: &Region, script: &str) -> Result<String> {
    region.kubectl(&["exec", "-n", app.name, "notes-0", "--", "sh", "-c", script], None)
}

/// Waits until a mover of the run copies, and returns its pod.
fn mover(region: &Region, uid: &str) -> Result<Pod> {
    until("a mover that runs", SOON, || {
        let pods: Vec<Pod> = region.list(NAMESPACE)?;
        let of_run = |it: &Pod| {
            it.metadata.labels.as_ref().is_some_and(|it| it.get("reprise.dev/run").is_some_and(|it| it == uid))
        };
        let runs = |it: &Pod| it.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Running");
        let found = pods.into_iter().find(|it| of_run(it) && runs(it));
        Ok(found.map_or_else(|| Look::NotYet("none".to_owned()), Look::Seen))
    })
}

fn uid(app: &App, region: &Region, name: &str) -> Result<String> {
    let found: RecoveryPoint = region.get(app.name, name)?.context("the point")?;
    found.metadata.uid.context("what stands in a cluster has a uid")
}

/// SIGKILL to the mover's process, as the kernel does when memory is short.
fn kill(region: &Region, pod: &Pod) -> Result<()> {
    let uid = pod.metadata.uid.clone().context("a pod has a uid")?.replace('-', "[-_]");
    let script = format!(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q 'reprise mover' \
         && grep -q '{uid}' $p/cgroup && kill -9 ${{p#/proc/}} && echo killed; done; true"
    );
    let said = run(Duration::from_secs(20), &["sh", "-c", &script], None)?;
    ensure!(
        said.contains("killed"),
        "no mover of {} runs in {}",
        pod.metadata.name.as_deref().unwrap_or("?"),
        region.name
    );
    Ok(())
}

fn write(app: &App, region: &Region, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
    numbers.into_iter().try_for_each(|it| ask("POST", app, region, &format!("/records/{it}")).map(|_| ()))
}

/// The point is restored, and the records are these.
fn comes_back(app: &App, region: &Region, id: &str, records: &[u64]) -> Result<()> {
    let words = ["restore", app.name, "--point", id, "--volume", VOLUME, "--wait", "--timeout", "2m"];
    reprise(app, region, &words)?;
    let found = app.records(region)?;
    ensure!(found == records, "{found:?} came back, not {records:?}");
    Ok(())
}

#[test]
fn operators_and_movers_that_are_killed_in_a_point_delay_it_and_leave_nothing() -> Result<()> {
    let scene = Scene::begin()?;
    let west = scene.west;
    let app = scene.notes("mishaps", 30_130, TERMS)?;
    write(&app, west, 1..=5)?;
    // So much that a mover is at it for some seconds.
    in_pod(&app, west, "head -c 12000000 /dev/urandom >/data/much")?;
    let residue = Residue::before(west, app.name)?;

    slow_down(west, Some("1Mi"))?;
    ask_for(&app, west, "killed")?;
    let uid = uid(&app, west, "killed")?;
    kill(west, &mover(west, &uid)?)?;
    kill_operators(west)?;
    // The same application once more, while that goes on.
    ask_for(&app, west, "beside")?;
    slow_down(west, None)?;
    let killed = stored(&app, west, "killed")?;
    let beside = stored(&app, west, "beside")?;
    ensure!(killed.volumes[0].failure.is_none() && killed.id != beside.id, "{killed:?} {beside:?}");
    residue.none(SOON)?;

    // The volume is full to the last byte, and a point of it is made and brought back all the same.
    in_pod(&app, west, "dd if=/dev/zero of=/data/full bs=1M 2>/dev/null; true")?;
    let full = point(&app, west)?;
    ensure!(full.volumes[0].unreadable == 0 && full.volumes[0].failure.is_none(), "{full:?}");
    in_pod(&app, west, "rm /data/full /data/much")?;
    write(&app, west, 6..=6)?;
    hindered_restore(&app, west, killed.id.as_deref().context("an id")?)?;
    residue.none(SOON)?;
    serving(&app, west).map(|_| ())
}

/// While it is restored, the mover and both operators are killed, and the claim may not be made again for a while.
fn hindered_restore(app: &App, west: &Region, id: &str) -> Result<()> {
    slow_down(west, Some("1Mi"))?;
    quota(app, west, "persistentvolumeclaims")?;
    let words = ["restore", app.name, "--point", id, "--skip-safety-point", "-o", "json"];
    let made: Restore = serde_json::from_str(&reprise(app, west, &words)?)?;
    let uid = made.metadata.uid.context("what stands in a cluster has a uid")?;
    let name = made.metadata.name.context("a name")?;
    kill(west, &mover(west, &uid)?)?;
    kill_operators(west)?;
    slow_down(west, None)?;
    let seen = |what: &str, good: &dyn Fn(&Condition) -> bool| {
        until(&format!("the restore: {what}"), HINDERED, || {
            let found: Restore = west.get(app.name, &name)?.context("the restore")?;
            let conditions = found.status.unwrap_or_default().conditions;
            let told = conditions.iter().find(|it| it.type_ == "Succeeded");
            Ok(if told.is_some_and(good) { Look::Seen(()) } else { Look::NotYet(format!("{told:?}")) })
        })
    };
    seen("the quota is told of", &|it| it.message.contains("exceeded quota"))?;
    west.kubectl(&["delete", "resourcequota", "none", "-n", app.name], None)?;
    seen("success", &|it| it.status == "True")?;
    let found = app.records(west)?;
    ensure!(found == [1, 2, 3, 4, 5], "{found:?} came back");
    Ok(())
}

#[test]
fn what_is_refused_is_told_and_what_is_granted_again_is_used() -> Result<()> {
    let scene = Scene::begin()?;
    let west = scene.west;
    let app = scene.notes("refused", 30_131, TERMS)?;
    write(&app, west, 1..=3)?;
    let residue = Residue::before(west, app.name)?;

    // A quota that is used up.
    quota(&app, west, "count/volumesnapshots.snapshot.storage.k8s.io")?;
    ask_for(&app, west, "quota")?;
    await_point(&app, west, "quota", "the quota is told of", |_, message, _| message.contains("exceeded quota"))?;
    west.kubectl(&["delete", "resourcequota", "none", "-n", app.name], None)?;
    stored(&app, west, "quota")?;
    residue.none(SOON)?;

    // Credentials that are revoked when the mover begins, and renewed.
    let good = scene.lab.value("LAB_S3_SECRET_KEY")?;
    let outcome = (|| {
        set_vault_secret(west, "revoked")?;
        ask_for(&app, west, "revoked")?;
        await_point(&app, west, "revoked", "the refusal is told of", |_, message, _| {
            message.contains("credentials") || message.contains("denied") || message.contains("Signature")
        })
    })();
    set_vault_secret(west, good)?;
    println!("{:?}", outcome?.conditions);
    stored(&app, west, "revoked")?;
    residue.none(SOON)?;

    // A snapshot class by which snapshots outlive their objects.
    let class = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "driver": "btrfs.csi.lab",
        "metadata": {"name": "a-retain", "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"}},
        "deletionPolicy": "Retain",
    });
    west.apply(&class.to_string())?;
    let made = point(&app, west);
    west.kubectl(&["delete", "volumesnapshotclass", "a-retain"], None)?;
    made?;
    residue.none(SOON)
}

/// No more of these may be made in the application's namespace.
fn quota(app: &App, region: &Region, of: &str) -> Result<()> {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": app.name},
        "spec": {"hard": {of: "0"}},
    });
    region.apply(&quota.to_string())?;
    // Its controller counts before it refuses.
    until("the quota to be counted", SOON, || {
        let words = ["get", "resourcequota", "none", "-n", app.name, "-o", "jsonpath={.status.hard}"];
        let hard = region.kubectl(&words, None)?;
        Ok(if hard.contains(of) { Look::Seen(()) } else { Look::NotYet(hard) })
    })
}

#[test]
fn a_volume_that_is_deleted_while_it_is_read_and_a_node_that_dies_are_told_and_leave_nothing() -> Result<()> {
    let scene = Scene::begin()?;
    let west = scene.west;
    let app = scene.notes("lost", 30_132, TERMS)?;
    write(&app, west, 1..=3)?;
    in_pod(&app, west, "head -c 12000000 /dev/urandom >/data/much")?;
    let residue = Residue::before(west, app.name)?;

    slow_down(west, Some("512Ki"))?;
    ask_for(&app, west, "dark")?;
    mover(west, &uid(&app, west, "dark")?)?;
    scene.fault(&["power-loss", WEST])?;
    sleep(Duration::from_secs(2));
    scene.mend()?;
    slow_down(west, None)?;
    let dark = await_point(&app, west, "dark", "its end", |_, _, status| status.finished_at.is_some())?;
    let (reason, message, _) = told(&app, west, "dark")?;
    println!("after the power loss: {reason}: {message}");
    ensure!(["Stored", "Partial"].contains(&reason.as_str()), "{reason}: {message}");
    ensure!((reason == "Stored") == dark.volumes.iter().all(|it| it.snapshot.is_some()), "{dark:?}");
    serving(&app, west)?;
    residue.none(SOON)?;

    // The claim goes while a mover reads what was snapshotted of it.
    slow_down(west, Some("512Ki"))?;
    in_pod(&app, west, "head -c 12000000 /dev/urandom >/data/more")?;
    ask_for(&app, west, "deleted")?;
    mover(west, &uid(&app, west, "deleted")?)?;
    west.kubectl(&["delete", "pvc", VOLUME, "-n", app.name, "--wait=false"], None)?;
    west.kubectl(&["scale", "statefulset", "notes", "-n", app.name, "--replicas=0"], None)?;
    let deleted = await_point(&app, west, "deleted", "its end", |_, _, status| status.finished_at.is_some())?;
    slow_down(west, None)?;
    let id = deleted.id.clone().context("it had begun")?;
    let (reason, message, _) = told(&app, west, "deleted")?;
    println!("after the claim was deleted: {reason}: {message}");
    ensure!(reason == "Stored", "what was snapshotted is in the point: {reason}: {message}");
    west.kubectl(&["scale", "statefulset", "notes", "-n", app.name, "--replicas=1"], None)?;
    serving(&app, west)?;
    ensure!(app.records(west)?.is_empty(), "its volume is a new one");
    comes_back(&app, west, &id, &[1, 2, 3])?;
    residue.none(SOON)
}
