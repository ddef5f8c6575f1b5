//! Moves the data of a volume between a directory and the vault, in a pod of its own: `reprise mover`.
//!
//! One process does one task, says how it ended in its report and its exit code, and keeps nothing. Only dumps, whose
//! data comes from a command in a pod, need the API server. It may be killed at any time: what was stored already is
//! found again by the next attempt.
//!
//! `rustic_core` makes and opens repositories, reads their index and snapshots, checks their data, and stores and loads
//! dumps. Writing and restoring volumes are our own (`archive`, `restore`), in the same format: faster, in less memory, and with an error for each
//! thing that goes wrong. What else the engine does by a panic or a warning, `error` and `log` take care of.

mod archive;
mod backup;
mod check;
mod copy;
mod device;
mod dump;
mod engine;
pub mod error;
mod exclude;
mod export;
mod index;
mod locks;
mod log;
pub mod look;
mod meter;
mod noted;
mod parallel;
mod pieces;
mod prune;
mod restore;
mod scrub;
mod seal;
mod source;
mod touched;

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::backup::Backup;
use self::copy::Copy;
use self::dump::Dump;
use self::engine::Engine;
use self::error::MoverError;
use self::export::Export;
use self::log::Witness;
use self::prune::Prune;
use self::scrub::Scrub;
use crate::api::vault::VaultSpec;
use crate::core::mover_job::VAULTS;
use crate::core::mover_task::{
    AZURE_CREDENTIALS, Command, DONE, PROXY_CREDENTIALS, REPORT, Report, TASK, TO, Task, VAULT, VAULT_KEY,
};
use crate::core::paths::Paths;
use crate::vault::{
    AzureCredentials, Location, ProxyCredentials, S3Credentials, SecretText, Settings, Vault, VaultError,
};

/// The time between two lines about progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long nothing may move.
const STALL_MINUTES: u64 = 15;
/// How long nothing may move once a request has failed for good: the engine's threads may wait for each other for
/// ever then.
const STALL_AFTER_FAILURE: Duration = Duration::from_secs(20);
/// How long it may take to note damage at a point.
const NOTING: Duration = Duration::from_secs(30);
/// The stack of the engine's thread.
const STACK: usize = 16 * 1024 * 1024;
/// Where the report goes when the environment does not say.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Does the task that the environment names. Sets up this process's log and panic hook: nothing else may have.
#[must_use]
pub fn run() -> ExitCode {
    ExitCode::from(run_to_code(VAULTS))
}

/// `vaults` is where claims of vaults are mounted.
fn run_to_code(vaults: &str) -> u8 {
    let witness = log::set_up();
    let begin = Instant::now();
    let outcome = perform(&witness, vaults);
    let code = outcome.as_ref().map_or_else(MoverError::exit_code, |_| DONE);
    let mut report = outcome.unwrap_or_else(|error| Report {
        corrupt: matches!(error, MoverError::Corrupt(_) | MoverError::Copy(_)),
        command: error.ran(),
        error: Some(error.to_string()),
        ..Report::default()
    });
    report.duration_seconds = begin.elapsed().as_secs();
    let message = report.to_message();
    tracing::info!(code, report = message, "finished");
    let path = std::env::var(REPORT).unwrap_or_else(|_| TERMINATION_LOG.to_owned());
    if let Err(error) = fs::write(&path, &message) {
        tracing::error!(path, %error, "the report could not be written");
    }
    code
}

