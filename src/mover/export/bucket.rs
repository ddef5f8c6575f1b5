//! An export into a vault: plain objects below `exports/NAMESPACE/PREFIX/`, readable for whoever reads the bucket.
//!
//! `volumes/CLAIM/…` are the files, `lists/CLAIM.jsonl` says of each what an object cannot, `dumps/NAME` are dumps and
//! `objects/GROUP/KIND/NAME.yaml` (of the whole cluster: `cluster/…`) objects. `export.json` is there before everything else,
//! and says at the end that all is there. It names the run: what another one has begun is not written into.

use bytes::Bytes;
use jiff::Timestamp;
use rustic_core::{IndexedFull, ProgressBars, ProgressType, Repository, TreeId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::super::check;
use super::super::engine::{Engine, ROOT};
use super::super::error::MoverError;
use super::super::parallel;
use super::super::pieces::Opener;
use super::files::{Files, Found};
use super::name::encoded;
use super::upload::{AT_ONCE, Upload, Uploads, store_error};
use super::{Export, blobs, dumped};
use crate::core::mover_progress::RESTORING;
use crate::core::mover_task::{ExportPlace, ExportedVolume, Report};
use crate::core::paths::{self, Paths};
use crate::vault::{Condition, Part, Store, StoreError, Vault};

/// The version of what is laid out so.
const FORMAT: u32 = 1;
/// The group and kind of what is not laid bare unless it is asked for by its kind.
const SECRET: (&str, &str) = ("core", "Secret");

/// `export.json`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Note {
    format: u32,
    /// The uid of the run that writes it.
    run: String,
    namespace: String,
    application: String,
    point: String,
    /// When all was there. Absent: it is not whole.
    finished_at: Option<Timestamp>,
    files: u64,
    bytes: u64,
    objects: u64,
    /// Secrets that were left out, since no `only.objects` names their kind.
    secrets_left_out: u64,
    /// Claims that have no file under the paths that are wanted of them.
    without_files: Vec<String>,
}

/// What was found where it is to go.
enum Begun {
    /// Nothing, or a beginning of this run.
    Go { again: bool },
    /// All of it.
    Whole(Note),
    /// Something else.
    Occupied,
}

/// Writes everything.
pub(super) fn write(
    export: &Export<'_>,
    engine: &Engine,
    (vault, to): (&Vault, &Vault),
    place: &ExportPlace,
) -> Result<Report, MoverError> {
    let base = format!("exports/{}/{}/", place.namespace, place.prefix);
    let mut note = Note {
        format: FORMAT,
        run: place.run.clone(),
        namespace: export.namespace.to_owned(),
        application: export.application.to_owned(),
        point: export.point.to_owned(),
        ..Note::default()
    };
    let again = match engine.runtime().block_on(begin(to.store(), &base, &note))? {
        Begun::Go { again } => again,
        Begun::Whole(note) => return Ok(report(export, &note, 0)),
        Begun::Occupied => return Ok(Report { occupied: true, ..Report::default() }),
    };
    engine.meter.phase("reading the index");
    let repository = engine.steadily(|| engine.open()?.to_indexed().map_err(|error| engine.error(&error)))?;
    let progress = engine.meter.progress(ProgressType::Bytes, RESTORING);
    let uploads = Uploads::new(engine, (to.store(), to.limits()), &progress, again);
    let mut sent = 0;
    for volume in export.volumes {
        let (found, bytes) = store_volume(engine, &repository, volume, &base, &uploads)?;
        if found.files == 0 && !volume.paths.is_empty() {
            note.without_files.push(volume.claim.clone());
        }
        note.files += found.files;
        note.bytes += found.bytes;
        sent += bytes;
    }
    for dump in export.dumps {
        let file = dumped(engine, &repository, dump)?;
        let places = blobs::places(engine, &repository, file.content.as_deref().unwrap_or_default())?;
        let upload = Upload { key: format!("{base}dumps/{}", dump.name), places };
        note.files += 1;
        note.bytes += upload.bytes();
        sent += uploads.send(vec![upload], &mut Opener::default())?;
    }
    if let Some(manifest) = export.manifest {
        store_objects(export, engine, vault, manifest, &base, &uploads, &mut note)?;
    }
    note.finished_at = Some(Timestamp::now());
    uploads.put(&format!("{base}export.json"), text(&note)?)?;
    Ok(report(export, &note, sent))
}

fn report(export: &Export<'_>, note: &Note, sent: u64) -> Report {
    Report {
        warnings: note.without_files.len() as u64,
        first_warnings: note.without_files.iter().map(|it| paths::fit_nothing_of(it)).collect(),
        snapshot: Some(export.point.to_owned()),
        files: note.files + note.objects,
        bytes: note.bytes,
        added_bytes: sent,
        excluded: note.secrets_left_out,
        ..Report::default()
    }
}

