//! A thief with the operator's credentials empties the bucket as far as he can, and all that the regions knew is gone: the
//! vault is rewound to before, and the application comes back with what its newest point held.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use reprise::api::{recovery_point::RecoveryPointStatus, vault::LockClass};

use super::{
    recover::{asked, in_both, wiped},
    stage::{SOON, Scene, TERMS, ask, point, serving},
};
use crate::harness::{app::App, command::run, file, lab::inside, product};

/// The shared vault in the lab's bucket with locks. The usual one is put back when this ends.
struct Locked<'a>(&'a Scene);

impl<'a> Locked<'a> {
    fn begin(scene: &'a Scene) -> Result<(Self, String)> {
        let bucket = |name: &str| format!("bucket: {name}\n");
        let env = &scene.lab.env;
        let (usual, locked) = (&env["LAB_S3_BUCKET"], &env["LAB_S3_LOCKED_BUCKET"]);
        let lock = "    objectLock: {mode: Governance, period: 1d, monthly: 30d}\n";
        let document = scene.shared.replace(&bucket(usual), &(bucket(locked) + lock));
        ensure!(document != scene.shared, "the shared vault names another bucket");
        let guard = Self(scene);
        in_both(scene, |region| region.apply(&document))?;
        Ok((guard, document))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = in_both(self.0, |region| region.apply(self.0.shared));
    }
}

/// What the thief could remove for good, and what he could not.
fn robbed(scene: &Scene) -> Result<(u64, u64)> {
    let env = &scene.lab.env;
    let prefix = scene.shared.lines().find_map(|it| it.trim().strip_prefix("prefix: ")).context("no prefix")?;
    let script = file("tests/lab/lib/thief.py");
    let mut command = inside("hub");
    command.extend(["python3".to_owned(), script.to_string_lossy().into_owned()]);
    for name in ["LAB_S3_ENDPOINT", "LAB_S3_ACCESS_KEY", "LAB_S3_SECRET_KEY", "LAB_S3_LOCKED_BUCKET"] {
        command.push(env[name].clone());
    }
    command.push(format!("{prefix}/"));
    let said = run(Duration::from_mins(1), &command, None)?;
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    let [removed, refused, _] = numbers[..] else { anyhow::bail!("the thief said {said}") };
    Ok((removed, refused))
}

fn locked_for(point: &RecoveryPointStatus, days: i64) -> Result<()> {
    let until = point.locked_until.as_ref().with_context(|| format!("it is not locked: {point:?}"))?.0;
    ensure!(until.as_second() > Timestamp::now().as_second() + (days * 24 - 1) * 3600, "locked until {until} only");
    Ok(())
}

#[test]
fn an_application_whose_bucket_a_thief_emptied_comes_back_with_its_newest_point() -> Result<()> {
    let scene = Scene::begin()?;
    let (_locked, shared) = Locked::begin(&scene)?;
    let app = scene.notes("thief", 30_127, TERMS)?;
    let rounds = |it: &reprise::api::application::ProtectedApplicationStatus| {
        it.locks.as_ref().is_some_and(|it| it.locked_until.is_some())
    };
    app.await_status(scene.west, "all that is kept to be locked", SOON, rounds)?;
    ask("POST", &app, scene.west, "/records/1")?;
    let last = point(&app, scene.west)?;
    locked_for(&last, 1)?;
    let points: Vec<reprise::api::recovery_point::RecoveryPoint> = scene.west.list(app.name)?;
    let first = points.iter().filter_map(|it| it.status.as_ref()).find_map(|it| Some((it, it.lock.as_ref()?)));
    let (first, lock) = first.with_context(|| format!("no point is locked longer: {points:?}"))?;
    ensure!(lock.class == LockClass::Monthly && lock.failure.is_none(), "{lock:?}");
    locked_for(first, 30)?;
    std::thread::sleep(Duration::from_secs(2));
    let before = Timestamp::now().to_string();
    std::thread::sleep(Duration::from_secs(2));

    in_both(&scene, |region| wiped(&app, region))?;
    let (removed, refused) = robbed(&scene)?;
    ensure!(removed > 0 && refused > 0, "{removed} removed, {refused} refused");
    in_both(&scene, |region| {
        product::install(region, &[])?;
        region.apply(&shared)?;
        product::await_shared(region, SOON)
    })?;
    back(&scene, &app, &before, last.id.as_deref().context("a point has an id")?)
}

fn back(scene: &Scene, app: &App, before: &str, last: &str) -> Result<()> {
    let name = format!("{0}/{0}", app.name);
    let words = ["recover", "--at", before, "--apply", name.as_str(), "--wait", "--timeout", "3m"];
    let back = asked(app, scene.west, &words)?;
    ensure!(back[0]["succeeded"] == true && back[0]["point"] == *last, "{back}");
    ensure!(app.records(scene.west)? == [1], "what was written before is there");
    serving(app, scene.west)?;
    Ok(())
}
