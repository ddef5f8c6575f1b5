//! A small volume, and the program's own mover as a process between it and a vault.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reprise::core::mover_task::{
    ExportPlace, ExportTarget, ExportedVolume, REPORT, Report, TASK, TO, Task, VAULT, VAULT_KEY,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::minio::{PASSWORD, USER};

pub const KEY: &str = "a key that is long enough for a vault";
/// Longer than any mover may take here: its patience with a vault that is too busy is the longest.
const LATEST: Duration = Duration::from_mins(3);

pub struct Volume {
    folder: TempDir,
}

/// How a mover ended.
#[derive(Debug)]
pub struct End {
    pub code: Option<i32>,
    pub report: Report,
    pub seconds: f64,
}

impl Volume {
    /// Some files and folders, large enough for two packs.
    pub fn draw(seed: u64) -> Self {
        let volume = Self { folder: tempfile::tempdir().unwrap() };
        let mut rng = StdRng::seed_from_u64(seed);
        for name in ["volume/a/b", "target"] {
            fs::create_dir_all(volume.path(name)).unwrap();
        }
        for number in 0..rng.random_range(1..30) {
            let folder = ["volume", "volume/a", "volume/a/b"][number % 3];
            let length = if number == 0 { rng.random_range(0..10_000_000) } else { rng.random_range(0..50_000) };
            let content: Vec<u8> = (0..=length / 8).flat_map(|_| rng.random::<u64>().to_le_bytes()).collect();
            fs::write(volume.path(folder).join(format!("file {number}")), content).unwrap();
        }
        volume
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Empties what was restored.
    pub fn clear(&self) {
        fs::remove_dir_all(self.path("target")).unwrap();
        fs::create_dir(self.path("target")).unwrap();
    }

    /// Whether what was restored is what was stored, byte by byte.
    pub fn is_restored(&self) -> bool {
        contents(&self.path("target")) == contents(&self.path("volume"))
    }

    pub fn backup(&self, application: &str) -> Task {
        let text = |it: &str| it.to_owned();
        Task::Backup {
            namespace: text("shop"),
            application: text(application),
            source: self.path("volume").to_str().unwrap().to_owned(),
            host: text("east"),
            label: text("data"),
            point: text("1"),
            exclude: vec![],
        }
    }

    pub fn restore(&self, application: &str, snapshot: &str) -> Task {
        Task::Restore {
            namespace: "shop".to_owned(),
            application: application.to_owned(),
            snapshot: snapshot.to_owned(),
            target: self.path("target").to_str().unwrap().to_owned(),
            exclude: vec![],
            base: Vec::new(),
            paths: Vec::new(),
            point: None,
        }
    }

    /// All of a point's volume as plain files, below `exports/shop/q1` of a vault.
    pub fn export(application: &str, point: &str, snapshot: &str) -> Task {
        let text = |it: &str| it.to_owned();
        Task::Export {
            namespace: text("shop"),
            application: text(application),
            point: text(point),
            volumes: vec![ExportedVolume { claim: text("data"), snapshot: text(snapshot), paths: vec![] }],
            dumps: vec![],
            manifest: None,
            objects: vec![],
            target: ExportTarget::Vault(ExportPlace { namespace: text("shop"), prefix: text("q1"), run: text("r1") }),
        }
    }

    /// The files, by the names that they have in an export.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let name = |path: PathBuf| path.to_str().unwrap().replace(' ', "%20");
        let all = contents(&self.path("volume")).into_iter();
        all.filter_map(|(path, content)| Some((name(path), content?))).collect()
    }

    /// Runs a mover on a vault at that address, as its pod would.
    pub async fn run(&self, server: SocketAddr, prefix: &str, task: &Task) -> End {
        self.run_between(server, (prefix, prefix), task).await
    }

    /// Runs a mover that reads the vault at one prefix, and writes that at the other.
    pub async fn run_between(&self, server: SocketAddr, (prefix, to): (&str, &str), task: &Task) -> End {
        let path = self.path("report");
        let _ = fs::remove_file(&path);
        let spec = |prefix: &str| {
            json!({
                "s3": {"bucket": "bucket", "prefix": prefix, "endpoint": format!("http://{server}")},
                "encryption": {"secret": {"name": "vault"}},
            })
            .to_string()
        };
        let begin = Instant::now();
        let mut mover = Command::new(env!("CARGO_BIN_EXE_reprise"))
            .arg("mover")
            .env(TASK, serde_json::to_string(task).unwrap())
            .env(VAULT, spec(prefix))
            .env(VAULT_KEY, KEY)
            .env(REPORT, &path)
            .envs([("AWS_ACCESS_KEY_ID", USER), ("AWS_SECRET_ACCESS_KEY", PASSWORD), ("MALLOC_ARENA_MAX", "2")])
            .env(format!("{TO}{VAULT}"), spec(to))
            .envs([(format!("{TO}{VAULT_KEY}"), KEY)])
            .envs(
                [("AWS_ACCESS_KEY_ID", USER), ("AWS_SECRET_ACCESS_KEY", PASSWORD)]
                    .map(|(name, it)| (format!("{TO}{name}"), it)),
            )
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let code = tokio::time::timeout(LATEST, mover.wait()).await.expect("a mover comes to an end").unwrap().code();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let report =
            Report::from_message(&text).unwrap_or_else(|| panic!("no report but {text:?}, exit code {code:?}"));
        End { code, report, seconds: begin.elapsed().as_secs_f64() }
    }
}

fn contents(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let (mut all, mut waiting) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = waiting.pop() {
        let name = path.strip_prefix(root).unwrap().to_owned();
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            all.insert(name, None);
        } else {
            all.insert(name, Some(fs::read(&path).unwrap()));
        }
    }
    all
}
