//! `kubectl reprise vault check`: what is missing in a vault, and heads made anew; and the way to `rewind`. Asked inside
//! the operator's pod.

use std::fmt::Write;

use clap::{Args, Subcommand};
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    CliError,
    connection::Cluster,
    inside::Inside,
    output::{Cell, Printer, Tone, table},
    request,
    rewind::{self, RewindArguments},
};
use crate::{
    api::vault::Vault,
    core::vault_check::{CheckReport, Checked, Finding},
};

/// What is wanted of a vault.
#[derive(Args, Debug)]
pub struct VaultArguments {
    /// Where the operator is.
    #[command(flatten)]
    pub inside: Inside,
    /// What is wanted.
    #[command(subcommand)]
    pub verb: VaultVerb,
}

/// What is wanted of a vault.
#[derive(Subcommand, Debug)]
pub enum VaultVerb {
    /// Say what is missing: heads, objects and snapshots that points name. Exit code 4 when something is.
    Check(CheckArguments),
    /// Say what was deleted or overwritten since a time, and bring it back with --apply. Exit code 4 when something is lost.
    Rewind(RewindArguments),
}

/// What is checked, and how closely.
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// The `Vault`. Default: the only one of the cluster.
    pub vault: Option<String>,
    /// Only this application, as NAMESPACE/NAME. Can be repeated.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub application: Vec<String>,
    /// Make heads anew that are gone, damaged or behind, from the signed points. Nothing is deleted.
    #[arg(long)]
    pub repair: bool,
    /// Read manifests, snapshots and the index as well, and not only look whether they are there.
    #[arg(long)]
    pub read: bool,
    /// How many points of each application are read: the newest ones.
    #[arg(long, default_value_t = 1000)]
    pub points: usize,
    /// Do not miss the points any more that are gone and that nobody dropped: those that are there now are to be there.
    #[arg(long)]
    pub accept_missing: bool,
}

/// The vault that is meant: the one that is named, or the only one.
///
/// # Errors
/// When there is none, or more than one.
pub(super) async fn named(cluster: &Cluster, name: Option<&str>) -> Result<String, CliError> {
    if let Some(name) = name {
        return Ok(name.to_owned());
    }
    let vaults = Api::<Vault>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let mut names: Vec<String> =
        vaults.map_err(request("list vaults"))?.items.iter().map(ResourceExt::name_any).collect();
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (Some(last), false) => Err(CliError::Refused(format!(
            "there are {} vaults, name one: {}, {last}",
            names.len() + 1,
            names.join(", ")
        ))),
        (None, _) => Err(CliError::Refused(
            "there is no Vault in this cluster: make one that names the bucket, and the Secret with its key".to_owned(),
        )),
    }
}

/// Do what is wanted.
///
/// # Errors
/// When the operator's pod does not do it; `Unsuccessful` when something is wrong that was not repaired.
pub async fn run(cluster: &Cluster, wanted: &VaultArguments, printer: &mut Printer) -> Result<(), CliError> {
    match &wanted.verb {
        VaultVerb::Check(depth) => check(cluster, wanted, depth, printer).await,
        VaultVerb::Rewind(to) => rewind::run(cluster, &wanted.inside, to, printer).await,
    }
}

/// Makes the heads of these applications anew from their points, where they are gone or damaged. What was done is told
/// as progress.
pub(super) async fn repair(
    cluster: &Cluster,
    inside: &Inside,
    vault: &str,
    applications: &[String],
    printer: &Printer,
) -> Result<(), CliError> {
    let mut asked = vec!["vault", "check", vault, "--repair"];
    asked.extend(applications.iter().map(String::as_str));
    let report: CheckReport = inside.ask(cluster, &asked, "").await?;
    for it in &report.applications {
        for done in &it.repaired {
            printer.progress(&format!("{}/{}: repaired: {done}", it.namespace, it.name), Tone::Plain);
        }
    }
    Ok(())
}

async fn check(
    cluster: &Cluster,
    wanted: &VaultArguments,
    depth: &CheckArguments,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let vault = named(cluster, depth.vault.as_deref()).await?;
    let points = depth.points.to_string();
    let mut asked = vec!["vault", "check", vault.as_str(), "--points", points.as_str()];
    asked.extend(depth.application.iter().map(String::as_str));
    asked.extend(depth.repair.then_some("--repair"));
    asked.extend(depth.read.then_some("--read"));
    asked.extend(depth.accept_missing.then_some("--accept-missing"));
    let report: CheckReport = wanted.inside.ask(cluster, &asked, "").await?;
    printer.answer(&report, |colour| told(&report, colour))?;
    let left = report.applications.iter().filter(|it| !sound(it)).count();
    if left == 0 {
        return Ok(());
    }
    let message = format!("something is wrong with {left} of {} applications", report.applications.len());
    Err(CliError::Unsuccessful { what: format!("the check of vault {vault}"), message })
}

/// Whether nothing is wrong, or no more.
fn sound(checked: &Checked) -> bool {
    let left = |it: &&Finding| !it.of_head() || checked.repaired.is_empty();
    checked.doubts.is_empty() && checked.findings.iter().filter(left).count() == 0
}

