//! Work on what is found out about points after they were made: it is read for all that is shown of them in this
//! cluster, and damage that is met is noted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;

use super::{open, point::catalogue_failure};
use crate::{
    api::recovery_point::RecoveryPoint,
    core::{
        app_key::AppKey,
        recovery_point::noted,
        verified::{Found, Verified},
        work::{Failure, Outcome},
    },
    operator::{clock, context::Context, stores},
    vault::{Vault, catalogue::CatalogueError},
};

/// How many are read at a time.
const AT_ONCE: usize = 16;

/// A note, and when it was written: it is read again when that is another time.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    pub(super) written: Timestamp,
    pub(super) note: Verified,
}

/// What was found out about the points that this cluster shows, by vault and application. Absent before it was read.
#[derive(Default)]
pub struct Notes(Mutex<HashMap<(String, AppKey), BTreeMap<String, Noted>>>);

impl Notes {
    /// What was found out about a point, as far as it is known.
    #[must_use]
    pub fn of(&self, vault: &str, application: &AppKey, id: &str) -> Found {
        let all = self.0.lock().expect("no holder of this lock panics");
        let notes = all.get(&(vault.to_owned(), application.clone()));
        notes.map_or(Found::Unknown, |it| Found::Read(it.get(id).map(|it| it.note.clone())))
    }

    fn known(&self, vault: &str, application: &AppKey) -> BTreeMap<String, Noted> {
        let all = self.0.lock().expect("no holder of this lock panics");
        all.get(&(vault.to_owned(), application.clone())).cloned().unwrap_or_default()
    }

    /// Keeps what was read, and forgets what is of applications that are gone.
    fn keep(&self, vault: &str, application: &AppKey, notes: BTreeMap<String, Noted>, there: impl Fn(&AppKey) -> bool) {
        let mut all = self.0.lock().expect("no holder of this lock panics");
        all.retain(|(_, it), _| there(it));
        all.insert((vault.to_owned(), application.clone()), notes);
    }
}

/// Reads what is new of the points that this cluster shows, and has those looked at again that it says something else of.
pub(super) async fn read(name: &str, application: &AppKey, context: &Context) -> Result<Outcome, Failure> {
    let vault = open(name, context).await?;
    let shown = stores::all(&context.stores.points, |it| {
        it.namespace().as_ref() == Some(&application.namespace) && it.spec.application == application.name
    });
    let ids: BTreeSet<&String> = shown.iter().filter_map(|it| it.status.as_ref()?.id.as_ref()).collect();
    let known = context.notes.known(name, application);
    let notes = notes(&vault, application, known, |id| ids.contains(id)).await?;
    let there = |it: &AppKey| stores::get(&context.stores.applications, Some(&it.namespace), &it.name).is_some();
    context.notes.keep(name, application, notes.clone(), there);
    for point in shown.iter().filter(|it| differs(it, &notes)) {
        context.works.wake(("RecoveryPoint", point.namespace(), point.name_any()));
    }
    Ok(Outcome::Done)
}

fn differs(point: &RecoveryPoint, notes: &BTreeMap<String, Noted>) -> bool {
    let Some(status) = &point.status else { return false };
    let note = status.id.as_ref().and_then(|id| notes.get(id)).map(|it| &it.note);
    noted::verification(status, note) != status.verification
}

/// What was found out about points, and is not known. A note that was tampered with says nothing, neither good nor bad.
pub(super) async fn notes(
    vault: &Vault,
    application: &AppKey,
    mut known: BTreeMap<String, Noted>,
    wanted: impl Fn(&String) -> bool,
) -> Result<BTreeMap<String, Noted>, Failure> {
    let (namespace, app) = (&application.namespace, &application.name);
    let listed = vault.list_verified(namespace, app).await.map_err(|it| catalogue_failure(&it))?;
    let (mut notes, mut new) = (BTreeMap::new(), Vec::new());
    for (id, written) in listed.into_iter().filter(|(id, _)| wanted(id)) {
        match known.remove(&id).filter(|it| it.written == written) {
            Some(it) => drop(notes.insert(id, it)),
            None => new.push((id, written)),
        }
    }
    for some in new.chunks(AT_ONCE) {
        let read = join_all(some.iter().map(|(id, _)| vault.read_verified(namespace, app, id))).await;
        for ((id, written), read) in some.iter().zip(read) {
            match read {
                Ok(Some(note)) => drop(notes.insert(id.clone(), Noted { written: *written, note })),
                // It is gone, or was tampered with.
                Ok(None) | Err(CatalogueError::Corrupt { .. }) => {}
                Err(error) => return Err(catalogue_failure(&error)),
            }
        }
    }
    Ok(notes)
}

/// What was found out about a point since it was made. A note that was tampered with says nothing, neither good nor bad.
pub(super) async fn noted(vault: &Vault, application: &AppKey, id: &str) -> Result<Option<Verified>, Failure> {
    match vault.read_verified(&application.namespace, &application.name, id).await {
        Ok(it) => Ok(it),
        Err(error @ CatalogueError::Store(_)) => Err(catalogue_failure(&error)),
        Err(_) => Ok(None),
    }
}

/// Writes down that a point was rehearsed well.
pub(super) async fn rehearsed(
    name: &str,
    application: &AppKey,
    point: &str,
    (detail, seconds): (&str, u64),
    context: &Context,
) -> Result<Outcome, Failure> {
    let (vault, at) = (open(name, context).await?, clock::second());
    let change = |before: Option<&Verified>| Verified::rehearsed(before, point, at, detail.to_owned(), seconds);
    let noted = vault.change_verified(&application.namespace, &application.name, point, change).await;
    noted.map_err(|it| catalogue_failure(&it))?;
    read(name, application, context).await
}

/// Notes at a point that its objects are damaged or missing. It is passed over in any case: that this fails is only logged.
pub(super) async fn met(vault: &Vault, application: &AppKey, id: &str, error: &CatalogueError) {
    if !matches!(error, CatalogueError::Corrupt { .. } | CatalogueError::Absent { .. }) {
        return;
    }
    let (at, what) = (clock::second(), [format!("its objects: {error}")]);
    let change = |before: Option<&Verified>| Verified::met(before, id, at, &[], &what);
    let noted = vault.change_verified(&application.namespace, &application.name, id, change).await;
    if let Err(error) = noted {
        tracing::warn!(application = %application, point = id, %error, "the damage is not noted at the point");
    }
}
