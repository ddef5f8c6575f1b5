//! Settings that are wrong: the API server refuses what can be told from the object alone, and the operator says the
//! rest in a condition that names the field. It neither restarts nor runs hot over them.

use std::{
    collections::BTreeMap,
    fs,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use kube::ResourceExt;
use reprise::api::{application::ProtectedApplication, dns_zone::DnsZone, vault::Vault};
use serde_json::{Value, json};

use super::stage::{SOON, Scene, TERMS, document};
use crate::harness::{
    app::App,
    file,
    lab::{Region, filled},
    product::NAMESPACE,
    wait::{Look, until},
};

/// A change to a good object, by JSON pointer, and the words of the refusal.
type Rule = (&'static str, Value, &'static str);

/// What is said of volumes that a dump stands for.
fn volume_rules() -> Vec<Rule> {
    vec![
        ("/spec/backup/volumes", json!({"method": "Dump"}), "backup.volumes.method: Dump is for single claims"),
        (
            "/spec/backup/volumes",
            json!({"overrides": [{"claim": "a", "method": "Dump"}]}),
            "with method Dump needs dump, the name of one of backup.dumps",
        ),
        (
            "/spec/backup/volumes",
            json!({"overrides": [{"claim": "a", "method": "Dump", "dump": "b"}]}),
            "must be the name of one of backup.dumps",
        ),
    ]
}

fn application_rules() -> Vec<Rule> {
    let probe = |changed: Value| {
        let mut probe = json!({"name": "front", "interval": "2s", "timeout": "2s", "tcp": {"host": "a", "port": 1}});
        probe.as_object_mut().expect("an object").extend(changed.as_object().expect("an object").clone());
        probe
    };
    let dump = |changed: Value| {
        let mut dump = json!({"name": "a", "pods": {"matchLabels": {"a": "b"}}, "dump": ["d"], "load": ["l"]});
        dump.as_object_mut().expect("an object").extend(changed.as_object().expect("an object").clone());
        json!([dump])
    };
    let claim = |renew, hold, fence, wait| json!({"renew": renew, "hold": hold, "fence": fence, "wait": wait});
    vec![
        ("/metadata/name", json!("a".repeat(41)), "metadata.name may have at most 40 characters"),
        ("/spec/objectives/rto", json!("29s"), "objectives.rto must be at least 30s"),
        ("/spec/objectives/rpo", json!("9s"), "objectives.rpo must be at least 10s"),
        ("/spec/objectives/slo", json!({"availability": "100%"}), "objectives.slo.availability must be a percentage"),
        (
            "/spec/objectives/slo",
            json!({"availability": "99%", "window": "91d"}),
            "objectives.slo.window must be 1d to 90d",
        ),
        (
            "/spec/claim",
            claim("2s", "6s", "6s", "13s"),
            "claim.wait is too short: wait >= (hold * 1.01 + fence) * 1.01 + 1s",
        ),
        ("/spec/claim", claim("4s", "6s", "6s", "20s"), "claim.hold must be at least twice claim.renew"),
        ("/spec/claim", claim("0s", "6s", "6s", "20s"), "claim.renew at least 1s"),
        ("/spec/claim", json!({"fencing": "Sometimes"}), "Unsupported value: \"Sometimes\""),
        ("/spec/regions", json!([]), "spec.regions"),
        ("/spec/regions", json!([{"name": "a"}, {"name": "a"}]), "duplicate entries for key"),
        ("/spec/backup/vaults", json!(["a", "b"]), "spec.backup.vaults"),
        ("/spec/backup/retention", json!({}), "backup.retention needs at least one of"),
        ("/spec/backup/retention", json!({"within": "soon"}), "backup.retention.within must be a length of time"),
        ("/spec/backup/retention", json!({"last": 0}), "spec.backup.retention.last"),
        ("/spec/backup/verification", json!({"every": "59m"}), "backup.verification.every must be at least 1h"),
        ("/spec/backup/verification", json!({"sharePercent": 101}), "spec.backup.verification.sharePercent"),
        (
            "/spec/backup/verification",
            json!({"rehearse": {"every": "59m"}}),
            "backup.verification.rehearse.every must be at least 1h",
        ),
        (
            "/spec/backup/verification",
            json!({"rehearse": {"region": "nowhere"}}),
            "backup.verification.rehearse.region must be the name of one of spec.regions",
        ),
        ("/spec/failover/minimumLevel", json!("L7"), "Unsupported value: \"L7\""),
        ("/spec/backup/suspectBelowPercent", json!(100), "spec.backup.suspectBelowPercent"),
        ("/spec/backup/dumps", dump(json!({"every": "59s"})), "backup.dumps.every must be at least 1m"),
        ("/spec/backup/dumps", dump(json!({"timeout": "25h"})), "backup.dumps.timeout must be 1s to 24h"),
        ("/spec/backup/dumps", dump(json!({"maxBytes": 0})), "spec.backup.dumps[0].maxBytes"),
        ("/spec/backup/dumps", dump(json!({"load": []})), "spec.backup.dumps[0].load"),
        ("/spec/backup/dumps", dump(json!({"pods": {"matchLabels": {}}})), "spec.backup.dumps[0].pods.matchLabels"),
        ("/spec/health/probes/0", probe(json!({"http": {"url": "http://a"}})), "exactly one of http, tcp and workload"),
        ("/spec/health/probes/0", json!({"name": "front"}), "exactly one of http, tcp and workload"),
        ("/spec/health/probes/0", probe(json!({"failures": 4})), "probe.failures cannot be greater than probe.of"),
        (
            "/spec/health/probes/0",
            probe(json!({"timeout": "3s"})),
            "probe.timeout must be at least 1s and at most probe.interval",
        ),
        ("/spec/health/probes/0", json!({"name": "front", "http": {"url": "shop"}}), "spec.health.probes[0].http.url"),
        ("/spec/traffic/ttl", json!("25h"), "traffic.ttl must be 1s to 24h"),
        ("/spec/traffic/hostname", json!("shop."), "spec.traffic.hostname"),
        ("/spec/failover/activation", json!("Perhaps"), "Unsupported value: \"Perhaps\""),
    ]
}

/// The server's answer to the object with that change.
fn refusal(region: &Region, good: &Value, (place, value, _): &Rule) -> Result<String> {
    let mut object = good.clone();
    let (parent, field) = place.rsplit_once('/').context("a place is a JSON pointer")?;
    let parent = object.pointer_mut(parent).with_context(|| format!("nothing at {place}"))?;
    match field.parse::<usize>() {
        Ok(index) => parent[index] = value.clone(),
        Err(_) => parent[field] = value.clone(),
    }
    let text = object.to_string();
    match region.kubectl(&["apply", "--server-side", "--dry-run=server", "-f", "-"], Some(&text)) {
        Ok(_) => Err(anyhow!("{place} = {value} is accepted")),
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// The good object, and that each change to it is refused in the right words. All that is wrong is told at once.
fn each_is_refused(region: &Region, good: &Value, rules: &[Rule]) -> Result<()> {
    region
        .kubectl(&["apply", "--server-side", "--dry-run=server", "-f", "-"], Some(&good.to_string()))
        .context("the object that the rules are tried on is refused itself")?;
    let mut wrong = Vec::new();
    for rule in rules {
        match refusal(region, good, rule) {
            Ok(said) if said.contains(rule.2) => {}
            Ok(said) => wrong.push(format!("{} = {}: refused without '{}': {said}", rule.0, rule.1, rule.2)),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn what_breaks_a_rule_is_refused_by_the_api_server_with_the_rule() -> Result<()> {
    let scene = Scene::begin()?;
    let app = App { name: "rules", port: 30_090 };
    scene.namespace(app.name)?;
    scene.west.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app.name}}).to_string())?;
    let documents = document("protection.yaml", app, TERMS)?;
    let (_, application) = documents.split_once("---").context("the second document is the application")?;
    each_is_refused(scene.west, &serde_yaml::from_str(application)?, &[application_rules(), volume_rules()].concat())?;

    let vault = json!({
        "apiVersion": "reprise.dev/v1alpha1", "kind": "Vault", "metadata": {"name": "rules"},
        "spec": {"s3": {"bucket": "abc"}, "encryption": {"secret": {"name": "key"}}},
    });
    let rules = [
        ("/spec/directory", json!({"claimName": "nfs"}), "a vault has exactly one of s3, azure and directory"),
        ("/spec/s3/bucket", json!("ab"), "spec.s3.bucket"),
        ("/spec/s3/prefix", json!("/a/"), "spec.s3.prefix"),
        ("/spec/s3/endpoint", json!("10.0.0.1:9000"), "spec.s3.endpoint"),
        ("/spec/encryption", json!({}), "spec.encryption.secret"),
    ];
    each_is_refused(scene.west, &vault, &rules)?;
    runs_are_immutable(scene.west, app)
}

/// A failover and a recovery point are records: what was asked for is not changed afterwards.
fn runs_are_immutable(region: &Region, app: App) -> Result<()> {
    let run = |kind: &str, spec: &Value| {
        json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": kind, "spec": spec,
            "metadata": {"name": "once", "namespace": app.name},
        })
    };
    let failover = run("Failover", &json!({"application": "nobody", "to": "eu-west"}));
    let point = run("RecoveryPoint", &json!({"application": "nobody"}));
    let imported = json!({"application": "nobody", "purpose": "Imported", "id": format!("0000000001-{:026}", 7)});
    let mut shown = run("RecoveryPoint", &imported);
    shown["metadata"]["name"] = json!("shown");
    region.apply(&shown.to_string())?;
    let other = json!(format!("0000000001-{:026}", 8));
    each_is_refused(region, &shown, &[("/spec/id", other.clone(), "spec is immutable")])?;
    each_is_refused(region, &point, &[("/spec/id", other, "id names a point that is in the vault already")])?;
    for good in [&failover, &point] {
        region.apply(&good.to_string())?;
        let name = ("/metadata/name", json!("a".repeat(64)), "metadata.name may have at most 63 characters");
        each_is_refused(region, good, &[("/spec/application", json!("other"), "spec is immutable"), name])?;
    }
    Ok(())
}

