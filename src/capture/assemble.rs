//! Makes a bundle of what was read.

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    sync::Arc,
};

use super::{
    blocks::Blocks,
    bundle::{self, Count, Entry, FORMAT, Id, Index, Named, Namespace, Scope},
    cluster::OfCluster,
    collect::{CaptureError, Captured},
    discover::Resource,
    listed::{Listed, Row, Work},
};

/// What is captured, by group and kind.
type Kinds = BTreeMap<(String, String), (Arc<Resource>, Vec<Row>)>;

/// Makes the bundle. What is the same makes the same bytes, in whatever order it came.
pub(super) fn assemble(
    namespace: Namespace,
    lists: Vec<Listed>,
    of_cluster: OfCluster,
    mut failed: Vec<String>,
    work: &Work,
) -> Result<Captured, CaptureError> {
    let (mut kinds, mut remembered) = (Kinds::new(), Vec::new());
    let mut left_out: BTreeMap<String, (u64, bool)> = BTreeMap::new();
    for listed in lists.into_iter().chain(of_cluster.lists) {
        failed.extend(listed.failed);
        remembered.extend(listed.remembered);
        for (reason, (count, lasting)) in listed.left_out {
            left_out.entry(reason).or_insert((0, lasting)).0 += count;
        }
        add(&mut kinds, listed.of, listed.rows);
    }
    for (_, rows) in kinds.values_mut() {
        sort(rows);
    }
    remember(&mut kinds, remembered);
    kinds.retain(|_, (_, rows)| !rows.is_empty());
    failed.extend(of_cluster.failed);
    failed.sort();
    let protection = work.selection.protection.clone();
    let index = Index { protection, ..index(namespace, &kinds, &failed, &left_out, of_cluster.named) };
    let mut stored = mem::replace(&mut *work.blocks(), Blocks::new(0)).freeze();
    let of_cluster = index.kinds.iter().filter(|it| it.scope == Scope::Cluster).map(|it| it.count).sum();
    let count = index.count - of_cluster;
    let bundle = bundle::write(&index, entries(&kinds, &work.namespace), |entry, to| {
        io::Write::write_all(to, stored.get(entry.at)?)
    })?;
    let left_out = left_out.into_iter().map(|(reason, (count, _))| (reason, count)).collect();
    Ok(Captured { bundle, count, of_cluster, left_out, failed })
}

fn add(kinds: &mut Kinds, of: Arc<Resource>, rows: Vec<Row>) {
    let key = (of.group.clone(), of.kind.clone());
    kinds.entry(key).or_insert_with(|| (of, Vec::new())).1.extend(rows);
}

/// By name. A list that was read across a change may tell of one object twice.
fn sort(rows: &mut Vec<Row>) {
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows.dedup_by(|a, b| a.name == b.name);
}

/// A remembered pod counts unless it runs: then it was not deleted after all.
fn remember(kinds: &mut Kinds, pods: Vec<Row>) {
    if pods.is_empty() {
        return;
    }
    let of = Arc::new(Resource::new("", "v1", "Pod", "pods"));
    let (_, running) = kinds.entry((String::new(), "Pod".to_owned())).or_insert_with(|| (of, Vec::new()));
    for pod in pods {
        if let Err(place) = running.binary_search_by(|it| it.name.cmp(&pod.name)) {
            running.insert(place, pod);
        }
    }
}

fn index(
    namespace: Namespace,
    kinds: &Kinds,
    failed: &[String],
    left_out: &BTreeMap<String, (u64, bool)>,
    named: BTreeSet<Named>,
) -> Index {
    let count = |(of, rows): &(Arc<Resource>, Vec<Row>)| Count {
        group: of.group.clone(),
        kind: of.kind.clone(),
        version: of.version.clone(),
        scope: of.scope,
        count: rows.len() as u64,
    };
    let kinds: Vec<Count> = kinds.values().map(count).collect();
    let lasting = left_out.iter().filter(|(_, (_, lasting))| *lasting);
    Index {
        format: FORMAT,
        namespace,
        count: kinds.iter().map(|it| it.count).sum(),
        kinds,
        failed: failed.to_vec(),
        left_out: lasting.map(|(reason, (count, _))| (reason.clone(), *count)).collect(),
        named: named.into_iter().collect(),
        protection: None,
    }
}

/// What is written, in order.
fn entries<'a>(kinds: &'a Kinds, namespace: &'a str) -> impl Iterator<Item = Entry> + 'a {
    kinds.values().flat_map(move |(of, rows)| {
        rows.iter().map(move |row| {
            let within = match of.scope {
                Scope::Namespaced => Some(namespace.to_owned()),
                Scope::Cluster => None,
            };
            let (group, kind) = (of.group.clone(), of.kind.clone());
            Entry { id: Id { group, kind, namespace: within, name: row.name.to_string() }, at: row.at }
        })
    })
}
