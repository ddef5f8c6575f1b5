//! Captures from an API server that misbehaves: it is played here, on the loopback interface, answer by answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header},
};
use kube::{Client, Config};
use reprise::capture::{
    collect::{self, CaptureError, Captured, Limits},
    discover,
    select::Selection,
};
use serde_json::{Value, json};

/// A status and a body.
type Answer = (u16, Value);

/// What is answered to a path, first to last; the last answer is repeated. Paths that are not there are not found.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<BTreeMap<String, Vec<Answer>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

const CONFIG: &str = "/api/v1/namespaces/shop/configmaps";
const SECRETS: &str = "/api/v1/namespaces/shop/secrets";

impl Script {
    /// An API server with `ConfigMap`s and `Secret`s, and nothing in them.
    fn new() -> Self {
        let resource = |plural: &str, kind: &str| json!({"resource": plural, "scope": "Namespaced", "verbs": ["list", "create"], "responseKind": {"kind": kind}});
        Self::default()
            .say("/api/v1/namespaces/shop", 200, json!({"metadata": {"name": "shop"}}))
            .say("/apis", 200, json!({"items": []}))
            .say(
                "/api",
                200,
                json!({"items": [{"metadata": {}, "versions": [{"version": "v1",
                "resources": [resource("configmaps", "ConfigMap"), resource("secrets", "Secret")]}]}]}),
            )
            .say(CONFIG, 200, list(&[], None))
            .say(SECRETS, 200, list(&[], None))
    }

    fn say(self, path: &str, code: u16, body: Value) -> Self {
        self.answers.lock().expect("no panic").insert(path.into(), vec![(code, body)]);
        self
    }

    fn then(self, path: &str, code: u16, body: Value) -> Self {
        self.answers.lock().expect("no panic").entry(path.into()).or_default().push((code, body));
        self
    }

    fn answer(&self, uri: &Uri) -> (u16, Value) {
        self.asked.lock().expect("no panic").push(uri.to_string());
        let mut answers = self.answers.lock().expect("no panic");
        match answers.get_mut(uri.path()) {
            None => (404, status(404, "NotFound")),
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
        }
    }

    async fn client(&self) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = |State(script): State<Self>, uri: Uri| async move {
            let (code, body) = script.answer(&uri);
            let code = StatusCode::from_u16(code).expect("a status");
            (code, [(header::CONTENT_TYPE, "application/json")], body.to_string())
        };
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, app).await });
        let url = format!("http://{address}").parse().expect("an address");
        Client::try_from(Config::new(url)).expect("a client")
    }

    async fn capture(&self) -> Result<Captured, CaptureError> {
        collect::capture(&self.client().await, "shop", &Selection::default(), Limits::default()).await
    }

    fn asked(&self, path: &str) -> usize {
        self.asked.lock().expect("no panic").iter().filter(|it| it.starts_with(path)).count()
    }
}

fn list(names: &[&str], next: Option<&str>) -> Value {
    let items: Vec<_> = names.iter().map(|it| json!({"metadata": {"name": it, "namespace": "shop"}})).collect();
    json!({"metadata": {"continue": next}, "items": items})
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "so it is"})
}

#[tokio::test]
async fn a_list_that_expired_is_read_again_from_the_start() {
    let script = Script::new()
        .say(CONFIG, 200, list(&["a", "b"], Some("next")))
        .then(CONFIG, 410, status(410, "Expired"))
        .then(CONFIG, 200, list(&["b", "c"], Some("next")))
        .then(CONFIG, 200, list(&["d"], None));
    let captured = script.capture().await.expect("a bundle");
    assert_eq!((captured.count, captured.failed.len()), (3, 0), "b, c and d, and a is gone: {captured:?}");
}

#[tokio::test]
async fn a_list_that_always_expires_is_given_up_and_named() {
    let script = Script::new().say(CONFIG, 410, status(410, "Expired"));
    let captured = script.capture().await.expect("the secrets");
    assert_eq!(captured.failed, ["configmaps: Expired"]);
    assert_eq!(script.asked(CONFIG), 4, "a bounded number of times");
}

#[tokio::test]
async fn an_error_that_passes_costs_nothing_and_one_that_stays_makes_the_kind_missing() {
    let script = Script::new()
        .say(CONFIG, 500, status(500, "InternalError"))
        .then(CONFIG, 200, list(&["a"], None))
        .say(SECRETS, 500, status(500, "InternalError"));
    let captured = script.capture().await.expect("the ConfigMap");
    assert_eq!(captured.count, 1);
    assert_eq!(captured.failed, ["secrets: InternalError"]);
    assert_eq!(captured.bundle.index().expect("an index").failed, captured.failed);
}

#[tokio::test]
async fn when_nothing_can_be_read_there_is_no_bundle() {
    let script = Script::new().say(CONFIG, 403, status(403, "Forbidden")).say(SECRETS, 403, status(403, "Forbidden"));
    let error = script.capture().await.expect_err("an empty bundle would pass for a point");
    assert_eq!(error.to_string(), "nothing could be read of namespace shop: configmaps: Forbidden");
}

#[tokio::test]
async fn what_is_not_a_list_makes_the_kind_missing() {
    let script = Script::new().say(CONFIG, 200, json!({"metadata": {}, "items": "none"}));
    assert_eq!(script.capture().await.expect("the secrets").failed, ["configmaps: unreadable list"]);
}

#[tokio::test]
async fn an_api_server_without_aggregated_discovery_is_asked_group_by_group() {
    let resource = |kind: &str| json!({"name": kind.to_lowercase() + "s", "singularName": "", "kind": kind, "namespaced": true, "verbs": ["list", "create"]});
    let group = |name: &str| {
        let version = |it: &str| json!({"groupVersion": format!("{name}/{it}"), "version": it});
        json!({"name": name, "versions": [version("v1beta1"), version("v1")], "preferredVersion": version("v1")})
    };
    let resources = |version: &str, kinds: &[&str]| json!({"groupVersion": version, "resources": kinds.iter().map(|it| resource(it)).collect::<Vec<_>>()});
    let script = Script::default()
        .say("/api", 200, json!({"versions": ["v1"], "serverAddressByClientCIDRs": []}))
        .say("/api/v1", 200, resources("v1", &["ConfigMap"]))
        .say("/apis", 200, json!({"groups": [group("acme.dev"), group("away.dev")]}))
        .say("/apis/acme.dev/v1", 200, resources("acme.dev/v1", &["Widget"]))
        .say("/apis/acme.dev/v1beta1", 200, resources("acme.dev/v1beta1", &["Widget", "Gadget"]))
        .say("/apis/away.dev/v1", 403, status(403, "Forbidden"));
    let found = discover::discover(&script.client().await).await.expect("what is there");
    let names: Vec<_> = found.preferred().iter().map(|it| format!("{} {}", it.version, it.name())).collect();
    assert_eq!(names, ["v1 configmaps", "v1 widgets.acme.dev", "v1beta1 gadgets.acme.dev"]);
    assert_eq!(found.failed, ["away.dev/v1: Forbidden", "away.dev/v1beta1: NotFound"]);
}
