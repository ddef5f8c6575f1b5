//! Whatever lies in a hostile bucket under an application's keys: it is read and refused, without a panic; and what is
//! taken says that it is this application's.
#![no_main]

use std::{cell::RefCell, path::PathBuf};

use libfuzzer_sys::{Corpus, fuzz_target};
use reprise::vault::keys::Signed;
use reprise::vault::{DirectoryLocation, Location, SecretText, Settings, Vault};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const NAMESPACE: &str = "shop";
const NAME: &str = "db";
const POINT: &str = "0000000001-01JDHS0000000000000000000A";

struct Bucket {
    root: TempDir,
    settings: Settings,
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
            limits: None,
        };
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let vault = runtime.block_on(Vault::open(&settings)).expect("a vault");
        Self { root, settings, vault, runtime }
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        let path: PathBuf = self.root.path().join(key);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("written");
    }

    /// The vault's identity, and one of its keys.
    fn identity(&self, bytes: &[u8]) {
        for folder in ["", "keys", "regions"] {
            let folder = self.root.path().join(folder);
            let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            for file in files.map(|it| it.path()).filter(|it| it.is_file()) {
                let kept = std::fs::read(&file).expect("it is there");
                std::fs::write(&file, bytes).expect("written");
                let _ = self.runtime.block_on(self.vault.check());
                let _ = self.runtime.block_on(Vault::open(&self.settings));
                std::fs::write(&file, kept).expect("written");
            }
        }
    }

    /// As it is; or with the mark of whoever has the vault's key.
    fn head(&self, bytes: &[u8]) {
        self.put("apps/shop/db/head.json", bytes);
        assert!(
            self.runtime.block_on(self.vault.read_head(NAMESPACE, NAME)).is_err(),
            "a head was taken that nobody signed"
        );
        let mac = self.vault.keys().mac(Signed::Head, NAMESPACE, NAME, bytes);
        let signed = [b"{\"head\":", bytes, format!(",\"mac\":\"{mac}\"}}").as_bytes()].concat();
        self.put("apps/shop/db/head.json", &signed);
        if let Ok(Some((head, _))) = self.runtime.block_on(self.vault.read_head(NAMESPACE, NAME)) {
            let sealed = self.runtime.block_on(self.vault.seal_head(NAMESPACE, NAME, head.epoch, "eu-west"));
            drop(sealed);
        }
    }

    /// As it is; or with the mark of whoever has the application's key.
    fn point(&self, bytes: &[u8], signed: bool) {
        let mac = self.vault.keys().mac(Signed::Point, NAMESPACE, NAME, bytes);
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

    /// What was found out about the point, and which points stay: as they are, and signed.
    fn notes(&self, bytes: &[u8]) {
        let (note, kept) = (format!("apps/shop/db/verified/{POINT}.json"), "apps/shop/db/kept.json");
        let read = || {
            let note = self.runtime.block_on(self.vault.read_verified(NAMESPACE, NAME, POINT));
            (note, self.runtime.block_on(self.vault.read_kept(NAMESPACE, NAME)))
        };
        self.put(&note, bytes);
        self.put(kept, bytes);
        let (found, list) = read();
        assert!(found.is_err() && list.is_err(), "something was taken that nobody signed");
        for (key, of, begin) in [(note.as_str(), Signed::Verified, "verified"), (kept, Signed::Kept, "kept")] {
            let mac = self.vault.keys().mac(of, NAMESPACE, NAME, bytes);
            let (begin, end) = (format!("{{\"{begin}\":"), format!(",\"mac\":\"{mac}\"}}"));
            self.put(key, &[begin.as_bytes(), bytes, end.as_bytes()].concat());
        }
        if let Ok(Some(found)) = read().0 {
            assert_eq!(found.point, POINT);
            drop(found.damage());
        }
    }

    fn manifest(&self, bytes: &[u8]) {
        let manifest = "0".repeat(64);
        self.put(&format!("apps/shop/db/manifests/{manifest}"), bytes);
        assert!(self.runtime.block_on(self.vault.read_manifest(NAMESPACE, NAME, &manifest, Vec::new())).is_err());
        assert!(self.vault.keys().unseal(NAMESPACE, NAME, bytes).is_err());
    }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((first, rest)) = bytes.split_first() else { return Corpus::Reject };
    BUCKET.with_borrow(|bucket| match first % 6 {
        0 => bucket.identity(rest),
        1 => bucket.head(rest),
        2 => bucket.point(rest, false),
        3 => bucket.point(rest, true),
        4 => bucket.notes(rest),
        _ => bucket.manifest(rest),
    });
    Corpus::Keep
});
