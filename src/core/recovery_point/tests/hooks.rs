//! Hooks around the snapshots: that the application is released whatever happens, as plain values.

use super::*;
use crate::{
    api::{
        application::Hooks,
        recovery_point::{Holding, HooksInPoint},
    },
    core::work::Side,
};

fn declared() -> Observed {
    let mut application = application();
    let hook =
        json!({"name": "store", "pods": {"matchLabels": {"app": "db"}}, "before": ["freeze"], "after": ["thaw"]});
    application.spec.backup.hooks = Some(Hooks {
        commands: vec![serde_json::from_value(hook).unwrap()],
        hold_at_most: crate::api::span::Span::from_secs(20),
    });
    Observed { application: Some(Arc::new(application)), ..observed() }
}

/// A cluster, and the memory of an operator that may lose it.
struct Play {
    seen: Observed,
    status: Option<RecoveryPointStatus>,
    second: i64,
    /// What was run in pods, in order.
    ran: Vec<&'static str>,
    /// What the hooks before say.
    before: Option<String>,
    /// What the hooks after say of pods that were not held any more.
    lapsed: Option<String>,
    /// Whether snapshots are ever taken.
    cuts: bool,
}

impl Play {
    fn new() -> Self {
        Self { seen: declared(), status: None, second: 0, ran: vec![], before: None, lapsed: None, cuts: true }
    }

    /// One pass; what it begins is done by the next one. Killed, it has done its effects and written nothing.
    fn pass(&mut self, killed: bool) -> Decided {
        let mut object = point(Purpose::Scheduled);
        object.status.clone_from(&self.status);
        let decision = decide(&object, &self.seen, at(self.second));
        self.second += 1;
        for effect in &decision.effects {
            self.perform(effect);
        }
        if killed {
            self.seen.works.clear();
        } else {
            self.status = Some(decision.status.clone());
        }
        decision
    }

    fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Begin(work) => {
                let journalled = self.status.as_ref().and_then(|it| it.hooks.as_ref());
                let outcome = match work.as_ref() {
                    Work::RunHooks { side, .. } => {
                        assert!(journalled.is_some(), "the intent stands before the first hook runs");
                        let before = *side == Side::Before;
                        self.ran.push(if before { "freeze" } else { "thaw" });
                        let failure = self.before.clone().filter(|_| before);
                        let lapsed = self.lapsed.clone().filter(|_| !before);
                        Outcome::HooksRan { failure, lapsed, notes: vec![] }
                    }
                    Work::Capture { .. } => captured_outcome(),
                    _ => Outcome::Done,
                };
                let progress = Progress::Done { at: at(self.second), work: work.clone(), outcome };
                self.seen.works.insert(work.name(), progress);
            }
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "VolumeSnapshot" => {
                // What the mover reads is a reference to it in the operator's namespace.
                if !self.cuts || it.metadata.namespace.as_deref() != Some("shop") {
                    return;
                }
                assert_eq!(self.ran.last(), Some(&"freeze"), "it is held while the snapshot is taken");
                let taken = SnapshotSeen {
                    handle: Some("h".into()),
                    taken_at: Some(at(self.second)),
                    ..SnapshotSeen::default()
                };
                self.seen.snapshots.insert("data".to_owned(), taken);
            }
            Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Job" => {
                self.seen.jobs.insert("data".to_owned(), stored(0));
            }
            _ => {}
        }
    }

    /// Passes until the point has ended.
    fn run(&mut self, killed_at: Option<i64>) -> Decided {
        for pass in 0..100 {
            let killed = killed_at == Some(pass);
            let decision = self.pass(killed);
            if !killed && condition::ended(&decision.status.conditions) {
                return decision;
            }
        }
        panic!("it never ends: {:?}", self.status)
    }
}

fn captured_outcome() -> Outcome {
    let Progress::Done { outcome, .. } = captured(&[]).1 else { panic!() };
    outcome
}

fn hooks(decision: &Decided) -> &HooksInPoint {
    decision.status.hooks.as_ref().unwrap()
}

#[test]
fn the_application_is_held_from_the_first_hook_until_its_snapshots_are_taken() {
    let mut play = Play::new();
    let end = play.run(None);
    assert_eq!((reason(&end), play.ran), ("Stored", vec!["freeze", "thaw"]));
    assert_eq!(hooks(&end).holding, Holding::Released);
    assert!(hooks(&end).held_seconds.is_some_and(|it| it < 5), "{:?}", hooks(&end));
}

#[test]
fn the_hooks_after_are_run_last_also_when_the_operator_was_killed_in_any_pass() {
    for pass in 0..12 {
        let mut play = Play::new();
        let end = play.run(Some(pass));
        assert_eq!(play.ran.last(), Some(&"thaw"), "killed in pass {pass}: {:?} {}", play.ran, reason(&end));
        assert!(play.ran.contains(&"freeze") && hooks(&end).holding == Holding::Released, "killed in pass {pass}");
    }
}

#[test]
fn what_was_quiesced_is_released_when_a_hook_before_fails() {
    let mut play = Play { before: Some("hook freeze: locked".into()), ..Play::new() };
    let end = play.run(None);
    assert_eq!((reason(&end), play.ran), ("HookFailed", vec!["freeze", "thaw"]));
    assert_eq!(hooks(&end).failure.as_deref(), Some("hook freeze: locked"));
    assert!(play.seen.snapshots.is_empty(), "nothing is snapshotted that is not quiesced");
}

#[test]
fn the_application_is_released_at_its_deadline_when_no_snapshot_comes() {
    let mut play = Play { cuts: false, ..Play::new() };
    let end = play.run(None);
    assert_eq!((reason(&end), play.ran), ("HookFailed", vec!["freeze", "thaw"]));
    assert!(hooks(&end).held_seconds.is_some_and(|it| (20..25).contains(&it)), "{:?}", hooks(&end));
}

#[test]
fn a_point_whose_pods_had_released_themselves_does_not_pass_for_quiet() {
    let mut play = Play { lapsed: Some("hook store: pod db-0 was not held any more".into()), ..Play::new() };
    let end = play.run(None);
    assert_eq!((reason(&end), play.ran), ("HookFailed", vec!["freeze", "thaw"]));
}

#[test]
fn the_application_is_released_also_when_its_object_or_its_vault_is_gone() {
    let gone: [fn(&mut Observed); 2] = [|it| it.application = None, |it| it.vault = None];
    for take in gone {
        let mut play = Play { cuts: false, ..Play::new() };
        while play.ran.is_empty() {
            play.pass(false);
        }
        take(&mut play.seen);
        for _ in 0..40 {
            play.pass(false);
        }
        assert_eq!(play.ran, ["freeze", "thaw"]);
    }
}

#[test]
fn where_the_application_is_stopped_no_hook_is_run() {
    assert_eq!(decide(&point(Purpose::Branch), &declared(), at(0)).status.hooks, None);
}
