//! A vault and a volume in temporary directories, and movers as processes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::core::mover_task::{REPORT, Report, TASK, TO, Task, VAULT, VAULT_KEY};
use crate::mover::engine::Engine;
use crate::vault::{DirectoryLocation, Location, SecretText, Settings, Vault};

/// Where the processes find the claims of vaults mounted.
pub(super) const VAULTS: &str = "REPRISE_TEST_VAULTS";
pub(super) const KEY: &str = "a key that is long enough for a vault";

pub(super) struct Lab {
    pub(super) folder: TempDir,
    pub(super) runtime: Runtime,
    pub(super) location: Location,
    /// `spec.limits` of the vault.
    pub(super) limits: Option<Value>,
    pub(super) key: String,
}

/// How a mover ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) code: Option<i32>,
    pub(super) report: Report,
    pub(super) log: String,
}

impl End {
    /// The report of a mover that did what it was told.
    pub(super) fn done(self) -> Report {
        assert_eq!(self.code, Some(0), "{:?}\n{}", self.report, self.log);
        assert_eq!(self.report.error, None);
        self.report
    }
}

impl Lab {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["vault", "volume", "target"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        // Movers may run as another user.
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(folder.path(), open.clone()).unwrap();
        fs::set_permissions(folder.path().join("vault"), open).unwrap();
        let path = folder.path().join("vault").to_str().unwrap().to_owned();
        let location = Location::Directory(DirectoryLocation { path });
        Self { folder, runtime: Runtime::new().unwrap(), location, limits: None, key: KEY.to_owned() }
    }

    pub(super) fn volume(&self) -> PathBuf {
        self.folder.path().join("volume")
    }

    pub(super) fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    pub(super) fn vault(&self) -> Vault {
        let settings = Settings { location: self.location.clone(), key: SecretText::new(&self.key), limits: None };
        self.runtime.block_on(Vault::open(&settings)).unwrap()
    }

    pub(super) fn engine(&self) -> Engine {
        Engine::new(&self.vault(), "shop", "db", self.runtime.handle().clone())
    }

