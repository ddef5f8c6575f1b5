//! Runs a command in a pod, and knows how it ended: by an exit code, or by a connection that broke.
//!
//! The API server passes the command's streams over one connection. A command has ended well only when its exit code
//! came over that connection: an output that just stops proves nothing. What the command is for is the caller's.

mod tail;

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api, Client, ResourceExt,
    api::{AttachParams, AttachedProcess, ListParams},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, SimplexStream, WriteHalf},
    task::JoinHandle,
    time::timeout,
};

use self::tail::Tail;

/// The API server's answer to one question.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the exit code may lag behind the end of the output.
const LAG: Duration = Duration::from_secs(30);
/// Bytes on their way between the connection and us.
const BUFFER: usize = 1024 * 1024;
/// So many pods are looked at.
const PODS: u32 = 500;

/// Why a command did not run to its end.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum ExecError {
    /// No pod to run it in.
    #[error("no pod of namespace {namespace} with the labels {labels} is running and ready")]
    NoPod {
        /// The namespace.
        namespace: String,
        /// What was looked for.
        labels: String,
    },
    /// The API server does not list pods.
    #[error("list the pods of namespace {namespace}: {why}")]
    List {
        /// The namespace.
        namespace: String,
        /// What it said.
        why: String,
    },
    /// The command was not started.
    #[error("the command was not started in pod {pod}: {why}")]
    NotStarted {
        /// The pod.
        pod: String,
        /// What the API server or the container's runtime said.
        why: String,
    },
    /// The connection ended before the command had.
    #[error("the connection to the command in pod {pod} broke off before it had ended: {why}")]
    CutOff {
        /// The pod.
        pod: String,
        /// What is known of it.
        why: String,
    },
}

/// Where a command is to run.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The labels that a pod must have.
    pub pods: &'a BTreeMap<String, String>,
    /// The container. Without it, the one that kubectl would take.
    pub container: Option<&'a str>,
}

/// A pod, and the container of it that a command is to run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Whether the pod is ready.
    pub ready: bool,
}

/// The pods of a place that run, by name.
///
/// # Errors
/// When the API server does not list them.
pub async fn running(client: &Client, place: &Place<'_>) -> Result<Vec<Seat>, ExecError> {
    let list = ListParams::default().labels(&labels(place.pods)).limit(PODS);
    let pods = Api::<Pod>::namespaced(client.clone(), place.namespace);
    let failed = |why: String| ExecError::List { namespace: place.namespace.to_owned(), why };
    let listed = timeout(ANSWER, pods.list(&list)).await.map_err(|_| failed("no answer in time".to_owned()))?;
    let listed = listed.map_err(|error| failed(error.to_string()))?;
    let mut seats: Vec<Seat> = listed.items.iter().filter_map(|it| seat(it, place.container)).collect();
    seats.sort_by(|one, other| one.pod.cmp(&other.pod));
    Ok(seats)
}

/// The first pod of a place, by name, that is running and ready.
///
/// # Errors
/// When there is none, or the API server does not say.
pub async fn ready(client: &Client, place: &Place<'_>) -> Result<Seat, ExecError> {
    let first = running(client, place).await?.into_iter().find(|it| it.ready);
    first.ok_or_else(|| ExecError::NoPod { namespace: place.namespace.to_owned(), labels: labels(place.pods) })
}

/// The labels of a pod, as a selector.
#[must_use]
pub fn labels(pods: &BTreeMap<String, String>) -> String {
    pods.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// A pod that runs, with the container that is meant.
fn seat(pod: &Pod, container: Option<&str>) -> Option<Seat> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Running") || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let default = || pod.annotations().get("kubectl.kubernetes.io/default-container").cloned();
    let first = || Some(pod.spec.as_ref()?.containers.first()?.name.clone());
    let container = container.map(ToOwned::to_owned).or_else(default).or_else(first)?;
    Some(Seat { pod: pod.name_any(), container, ready: is_ready(pod) })
}

/// Whether a pod runs, and is ready.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
}

/// Which streams of a command are wanted. Its standard error always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// What it writes.
    Output,
    /// What it reads; what it writes is thrown away where it runs, so that it cannot stand in the way.
    Input,
}

type StatusOf = Pin<Box<dyn Future<Output = Option<Status>> + Send>>;

/// A command that runs. Dropped, it loses its connection.
pub struct Session {
    pod: String,
    // Its task moves the streams: it ends with this.
    process: Option<AttachedProcess>,
    stdout: Option<ReadHalf<SimplexStream>>,
    stdin: Option<WriteHalf<SimplexStream>>,
    status: StatusOf,
    ended: Option<Status>,
    tail: Tail,
    reader: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// The end of its standard error.
    pub stderr: String,
}

/// Starts a command.
///
/// # Errors
/// When the API server or the node refuses.
pub async fn start(
    client: &Client,
    namespace: &str,
    seat: &Seat,
    command: &[String],
    streams: Streams,
) -> Result<Session, ExecError> {
    let params = AttachParams {
        container: Some(seat.container.clone()),
        stdin: streams == Streams::Input,
        stdout: streams == Streams::Output,
        stderr: true,
        tty: false,
        max_stdin_buf_size: Some(BUFFER),
        max_stdout_buf_size: Some(BUFFER),
        max_stderr_buf_size: Some(BUFFER),
    };
    let refused = |why: String| ExecError::NotStarted { pod: seat.pod.clone(), why };
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let process = timeout(ANSWER, pods.exec(&seat.pod, command.iter().cloned(), &params)).await;
    let process = process.map_err(|_| refused("no answer in time".to_owned()))?;
    let mut process = process.map_err(|error| refused(error.to_string()))?;
    let (tail, mut stderr) = (Tail::default(), process.stderr());
    let kept = tail.clone();
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Some(stream) = &mut stderr {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => kept.push(&buffer[..count]),
            }
        }
    });
    Ok(Session {
        pod: seat.pod.clone(),
        stdout: process.stdout(),
        stdin: process.stdin(),
        status: match process.take_status() {
            Some(status) => Box::pin(status),
            None => Box::pin(std::future::ready(None)),
        },
        ended: None,
        process: Some(process),
        tail,
        reader,
    })
}

