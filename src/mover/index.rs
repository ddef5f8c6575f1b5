//! What a repository has: every blob that its index names.

use std::collections::{HashMap, HashSet};

use rustic_core::repofile::{BlobType, IndexFile, IndexPack, PackId, Tree};
use rustic_core::{BlobId, FileType, Id, OpenStatus, ReadBackend, Repository, TreeId};

use super::engine::Engine;
use super::error::MoverError;

/// So many packs that are not in the list are asked for one by one.
const ASKED: usize = 100;

/// Where a blob lies in a pack.
#[derive(Clone, Copy)]
struct Place {
    pack: PackId,
    offset: u32,
    length: u32,
    plain_length: Option<u32>,
}

/// Names of blobs; of trees also their places.
pub(super) struct Index {
    /// Each with the number of its pack.
    data: Vec<(BlobId, u32)>,
    packs: Vec<PackId>,
    trees: HashMap<BlobId, Place>,
    /// What is in packs that a prune has marked, when it was asked for: readers do not look there.
    pub(super) marked: HashSet<BlobId>,
    /// Packs that are named and not there, when it was asked for.
    pub(super) missing_packs: Vec<String>,
}

impl Index {
    /// Reads the index. When the packs that are there are given with their sizes, what others hold does not count.
    pub(super) fn read(
        engine: &Engine,
        repository: &Repository<OpenStatus>,
        listed: Option<&HashMap<Id, u32>>,
    ) -> Result<Self, MoverError> {
        let mut index = Self::empty();
        for file in repository.stream_files::<IndexFile>().map_err(|error| engine.error(&error))? {
            let (_, file) = file.map_err(|error| engine.error(&error))?;
            for pack in file.packs {
                let there = match listed {
                    Some(listed) => index.has_pack(engine, listed, &pack)?,
                    None => true,
                };
                if !there {
                    index.missing_packs.push(pack.id.to_hex().as_str().to_owned());
                    continue;
                }
                index.add(pack, true);
            }
            if listed.is_some() {
                index.marked.extend(file.packs_to_delete.iter().flat_map(|pack| pack.blobs.iter().map(|blob| blob.id)));
            }
        }
        index.data.sort_unstable();
        Ok(index)
    }

    /// Whether a pack is there, and whole. One that is not in the list may be younger than it: a prune packs anew.
    fn has_pack(&self, engine: &Engine, listed: &HashMap<Id, u32>, pack: &IndexPack) -> Result<bool, MoverError> {
        let mut size = listed.get(&*pack.id).map(|size| u64::from(*size));
        if size.is_none() && self.missing_packs.len() < ASKED {
            size = engine.backend.size(FileType::Pack, &pack.id).map_err(|error| engine.error(&error))?;
        }
        Ok(size.is_some_and(|size| size >= u64::from(pack.pack_size())))
    }

    /// An index that names nothing.
    pub(super) fn empty() -> Self {
        Self {
            data: Vec::new(),
            packs: Vec::new(),
            trees: HashMap::new(),
            marked: HashSet::new(),
            missing_packs: Vec::new(),
        }
    }

    /// Takes over the directories that a file of the index names.
    pub(super) fn add_trees(&mut self, file: IndexFile) {
        for pack in file.packs {
            self.add(pack, false);
        }
    }

    fn add(&mut self, pack: IndexPack, data: bool) {
        let number = u32::try_from(self.packs.len()).expect("four thousand million packs fit no memory");
        if data {
            self.packs.push(pack.id);
        }
        for blob in pack.blobs {
            match blob.tpe {
                BlobType::Data if data => self.data.push((blob.id, number)),
                BlobType::Data => {}
                BlobType::Tree => {
                    let place = Place {
                        pack: pack.id,
                        offset: blob.location.offset,
                        length: blob.location.length,
                        plain_length: blob.location.uncompressed_length.map(Into::into),
                    };
                    self.trees.insert(blob.id, place);
                }
            }
        }
    }

    /// How many directories it names.
    pub(super) fn directories(&self) -> usize {
        self.trees.len()
    }

    /// How many bytes the list of a directory has; 0 when it is not named.
    pub(super) fn directory_bytes(&self, blob: BlobId) -> u32 {
        self.trees.get(&blob).map_or(0, |it| it.plain_length.unwrap_or(it.length))
    }

    pub(super) fn has_data(&self, blob: BlobId) -> bool {
        self.data.binary_search_by_key(&blob, |(id, _)| *id).is_ok()
    }

    /// A pack that holds this piece of a file.
    pub(super) fn pack_of_data(&self, blob: BlobId) -> Option<PackId> {
        let found = self.data.binary_search_by_key(&blob, |(id, _)| *id).ok()?;
        self.packs.get(self.data[found].1 as usize).copied()
    }

    /// The pack that the directory is read from.
    pub(super) fn pack_of_tree(&self, blob: BlobId) -> Option<PackId> {
        self.trees.get(&blob).map(|it| it.pack)
    }

    pub(super) fn has_tree(&self, blob: BlobId) -> bool {
        self.trees.contains_key(&blob)
    }

    /// Reads a directory.
    pub(super) fn tree(&self, engine: &Engine, id: TreeId) -> Result<Tree, MoverError> {
        serde_json::from_slice(&self.tree_text(engine, id)?).map_err(|_| damaged(id))
    }

    /// Reads a directory, as it was stored.
    pub(super) fn tree_text(&self, engine: &Engine, id: TreeId) -> Result<Vec<u8>, MoverError> {
        let place = self
            .trees
            .get(&BlobId::from(id))
            .ok_or_else(|| MoverError::Corrupt(format!("no index names the directory {}", id.to_hex().as_str())))?;
        let sealed = engine.backend.read_partial(FileType::Pack, &place.pack, true, place.offset, place.length);
        let sealed = sealed.map_err(|error| engine.error(&error))?;
        let mut text = Vec::new();
        if !engine.seal.open(&sealed, &mut text) {
            return Err(damaged(id));
        }
        if let Some(length) = place.plain_length {
            text = zstd::bulk::decompress(&text, length as usize).map_err(|_| damaged(id))?;
        }
        Ok(text)
    }
}

fn damaged(id: TreeId) -> MoverError {
    MoverError::Corrupt(format!("stored data is not what was written: directory {}", id.to_hex().as_str()))
}
