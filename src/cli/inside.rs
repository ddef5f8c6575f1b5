//! The operator's own program, run inside its pod: what only the operator reaches is asked there.
//!
//! It is an `exec`, with the rights of whoever calls: `get` and `create` on `pods/exec`, and `list` on pods, in the
//! operator's namespace, which only administrators have. Input goes through the connection, never into arguments, which
//! audit logs keep.

use std::time::Duration;

use clap::Args;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api, ResourceExt,
    api::{AttachParams, AttachedProcess, ListParams},
};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{CliError, connection::Cluster, request};

/// How the chart labels the operator's pods.
const OPERATOR: &str = "app.kubernetes.io/name=reprise,app.kubernetes.io/component=operator";
/// What asking takes beyond the time that a claim is watched, in seconds.
pub(super) const GRACE: u64 = 60;
/// The container in them, and the program in that.
const CONTAINER: &str = "operator";
const PROGRAM: &str = "/bin/reprise";
/// The most that `ask` takes for an answer, in bytes.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;
/// The most of standard error that is kept, in bytes.
const ERROR_LIMIT: usize = 64 * 1024;

/// Where the operator is.
#[derive(Args, Debug)]
pub struct Inside {
    /// The namespace of the operator.
    #[arg(long, env = "REPRISE_OPERATOR_NAMESPACE", default_value = "reprise-system", value_name = "NAMESPACE")]
    pub operator_namespace: String,
    /// How many seconds the operator's pod may take to answer.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub answer_within: u64,
}

impl Inside {
    /// The same with another patience: of a claim that is watched before it is written.
    #[must_use]
    pub fn within(&self, seconds: u64) -> Self {
        Self { operator_namespace: self.operator_namespace.clone(), answer_within: seconds }
    }

    /// Runs `reprise ARGUMENTS` in the operator's pod, and reads the document that it answers with.
    ///
    /// # Errors
    /// `Inside` with the program's own words and exit code; `Request` when it could not be run.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        cluster: &Cluster,
        arguments: &[&str],
        input: &str,
    ) -> Result<T, CliError> {
        let mut answer = Vec::new();
        self.run(cluster, arguments, input, &mut (&mut answer, ANSWER_LIMIT)).await?;
        serde_json::from_slice(&answer).map_err(|error| CliError::Inside {
            code: 1,
            message: format!(
                "its answer cannot be read ({error}): this program and the operator are of different versions"
            ),
        })
    }

    /// Runs `reprise ARGUMENTS` in the operator's pod, with one line of input if there is any; its output goes to `out`.
    ///
    /// # Errors
    /// `Inside` with the program's own words and exit code; `Request` when it could not be run.
    pub async fn run(
        &self,
        cluster: &Cluster,
        arguments: &[&str],
        input: &str,
        out: &mut impl Output,
    ) -> Result<(), CliError> {
        let pods = Api::<Pod>::namespaced(cluster.client.clone(), &self.operator_namespace);
        let pod = self.pod(&pods).await?;
        let parameters = AttachParams::default().container(CONTAINER).stdin(!input.is_empty()).stderr(true);
        let command: Vec<&str> = std::iter::once(PROGRAM).chain(arguments.iter().copied()).collect();
        let process = pods
            .exec(&pod, command, &parameters)
            .await
            .map_err(request(format!("run a program in pod {pod} of {} (needs pods/exec)", self.operator_namespace)))?;
        let late = CliError::Inside { code: 1, message: format!("no answer within {} s", self.answer_within) };
        tokio::time::timeout(Duration::from_secs(self.answer_within), relay(process, input, out))
            .await
            .map_err(|_| late)?
    }

    /// A pod of the operator that runs. Any will do: which one leads makes no difference here.
    async fn pod(&self, pods: &Api<Pod>) -> Result<String, CliError> {
        let namespace = &self.operator_namespace;
        let found = pods.list(&ListParams::default().labels(OPERATOR)).await;
        let found = found.map_err(request(format!("find the operator's pod in {namespace}")))?;
        found.items.iter().find(|it| runs(it)).map(ResourceExt::name_any).ok_or_else(|| {
            CliError::Refused(format!(
                "no pod of the operator runs in namespace {namespace}: name its namespace with --operator-namespace"
            ))
        })
    }
}

fn runs(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|it| it.container_statuses.as_ref());
    let running = |it: &k8s_openapi::api::core::v1::ContainerStatus| {
        it.name == CONTAINER && it.state.as_ref().is_some_and(|it| it.running.is_some())
    };
    pod.metadata.deletion_timestamp.is_none() && containers.is_some_and(|it| it.iter().any(running))
}

