//! Tests of the bucket: against servers that say one thing or nothing, and against a real one.

use std::net::TcpListener;
use std::path::Path as FilePath;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::*;
use crate::vault::manifest::PART_BYTES;
use crate::vault::minio::{Minio, location};
use crate::vault::{Condition, Part, ProxyCredentials, ProxyLocation, SecretText, Store, StoreError, conformance};

fn store(location: &S3Location) -> Store {
    Store::Bucket(open(location).unwrap())
}

/// A server that answers every request alike; without an answer it listens and says nothing. Returns its URL.
async fn server(answer: Option<(u16, &'static str)>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_all(stream, answer));
        }
    });
    url
}

async fn answer_all(mut stream: TcpStream, answer: Option<(u16, &'static str)>) {
    let mut request = vec![0; 64 * 1024];
    loop {
        match (stream.read(&mut request).await, answer) {
            (Ok(0) | Err(_), _) => return,
            (Ok(_), None) => {}
            (Ok(_), Some((status, code))) => {
                let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
                return;
            }
        }
    }
}

#[tokio::test]
async fn each_refusal_names_what_to_correct() {
    for (status, code, words) in [
        (403, "InvalidAccessKeyId", "`accessKeyId`"),
        (403, "SignatureDoesNotMatch", "`secretAccessKey`"),
        (400, "ExpiredToken", "`sessionToken`"),
        (403, "AccessDenied", "s3:PutObject"),
        (403, "RequestTimeTooSkewed", "the clock of this node"),
        (404, "NoSuchBucket", "`spec.s3.bucket`"),
        (400, "AuthorizationHeaderMalformed", "`spec.s3.region`"),
        (301, "PermanentRedirect", "`spec.s3.region`"),
    ] {
        let store = store(&location(&server(Some((status, code))).await, "id", "secret"));
        let get = store.get("key").await.unwrap_err();
        assert!(get.to_string().contains(words), "{code}: {get}");
        assert_eq!(store.put("key", "x".into()).await.unwrap_err(), get);
        assert_eq!(store.put_if("key", "x".into(), Condition::Absent).await.unwrap_err(), get, "nothing was written");
        assert_eq!(store.page("", None, 1).await.unwrap_err(), get);
    }
}

#[tokio::test]
async fn an_object_that_is_absent_is_no_error() {
    let store = store(&location(&server(Some((404, "NoSuchKey"))).await, "id", "secret"));
    assert_eq!(store.get("key").await, Ok(None));
    assert_eq!(store.find("key").await, Ok(None));
    assert_eq!(store.get_range("key", 0, 5).await, Ok(None));
    assert_eq!(store.put_if("key", "x".into(), Condition::Unchanged("\"tag\"")).await, Err(StoreError::Lost));
}

#[tokio::test]
async fn a_conditional_write_that_meets_a_failing_server_is_unknown_and_sent_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = tokio::spawn(async move {
        let mut count = 0;
        let quiet = std::time::Duration::from_secs(4);
        while let Ok(Ok((stream, _))) = tokio::time::timeout(quiet, listener.accept()).await {
            count += 1;
            answer_all(stream, Some((500, "InternalError"))).await;
        }
        count
    });
    let outcome = store(&location(&url, "id", "secret")).put_if("key", "x".into(), Condition::Absent).await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
    assert_eq!(count.await.unwrap(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_a_conditional_write_open() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut vec![0; 64 * 1024]).await;
        }
    });
    let outcome = store(&location(&url, "id", "secret")).put_if("key", "x".into(), Condition::Absent).await;
    assert!(matches!(outcome, Err(StoreError::Unknown { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_silent_server_is_given_up_within_the_deadline() {
    let url = server(None).await;
    let store = store(&location(&url, "id", "secret"));
    let begin = Instant::now();
    let (get, put) = tokio::join!(store.get("key"), store.put_if("key", "x".into(), Condition::Absent));
    assert_eq!(get, Err(StoreError::TimedOut { server: url }));
    assert!(matches!(put, Err(StoreError::Unknown { .. })), "{put:?}");
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn no_one_listening_and_no_way_there_are_told_apart() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let refused = StoreError::Refused { server: url.clone(), provider: Provider::S3 };
    let closed = store(&location(&url, "id", "secret"));
    assert_eq!(closed.get("key").await, Err(refused.clone()));
    assert_eq!(closed.put_if("key", "x".into(), Condition::Absent).await, Err(refused), "nothing was sent");

    // A listener whose queue is full drops what comes: as a network that was cut.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    for _ in 0..8 {
        let connect = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
        queue.push(connect.await);
    }
    let url = format!("http://{address}");
    let cut = store(&location(&url, "id", "secret"));
    let begin = Instant::now();
    let unreachable = StoreError::Unreachable { server: url };
    assert_eq!(cut.put_if("key", "x".into(), Condition::Absent).await, Err(unreachable.clone()), "nothing was sent");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(cut.get("key").await, Err(unreachable));
    assert!(begin.elapsed() < Duration::from_secs(17), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let url = "http://vault.invalid:9000";
    let error = store(&location(url, "id", "secret")).get("key").await.unwrap_err();
    assert_eq!(error, StoreError::Unresolved { server: url.to_owned(), provider: Provider::S3 });
}

#[tokio::test]
async fn a_server_without_tls_is_a_matter_of_tls() {
    let url = server(Some((400, "x"))).await.replace("http://", "https://");
    let error = store(&location(&url, "id", "secret")).get("key").await.unwrap_err();
    assert!(matches!(&error, StoreError::Tls { server, .. } if *server == url), "{error:?}");
    assert!(error.to_string().contains("http://"), "{error}");
}

#[test]
fn settings_that_can_not_be_right_are_refused() {
    let mut wrong = location("https://s3.test", "id", "secret");
    wrong.ca_bundle = Some("not a certificate".to_owned());
    assert!(open(&wrong).unwrap_err().to_string().contains("`spec.s3.caBundle`"));
    let wrong = location("s3.test", "id", "secret");
    assert!(open(&wrong).unwrap_err().to_string().contains("`spec.s3.endpoint`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib minio -- --ignored"]
async fn minio_passes_the_self_test_and_pages_its_lists() {
    let minio = Minio::start("http", |_| ()).await;
    let store = store(&minio.location());
    let outcome = conformance::test(&store, "east").await.unwrap();
    assert_eq!((outcome.passed, outcome.failures), (true, vec![]));
    let keys: Vec<String> = (0..2500).map(|number| format!("list/{}/{number:05}", number % 7)).collect();
    let puts = keys.iter().map(|key| store.put(key, "x".into()));
    futures::stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
    let mut wanted = keys.clone();
    wanted.sort();
    let listed: Vec<String> = store.list("list/").await.unwrap().into_iter().map(|entry| entry.key).collect();
    assert_eq!(listed, wanted);
    assert_eq!(store.names("list/").await.unwrap(), ["0", "1", "2", "3", "4", "5", "6"]);
    let page = store.page("list/", Some(&wanted[1200]), 3).await.unwrap();
    assert_eq!(page.into_iter().map(|entry| entry.key).collect::<Vec<_>>(), wanted[1201..1204]);
    store.put("k", "0123456789".into()).await.unwrap();
    assert_eq!(store.get_range("k", 8, 5).await.unwrap().unwrap(), "89");
    assert_eq!(store.get_range("k", 20, 5).await.unwrap().unwrap(), "");
    assert_eq!(store.find("k").await.unwrap().map(|it| it.bytes), Some(10));
    store.delete("k").await.unwrap();
    store.delete("k").await.unwrap();
    assert_eq!(store.get("k").await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib minio -- --ignored"]
async fn minio_shows_what_comes_in_parts_when_all_of_it_is_there_and_keeps_nothing_of_the_rest() {
    let minio = Minio::start("http", |_| ()).await;
    let store = store(&minio.location());
    let part = |byte: u8| Bytes::from(vec![byte; PART_BYTES]);
    let feed = |parts: Vec<Part>| {
        let (send, receive) = tokio::sync::mpsc::channel(parts.len());
        for it in parts {
            send.try_send(it).unwrap();
        }
        receive
    };
    let mut whole = feed(vec![Ok(part(1)), Ok(part(2)), Ok(part(3)), Ok(part(4)), Ok("end".into())]);
    store.put_parts("large", 4 * PART_BYTES as u64, &mut whole).await.unwrap();
    assert_eq!(store.find("large").await.unwrap().map(|it| it.bytes), Some(4 * PART_BYTES as u64 + 3));
    for (byte, number) in (1..=4_u8).zip(0_u64..) {
        let read = store.get_range("large", number * PART_BYTES as u64, PART_BYTES as u64).await.unwrap();
        assert!(read.unwrap() == part(byte), "part {number}");
    }
    store.put_parts("small", 3, &mut feed(vec![Ok("end".into())])).await.unwrap();
    assert_eq!(store.get("small").await.unwrap().unwrap().bytes, "end");

    let mut torn = feed(vec![Ok(part(1)), Ok(part(2)), Ok(part(3)), Err("the disk is gone".to_owned())]);
    let error = store.put_parts("torn", 9, &mut torn).await.unwrap_err();
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    assert_eq!(store.list("").await.unwrap().iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["large", "small"]);
    let left = minio.folder.path().join("data/.minio.sys/multipart");
    let mut uploads = std::fs::read_dir(left).unwrap().flatten().flat_map(|it| std::fs::read_dir(it.path())).flatten();
    assert!(uploads.next().is_none(), "the parts of what was given up are gone");
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib minio -- --ignored"]
async fn minio_says_what_is_wrong_and_a_stopped_one_is_noticed() {
    let mut minio = Minio::start("http", |_| ()).await;
    let sound = minio.location();
    store(&sound).put("k", "x".into()).await.unwrap();
    let error = store(&location(&minio.url, "nobody", "labsecret123")).get("k").await;
    assert_eq!(error, Err(StoreError::AccessKeyId));
    let error = store(&location(&minio.url, "labadmin", "wrong")).get("k").await;
    assert_eq!(error, Err(StoreError::SecretAccessKey));
    let absent = store(&S3Location { bucket: "absent".to_owned(), ..sound.clone() });
    for error in [
        absent.get("k").await.map(|_| ()),
        absent.put("k", "x".into()).await,
        absent.put_if("k", "x".into(), Condition::Absent).await.map(|_| ()),
        absent.put_if("k", "x".into(), Condition::Unchanged("\"x\"")).await.map(|_| ()),
        absent.page("", None, 1).await.map(|_| ()),
    ] {
        assert!(matches!(error, Err(StoreError::NoBucket { .. })), "{error:?}");
    }
    let store = store(&sound);
    assert!(store.get("k").await.unwrap().is_some());
    minio.child.kill().unwrap();
    minio.child.wait().unwrap();
    let begin = Instant::now();
    assert_eq!(store.get("k").await, Err(StoreError::Refused { server: minio.url.clone(), provider: Provider::S3 }));
    assert!(begin.elapsed() < Duration::from_secs(4));
    assert!(minio.folder.path().exists());
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib minio -- --ignored"]
async fn minio_encrypts_as_it_is_asked_to_and_the_self_test_reads_that_back() {
    let minio = Minio::start("http", |_| ()).await;
    let asking = |algorithm, kms_key_id: Option<&str>| S3Location {
        server_side_encryption: Some(ServerSideEncryption { algorithm, kms_key_id: kms_key_id.map(str::to_owned) }),
        ..minio.location()
    };
    for (algorithm, key, other) in [
        (SseAlgorithm::Aes256, None, SseAlgorithm::AwsKms),
        (SseAlgorithm::AwsKms, Some("lab-key"), SseAlgorithm::Aes256),
    ] {
        let sound = store(&asking(algorithm, key));
        sound.put("k", "x".into()).await.unwrap();
        sound.put_if("k2", "x".into(), Condition::Absent).await.unwrap();
        for key in ["k", "k2"] {
            sound.check_encryption(key).await.unwrap();
            let error = store(&asking(other, None)).check_encryption(key).await.unwrap_err();
            assert!(error.to_string().contains("`spec.s3.serverSideEncryption`"), "{error}");
            sound.delete(key).await.unwrap();
        }
        let outcome = conformance::test(&sound, "east").await.unwrap();
        assert_eq!((outcome.passed, outcome.failures), (true, vec![]));
    }
    let error = store(&asking(SseAlgorithm::AwsKms, Some("no-such-key"))).put("k", "x".into()).await.unwrap_err();
    assert!(error.to_string().contains("`spec.s3.serverSideEncryption`"), "{error}");
}

/// A proxy that answers itself, and keeps the requests' heads.
async fn proxy() -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            kept.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            let _ = stream.write_all(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        }
    });
    (url, heads)
}

#[tokio::test]
async fn a_proxy_gets_what_is_not_excepted_with_its_own_credentials() {
    let (url, heads) = proxy().await;
    let through = |no_proxy: &[&str]| {
        let credentials = ProxyCredentials { username: "me".to_owned(), password: SecretText::new("p@ss:word") };
        let no_proxy = no_proxy.iter().map(|it| (*it).to_owned()).collect();
        let proxy = Some(ProxyLocation { url: url.clone(), no_proxy, credentials: Some(credentials) });
        store(&S3Location { proxy, ..location("http://vault.test:9000", "id", "secret") })
    };
    assert_eq!(through(&[]).get("key").await, Ok(None));
    let head = heads.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("GET http://vault.test:9000/bucket/some/prefix/key HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic bwu6cebzczp3b3jk"), "{head}");
    let past = through(&["vault.test"]).get("key").await;
    assert!(matches!(past, Err(StoreError::Unresolved { .. })), "{past:?}");
    assert!(heads.lock().unwrap().is_empty(), "it was not asked");
}

#[tokio::test]
async fn a_store_that_asks_to_be_left_alone_is() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for answer in ["503 X\r\nRetry-After: 2", "404 X"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut vec![0; 64 * 1024]).await;
            let head = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    let begin = Instant::now();
    assert_eq!(store(&location(&url, "id", "secret")).get("key").await, Ok(None));
    let took = begin.elapsed().as_secs_f64();
    assert!((2.0..4.0).contains(&took), "{took} s");
}

fn certify(folder: &FilePath, authority: &str, name: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=lab", "-addext", &format!("basicConstraints=critical,CA:{authority}")])
        .args(["-addext", &format!("subjectAltName={name}"), "-keyout"])
        .arg(folder.join("private.key"))
        .arg("-out")
        .arg(folder.join("public.crt"))
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
}

#[tokio::test]
#[ignore = "needs a MinIO binary: REPRISE_TEST_MINIO=path cargo test --lib minio -- --ignored"]
async fn minio_s_certificate_is_trusted_by_the_bundle_and_its_faults_are_told() {
    for (authority, name, words) in [
        ("FALSE", "IP:127.0.0.1", None),
        ("TRUE", "IP:127.0.0.1", Some("CA:TRUE")),
        ("FALSE", "DNS:elsewhere.test", Some("another name")),
    ] {
        let minio = Minio::start("https", |folder| certify(folder, authority, name)).await;
        let mut place = minio.location();
        let error = store(&place).put_if("k", "x".into(), Condition::Absent).await.unwrap_err();
        assert!(matches!(error, StoreError::Tls { .. }), "{error:?}");
        if words.is_none() {
            assert!(error.to_string().contains("`spec.s3.caBundle`"), "{error}");
        }
        place.ca_bundle = Some(std::fs::read_to_string(minio.folder.path().join("certs/public.crt")).unwrap());
        let outcome = store(&place).put_if("k", "x".into(), Condition::Absent).await;
        match words {
            None => assert!(outcome.is_ok(), "{outcome:?}"),
            Some(words) => assert!(outcome.unwrap_err().to_string().contains(words)),
        }
    }
}
