//! Streams a command's output in a pod into the repository, and back into a command's input. Nothing is put on a disk.
//!
//! A dump is good only when its command ended with 0 and said so over a connection that held to the end, and when the
//! end of its output has arrived. The engine
//! leaves a file out that it cannot read to its end: of a bad dump nothing remains but a snapshot without a file, which
//! nothing names.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use jiff::Timestamp;
use kube::Client;
use rustic_core::{
    BackupOptions, IndexedIds, ParentOptions, ReadSource, ReadSourceEntry, Repository, RusticResult, SnapshotOptions,
    repofile::{Metadata, Node, NodeType, SnapshotFile},
};
use tokio::{runtime::Handle, time::timeout};

use super::{backup::id_text, check, engine::Engine, error::MoverError, meter::Meter};
use crate::{
    core::mover_task::{Command, Ran, Report},
    exec::{self, Ended, ExecError, Place, Session, Streams},
};

/// The file's name in a snapshot.
pub(super) const FILE: &str = "dump";
/// A command that fails before it has read all leaves the rest to the shell: the API server breaks a connection off that
/// nobody reads from, and the exit code would be lost with it.
const DRAINED: &str = r#""$@" || { code=$?; cat > /dev/null; exit $code; }"#;
/// How much is asked for at once.
const PIECE: usize = 256 * 1024;
/// How long one wait for the command may last, before it is looked whether its time is over.
const LOOK: Duration = Duration::from_secs(5);

/// What is to be stored.
pub(super) struct Dump<'a> {
    pub(super) namespace: &'a str,
    pub(super) host: &'a str,
    pub(super) name: &'a str,
    pub(super) tags: [String; 3],
    pub(super) command: &'a Command,
    pub(super) max_bytes: Option<u64>,
}

/// Runs the command, and stores what it writes.
pub(super) fn dump(engine: &Engine, runtime: &Handle, dump: &Dump<'_>) -> Result<Report, MoverError> {
    engine.meter.phase("reading the index");
    let repository = engine.open_or_make()?.to_indexed_ids().map_err(|error| engine.error(&error))?;
    let started_at = Timestamp::now();
    let mark = ulid::Ulid::generate().to_string();
    let command = Command { command: marked(&dump.command.command, &mark), ..dump.command.clone() };
    let session = begin(runtime, dump.namespace, &command, Streams::Output)?;
    let pod = session.pod().to_owned();
    let output = Output {
        limits: Limits::new(dump.command, dump.max_bytes),
        read: 0,
        held: BytesMut::new(),
        mark,
        over: false,
        session,
        runtime: runtime.clone(),
        meter: engine.meter.clone(),
        verdict: Verdict::default(),
    };
    let verdict = output.verdict.clone();
    engine.meter.phase("dumping");
    let snapshot = archive(engine, &repository, dump, output)?;
    drop(repository);
    let ended = verdict.taken(&pod)?;
    engine.meter.phase("checking");
    check::new_snapshot(engine, &snapshot)?;
    let summary = snapshot.summary.clone().unwrap_or_default();
    Ok(Report {
        snapshot: Some(id_text(snapshot.id)),
        files: summary.total_files_processed,
        bytes: summary.total_bytes_processed,
        added_bytes: summary.data_added_packed,
        command: Some(Ran { pod, started_at: Some(started_at), exit_code: Some(ended.code), stderr: ended.stderr }),
        ..Report::default()
    })
}

