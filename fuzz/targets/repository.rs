//! What lies in an application's repository, sealed by whoever has its key: snapshots, the index, directories. They are
//! read and refused, without a panic.
#![no_main]

use std::cell::RefCell;
use std::path::PathBuf;

use aes256ctr_poly1305aes::aead::AeadInPlace;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce};
use libfuzzer_sys::{Corpus, fuzz_target};
use reprise::mover::look::Look;
use reprise::vault::{DirectoryLocation, Location, SecretText, Settings, Vault};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// In what is fuzzed these stand for names that it can't know: of the pack, and of the directories in it.
const PACK: [u8; 64] = [b'a'; 64];
const TOP: [u8; 64] = [b'b'; 64];
const VOLUME: [u8; 64] = [b'c'; 64];

const DIRECTORY: &[u8] = include_bytes!("../seeds/repository/directory");
const INDEX: &[u8] = include_bytes!("../seeds/repository/index");
const SNAPSHOT: &[u8] = include_bytes!("../seeds/repository/snapshot");

struct Repository {
    root: TempDir,
    vault: Vault,
    cipher: Aes256CtrPoly1305Aes,
    runtime: Runtime,
}

thread_local! {
    static REPOSITORY: RefCell<Repository> = RefCell::new(Repository::new());
}

fn name(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|it| format!("{it:02x}")).collect()
}

/// The text with names in the places that are kept for them.
fn named(text: &[u8], names: &[([u8; 64], &str)]) -> Vec<u8> {
    let mut text = text.to_vec();
    for at in 0..text.len().saturating_sub(63) {
        if let Some((_, name)) = names.iter().find(|(place, _)| text[at..at + 64] == *place) {
            text[at..at + 64].copy_from_slice(name.as_bytes());
        }
    }
    text
}

impl Repository {
    fn new() -> Self {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let path = root.path().to_string_lossy().into_owned();
        let settings = Settings {
            location: Location::Directory(DirectoryLocation { path }),
            key: SecretText::new("a key that is long enough for a vault"),
            limits: None,
        };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let vault = runtime.block_on(Vault::open(&settings)).expect("a vault");
        let key = vault.keys().repository_key("shop", "db");
        let whole = [&key.encrypt[..], &key.mac_k, &key.mac_r].concat();
        let cipher = Aes256CtrPoly1305Aes::new(Key::from_slice(&whole));
        let new = Self { root, vault, cipher, runtime };
        let config = format!(r#"{{"version":2,"id":"{}","chunker_polynomial":"3da3358b4dc173"}}"#, name(b"id"));
        new.put("config", &new.sealed(config.as_bytes()));
        // Otherwise all that is fuzzed would be refused for what lies around it.
        assert_eq!(new.look(&DIRECTORY[1..], &INDEX[1..], &SNAPSHOT[1..]), Some(3), "the seeds are a repository");
        new
    }

    fn sealed(&self, plain: &[u8]) -> Vec<u8> {
        let (nonce, mut text) = ([0; 16], plain.to_vec());
        let tag = self.cipher.encrypt_in_place_detached(Nonce::from_slice(&nonce), &[], &mut text).expect("sealed");
        [&nonce[..], &text, &tag[..]].concat()
    }

    fn put(&self, file: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root.path().join("repos/shop.db").join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// A repository of one snapshot with one directory, all of which is looked at. How many entries it shows.
    fn look(&self, directory: &[u8], index: &[u8], snapshot: &[u8]) -> Option<usize> {
        let volume = name(directory);
        let top = format!(r#"{{"nodes":[{{"name":"data","type":"dir","subtree":"{volume}"}}]}}"#).into_bytes();
        let (top_name, first, second) = (name(&top), self.sealed(&top), self.sealed(directory));
        let content = [&first[..], &second].concat();
        let pack = name(&content);
        let mut files = vec![self.put(&format!("data/{}/{pack}", &pack[..2]), &content)];
        let names = [(PACK, pack.as_str()), (TOP, &top_name), (VOLUME, &volume)];
        // The index says where each lies: that of the seed has these lengths in it.
        let lengths = [("100000001", first.len()), ("200000002", second.len())];
        let index =
            lengths.iter().fold(named(index, &names), |text, (place, length)| match std::str::from_utf8(&text) {
                Ok(it) => it.replace(place, &length.to_string()).into_bytes(),
                Err(_) => text,
            });
        let (index, snapshot) = (self.sealed(&index), self.sealed(&named(snapshot, &names)));
        files.push(self.put(&format!("index/{}", name(&index)), &index));
        let id = name(&snapshot);
        files.push(self.put(&format!("snapshots/{id}"), &snapshot));
        let mut shown = None;
        if let Ok(look) = Look::open(&self.vault, "shop", "db", self.runtime.handle().clone()) {
            let listed = look.list(&id, "", 10);
            if let Ok(Some(found)) = &listed {
                shown = Some(found.entries.len());
                for entry in &found.entries {
                    drop(look.list(&id, &entry.name, 10));
                }
            }
            drop(look.compare(&id, &id, 10));
        }
        for file in files {
            std::fs::remove_file(file).expect("it is there");
        }
        shown
    }
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some((first, rest)) = bytes.split_first() else { return Corpus::Reject };
    REPOSITORY.with_borrow(|repository| {
        let (mut directory, mut index, mut snapshot) = (&DIRECTORY[1..], &INDEX[1..], &SNAPSHOT[1..]);
        match first % 3 {
            0 => directory = rest,
            1 => index = rest,
            _ => snapshot = rest,
        }
        repository.look(directory, index, snapshot);
    });
    Corpus::Keep
});
