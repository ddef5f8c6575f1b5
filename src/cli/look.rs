//! `kubectl reprise ls` and `diff`: what is in a recovery point, and in what two differ. Asked inside the operator's pod.

use std::fmt::Write;

use clap::Args;
use kube::Api;

use super::{
    CliError,
    connection::Cluster,
    inside::Inside,
    output::{Cell, Printer, size, table},
    request, vault,
};
use crate::{
    api::recovery_point::RecoveryPoint,
    core::vault_answer::{Change, Difference, Entry, EntryKind, FileChange, Listing, ObjectChange, PointContent},
};

/// Where the points are.
#[derive(Args, Debug)]
pub struct Where {
    /// The application, where the namespace has more than one.
    #[arg(long)]
    pub application: Option<String>,
    /// The `Vault`. Default: the only one of the cluster.
    #[arg(long)]
    pub vault: Option<String>,
    /// The most entries that are shown.
    #[arg(long, default_value_t = 10_000, value_name = "NUMBER")]
    pub limit: usize,
    /// Where the operator is.
    #[command(flatten)]
    pub inside: Inside,
}

/// What to look at.
#[derive(Args, Debug)]
pub struct LsArguments {
    /// The point: a `RecoveryPoint` of the namespace, or its id in the vault. With :VOLUME, or :VOLUME/PATH, what lies there.
    #[arg(value_name = "POINT[:VOLUME[/PATH]]")]
    pub point: String,
    /// List each object, too.
    #[arg(long)]
    pub objects: bool,
    /// Where the points are.
    #[command(flatten)]
    pub place: Where,
}

/// What to compare.
#[derive(Args, Debug)]
pub struct DiffArguments {
    /// The earlier point: a `RecoveryPoint` of the namespace, or its id in the vault.
    #[arg(value_name = "POINT")]
    pub before: String,
    /// The later one.
    #[arg(value_name = "POINT")]
    pub after: String,
    /// Where the points are.
    #[command(flatten)]
    pub place: Where,
}

impl Where {
    /// What is asked inside the pod: the verb, the vault, the namespace and the points' ids.
    async fn words(&self, cluster: &Cluster, verb: &str, points: &[&str]) -> Result<Vec<String>, CliError> {
        let vault = vault::named(cluster, self.vault.as_deref()).await?;
        let mut words = vec!["vault".to_owned(), verb.to_owned(), vault, cluster.namespace.clone()];
        for point in points {
            words.push(self.id(cluster, point).await?);
        }
        words.push(format!("--limit={}", self.limit));
        words.extend(self.application.iter().map(|it| format!("--application={it}")));
        Ok(words)
    }

    /// The id in the vault of what may be the name of an object.
    async fn id(&self, cluster: &Cluster, point: &str) -> Result<String, CliError> {
        // An id has letters that no object's name has.
        if point.chars().any(|it| it.is_ascii_uppercase()) {
            return Ok(point.to_owned());
        }
        let points = Api::<RecoveryPoint>::namespaced(cluster.client.clone(), &cluster.namespace);
        let found = points.get_opt(point).await.map_err(request(format!("read the recovery point {point}")))?;
        let found = found.ok_or_else(|| {
            let namespace = &cluster.namespace;
            CliError::Refused(format!("there is no RecoveryPoint {point} in namespace {namespace}: name another with -n, or its id in the vault"))
        })?;
        found.status.and_then(|it| it.id).ok_or_else(|| {
            CliError::Refused(format!("the RecoveryPoint {point} has no id in the vault yet: see its status"))
        })
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, cluster: &Cluster, words: &[String]) -> Result<T, CliError> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.inside.ask(cluster, &words, "").await
    }
}

