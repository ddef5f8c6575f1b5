//! An application in the lab: what Reprise says of it, what runs of it, and a client that writes to it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::Pod,
};
use kube::ResourceExt;
use reprise::api::{
    application::{ProtectedApplication, ProtectedApplicationStatus, Role},
    failover::Failover,
};

use super::{
    command::run,
    lab::{Lab, Region, inside},
    wait::{Look, until},
};
use crate::client::{Attempt, read};

/// An application that takes numbered records: `POST /records/N`, `GET /records`.
#[derive(Clone, Copy, Debug)]
pub struct App {
    /// Its name, its namespace, and the first label of its public name.
    pub name: &'static str,
    /// The port of its public address.
    pub port: u16,
}

impl App {
    /// Its public name.
    pub fn hostname(&self) -> String {
        format!("{}.demo.test", self.name)
    }

    /// What the region's operator last wrote about the application: empty before it has.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn status(&self, region: &Region) -> Result<ProtectedApplicationStatus> {
        let application: Option<ProtectedApplication> = region.get(self.name, self.name)?;
        Ok(application.and_then(|it| it.status).unwrap_or_default())
    }

    /// The application's failovers in a region, oldest first.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn failovers(&self, region: &Region) -> Result<Vec<Failover>> {
        let mut all: Vec<Failover> = region.list(self.name)?;
        all.retain(|it| it.spec.application == self.name);
        all.sort_by_key(|it| it.metadata.creation_timestamp.as_ref().map(|at| at.0));
        Ok(all)
    }

    /// Wait until the region has that role.
    ///
    /// # Errors
    /// When it has another one after `within`.
    pub fn await_role(&self, region: &Region, role: Role, within: Duration) -> Result<ProtectedApplicationStatus> {
        self.await_status(region, &format!("role {role:?}"), within, |it| it.role == Some(role))
    }

    /// Wait until the status is as `good` says.
    ///
    /// # Errors
    /// When it is not after `within`: with the status, and with what happened in the region.
    pub fn await_status(
        &self,
        region: &Region,
        what: &str,
        within: Duration,
        mut good: impl FnMut(&ProtectedApplicationStatus) -> bool,
    ) -> Result<ProtectedApplicationStatus> {
        let look = || {
            let status = self.status(region)?;
            let shown = format!("{status:?}");
            Ok(if good(&status) { Look::Seen(status) } else { Look::NotYet(shown) })
        };
        until(&format!("{what} in {}", region.name), within, look).with_context(|| region.story(self.name))
    }

    /// How many replicas its workloads ask for in a region, and how many pods there are.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn running(&self, region: &Region) -> Result<(i32, usize)> {
        let deployments: Vec<Deployment> = region.list(self.name)?;
        let sets: Vec<StatefulSet> = region.list(self.name)?;
        let pods: Vec<Pod> = region.list(self.name)?;
        let asked = deployments.iter().map(|it| it.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1));
        let asked = asked.chain(sets.iter().map(|it| it.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)));
        Ok((asked.sum(), pods.len()))
    }

    /// The uids of its pods in a region, each with how often its containers were started anew.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn pods(&self, region: &Region) -> Result<BTreeMap<String, i32>> {
        let pods: Vec<Pod> = region.list(self.name)?;
        let restarts = |pod: &Pod| {
            pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten()).map(|it| it.restart_count).sum()
        };
        Ok(pods.iter().map(|it| (it.uid().unwrap_or_default(), restarts(it))).collect())
    }

    /// The numbers that the application returns, asked in a region past DNS.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn records(&self, region: &Region) -> Result<Vec<u64>> {
        let url = format!("http://{}:{}/records", region.address, self.port);
        let mut command = inside("hub");
        command.extend(["curl", "-sSf", "--noproxy", "*", "--max-time", "10", &url].map(str::to_owned));
        let answer = run(Duration::from_secs(20), &command, None)?;
        serde_json::from_str(&answer).with_context(|| format!("read the records of {}", region.name))
    }

    /// The address that its public name leads to, asked of the lab's DNS server.
    ///
    /// # Errors
    /// When the server does not answer, or answers with more than one address.
    pub fn published(&self, lab: &Lab) -> Result<Option<IpAddr>> {
        let server = lab.value("LAB_DNS_SERVER")?;
        let (address, port) = server.rsplit_once(':').context("LAB_DNS_SERVER has no port")?;
        let (at, name) = (format!("@{address}"), self.hostname());
        let mut command = inside("hub");
        command.extend(["dig", "+short", "+time=2", "+tries=1", "-p", port, &at, &name, "A"].map(str::to_owned));
        let answer = run(Duration::from_secs(10), &command, None)?;
        let all: Vec<&str> = answer.lines().collect();
        ensure!(all.len() <= 1, "{name} leads to {all:?}");
        all.first().map(|it| it.parse().with_context(|| format!("read the address {it}"))).transpose()
    }

    /// Removes its public name and who owns it: an earlier run on this lab had another vault, and is somebody else.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub fn forget_name(&self, lab: &Lab) -> Result<()> {
        let (address, port) = lab.value("LAB_DNS_SERVER")?.rsplit_once(':').context("LAB_DNS_SERVER has no port")?;
        let key = format!("hmac-sha256:{}:{}", lab.value("LAB_TSIG_NAME")?, lab.value("LAB_TSIG_SECRET")?);
        let (zone, name) = (lab.value("LAB_ZONE")?, self.hostname());
        let delete = format!(
            "server {address} {port}\nzone {zone}\nupdate delete {name}\nupdate delete _reprise.{name}\nsend\n"
        );
        let mut command = inside("hub");
        command.extend(["nsupdate", "-t", "5", "-y", &key].map(str::to_owned));
        run(Duration::from_secs(10), &command, Some(&delete)).map(|_| ())
    }
}

