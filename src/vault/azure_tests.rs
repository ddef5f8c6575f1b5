//! Tests of the container against azurite, and of what needs no server.

use std::sync::Mutex;

use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::api::span::Span;
use crate::api::vault::{LockMode, ObjectLock};
use crate::vault::azurite::{ACCOUNT_KEY, Azurite, signature};
use crate::vault::{Condition, SecretText, Store, StoreError, conformance};

fn store(location: &AzureLocation) -> Store {
    Store::Bucket(open(location).unwrap())
}

#[test]
fn settings_that_can_not_be_right_are_refused() {
    let location = |credentials| AzureLocation {
        account: "account".to_owned(),
        container: "container".to_owned(),
        prefix: String::new(),
        endpoint: None,
        ca_bundle: None,
        immutability: None,
        credentials: Some(credentials),
        proxy: None,
    };
    let wrong = location(AzureCredentials::AccountKey(SecretText::new("not base64!")));
    assert!(open(&wrong).unwrap_err().to_string().contains("`accountKey`"));
    let wrong = location(AzureCredentials::SasToken(SecretText::new("nonsense")));
    assert!(open(&wrong).unwrap_err().to_string().contains("`sasToken`"));
    let sound = location(AzureCredentials::AccountKey(SecretText::new(ACCOUNT_KEY)));
    let bundle = AzureLocation { ca_bundle: Some("x".to_owned()), ..sound };
    assert!(open(&bundle).unwrap_err().to_string().contains("`spec.azure.caBundle`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs azurite: REPRISE_TEST_AZURITE=path cargo test --lib azurite -- --ignored"]
async fn azurite_passes_the_self_test_and_pages_its_lists() {
    let azurite = Azurite::start().await;
    let store = store(&azurite.location());
    let outcome = conformance::test(&store, "east").await.unwrap();
    assert_eq!((outcome.passed, outcome.failures), (true, vec![]));
    let keys: Vec<String> = (0..2500).map(|number| format!("list/{}/{number:05}", number % 7)).collect();
    let puts = keys.iter().map(|key| store.put(key, "x".into()));
    let put: Vec<_> = futures::stream::iter(puts).buffer_unordered(16).collect().await;
    assert!(put.iter().all(Result::is_ok), "{put:?}");
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
    assert_eq!(store.get_range("k", 0, 5).await.unwrap(), None);
    assert_eq!(store.find("k").await.unwrap(), None);
    assert_eq!(store.put_if("k", "x".into(), Condition::Unchanged("\"0x8D0\"")).await, Err(StoreError::Lost));
}

#[tokio::test]
#[ignore = "needs azurite: REPRISE_TEST_AZURITE=path cargo test --lib azurite -- --ignored"]
async fn azurite_gives_identical_contents_tags_of_their_own() {
    let azurite = Azurite::start().await;
    let store = store(&azurite.location());
    let first = store.put_if("k", "same".into(), Condition::Absent).await.unwrap();
    let second = store.put_if("k", "same".into(), Condition::Unchanged(&first)).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(store.put_if("k", "same".into(), Condition::Unchanged(&first)).await, Err(StoreError::Lost));
    assert_eq!(store.get("k").await.unwrap().unwrap().tag, second, "a write and a read name a version alike");
}

#[tokio::test]
#[ignore = "needs azurite: REPRISE_TEST_AZURITE=path cargo test --lib azurite -- --ignored"]
async fn azurite_refuses_what_is_wrong_and_each_refusal_names_what_to_correct() {
    let mut azurite = Azurite::start().await;
    let sas = |permissions: &str| AzureCredentials::SasToken(SecretText::new(signature("sco", permissions)));
    let sound = store(&azurite.location_with(sas("rwdl")));
    sound.put("k", Bytes::from_static(b"x")).await.unwrap();
    // Not deleted: azurite knows no batches, as which deletions are sent, under a signature of the account.
    let reading = store(&azurite.location_with(sas("rl")));
    assert!(matches!(reading.put("k", "x".into()).await, Err(StoreError::Forbidden { .. })));
    let other = AzureCredentials::AccountKey(SecretText::new(ACCOUNT_KEY.replace("Eby8", "Abc8")));
    assert_eq!(store(&azurite.location_with(other)).get("k").await, Err(StoreError::AccountKey));
    let token = signature("sco", "rwdl").replace("sp=rwdl", "sp=rwdlac");
    let forged = AzureCredentials::SasToken(SecretText::new(token));
    assert_eq!(store(&azurite.location_with(forged)).get("k").await, Err(StoreError::SasToken));
    let absent = store(&AzureLocation { container: "absent".to_owned(), ..azurite.location() });
    for error in [
        absent.get("k").await.map(|_| ()),
        absent.put("k", "x".into()).await,
        absent.put_if("k", "x".into(), Condition::Absent).await.map(|_| ()),
        absent.put_if("k", "x".into(), Condition::Unchanged("\"x\"")).await.map(|_| ()),
        absent.page("", None, 1).await.map(|_| ()),
    ] {
        let error = error.unwrap_err();
        assert!(error.to_string().contains("`spec.azure.container`"), "{error}");
    }
    azurite.child.kill().unwrap();
    azurite.child.wait().unwrap();
    let error = sound.get("k").await.unwrap_err();
    assert!(error.to_string().contains("`spec.azure.endpoint`"), "{error}");
}

/// A server that answers like a container whose versions can be locked until a fixed time, and keeps what it was sent.
async fn played(sent: Arc<Mutex<Vec<String>>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/account", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sent = Arc::clone(&sent);
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|it| it == b"\r\n\r\n") {
                    let mut piece = [0; 4096];
                    match stream.read(&mut piece).await {
                        Ok(0) | Err(_) => return,
                        Ok(count) => request.extend_from_slice(&piece[..count]),
                    }
                }
                sent.lock().unwrap().push(String::from_utf8_lossy(&request).to_lowercase());
                let answer = "HTTP/1.1 200 OK\r\nETag: \"0x1\"\r\nLast-Modified: Fri, 15 Jan 2027 08:00:00 GMT\r\n\
                    x-ms-immutable-storage-with-versioning-enabled: true\r\n\
                    x-ms-immutability-policy-until-date: Fri, 15 Jan 2027 08:00:00 GMT\r\n\
                    Content-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}

fn locking(location: AzureLocation, mode: LockMode) -> AzureLocation {
    let period = Span::from_secs(14 * 86_400);
    let lock = ObjectLock { mode, period, daily: None, weekly: None, monthly: None, yearly: None };
    AzureLocation { immutability: Some(lock), ..location }
}

#[tokio::test]
async fn locks_are_asked_of_a_container_in_azures_words_and_read_back() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let location = |mode, endpoint: &str| {
        let location = AzureLocation {
            account: "account".to_owned(),
            container: "container".to_owned(),
            prefix: "some/prefix".to_owned(),
            endpoint: Some(endpoint.to_owned()),
            ca_bundle: None,
            immutability: None,
            credentials: Some(AzureCredentials::AccountKey(SecretText::new(ACCOUNT_KEY))),
            proxy: None,
        };
        locking(location, mode)
    };
    let url = played(Arc::clone(&sent)).await;
    let store = store(&location(LockMode::Compliance, &url));
    let until: Timestamp = "2027-01-15T08:00:00Z".parse().unwrap();
    assert!(store.can_lock().await.unwrap());
    store.put("repos/shop.db/config", "x".into()).await.unwrap();
    store.put("claims/shop.db.json", "x".into()).await.unwrap();
    assert!(store.lock("reprise.json", until).await.unwrap());
    assert_eq!(store.locked_until("reprise.json").await.unwrap(), Some(until));
    let free = super::open(&location(LockMode::Governance, &url)).unwrap();
    free.put("reprise.json", "x".into()).await.unwrap();
    let sent = std::mem::take(&mut *sent.lock().unwrap());
    let has = |number: usize, words: &[&str]| {
        let request: &String = &sent[number];
        words.iter().all(|it| request.contains(it)).then_some(()).ok_or(request)
    };
    let mode = "x-ms-immutability-policy-mode: locked";
    assert_eq!(has(0, &["head /account/container?restype=container http/1.1"]), Ok(()));
    let write = "put /account/container/some/prefix/repos/shop.db/config http/1.1";
    assert_eq!(
        has(1, &[write, mode, "x-ms-immutability-policy-until-date: ", " gmt\r\n", "authorization: sharedkey"]),
        Ok(())
    );
    assert_eq!(sent[1].matches("authorization:").count(), 1);
    assert!(!sent[2].contains("immutability"), "{}", sent[2]);
    let extend = "put /account/container/some/prefix/reprise.json?comp=immutabilitypolicies http/1.1";
    let date = "x-ms-immutability-policy-until-date: fri, 15 jan 2027 08:00:00 gmt";
    assert_eq!(has(3, &[extend, mode, date, "content-length: 0", "x-ms-version: "]), Ok(()));
    assert_eq!(has(4, &["head /account/container/some/prefix/reprise.json http/1.1"]), Ok(()));
    assert_eq!(has(5, &["x-ms-immutability-policy-mode: unlocked"]), Ok(()));
}

#[tokio::test]
#[ignore = "needs azurite: REPRISE_TEST_AZURITE=path cargo test --lib azurite -- --ignored"]
async fn azurite_takes_the_signatures_of_writes_that_ask_for_locks() {
    let azurite = Azurite::start().await;
    let sas = AzureCredentials::SasToken(SecretText::new(signature("sco", "rwdl")));
    for location in [azurite.location(), azurite.location_with(sas)] {
        let store = store(&locking(location, LockMode::Governance));
        store.put("repos/shop.db/config", "x".into()).await.unwrap();
        assert_eq!(store.get("repos/shop.db/config").await.unwrap().unwrap().bytes, "x");
    }
}