/// A wrong object, and what its condition must say.
struct Wrong {
    kind: &'static str,
    name: &'static str,
    condition: &'static str,
    reason: &'static str,
    words: &'static [&'static str],
}

const WRONG: [Wrong; 11] = [
    wrong("Vault", "no-secret", "Ready", "SecretMissing", &["spec.encryption.secret", "'nowhere'", "create it"]),
    wrong("Vault", "no-bucket", "Ready", "StoreFailed", &["absent", "create it, or correct `spec.s3.bucket`"]),
    wrong("Vault", "other-key", "Ready", "WrongKey", &["into the Secret of `spec.encryption.secret`"]),
    wrong("Vault", "wrong-secret", "Ready", "StoreFailed", &["correct `secretAccessKey`", "`spec.s3.credentials`"]),
    wrong(
        "Vault",
        "no-server",
        "Ready",
        "StoreFailed",
        &["nowhere.demo.test", "does not resolve", "`spec.s3.endpoint`"],
    ),
    wrong("DnsZone", "wrong-key", "Ready", "ZoneFailed", &["refused the signature", "spec.rfc2136.tsig.secret"]),
    wrong("DnsZone", "wrong-zone", "Ready", "ZoneFailed", &["does not serve the zone", "correct spec.zone"]),
    wrong(
        "ProtectedApplication",
        "bad-probe",
        "Healthy",
        "Unhealthy",
        &["nowhere.demo.test", "spec.health.probes[name=front]"],
    ),
    wrong(
        "ProtectedApplication",
        "bad-region",
        "RegionsPresent",
        "Missing",
        &["spec.regions", "mars", "correct the name"],
    ),
    wrong(
        "ProtectedApplication",
        "bad-name",
        "TrafficPublished",
        "HostnameOutsideZone",
        &["spec.traffic.hostname", "zone demo.test"],
    ),
    wrong("ProtectedApplication", "bad-vault", "ClaimSound", "VaultNotTrusted", &["spec.backup.vaults", "'elsewhere'"]),
];

