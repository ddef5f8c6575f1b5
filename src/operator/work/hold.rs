//! The shell scripts that hold an application and release it, such that it is released also when nobody comes back.
//!
//! A file in the pod's memory, of a name that no other hold has, says that the pod is held. Who takes the file away runs
//! what releases: the operator, or, at the deadline, a process that the script before leaves behind. A command that ends
//! only after the hold is over is released by its own script.

use crate::{api::application::Hook, core::work::Side};

/// What the script after says of a pod that was held until then.
pub(super) const HELD: &str = "held";

/// The command that is run in a pod: `hold` is the same before and after, and no other run's.
pub(super) fn command(side: Side, hook: &Hook, hold: &str, seconds: u64) -> Vec<String> {
    let script = match (side, hook.before.is_empty() || hook.after.is_empty()) {
        (Side::Before, true) => format!("exec {} > /dev/null", words(&hook.before)),
        (Side::After, true) => format!("exec {} > /dev/null", words(&hook.after)),
        (Side::Before, false) => before(hook, &mark(hook, hold), seconds),
        (Side::After, false) => after(hook, &mark(hook, hold)),
    };
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

fn before(hook: &Hook, mark: &str, seconds: u64) -> String {
    let (before, after) = (words(&hook.before), words(&hook.after));
    format!(
        r#"sleep 0 && : > {mark} || exit 125
(
  waited=0
  while [ -e {mark} ] && [ "$waited" -lt {seconds} ]; do sleep 1; waited=$((waited + 1)); done
  rm {mark} && {after}
) < /dev/null > /dev/null 2>&1 &
{before} > /dev/null; code=$?
[ -e {mark} ] || {after} > /dev/null
exit $code"#
    )
}

fn after(hook: &Hook, mark: &str) -> String {
    format!("rm {mark} 2> /dev/null && printf {HELD}\n{} > /dev/null", words(&hook.after))
}

/// Where every container has a file system in memory, also one whose root is read-only.
fn mark(hook: &Hook, hold: &str) -> String {
    format!("/dev/shm/reprise-{hold}-{}", hook.name)
}

/// A command whose words the shell takes as they are.
fn words(command: &[String]) -> String {
    command.iter().map(|it| format!("'{}'", it.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        process::{Command, Output},
        time::{Duration, Instant},
    };

    use serde_json::json;

    use super::*;

    /// A pod whose application writes down what is done to it: a real shell on this machine.
    struct Pod {
        folder: tempfile::TempDir,
        hold: String,
    }

    impl Pod {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), hold: ulid::Ulid::generate().to_string() }
        }

        fn log(&self) -> PathBuf {
            self.folder.path().join("it's a log")
        }

        fn hook(&self, before: &str) -> Hook {
            let say = |what: &str| {
                json!([
                    "sh",
                    "-c",
                    format!("{what}; echo \"$1\" >> \"$0\""),
                    self.log(),
                    what.replace("sleep 2", "late")
                ])
            };
            let (before, after) = (say(before), say(": thaw"));
            serde_json::from_value(json!({
                "name": "store", "pods": {"matchLabels": {"app": "store"}}, "before": before, "after": after,
            }))
            .unwrap()
        }

        fn run(&self, side: Side, hook: &Hook, seconds: u64) -> Output {
            let command = command(side, hook, &self.hold, seconds);
            Command::new(&command[0]).args(&command[1..]).output().unwrap()
        }

        fn did(&self) -> Vec<String> {
            fs::read_to_string(self.log()).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
        }

        fn marked(&self) -> bool {
            Path::new(&format!("/dev/shm/reprise-{}-store", self.hold)).exists()
        }

        /// Waits until so much was done, for some seconds.
        fn await_done(&self, count: usize) -> Vec<String> {
            let until = Instant::now() + Duration::from_secs(10);
            while self.did().len() < count && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
            self.did()
        }
    }

    #[test]
    fn a_pod_that_is_released_in_time_is_released_once_and_says_that_it_was_held() {
        let pod = Pod::new();
        let hook = pod.hook(": freeze");
        assert!(pod.run(Side::Before, &hook, 1).status.success());
        assert_eq!((pod.did(), pod.marked()), (vec![": freeze".to_owned()], true));
        let output = pod.run(Side::After, &hook, 1);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), HELD.as_bytes()));
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!((pod.did(), pod.marked()), (vec![": freeze".to_owned(), ": thaw".to_owned()], false));
    }

    #[test]
    fn a_pod_that_nobody_comes_back_to_releases_itself_and_says_so_to_who_comes_late() {
        let pod = Pod::new();
        let hook = pod.hook(": freeze");
        pod.run(Side::Before, &hook, 1);
        assert_eq!(pod.await_done(2), [": freeze", ": thaw"]);
        let output = pod.run(Side::After, &hook, 1);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"".as_slice()));
    }

    #[test]
    fn what_is_frozen_only_after_the_hold_is_over_is_released_by_itself() {
        let pod = Pod::new();
        let hook = pod.hook("sleep 2");
        pod.run(Side::Before, &hook, 1);
        assert_eq!(pod.did(), [": thaw", "late", ": thaw"]);
    }

    #[test]
    fn the_exit_codes_are_the_commands() {
        let pod = Pod::new();
        let hook = |before: &[&str], after: &[&str]| -> Hook {
            serde_json::from_value(json!({
                "name": "store", "pods": {"matchLabels": {"app": "store"}}, "before": before, "after": after,
            }))
            .unwrap()
        };
        let codes = [
            (Side::Before, hook(&["sh", "-c", "exit 3"], &["true"]), 3),
            (Side::After, hook(&["true"], &["sh", "-c", "exit 4"]), 4),
            (Side::Before, hook(&["sh", "-c", "exit 5"], &[]), 5),
            (Side::After, hook(&[], &["sh", "-c", "exit 6"]), 6),
        ];
        for (side, hook, code) in codes {
            assert_eq!(pod.run(side, &hook, 1).status.code(), Some(code), "{side:?} {hook:?}");
        }
    }
}