fn text(note: &Note) -> Result<Bytes, MoverError> {
    let text = serde_json::to_vec_pretty(note).map_err(|error| MoverError::Engine(error.to_string()))?;
    Ok(text.into())
}

/// Claims the place for this run, when nothing is there.
async fn begin(store: &Store, base: &str, note: &Note) -> Result<Begun, MoverError> {
    let key = format!("{base}export.json");
    if let Some(found) = judge(store, &key, note).await? {
        return Ok(found);
    }
    if !store.page(base, None, 1).await.map_err(store_error)?.is_empty() {
        return Ok(Begun::Occupied);
    }
    match store.put_if(&key, text(note)?, Condition::Absent).await {
        Ok(_) => Ok(Begun::Go { again: false }),
        Err(StoreError::Lost | StoreError::Unknown { .. }) => {
            let found = judge(store, &key, note).await?;
            found.ok_or_else(|| store_error(StoreError::Other(format!("`{key}` could not be written"))))
        }
        Err(error) => Err(store_error(error)),
    }
}

/// What `export.json` says, if there is one.
async fn judge(store: &Store, key: &str, note: &Note) -> Result<Option<Begun>, MoverError> {
    let Some(found) = store.get(key).await.map_err(store_error)? else { return Ok(None) };
    let found: Note = serde_json::from_slice(&found.bytes).unwrap_or_default();
    let same = (&found.run, &found.point) == (&note.run, &note.point);
    Ok(Some(match found.finished_at {
        _ if !same => Begun::Occupied,
        Some(_) => Begun::Whole(found),
        None => Begun::Go { again: true },
    }))
}

/// Stores the files of a volume, and then the list of them. Returns what was found, and how many bytes were sent.
fn store_volume<S: IndexedFull + Sync>(
    engine: &Engine,
    repository: &Repository<S>,
    volume: &ExportedVolume,
    base: &str,
    uploads: &Uploads<'_>,
) -> Result<(Found, u64), MoverError> {
    let paths = Paths::some(&volume.paths).map_err(|error| MoverError::Task(format!("`paths`: {error}")))?;
    let tree = root(engine, repository, &volume.snapshot)?;
    let (lines, mut parts) = mpsc::channel::<Part>(1);
    let (store, list) = (uploads.store.clone(), format!("{base}lists/{}.jsonl", volume.claim));
    // It is stored as a whole once everything that it lists is.
    let listing = engine.runtime().spawn(async move { store.put_parts(&list, 0, &mut parts).await });
    let taken_back = lines.clone();
    let sent = std::sync::atomic::AtomicU64::new(0);
    let mut files = Files::new((engine, repository), tree, paths.as_ref(), (base, &volume.claim), lines)?;
    let stored = parallel::each(AT_ONCE, files.by_ref(), Opener::default, |opener, group| {
        let bytes = uploads.send(group, opener)?;
        sent.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    let found = files.found;
    let outcome = match (stored, files.failed.take()) {
        (Err(error), _) | (Ok(()), Some(error)) => {
            drop(files);
            let _ = taken_back.blocking_send(Err(error.to_string()));
            Err(error)
        }
        (Ok(()), None) => {
            files.finish();
            Ok((found, sent.into_inner()))
        }
    };
    drop(taken_back);
    let listed = engine.runtime().block_on(listing).map_err(|error| MoverError::Engine(error.to_string()))?;
    let outcome = outcome?;
    listed.map_err(store_error)?;
    Ok(outcome)
}

fn root<S: IndexedFull>(engine: &Engine, repository: &Repository<S>, id: &str) -> Result<TreeId, MoverError> {
    let snapshot = check::snapshot(engine, repository, id)?;
    let root = repository.node_from_snapshot_and_path(&snapshot, ROOT).map_err(|error| engine.error(&error))?;
    root.subtree.ok_or_else(|| MoverError::Corrupt(format!("snapshot {id} has no directory")))
}

/// Stores objects. Secrets only when they are asked for by their kind.
fn store_objects(
    export: &Export<'_>,
    engine: &Engine,
    vault: &Vault,
    manifest: &str,
    base: &str,
    uploads: &Uploads<'_>,
    note: &mut Note,
) -> Result<(), MoverError> {
    let secrets = export.objects.iter().any(|it| it.kind.as_deref() == Some(SECRET.1));
    export.objects(engine, vault, manifest, |[scope, group, kind, name], text| {
        if (group, kind) == SECRET && !secrets {
            note.secrets_left_out += 1;
            return Ok(());
        }
        note.objects += 1;
        let [group, kind, name] = [group, kind, name].map(|it| encoded(it.as_ref()));
        uploads.put(&format!("{base}{scope}/{group}/{kind}/{name}.yaml"), text.into())
    })
}