/// A client that is writing, in the hub's network. It stops when it is dropped.
#[derive(Debug)]
pub struct Writer {
    child: Child,
    log: PathBuf,
    stop: PathBuf,
}

impl Writer {
    /// Start one that writes to `app`: `program client …` must call [`crate::client::write`]. It writes its log into
    /// `directory`, and stops by itself after `at_most`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(lab: &Lab, app: App, program: &Path, directory: &Path, at_most: Duration) -> Result<Self> {
        let (log, stop) = (directory.join("attempts.jsonl"), directory.join("stop"));
        for old in [&log, &stop] {
            if old.exists() {
                fs::remove_file(old)?;
            }
        }
        let mut command: Vec<OsString> = inside("hub").into_iter().map(OsString::from).collect();
        command.push(program.into());
        let child = Command::new(&command[0])
            .args(&command[1..])
            .arg("client")
            .args(["--dns", lab.value("LAB_DNS_SERVER")?, "--name", &app.hostname()])
            .args(["--port", &app.port.to_string(), "--seconds", &at_most.as_secs().to_string()])
            .args(["--log".as_ref(), log.as_os_str(), "--stop".as_ref(), stop.as_os_str()])
            .stdin(Stdio::null())
            .spawn()
            .context("start the client")?;
        Ok(Self { child, log, stop })
    }

    /// What it has attempted so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn attempts(&self) -> Result<Vec<Attempt>> {
        read(&self.log)
    }

    /// End it and return all that it attempted.
    ///
    /// # Errors
    /// When it ended by itself, or badly.
    pub fn finish(mut self) -> Result<Vec<Attempt>> {
        ensure!(self.child.try_wait()?.is_none(), "the client had ended by itself");
        fs::write(&self.stop, "")?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the client ended with {status}");
        read(&self.log)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A test that failed: the file tells it to end, and the signal is for one that hangs.
        let _ = fs::write(&self.stop, "");
        std::thread::sleep(Duration::from_millis(100));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
