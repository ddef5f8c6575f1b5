//! Volumes: the mover against restic, on the same tree and the same `MinIO`.
//!
//! Both are timed as processes, from start to end, with their repository's defaults (restic: format 2, which
//! compresses, as the mover does). What favours restic stays so: its repository is made beforehand and not timed, and
//! it keeps its cache on disk between runs, where a mover's pod begins with none. Its restore is followed by a flush
//! of the file system, since the mover's ends with one.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use reprise::{
    core::mover_task::{REPORT, Report, TASK, Task, VAULT, VAULT_KEY},
    vault::{Location, S3Credentials, SecretText, Settings, Vault},
};

use super::{
    process::{Run, Variables, measure},
    report::{Figure, Runs},
    storage::{BUCKET, KEY, PASSWORD, Storage, USER, credentials},
};

/// How often each is run.
const ROUNDS: usize = 3;
/// Bytes of the tree.
const TREE: u64 = 1 << 30;
/// Files of 1 to 32 KiB in it.
const SMALL: u64 = 20_000;
/// Small files of one directory.
const TOGETHER: u64 = 100;
/// Bytes of a large file; the last one is what is left.
const LARGE: u64 = 64 << 20;
/// Files of the other tree, bytes of each, and how many lie in one directory.
const MANY: u64 = 2_000_000;
const TINY: u64 = 100;
const MANY_TOGETHER: u64 = 1000;
/// Bytes of one object of the bare loop: what a pack has.
const OBJECT: usize = 8 << 20;

/// What is measured of each program.
const VERBS: [&str; 4] = ["backup", "unchanged backup", "backup of 1 % changed", "restore"];

/// A tree that is moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// 1 GiB of small and large files.
    Mixed,
    /// Two million tiny files.
    Many,
}

impl Kind {
    /// Free bytes that are needed: the tree, two repositories, and what is restored.
    fn room(self) -> u64 {
        match self {
            Self::Mixed => 6 << 30,
            Self::Many => 24 << 30,
        }
    }
}

/// Measures 1 GiB of small and large files.
///
/// # Errors
/// When something cannot be run, or what is restored is not what was backed up.
pub async fn measure_all(folder: &Path) -> Result<Vec<Figure>> {
    measure_kind(folder, Kind::Mixed).await
}

/// Measures two million files of 100 bytes: an hour or more.
///
/// # Errors
/// When something cannot be run, or what is restored is not what was backed up.
pub async fn measure_many(folder: &Path) -> Result<Vec<Figure>> {
    measure_kind(folder, Kind::Many).await
}

async fn measure_kind(folder: &Path, kind: Kind) -> Result<Vec<Figure>> {
    let free = rustix::fs::statvfs(folder).context("how much room there is")?;
    let room = kind.room();
    ensure!(free.f_bavail * free.f_frsize > room, "needs {} GiB of room in {}", room >> 30, folder.display());
    eprintln!("volumes: making a tree");
    let tree = folder.join("tree");
    match kind {
        Kind::Mixed => plant(&tree)?,
        Kind::Many => plant_many(&tree)?,
    }
    let wanted = size_of(&tree)?;
    let version = measure(folder, &["restic", "version"], vec![]).await?.output;
    let restic_name = version.split(" compiled").next().unwrap_or("restic").to_owned();
    let (mut ours, mut peer) = ([const { Vec::new() }; 4], [const { Vec::new() }; 4]);
    let (mut whole, mut bare) = (Runs::default(), Runs::default());
    let (mut restored, mut written) = (Runs::default(), Runs::default());
    for round in 0..ROUNDS {
        // A repository per round, on a server with an empty disk.
        let folder = folder.join("round");
        fs::create_dir_all(&folder).context("make a directory")?;
        let storage = Storage::start(&folder).await?;
        let pair = Pair { folder: &folder, tree: &tree, storage: &storage, wanted };
        // Whoever is first finds another state of the machine's caches.
        if round % 2 == 0 {
            add(&mut ours, "mover", pair.mover().await?);
            add(&mut peer, "restic", pair.restic().await?);
        } else {
            add(&mut peer, "restic", pair.restic().await?);
            add(&mut ours, "mover", pair.mover().await?);
        }
        if kind == Kind::Mixed {
            whole.add(ours[0][round].seconds, None);
            bare.add(pair.bare().await?, None);
            restored.add(ours[3][round].seconds, None);
            written.add(pair.written()?, None);
        }
        storage.stop().await;
        fs::remove_dir_all(&folder).context("remove what a round made")?;
    }
    fs::remove_dir_all(&tree).context("remove the tree")?;
    let of = match kind {
        Kind::Mixed => format!("1 GiB in {} files, incompressible", wanted.0),
        Kind::Many => format!("{} files of {TINY} bytes", wanted.0),
    };
    let figures = VERBS.iter().zip(ours.iter().zip(&peer));
    let figures = figures.map(|(verb, (ours, peer))| {
        Figure::new(format!("volume: {verb}, {of}"), "s", &runs(ours), &restic_name, &runs(peer))
    });
    let mut figures: Vec<Figure> = figures.collect();
    if kind == Kind::Mixed {
        let name = format!("volume: first backup, {of}: chunked, sealed and stored by one mover");
        figures.push(Figure::new(name, "s", &whole, "reading the files, then a bare loop of PUTs of 8 MiB", &bare));
        let name = format!("volume: restore, {of}: what the disk takes");
        figures.push(Figure::new(name, "s", &restored, "writing as many bytes into one file, and a flush", &written));
    }
    Ok(figures)
}

