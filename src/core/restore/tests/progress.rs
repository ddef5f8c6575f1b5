//! How far a restore is: what is told of it, and how often.

use super::*;
use crate::api::restore::RestoreProgress;

fn told(done: u64, files: u64) -> MoverProgress {
    MoverProgress { phase: "restoring".into(), done, total: 0, files }
}

/// At the step of the volumes, of 1000 bytes and 10 files each; that of `data` is done.
fn restoring() -> Play {
    let mut play = Play::new(&json!({"safetyPoint": "Skip"}));
    play.size = (1000, 10);
    play.slow = vec!["log".into()];
    play.until(RestoreStepName::RestoreVolumes);
    play.pass();
    play
}

fn progress(play: &Play) -> RestoreProgress {
    play.object.status.as_ref().unwrap().progress.clone().unwrap()
}

#[test]
fn what_movers_tell_is_added_up_and_foretells_the_end() {
    let mut play = restoring();
    let begun = play.second;
    play.second = begun + 60;
    play.told = [("log".to_owned(), told(500, 4))].into();
    play.pass();
    let it = progress(&play);
    assert_eq!((it.volumes_done, it.volumes_total), (1, 2));
    assert_eq!((it.bytes_done, it.bytes_total, it.files_done, it.files_total), (1500, 2000, 14, 20));
    let left = it.estimated_end.unwrap().0.duration_since(it.at.0).as_secs();
    assert!((20..=21).contains(&left), "three quarters took a minute, so the rest takes 20 s: {left}");
}

#[test]
fn it_is_written_every_ten_seconds_at_most_and_only_when_something_moved() {
    let mut play = restoring();
    let (mut written, mut last) = (0, progress(&play));
    for second in 1..=60 {
        // In the last half nothing moves.
        play.told = [("log".to_owned(), told(second.min(30) * 10, 1))].into();
        play.pass();
        written += u64::from(progress(&play) != last);
        last = progress(&play);
    }
    assert!((3..=5).contains(&written), "{written} times");
    play.told.clear();
    play.second += 60;
    play.pass();
    assert_eq!(progress(&play), last, "a log that cannot be read takes nothing back");
}

#[test]
fn movers_are_asked_in_two_of_ten_seconds() {
    let at = |second| START + jiff::SignedDuration::from_secs(second);
    let asked = (0..100).filter(|it| crate::core::restore::progress::due(None, at(*it))).count();
    assert_eq!(asked, 20);
    let play = restoring();
    assert!(!crate::core::restore::progress::due(play.object.status.as_ref(), at(play.second)));
}

#[test]
fn objects_are_counted_while_they_are_restored() {
    let mut play = Play::new(&json!({"safetyPoint": "Skip"}));
    play.until(RestoreStepName::RestoreObjects);
    let mut seen = play.observed();
    seen.objects_done = Some(4);
    let now = START + jiff::SignedDuration::from_secs(play.second + 20);
    let it = decide(&play.object, &seen, now).status.progress.unwrap();
    assert_eq!((it.objects_done, it.objects_total, it.volumes_done), (4, Some(5), 2));
    assert!(it.estimated_end.is_some());
}

#[test]
fn what_the_api_server_refused_is_told_with_what_is_waited_for() {
    let mut play = Play::new(&json!({}));
    play.until(RestoreStepName::RestoreVolumes);
    let hindrance = Some("claims is forbidden: exceeded quota: none".to_owned());
    let decision = decide(&play.object, &Observed { hindrance, ..play.observed() }, START);
    let told = &decision.status.steps.last().unwrap().message;
    assert!(told.ends_with("; refused: claims is forbidden: exceeded quota: none"), "{told}");
}
