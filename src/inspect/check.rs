//! `reprise vault check`: reads what a vault holds of each application, has it judged, and makes heads anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::{InspectError, claim};
use crate::{
    core::{
        app_key::AppKey,
        chain::{Kept, missing},
        claim::record::{Claim, Intent},
        hex::hex,
        vault_check::{CheckReport, Checked, ClaimFacts, Contents, Finding, HeadSeen},
        verified::Verified,
    },
    mover::look,
    vault::{
        PAGE_LIMIT, Store, StoreError, Vault,
        catalogue::{CatalogueError, POINTS},
        repository,
    },
};

/// How many points of an application are read at a time.
const AT_ONCE: usize = 16;
/// The most manifests, and the most snapshots, of one application.
const LISTED: usize = 1_000_000;
/// So many points that seem to be gone are asked for one by one.
const CONFIRMED: usize = 1_000;

/// How much is looked at.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Depth {
    /// Make heads anew that are gone, damaged or behind.
    #[arg(long)]
    pub repair: bool,
    /// Read manifests, snapshots and the index as well, and not only look whether they are there.
    #[arg(long)]
    pub read: bool,
    /// How many points of each application are read: the newest ones.
    #[arg(long, default_value_t = 1000)]
    pub points: usize,
    /// Do not miss the points any more that are gone and that nobody dropped.
    #[arg(long)]
    pub accept_missing: bool,
}

/// Checks the applications that `wanted` names: all when it is empty.
pub(super) async fn check(vault: &Vault, wanted: &[AppKey], depth: &Depth) -> Result<CheckReport, InspectError> {
    let mut keys: BTreeSet<AppKey> =
        vault.list_applications().await?.into_iter().map(|(namespace, name)| AppKey { namespace, name }).collect();
    if let Some(unknown) = wanted.iter().find(|it| !keys.contains(it)) {
        return Err(InspectError::Input(format!("the vault has nothing of {unknown}")));
    }
    if !wanted.is_empty() {
        keys = wanted.iter().cloned().collect();
    }
    let mut applications = Vec::new();
    // One after the other: what is known of one is let go before the next is read.
    for key in keys {
        applications.push(checked(vault, key, depth).await?);
    }
    Ok(CheckReport { vault_id: vault.id().to_owned(), applications })
}

async fn checked(vault: &Vault, key: AppKey, depth: &Depth) -> Result<Checked, InspectError> {
    let mut doubts = Vec::new();
    let mut contents = gather(vault, &key, depth, &mut doubts).await?;
    let mut repaired = Vec::new();
    if depth.accept_missing && (!contents.missing.is_empty() || contents.kept_damaged.is_some()) {
        accept(vault, &key).await?;
        repaired.push(format!("{} points that are gone are not missed any more", contents.missing.len()));
        (contents.missing, contents.kept_damaged) = (Vec::new(), None);
    }
    let findings = contents.findings(Timestamp::now());
    let noted = if depth.read { note(vault, &key, &contents).await? } else { 0 };
    if depth.repair && findings.iter().any(Finding::of_head) {
        match contents.rebuilt() {
            Some(rebuilt) => match vault.repair_head(&key.namespace, &key.name, &rebuilt).await {
                Ok((head, true)) => repaired.push(format!(
                    "the head was made anew: epoch {} of {}, newest point {}",
                    head.epoch,
                    head.sealed_by,
                    head.latest.as_deref().unwrap_or("none")
                )),
                Ok((_, false)) => repaired.push("the head is as it should be by now".to_owned()),
                Err(error) => doubts.push(format!("the head could not be made anew: {error}")),
            },
            None => doubts.push("the head cannot be made anew: no point and no claim tells whose it is".to_owned()),
        }
    }
    Ok(Checked {
        points: contents.points.len(),
        unread: contents.unread,
        whole: contents.whole(),
        namespace: key.namespace,
        name: key.name,
        findings,
        repaired,
        noted,
        doubts,
    })
}