fn add(to: &mut [Vec<Run>; 4], who: &str, four: [Run; 4]) {
    for (at, run) in four.into_iter().enumerate() {
        eprintln!("volumes: {who}: {}: {:.2} s, peak {:.0} MiB", VERBS[at], run.seconds, run.peak_mib);
        to[at].push(run);
    }
}

fn runs(of: &[Run]) -> Runs {
    let mut runs = Runs::default();
    for it in of {
        runs.add(it.seconds, Some(it.peak_mib));
    }
    runs
}

/// Both programs, on one server.
pub struct Pair<'a> {
    /// Where both work.
    pub folder: &'a Path,
    /// What is backed up.
    pub tree: &'a Path,
    /// The server.
    pub storage: &'a Storage,
    /// Files and bytes of the tree.
    pub wanted: (u64, u64),
}

impl Pair<'_> {
    /// Reads all files, then stores as many bytes as objects, one after the other; returns the seconds.
    async fn bare(&self) -> Result<f64> {
        self.quiet()?;
        let begin = Instant::now();
        read_all(self.tree)?;
        let reading = begin.elapsed();
        let location = Location::from_spec(&self.storage.vault("bare"), "").context("a bucket")?;
        let Location::S3(mut s3) = location else { bail!("the vault is a bucket") };
        s3.credentials = Some(S3Credentials {
            access_key_id: USER.to_owned(),
            secret_access_key: SecretText::new(PASSWORD),
            session_token: None,
        });
        let settings = Settings { location: Location::S3(s3), key: SecretText::new(KEY), limits: None };
        let vault = Vault::open(&settings).await?;
        let mut noise = Noise(77);
        let object: Vec<u8> =
            std::iter::repeat_with(|| noise.next().to_le_bytes()).take(OBJECT / 8).flatten().collect();
        let object = bytes::Bytes::from(object);
        let begin = Instant::now();
        for number in 0..TREE / OBJECT as u64 {
            vault.store().put(&format!("bare/{number}"), object.clone()).await.context("store an object")?;
        }
        let storing = begin.elapsed();
        eprintln!("volumes: bare: reading {:.2} s, storing {:.2} s", reading.as_secs_f64(), storing.as_secs_f64());
        Ok((reading + storing).as_secs_f64())
    }

    /// Backs up three times, and restores, by the mover.
    async fn mover(&self) -> Result<[Run; 4]> {
        let (first, _) = self.move_data(&self.backup_task("1")).await?;
        let (again, _) = self.move_data(&self.backup_task("2")).await?;
        change(self.tree)?;
        let (changed, report) = self.move_data(&self.backup_task("3")).await?;
        let target = self.target()?;
        let restore = Task::Restore {
            namespace: "bench".to_owned(),
            application: "tree".to_owned(),
            snapshot: report.snapshot.context("a report of a backup names its snapshot")?,
            target: target.to_string_lossy().into_owned(),
            exclude: vec![],
            base: Vec::new(),
            paths: Vec::new(),
            point: None,
        };
        let (restored, _) = self.move_data(&restore).await?;
        self.check(&target, &target)?;
        Ok([first, again, changed, restored])
    }

    /// Writes as many bytes as the tree has into one file, to the disk; returns the seconds.
    fn written(&self) -> Result<f64> {
        let path = self.folder.join("written");
        let mut noise = Noise(78);
        let part: Vec<u8> = std::iter::repeat_with(|| noise.next().to_le_bytes()).take(OBJECT / 8).flatten().collect();
        self.quiet()?;
        let begin = Instant::now();
        let mut file = File::create(&path).context("make a file")?;
        for _ in 0..TREE / OBJECT as u64 {
            file.write_all(&part).context("write a file")?;
        }
        self.quiet()?;
        let seconds = begin.elapsed().as_secs_f64();
        eprintln!("volumes: bare: writing {seconds:.2} s");
        fs::remove_file(&path).context("remove what was written")?;
        Ok(seconds)
    }

    /// A backup of the tree.
    pub fn backup_task(&self, point: &str) -> Task {
        Task::Backup {
            namespace: "bench".to_owned(),
            application: "tree".to_owned(),
            source: self.tree.to_string_lossy().into_owned(),
            host: "bench".to_owned(),
            label: "data".to_owned(),
            point: point.to_owned(),
            exclude: vec![],
        }
    }

    /// Runs the mover as its Job does.
    ///
    /// # Errors
    /// When it does not do its task.
    pub async fn move_data(&self, task: &Task) -> Result<(Run, Report)> {
        let report = self.folder.join("report");
        let text = |value: String| OsString::from(value);
        let mut variables: Variables = credentials();
        variables.extend([
            (TASK, text(serde_json::to_string(task).context("the task")?)),
            (VAULT, text(serde_json::to_string(&self.storage.vault("vault")).context("the vault")?)),
            (VAULT_KEY, KEY.into()),
            (REPORT, report.clone().into_os_string()),
            ("MALLOC_ARENA_MAX", "2".into()),
        ]);
        self.quiet()?;
        let run = measure(self.folder, &[env!("CARGO_BIN_EXE_reprise"), "mover"], variables).await?;
        let report = fs::read_to_string(&report).context("read the mover's report")?;
        Ok((run, Report::from_message(&report).context("a report")?))
    }

    /// Backs up three times, and restores, by restic.
    async fn restic(&self) -> Result<[Run; 4]> {
        self.run_restic(["init", "--repository-version=2"].map(OsString::from).to_vec()).await?;
        let backup = || vec!["backup".into(), "--quiet".into(), self.tree.into()];
        let first = self.run_restic(backup()).await?;
        let again = self.run_restic(backup()).await?;
        change(self.tree)?;
        let changed = self.run_restic(backup()).await?;
        let target = self.target()?;
        let restore = vec!["restore".into(), "latest".into(), "--target".into(), target.clone().into()];
        let mut restored = self.run_restic(restore).await?;
        restored.seconds +=
            measure(self.folder, &["sync".as_ref(), "-f".as_ref(), target.as_os_str()], vec![]).await?.seconds;
        // It restores under the whole path.
        let inside = target.join(self.tree.strip_prefix("/").context("an absolute path")?);
        self.check(&inside, &target)?;
        Ok([first, again, changed, restored])
    }

    async fn run_restic(&self, arguments: Vec<OsString>) -> Result<Run> {
        let mut variables = credentials();
        variables.push(("RESTIC_PASSWORD", KEY.into()));
        variables.push(("RESTIC_CACHE_DIR", self.folder.join("restic-cache").into()));
        let mut command =
            vec![OsString::from("restic"), "-r".into(), format!("s3:{}/{BUCKET}/restic", self.storage.url).into()];
        command.extend(arguments);
        self.quiet()?;
        measure(self.folder, &command, variables).await
    }

    /// No run pays for what another one left to be written.
    fn quiet(&self) -> Result<()> {
        let folder = File::open(self.folder).context("open a directory")?;
        rustix::fs::syncfs(folder).context("flush the file system")
    }

    fn target(&self) -> Result<PathBuf> {
        let target = self.folder.join("restored");
        fs::create_dir(&target).context("make a directory to restore into")?;
        Ok(target)
    }

    /// As many files and bytes are there as were backed up; then they are removed.
    ///
    /// # Errors
    /// When they are not.
    pub fn check(&self, inside: &Path, target: &Path) -> Result<()> {
        let found = size_of(inside)?;
        ensure!(found == self.wanted, "restored {found:?} files and bytes, backed up {:?}", self.wanted);
        fs::remove_dir_all(target).context("remove what was restored")
    }
}

