//! What the lab tests share: the lab with the product in it, made once; and a scene, which is one test's turn on it.

use std::{
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Namespace;
use reprise::{
    api::{
        application::{ProtectedApplicationStatus, Role, Verdict},
        recovery_point::{RecoveryPoint, RecoveryPointStatus},
    },
    vault::{Location, Locked, S3Credentials, S3Location, SecretText, Settings},
};

use serde_json::json;

use crate::harness::{
    app::{App, Writer},
    command::run,
    file,
    lab::{Lab, Region, filled, given, inside},
    product,
    wait::{Look, until},
};

/// The region that is preferred, and serves first.
pub const WEST: &str = "eu-west";
/// The other one.
pub const NORTH: &str = "eu-north";
/// How long the cluster may take for what takes seconds when nothing else runs.
pub const SOON: Duration = Duration::from_secs(90);

/// The lab, with the product in both regions.
struct World {
    lab: Lab,
    west: Region,
    north: Region,
    shared: String,
}

static WORLD: OnceLock<Result<World, String>> = OnceLock::new();
static TURN: Mutex<()> = Mutex::new(());

fn build() -> Result<World> {
    let lab = Lab::attach().context("bring the lab up first: make lab-up")?;
    let (west, north) = (lab.region(WEST)?, lab.region(NORTH)?);
    if !given() {
        lab.load(&product::image()?)?;
    }
    let shared = product::shared(&lab)?;
    thread::scope(|scope| {
        let installing = [&west, &north].map(|region| {
            let shared = shared.as_str();
            scope.spawn(move || {
                if !given() {
                    // In a lab that was kept: operators of an older image, and what they remember of another vault's claims.
                    region.remove_namespace(product::NAMESPACE, SOON)?;
                }
                product::install(region, &[])?;
                region.apply(shared)?;
                product::await_shared(region, SOON)
            })
        });
        installing.into_iter().try_for_each(|it| it.join().expect("installing does not panic"))
    })?;
    Ok(World { lab, west, north, shared })
}

/// One test's turn: it ends with everything mended that the test broke, and its applications gone.
pub struct Scene {
    /// The lab.
    pub lab: &'static Lab,
    /// The region that serves first.
    pub west: &'static Region,
    /// The other one.
    pub north: &'static Region,
    /// The vault and the zone that the regions share, and their Secrets, as a document.
    pub shared: &'static str,
    broken: Mutex<Vec<Vec<String>>>,
    apps: Mutex<Vec<&'static str>>,
    _turn: MutexGuard<'static, ()>,
}

/// What the applications of tests differ in.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// `Advisory` or `Strict`.
    pub fencing: &'static str,
    /// `Manual` or `Automatic`.
    pub activation: &'static str,
    /// The storage class of its volume.
    pub storage: &'static str,
    /// Its RPO. With a long one, points are made by the test alone, but for the first.
    pub rpo: &'static str,
    /// `Cold` or `Warm`.
    pub standby: &'static str,
}

/// What most tests take.
pub const TERMS: Terms =
    Terms { fencing: "Advisory", activation: "Manual", storage: "btrfs", rpo: "1h", standby: "Cold" };
/// Those that move by themselves.
pub const AUTOMATIC: Terms = Terms { activation: "Automatic", ..TERMS };