fn perform(witness: &Witness, vaults: &str) -> Result<Report, MoverError> {
    let task = read_task(&variable(TASK)?)?;
    let settings = read_settings(vaults, "")?;
    let runtime = Runtime::new().map_err(|error| MoverError::Engine(format!("no threads: {}", error.kind())))?;
    let vault = runtime.block_on(Vault::open(&settings))?;
    let to =
        if task.writes_elsewhere() { Some(runtime.block_on(Vault::open(&read_settings(vaults, TO)?))?) } else { None };
    let (namespace, application) = task.application();
    let engine = Engine::new(&vault, namespace, application, runtime.handle().clone());
    let panics = watch_panics(&engine);
    let (sender, receiver) = channel();
    stop_on_signal(&runtime, sender.clone());
    let worker = (engine.clone(), (vault.clone(), to), witness.clone());
    let noted = task.clone();
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            let (engine, vaults, witness) = worker;
            // The receiver is gone only when the process is about to end.
            let _ = sender.send(guarded(&engine, &panics, || carry_out(&engine, &vaults, &task, &witness)));
        })
        .map_err(|error| MoverError::Engine(format!("no threads: {}", error.kind())))?;
    let outcome = supervise(&engine, &receiver);
    if let Err(MoverError::Corrupt(what)) = &outcome {
        runtime.block_on(note(&vault, &noted, what));
    }
    // Requests that hang must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// Writes down at the point what was met. The report says it in any case.
async fn note(vault: &Vault, task: &Task, what: &str) {
    match tokio::time::timeout(NOTING, noted::met(vault, task, what)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the damage is not noted at the point"),
        Err(_) => tracing::warn!("the damage is not noted at the point: the vault did not answer in time"),
    }
}

/// `to` is the vault that a copy or an export goes to.
fn carry_out(
    engine: &Engine,
    (vault, to): &(Vault, Option<Vault>),
    task: &Task,
    witness: &Witness,
) -> Result<Report, MoverError> {
    match task {
        Task::Backup { namespace, application, source, host, label, point, exclude } => {
            let tags = tags(namespace, application, point);
            let backup = Backup { source: Path::new(source), host, label, tags, exclude };
            backup::back_up(engine, &backup, witness)
        }
        Task::Restore { namespace: _, application: _, snapshot, target, exclude, base, paths, point: _ } => {
            let paths = Paths::some(paths).map_err(|error| MoverError::Task(format!("`paths`: {error}")))?;
            restore::restore(engine, (snapshot, base), (Path::new(target), exclude), paths.as_ref(), witness)
        }
        Task::Export { namespace, application, point, volumes, dumps, manifest, objects, target } => {
            let manifest = manifest.as_deref();
            let export = Export { namespace, application, point, volumes, dumps, manifest, objects };
            export.run(engine, (vault, to.as_ref()), target, witness)
        }
        Task::Verify { namespace: _, application: _, snapshots, read_percent } => {
            check::verify(engine, snapshots, *read_percent)
        }
        Task::Lock { namespace: _, application: _, snapshots, until } => locks::lock(engine, snapshots, *until),
        Task::Prune { namespace, application, region, keep_seconds } => {
            let prune = Prune { vault, namespace, application, region, keep: Duration::from_secs(*keep_seconds) };
            prune.run(engine)
        }
        Task::Scrub { namespace, application, region, part, parts, newest } => {
            let (part, parts, newest) = (*part, *parts, newest.as_ref());
            Scrub { vault, namespace, application, region, part, parts, newest }.run(engine)
        }
        Task::Dump { namespace, application, host, name, point, command, max_bytes } => {
            let tags = tags(namespace, application, point);
            let dump = Dump { namespace, host, name, tags, command, max_bytes: *max_bytes };
            dump::dump(engine, engine.runtime(), &dump)
        }
        Task::Copy { namespace, application, point } => {
            let to = to.as_ref().ok_or_else(|| MoverError::Task(format!("the environment has no {TO}{VAULT}")))?;
            Copy { from: vault, to, namespace, application, point }.run(engine)
        }
        Task::Load { namespace: _, application: _, snapshot, into, command, point: _ } => {
            dump::load(engine, engine.runtime(), snapshot, into, command)
        }
    }
}

fn tags(namespace: &str, application: &str, point: &str) -> [String; 3] {
    [format!("namespace={namespace}"), format!("application={application}"), format!("point={point}")]
}

/// The first panic of any thread.
type Panics = Arc<Mutex<Option<String>>>;

