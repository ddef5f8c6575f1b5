//! Movers that run a command in a pod: one makes a dump, one loads it. And how a dump is judged by those before it.
//!
//! What a dump means for its point is `recovery_point`; what the mover does is `mover`.

use jiff::{SignedDuration, Timestamp};
use kube::core::DynamicObject;

use super::{
    app_key::AppKey,
    child::Run,
    mover_job::{Mover, MoverSettings},
    mover_task::{Command, Ran, Task},
};
use crate::api::{application::Dump, vault::VaultSpec};

/// A dump of less than one so-manieth of what is usual is not believed.
const SHRUNK: u64 = 10;
/// So many earlier dumps say what is usual.
const USUAL: usize = 5;
/// The most of a command's standard error that a status keeps.
const STDERR: usize = 500;

/// What its snapshots and its mover are called. No claim has such a name: it has a slash.
#[must_use]
pub fn label(name: &str) -> String {
    format!("dump/{name}")
}

/// Runs the dump's command in a pod of the application's own namespace, and stores what it writes.
#[must_use]
pub fn dump_task(dump: &Dump, application: &AppKey, host: &str, point: &str) -> Task {
    Task::Dump {
        namespace: application.namespace.clone(),
        application: application.name.clone(),
        host: host.to_owned(),
        name: dump.name.clone(),
        point: point.to_owned(),
        command: command(dump, &dump.dump),
        max_bytes: dump.max_bytes.and_then(|it| u64::try_from(it).ok()),
    }
}

/// Gives the snapshot of a dump, as a point of application `of` names it, to the dump's load command, in a pod of namespace `into`.
#[must_use]
pub fn load_task(dump: &Dump, of: &AppKey, (point, snapshot): (&str, &str), into: &str) -> Task {
    Task::Load {
        namespace: of.namespace.clone(),
        application: of.name.clone(),
        snapshot: snapshot.to_owned(),
        into: into.to_owned(),
        command: command(dump, &dump.load),
        point: point.to_owned(),
    }
}

fn command(dump: &Dump, command: &[String]) -> Command {
    Command {
        pods: dump.pods.match_labels.clone(),
        container: dump.container.clone(),
        command: command.to_vec(),
        timeout_seconds: dump.timeout.as_secs(),
    }
}

/// What a status keeps of a command's standard error: its end.
#[must_use]
pub fn stderr_told(ran: &Ran) -> Option<String> {
    let surplus = ran.stderr.chars().count().saturating_sub(STDERR);
    let stderr: String = ran.stderr.chars().skip(surplus).collect();
    (!stderr.is_empty()).then_some(stderr)
}

/// The Job of a mover that makes or loads the dump `name` for a run. It ends after `deadline` seconds.
#[must_use]
pub fn job(
    settings: &MoverSettings,
    run: &Run,
    vault: &VaultSpec,
    name: &str,
    task: &Task,
    deadline: u64,
) -> DynamicObject {
    Mover { settings, run, claim: &label(name), task, mount: None, vault, deadline }.job()
}

/// A good dump of an earlier point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The point that it was made for.
    pub point: String,
    /// Its snapshot.
    pub snapshot: String,
    /// When its command was started.
    pub consistent_at: Timestamp,
    /// Its bytes.
    pub bytes: u64,
}

/// The newest of `earlier`, when it is younger than the dump's own rhythm asks for.
#[must_use]
pub fn young<'a>(dump: &Dump, earlier: &'a [Earlier], now: Timestamp) -> Option<&'a Earlier> {
    let every = SignedDuration::from_secs(i64::try_from(dump.every?.as_secs()).unwrap_or(i64::MAX / 4));
    earlier.iter().max_by_key(|it| it.consistent_at).filter(|it| it.consistent_at + every > now)
}