const fn wrong(
    kind: &'static str,
    name: &'static str,
    condition: &'static str,
    reason: &'static str,
    words: &'static [&'static str],
) -> Wrong {
    Wrong { kind, name, condition, reason, words }
}

impl Wrong {
    fn conditions(&self, region: &Region) -> Result<Vec<Condition>> {
        Ok(match self.kind {
            "Vault" => region.get::<Vault>("", self.name)?.and_then(|it| it.status).map(|it| it.conditions),
            "DnsZone" => region.get::<DnsZone>("", self.name)?.and_then(|it| it.status).map(|it| it.conditions),
            _ => region
                .get::<ProtectedApplication>(self.name, self.name)?
                .and_then(|it| it.status)
                .map(|it| it.conditions),
        }
        .unwrap_or_default())
    }

    /// Wait until its condition says what it must.
    fn is_told(&self, region: &Region) -> Result<()> {
        until(&format!("{} of {} {} to say {:?}", self.condition, self.kind, self.name, self.words), SOON, || {
            let conditions = self.conditions(region)?;
            let found = conditions.iter().find(|it| it.type_ == self.condition);
            let good = found.is_some_and(|it| {
                it.status == "False"
                    && it.reason == self.reason
                    && self.words.iter().all(|word| it.message.contains(word))
            });
            Ok(if good { Look::Seen(()) } else { Look::NotYet(format!("{found:?}")) })
        })
    }
}

