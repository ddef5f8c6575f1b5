//! Tests of the container against azurite, and of what needs no server.

use bytes::Bytes;
use futures::StreamExt;

use super::*;
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
