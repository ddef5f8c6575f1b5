//! Removes from an application's repository and catalogue what no point needs.
//!
//! What is garbage follows from the catalogue alone: a snapshot or a manifest that no point names, and that is older
//! than any backup takes to write its point. One point that cannot be read, and nothing is removed.
//!
//! One mover at a time prunes a repository: a lease in the vault. Backups and restores go on beside it, since nothing
//! that they may have found disappears under them: packs that nothing needs are only marked, and removed by a later
//! prune, `keep` after they were marked, if still nothing needs them. A backup that was made meanwhile of data that
//! was just marked is made again (`check`), or the mark is taken back at the end of this run, or of the next one. It may
//! be killed at any time: `backend` removes the old indexes in an order that no half of them misleads.

mod backend;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Span, Timestamp};
use rustic_core::{FileType, LimitOption, OpenStatus, PruneOptions, PrunePlan, Repository, WriteBackend};
use tokio::sync::Mutex;

use self::backend::PruneBackend;
use super::engine::Engine;
use super::error::{MoverError, plain};
use crate::core::mover_task::{Pruned, Report};
use crate::vault::Vault;
use crate::vault::catalogue::CatalogueError;
use crate::vault::lease::{EXPIRY, Lease, LeaseError};

/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(15);
/// How far this machine's clock may be from the vault's: marks bear this one's time.
const SKEW: SignedDuration = SignedDuration::from_mins(10);
/// How many points are read at a time.
const AT_ONCE: usize = 16;
/// How often marks are taken back that a backup overtook.
const ROUNDS: u32 = 5;
/// How often a plan is made that a backup may have overtaken.
const PLANS: u32 = 6;
/// The pause before it is made once more.
const PAUSE: Duration = Duration::from_secs(1);
/// The most that is packed anew in one run: it is read and written once, and the run must end within its deadline.
const REPACK: u64 = 4 * 1024 * 1024 * 1024;
/// So many per cent of a repository may be unneeded parts of packs.
const UNUSED_PERCENT: u64 = 10;

/// What is to be pruned.
pub(super) struct Prune<'a> {
    pub(super) vault: &'a Vault,
    pub(super) namespace: &'a str,
    pub(super) application: &'a str,
    pub(super) region: &'a str,
    /// How long what nothing names is kept.
    pub(super) keep: Duration,
}

