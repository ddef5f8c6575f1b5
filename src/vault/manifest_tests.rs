//! Manifests that are stored, read back, damaged and swapped.

use std::io::Cursor;

use super::*;
use crate::vault::fake::{Fake, Manner};
use crate::vault::{DirectoryLocation, Provider, Store, StoreError, directory::Directory};

fn vault(store: Store) -> Vault {
    Vault::with(store, "a key that is long enough for a vault")
}

async fn write(vault: &Vault, plain: &[u8]) -> Result<Objects, CatalogueError> {
    vault.write_manifest("shop", "db", Content::of(plain, 5), Cursor::new(plain.to_vec())).await
}

async fn read(vault: &Vault, manifest: &str) -> Result<Vec<u8>, CatalogueError> {
    vault.read_manifest("shop", "db", manifest, Vec::new()).await
}

/// More than one part.
fn large() -> Vec<u8> {
    let numbers = (0_u32..).map(|it| it.wrapping_mul(2_654_435_761)).flat_map(u32::to_le_bytes);
    numbers.take(PART_BYTES + 12_345).collect()
}

#[tokio::test]
async fn an_unchanged_manifest_is_not_stored_again() {
    let fake = Fake::new(Manner::Sound);
    let vault = vault(Store::Fake(fake.clone()));
    let first = write(&vault, b"objects").await.unwrap();
    let stored = fake.get(&manifest_key("shop", "db", &first.manifest)).unwrap().unwrap().bytes;
    assert_eq!((first.count, first.bytes), (5, stored.len() as u64));
    fake.age(&manifest_key("shop", "db", &first.manifest), Timestamp::now() - SignedDuration::from_hours(2));
    let before = fake.requests();
    assert_eq!(write(&vault, b"objects").await.unwrap(), first);
    assert_eq!(fake.requests() - before, 2, "it is read back once");
    let before = fake.requests();
    assert_eq!(write(&vault, b"objects").await.unwrap(), first);
    assert_eq!(fake.requests() - before, 1);
    fake.age(&manifest_key("shop", "db", &first.manifest), Timestamp::now() - SignedDuration::from_hours(25));
    write(&vault, b"objects").await.unwrap();
    assert_eq!(fake.requests() - before, 3, "a prune may be about to take it");
    assert_eq!(read(&vault, &first.manifest).await.unwrap(), b"objects");
    assert_eq!(fake.requests() - before, 4, "a small one is read by one request");
    assert!(!stored.windows(7).any(|seven| seven == b"objects"), "it is encrypted");
}

#[tokio::test]
async fn a_manifest_that_is_there_and_damaged_is_stored_again() {
    let fake = Fake::new(Manner::Sound);
    let key = |it: &Objects| manifest_key("shop", "db", &it.manifest);
    let first = write(&vault(Store::Fake(fake.clone())), b"objects").await.unwrap();
    for damage in [|bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1, |bytes: &mut Vec<u8>| bytes.truncate(9)] {
        fake.tamper(&key(&first), damage);
        let vault = vault(Store::Fake(fake.clone()));
        assert!(matches!(read(&vault, &first.manifest).await, Err(CatalogueError::Corrupt { .. })));
        assert_eq!(write(&vault, b"objects").await.unwrap().manifest, first.manifest);
        assert_eq!(read(&vault, &first.manifest).await.unwrap(), b"objects");
    }
}

#[tokio::test]
async fn a_large_manifest_goes_and_comes_in_parts_whatever_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let directory = Store::Directory(Directory::new(&DirectoryLocation { path }).unwrap());
    for store in [Store::Fake(Fake::new(Manner::Sound)), directory] {
        let vault = vault(store);
        let stored = write(&vault, &large()).await.unwrap();
        let key = manifest_key("shop", "db", &stored.manifest);
        assert_eq!(vault.store().find(&key).await.unwrap().map(|it| it.bytes), Some(stored.bytes));
        assert!(read(&vault, &stored.manifest).await.unwrap() == large());
    }
    let left: Vec<_> = std::fs::read_dir(folder.path().join(".reprise")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_manifest_that_could_not_be_read_to_its_end_is_not_stored() {
    struct Torn(usize);
    impl Read for Torn {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("the disk is gone"))?;
            into.fill(7);
            Ok(into.len())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let directory = Store::Directory(Directory::new(&DirectoryLocation { path }).unwrap());
    for store in [Store::Fake(Fake::new(Manner::Sound)), directory] {
        let vault = vault(store);
        // Within the first part, and behind it.
        for reads in [1, 2 * PART_BYTES / 8192] {
            let content = Content { digest: "00".into(), bytes: 1, count: 1 };
            let error = vault.write_manifest("shop", "db", content, Torn(reads)).await.unwrap_err();
            assert!(error.to_string().contains("the disk is gone"), "{error}");
            assert_eq!(vault.store().list("apps/").await.unwrap(), []);
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path().join(".reprise")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_damaged_or_swapped_manifest_is_refused() {
    let fake = Fake::new(Manner::Sound);
    let vault = vault(Store::Fake(fake.clone()));
    let one = write(&vault, b"one").await.unwrap().manifest;
    let two = write(&vault, b"two").await.unwrap().manifest;
    let bytes = fake.get(&manifest_key("shop", "db", &two)).unwrap().unwrap().bytes;
    fake.put(&manifest_key("shop", "db", &one), bytes).unwrap();
    assert!(matches!(read(&vault, &one).await, Err(CatalogueError::Corrupt { .. })));
    fake.tamper(&manifest_key("shop", "db", &two), |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert!(matches!(read(&vault, &two).await, Err(CatalogueError::Corrupt { .. })));
    assert!(matches!(read(&vault, "00").await, Err(CatalogueError::Absent { .. })));
    let large = write(&vault, &large()).await.unwrap().manifest;
    fake.tamper(&manifest_key("shop", "db", &large), |bytes| bytes.truncate(PART_BYTES));
    assert!(matches!(read(&vault, &large).await, Err(CatalogueError::Corrupt { .. })), "it was cut between two parts");
}

#[tokio::test]
async fn what_cannot_be_kept_here_is_no_fault_of_the_vault() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let vault = vault(Store::Fake(Fake::new(Manner::Sound)));
    let manifest = write(&vault, &large()).await.unwrap().manifest;
    let refused = vault.read_manifest("shop", "db", &manifest, Full).await.map(|_| ());
    assert!(matches!(refused, Err(CatalogueError::Local { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_store_that_refuses_ends_the_sealing_too() {
    let fake = Fake::new(Manner::Sound);
    fake.refuse("apps/", 1, StoreError::NoCredentials { provider: Provider::S3 });
    let refused = write(&vault(Store::Fake(fake)), &large()).await;
    assert_eq!(refused, Err(CatalogueError::Store(StoreError::NoCredentials { provider: Provider::S3 })));
}