impl Scene {
    /// Wait for the turn. The first one brings the lab up.
    ///
    /// # Errors
    /// When there is no lab: each test says so.
    pub fn begin() -> Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let world = WORLD.get_or_init(|| build().map_err(|error| format!("{error:?}")));
        let world = world.as_ref().map_err(|error| anyhow!("there is no lab: {error}"))?;
        Ok(Self {
            lab: &world.lab,
            west: &world.west,
            north: &world.north,
            shared: &world.shared,
            broken: Mutex::default(),
            apps: Mutex::default(),
            _turn: turn,
        })
    }

    /// Cause a fault: it is undone at the end of the scene at the latest.
    ///
    /// # Errors
    /// When it could not be caused.
    pub fn fault(&self, words: &[&str]) -> Result<()> {
        self.broken.lock().expect("not poisoned").push(undoing(words));
        println!("{}", self.lab.fault(words)?.trim());
        Ok(())
    }

    /// Undo all faults, the last one first.
    ///
    /// # Errors
    /// When one could not be undone.
    pub fn mend(&self) -> Result<()> {
        while let Some(words) = self.broken.lock().expect("not poisoned").pop() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            println!("{}", self.lab.fault(&words)?.trim());
        }
        Ok(())
    }

    /// A namespace that is deleted at the end of the scene, in both regions.
    ///
    /// # Errors
    /// When one of an earlier run does not go.
    pub fn namespace(&self, name: &'static str) -> Result<()> {
        self.apps.lock().expect("not poisoned").push(name);
        until(&format!("the old namespace {name} to go"), SOON, || {
            for region in [self.west, self.north] {
                if region.get::<Namespace>("", name)?.is_some() {
                    region.kubectl(&["delete", "namespace", name, "--wait=false"], None)?;
                    return Ok(Look::NotYet(format!("it is still in {}", region.name)));
                }
            }
            Ok(Look::Seen(()))
        })
    }

    /// An application that serves in the west, with the north as its standby.
    ///
    /// # Errors
    /// When it does not come to serve.
    pub fn notes(&self, name: &'static str, port: u16, terms: Terms) -> Result<App> {
        let app = App { name, port };
        self.namespace(name)?;
        app.forget_name(self.lab)?;
        let promised = document("protection.yaml", app, terms)?;
        self.west.apply(&promised)?;
        self.west.apply(&document("notes.yaml", app, terms)?)?;
        self.north.apply(&promised)?;
        serving(&app, self.west)?;
        app.await_role(self.north, Role::Standby, SOON)?;
        Ok(app)
    }

    /// A client that writes to it twice a second.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn writer(&self, app: App) -> Result<Writer> {
        let directory = file("target/lab-tests").join(app.name);
        fs::create_dir_all(&directory)?;
        let program = client()?;
        Writer::start(self.lab, app, &program, &directory, Duration::from_mins(20))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Err(error) = self.mend() {
            eprintln!("could not be mended: {error:?}");
        }
        for app in self.apps.get_mut().expect("not poisoned") {
            for region in [self.west, self.north] {
                let _ = region.kubectl(&["delete", "namespace", app, "--ignore-not-found", "--wait=false"], None);
            }
        }
    }
}

/// The words that undo a fault.
fn undoing(words: &[&str]) -> Vec<String> {
    let (verb, rest) = words.split_first().expect("a fault has a verb");
    let undo = match *verb {
        "power-loss" => "power-on",
        "cut-off" => "heal",
        "cut" => "mend",
        "stop" => "start",
        "pause" => "resume",
        other => panic!("nothing undoes the fault '{other}'"),
    };
    [undo].iter().chain(rest).map(|it| (*it).to_owned()).collect()
}

/// A document of this folder, for an application.
pub fn document(name: &str, app: App, terms: Terms) -> Result<String> {
    let port = app.port.to_string();
    // Clusters that are given have storage classes of other names.
    let class = format!("LAB_CLASS_{}", terms.storage.to_uppercase());
    let storage = env::var(class).unwrap_or_else(|_| terms.storage.to_owned());
    let values = [
        ("NAME", app.name),
        ("PORT", &port),
        ("FENCING", terms.fencing),
        ("ACTIVATION", terms.activation),
        ("STORAGE", &storage),
        ("RPO", terms.rpo),
        ("STANDBY", terms.standby),
    ];
    let values: BTreeMap<String, String> = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    filled(&fs::read_to_string(file("tests/lab/scenarios").join(name))?, &values)
}

/// Wait until it serves in that region, under its public name, healthy, and with a recovery point.
///
/// # Errors
/// When it does not.
pub fn serving(app: &App, region: &Region) -> Result<ProtectedApplicationStatus> {
    app.await_status(region, "a healthy application with a recovery point", SOON * 2, |it| {
        it.role == Some(Role::Active)
            && it.health.as_ref().is_some_and(|it| it.verdict == Verdict::Healthy)
            && it.published.is_some()
            && it.last_point.is_some()
    })
}