fn told(report: &CheckReport, colour: bool) -> String {
    let row = |it: &Checked| {
        let points = match it.unread {
            0 => it.points.to_string(),
            unread => format!("{} of {}", it.points, it.points + unread),
        };
        let verdict = match (sound(it), it.repaired.is_empty()) {
            (true, true) => Cell::toned("sound", Tone::Good),
            (true, false) => Cell::toned("repaired", Tone::Doubtful),
            (false, _) => Cell::toned("damaged", Tone::Bad),
        };
        vec![
            Cell::plain(&it.namespace),
            Cell::plain(&it.name),
            Cell::plain(points),
            Cell::plain(it.whole.to_string()),
            verdict,
        ]
    };
    let rows: Vec<Vec<Cell>> = report.applications.iter().map(row).collect();
    let mut out = table(&["NAMESPACE", "NAME", "POINTS", "WHOLE", "VERDICT"], &rows, colour);
    for it in &report.applications {
        let lines = it.findings.iter().map(finding).chain(it.repaired.iter().map(|it| format!("repaired: {it}")));
        let noted =
            (it.noted > 0).then(|| format!("damage is noted now at {} points: no failover chooses them", it.noted));
        for line in lines.chain(noted).chain(it.doubts.iter().map(|it| format!("not known: {it}"))) {
            let _ = writeln!(out, "{}/{}: {line}", it.namespace, it.name);
        }
    }
    out
}

/// What is wrong, and what to do about it.
fn finding(it: &Finding) -> String {
    let of = |points: &[String], count: usize| match points.first() {
        Some(newest) if count > 1 => format!("{count} points name it, the newest is {newest}"),
        Some(only) => format!("{only} names it"),
        None => String::new(),
    };
    match it {
        Finding::NoHead => {
            "there is no head.json: the next point makes one that tells of no branches, --repair one from all points"
                .to_owned()
        }
        Finding::HeadDamaged { reason } => format!("head.json is damaged ({reason}): --repair makes it anew"),
        Finding::HeadEpoch { head, known } => {
            format!("head.json has epoch {head}, and there are points of epoch {known}: --repair makes it anew")
        }
        Finding::HeadLatest { head, newest } => format!(
            "head.json names {}, and the newest point that counts is {}: --repair makes it anew",
            head.as_deref().unwrap_or("no point"),
            newest.as_deref().unwrap_or("not there")
        ),
        Finding::NoClaim => "there are points, and no claim: see docs/claim.md, \"A claim in conflict\"".to_owned(),
        Finding::PointDamaged { point, reason } => format!("point {point}: {reason}"),
        Finding::Manifest { manifest, reason, points, count } => format!(
            "objects {}: {reason}; {}. The next point with the same objects stores them again once it is not there",
            short(manifest),
            of(points, *count)
        ),
        Finding::Snapshot { snapshot, claim, reason, points, count } => {
            format!("snapshot {} of volume {claim}: {reason}; {}", short(snapshot), of(points, *count))
        }
        Finding::Noted { point, damage } => format!("point {point} was {damage}: no failover chooses it"),
        Finding::Missing { points, count } => format!(
            "{count} points are gone that nobody dropped, as {}: see what was deleted with kubectl reprise recover --at TIME, or \
             accept it with --accept-missing",
            points.first().map_or("?", String::as_str)
        ),
        Finding::Replaced { point, named_by } => {
            format!(
                "point {point} is not the one that {named_by} names: somebody with the vault's key wrote another in its place"
            )
        }
        Finding::KeptDamaged { reason } => {
            format!(
                "{reason}: which points stay is not known; --accept-missing makes it anew from those that are there"
            )
        }
        Finding::Packs { packs, count } => format!(
            "{count} packs of the repository are missing, as {}: see the points that are noted as damaged",
            packs.first().map_or("?", |it| short(it))
        ),
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(findings: Vec<Finding>, repaired: &[&str]) -> Checked {
        Checked {
            namespace: "shop".to_owned(),
            name: "db".to_owned(),
            points: 2,
            unread: 3,
            whole: 1,
            findings,
            repaired: repaired.iter().map(|it| (*it).to_owned()).collect(),
            noted: 0,
            doubts: vec![],
        }
    }

    #[test]
    fn only_what_a_new_head_mends_counts_as_mended() {
        let lost = || Finding::Manifest {
            manifest: "0123456789abcdef".to_owned(),
            reason: "it is not there".to_owned(),
            points: vec!["0000000001-X".to_owned()],
            count: 1,
        };
        assert!(sound(&checked(vec![], &[])));
        assert!(!sound(&checked(vec![Finding::NoHead], &[])));
        assert!(sound(&checked(vec![Finding::NoHead], &["the head was made anew"])));
        assert!(!sound(&checked(vec![Finding::NoHead, lost()], &["the head was made anew"])));
        let report = CheckReport { vault_id: "v".to_owned(), applications: vec![checked(vec![lost()], &[])] };
        let told = told(&report, false);
        assert!(told.contains("shop       db    2 of 5  1      damaged\n"), "{told}");
        assert!(told.contains("shop/db: objects 0123456789ab: it is not there; 0000000001-X names it"), "{told}");
    }
}
