//! What a standby tells of the points that another region makes.

use super::*;

fn standby(status: &Value, works: Works, seconds: i64) -> Decided {
    let seen = Observed { works, ..observed(Some(view(Some("east"), 2))) };
    decide(&application(status.clone()), &seen, at(seconds))
}

/// What it asks the vault for, in words.
fn reads(decision: &Decided) -> Vec<String> {
    let word = |it: &Effect| match it {
        Effect::Begin(work) => match work.as_ref() {
            Work::ReadLatest { known, .. } => Some(format!("newer than {}", known.as_deref().unwrap_or("nothing"))),
            _ => None,
        },
        _ => None,
    };
    decision.effects.iter().filter_map(word).collect()
}

fn read(latest: Option<(&str, i64)>, seconds: i64) -> Works {
    let outcome = Outcome::Latest(latest.map(|(id, second)| (id.to_owned(), at(second))));
    Works::from([done(Work::ReadLatest { vault: "main".into(), application: key(), known: None }, seconds, outcome)])
}

#[test]
fn a_standby_tells_the_newest_point_and_asks_for_it_once_a_minute() {
    assert_eq!(reads(&standby(&json!({}), Works::new(), 0)), ["newer than nothing"]);
    let told = standby(&json!({}), read(Some(("p7", -20)), 1), 2);
    assert_eq!(told.status.last_point.as_ref().map(|it| (it.id.as_str(), it.consistent_at.0)), Some(("p7", at(-20))));
    assert_eq!(reads(&told), [""; 0]);
    let status = json!({"lastPoint": {"id": "p7", "consistentAt": at(-20).to_string()}, "conditions": []});
    let later = standby(&status, read(Some(("p7", -20)), 1), 61);
    assert_eq!(reads(&later), ["newer than p7"]);
    let unchanged = standby(&status, read(None, 62), 63);
    assert_eq!(unchanged.status.last_point.map(|it| it.id), Some("p7".to_owned()));
    let old = standby(&status, read(Some(("p1", -900)), 62), 63);
    assert_eq!(
        old.status.last_point.map(|it| it.id),
        Some("p7".to_owned()),
        "what was read long ago sets nothing back"
    );
}