/// The command, with a mark behind all that it writes. Kubernetes has cut outputs short and told exit code 0: what ends
/// with the mark is whole.
fn marked(command: &[String], mark: &str) -> Vec<String> {
    let script = format!(r#""$@"; code=$?; printf %s {mark}; exit $code"#);
    in_shell(&script, command)
}

/// A script of a shell that has the command as its arguments, and stays above it: of a command that is the first process
/// of its exec, the standard input was seen to end early.
fn in_shell(script: &str, command: &[String]) -> Vec<String> {
    ["sh", "-c", script, "sh"].into_iter().map(str::to_owned).chain(command.iter().cloned()).collect()
}

/// Starts a command in the pod that it is for.
fn begin(runtime: &Handle, namespace: &str, command: &Command, streams: Streams) -> Result<Session, MoverError> {
    runtime.block_on(async {
        let client = Client::try_default()
            .await
            .map_err(|error| MoverError::Task(format!("no way to the API server: {error}")))?;
        let place = Place { namespace, pods: &command.pods, container: command.container.as_deref() };
        let seat = exec::ready(&client, &place).await.map_err(|error| MoverError::not_run(&error))?;
        tracing::info!(
            pod = seat.pod,
            container = seat.container,
            program = command.command.first(),
            "the command starts"
        );
        let session = exec::start(&client, namespace, &seat, &command.command, streams).await;
        session.map_err(|error| MoverError::not_run(&error))
    })
}

pub(super) fn archive(
    engine: &Engine,
    repository: &Repository<impl IndexedIds>,
    dump: &Dump<'_>,
    output: impl Read + Send + 'static,
) -> Result<SnapshotFile, MoverError> {
    let error = |error: Box<rustic_core::RusticError>| engine.error(&error);
    let label = crate::core::dump::label(dump.name);
    let mut options = SnapshotOptions::default().host(dump.host.to_owned()).label(label);
    for tag in &dump.tags {
        options = options.add_tags(tag).map_err(error)?;
    }
    let snapshot = options.command("reprise mover".to_owned()).to_snapshot().map_err(error)?;
    // There is no file to compare with: it is read in whole, and what is stored already is not stored again.
    let options = BackupOptions::default().no_scan(true).parent_opts(ParentOptions::default().force(true));
    let source = Once(Mutex::new(Some(output)));
    repository.archive(&options, &source, snapshot, &[PathBuf::from(FILE)]).map_err(error)
}

/// A source of one file that can be read once.
struct Once<R>(Mutex<Option<R>>);

impl<R: Read + Send + 'static> ReadSource for Once<R> {
    type Open = R;
    type Iter = std::iter::Once<RusticResult<ReadSourceEntry<R>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Self::Iter {
        let node = Node::new_node(FILE.as_ref(), NodeType::File, Metadata::default());
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::iter::once(Ok(ReadSourceEntry { path: PathBuf::from(FILE), node, open }))
    }
}

/// How the command ended, once it has. Clones share it.
#[derive(Clone, Debug, Default)]
struct Verdict(Arc<Mutex<Option<Result<Ended, MoverError>>>>);

impl Verdict {
    fn set(&self, verdict: Result<Ended, MoverError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }

    /// Of an output that was never read to its end there is none.
    fn taken(&self, pod: &str) -> Result<Ended, MoverError> {
        let verdict = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let why = "its output was not read to the end".to_owned();
        verdict.unwrap_or_else(|| Err(MoverError::not_run(&ExecError::CutOff { pod: pod.to_owned(), why })))
    }
}

/// How long and how large it may be.
struct Limits {
    until: Instant,
    timeout: Duration,
    bytes: u64,
}

impl Limits {
    fn new(command: &Command, max_bytes: Option<u64>) -> Self {
        let timeout = Duration::from_secs(command.timeout_seconds);
        Self { until: Instant::now() + timeout, timeout, bytes: max_bytes.unwrap_or(u64::MAX) }
    }
}

/// What the command writes. It ends well only when the command did.
struct Output {
    session: Session,
    limits: Limits,
    read: u64,
    /// What has arrived, and was not handed on yet.
    held: BytesMut,
    /// What stands at the end of a whole output.
    mark: String,
    /// Whether the command has ended well, and all that it wrote was read.
    over: bool,
    runtime: Handle,
    meter: Meter,
    verdict: Verdict,
}

impl Output {
    /// Waits for the next bytes, or for the end.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, MoverError> {
        loop {
            let left = self.limits.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.broken_off(&format!("was not done within {} s", self.limits.timeout.as_secs())));
            }
            let (runtime, session) = (&self.runtime, &mut self.session);
            match runtime.block_on(async { timeout(left.min(LOOK), session.read(buffer)).await }) {
                Ok(Ok(count)) => return Ok(count),
                Ok(Err(error)) => return Err(self.failed(&error)),
                // A command may be silent for as long as it was given.
                Err(_) => self.meter.step(),
            }
        }
    }

    /// How the command ended whose output has.
    fn end(&mut self) -> Result<Ended, MoverError> {
        let (runtime, session) = (&self.runtime, &mut self.session);
        match runtime.block_on(session.end()) {
            Ok(ended) if ended.code == 0 => Ok(ended),
            Ok(ended) => Err(MoverError::exited(self.session.pod(), &ended)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &ExecError) -> MoverError {
        MoverError::Command { what: error.to_string(), exit_code: None, stderr: self.session.stderr() }
    }

    fn broken_off(&self, why: &str) -> MoverError {
        let what = format!("the command in pod {} {why}, and was broken off", self.session.pod());
        MoverError::Command { what, exit_code: None, stderr: self.session.stderr() }
    }
}

impl Output {
    /// Reads until the buffer is full, or the command has ended well: the engine's chunker makes its buffer smaller
    /// for good with each read that does not fill it.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, MoverError> {
        let mut piece = vec![0; PIECE];
        // What may be the mark is held back.
        while self.held.len() < buffer.len() + self.mark.len() && !self.over {
            match self.next(&mut piece)? {
                0 => self.finish()?,
                count => self.held.extend_from_slice(&piece[..count]),
            }
        }
        let count = buffer.len().min(self.held.len());
        buffer[..count].copy_from_slice(&self.held.split_to(count));
        self.read += count as u64;
        if self.read > self.limits.bytes {
            return Err(self.broken_off(&format!("wrote more than maxBytes, {} bytes", self.limits.bytes)));
        }
        Ok(count)
    }

    /// The output is at its end: is it the command's?
    fn finish(&mut self) -> Result<(), MoverError> {
        let ended = self.end()?;
        if !self.held.ends_with(self.mark.as_bytes()) {
            let (pod, why) = (self.session.pod().to_owned(), "the end of its output did not arrive".to_owned());
            return Err(self.failed(&ExecError::CutOff { pod, why }));
        }
        self.held.truncate(self.held.len() - self.mark.len());
        self.verdict.set(Ok(ended));
        self.over = true;
        Ok(())
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill(buffer).map_err(|error| {
            let text = error.to_string();
            self.verdict.set(Err(error));
            io::Error::other(text)
        })
    }
}

