//! `reprise vault ls` and `diff`: what is in a point, and in what two points differ.

use std::{collections::BTreeMap, ops::ControlFlow};

use tokio::runtime::Handle;

use super::{InspectError, objects, points};
use crate::{
    capture::bundle::{Bundle, Incoming},
    core::{
        point::{Point, Volume},
        vault_answer::{Change, Difference, Listing, PointContent, VolumeChange},
    },
    mover::{error::MoverError, look::Look},
    vault::Vault,
};

/// Which point, and of which application.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Which {
    /// The `Vault`.
    pub vault: String,
    /// The application's namespace.
    pub namespace: String,
    /// The application, where the namespace has more than one.
    #[arg(long)]
    pub application: Option<String>,
    /// The most entries, objects or files that are told.
    #[arg(long, default_value_t = 10_000)]
    pub limit: usize,
}

/// What is in a point.
pub(super) async fn content(
    vault: &Vault,
    which: &Which,
    point: &str,
    objects: bool,
) -> Result<PointContent, InspectError> {
    let point = points::find(vault, which, point).await?;
    let bundle = bundle(vault, &point).await?;
    let limit = which.limit;
    let (kinds, names, more) = blocking(move || {
        let index = bundle.index()?;
        let kinds: BTreeMap<String, u64> =
            index.kinds.iter().map(|it| (objects::kind_name(&it.group, &it.kind), it.count)).collect();
        let mut names = Vec::new();
        let mut more = false;
        if objects {
            bundle.visit(
                |_| true,
                |it| {
                    more = names.len() == limit;
                    if more {
                        return ControlFlow::Break(());
                    }
                    names.push(format!("{} {}", objects::kind_name(&it.id.group, &it.id.kind), it.id.name));
                    ControlFlow::Continue(())
                },
            )?;
        }
        Ok::<_, InspectError>((kinds, names, more))
    })
    .await?;
    Ok(PointContent { point, kinds, objects: names, more })
}

/// What lies at a path of one of a point's volumes.
pub(super) async fn list(
    vault: &Vault,
    which: &Which,
    point: &str,
    volume: &str,
    path: &str,
) -> Result<Listing, InspectError> {
    let point = points::find(vault, which, point).await?;
    let Some(found) = point.volumes.iter().find(|it| it.claim == volume) else {
        let names: Vec<&str> = point.volumes.iter().map(|it| it.claim.as_str()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(InspectError::Input(format!("{} has no volume '{volume}': it has {there}", point.id)));
    };
    let (snapshot, place, limit) = (found.snapshot.clone(), path.to_owned(), which.limit);
    let found = looking(vault, &point, move |look| look.list(&snapshot, &place, limit)).await?;
    let found =
        found.ok_or_else(|| InspectError::Input(format!("there is no '{path}' in volume {volume} of {}", point.id)))?;
    Ok(Listing {
        point: point.id,
        volume: volume.to_owned(),
        path: path.to_owned(),
        entries: found.entries,
        unreadable: found.unreadable,
        more: found.more,
    })
}

/// In what two points of one application differ.
pub(super) async fn difference(
    vault: &Vault,
    which: &Which,
    before: &str,
    after: &str,
) -> Result<Difference, InspectError> {
    let (before, after) = (points::find(vault, which, before).await?, points::find(vault, which, after).await?);
    if before.application != after.application {
        return Err(InspectError::Input(format!(
            "{} is a point of {}, and {} one of {}: name two of one application",
            before.id, before.application, after.id, after.application
        )));
    }
    let (changes, more_objects) = if before.objects.manifest == after.objects.manifest {
        (Vec::new(), false)
    } else {
        let (old, new) = (bundle(vault, &before).await?, bundle(vault, &after).await?);
        let limit = which.limit;
        blocking(move || objects::compare(&old, &new, limit)).await?
    };
    let volumes = volumes(vault, &before, &after, which.limit).await?;
    Ok(Difference { before: before.id, after: after.id, objects: changes, more_objects, volumes })
}

async fn volumes(
    vault: &Vault,
    before: &Point,
    after: &Point,
    limit: usize,
) -> Result<Vec<VolumeChange>, InspectError> {
    let mut both: BTreeMap<&str, (Option<&Volume>, Option<&Volume>)> = BTreeMap::new();
    for it in &before.volumes {
        both.entry(&it.claim).or_default().0 = Some(it);
    }
    for it in &after.volumes {
        both.entry(&it.claim).or_default().1 = Some(it);
    }
    let (mut changes, mut alike) = (Vec::new(), Vec::new());
    for (volume, (old, new)) in both {
        let volume = volume.to_owned();
        match (old, new) {
            (Some(old), Some(new)) if old.snapshot != new.snapshot => {
                alike.push((volume, old.snapshot.clone(), new.snapshot.clone()));
            }
            (None, Some(_)) => {
                changes.push(VolumeChange { volume, change: Change::Added, files: Vec::new(), more: false });
            }
            (Some(_), None) => {
                changes.push(VolumeChange { volume, change: Change::Removed, files: Vec::new(), more: false });
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    if alike.is_empty() {
        return Ok(changes);
    }
    let compared = looking(vault, after, move |look| {
        let mut left = limit;
        let mut compared = Vec::new();
        for (volume, old, new) in alike {
            let (files, more) = look.compare(&old, &new, left)?;
            left -= files.len();
            if !files.is_empty() || more {
                compared.push(VolumeChange { volume, change: Change::Changed, files, more });
            }
        }
        Ok(compared)
    });
    changes.extend(compared.await?);
    changes.sort_by(|a, b| a.volume.cmp(&b.volume));
    Ok(changes)
}

async fn bundle(vault: &Vault, point: &Point) -> Result<Bundle, InspectError> {
    let (namespace, name, manifest) = (&point.namespace, &point.application, &point.objects.manifest);
    Ok(vault.read_manifest(namespace, name, manifest, Incoming::new()).await?.finish())
}

/// Looks into the repository, on a thread that may block.
async fn looking<T: Send + 'static>(
    vault: &Vault,
    of: &Point,
    work: impl FnOnce(&Look) -> Result<T, MoverError> + Send + 'static,
) -> Result<T, InspectError> {
    let (vault, namespace, name) = (vault.clone(), of.namespace.clone(), of.application.clone());
    let runtime = Handle::current();
    Ok(blocking(move || work(&Look::open(&vault, &namespace, &name, runtime)?)).await?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic, and nobody cancels it")
}
