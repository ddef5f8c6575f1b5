//! What gets in the way of a failover that has begun: damaged points, an operator that dies, a DNS server that is away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, path::Path};
use reprise::{
    api::{
        failover::{Failover, StepName},
        vault::Vault,
    },
    cli::failover::active,
};

use super::stage::{self, NORTH, SOON, Scene, TERMS, WEST, ask, point, stays};
use crate::harness::{
    app::App,
    lab::Region,
    product::NAMESPACE,
    wait::{Look, until},
};

/// How long a failover may take that is hindered.
const HINDERED: Duration = Duration::from_mins(5);

/// A person's failover to the north.
fn asked_for(app: &App, scene: &Scene) -> Result<()> {
    scene.north.apply(&stage::failover(app, NORTH))
}

fn failover(app: &App, region: &Region) -> Result<Failover> {
    region.get(app.name, "move")?.context("there is no Failover")
}

/// Wait until it has ended, and well.
fn succeeded(app: &App, scene: &Scene) -> Result<Failover> {
    let ended = until("the end of the failover", HINDERED, || {
        let it = failover(app, scene.north)?;
        let shown = format!("{:?}", it.status);
        Ok(if active(&it) { Look::NotYet(shown) } else { Look::Seen(it) })
    })
    .with_context(|| scene.north.story(app.name))?;
    let status = ended.status.clone().unwrap_or_default();
    ensure!(status.conditions.iter().any(|it| it.type_ == "Succeeded" && it.status == "True"), "{status:?}");
    Ok(ended)
}

/// Changes what lies in the vault.
struct Vandal {
    store: object_store::aws::AmazonS3,
    prefix: String,
    runtime: tokio::runtime::Runtime,
}

impl Vandal {
    fn new(scene: &Scene) -> Result<Self> {
        let main: Vault = scene.west.get("", "main")?.context("there is no Vault main")?;
        let store = AmazonS3Builder::new()
            .with_bucket_name(scene.lab.value("LAB_S3_BUCKET")?)
            .with_region(scene.lab.value("LAB_S3_REGION")?)
            .with_endpoint(scene.lab.value("LAB_S3_ENDPOINT")?)
            .with_access_key_id(scene.lab.value("LAB_S3_ACCESS_KEY")?)
            .with_secret_access_key(scene.lab.value("LAB_S3_SECRET_KEY")?)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { store, prefix: main.spec.s3.and_then(|it| it.prefix).context("the vault has no prefix")?, runtime })
    }

    /// The keys of an application.
    fn keys(&self, app: &App) -> Result<Vec<String>> {
        use futures::TryStreamExt;
        let mut keys = Vec::new();
        for under in [format!("apps/{0}/{0}", app.name), format!("repos/{0}.{0}", app.name)] {
            let under = Path::from(format!("{}/{under}", self.prefix));
            let found: Vec<_> = self.runtime.block_on(self.store.list(Some(&under)).try_collect())?;
            keys.extend(found.into_iter().map(|it: object_store::ObjectMeta| it.location.to_string()));
        }
        Ok(keys)
    }

    /// Flip one bit in the middle.
    fn damage(&self, key: &str) -> Result<()> {
        self.runtime.block_on(async {
            let path = Path::from(key);
            let mut bytes = self.store.get(&path).await?.bytes().await?.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            self.store.put(&path, bytes.into()).await?;
            println!("damaged {key}");
            Ok(())
        })
    }
}