/// Show what is in a point.
///
/// # Errors
/// When the operator's pod does not tell.
pub async fn list(cluster: &Cluster, wanted: &LsArguments, printer: &mut Printer) -> Result<(), CliError> {
    let (point, place) = match wanted.point.split_once(':') {
        Some((point, place)) => (point, Some(place)),
        None => (wanted.point.as_str(), None),
    };
    let mut words = wanted.place.words(cluster, "ls", &[point]).await?;
    let Some(place) = place.filter(|it| !it.is_empty()) else {
        words.extend(wanted.objects.then(|| "--objects".to_owned()));
        let content: PointContent = wanted.place.ask(cluster, &words).await?;
        printer.answer(&content, |colour| contents(&content, colour))?;
        return Ok(());
    };
    let (volume, path) = place.split_once('/').unwrap_or((place, ""));
    words.extend([format!("--volume={volume}"), format!("--path={path}")]);
    let listing: Listing = wanted.place.ask(cluster, &words).await?;
    printer.answer(&listing, |colour| listed(&listing, colour))?;
    Ok(())
}

/// Show in what two points differ.
///
/// # Errors
/// When the operator's pod does not tell.
pub async fn difference(cluster: &Cluster, wanted: &DiffArguments, printer: &mut Printer) -> Result<(), CliError> {
    let words = wanted.place.words(cluster, "diff", &[&wanted.before, &wanted.after]).await?;
    let difference: Difference = wanted.place.ask(cluster, &words).await?;
    printer.answer(&difference, |_| compared(&difference))?;
    Ok(())
}

fn contents(content: &PointContent, colour: bool) -> String {
    let point = &content.point;
    let mut out = format!("point {} of {}/{}\n", point.id, point.namespace, point.application);
    let _ = writeln!(out, "  made in {}, its data is of {}", point.region, point.consistent_at);
    for missing in &point.missing {
        let _ = writeln!(out, "  missing: {missing}");
    }
    let rows: Vec<Vec<Cell>> = point
        .volumes
        .iter()
        .map(|it| vec![&it.claim, &size(it.bytes), &it.files.to_string()].into_iter().map(Cell::plain).collect())
        .collect();
    out.push('\n');
    out.push_str(&table(&["VOLUME", "SIZE", "FILES"], &rows, colour));
    let rows: Vec<Vec<Cell>> =
        content.kinds.iter().map(|(kind, count)| vec![Cell::plain(kind), Cell::plain(count.to_string())]).collect();
    out.push('\n');
    out.push_str(&table(&["KIND", "OBJECTS"], &rows, colour));
    if !content.objects.is_empty() {
        out.push('\n');
    }
    for object in &content.objects {
        let _ = writeln!(out, "{object}");
    }
    more(&mut out, content.more);
    out
}

fn listed(listing: &Listing, colour: bool) -> String {
    let row = |it: &Entry| {
        let (letter, tail) = match &it.kind {
            EntryKind::File => ('-', String::new()),
            EntryKind::Directory => ('d', "/".to_owned()),
            EntryKind::Link { to } => ('l', format!(" -> {}", plain(to))),
            EntryKind::Device => ('c', String::new()),
            EntryKind::Pipe => ('p', String::new()),
        };
        let bytes = if it.kind == EntryKind::File { it.bytes.to_string() } else { "-".to_owned() };
        let modified = it.modified.as_deref().unwrap_or("-");
        let owner = format!("{}:{}", it.user, it.group);
        let cells = [format!("{letter}{}", permissions(it.mode)), owner, bytes, modified.to_owned()];
        cells.into_iter().chain([format!("{}{tail}", plain(&it.name))]).map(Cell::plain).collect()
    };
    let rows: Vec<Vec<Cell>> = listing.entries.iter().map(row).collect();
    let mut out = table(&["MODE", "OWNER", "BYTES", "MODIFIED", "NAME"], &rows, colour);
    more(&mut out, listing.more);
    for it in &listing.unreadable {
        let _ = writeln!(out, "could not be read: {}", plain(it));
    }
    out
}