/// What is odd about a dump of so many bytes after those `earlier`: empty, or much smaller than usual and than the last.
#[must_use]
pub fn odd(bytes: u64, earlier: &[Earlier]) -> Option<String> {
    if bytes == 0 {
        return Some("the command ended well, but wrote nothing".to_owned());
    }
    let mut newest: Vec<&Earlier> = earlier.iter().collect();
    newest.sort_by_key(|it| std::cmp::Reverse(it.consistent_at));
    let mut usual: Vec<u64> = newest.iter().take(USUAL).map(|it| it.bytes).collect();
    let last = *usual.first()?;
    usual.sort_unstable();
    let median = usual[usual.len() / 2];
    let shrunk = |before: u64| bytes < before / SHRUNK;
    (shrunk(median) && shrunk(last)).then(|| {
        format!(
            "the dump has {bytes} bytes, where the last one had {last} and {median} are usual: if that is meant, make \
             a RecoveryPoint by hand (kubectl reprise backup)"
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn earlier(all: &[(i64, u64)]) -> Vec<Earlier> {
        let one = |&(at, bytes): &(i64, u64)| Earlier {
            point: format!("p{at}"),
            snapshot: format!("s{at}"),
            consistent_at: Timestamp::from_second(at).unwrap(),
            bytes,
        };
        all.iter().map(one).collect()
    }

    fn every(span: Option<&str>) -> Dump {
        let dump =
            json!({"name": "db", "every": span, "pods": {"matchLabels": {"app": "db"}}, "dump": ["d"], "load": ["l"]});
        serde_json::from_value(dump).unwrap()
    }

    #[test]
    fn a_dump_is_made_anew_when_the_newest_is_as_old_as_its_rhythm() {
        let all = earlier(&[(100, 5), (1_000, 5), (500, 5)]);
        let at = |second| Timestamp::from_second(second).unwrap();
        let taken = |dump: &Dump, second| young(dump, &all, at(second)).map(|it| it.point.as_str());
        assert_eq!(taken(&every(Some("2m")), 1_119), Some("p1000"));
        assert_eq!(taken(&every(Some("2m")), 1_120), None);
        assert_eq!(taken(&every(None), 1_001), None, "without a rhythm each point makes its own");
    }

    #[test]
    fn a_dump_much_smaller_than_usual_is_odd_until_one_is_accepted() {
        let usual = earlier(&[(1, 1_000), (2, 1_200), (3, 1_100)]);
        assert_eq!(odd(111, &usual), None);
        assert!(odd(109, &usual).is_some_and(|it| it.contains("1100") && it.contains("by hand")));
        let accepted = earlier(&[(1, 1_000), (2, 1_200), (3, 1_100), (4, 50)]);
        assert_eq!(odd(49, &accepted), None, "the new size is the usual one from then on");
        assert!(odd(4, &accepted).is_some());
        assert!(odd(0, &[]).is_some_and(|it| it.contains("nothing")));
        assert_eq!(odd(1, &[]), None, "the first one has nothing to be compared with");
    }

    #[test]
    fn a_mover_that_runs_a_command_has_a_token_and_no_volume() {
        let settings = MoverSettings {
            namespace: "reprise".into(),
            image: "reprise".into(),
            pull_policy: "Never".into(),
            service_account: "mover".into(),
            dump_service_account: "dumper".into(),
            direct: true,
            kubelet_root: "/var/lib/kubelet".into(),
            resources: json!({}),
        };
        let run = Run { namespace: "shop".into(), name: "shop-1".into(), uid: "u".into() };
        let vault: VaultSpec =
            serde_json::from_value(json!({"s3": {"bucket": "b"}, "encryption": {"secret": {"name": "k"}}})).unwrap();
        let app = AppKey { namespace: "shop".into(), name: "shop".into() };
        let task = load_task(&every(None), &app, ("p1", "ab"), "elsewhere");
        let job = job(&settings, &run, &vault, "db", &task, 60);
        let pod = &job.data["spec"]["template"]["spec"];
        assert_eq!(
            (&pod["serviceAccountName"], &pod["automountServiceAccountToken"]),
            (&json!("dumper"), &json!(true))
        );
        assert_eq!(pod["volumes"], json!([{"name": "tmp", "emptyDir": {}}]));
        assert_eq!(pod["containers"][0]["securityContext"]["capabilities"]["add"], json!(["DAC_OVERRIDE"]));
    }
}