/// Removes what is not in a namespace.
struct Cleared<'a>(&'a Region, String);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        let _ = self.0.kubectl(&["delete", "--ignore-not-found", "--wait=false", "-f", "-"], Some(&self.1));
    }
}

#[test]
fn wrong_settings_are_told_by_field_and_remedy_and_cost_neither_restarts_nor_a_hot_loop() -> Result<()> {
    let scene = Scene::begin()?;
    let west = scene.west;
    for it in WRONG.iter().filter(|it| it.kind == "ProtectedApplication") {
        scene.namespace(it.name)?;
    }
    let counted = fs::read_to_string(file("tests/lab/scenarios/count-requests.yaml"))?;
    west.apply(&counted)?;
    scene.north.apply(&counted)?;
    let before = restarts(west)?;
    let (idle, idle_standby) = thread::scope(|scope| {
        let standby = scope.spawn(|| pace(scene.north));
        (pace(west), standby.join().expect("counting does not panic"))
    });
    let (idle, idle_standby) = (idle?, idle_standby?);
    println!("idle: {idle:?}, and in the other region: {idle_standby:?}");
    let mut values: BTreeMap<String, String> = scene.lab.env.clone();
    let main: Vault = west.get("", "main")?.context("there is no Vault main")?;
    values.insert("PREFIX".to_owned(), main.spec.s3.and_then(|it| it.prefix).context("the vault has no prefix")?);
    let documents = filled(&fs::read_to_string(file("tests/lab/scenarios/bad-input.yaml"))?, &values)?;
    let cleared = Cleared(west, documents.clone());
    west.apply(&documents)?;
    let wrong: Vec<String> = WRONG.iter().filter_map(|it| it.is_told(west).err().map(|it| format!("{it:#}"))).collect();
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), west.story("reprise-system"));
    let failing = pace(west)?;
    println!("failing: {failing:?}");
    ensure!(restarts(west)? == before, "the operator was restarted: {before:?}, then {:?}", restarts(west)?);
    // About a request a second is the lease of two pods. What is wrong is tried again, but ever more seldom.
    ensure!(failing.passes < 150.0 && failing.requests < 200.0, "it runs hot over what is wrong: {failing:?}");
    for idle in [idle, idle_standby] {
        ensure!(idle.passes < 10.0 && idle.requests < 90.0, "it is not idle when nothing is wrong: {idle:?}");
    }
    drop(cleared);
    Ok(())
}

/// The restarts of the operator's pods, by pod.
fn restarts(region: &Region) -> Result<BTreeMap<String, i32>> {
    let pods: Vec<Pod> = region.list(NAMESPACE)?;
    let operators =
        pods.into_iter().filter(|it| it.labels().get("app.kubernetes.io/component").is_some_and(|it| it == "operator"));
    let count = |pod: &Pod| {
        pod.status
            .as_ref()
            .and_then(|it| it.container_statuses.as_ref())
            .map_or(0, |all| all.iter().map(|it| it.restart_count).sum())
    };
    Ok(operators.map(|it| (it.name_any(), count(&it))).collect())
}

/// What the operator does in a minute.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Passes of its loop, by its own count.
    passes: f64,
    /// Requests to the API server, by the server's count.
    requests: f64,
}

fn pace(region: &Region) -> Result<Pace> {
    let (begin, from) = (Instant::now(), counts(region)?);
    sleep(Duration::from_secs(30));
    let to = counts(region)?;
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    Ok(Pace { passes: (to.passes - from.passes) / minutes, requests: (to.requests - from.requests) / minutes })
}

fn counts(region: &Region) -> Result<Pace> {
    let mut passes = 0.0;
    for pod in restarts(region)?.keys() {
        let text = region.kubectl(
            &["get", "--raw", &format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics")],
            None,
        )?;
        passes += sum(&text, "reprise_reconciles_total", "");
    }
    let text = region.kubectl(&["get", "--raw", "/metrics"], None)?;
    let requests = sum(&text, "apiserver_flowcontrol_dispatched_requests_total", "flow_schema=\"reprise\"");
    Ok(Pace { passes, requests })
}

/// The sum of a metric's samples that hold `label`.
fn sum(text: &str, metric: &str, label: &str) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(metric) && line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
