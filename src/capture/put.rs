//! Puts one object back, or looks what would become of it.
//!
//! `claims` has what is different of claims. Making it comes first: most objects of most restores are not there. Only where the API server says that one is, it is
//! read and compared, and what is there in another form is a conflict.

use std::time::Duration;

use kube::{
    Client,
    api::{GetParams, Patch, PatchParams, PostParams},
};
use serde_json::Value;

use super::{
    FIELD_MANAGER,
    apply::terminating,
    bundle::Id,
    call::{self, CallError},
    claims,
    compare::{covers, covers_but_owners, exact, replacement},
    definitions, differ, marks,
    object::{self, deleting, segment},
    order::{self, Way},
    owners::Owners,
    policy::{RBAC, Verdict},
    prepare::{NO_OWNER, Prepared, Ready, Setup},
};
use crate::api::restoring::OnConflict;

/// How often an object is looked at that is there and is not: since it is being deleted, or changes all the time.
pub(super) const LOOKS: u32 = 10;

/// The pause between two looks.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Told of definitions that were let be.
const KEPT: &str =
    "definitions of kinds that are there in another form, and serve what is needed, were left as they are";

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is put back.
    Make,
    /// It is told what would become of it.
    Look,
    /// It is told if it is there and says something else.
    Compare,
    /// It gets the owners that were not there before it was.
    Adopt,
}

/// An object that was tried.
pub struct Attempt {
    /// Which one.
    pub id: Id,
    /// What people may want to know about it.
    pub notes: Vec<&'static str>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an object.
pub enum Outcome {
    /// It was made.
    Created,
    /// It was changed.
    Updated,
    /// It is there as it should be.
    Unchanged,
    /// It would be made.
    WouldMake,
    /// It would be changed, in these fields.
    WouldChange(String),
    /// It is there and says something else.
    Conflict,
    /// Nothing that counts.
    Nothing,
    /// Not restored, with the reason; whether the API server gave no answer.
    Not(String, bool),
    /// It is a claim that is not there: only the data plane makes it.
    LeftToData,
    /// No object can be made in this namespace.
    Terminating,
}

/// Where objects go.
pub struct Target<'a> {
    pub(super) client: &'a Client,
    pub(super) setup: &'a Setup,
    owners: Owners,
}

impl<'a> Target<'a> {
    /// With nothing known yet.
    pub fn new(client: &'a Client, setup: &'a Setup) -> Self {
        Self { client, setup, owners: Owners::default() }
    }

    /// Takes one step with one object.
    pub async fn one(&self, prepared: Prepared, step: Step) -> Attempt {
        let Prepared { id, mut notes, ready } = prepared;
        let outcome = match ready {
            // It is told when it should be made, or is looked at.
            Err(_) if matches!(step, Step::Compare | Step::Adopt) => Outcome::Nothing,
            Err(why) => Outcome::Not(why, false),
            Ok(mut ready) => {
                let claim = order::way(&id.group, &id.kind) == Way::WithData;
                let done = match step {
                    Step::Make if claim => self.dress(&id, &mut ready, &mut notes).await,
                    Step::Make => self.make(&id, &mut ready, &mut notes).await,
                    Step::Look => self.look(&id, &mut ready).await,
                    Step::Compare => self.look(&id, &mut ready).await.map(|it| match it {
                        Outcome::WouldChange(_) => Outcome::Conflict,
                        _ => Outcome::Nothing,
                    }),
                    Step::Adopt => {
                        notes.clear();
                        self.adopt(&id, &mut ready, &mut notes).await
                    }
                };
                match done {
                    Ok(outcome) => outcome,
                    Err(CallError::Refused(status)) if terminating(&status) => Outcome::Terminating,
                    Err(error) => Outcome::Not(format!("{error}{}", remedy(&id, &error)), error.temporary()),
                }
            }
        };
        Attempt { id, notes, outcome }
    }