/// Gives a stored dump to a command.
pub(super) fn load(
    engine: &Engine,
    runtime: &Handle,
    id: &str,
    into: &str,
    command: &Command,
) -> Result<Report, MoverError> {
    engine.meter.phase("reading the index");
    let repository = engine.open()?;
    let snapshot = check::snapshot(engine, &repository, id)?;
    let repository = repository.to_indexed().map_err(|error| engine.error(&error))?;
    let node = repository.node_from_snapshot_and_path(&snapshot, FILE).map_err(|error| engine.error(&error))?;
    let started_at = Timestamp::now();
    let wrapped = Command { command: in_shell(DRAINED, &command.command), ..command.clone() };
    let session = begin(runtime, into, &wrapped, Streams::Input)?;
    let pod = session.pod().to_owned();
    engine.meter.phase("loading");
    let mut input = Input {
        session,
        limits: Limits::new(command, None),
        written: 0,
        runtime: runtime.clone(),
        meter: engine.meter.clone(),
        failed: None,
    };
    let dumped = repository.dump(&node, &mut input);
    let written = input.written;
    let ended = match dumped {
        Ok(()) => input.close()?,
        // The command is left without its connection: what it was given is not whole.
        Err(error) => return Err(input.failed.unwrap_or_else(|| engine.error(&error))),
    };
    Ok(Report {
        snapshot: Some(id.to_owned()),
        files: 1,
        bytes: written,
        added_bytes: written,
        command: Some(Ran { pod, started_at: Some(started_at), exit_code: Some(ended.code), stderr: ended.stderr }),
        ..Report::default()
    })
}

/// What the command reads.
struct Input {
    session: Session,
    limits: Limits,
    written: u64,
    runtime: Handle,
    meter: Meter,
    failed: Option<MoverError>,
}

impl Input {
    fn error(&self, what: String) -> MoverError {
        MoverError::Command { what, exit_code: None, stderr: self.session.stderr() }
    }

    fn late(&self) -> MoverError {
        let (pod, seconds) = (self.session.pod(), self.limits.timeout.as_secs());
        self.error(format!("the command in pod {pod} was not done within {seconds} s, and was broken off"))
    }

    /// How the command ended that has read all.
    fn close(&mut self) -> Result<Ended, MoverError> {
        self.runtime.block_on(self.session.close_input());
        loop {
            let left = self.limits.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.late());
            }
            match self.runtime.block_on(async { timeout(left.min(LOOK), self.session.wait()).await }) {
                Ok(Ok(ended)) if ended.code == 0 => return Ok(ended),
                Ok(Ok(ended)) => return Err(MoverError::exited(self.session.pod(), &ended)),
                Ok(Err(error)) => return Err(self.error(error.to_string())),
                Err(_) => self.meter.step(),
            }
        }
    }

    /// Why a command that has ended did not take all.
    fn ended_early(&mut self) -> MoverError {
        match self.runtime.block_on(self.session.end()) {
            Ok(ended) if ended.code != 0 => MoverError::exited(self.session.pod(), &ended),
            Ok(_) => self.error(format!("the command in pod {} ended before it had read the dump", self.session.pod())),
            Err(error) => self.error(error.to_string()),
        }
    }

    fn give(&mut self, bytes: &[u8]) -> Result<usize, MoverError> {
        loop {
            let left = self.limits.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.late());
            }
            match self.runtime.block_on(async { timeout(left.min(LOOK), self.session.write(bytes)).await }) {
                Ok(Ok(0)) => return Err(self.ended_early()),
                Ok(Ok(count)) => return Ok(count),
                Ok(Err(error)) => return Err(self.error(error.to_string())),
                Err(_) => self.meter.step(),
            }
        }
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.give(bytes) {
            Ok(count) => {
                self.written += count as u64;
                self.meter.step();
                Ok(count)
            }
            Err(error) => {
                let text = error.to_string();
                self.failed = Some(error);
                Err(io::Error::other(text))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
