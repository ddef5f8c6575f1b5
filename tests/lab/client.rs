//! The client of the lab's application: writes numbered records through the public name, and keeps what was
//! acknowledged; and the judge, which compares that with what the application returns afterwards.
//!
//! It behaves as any client would: asks DNS, honours the answer's time to live, gives up after two seconds. It knows
//! nothing of regions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::Write,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two records.
const EVERY: Duration = Duration::from_millis(500);
/// So long may an answer take, the look-up of the name included.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to write, and for how long.
#[derive(clap::Args, Clone, Debug)]
pub struct Writing {
    /// The DNS server that is asked.
    #[arg(long)]
    pub dns: SocketAddr,
    /// The public name.
    #[arg(long)]
    pub name: String,
    /// The application's port.
    #[arg(long)]
    pub port: u16,
    /// The file that attempts are appended to, one JSON document in each line.
    #[arg(long)]
    pub log: PathBuf,
    /// The file whose appearance ends it.
    #[arg(long)]
    pub stop: PathBuf,
    /// When it ends in any case, in seconds.
    #[arg(long)]
    pub seconds: u64,
}

/// One record, and what became of it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Its number.
    pub number: u64,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// When the answer came, or was given up.
    pub ended_at: Timestamp,
    /// The address that the name led to.
    pub address: Option<IpAddr>,
    /// Why it was not acknowledged. Absent when it was.
    pub failure: Option<String>,
}

impl Attempt {
    /// Whether the application said that it is kept.
    pub fn acknowledged(&self) -> bool {
        self.failure.is_none()
    }
}

/// Write until told to stop.
///
/// # Errors
/// When the log cannot be written. That the application does not answer is no error, but what is measured.
pub fn write(wanted: &Writing) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(writing(wanted))
}

async fn writing(wanted: &Writing) -> Result<()> {
    let mut log = OpenOptions::new().create(true).append(true).open(&wanted.log).context("open the log")?;
    let resolver = resolver(wanted.dns)?;
    // A new connection for each record: one that was kept would go on to the address that DNS no longer names.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().timeout(PATIENCE).build()?;
    let end = Instant::now() + Duration::from_secs(wanted.seconds);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 1.. {
        ticks.tick().await;
        if Instant::now() >= end || wanted.stop.exists() {
            break;
        }
        let sent_at = Timestamp::now();
        let mut address = None;
        let sent = tokio::time::timeout(PATIENCE, send(&resolver, &http, wanted, number, &mut address)).await;
        let failure = sent.unwrap_or_else(|_| bail!("no answer")).err().map(|it| format!("{it:#}"));
        note(&mut log, &Attempt { number, sent_at, ended_at: Timestamp::now(), address, failure })?;
    }
    Ok(())
}

/// One write for each line: a reader sees whole lines only.
fn note(log: &mut File, attempt: &Attempt) -> Result<()> {
    let line = serde_json::to_string(attempt)? + "\n";
    log.write_all(line.as_bytes()).context("write the log")
}

async fn send(
    resolver: &TokioResolver,
    http: &reqwest::Client,
    wanted: &Writing,
    number: u64,
    address: &mut Option<IpAddr>,
) -> Result<()> {
    let found = resolver.lookup_ip(format!("{}.", wanted.name)).await.context("look up the name")?;
    let to = found.iter().next().context("the name has no address")?;
    *address = Some(to);
    let url = format!("http://{}/records/{number}", SocketAddr::new(to, wanted.port));
    let host = format!("{}:{}", wanted.name, wanted.port);
    let answer = http.post(url).header("Host", host).send().await?;
    if answer.status().is_success() { Ok(()) } else { bail!("answered {}", answer.status()) }
}

/// Asks one server only, and keeps answers for as long as they say.
fn resolver(server: SocketAddr) -> Result<TokioResolver> {
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let servers = vec![NameServerConfig::new(server.ip(), true, vec![connection])];
    let config = ResolverConfig::from_parts(None, vec![], servers);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(1);
    options.attempts = 1;
    options.negative_max_ttl = Some(Duration::from_secs(1));
    Ok(builder.build()?)
}

/// The attempts that a log holds so far. A last line that is not whole yet is left out.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read(log: &Path) -> Result<Vec<Attempt>> {
    let text = match std::fs::read_to_string(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("read {}", log.display()))?,
    };
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).with_context(|| format!("read the line {line}"))).collect()
}