impl Prune<'_> {
    /// Prunes, under the lease.
    pub(super) fn run(&self, engine: &Engine) -> Result<Report, MoverError> {
        let runtime = engine.runtime();
        engine.meter.phase("waiting for the lease");
        let key = format!("apps/{}/{}/prune.json", self.namespace, self.application);
        let lease = runtime.block_on(Lease::take(self.vault.store(), &key, self.region, EXPIRY))?;
        let proof = lease.proof();
        let lease = Arc::new(Mutex::new(lease));
        let renewals = runtime.spawn(renew(Arc::clone(&lease)));
        let backend = PruneBackend::new(engine.backend.clone(), proof);
        let outcome = self.under_lease(engine, &backend, &key);
        renewals.abort();
        runtime.block_on(async { lease.lock().await.give_back().await });
        let mut pruned = outcome?;
        pruned.refused += backend.refused();
        Ok(Report { pruned: Some(pruned), ..Report::default() })
    }

    fn under_lease(&self, engine: &Engine, backend: &PruneBackend, lease: &str) -> Result<Pruned, MoverError> {
        let runtime = engine.runtime();
        let now = runtime.block_on(self.vault_time(lease))?;
        let oldest = now - SignedDuration::try_from(self.keep).unwrap_or(SignedDuration::MAX);
        engine.meter.phase("reading the points");
        let named = runtime.block_on(self.named(engine))?;
        let mut pruned = Pruned::default();
        if engine.exists()? {
            engine.meter.phase("removing snapshots");
            for (id, _, written) in engine.backend.files(FileType::Snapshot).map_err(|error| engine.error(&error))? {
                if written <= oldest && !named.snapshots.contains(id.to_hex().as_str()) {
                    backend.remove(FileType::Snapshot, &id, true).map_err(|error| engine.error(&error))?;
                    pruned.snapshots += 1;
                }
            }
            self.packs(engine, backend, &mut pruned)?;
        }
        runtime.block_on(self.notes(&named, backend))?;
        engine.meter.phase("removing manifests");
        runtime.block_on(self.manifests(&named, oldest, backend, &mut pruned))?;
        Ok(pruned)
    }

    /// The present by the vault's clock, which all ages are counted by. This machine's must agree: marks bear its time.
    async fn vault_time(&self, lease: &str) -> Result<Timestamp, MoverError> {
        let found = self.vault.store().find(lease).await.map_err(LeaseError::Store)?;
        let lost = || MoverError::Lease(LeaseError::Lost { key: lease.to_owned() });
        let written = found.ok_or_else(lost)?.modified;
        let here = Timestamp::now();
        if here.duration_since(written).abs() > SKEW {
            let what = format!("this machine's clock says {here}, the vault's {written}");
            return Err(MoverError::Catalogue(what));
        }
        Ok(written)
    }

    /// What points name. A point that cannot be read may name anything.
    async fn named(&self, engine: &Engine) -> Result<Named, MoverError> {
        let (vault, namespace, application) = (self.vault, self.namespace, self.application);
        let ids = vault.all_points(namespace, application).await.map_err(|error| unreadable(&error))?;
        let mut named = Named { points: ids.iter().cloned().collect(), ..Named::default() };
        for some in ids.chunks(AT_ONCE) {
            for read in join_all(some.iter().map(|id| vault.read_point(namespace, application, id))).await {
                let point = match read {
                    Ok(point) => point,
                    // Retention dropped it since it was listed.
                    Err(CatalogueError::Absent { .. }) => continue,
                    Err(error) => return Err(unreadable(&error)),
                };
                named.snapshots.extend(point.snapshots().map(|(_, snapshot)| snapshot.to_owned()));
                named.manifests.insert(point.objects.manifest);
            }
            engine.meter.step();
        }
        Ok(named)
    }

    async fn manifests(
        &self,
        named: &Named,
        oldest: Timestamp,
        backend: &PruneBackend,
        pruned: &mut Pruned,
    ) -> Result<(), MoverError> {
        let (vault, namespace, application) = (self.vault, self.namespace, self.application);
        let all = vault.all_manifests(namespace, application).await.map_err(|error| unreadable(&error))?;
        for it in all.iter().filter(|it| it.modified <= oldest && !named.manifests.contains(&it.key)) {
            if !backend.proven() {
                return Err(MoverError::Lease(LeaseError::Lost { key: "prune.json".to_owned() }));
            }
            let deleted = vault.delete_manifest(namespace, application, it).await;
            if deleted.map_err(|error| unreadable(&error))? {
                pruned.manifests += 1;
                pruned.reclaimed_bytes += it.bytes;
            } else {
                pruned.refused += 1;
            }
        }
        Ok(())
    }

    /// What was found out about points that are gone.
    async fn notes(&self, named: &Named, backend: &PruneBackend) -> Result<(), MoverError> {
        let (vault, namespace, application) = (self.vault, self.namespace, self.application);
        for (id, _) in vault.list_verified(namespace, application).await.map_err(|error| unreadable(&error))? {
            if backend.proven() && !named.points.contains(&id) {
                vault.forget_verified(namespace, application, &id).await.map_err(|error| unreadable(&error))?;
            }
        }
        Ok(())
    }

    /// Marks packs that nothing needs, removes those that were marked long ago, and packs anew what is half empty.
    fn packs(&self, engine: &Engine, backend: &PruneBackend, pruned: &mut Pruned) -> Result<(), MoverError> {
        let options = self.options();
        for round in 0..ROUNDS {
            engine.meter.phase("looking for data that nothing needs");
            let (repository, plan) = plan(engine, backend, &options)?;
            let (marked, sizes) = (plan.stats.size_to_delete, plan.stats.size_sum());
            let found = (sizes.remove + sizes.repack, plan.stats.packs.unused + plan.stats.packs.repack);
            tracing::info!(round, ?marked, ?sizes, "planned");
            // After the first round, only marks are looked for that a backup overtook.
            if round > 0 && plan.stats.packs_to_delete.recover == 0 {
                break;
            }
            pruned.reclaimed_bytes += marked.remove;
            pruned.pending_bytes = marked.keep + found.0 + plan.stats.size_unref;
            repository.prune(&options, plan).map_err(|error| engine.error(&error))?;
            backend.settle().map_err(|error| engine.error(&error))?;
            if round == 0 && found.1 == 0 {
                break;
            }
        }
        Ok(())
    }

    fn options(&self) -> PruneOptions {
        let keep = Span::new().seconds(i64::try_from(self.keep.as_secs()).unwrap_or(i64::MAX / 1_000_000));
        PruneOptions::default()
            // A running backup's packs belong to no snapshot yet.
            .keep_pack(keep)
            .keep_delete(keep)
            .max_repack(LimitOption::Size(bytesize::ByteSize(REPACK)))
            .max_unused(LimitOption::Percentage(UNUSED_PERCENT))
            .fast_repack(true)
    }
}

/// The engine reads the indexes, then the snapshots: one that was made in between is of an index that it has not seen.
/// It is right to refuse then, and finds both the next time.
fn plan(
    engine: &Engine,
    backend: &PruneBackend,
    options: &PruneOptions,
) -> Result<(Repository<OpenStatus>, PrunePlan), MoverError> {
    let mut tries = PLANS;
    loop {
        tries -= 1;
        let repository = engine.open_on(backend.clone())?;
        match repository.prune_plan(options) {
            Ok(plan) => return Ok((repository, plan)),
            Err(error) => {
                let health = engine.health();
                if tries == 0 || health.corrupt().is_some() || health.failure().is_some() {
                    return Err(engine.error(&error));
                }
                tracing::warn!(error = plain(&error), "a backup may have ended meanwhile: planned once more");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// The points, and what they name.
#[derive(Default)]
struct Named {
    points: HashSet<String>,
    snapshots: HashSet<String>,
    manifests: HashSet<String>,
}

fn unreadable(error: &CatalogueError) -> MoverError {
    match error {
        CatalogueError::Store(error) => MoverError::Vault(error.clone().into()),
        other => MoverError::Catalogue(other.to_string()),
    }
}

async fn renew(lease: Arc<Mutex<Lease>>) {
    loop {
        tokio::time::sleep(RENEW).await;
        if let Err(error) = lease.lock().await.renew().await {
            tracing::error!(%error, "nothing more is removed");
            return;
        }
    }
}
