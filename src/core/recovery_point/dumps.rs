//! What is done about one dump of a point: it is taken over from an earlier point while that is young enough, or made
//! by a mover, and judged.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{JobSeen, Pass};
use crate::{
    api::{
        application::Dump,
        recovery_point::{DumpInPoint, Purpose, RecoveryPointStatus},
    },
    core::{
        dump,
        effect::Effect,
        mover_task::{Ran, Report},
    },
};

impl Pass<'_> {
    /// What will be in the point of a declared dump.
    pub(super) fn planned_dump(&self, declared: &Dump) -> DumpInPoint {
        let planned = DumpInPoint { name: declared.name.clone(), ..DumpInPoint::default() };
        let earlier = self.seen.dumps.get(&declared.name).map_or(&[][..], Vec::as_slice);
        let taken_over = match (self.stopped(), self.point.spec.purpose) {
            (true, Purpose::Branch) | (false, Purpose::Manual) | (_, Purpose::Imported) => None,
            // No command can be run. Whoever takes over finds the last one, in case its data is in no volume.
            (true, Purpose::Scheduled | Purpose::Manual) => earlier.iter().max_by_key(|it| it.consistent_at),
            (false, Purpose::Scheduled | Purpose::Branch) => dump::young(declared, earlier, self.now),
        };
        match taken_over {
            None if self.stopped() => {
                let why = "the application is stopped here: what it had written is in its volumes";
                DumpInPoint { left_out: Some(why.to_owned()), ..planned }
            }
            Some(young) => DumpInPoint {
                consistent_at: Some(Time(young.consistent_at)),
                snapshot: Some(young.snapshot.clone()),
                made_for: Some(young.point.clone()),
                bytes: young.bytes,
                ..planned
            },
            None => planned,
        }
    }

    /// One dump's next step: its mover, then its report.
    pub(super) fn advance_dump(&self, dump: &mut DumpInPoint, patience: u64, effects: &mut Vec<Effect>) {
        match self.seen.jobs.get(&dump::label(&dump.name)) {
            Some(JobSeen::Succeeded(report)) => self.record_dump(dump, report),
            Some(JobSeen::Failed { message, command, .. }) => {
                if let Some(ran) = command {
                    told(dump, ran);
                }
                dump.failure = Some(message.clone());
            }
            Some(JobSeen::Running(_)) => {}
            None => {
                let Some(declared) = self.application.spec.backup.dumps.iter().find(|it| it.name == dump.name) else {
                    dump.failure = Some("it was taken out of backup.dumps while the point was being made".to_owned());
                    return;
                };
                let point = self.point.status.as_ref().and_then(|it| it.id.clone()).unwrap_or_default();
                let task = dump::dump_task(declared, &self.app(), &self.seen.region, &point);
                let vault = self.shared_vault();
                let job = dump::job(self.movers, self.run, &vault, &dump.name, &task, patience);
                effects.push(Effect::Apply(Box::new(job)));
            }
        }
    }

    /// Takes over what a mover reported. A dump that is odd is kept, and does not count: one made by hand is meant.
    fn record_dump(&self, dump: &mut DumpInPoint, report: &Report) {
        let ran = report.command.clone().unwrap_or_default();
        told(dump, &ran);
        dump.bytes = report.bytes;
        dump.added_bytes = report.added_bytes;
        dump.duration_seconds = report.duration_seconds;
        dump.consistent_at = ran.started_at.map(Time);
        dump.snapshot.clone_from(&report.snapshot);
        let earlier = self.seen.dumps.get(&dump.name).map_or(&[][..], Vec::as_slice);
        let meant = self.point.spec.purpose == Purpose::Manual && dump.bytes > 0;
        dump.failure = match (&dump.snapshot, dump.consistent_at.is_some()) {
            (Some(_), true) => dump::odd(dump.bytes, earlier).filter(|_| !meant),
            (None, _) | (_, false) => Some("the mover ended without a snapshot".to_owned()),
        };
    }

    /// Whether nothing of the application runs here, so that no command can: what a region saves that has to stop.
    pub(super) fn stopped(&self) -> bool {
        let fenced = self.application.status.as_ref().is_some_and(|it| it.fence.is_some());
        self.point.spec.purpose == Purpose::Branch || fenced
    }
}

fn told(dump: &mut DumpInPoint, ran: &Ran) {
    dump.stderr = dump::stderr_told(ran);
    dump.exit_code = ran.exit_code;
    dump.pod = Some(ran.pod.clone()).filter(|it| !it.is_empty());
}

/// Whether nothing more is to be done about a dump.
pub(super) fn settled(dump: &DumpInPoint) -> bool {
    dump.snapshot.is_some() || dump.failure.is_some() || dump.left_out.is_some()
}

/// The dumps that the RPO counts from. One that was taken over is older than its point, as its owner allowed, and does
/// not count beside volumes; where there are none, and of a volume that it stands for, the data is in the dump alone.
pub(super) fn counting(status: &RecoveryPointStatus) -> impl Iterator<Item = &DumpInPoint> {
    let alone = status.volumes.iter().all(|it| it.snapshot.is_none());
    let stands = |name: &str| status.volumes.iter().any(|it| it.dump.as_deref() == Some(name));
    status.dumps.iter().filter(move |it| alone || it.made_for.is_none() || stands(&it.name))
}