async fn gather(
    vault: &Vault,
    key: &AppKey,
    depth: &Depth,
    doubts: &mut Vec<String>,
) -> Result<Contents, InspectError> {
    let (namespace, name) = (&key.namespace, &key.name);
    let mut ids = vault.list_points(namespace, name, None, None).await?;
    let listed: BTreeSet<String> = ids.iter().cloned().collect();
    let unread = ids.split_off(ids.len().min(depth.points)).len();
    let head = match vault.read_head(namespace, name).await {
        Ok(None) => HeadSeen::Absent,
        Ok(Some((head, _))) => HeadSeen::Sound(head),
        Err(CatalogueError::Corrupt { reason, .. }) => HeadSeen::Damaged(reason),
        Err(error) => return Err(error.into()),
    };
    // It may have been made since the list was read.
    if let HeadSeen::Sound(head) = &head
        && let Some(latest) = head.latest.as_ref().filter(|latest| !ids.contains(latest) && ids.first() < Some(*latest))
        && !matches!(vault.read_point(namespace, name, latest).await, Err(CatalogueError::Absent { .. }))
    {
        ids.insert(0, latest.clone());
    }
    let read = stream::iter(ids).map(async |id| {
        let read = vault.read_stored(namespace, name, &id).await;
        (id, read)
    });
    let (mut points, mut digests) = (Vec::new(), BTreeMap::new());
    for (id, read) in read.buffered(AT_ONCE).collect::<Vec<_>>().await {
        match read {
            Err(error @ CatalogueError::Store(_)) => return Err(error.into()),
            Ok((point, digest)) => {
                digests.insert(id.clone(), digest);
                points.push((id, Ok(point)));
            }
            Err(error) => points.push((id, Err(error.to_string()))),
        }
    }
    let claim = claim::read(vault.store(), key).await;
    let claim_known = claim.is_ok();
    let claim = claim.unwrap_or_else(|error| {
        doubts.push(error.to_string());
        None
    });
    let store = vault.store();
    let manifests = there(store, &format!("apps/{namespace}/{name}/manifests/"), doubts).await;
    let snapshots = there(store, &format!("{}/snapshots/", repository::prefix(namespace, name)), doubts).await;
    let mut contents = Contents {
        head,
        claim: claim.as_ref().map(facts),
        points,
        unread,
        claim_known,
        manifests,
        snapshots,
        damaged: BTreeMap::new(),
        missing_packs: Vec::new(),
        lacking: BTreeSet::new(),
        noted: BTreeMap::new(),
        missing: Vec::new(),
        digests,
        kept_damaged: None,
    };
    follow_chain(vault, key, &listed, &mut contents).await?;
    contents.noted = noted(vault, key, &contents).await?;
    if depth.read {
        read_all(vault, key, &mut contents, doubts).await?;
    }
    Ok(contents)
}