#[test]
fn damaged_points_are_passed_over_and_named() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("damaged", 30_107, TERMS)?;
    let vandal = Vandal::new(&scene)?;
    let write = |number: u64| ask("POST", &app, scene.west, &format!("/records/{number}")).map(|_| ());
    write(1)?;
    let good = point(&app, scene.west)?.id.context("a point has an id")?;
    let before = vandal.keys(&app)?;
    write(2)?;
    let second = point(&app, scene.west)?.id.context("a point has an id")?;
    let packs: Vec<String> =
        vandal.keys(&app)?.into_iter().filter(|it| it.contains("/data/") && !before.contains(it)).collect();
    ensure!(!packs.is_empty(), "the second point added no data: {before:?}");
    write(3)?;
    let third = point(&app, scene.west)?.id.context("a point has an id")?;
    // A holder that is alive would be asked to hand over, and would make another point first.
    scene.fault(&["stop", &format!("operator:{WEST}")])?;
    for pack in &packs {
        vandal.damage(pack)?;
    }
    let keys = vandal.keys(&app)?;
    let record = keys.iter().find(|it| it.contains("/points/") && it.contains(&third));
    vandal.damage(record.context("the third point has no record")?)?;

    asked_for(&app, &scene)?;
    let status = succeeded(&app, &scene)?.status.unwrap_or_default();
    // What was damaged came after the good point, so nothing of it is missing, and no older one may be taken.
    ensure!(
        status.point.as_ref() == Some(&good),
        "{:?} was restored, not {good}: {:?}",
        status.point,
        status.passed_over
    );
    for bad in [&second, &third] {
        ensure!(
            status.passed_over.iter().any(|it| it.contains(bad.as_str())),
            "{bad} is not told of: {:?}",
            status.passed_over
        );
    }
    println!("{:#?}", status.passed_over);
    let restored = app.records(scene.north)?;
    ensure!(restored == [1], "{restored:?}");
    Ok(())
}

#[test]
fn an_operator_that_is_killed_at_every_step_ends_the_failover_all_the_same() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("killed", 30_108, TERMS)?;
    for number in 1..=10 {
        ask("POST", &app, scene.west, &format!("/records/{number}"))?;
    }
    asked_for(&app, &scene)?;
    let mut killed_at: Vec<StepName> = Vec::new();
    until("the end of the failover", HINDERED, || {
        let it = failover(&app, scene.north)?;
        let shown = format!("{:?}, killed at {killed_at:?}", it.status.as_ref().and_then(|it| it.step));
        if !active(&it) {
            return Ok(Look::Seen(()));
        }
        if let Some(step) = it.status.and_then(|it| it.step).filter(|it| killed_at.last() != Some(it)) {
            killed_at.push(step);
            let label = "app.kubernetes.io/component=operator";
            scene.north.kubectl(
                &["delete", "pods", "-n", NAMESPACE, "-l", label, "--grace-period=0", "--force", "--wait=false"],
                None,
            )?;
        }
        Ok(Look::NotYet(shown))
    })
    .with_context(|| scene.north.story(app.name))?;
    println!("killed at {killed_at:?}");
    succeeded(&app, &scene)?;
    ensure!(killed_at.len() >= 6, "it was killed at {killed_at:?} only");
    ensure!(app.failovers(scene.north)?.len() == 1, "another failover was made");
    let records = app.records(scene.north)?;
    ensure!(records == (1..=10).collect::<Vec<u64>>(), "{records:?}");
    stays(&app, &scene, scene.north)
}

#[test]
fn a_dns_server_that_is_away_delays_the_switch_and_does_not_halve_it() -> Result<()> {
    let scene = Scene::begin()?;
    let app = scene.notes("dnsaway", 30_109, TERMS)?;
    ask("POST", &app, scene.west, "/records/1")?;
    scene.fault(&["stop", "dns"])?;
    asked_for(&app, &scene)?;
    let message = until("the switch to be tried without a DNS server", HINDERED, || {
        let status = failover(&app, scene.north)?.status.unwrap_or_default();
        let step = status.steps.last().filter(|it| it.name == StepName::SwitchTraffic).map(|it| it.message.clone());
        let said = step.filter(|it| it.contains("spec.rfc2136.server"));
        let shown = format!("{status:?}");
        Ok(said.map_or(Look::NotYet(shown), Look::Seen))
    })
    .with_context(|| scene.north.story(app.name))?;
    println!("{message}");
    scene.mend()?;
    let status = succeeded(&app, &scene)?.status.unwrap_or_default();
    ensure!(status.address.as_deref() == Some(scene.north.address.as_str()), "{status:?}");
    until("the name to lead to the north", SOON, || {
        let address = app.published(scene.lab)?.map(|it| it.to_string());
        let there = address.as_deref() == Some(scene.north.address.as_str());
        Ok(if there { Look::Seen(()) } else { Look::NotYet(format!("{address:?}")) })
    })?;
    ensure!(app.records(scene.north)? == [1], "{:?}", app.records(scene.north)?);
    stays(&app, &scene, scene.north)
}