/// Where output goes, part by part.
pub trait Output {
    /// Takes a part.
    ///
    /// # Errors
    /// When it can't.
    fn take(&mut self, part: &[u8]) -> std::io::Result<()>;
}

/// Into memory, up to a limit.
impl Output for (&mut Vec<u8>, usize) {
    fn take(&mut self, part: &[u8]) -> std::io::Result<()> {
        if self.0.len() + part.len() > self.1 {
            return Err(std::io::Error::other(format!("the answer has more than {} bytes", self.1)));
        }
        self.0.extend_from_slice(part);
        Ok(())
    }
}

async fn relay(mut process: AttachedProcess, input: &str, out: &mut impl Output) -> Result<(), CliError> {
    let status = process.take_status();
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let mut said = Vec::new();
    let told = async {
        // What does not fit is left out: the last words of a program that says so much are not the reason.
        let _ = copy(stderr, &mut |part| {
            let room = ERROR_LIMIT - said.len();
            said.extend_from_slice(&part[..part.len().min(room)]);
            Ok(())
        })
        .await;
    };
    let mut taken = |part: &[u8]| out.take(part);
    let ((), answered, ()) = tokio::join!(give(stdin, input), copy(stdout, &mut taken), told);
    answered?;
    let ended = match status {
        Some(status) => status.await,
        None => None,
    };
    let code = exit_code(ended.as_ref());
    if code == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let message = if said.is_empty() {
        ended.and_then(|it| it.message).unwrap_or_else(|| "the connection to it was lost".to_owned())
    } else {
        said
    };
    Err(CliError::Inside { code, message })
}

/// That the program takes no input is told by how it ends.
async fn give(stdin: Option<impl AsyncWrite + Unpin>, input: &str) {
    let Some(mut stdin) = stdin else { return };
    if stdin.write_all(format!("{input}\n").as_bytes()).await.is_ok() {
        let _ = stdin.shutdown().await;
    }
}

async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    to: &mut impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut part = vec![0; 16 * 1024];
    loop {
        match from.read(&mut part).await? {
            0 => return Ok(()),
            read => to(&part[..read])?,
        }
    }
}

/// 0 when it ended well; what the program said; 1 when nothing is known.
fn exit_code(status: Option<&Status>) -> u8 {
    let Some(status) = status else { return 1 };
    if status.status.as_deref() == Some("Success") {
        return 0;
    }
    let causes = status.details.as_ref().and_then(|it| it.causes.as_ref());
    let code = causes.into_iter().flatten().find(|it| it.reason.as_deref() == Some("ExitCode"));
    code.and_then(|it| it.message.as_ref()?.parse().ok()).filter(|it| *it != 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(json: serde_json::Value) -> Status {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_exit_code_of_the_program_is_kept() {
        let cause = |message: &str| json!({"causes": [{"reason": "ExitCode", "message": message}]});
        let failed = |message| status(json!({"status": "Failure", "details": cause(message)}));
        assert_eq!(exit_code(Some(&failed("3"))), 3);
        assert_eq!(exit_code(Some(&failed("?"))), 1);
        assert_eq!(exit_code(Some(&status(json!({"status": "Failure", "message": "no such file"})))), 1);
        assert_eq!(exit_code(Some(&status(json!({"status": "Success"})))), 0);
        assert_eq!(exit_code(None), 1, "a connection that broke is no success");
    }

    #[test]
    fn a_pod_that_ends_or_does_not_run_is_not_asked() {
        let pod = |state: serde_json::Value, deleted: Option<&str>| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "reprise-1", "deletionTimestamp": deleted},
                "status": {"containerStatuses": [{"name": "operator", "image": "", "imageID": "", "ready": true,
                    "restartCount": 0, "state": state}]},
            }))
            .unwrap()
        };
        assert!(runs(&pod(json!({"running": {}}), None)));
        assert!(!runs(&pod(json!({"running": {}}), Some("2027-01-01T00:00:00Z"))));
        assert!(!runs(&pod(json!({"waiting": {}}), None)));
    }

    #[test]
    fn an_answer_without_end_fills_no_memory() {
        let mut kept = Vec::new();
        let mut out = (&mut kept, 10);
        assert!(out.take(b"12345").is_ok());
        assert!(out.take(b"678901").is_err());
        assert_eq!(kept, b"12345");
    }
}