    /// Makes the object, or does with the one that is there what is asked for.
    async fn make(&self, id: &Id, ready: &mut Ready, notes: &mut Vec<&'static str>) -> Result<Outcome, CallError> {
        if !ready.orphan {
            self.own(ready, notes).await?;
        }
        if let Verdict::Held(why) = &ready.verdict {
            let live = match self.read(id, ready).await {
                // It may not even be looked at.
                Err(error) if error.code() == Some(403) => None,
                live => live?,
            };
            return Ok(match live {
                Some(live) if self.same(ready, &live) => Outcome::Unchanged,
                Some(live) if self.serves(id, &live) => kept(notes),
                Some(_) | None => Outcome::Not(why.clone(), false),
            });
        }
        let mut last = None;
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let body = &ready.body;
            let made = call::object(self.client, || ready.path.create(&by_us(), body.clone()).map(call::briefly)).await;
            let error = match made {
                Ok(_) => return Ok(Outcome::Created),
                Err(error) if error.code() == Some(409) => error,
                // What is unique in the cluster (a node port) is refused before the name is: by the object itself, maybe.
                Err(error) if error.code() == Some(422) => {
                    return self.converge(id, ready, notes).await?.ok_or(error);
                }
                Err(error) => return Err(error),
            };
            if exists(&error)
                && let Some(outcome) = self.converge(id, ready, notes).await?
            {
                return Ok(outcome);
            }
            last = Some(error);
        }
        Err(last.expect("it was looked at"))
    }

    /// Does with the object that is there what is asked for. `None` when it should be looked at again: it is gone, is
    /// going, or has just been changed.
    async fn converge(
        &self,
        id: &Id,
        ready: &Ready,
        notes: &mut Vec<&'static str>,
    ) -> Result<Option<Outcome>, CallError> {
        let Some(live) = self.read(id, ready).await?.filter(|it| !deleting(it)) else { return Ok(None) };
        let kind = marks::kind_of(&id.group, &id.kind);
        let unmark = kind.and_then(|it| marks::unmark(it, &live));
        if self.same(ready, &live) && unmark.is_none() {
            return Ok(Some(Outcome::Unchanged));
        }
        let bound = match &ready.verdict {
            Verdict::CreateOnly(value) => {
                Some(format!("it is there and says something else: {value} lets it be changed"))
            }
            Verdict::Free | Verdict::Held(_) => None,
        };
        // Every namespace has this account by itself.
        let given = (id.group.as_str(), id.kind.as_str(), id.name.as_str()) == ("", "ServiceAccount", "default");
        let way = if given { OnConflict::Update } else { self.setup.options.on_conflict };
        match (bound, way) {
            (None, OnConflict::Update) => self.update(id, ready, &live, unmark).await,
            (None, OnConflict::Replace) => self.replace(id, ready, &live).await,
            (bound, OnConflict::Skip | OnConflict::Update | OnConflict::Replace | OnConflict::Fail) => {
                if self.serves(id, &live) {
                    return Ok(Some(kept(notes)));
                }
                let why =
                    bound.unwrap_or_else(|| format!("it is there and says something else, and onConflict is {way:?}"));
                Ok(Some(Outcome::Not(why, false)))
            }
        }
    }

    /// Makes the object that is there say what the bundle says.
    async fn update(
        &self,
        id: &Id,
        ready: &Ready,
        live: &Value,
        unmark: Option<Value>,
    ) -> Result<Option<Outcome>, CallError> {
        let (name, path) = (segment(&id.name), &ready.path);
        let force = PatchParams::apply(FIELD_MANAGER).force();
        let apply = Patch::Apply(&ready.json);
        let applied = call::object(self.client, || path.patch(&name, &force, &apply).map(call::briefly)).await;
        let applied: Value = match applied {
            Ok(body) => serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?,
            Err(error) if matches!(error.code(), Some(404 | 409)) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The mark goes last: until now the workload was stopped, and now it starts as the bundle has it.
        if let Some(mut change) = unmark {
            change.pointer_mut("/metadata").and_then(Value::as_object_mut).map(|it| it.remove("resourceVersion"));
            let merge = Patch::Merge(&change);
            call::object(self.client, || path.patch(&name, &merging(), &merge).map(call::briefly)).await?;
            return Ok(Some(Outcome::Updated));
        }
        let version = |it: &Value| it.pointer("/metadata/resourceVersion").cloned();
        Ok(Some(if version(&applied) == version(live) { Outcome::Unchanged } else { Outcome::Updated }))
    }

    /// Makes the object that is there be what the bundle has, and nothing else.
    async fn replace(&self, id: &Id, ready: &Ready, live: &Value) -> Result<Option<Outcome>, CallError> {
        let (name, path) = (segment(&id.name), &ready.path);
        let change: Patch<Value> = Patch::Json(replacement(&ready.json, live));
        let replaced = call::object(self.client, || path.patch(&name, &merging(), &change).map(call::briefly)).await;
        match replaced {
            Ok(_) => Ok(Some(Outcome::Updated)),
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(None),
            // It cannot become that: it is deleted, and made anew by the next look. Never what the whole cluster uses.
            Err(error) if error.code() == Some(422) && id.namespace.is_some() => {
                let uid = live.pointer("/metadata/uid").and_then(Value::as_str).map(ToOwned::to_owned);
                let only = kube::api::Preconditions { uid, resource_version: None };
                let delete = kube::api::DeleteParams::background().preconditions(only);
                match call::object(self.client, || path.delete(&name, &delete)).await {
                    Ok(_) => self.again(ready).await,
                    Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes an object anew that was just deleted. `None` while the old one is still there.
    async fn again(&self, ready: &Ready) -> Result<Option<Outcome>, CallError> {
        let body = &ready.body;
        match call::object(self.client, || ready.path.create(&by_us(), body.clone()).map(call::briefly)).await {
            Ok(_) => Ok(Some(Outcome::Updated)),
            Err(error) if error.code() == Some(409) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What would become of the object.
    async fn look(&self, id: &Id, ready: &mut Ready) -> Result<Outcome, CallError> {
        self.own(ready, &mut Vec::new()).await?;
        let live = self.read(id, ready).await?;
        if order::way(&id.group, &id.kind) == Way::WithData {
            return Ok(claims::look(ready, live.as_ref(), self.setup.options.on_conflict));
        }
        let same = live.as_ref().is_some_and(|it| self.same(ready, it) || self.serves(id, it));
        let skip = self.setup.options.on_conflict == OnConflict::Skip;
        Ok(match (&ready.verdict, live) {
            (_, Some(_)) if same => Outcome::Unchanged,
            (Verdict::Held(why), _) => Outcome::Not(why.clone(), false),
            (Verdict::Free | Verdict::CreateOnly(_), None) => Outcome::WouldMake,
            (Verdict::CreateOnly(value), Some(_)) => {
                Outcome::Not(format!("it is there and says something else: {value} lets it be changed"), false)
            }
            (Verdict::Free, Some(_)) if skip => {
                Outcome::Not("it is there and says something else, and onConflict is Skip".to_owned(), false)
            }
            (Verdict::Free, Some(live)) => Outcome::WouldChange(self.differing(ready, &live)),
        })
    }

    /// Writes the owners that were made after the object.
    async fn adopt(&self, id: &Id, ready: &mut Ready, notes: &mut Vec<&'static str>) -> Result<Outcome, CallError> {
        self.own(ready, notes).await?;
        let Some(wanted) = ready.json.pointer("/metadata/ownerReferences").cloned() else {
            return Ok(Outcome::Nothing);
        };
        for _ in 0..LOOKS {
            // What is not there, or is not as in the bundle, was told before.
            let Some(live) = self.read(id, ready).await?.filter(|it| !deleting(it)) else {
                return Ok(Outcome::Nothing);
            };
            let Some(owners) = object::with_owners(&live, &wanted) else { return Ok(Outcome::Nothing) };
            if !covers_but_owners(&ready.json, &live) {
                notes.push("owner references were left out: the object is there in another form");
                return Ok(Outcome::Nothing);
            }
            let version = live.pointer("/metadata/resourceVersion");
            let change = serde_json::json!({"metadata": {"resourceVersion": version, "ownerReferences": owners}});
            let (name, merge) = (segment(&id.name), Patch::Merge(&change));
            match call::object(self.client, || ready.path.patch(&name, &merging(), &merge).map(call::briefly)).await {
                Ok(_) => return Ok(Outcome::Nothing),
                Err(error) if error.code() == Some(409) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        notes.push("owner references were left out: the object changes all the time");
        Ok(Outcome::Nothing)
    }

    /// Gives an object the identities that its owners have here.
    pub(super) async fn own(&self, ready: &mut Ready, notes: &mut Vec<&'static str>) -> Result<(), CallError> {
        if ready.owners.is_empty() {
            return Ok(());
        }
        let mut owners = Vec::new();
        for owner in std::mem::take(&mut ready.owners) {
            match self.owners.identity(self.client, self.setup, &owner).await? {
                Some(uid) => {
                    let mut owner = owner;
                    owner["uid"] = uid.into();
                    owners.push(owner);
                }
                None => notes.push(NO_OWNER),
            }
        }
        if !owners.is_empty() {
            ready.json["metadata"]["ownerReferences"] = owners.into();
            ready.body = serde_json::to_vec(&ready.json).map_err(kube::Error::SerdeError)?;
        }
        Ok(())
    }

    pub(super) async fn read(&self, id: &Id, ready: &Ready) -> Result<Option<Value>, CallError> {
        let name = segment(&id.name);
        match call::object(self.client, || ready.path.get(&name, &GetParams::default())).await {
            Ok(body) => Ok(Some(serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether what is there is what is wanted.
    fn same(&self, ready: &Ready, live: &Value) -> bool {
        match self.setup.options.on_conflict {
            OnConflict::Replace => exact(&ready.resource, &ready.json, live, &self.setup.to),
            OnConflict::Skip | OnConflict::Update | OnConflict::Fail => covers(&ready.json, live),
        }
    }

    /// The fields that make what is there another.
    fn differing(&self, ready: &Ready, live: &Value) -> String {
        differ::text(&match self.setup.options.on_conflict {
            OnConflict::Replace => differ::inexact(&ready.resource, &ready.json, live, &self.setup.to),
            OnConflict::Skip | OnConflict::Update | OnConflict::Fail => differ::missing(&ready.json, live),
        })
    }

    /// Whether this is a definition of a kind that serves what the bundle needs of it.
    fn serves(&self, id: &Id, live: &Value) -> bool {
        definitions::is_one(id) && definitions::serves(live, &self.setup.index)
    }
}

fn kept(notes: &mut Vec<&'static str>) -> Outcome {
    notes.push(KEPT);
    Outcome::Unchanged
}

/// What may help against a refusal.
fn remedy(id: &Id, error: &CallError) -> &'static str {
    match error.code() {
        Some(403) if id.group == RBAC => {
            "; Reprise may give only rights that it has itself: set restore.escalate=true in the chart, or let GitOps put \
             roles there"
        }
        Some(409) => "; it is being deleted and does not go, or changes all the time: look at its finalizers",
        Some(422) => {
            "; what is there cannot be changed into what was captured: delete it and restore again, or restore with \
             onConflict Replace"
        }
        Some(_) | None => "",
    }
}

/// How objects are made: in our name.
pub(super) fn by_us() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

pub(super) fn merging() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }
}

/// There is an object of that name, as opposed to a change that came in between.
pub(super) fn exists(error: &CallError) -> bool {
    matches!(error, CallError::Refused(status) if status.code == 409 && status.reason == "AlreadyExists")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_role_that_is_refused_is_told_with_the_remedy() {
        let id = Id { group: RBAC.into(), kind: "Role".into(), namespace: Some("shop".into()), name: "r".into() };
        let refused = |code: u16| CallError::Refused(Status { code, ..Status::failure("no", "Forbidden") }.boxed());
        assert!(remedy(&id, &refused(403)).contains("restore.escalate=true"));
        assert_eq!(remedy(&id, &refused(400)), "");
    }
}
