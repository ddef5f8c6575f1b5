//! `kubectl reprise vault rewind`: what lay in a vault at a time, also when someone deleted or overwrote it since.

use clap::Args;
use jiff::Timestamp;

use super::{
    CliError,
    connection::Cluster,
    inside::Inside,
    output::{Cell, Printer, Tone, table},
};
use crate::core::rewound::{Change, Rewound};

/// Which vault, and to when.
#[derive(Args, Debug)]
pub struct RewindArguments {
    /// The `Vault`.
    pub vault: String,
    /// The time that it is to be rewound to, as 2027-01-15T08:00:00Z: before the damage.
    #[arg(long)]
    pub at: Timestamp,
    /// The wraps of all keys of the vault, and not only that of the key of this region. A key that was retired since then
    /// opens it again: retire it anew.
    #[arg(long)]
    pub keys: bool,
    /// Bring back what differs. What was made since stays, and nothing is removed.
    #[arg(long)]
    pub apply: bool,
}

/// Asks for what differs, and has it brought back if that is wanted.
async fn ask(cluster: &Cluster, inside: &Inside, wanted: &RewindArguments) -> Result<Rewound, CliError> {
    let at = wanted.at.to_string();
    let mut asked = vec!["vault", "rewind", wanted.vault.as_str(), "--at", at.as_str()];
    asked.extend(wanted.keys.then_some("--keys"));
    asked.extend(wanted.apply.then_some("--apply"));
    inside.ask(cluster, &asked, "").await
}

/// Rewinds before something else is done with the vault: what came of it is told as progress. How many objects came back.
pub(super) async fn first(
    cluster: &Cluster,
    inside: &Inside,
    wanted: &RewindArguments,
    printer: &Printer,
) -> Result<u64, CliError> {
    let found = ask(cluster, inside, wanted).await?;
    printer.progress(sum(&found, &wanted.at.to_string()).trim_end(), Tone::Plain);
    Ok(found.restored)
}

pub(super) async fn run(
    cluster: &Cluster,
    inside: &Inside,
    wanted: &RewindArguments,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let found = ask(cluster, inside, wanted).await?;
    printer.answer(&found, |colour| told(&found, &wanted.at.to_string(), colour))?;
    let lost = found.deleted + found.overwritten - found.restored;
    if lost == 0 {
        return Ok(());
    }
    let message = format!("{lost} objects are not what they were; add --apply to bring them back");
    Err(CliError::Unsuccessful { what: format!("vault {}", wanted.vault), message })
}

fn sum(found: &Rewound, at: &str) -> String {
    let Rewound { objects, deleted, overwritten, restored, first: _ } = found;
    format!("{objects} objects at {at}: {deleted} deleted since, {overwritten} overwritten, {restored} brought back\n")
}

fn told(found: &Rewound, at: &str, colour: bool) -> String {
    let sum = sum(found, at);
    if found.first.is_empty() {
        return sum;
    }
    let rows: Vec<_> = found
        .first
        .iter()
        .map(|it| {
            let change = match it.change {
                Change::Deleted => "deleted",
                Change::Overwritten => "overwritten",
            };
            vec![Cell::toned(change, Tone::Doubtful), Cell::plain(it.at.to_string()), Cell::plain(&it.key)]
        })
        .collect();
    sum + &table(&["WHAT", "WHEN", "OBJECT"], &rows, colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rewound::Difference;

    #[test]
    fn what_was_lost_is_named_and_counted() {
        let first = vec![Difference { key: "repos/a".into(), change: Change::Deleted, at: Timestamp::UNIX_EPOCH }];
        let text = told(&Rewound { objects: 3, deleted: 1, first, ..Rewound::default() }, "T", false);
        assert!(text.starts_with("3 objects at T: 1 deleted since, 0 overwritten, 0 brought back\n"), "{text}");
        assert!(text.contains("repos/a"), "{text}");
    }
}