    /// The files of the repository under a folder of it.
    pub(super) fn stored(&self, kind: &str) -> Vec<PathBuf> {
        let Location::Directory(at) = &self.location else { panic!("the vault is a directory") };
        let mut files = Vec::new();
        let mut folders = vec![Path::new(&at.path).join("repos/shop.db").join(kind)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }

    /// The vault as an operator hands it to a mover.
    fn spec(&self) -> Value {
        let place = match &self.location {
            Location::Directory(at) => json!({"directory": {"claimName": at.path.trim_start_matches('/')}}),
            Location::S3(at) => json!({"s3": {
                "bucket": at.bucket, "prefix": at.prefix, "region": at.region,
                "endpoint": at.endpoint, "pathStyle": at.path_style, "caBundle": at.ca_bundle,
                "serverSideEncryption": at.server_side_encryption, "objectLock": at.object_lock,
            }}),
            Location::Azure(at) => json!({"azure": {
                "account": at.account, "container": at.container, "prefix": at.prefix, "endpoint": at.endpoint,
                "credentials": {"name": "azure"},
            }}),
        };
        let mut spec = json!({"encryption": {"secret": {"name": "vault"}}, "limits": self.limits});
        spec.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        spec
    }

    pub(super) fn command(&self, task: &Task, report: &Path) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "mover::tests::as_a_process", "--ignored", "--nocapture", "--test-threads=1"])
            .env(TASK, serde_json::to_string(task).unwrap())
            .env(VAULT, serde_json::to_string(&self.spec()).unwrap())
            .env(VAULTS, "")
            .env(VAULT_KEY, &self.key)
            .env(REPORT, report)
            .env("MALLOC_ARENA_MAX", "2")
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The vault that a mover copies to, in the variables that tell of it.
    pub(super) fn as_target(&self, command: &mut Command) {
        command.env(format!("{TO}{VAULT}"), serde_json::to_string(&self.spec()).unwrap());
        command.env(format!("{TO}{VAULT_KEY}"), &self.key);
    }

    pub(super) fn run(&self, task: &Task, change: impl FnOnce(&mut Command)) -> End {
        let report = self.folder.path().join(format!("report-{}", ulid::Ulid::generate()));
        let mut command = self.command(task, &report);
        change(&mut command);
        let output = command.output().unwrap();
        let log = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        let text = fs::read_to_string(report).unwrap_or_default();
        let report = Report::from_message(&text).unwrap_or_else(|| panic!("no report but {text:?}\n{log}"));
        End { code: output.status.code(), report, log }
    }

    pub(super) fn back_up(&self) -> Report {
        self.run(&self.backup_task("1"), |_| ()).done()
    }

    pub(super) fn backup_task(&self, point: &str) -> Task {
        Task::Backup {
            namespace: "shop".to_owned(),
            application: "db".to_owned(),
            source: self.volume().to_str().unwrap().to_owned(),
            host: "east".to_owned(),
            label: "data".to_owned(),
            point: point.to_owned(),
            exclude: vec![],
        }
    }

    pub(super) fn restore_task(&self, snapshot: &str) -> Task {
        Task::Restore {
            namespace: "shop".to_owned(),
            application: "db".to_owned(),
            snapshot: snapshot.to_owned(),
            target: self.target().to_str().unwrap().to_owned(),
            exclude: vec![],
            base: Vec::new(),
            paths: Vec::new(),
            point: None,
        }
    }

    /// Restores what lies under some paths.
    pub(super) fn restore_paths(&self, backup: &Report, wanted: &[&str]) -> End {
        let mut task = self.restore_task(backup.snapshot.as_ref().unwrap());
        let Task::Restore { paths, .. } = &mut task else { panic!("it restores") };
        *paths = wanted.iter().map(|it| (*it).to_owned()).collect();
        self.run(&task, |_| ())
    }

    pub(super) fn restore(&self, backup: &Report) -> Report {
        let report = self.run(&self.restore_task(backup.snapshot.as_ref().unwrap()), |_| ()).done();
        assert_eq!(report.snapshot, backup.snapshot, "a restore says what it restored");
        report
    }

    pub(super) fn verify(&self, backup: &Report, read_percent: u8) -> End {
        let task = Task::Verify {
            namespace: "shop".to_owned(),
            application: "db".to_owned(),
            snapshots: vec![backup.snapshot.clone().unwrap()],
            read_percent,
        };
        self.run(&task, |_| ())
    }
}

pub(super) fn as_nobody(command: &mut Command) {
    command.uid(65532).gid(65532);
}

/// Bytes that neither compress nor repeat.
pub(in crate::mover) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// All that is to be kept of what lies under a directory, the directory included.
pub(super) fn portrait(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut portrait = BTreeMap::new();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(path) = waiting.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.push(path);
    }
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().to_owned();
        if name.starts_with("lost+found") {
            continue;
        }
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let what = if kind.is_symlink() {
            format!("link {:?}", fs::read_link(&path).unwrap())
        } else if kind.is_dir() {
            "folder".to_owned()
        } else if kind.is_file() {
            let first = inodes.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
            let content = fs::read(&path).unwrap();
            let hash = Sha256::digest(&content);
            format!("file {} {hash:?} first {first:?} links {}", meta.len(), meta.nlink())
        } else if kind.is_fifo() || kind.is_socket() {
            format!("{kind:?}")
        } else {
            format!("device {kind:?} {}", meta.rdev())
        };
        let mode = if kind.is_symlink() { 0 } else { meta.mode() & 0o7777 };
        let owner = (meta.uid(), meta.gid());
        let time = (meta.mtime(), meta.mtime_nsec());
        portrait.insert(name, format!("{what} mode {mode:o} owner {owner:?} time {time:?} {:?}", attributes(&path)));
    }
    portrait
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let mut all: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            (String::from_utf8_lossy(name).into_owned(), value[..length].to_vec())
        })
        .collect();
    all.sort();
    all
}
