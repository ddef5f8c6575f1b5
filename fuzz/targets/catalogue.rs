//! Whatever lies in a hostile bucket under an application's keys: it is read and refused, without a panic; and what is
//! taken says that it is this application's.
#![no_main]

use std::{cell::RefCell, path::PathBuf};

use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};
use reprise::vault::{DirectoryLocation, Location, SecretText, Settings, Vault};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const NAMESPACE: &str = "shop";
const NAME: &str = "db";
const POINT: &str = "0000000001-01JDHS0000000000000000000A";

struct Bucket {
    root: TempDir,
    vault: Vault,
    runtime: Runtime,
}

thread_local! {
    static BUCKET: RefCell<Bucket> = RefCell::new(Bucket::new());
}

impl Bucket {
    fn new() -> Self {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let path = root.path().to_string_lossy().into_owned();
        let settings = Settings {
            location: Location::Directory(DirectoryLocation { path }),
            key: SecretText::new("a key that is long enough for a vault"),
        };
        let vault = Vault::open(&settings).expect("settings that are right");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(vault.identify()).expect("a vault");
        Self { root, vault, runtime }
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        let path: PathBuf = self.root.path().join(key);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("written");
    }

    fn identity(&self, bytes: &[u8]) {
        let key = self.root.path().join("reprise.json");
        let kept = std::fs::read(&key).expect("it was identified");
        self.put("reprise.json", bytes);
        let _ = self.runtime.block_on(self.vault.identify());
        std::fs::write(key, kept).expect("written");
    }

    fn head(&self, bytes: &[u8]) {
        self.put("apps/shop/db/head.json", bytes);
        if let Ok(Some((head, _))) = self.runtime.block_on(self.vault.read_head(NAMESPACE, NAME)) {
            let sealed = self.runtime.block_on(self.vault.seal_head(NAMESPACE, NAME, head.epoch, "eu-west"));
            drop(sealed);
        }
    }

    /// As it is; or with the mark of whoever has the application's key.
    fn point(&self, bytes: &[u8], signed: bool) {
        let mac = self.vault.keys().mac(NAMESPACE, NAME, bytes);
        let bytes = match signed {
            true => [b"{\"point\":", bytes, format!(",\"mac\":\"{mac}\"}}").as_bytes()].concat(),
            false => bytes.to_vec(),
        };
        self.put(&format!("apps/shop/db/points/{POINT}.json"), &bytes);
        if let Ok(point) = self.runtime.block_on(self.vault.read_point(NAMESPACE, NAME, POINT)) {
            assert!(signed, "a point was taken that nobody signed");
            assert_eq!(
                (point.namespace.as_str(), point.application.as_str(), point.id.as_str()),
                (NAMESPACE, NAME, POINT)
            );
        }
    }

    fn manifest(&self, bytes: &[u8]) {
        let manifest = "0".repeat(64);
        self.put(&format!("apps/shop/db/manifests/{manifest}"), bytes);
        assert!(self.runtime.block_on(self.vault.read_manifest(NAMESPACE, NAME, &manifest)).is_err());
        assert!(self.vault.keys().unseal(NAMESPACE, NAME, &Bytes::copy_from_slice(bytes)).is_err());
    }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((first, rest)) = bytes.split_first() else { return Corpus::Reject };
    BUCKET.with_borrow(|bucket| match first % 5 {
        0 => bucket.identity(rest),
        1 => bucket.head(rest),
        2 => bucket.point(rest, false),
        3 => bucket.point(rest, true),
        _ => bucket.manifest(rest),
    });
    Corpus::Keep
});