/// Keeps the first panic's message, logs it, and lets the rest of the run fail quickly: the engine's other threads
/// would go on to transfer what is lost already.
fn watch_panics(engine: &Engine) -> Panics {
    let panics = Panics::default();
    let (first, health) = (panics.clone(), engine.health().clone());
    std::panic::set_hook(Box::new(move |info| {
        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            let message = payload_text(info.payload());
            tracing::error!(message, place = info.location().map(ToString::to_string), "the engine panicked");
            *first = Some(message);
            health.stop();
        }
    }));
    panics
}

/// Turns a panic of the engine into an error.
fn guarded(
    engine: &Engine,
    panics: &Panics,
    work: impl FnOnce() -> Result<Report, MoverError>,
) -> Result<Report, MoverError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome,
        Err(payload) => {
            let first = panics.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let message = first.unwrap_or_else(|| payload_text(&*payload));
            Err(MoverError::from_panic(engine.health(), &message))
        }
    }
}

fn payload_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

/// Waits for the outcome, tells how far it is, and gives up when nothing moves.
fn supervise(engine: &Engine, receiver: &Receiver<Result<Report, MoverError>>) -> Result<Report, MoverError> {
    let begin = Instant::now();
    let mut last = (0, 0);
    let mut moved = Instant::now();
    loop {
        match receiver.recv_timeout(PROGRESS) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(MoverError::Engine("the engine's thread is gone".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => engine.meter.log(begin.elapsed().as_secs()),
        }
        let now = (engine.meter.steps(), engine.health().requests());
        let failed = engine.health().failure().is_some() || engine.health().corrupt().is_some();
        let patience = if failed { STALL_AFTER_FAILURE } else { Duration::from_secs(STALL_MINUTES * 60) };
        if now != last {
            (last, moved) = (now, Instant::now());
        } else if moved.elapsed() >= patience {
            return Err(MoverError::from_stall(engine.health(), STALL_MINUTES));
        }
    }
}

/// As the first process of its container it would not end on SIGTERM by itself.
fn stop_on_signal(runtime: &Runtime, sender: std::sync::mpsc::Sender<Result<Report, MoverError>>) {
    runtime.spawn(async move {
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        if terminate.recv().await.is_some() {
            let _ = sender.send(Err(MoverError::Stopped));
        }
    });
}

fn variable(name: &str) -> Result<String, MoverError> {
    std::env::var(name).map_err(|_| MoverError::Task(format!("the environment has no {name}")))
}

/// Reads the task, and refuses what can't be one before anything is opened.
fn read_task(text: &str) -> Result<Task, MoverError> {
    let wrong = |what: &str| Err(MoverError::Task(what.to_owned()));
    let task: Task = serde_json::from_str(text).map_err(|error| MoverError::Task(format!("{TASK}: {error}")))?;
    let (namespace, application) = task.application();
    for name in [namespace, application] {
        if name.is_empty() || name.contains(['/', '\0']) || namespace.contains('.') {
            return wrong("`namespace` and `application` must be names of Kubernetes objects");
        }
    }
    match &task {
        Task::Backup { source, label, host, point, .. } => {
            if !Path::new(source).is_absolute() {
                return wrong("`source` must be an absolute path");
            }
            if label.is_empty() || host.is_empty() || point.is_empty() {
                return wrong("`label`, `host` and `point` must not be empty");
            }
            if point.contains(',') {
                return wrong("`point` must have no commas");
            }
        }
        Task::Restore { snapshot, target, base, .. } => {
            if !Path::new(target).is_absolute() {
                return wrong("`target` must be an absolute path");
            }
            if !is_id(snapshot) {
                return wrong("`snapshot` must be a snapshot's full id");
            }
            if !base.iter().all(is_id) {
                return wrong("`base` must be full ids of snapshots");
            }
        }
        Task::Export { volumes, dumps, target, .. } => export::check(volumes, dumps, target)?,
        Task::Verify { snapshots, .. } | Task::Lock { snapshots, .. }
            if snapshots.is_empty() || !snapshots.iter().all(is_id) =>
        {
            return wrong("`snapshots` must be full ids, at least one");
        }
        Task::Verify { read_percent, .. } if *read_percent > 100 => return wrong("`readPercent` must be at most 100"),
        Task::Verify { .. } | Task::Lock { .. } => {}
        Task::Prune { region, .. } => {
            if region.is_empty() {
                return wrong("`region` must not be empty");
            }
        }
        Task::Scrub { part, parts, newest, .. } => scrub::check(*part, *parts, newest.as_ref())?,
        Task::Dump { name, host, point, command, .. } => {
            if name.is_empty() || host.is_empty() || point.is_empty() || point.contains(',') {
                return wrong("`name`, `host` and `point` must not be empty, and `point` must have no commas");
            }
            if !is_whole(command) {
                return wrong("`command` must name pods by labels, and a program");
            }
        }
        Task::Copy { point, .. } => {
            if point.is_empty() || point.contains(['/', '\0']) {
                return wrong("`point` must be a point's id");
            }
        }
        Task::Load { snapshot, into, command, .. } => {
            if !is_id(snapshot) {
                return wrong("`snapshot` must be a snapshot's full id");
            }
            if into.is_empty() || !is_whole(command) {
                return wrong("`into` must be a namespace; `command` must name pods by labels, and a program");
            }
        }
    }
    Ok(task)
}

#[expect(clippy::ptr_arg, reason = "so that lists of them can be gone through")]
fn is_id(id: &String) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Without labels, any pod of the namespace would do.
fn is_whole(command: &Command) -> bool {
    !command.pods.is_empty() && command.command.first().is_some_and(|it| !it.is_empty())
}

/// A vault's place from one variable, its secrets from others, the names of which all begin so.
fn read_settings(vaults: &str, prefix: &str) -> Result<Settings, MoverError> {
    let place = format!("{prefix}{VAULT}");
    let spec: VaultSpec =
        serde_json::from_str(&variable(&place)?).map_err(|error| MoverError::Task(format!("{place}: {error}")))?;
    let mut location = Location::from_spec(&spec, vaults)
        .ok_or_else(|| MoverError::Task(format!("{place}: none of s3, azure and directory is given")))?;
    let given = |name: &str| std::env::var(format!("{prefix}{name}")).ok().filter(|value| !value.is_empty());
    match &mut location {
        Location::S3(s3) => {
            if let (Some(access_key_id), Some(secret)) = (given("AWS_ACCESS_KEY_ID"), given("AWS_SECRET_ACCESS_KEY")) {
                s3.credentials = Some(S3Credentials {
                    access_key_id,
                    secret_access_key: SecretText::new(secret),
                    session_token: given("AWS_SESSION_TOKEN").map(SecretText::new),
                });
            }
        }
        Location::Azure(azure) => azure.credentials = azure_credentials(&spec, given)?,
        Location::Directory(_) => {}
    }
    if let Some(proxy) = location.proxy_mut() {
        let [username, password] = PROXY_CREDENTIALS.map(|(name, _)| given(name));
        proxy.credentials = username
            .zip(password)
            .map(|(username, password)| ProxyCredentials { username, password: SecretText::new(password) });
    }
    Ok(Settings { location, key: SecretText::new(variable(&format!("{prefix}{VAULT_KEY}"))?), limits: spec.limits })
}

/// The environment's identity counts only where no Secret is named.
fn azure_credentials(
    spec: &VaultSpec,
    given: impl Fn(&str) -> Option<String>,
) -> Result<Option<AzureCredentials>, MoverError> {
    if spec.azure.as_ref().is_none_or(|azure| azure.credentials.is_none()) {
        return Ok(None);
    }
    let entry = |entry: &str| AZURE_CREDENTIALS.iter().find(|(_, it)| *it == entry).and_then(|(name, _)| given(name));
    let wrong = |what| VaultError::Settings(format!("the Secret of `spec.azure.credentials`: {what}"));
    Ok(Some(AzureCredentials::from_entries(entry).map_err(wrong)?))
}

#[cfg(test)]
mod tests;