/// Makes the tree: the same each time.
///
/// # Errors
/// When it cannot be written.
pub fn plant(root: &Path) -> Result<()> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut left = TREE;
    for at in 0..SMALL {
        let folder = root.join(format!("small-{:03}", at / TOGETHER));
        fs::create_dir_all(&folder).context("make a directory of the tree")?;
        let bytes = 1024 + noise.next() % (31 << 10);
        noise.write(&folder.join(format!("file-{at:05}")), bytes)?;
        left -= bytes;
    }
    let mut number = 0;
    while left > 0 {
        let bytes = left.min(LARGE);
        noise.write(&root.join(format!("large-{number:02}")), bytes)?;
        left -= bytes;
        number += 1;
    }
    Ok(())
}

/// Makes the other tree.
fn plant_many(root: &Path) -> Result<()> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for at in 0..MANY {
        let folder = root.join(format!("{:02}/{:04}", at / MANY_TOGETHER / 100, at / MANY_TOGETHER));
        if at % MANY_TOGETHER == 0 {
            fs::create_dir_all(&folder).context("make a directory of the tree")?;
        }
        noise.write(&folder.join(format!("file-{at:07}")), TINY)?;
    }
    Ok(())
}

/// Writes one small file of a hundred anew, and a hundredth within each large one. The next call changes the same ones.
///
/// # Errors
/// When it cannot be written.
pub fn change(root: &Path) -> Result<()> {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).context("the time")?.as_nanos();
    let mut noise = Noise(u64::try_from(seed).unwrap_or(0) | 1);
    let mut number = 0_u64;
    each_file(root, |path, bytes| {
        number += 1;
        if bytes > LARGE / 8 {
            let file = File::options().write(true).open(path).context("open a large file")?;
            let block: Vec<u8> =
                std::iter::repeat_with(|| noise.next().to_le_bytes()).take(1 << 13).flatten().collect();
            for at in (bytes / 2..bytes / 2 + bytes / 100).step_by(block.len()) {
                file.write_all_at(&block, at).context("change a large file")?;
            }
        } else if number.is_multiple_of(100) {
            noise.write(path, bytes)?;
        }
        Ok(())
    })
}

