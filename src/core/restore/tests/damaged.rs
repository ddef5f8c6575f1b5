//! A point whose data turns out to be damaged while it is restored; and restores of some paths.

use super::*;

const OLDER: &str = "0000000001-01JAAAAAAAAAAAAAAAAAAAAAAA";

fn with_an_older_point(spec: &Value) -> Play {
    let mut play = Play::new(spec);
    play.good = vec![CHOSEN.into(), OLDER.into()];
    play.damaged = Some(CHOSEN.into());
    play
}

#[test]
fn the_next_older_good_point_takes_the_place_of_one_that_is_damaged_and_it_says_so() {
    for every in [1_000, 4, 5, 7] {
        let mut play = with_an_older_point(&json!({}));
        let (reason, message) = play.played_out(|second| second % every == every - 1);
        assert_eq!(reason, "Restored", "{message}");
        assert!(message.contains(OLDER) && message.contains("status.passedOver"), "{message}");
        play.done.dedup();
        let order =
            ["save", "stop", "fill data", "fill log", "make cache", "end log", "fill log", "objects 0", "start"];
        assert_eq!(play.done, order, "every {every}: nothing is started, and no point made, in between");
        let status = play.object.status.unwrap();
        assert_eq!(status.point.as_deref(), Some(OLDER));
        assert_eq!(status.passed_over, [format!("{CHOSEN}: volume log: pack gone")]);
    }
}

#[test]
fn a_point_that_was_named_is_not_replaced_by_another() {
    let mut play = with_an_older_point(&json!({"point": {"name": CHOSEN}}));
    let (reason, message) = play.played_out(|_| false);
    assert_eq!(reason, "PointDamaged");
    assert!(message.contains("pack gone") && message.contains("stays stopped"), "{message}");
}

#[test]
fn without_an_older_good_point_it_ends_and_says_what_is_left() {
    let mut play = with_an_older_point(&json!({}));
    play.good.pop();
    let (reason, message) = play.played_out(|_| false);
    assert_eq!(reason, "PointDamaged");
    assert!(message.contains("no older point is good") && message.contains("recovery point safe"), "{message}");
}

#[test]
fn paths_go_to_the_mover_and_ones_that_cannot_be_read_end_it_before_anything_is_changed() {
    let part = |paths: &[&str]| json!({"only": {"volumes": [{"claim": "log", "paths": paths}]}});
    let mut play = Play::new(&part(&["conf/*.ini"]));
    play.until(RestoreStepName::RestoreVolumes);
    let decided = decide(&play.object, &play.observed(), START);
    let task = decided.effects.iter().find_map(|it| match it {
        Effect::Apply(it) if it.types.as_ref().unwrap().kind == "Job" => Some(it.data.to_string()),
        _ => None,
    });
    assert!(task.as_ref().is_some_and(|it| it.contains(r#"\"paths\":[\"conf/*.ini\"]"#)), "{task:?}");
    for wrong in ["../x", "a[", "x//y"] {
        let mut play = Play::new(&part(&[wrong]));
        let (reason, message) = play.played_out(|_| false);
        assert_eq!((reason.as_str(), play.done.len()), ("BadPaths", 0));
        assert!(message.contains("spec.only.volumes: paths of log") && message.contains(wrong), "{message}");
    }
}

#[test]
fn paths_that_fit_nothing_are_no_success() {
    let mut play = Play::new(&json!({"only": {"volumes": [{"claim": "log", "paths": ["x"]}]}}));
    play.mark = "nothing of ";
    let (reason, message) = play.played_out(|_| false);
    assert_eq!(reason, "NotAllRestored", "{message}");
    let status = play.object.status.unwrap();
    assert_eq!(status.not_restored, ["volume log: the point has no file under its paths"]);
    play = Play::new(&json!({"only": {"volumes": [{"claim": "log", "paths": ["x"]}]}}));
    play.mark = "parts of ";
    assert_eq!(play.played_out(|_| false).0, "Restored");
}