/// Reads what the points name: whether it is there, the lists have told.
async fn read_all(
    vault: &Vault,
    key: &AppKey,
    contents: &mut Contents,
    doubts: &mut Vec<String>,
) -> Result<(), InspectError> {
    let (namespace, name) = (&key.namespace, &key.name);
    let points = || contents.points.iter().filter_map(|(_, it)| it.as_ref().ok());
    let listed = |names: &Option<BTreeSet<String>>, it: &String| names.as_ref().is_none_or(|names| names.contains(it));
    let manifests: BTreeSet<String> =
        points().map(|it| it.objects.manifest.clone()).filter(|it| listed(&contents.manifests, it)).collect();
    let snapshots: BTreeSet<String> = points()
        .flat_map(|it| it.snapshots().map(|(_, snapshot)| snapshot.to_owned()))
        .filter(|it| listed(&contents.snapshots, it))
        .collect();
    for manifest in manifests {
        match vault.read_manifest(namespace, name, &manifest, io::sink()).await {
            Ok(_) => {}
            Err(error @ (CatalogueError::Corrupt { .. } | CatalogueError::Absent { .. })) => {
                contents.damaged.insert(manifest, error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let folder = format!("{}/snapshots", repository::prefix(namespace, name));
    let any = !snapshots.is_empty();
    for snapshot in snapshots {
        let key = format!("{folder}/{snapshot}");
        // It is named by what it holds.
        let sound = vault.store().get(&key).await?.is_some_and(|it| hex(&Sha256::digest(&it.bytes)) == snapshot);
        if !sound {
            contents.damaged.insert(snapshot, format!("`{key}` in the vault is damaged"));
        }
    }
    if any {
        let (vault, namespace, name) = (vault.clone(), namespace.clone(), name.clone());
        let runtime = Handle::current();
        let looked = tokio::task::spawn_blocking(move || look::missing_packs(&vault, &namespace, &name, runtime));
        match looked.await.expect("the work does not panic, and nobody cancels it") {
            Ok(missing) => {
                contents.missing_packs = missing.packs;
                contents.lacking = missing.snapshots.into_iter().collect();
            }
            Err(error) => doubts.push(format!("the repository: {error}")),
        }
    }
    Ok(())
}

/// Looks for points that are gone. What stays was written before retention took anything, so it is read after the list.
async fn follow_chain(
    vault: &Vault,
    key: &AppKey,
    listed: &BTreeSet<String>,
    contents: &mut Contents,
) -> Result<(), InspectError> {
    let (namespace, name) = (&key.namespace, &key.name);
    let kept = match vault.read_kept(namespace, name).await {
        Ok(kept) => kept,
        Err(error @ CatalogueError::Store(_)) => return Err(error.into()),
        Err(error) => {
            contents.kept_damaged = Some(error.to_string());
            None
        }
    };
    // Of more points than are listed, nothing is known of the oldest.
    let oldest = listed.first().filter(|_| listed.len() >= POINTS);
    for id in missing(kept.as_ref(), listed, &contents.named()) {
        let young = contents.missing.len() < CONFIRMED && oldest.is_none_or(|it| id > *it);
        // It may have been made since the list was read.
        if young && matches!(vault.read_point(namespace, name, &id).await, Err(CatalogueError::Absent { .. })) {
            contents.missing.push(id);
        }
    }
    Ok(())
}

/// What is there is what is to be there.
async fn accept(vault: &Vault, key: &AppKey) -> Result<(), InspectError> {
    let (namespace, name) = (&key.namespace, &key.name);
    let listed: BTreeSet<String> = vault.all_points(namespace, name).await?.into_iter().collect();
    let kept = |_: Option<&Kept>| Kept::after(None, &listed, &BTreeSet::new(), &[]);
    Ok(vault.change_kept(namespace, name, kept).await?)
}

/// What was noted of the points that were read, by whoever found them damaged.
async fn noted(vault: &Vault, key: &AppKey, contents: &Contents) -> Result<BTreeMap<String, String>, InspectError> {
    let (namespace, name) = (&key.namespace, &key.name);
    let read: BTreeSet<&String> = contents.points.iter().map(|(id, _)| id).collect();
    let listed = vault.list_verified(namespace, name).await?.into_iter().filter(|(id, _)| read.contains(id));
    let notes = stream::iter(listed).map(async |(id, _)| vault.read_verified(namespace, name, &id).await);
    let mut damaged = BTreeMap::new();
    for note in notes.buffered(AT_ONCE).collect::<Vec<_>>().await {
        match note {
            Ok(note) => damaged.extend(note.and_then(|it| Some((it.point.clone(), it.damage()?)))),
            Err(error @ CatalogueError::Store(_)) => return Err(error.into()),
            // It was tampered with: it says nothing.
            Err(_) => {}
        }
    }
    Ok(damaged)
}

/// Notes at the points what they lack, so that no region chooses them. Gives how many did not have that yet.
async fn note(vault: &Vault, key: &AppKey, contents: &Contents) -> Result<usize, InspectError> {
    let at = Timestamp::from_second(Timestamp::now().as_second()).expect("a timestamp's seconds are in range");
    let new = AtomicUsize::new(0);
    for (point, lacks) in contents.damaged_points() {
        let lacking = point.snapshots().any(|(_, it)| contents.lacking.contains(it));
        let packs = if lacking { &contents.missing_packs[..] } else { &[] };
        let change = |before: Option<&Verified>| {
            let met = Verified::met(before, &point.id, at, packs, &lacks);
            new.fetch_add(usize::from(met.is_some()), Ordering::Relaxed);
            met
        };
        vault.change_verified(&key.namespace, &key.name, &point.id, change).await?;
    }
    Ok(new.into_inner())
}

fn facts(claim: &Claim) -> ClaimFacts {
    let from = match &claim.intent {
        Intent::Released { from, .. } => from.clone(),
        Intent::None | Intent::Handover(_) => None,
    };
    ClaimFacts { epoch: claim.epoch, region: claim.holder.clone().or(from) }
}

/// The names under a prefix. `None` when they cannot all be listed.
async fn there(store: &Store, prefix: &str, doubts: &mut Vec<String>) -> Option<BTreeSet<String>> {
    match names(store, prefix).await {
        Ok(names) => Some(names),
        Err(error) => {
            doubts.push(format!("{prefix}: {error}"));
            None
        }
    }
}

async fn names(store: &Store, prefix: &str) -> Result<BTreeSet<String>, StoreError> {
    let (mut names, mut after) = (BTreeSet::new(), None::<String>);
    loop {
        let page = store.page(prefix, after.as_deref(), PAGE_LIMIT).await?;
        after = page.last().map(|it| it.key.clone());
        names.extend(page.iter().filter_map(|it| it.key.strip_prefix(prefix).map(ToOwned::to_owned)));
        if page.len() < PAGE_LIMIT {
            return Ok(names);
        }
        if names.len() >= LISTED {
            return Err(StoreError::TooMany { prefix: prefix.to_owned(), limit: LISTED });
        }
    }
}
