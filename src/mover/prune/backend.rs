//! The repository as a prune changes it: every change needs the lease, and indexes go oldest first.
//!
//! The order is what makes a kill harmless. An index may say that a pack is marked, and a newer one that it is needed
//! again: as long as the older one is there, the newer one is. The engine would remove them in any order, and the next
//! prune would take the older word for the last one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

use crate::vault::lease::Proof;
use crate::vault::repository::RepositoryBackend;

/// The backend of a prune. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct PruneBackend {
    inner: RepositoryBackend,
    proof: Proof,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Indexes that are replaced.
    old: Vec<Id>,
    /// Deletions that the vault refused.
    refused: u64,
    /// Whether an old index stays: no pack may go then, since it may name it.
    index_stays: bool,
}

impl PruneBackend {
    pub(super) fn new(inner: RepositoryBackend, proof: Proof) -> Self {
        Self { inner, proof, state: Arc::default() }
    }

    /// Whether the lease certainly stands.
    pub(super) fn proven(&self) -> bool {
        self.proof.valid()
    }

    /// How many deletions the vault refused.
    pub(super) fn refused(&self) -> u64 {
        self.state().refused
    }

    /// Removes the indexes that were replaced, oldest first.
    pub(super) fn settle(&self) -> RusticResult<()> {
        let mut state = self.state();
        if state.old.is_empty() {
            return Ok(());
        }
        let written: HashMap<Id, _> =
            self.inner.files(FileType::Index)?.into_iter().map(|(id, _, written)| (id, written)).collect();
        let mut old = std::mem::take(&mut state.old);
        old.sort_by_key(|id| written.get(id).copied());
        for id in old {
            self.prove()?;
            if !self.inner.delete(FileType::Index, &id)? {
                state.refused += 1;
                state.index_stays = true;
                break;
            }
        }
        Ok(())
    }

    fn prove(&self) -> RusticResult<()> {
        if self.proven() {
            return Ok(());
        }
        Err(RusticError::new(
            ErrorKind::Backend,
            "the lease was lost, or could not be renewed: nothing more is changed",
        ))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadBackend for PruneBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.inner.list_with_size(kind)
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        self.inner.read_full(kind, id)
    }

    fn read_partial(&self, kind: FileType, id: &Id, cacheable: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        self.inner.read_partial(kind, id, cacheable, offset, length)
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        self.inner.warmup_path(kind, id)
    }
}

impl WriteBackend for PruneBackend {
    fn write_bytes(&self, kind: FileType, id: &Id, cacheable: bool, content: BytesList) -> RusticResult<()> {
        self.prove()?;
        self.inner.write_bytes(kind, id, cacheable, content)
    }

    fn remove(&self, kind: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        self.prove()?;
        match kind {
            FileType::Index => {
                self.state().old.push(*id);
                return Ok(());
            }
            // The engine removes packs when all indexes are replaced.
            FileType::Pack => {
                self.settle()?;
                if self.state().index_stays {
                    return Ok(());
                }
            }
            FileType::Snapshot => {}
            FileType::Config | FileType::Key => {
                return Err(RusticError::new(ErrorKind::Internal, "a prune removes no keys"));
            }
        }
        if !self.inner.delete(kind, id)? {
            self.state().refused += 1;
        }
        Ok(())
    }
}
