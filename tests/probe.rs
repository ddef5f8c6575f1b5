//! A probe is good when the application answers as it shall, and says why in the same words each time when it is not.

#![allow(clippy::unwrap_used, reason = "a test ends by it")]

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, response::Redirect, routing::get};
use reprise::{
    api::{
        application::{self as api, HttpProbe, TcpProbe, WorkloadKind, WorkloadProbe},
        span::Span,
    },
    probe::{Probe, Route, Vantage, workload::WorkloadView},
    traffic::resolve::Resolve,
};
use tokio::net::TcpListener;

/// A server of names that nobody runs: what is not an address is not found.
fn vantage() -> Vantage {
    let resolve = Resolve::with_servers(&[free_address()]).unwrap();
    Vantage::new(
        resolve,
        Arc::new(|_, _, name| {
            let view = if name == "web" { WorkloadView::Absent } else { WorkloadView::Unreadable("forbidden".into()) };
            Box::pin(async move { view })
        }),
    )
    .unwrap()
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn probe() -> api::Probe {
    api::Probe {
        name: "web".into(),
        interval: Span::from_secs(10),
        timeout: Span::from_secs(1),
        failures: 3,
        of: 3,
        http: None,
        tcp: None,
        workload: None,
    }
}

fn http(url: &str) -> HttpProbe {
    HttpProbe { url: url.into(), status: vec![200], contains: None }
}

/// The reason, or nothing when the answer is good.
async fn asked(probe: &api::Probe, route: &Route) -> String {
    let answer = vantage().ask(&Probe::parse("shop", probe).unwrap(), route).await;
    assert_eq!(answer.good, answer.reason.is_empty());
    assert!(answer.took < Duration::from_secs(4));
    answer.reason
}

async fn get_it(it: HttpProbe) -> String {
    asked(&api::Probe { http: Some(it), ..probe() }, &Route::ByName).await
}

async fn connect(host: &str, port: u16, route: &Route) -> String {
    asked(&api::Probe { tcp: Some(TcpProbe { host: host.into(), port }), ..probe() }, route).await
}

async fn server() -> SocketAddr {
    let long = format!("{}needle", "x".repeat(70_000));
    let split = format!("{}needle{}", "x".repeat(65_530), "x".repeat(100_000));
    let app = Router::new()
        .route("/ok", get(|| async { "all is well" }))
        .route("/bad", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
        .route("/late", get(|| async { tokio::time::sleep(Duration::from_mins(1)).await }))
        .route("/long", get(|| async { long }))
        .route("/split", get(|| async { split }))
        .route("/here", get(|| async { Redirect::temporary("/ok") }))
        .route("/round", get(|| async { Redirect::temporary("/round") }))
        .route("/away", get(|| async { Redirect::temporary("http://elsewhere.example/?token=secret") }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn an_answer_is_good_when_status_and_text_are_as_expected() {
    let at = server().await;
    let with =
        |path: &str, text: &str| HttpProbe { contains: Some(text.into()), ..http(&format!("http://{at}{path}")) };
    assert_eq!(get_it(http(&format!("http://{at}/ok"))).await, "");
    assert_eq!(get_it(with("/ok", "is well")).await, "");
    assert_eq!(get_it(with("/ok", "is down")).await, "the body does not contain 'is down'");
    assert_eq!(get_it(with("/split", "needle")).await, "", "the last bytes of the first 64 KiB");
    assert_eq!(get_it(with("/long", "needle")).await, "the body does not contain 'needle'", "behind the first 64 KiB");
    assert_eq!(get_it(http(&format!("http://{at}/bad"))).await, "status 503, expected 200");
    let both = HttpProbe { status: vec![204, 503], ..http(&format!("http://{at}/bad")) };
    assert_eq!(get_it(both).await, "");
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    let at = server().await;
    assert_eq!(get_it(http(&format!("http://{at}/here"))).await, "");
    assert_eq!(get_it(http(&format!("http://{at}/round"))).await, "more than 5 redirects");
    assert_eq!(get_it(http(&format!("http://{at}/away"))).await, "status 307, a redirect to another host");
    let meant = HttpProbe { status: vec![307], ..http(&format!("http://{at}/away")) };
    assert_eq!(get_it(meant).await, "", "a redirect that is expected is good");
}

#[tokio::test]
async fn each_fault_has_its_words_and_they_do_not_change() {
    let at = server().await;
    let free = free_address();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = silent.local_addr().unwrap();
    let rude = rude().await;
    for _ in 0..2 {
        assert_eq!(get_it(http(&format!("http://{free}/"))).await, "connection refused");
        assert_eq!(get_it(http(&format!("http://{at}/late"))).await, "no answer within 1 s");
        assert_eq!(get_it(http(&format!("http://{mute}/"))).await, "no answer within 1 s");
        assert_eq!(get_it(http(&format!("https://{at}/ok"))).await, "no TLS connection could be agreed on");
        assert_eq!(
            get_it(http(&format!("http://{rude}/"))).await,
            "the connection was closed, or the answer is not HTTP"
        );
        assert_eq!(connect("127.0.0.1", free.port(), &Route::ByName).await, "connection refused");
    }
    drop(silent);
}

/// Accepts, reads, and closes.
async fn rude() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.readable().await.unwrap();
            let mut all = [0; 4096];
            let _ = stream.try_read(&mut all);
        }
    });
    address
}

#[tokio::test]
async fn a_name_that_cannot_be_found_is_told_by_name() {
    let three = api::Probe { timeout: Span::from_secs(3), ..probe() };
    let it = api::Probe { http: Some(http("http://shop.example.com/")), ..three.clone() };
    assert_eq!(
        asked(&it, &Route::ByName).await,
        "no name server answered for 'shop.example.com' (spec.health.probes[name=web].http.url)"
    );
    let it = api::Probe { tcp: Some(TcpProbe { host: "shop.example.com".into(), port: 1 }), ..three };
    assert_eq!(
        asked(&it, &Route::ByName).await,
        "no name server answered for 'shop.example.com' (spec.health.probes[name=web].tcp.host)"
    );
}

#[tokio::test]
async fn a_new_address_can_be_asked_before_dns_leads_there() {
    let at = server().await;
    let route = Route::At { hostname: "shop.example.com".into(), address: at.ip() };
    let url = format!("http://Shop.example.com:{}/ok", at.port());
    assert_eq!(asked(&api::Probe { http: Some(http(&url)), ..probe() }, &route).await, "");
    assert_eq!(connect("shop.example.com.", at.port(), &route).await, "");
    let three = api::Probe { timeout: Span::from_secs(3), ..probe() };
    let other = api::Probe { http: Some(http(&format!("http://api.example.com:{}/ok", at.port()))), ..three };
    assert_eq!(
        asked(&other, &route).await,
        "no name server answered for 'api.example.com' (spec.health.probes[name=web].http.url)",
        "other names are not redirected"
    );
}

#[tokio::test]
async fn each_question_makes_a_connection_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok";
                let mut all = [0; 4096];
                loop {
                    stream.readable().await.unwrap();
                    match stream.try_read(&mut all) {
                        Ok(0) => return,
                        Ok(_) => assert_eq!(stream.try_write(answer).unwrap(), answer.len()),
                        Err(_) => {}
                    }
                }
            });
        }
    });
    let vantage = vantage();
    let http = Some(HttpProbe { contains: Some("ok".into()), ..http(&format!("http://{at}/")) });
    let probe = Probe::parse("shop", &api::Probe { http, ..probe() }).unwrap();
    for _ in 0..5 {
        assert!(vantage.ask(&probe, &Route::ByName).await.good);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_told() {
    let directory = tempfile::TempDir::new().unwrap();
    let files = ["key.pem", "cert.pem"].map(|it| directory.path().join(it));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=shop.example.com",
            "-addext",
            "subjectAltName=DNS:shop.example.com",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(&files[0])
        .arg("-out")
        .arg(&files[1])
        .stderr(Stdio::null())
        .status()
        .expect("`openssl` must be in PATH");
    assert!(made.success());
    let at = free_address();
    let mut server = Command::new("openssl")
        .args(["s_server", "-www", "-quiet", "-accept", &at.to_string()])
        .arg("-key")
        .arg(&files[0])
        .arg("-cert")
        .arg(&files[1])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let route = Route::At { hostname: "shop.example.com".into(), address: at.ip() };
    let it = api::Probe { http: Some(http(&format!("https://shop.example.com:{}/", at.port()))), ..probe() };
    let mut reason = String::new();
    for _ in 0..100 {
        reason = asked(&it, &route).await;
        if reason != "connection refused" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(reason, "the certificate's issuer is not trusted here");
}

#[tokio::test]
async fn a_workload_is_told_by_kind_and_name() {
    let of = |name: &str| WorkloadProbe { kind: WorkloadKind::StatefulSet, name: name.into() };
    let it = api::Probe { workload: Some(of("web")), ..probe() };
    assert_eq!(asked(&it, &Route::ByName).await, "StatefulSet web: does not exist");
    let it = api::Probe { workload: Some(of("db")), ..probe() };
    assert_eq!(asked(&it, &Route::ByName).await, "StatefulSet db: cannot be read: forbidden");
}