/// Keep looking for that long: `wrong` says what must not be.
///
/// # Errors
/// As soon as it is.
pub fn throughout(long: Duration, mut wrong: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    let end = Instant::now() + long;
    while Instant::now() < end {
        if let Some(it) = wrong()? {
            return Err(anyhow!(it));
        }
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// Run `kubectl reprise` on an application of a region.
///
/// # Errors
/// When it ends with another code than 0.
pub fn reprise(app: &App, region: &Region, words: &[&str]) -> Result<String> {
    let kubeconfig = region.kubeconfig.to_str().context("the path is no text")?;
    let mut command = vec![env!("CARGO_BIN_EXE_kubectl-reprise"), "--kubeconfig", kubeconfig, "-n", app.name];
    command.extend(words);
    run(Duration::from_mins(5), &command, None).with_context(|| region.story(app.name))
}

/// The client that writes: it must be a program of its own, since it runs in the hub's network.
fn client() -> Result<PathBuf> {
    let program = file("target/debug/examples/demo");
    ensure!(program.exists(), "build the client first: cargo build --example demo");
    Ok(program)
}

/// Ask the application in a region, past DNS.
///
/// # Errors
/// When it does not answer well.
pub fn ask(method: &str, app: &App, region: &Region, path: &str) -> Result<String> {
    let url = format!("http://{}:{}{path}", region.address, app.port);
    let mut command = inside("hub");
    command.extend(["curl", "-sSf", "--noproxy", "*", "--max-time", "10", "-X", method, &url].map(str::to_owned));
    run(Duration::from_secs(20), &command, None)
}

/// A person's failover, named `move`, as a document.
pub fn failover(app: &App, to: &str) -> String {
    let failover = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "Failover", "metadata": {"name": "move", "namespace": app.name},
        "spec": {"application": app.name, "to": to},
    });
    failover.to_string()
}

/// The bucket of the first vault, as whoever has its credentials sees it, and not the key.
///
/// # Errors
/// When the lab does not tell where it is.
pub fn bucket(scene: &Scene) -> Result<Locked> {
    let of = |name: &str| scene.lab.env.get(name).cloned().with_context(|| format!("the lab tells {name}"));
    let prefix = scene.shared.lines().find_map(|it| it.trim().strip_prefix("prefix: ")).context("a prefix")?;
    let location = Location::S3(S3Location {
        bucket: of("LAB_S3_BUCKET")?,
        prefix: prefix.to_owned(),
        region: of("LAB_S3_REGION")?,
        endpoint: Some(of("LAB_S3_ENDPOINT")?),
        path_style: true,
        ca_bundle: None,
        credentials: Some(S3Credentials {
            access_key_id: of("LAB_S3_ACCESS_KEY")?,
            secret_access_key: SecretText::new(of("LAB_S3_SECRET_KEY")?),
            session_token: None,
        }),
        server_side_encryption: None,
        object_lock: None,
        proxy: None,
    });
    let key = SecretText::new("nothing is opened with this key, which only is long enough");
    Ok(Locked::new(Settings { location, key, limits: None })?)
}

/// Make a recovery point now, as a person would.
///
/// # Errors
/// When it does not succeed.
pub fn point(app: &App, region: &Region) -> Result<RecoveryPointStatus> {
    let made = reprise(app, region, &["backup", app.name, "--wait", "--timeout", "2m", "-o", "json"])?;
    let point: RecoveryPoint = serde_json::from_str(&made).with_context(|| format!("read the point: {made}"))?;
    point.status.context("a point that succeeded has a status")
}

/// It serves in that region and in no other one.
///
/// # Errors
/// When it does not, or something of it runs in the other region.
pub fn stays(app: &App, scene: &Scene, here: &Region) -> Result<()> {
    serving(app, here)?;
    let there = if here.name == WEST { scene.north } else { scene.west };
    app.await_role(there, Role::Standby, SOON)?;
    let (replicas, pods) = app.running(there)?;
    ensure!((replicas, pods) == (0, 0), "{replicas} replicas and {pods} pods of {} in {}", app.name, there.name);
    Ok(())
}
