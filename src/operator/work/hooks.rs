//! Work on hooks: runs the owner's commands in pods of the application's namespace.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use kube::Client;

use super::hold;
use crate::{
    api::application::{Hook, OnError},
    core::work::{Failure, Outcome, Side},
    exec::{self, ExecError, Place, Seat, Streams},
    operator::context::Context,
};

/// How often a hook is tried that releases.
const TRIES: u32 = 3;
/// The time between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// What a hook may take beside its timeout: pods are listed, a connection is made.
const OVERHEAD: Duration = Duration::from_mins(1);

/// How long the hooks may take in all.
pub(super) fn deadline(side: Side, hooks: &[Hook]) -> Duration {
    let once: Duration = hooks.iter().map(|it| it.timeout.duration() + OVERHEAD).sum();
    once * tries(side) + OVERHEAD
}

fn tries(side: Side) -> u32 {
    match side {
        Side::Before => 1,
        Side::After => TRIES,
    }
}

/// What is run, and where.
pub(super) struct Hooks<'a> {
    pub(super) namespace: &'a str,
    pub(super) side: Side,
    pub(super) run: &'a [Hook],
    /// The hold's name.
    pub(super) hold: &'a str,
    /// After so many seconds a pod releases itself.
    pub(super) seconds: u64,
}

/// How a hook went in all its pods.
#[derive(Default)]
struct Went {
    /// Pods that were held until this released them.
    held: BTreeSet<String>,
    /// All pods that it was run in.
    pods: BTreeSet<String>,
    failure: Option<String>,
}

/// Runs them one after the other. A hook before that fails is the last one; hooks after are run all.
pub(super) async fn run(what: &Hooks<'_>, context: &Context) -> Result<Outcome, Failure> {
    let (mut failure, mut lapsed, mut notes) = (None, None, Vec::new());
    for hook in what.run {
        let went = what.tried(hook, &context.client).await;
        let failed = went.failure.as_ref().map(|why| format!("hook {}: {why}", hook.name));
        let loose = what.lapsed(hook, &went);
        match hook.on_error {
            OnError::Continue => notes.extend(failed.into_iter().chain(loose)),
            OnError::Fail => {
                failure = failure.or(failed);
                lapsed = lapsed.or(loose);
                if failure.is_some() && what.side == Side::Before {
                    break;
                }
            }
        }
    }
    Ok(Outcome::HooksRan { failure, lapsed, notes })
}

impl Hooks<'_> {
    async fn tried(&self, hook: &Hook, client: &Client) -> Went {
        let mut went = Went::default();
        for again in 0..tries(self.side) {
            if again > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            went.failure = self.in_pods(hook, client, &mut went).await.err();
            if went.failure.is_none() {
                break;
            }
        }
        went
    }

    /// Runs a hook in all its pods at once.
    async fn in_pods(&self, hook: &Hook, client: &Client, went: &mut Went) -> Result<(), String> {
        let place =
            Place { namespace: self.namespace, pods: &hook.pods.match_labels, container: hook.container.as_deref() };
        let seats = exec::running(client, &place).await.map_err(|error| error.to_string())?;
        // A pod that has ended holds nothing.
        if seats.is_empty() && self.side == Side::Before {
            return Err(format!("no pod of namespace {} with its labels is running", self.namespace));
        }
        let ran = join_all(seats.iter().map(|seat| self.in_pod(seat, hook, client))).await;
        let mut failure = Ok(());
        for (seat, ran) in seats.iter().zip(ran) {
            went.pods.insert(seat.pod.clone());
            match ran {
                Ok(told) if told == hold::HELD.as_bytes() => drop(went.held.insert(seat.pod.clone())),
                Ok(_) => {}
                Err(why) => failure = failure.and(Err(why)),
            }
        }
        failure
    }

    /// Runs it in one; what its script said.
    async fn in_pod(&self, seat: &Seat, hook: &Hook, client: &Client) -> Result<Vec<u8>, String> {
        let command = hold::command(self.side, hook, self.hold, self.seconds);
        let session = async {
            let mut session = exec::start(client, self.namespace, seat, &command, Streams::Output).await?;
            let (mut told, mut buffer) = (Vec::new(), vec![0; 4096]);
            loop {
                match session.read(&mut buffer).await? {
                    0 => break,
                    // No script says more than a word.
                    count => told.extend(buffer[..count].iter().take(64_usize.saturating_sub(told.len()))),
                }
            }
            Ok((told, session.end().await?))
        };
        let ended: Result<_, ExecError> = tokio::time::timeout(hook.timeout.duration(), session)
            .await
            .map_err(|_| format!("in pod {} it was not done within {} s", seat.pod, hook.timeout.as_secs()))?;
        match ended {
            Ok((told, ended)) if ended.code == 0 => Ok(told),
            Ok((_, ended)) => Err(format!("in pod {} it ended with {}: {}", seat.pod, ended.code, ended.stderr)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether a pod had released itself before this did.
    fn lapsed(&self, hook: &Hook, went: &Went) -> Option<String> {
        if self.side == Side::Before || hook.before.is_empty() || went.failure.is_some() {
            return None;
        }
        let loose: Vec<&str> = went.pods.difference(&went.held).map(String::as_str).collect();
        (!loose.is_empty()).then(|| {
            let pods = loose.join(", ");
            format!("hook {}: pod {pods} was not held any more, or not yet, when it was to be released", hook.name)
        })
    }
}