impl Session {
    /// The pod.
    #[must_use]
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// The end of what the command has written to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.tail.text()
    }

    /// The next bytes of its standard output: none at its end. May be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ExecError> {
        let Some(stdout) = &mut self.stdout else { return Ok(0) };
        if self.ended.is_none() {
            let status = tokio::select! {
                biased;
                read = stdout.read(buffer) => return Ok(read.unwrap_or(0)),
                // A connection that broke never ends the stream: only this tells.
                status = &mut self.status => status,
            };
            self.ended = Some(self.told(status).await?);
        }
        let Some(stdout) = &mut self.stdout else { return Ok(0) };
        // What is on its way still comes, and then the end.
        Ok(stdout.read(buffer).await.unwrap_or(0))
    }

    /// Writes to its standard input; returns how many bytes it took. None when the command has ended.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize, ExecError> {
        let (Some(stdin), None) = (&mut self.stdin, &self.ended) else { return Ok(0) };
        let status = tokio::select! {
            biased;
            // Nobody takes from the pipe any more then, and nothing but this tells.
            status = &mut self.status => status,
            written = stdin.write(bytes) => return Ok(written.unwrap_or(0)),
        };
        self.ended = Some(self.told(status).await?);
        Ok(0)
    }

    /// The status, or why there is none.
    async fn told(&mut self, status: Option<Status>) -> Result<Status, ExecError> {
        if let Some(status) = status {
            return Ok(status);
        }
        let why = match self.process.take() {
            Some(process) => timeout(Duration::from_secs(2), process.join()).await,
            None => Ok(Ok(())),
        };
        let why = match why {
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(())) | Err(_) => "it was closed without an exit code".to_owned(),
        };
        Err(ExecError::CutOff { pod: self.pod.clone(), why })
    }

    /// Ends its standard input.
    pub async fn close_input(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // That nobody reads it any more is for `wait` to tell.
            let _ = stdin.shutdown().await;
        }
    }

    /// Waits until the command has ended, by itself.
    ///
    /// # Errors
    /// When the connection broke, or there was nothing to run.
    pub async fn wait(&mut self) -> Result<Ended, ExecError> {
        if self.ended.is_none() {
            let status = (&mut self.status).await;
            self.ended = Some(self.told(status).await?);
        }
        // It ends with the connection; should it not, what was read is told.
        let _ = timeout(Duration::from_secs(2), &mut self.reader).await;
        let status = self.ended.clone().unwrap_or_default();
        if let Some(code) = exit_code(&status) {
            return Ok(Ended { code, stderr: self.tail.text() });
        }
        let why = status.message.unwrap_or_else(|| "no reason is given".to_owned());
        Err(ExecError::NotStarted { pod: self.pod.clone(), why })
    }

    /// Waits for the exit code of a command whose output has ended.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn end(&mut self) -> Result<Ended, ExecError> {
        let why = format!("its output ended, and no exit code came within {} s", LAG.as_secs());
        let cut_off = ExecError::CutOff { pod: self.pod.clone(), why };
        timeout(LAG, self.wait()).await.unwrap_or(Err(cut_off))
    }
}

/// The exit code that a status tells. None when the command never ran.
fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref().and_then(|it| it.causes.as_ref());
    let code = causes.into_iter().flatten().find(|it| it.reason.as_deref() == Some("ExitCode"));
    code.and_then(|it| it.message.as_deref()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_command_runs_in_the_container_that_kubectl_would_take() {
        let make = |annotations: serde_json::Value, phase: &str| {
            pod(json!({
                "metadata": {"name": "db-0", "annotations": annotations},
                "spec": {"containers": [{"name": "proxy"}, {"name": "db"}]},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
            }))
        };
        let chosen = |pod: &Pod, given| seat(pod, given).map(|it| it.container);
        let marked = make(json!({"kubectl.kubernetes.io/default-container": "db"}), "Running");
        assert_eq!(chosen(&marked, None).as_deref(), Some("db"));
        assert_eq!(chosen(&marked, Some("proxy")).as_deref(), Some("proxy"));
        assert_eq!(chosen(&make(json!({}), "Running"), None).as_deref(), Some("proxy"));
        assert_eq!(chosen(&make(json!({}), "Succeeded"), None), None, "a pod that has ended runs nothing");
    }

    #[test]
    fn only_an_exit_code_says_that_a_command_has_ended() {
        let status = |value| exit_code(&serde_json::from_value(value).unwrap());
        assert_eq!(status(json!({"status": "Success"})), Some(0));
        let code = json!({"causes": [{"reason": "ExitCode", "message": "3"}]});
        assert_eq!(status(json!({"status": "Failure", "reason": "NonZeroExitCode", "details": code})), Some(3));
        assert_eq!(status(json!({"status": "Failure", "reason": "InternalError", "message": "no such file"})), None);
        assert_eq!(status(json!({})), None);
    }
}
