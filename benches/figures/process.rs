//! Programs that are measured, and servers that they need: each bound to this process, so that nothing outlives it,
//! however it ends.
//!
//! `setpriv` asks the kernel for it. The kernel means the thread that starts a program by its parent: start them from
//! the main thread only.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

/// How long one measured run may take.
const RUN: Duration = Duration::from_mins(30);
/// How long a server may take to begin.
const BEGIN: Duration = Duration::from_mins(1);
/// Nothing here is to go through a proxy: all of it is on loopback.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Variables of a program's environment, besides ours.
pub type Variables = Vec<(&'static str, OsString)>;

/// A program that runs until this value is dropped.
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Starts it. What it says goes to `<folder>/<name>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(folder: &Path, name: &str, command: &[impl AsRef<OsStr>], variables: Variables) -> Result<Self> {
        let path = folder.join(format!("{name}.log"));
        let log = File::create(&path).with_context(|| format!("the log of {name}"))?;
        let child = bound(command, variables)
            .stdout(log.try_clone().context("the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { child, name: name.to_owned(), log: path })
    }

    /// Waits until it takes connections at `address`.
    ///
    /// # Errors
    /// When it ends instead, or takes too long.
    pub async fn listens(&mut self, address: &str) -> Result<()> {
        let end = Instant::now() + BEGIN;
        while TcpStream::connect(address).await.is_err() {
            self.runs()?;
            if Instant::now() > end {
                bail!("{} does not listen at {address} within {} s\n{}", self.name, BEGIN.as_secs(), self.said());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it has ended.
    pub fn runs(&mut self) -> Result<()> {
        match self.child.try_wait().context("look at a server")? {
            Some(status) => bail!("{} ended by itself: {status}\n{}", self.name, self.said()),
            None => Ok(()),
        }
    }

    /// The end of what it said.
    pub fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The memory that it has now, and the most that it ever had: in MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<(f64, f64)> {
        let id = self.child.id().with_context(|| format!("{} has ended", self.name))?;
        let status = fs::read_to_string(format!("/proc/{id}/status")).context("read /proc")?;
        let entry = |name: &str| {
            let line =
                status.lines().find_map(|it| it.strip_prefix(name)).with_context(|| format!("{name} in /proc"))?;
            let kib: u32 = line.trim().trim_end_matches(" kB").parse().context("a number of KiB")?;
            Ok::<_, anyhow::Error>(f64::from(kib) / 1024.0)
        };
        Ok((entry("VmRSS:")?, entry("VmHWM:")?))
    }

    /// Ends it, and waits until it is gone.
    pub async fn stop(mut self) {
        // One that has ended already is what is wanted.
        let _ = self.child.kill().await;
    }
}

/// A run that has ended well.
pub struct Run {
    /// From its start to its end.
    pub seconds: f64,
    /// The most memory that it took, in MiB, as the kernel counted.
    pub peak_mib: f64,
    /// What it printed.
    pub output: String,
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started, fails, or takes too long: with the end of what it said.
pub async fn measure(folder: &Path, command: &[impl AsRef<OsStr>], variables: Variables) -> Result<Run> {
    let counted = folder.join("peak");
    let mut whole: Vec<&OsStr> = ["time", "-f", "%M", "-o"].map(OsStr::new).to_vec();
    whole.push(counted.as_os_str());
    // Ended by the end of `time`, as that is by ours.
    whole.extend(["setpriv", "--pdeathsig", "KILL"].map(OsStr::new));
    whole.extend(command.iter().map(AsRef::as_ref));
    let shown = command[0].as_ref().to_string_lossy().into_owned();
    let start = Instant::now();
    let child = bound(&whole, variables).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("start {shown}"))?;
    let ended = timeout(RUN, child.wait_with_output()).await;
    let seconds = start.elapsed().as_secs_f64();
    let ended = ended.with_context(|| format!("{shown} takes more than {} s", RUN.as_secs()))?.context("wait")?;
    let output = String::from_utf8_lossy(&ended.stdout).into_owned();
    if !ended.status.success() {
        bail!("{shown}: {}\n{output}{}", ended.status, String::from_utf8_lossy(&ended.stderr));
    }
    let kib: u32 = fs::read_to_string(counted).context("read what `time` counted")?.trim().parse().context("KiB")?;
    Ok(Run { seconds, peak_mib: f64::from(kib) / 1024.0, output })
}

/// A command whose process is ended when ours is.
fn bound(command: &[impl AsRef<OsStr>], variables: Variables) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL"]).args(command).envs(variables).stdin(Stdio::null()).kill_on_drop(true);
    // What a terminal sends to its foreground is for us to pass on: otherwise a server ends before what needs it.
    bound.process_group(0);
    for name in PROXIES {
        bound.env_remove(name);
    }
    bound
}

/// An address of loopback that nobody listens at.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port of loopback")?;
    Ok(listener.local_addr().context("find a free port of loopback")?.to_string())
}