/// The moment of the disruption, as well as it is known: it happened between the two.
#[derive(Clone, Copy, Debug)]
pub struct Disruption {
    /// Before it.
    pub began: Timestamp,
    /// After it.
    pub done: Timestamp,
}

/// What became of the records.
#[derive(Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// How many the application said that it keeps.
    pub acknowledged: usize,
    /// How many of those it does not return.
    pub lost: usize,
    /// How many of the lost were older than the RPO at the disruption.
    pub lost_older_than_rpo: usize,
    /// How many of the lost were acknowledged after the disruption, or without one: nothing excuses them.
    pub lost_afterwards: usize,
    /// How many it returns more than once.
    pub duplicated: usize,
    /// How many it returns that were never sent.
    pub foreign: usize,
}

/// Compare what was acknowledged with what the application returns. A record that was sent and not acknowledged may
/// be there or not.
pub fn judge(attempts: &[Attempt], returned: &[u64], disruption: Option<Disruption>, rpo: Duration) -> Account {
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for number in returned {
        *times.entry(*number).or_default() += 1;
    }
    let sent: BTreeSet<u64> = attempts.iter().map(|it| it.number).collect();
    let acknowledged: Vec<&Attempt> = attempts.iter().filter(|it| it.acknowledged()).collect();
    let lost: Vec<&&Attempt> = acknowledged.iter().filter(|it| !times.contains_key(&it.number)).collect();
    let count = |test: &dyn Fn(&Attempt) -> bool| lost.iter().filter(|it| test(it)).count();
    Account {
        acknowledged: acknowledged.len(),
        lost: lost.len(),
        lost_older_than_rpo: count(&|it| disruption.is_some_and(|at| at.began - rpo > it.ended_at)),
        lost_afterwards: count(&|it| disruption.is_none_or(|at| it.ended_at > at.done)),
        duplicated: times.values().filter(|it| **it > 1).count(),
        foreign: times.keys().filter(|it| !sent.contains(it)).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("a timestamp")
    }

    /// Record n, answered in second n.
    fn attempt(number: u64, failure: Option<&str>) -> Attempt {
        let second = i64::try_from(number).expect("small");
        Attempt {
            number,
            sent_at: at(second),
            ended_at: at(second),
            address: None,
            failure: failure.map(str::to_owned),
        }
    }

    fn judged(attempts: &[Attempt], returned: &[u64]) -> Account {
        judge(attempts, returned, Some(Disruption { began: at(100), done: at(102) }), Duration::from_mins(1))
    }

    #[test]
    fn what_was_lost_within_the_rpo_is_told_from_what_was_older() {
        let attempts: Vec<Attempt> = (30..=101).map(|it| attempt(it, None)).collect();
        let returned: Vec<u64> = (30..=37).collect();
        let account = judged(&attempts, &returned);
        assert_eq!((account.acknowledged, account.lost), (72, 64));
        assert_eq!((account.lost_older_than_rpo, account.lost_afterwards), (2, 0), "38 and 39 were older");
    }

    #[test]
    fn nothing_excuses_the_loss_of_a_record_after_the_disruption() {
        let account = judged(&[attempt(102, None), attempt(103, None)], &[]);
        assert_eq!((account.lost, account.lost_afterwards, account.lost_older_than_rpo), (2, 1, 0));
        let without = judge(&[attempt(1, None)], &[], None, Duration::from_mins(1));
        assert_eq!(without.lost_afterwards, 1);
    }

    #[test]
    fn a_record_that_was_not_acknowledged_may_be_there_or_not() {
        let attempts = [attempt(1, None), attempt(2, Some("no answer")), attempt(3, Some("no answer"))];
        let account = judged(&attempts, &[1, 2]);
        assert_eq!(account, Account { acknowledged: 1, ..Account::default() });
    }

    #[test]
    fn duplicated_and_foreign_records_are_found() {
        let account = judged(&[attempt(1, None)], &[1, 1, 7]);
        assert_eq!((account.duplicated, account.foreign, account.lost), (1, 1, 0));
    }

    #[test]
    fn a_line_that_is_being_written_is_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        assert_eq!(read(&log).expect("no log yet"), []);
        let mut file = File::create(&log).expect("a file");
        note(&mut file, &attempt(1, None)).expect("written");
        file.write_all(b"{\"number\":2,").expect("written");
        assert_eq!(read(&log).expect("read"), [attempt(1, None)]);
    }
}
