//! `kubectl reprise claim`: who may serve an application, as it lies in the vault; and a claim in conflict, written anew as
//! a person decided. Asked inside the operator's pod. The runbook is docs/claim.md.

use clap::{Args, Subcommand};

use super::{
    CliError, application,
    connection::Cluster,
    inside::{GRACE, Inside},
    output::{Printer, Tone},
};
use crate::{
    api::application::ProtectedApplication,
    core::{
        claim::record::{Claim, Intent},
        condition::{self, CLAIM_SOUND},
        vault_answer::Adopted,
    },
};

/// What is wanted of a claim.
#[derive(Args, Debug)]
pub struct ClaimArguments {
    /// Where the operator is.
    #[command(flatten)]
    pub inside: Inside,
    /// What is wanted.
    #[command(subcommand)]
    pub verb: ClaimVerb,
}

/// What is wanted of a claim.
#[derive(Subcommand, Debug)]
pub enum ClaimVerb {
    /// Show it.
    Show {
        /// The `ProtectedApplication`.
        application: String,
    },
    /// Decide a conflict (`ClaimSound` is False): name the region that has the newest data. In all others the application
    /// must be stopped before; they save what they have as a branch, and stand by.
    Adopt(AdoptArguments),
}

/// What was decided.
#[derive(Args, Debug)]
pub struct AdoptArguments {
    /// The `ProtectedApplication`.
    pub application: String,
    /// The region that has the newest data, and serves on.
    #[arg(long = "for", value_name = "REGION")]
    pub region: String,
    /// The application runs in no region: a failover to that one brings it up from the newest good point.
    #[arg(long)]
    pub stopped: bool,
    /// The highest epoch that any other region knows (`status.epoch` there, or in its condition's message).
    #[arg(long, value_name = "EPOCH", default_value_t = 0)]
    pub known_epoch: u64,
    /// Why, for the record.
    #[arg(long, default_value = "conflict resolved by a person")]
    pub reason: String,
}

/// Do what is wanted.
///
/// # Errors
/// `Refused` when there is no conflict; when the operator's pod does not do it.
pub async fn run(cluster: &Cluster, wanted: &ClaimArguments, printer: &mut Printer) -> Result<(), CliError> {
    let name = match &wanted.verb {
        ClaimVerb::Show { application } => application,
        ClaimVerb::Adopt(decided) => &decided.application,
    };
    let found = application(cluster, name).await?;
    let vault = found.spec.backup.vaults.first().cloned().unwrap_or_default();
    let key = format!("{}/{name}", cluster.namespace);
    match &wanted.verb {
        ClaimVerb::Show { .. } => {
            let claim: Option<Claim> = wanted.inside.ask(cluster, &["vault", "claim", &vault, &key], "").await?;
            printer.answer(&claim, |_| shown(&key, claim.as_ref()))?;
        }
        ClaimVerb::Adopt(decided) => {
            conflict(&found).map_err(CliError::Refused)?;
            let wait = found.spec.claim.wait.as_secs();
            printer.progress(&format!("looking for {wait} s whether somebody renews the claim of {key}"), Tone::Plain);
            let known = found.status.as_ref().and_then(|it| it.epoch).unwrap_or(0).max(decided.known_epoch).to_string();
            let mut asked = vec!["vault", "adopt", vault.as_str(), key.as_str(), "--for", decided.region.as_str()];
            asked.extend(["--known-epoch", known.as_str(), "--reason", decided.reason.as_str()]);
            asked.extend(decided.stopped.then_some("--stopped"));
            let inside = wanted.inside.within(wanted.inside.answer_within.max(wait + GRACE));
            let adopted: Adopted = inside.ask(cluster, &asked, "").await?;
            printer.answer(&adopted, |_| told(&key, &decided.region, &adopted))?;
        }
    }
    Ok(())
}

/// Refuses where this region finds nothing wrong with the claim.
fn conflict(application: &ProtectedApplication) -> Result<(), String> {
    let conditions = application.status.as_ref().map_or(&[][..], |it| &it.conditions);
    match condition::find(conditions, CLAIM_SOUND) {
        Some(it) if it.status == "False" && matches!(it.reason.as_str(), "Conflict" | "Sealed") => Ok(()),
        Some(it) => Err(format!(
            "{CLAIM_SOUND} is {} ({}: {}): this region sees no conflict that a person must decide; ask in the region that does",
            it.status, it.reason, it.message
        )),
        None => Err(format!("the operator has not said yet whether the claim is in order ({CLAIM_SOUND})")),
    }
}

fn shown(key: &str, claim: Option<&Claim>) -> String {
    let Some(it) = claim else { return format!("{key} has no claim\n") };
    let intent = match &it.intent {
        Intent::None => "none".to_owned(),
        Intent::Handover(wanted) => format!("{} asks for it, for {}", wanted.to, wanted.run),
        Intent::Released { to, reason, .. } => {
            format!("released to {}: {reason}", to.as_deref().unwrap_or("anybody"))
        }
    };
    format!(
        "claim of    {key}\nholder      {}\nepoch       {}\nseq         {}\nintent      {intent}\nrenewed at  {} (by the holder's clock)\n\
         renew, hold, fence, wait  {}, {}, {}, {} s\ncandidates  {}\nreason      {}\n",
        it.holder.as_deref().unwrap_or("nobody"),
        it.epoch,
        it.seq,
        it.renewed_at,
        it.deadlines.renew,
        it.deadlines.hold,
        it.deadlines.fence,
        it.deadlines.wait,
        it.candidates.join(", "),
        it.reason
    )
}

fn told(key: &str, region: &str, adopted: &Adopted) -> String {
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let next = match adopted.holder {
        Some(_) => format!(
            "{region} holds it, and goes on; the other regions stop their copies and save what they had as branches"
        ),
        None => {
            format!("it is released to {region}; now: kubectl reprise failover {name} -n {namespace} --to {region}")
        }
    };
    format!(
        "the claim of {key} has epoch {} now: {next}\n{CLAIM_SOUND} turns True in every region within seconds; if it does not, its message names what is still too low\n",
        adopted.epoch
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn application(status: &str, reason: &str) -> ProtectedApplication {
        serde_json::from_value(json!({
            "apiVersion": "reprise.dev/v1alpha1", "kind": "ProtectedApplication", "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {"objectives": {"rto": "5m", "rpo": "1m"}, "regions": [{"name": "east"}], "backup": {"vaults": ["main"]}},
            "status": {"conditions": [{
                "type": CLAIM_SOUND, "status": status, "reason": reason, "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_that_is_in_order_is_left_alone() {
        for (status, reason, refused) in [
            ("False", "Conflict", false),
            ("False", "Sealed", false),
            ("True", "Held", true),
            ("Unknown", "Away", true),
        ] {
            assert_eq!(conflict(&application(status, reason)).is_err(), refused, "{reason}");
        }
        let silent = ProtectedApplication { status: None, ..application("True", "Held") };
        assert!(conflict(&silent).unwrap_err().contains("has not said yet"));
    }

    #[test]
    fn what_comes_next_is_told() {
        let adopted = Adopted { epoch: 8, seq: 9, holder: None, before: None };
        let text = told("shop/db", "east", &adopted);
        assert!(text.contains("epoch 8") && text.contains("kubectl reprise failover db -n shop --to east"), "{text}");
        let text = told("shop/db", "east", &Adopted { holder: Some("east".into()), ..adopted });
        assert!(text.contains("east holds it"), "{text}");
    }
}
