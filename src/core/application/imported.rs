//! What a region that is not active shows of the points that another one makes.
//!
//! The head of the catalogue is asked for once a minute; only when it is another are the names of the newest points
//! listed. Each of them gets an object, which reads its point once: that is `core::recovery_point::imported`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{LOOK, Pass, fencing::point_object};
use crate::{
    api::recovery_point::{Purpose, RecoveryPoint},
    core::{
        child,
        effect::Effect,
        recovery_point::imported::name,
        work::{Catalogue, Outcome, Seen, Work, see},
    },
};

impl Pass<'_> {
    /// In a region that makes no points: those that the vault names.
    pub(super) fn follow_points(&mut self) {
        let (due, known) = match see(&self.seen.works, "ReadLatest", self.now) {
            Seen::Done(Outcome::Latest(found), read) => {
                if let Some(found) = found {
                    self.show(found);
                }
                (self.past(read), found.clone())
            }
            Seen::Done(_, read) => (self.past(read), None),
            Seen::Due(_) => (true, None),
            Seen::Waiting(_) => (false, None),
        };
        if due && self.vault_ready().is_ok() {
            let work = Work::ReadLatest { vault: self.vault_name(), application: self.key.clone(), known };
            self.effects.push(Effect::Begin(Box::new(work)));
        }
    }

    fn past(&self, read: Timestamp) -> bool {
        read.as_second().saturating_add_unsigned(LOOK.as_secs()) <= self.now.as_second()
    }

    /// An object for each of the newest points that has none here; and none for what is no longer among them, but for
    /// those that are held: a hold is lifted by its object.
    fn show(&mut self, found: &Catalogue) {
        if let Some((id, at)) = &found.latest {
            self.take_over(id, *at);
        }
        let made: BTreeSet<&String> = self.own_points().filter_map(|it| it.status.as_ref()?.id.as_ref()).collect();
        let wanted: Vec<&String> = found.newest.iter().filter(|it| !made.contains(it)).collect();
        let shown: BTreeSet<&String> = self.imported().filter_map(|it| it.spec.id.as_ref()).collect();
        let free = self.imported().filter(|it| !it.spec.hold);
        let gone = free.filter(|it| it.spec.id.as_ref().is_none_or(|id| !wanted.contains(&id)));
        let gone: Vec<Effect> = gone.map(|it| self.forgotten(&it.name_any())).collect();
        let new = wanted.iter().filter(|it| !shown.contains(**it)).map(|id| {
            let mut object = point_object(&self.key, &name(id), Purpose::Imported, self.object.uid());
            object.data["spec"]["id"] = id.as_str().into();
            Effect::Apply(Box::new(object))
        });
        let effects: Vec<Effect> = new.chain(gone).collect();
        self.last.extend(effects);
    }

    /// All but the newest so many imported ones are deleted from the cluster, as this region makes its own.
    pub(super) fn forget_imported(&mut self, kept: usize) {
        let free = self.imported().filter(|it| !it.spec.hold);
        let mut shown: Vec<_> = free.filter_map(|it| Some((it.spec.id.clone()?, it.name_any()))).collect();
        shown.sort_unstable();
        let excess = shown.len().saturating_sub(kept);
        let effects: Vec<Effect> = shown[..excess].iter().map(|(_, name)| self.forgotten(name)).collect();
        self.effects.extend(effects);
    }

    fn forgotten(&self, name: &str) -> Effect {
        Effect::Delete(child::key("reprise.dev/v1alpha1", "RecoveryPoint", Some(&self.key.namespace), name))
    }

    /// What the operator imported. One that a person made stays until that person deletes it.
    fn imported(&self) -> impl Iterator<Item = &RecoveryPoint> {
        let by_operator = |it: &RecoveryPoint| it.spec.id.as_ref().is_some_and(|id| it.name_any() == name(id));
        let all = self.seen.points.iter().map(AsRef::as_ref);
        all.filter(move |it: &&RecoveryPoint| it.spec.purpose == Purpose::Imported && by_operator(it))
    }
}