/// As `ls -l` writes them.
fn permissions(mode: u32) -> String {
    let mut out = String::new();
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        out.push(if bits & 4 == 0 { '-' } else { 'r' });
        out.push(if bits & 2 == 0 { '-' } else { 'w' });
        out.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// A name may hold anything but a slash: what would steer a terminal is written as an escape.
fn plain(name: &str) -> String {
    name.chars().map(|it| if it.is_control() { it.escape_default().to_string() } else { it.to_string() }).collect()
}

fn compared(difference: &Difference) -> String {
    let mut out = String::new();
    for it in &difference.objects {
        let ObjectChange { kind, name, change, diff } = it;
        let _ = writeln!(out, "{} {kind} {name}", sign(*change));
        for line in diff.lines() {
            let _ = writeln!(out, "    {}", plain(line));
        }
    }
    more(&mut out, difference.more_objects);
    for volume in &difference.volumes {
        let _ = writeln!(out, "{} volume {}", sign(volume.change), volume.volume);
        for file in &volume.files {
            let _ = writeln!(out, "    {}", of_file(file));
        }
        more(&mut out, volume.more);
    }
    if out.is_empty() {
        out.push_str("no difference\n");
    }
    out
}

fn of_file(file: &FileChange) -> String {
    let bytes = |it: &Entry| match it.kind {
        EntryKind::File => format!("{} bytes", it.bytes),
        EntryKind::Directory => "directory".to_owned(),
        EntryKind::Link { .. } => "link".to_owned(),
        EntryKind::Device => "device".to_owned(),
        EntryKind::Pipe => "pipe".to_owned(),
    };
    let path = plain(&file.path);
    match (&file.before, &file.after) {
        (None, Some(after)) => format!("+ {path}  {}", bytes(after)),
        (Some(before), None) => format!("- {path}  {}", bytes(before)),
        (Some(before), Some(after)) if bytes(before) == bytes(after) => format!("~ {path}  {}", bytes(after)),
        (Some(before), Some(after)) => format!("~ {path}  {} -> {}", bytes(before), bytes(after)),
        (None, None) => path,
    }
}

fn sign(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Changed => '~',
    }
}

fn more(out: &mut String, more: bool) {
    if more {
        out.push_str("… there is more: raise --limit, or look closer\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64) -> Entry {
        Entry {
            name: "a\u{1b}[2J".to_owned(),
            kind: EntryKind::File,
            bytes,
            mode: 0o4755,
            user: 1,
            group: 2,
            modified: None,
        }
    }

    #[test]
    fn modes_are_written_as_ls_does() {
        let told = [0o755, 0o4711, 0o2640, 0o1777, 0o1766].map(permissions);
        assert_eq!(told, ["rwxr-xr-x", "rws--x--x", "rw-r-S---", "rwxrwxrwt", "rwxrw-rwT"]);
    }

    #[test]
    fn a_name_does_not_steer_the_terminal() {
        let listing = Listing {
            point: "p".to_owned(),
            volume: "data".to_owned(),
            path: String::new(),
            entries: vec![file(7)],
            unreadable: vec!["/data/x: permission\u{7} denied".to_owned()],
            more: true,
        };
        let told = listed(&listing, false);
        assert!(told.contains("-rwsr-xr-x  1:2    7      -         a\\u{1b}[2J\n"), "{told}");
        let end = "there is more: raise --limit, or look closer\ncould not be read: /data/x: permission\\u{7} denied\n";
        assert!(told.ends_with(end), "{told}");
    }

    #[test]
    fn a_difference_reads_like_one() {
        let change = |path: &str, before, after| FileChange { path: path.to_owned(), before, after };
        let files = vec![
            change("new", None, Some(file(1))),
            change("old", Some(file(2)), None),
            change("grown", Some(file(2)), Some(file(3))),
            change("other", Some(file(2)), Some(file(2))),
        ];
        let volume = crate::core::vault_answer::VolumeChange {
            volume: "data".to_owned(),
            change: Change::Changed,
            files,
            more: false,
        };
        let object = ObjectChange {
            kind: "ConfigMap".to_owned(),
            name: "web".to_owned(),
            change: Change::Changed,
            diff: "-a: 1\n+a: 2\n".to_owned(),
        };
        let mut difference = Difference {
            before: "1".to_owned(),
            after: "2".to_owned(),
            objects: vec![object],
            more_objects: false,
            volumes: vec![volume],
        };
        assert_eq!(
            compared(&difference),
            "~ ConfigMap web\n    -a: 1\n    +a: 2\n~ volume data\n    + new  1 bytes\n    - old  2 bytes\n    \
             ~ grown  2 bytes -> 3 bytes\n    ~ other  2 bytes\n"
        );
        difference.objects.clear();
        difference.volumes.clear();
        assert_eq!(compared(&difference), "no difference\n");
    }
}