fn read_all(root: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    each_file(root, |path, _| {
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        while file.read(&mut buffer).with_context(|| format!("read {}", path.display()))? > 0 {}
        Ok(())
    })
}

/// Bytes that neither compress nor repeat (xorshift).
pub struct Noise(pub u64);

impl Noise {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn write(&mut self, path: &Path, bytes: u64) -> Result<()> {
        let mut file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        let mut left = usize::try_from(bytes).context("a size")?;
        while left > 0 {
            let block: Vec<u8> = std::iter::repeat_with(|| self.next().to_le_bytes()).take(1 << 13).flatten().collect();
            let part = left.min(block.len());
            file.write_all(&block[..part]).with_context(|| format!("write {}", path.display()))?;
            left -= part;
        }
        Ok(())
    }
}

/// Files below a directory, and their bytes.
///
/// # Errors
/// When it cannot be read.
pub fn size_of(root: &Path) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    each_file(root, |_, size| {
        files += 1;
        bytes += size;
        Ok(())
    })?;
    Ok((files, bytes))
}

/// Shows each file below a directory, with its bytes.
fn each_file(root: &Path, mut show: impl FnMut(&Path, u64) -> Result<()>) -> Result<()> {
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry.context("read a directory")?;
            let meta = entry.metadata().context("look at a file")?;
            if meta.is_dir() {
                waiting.push(entry.path());
            } else {
                show(&entry.path(), meta.len())?;
            }
        }
    }
    Ok(())
}
