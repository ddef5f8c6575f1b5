//! When a standby suspects the holder, and what it does about it: advice, a failover, or waiting.

use super::*;

/// `west` sees it fail since the start, and the holder is silent or well renewing.
fn suspicious(silent: bool) -> Observed {
    let holder_health = Some(record::Health { healthy: false, since: START });
    let silent_for = if silent { 40 } else { 0 };
    let health = Health {
        verdict: Verdict::Unhealthy,
        reasons: vec!["web: refused".into()],
        since: START,
        disrupted_at: Some(START),
    };
    let view = View { silent_for, holder_health, ..view(Some("east"), 1) };
    Observed { health: Some(health), ..observed(Some(view)) }
}

fn advice(object: &ProtectedApplication, seen: &Observed, seconds: i64) -> (String, Vec<String>) {
    let decision = decide(object, seen, at(seconds));
    (reason(&decision, FAILOVER_ADVISED), made(&decision, "Failover"))
}

fn automatic(started: bool) -> (String, Vec<String>) {
    if started { ("Started".to_owned(), vec!["shop-000002-00".to_owned()]) } else { ("Waiting".to_owned(), vec![]) }
}

#[test]
fn a_silent_holder_is_replaced_at_once_and_a_living_one_gets_a_third_of_the_rto_first() {
    let object = application(json!({}));
    assert_eq!(advice(&object, &suspicious(true), 40), automatic(true));
    assert_eq!(advice(&object, &suspicious(false), 99), automatic(false));
    assert_eq!(advice(&object, &suspicious(false), 100), automatic(true));
}

#[test]
fn a_less_preferred_standby_waits_for_the_more_preferred_one() {
    let south = Observed { region: "south".into(), ..suspicious(true) };
    assert_eq!(advice(&application(json!({})), &south, 74), automatic(false));
    assert_eq!(advice(&application(json!({})), &south, 75), automatic(true));
}

#[test]
fn where_activation_is_manual_it_is_advised_and_not_started() {
    let mut object = application(json!({}));
    object.spec.failover.activation = crate::api::application::Activation::Manual;
    assert_eq!(advice(&object, &suspicious(true), 400), ("ActivationIsManual".to_owned(), vec![]));
}

#[test]
fn a_failover_that_is_advised_is_told_once_as_a_warning_with_its_command_and_once_that_it_no_longer_is() {
    let mut object = application(json!({}));
    object.spec.failover.activation = crate::api::application::Activation::Manual;
    let told = |it: &Decided| -> Vec<(bool, String)> {
        let about = |it: &Effect| match it {
            Effect::Announce(it) if it.note.starts_with(FAILOVER_ADVISED) => Some((it.warning, it.note.clone())),
            _ => None,
        };
        it.effects.iter().filter_map(about).collect()
    };
    let first = decide(&object, &suspicious(true), at(400));
    let [(true, note)] = &told(&first)[..] else { panic!("{:?}", first.effects) };
    assert!(note.ends_with("; to fail over: kubectl reprise failover shop -n shop --to west"), "{note}");
    let second = then(&first, &suspicious(true), 402);
    assert_eq!(told(&second), []);
    let healthy = Health { verdict: Verdict::Healthy, reasons: vec![], since: START, disrupted_at: None };
    let well = Observed { health: Some(healthy), ..observed(Some(view(Some("east"), 1))) };
    let over = (false, "FailoverAdvised: nothing speaks for a failover to here".to_owned());
    assert_eq!(told(&then(&second, &well, 404)), [over]);
}

#[test]
fn one_vantage_point_an_untrusted_vault_or_a_run_that_goes_on_starts_nothing() {
    let object = application(json!({}));
    let mut well = suspicious(false);
    well.claim.as_mut().unwrap().holder_health = Some(record::Health { healthy: true, since: START });
    assert_eq!(advice(&object, &well, 400), ("NotConfirmed".to_owned(), vec![]));
    assert_eq!(
        advice(&object, &Observed { vault: None, ..suspicious(true) }, 400),
        ("VaultNotTrusted".to_owned(), vec![])
    );
    let going = Observed { failovers: vec![past("Operator", Truth::Unknown, 0)], ..suspicious(true) };
    assert_eq!(advice(&object, &going, 400), ("InProgress".to_owned(), vec![]));
}

/// A failover that ended so at this second.
fn past(initiator: &str, truth: Truth, finished: i64) -> Arc<Failover> {
    let object = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "Failover",
        "metadata": {"name": format!("old{finished}"), "namespace": "shop"},
        "spec": {"application": "shop", "to": "west", "initiator": initiator},
        "status": {"finishedAt": at(finished), "conditions": conditions(vec![Finding::new(SUCCEEDED, truth, "r", "m")])},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

#[test]
fn a_failover_is_followed_by_the_cooldown_and_one_that_took_nothing_by_a_short_pause() {
    let object = application(json!({}));
    let after = |truth| Observed { failovers: vec![past("Person", truth, 0)], ..suspicious(true) };
    assert_eq!(advice(&object, &after(Truth::True), 1_799).0, "CoolingDown");
    assert_eq!(advice(&object, &after(Truth::True), 1_800), automatic(true));
    assert_eq!(advice(&object, &after(Truth::False), 29).0, "CoolingDown");
    assert_eq!(advice(&object, &after(Truth::False), 30), automatic(true));
}

#[test]
fn automatic_failovers_are_limited_by_the_day_and_a_persons_are_not_counted() {
    let object = application(json!({}));
    let after = |initiator| Observed { failovers: vec![past(initiator, Truth::True, 0)], ..suspicious(true) };
    assert_eq!(advice(&object, &after("Operator"), 86_399).0, "LimitReached");
    assert_eq!(advice(&object, &after("Operator"), 86_400), automatic(true));
    assert_eq!(advice(&object, &after("Person"), 10_000), automatic(true));
}
