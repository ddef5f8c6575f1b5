//! Files as objects of a store: small ones together as they are read, each as one object; large ones in parts.
//!
//! What is in memory is bounded: twelve groups of small files of 4 MiB, and the parts of three large files, or of a very large
//! one.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use rustic_core::Progress;
use tokio::sync::{Semaphore, mpsc};

use super::super::engine::Engine;
use super::super::error::MoverError;
use super::super::pieces::Opener;
use super::blobs::{self, Place};
use crate::vault::limits::Limits;
use crate::vault::{Part, Store};

/// How many groups are under way at most.
pub(super) const AT_ONCE: usize = 12;
/// The bytes of a group's files, and how many they may be.
pub(super) const GROUP: u64 = 4 << 20;
pub(super) const FILES: usize = 64;
/// A part of a large file, and how many of them an object may have: S3 takes 10 000.
const PART: u64 = 8 << 20;
const PARTS: u64 = 9_000;
/// The largest part, so that a file may have some 600 GB.
const LARGEST_PART: u64 = 64 << 20;
/// How many large files are under way at once.
const LARGE: u32 = 3;

/// A file that is to be an object.
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) places: Vec<Place>,
}

impl Upload {
    pub(super) fn bytes(&self) -> u64 {
        self.places.iter().map(Place::bytes).sum()
    }
}

/// What uploads.
pub(super) struct Uploads<'a> {
    pub(super) engine: &'a Engine,
    pub(super) store: &'a Store,
    pub(super) limits: &'a Limits,
    pub(super) progress: &'a Progress,
    /// Whether an export before this one may have stored some of it.
    pub(super) again: bool,
    large: Semaphore,
}

impl<'a> Uploads<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        (store, limits): (&'a Store, &'a Limits),
        progress: &'a Progress,
        again: bool,
    ) -> Self {
        Self { engine, store, limits, progress, again, large: Semaphore::new(LARGE as usize) }
    }

    /// Stores some files; returns how many bytes were sent. One that is there already is of this export: an object is there
    /// as a whole or not at all.
    pub(super) fn send(&self, mut files: Vec<Upload>, opener: &mut Opener) -> Result<u64, MoverError> {
        if self.again {
            let mut missing = Vec::new();
            for file in files {
                if self.is_there(&file)? {
                    self.done(file.bytes());
                } else {
                    missing.push(file);
                }
            }
            files = missing;
        }
        let bytes = files.iter().map(Upload::bytes).sum();
        match files.as_slice() {
            [] => {}
            [large] if large.bytes() > GROUP => self.large(large, opener)?,
            small => self.small(small, opener)?,
        }
        Ok(bytes)
    }

    fn is_there(&self, file: &Upload) -> Result<bool, MoverError> {
        let found = self.engine.runtime().block_on(self.store.find(&file.key)).map_err(store_error)?;
        Ok(found.is_some_and(|it| it.bytes == file.bytes()))
    }

    fn done(&self, bytes: u64) {
        self.progress.inc(bytes);
        self.engine.meter.files(1);
    }

    fn small(&self, files: &[Upload], opener: &mut Opener) -> Result<(), MoverError> {
        let places: Vec<Place> = files.iter().flat_map(|it| &it.places).copied().collect();
        let mut texts = blobs::read(self.engine, &places, opener)?.into_iter();
        for file in files {
            let text: Vec<u8> = texts.by_ref().take(file.places.len()).flatten().collect();
            self.put(&file.key, text.into())?;
            self.done(file.bytes());
        }
        Ok(())
    }

    /// Stores one object, whatever is there.
    pub(super) fn put(&self, key: &str, text: Bytes) -> Result<(), MoverError> {
        self.engine.runtime().block_on(async {
            self.limits.upload(text.len() as u64).await;
            self.store.put(key, text).await.map_err(store_error)
        })
    }

    fn large(&self, file: &Upload, opener: &mut Opener) -> Result<(), MoverError> {
        let (bytes, part) = (file.bytes(), part_size(file)?);
        let runtime = self.engine.runtime();
        let weight = if part > PART { LARGE } else { 1 };
        let _turn = runtime.block_on(self.large.acquire_many(weight)).expect("it is never closed");
        let (sender, mut parts) = mpsc::channel::<Part>(1);
        let (store, key) = (self.store.clone(), file.key.clone());
        let storing = runtime.spawn(async move { store.put_parts(&key, bytes, &mut parts).await });
        let read = self.feed(file, part, &sender, opener);
        if let Err(error) = &read {
            // What was sent is taken back.
            let _ = sender.blocking_send(Err(error.to_string()));
        }
        drop(sender);
        let stored = runtime.block_on(storing).map_err(|error| MoverError::Engine(error.to_string()))?;
        read?;
        stored.map_err(store_error)?;
        self.engine.meter.files(1);
        Ok(())
    }

    /// Reads a file from its packs, and hands it on in parts of one size.
    fn feed(&self, file: &Upload, part: u64, to: &mpsc::Sender<Part>, opener: &mut Opener) -> Result<(), MoverError> {
        let part = usize::try_from(part).unwrap_or(usize::MAX);
        let mut waiting: VecDeque<Place> = file.places.iter().copied().collect();
        let mut held = BytesMut::new();
        while !waiting.is_empty() {
            let (mut group, mut bytes) = (Vec::new(), 0);
            while let Some(next) = waiting.front().copied().filter(|_| bytes < GROUP) {
                bytes += next.bytes();
                group.push(next);
                waiting.pop_front();
            }
            for text in blobs::read(self.engine, &group, opener)? {
                held.extend_from_slice(&text);
            }
            self.progress.inc(bytes);
            while held.len() >= part || (waiting.is_empty() && !held.is_empty()) {
                let next = held.split_to(part.min(held.len())).freeze();
                self.engine.runtime().block_on(self.limits.upload(next.len() as u64));
                if to.blocking_send(Ok(next)).is_err() {
                    // The store has failed: that error counts.
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The size of the parts of a file.
fn part_size(file: &Upload) -> Result<u64, MoverError> {
    let part = file.bytes().div_ceil(PARTS).next_multiple_of(1 << 20).max(PART);
    if part <= LARGEST_PART {
        return Ok(part);
    }
    let (bytes, most) = (file.bytes(), LARGEST_PART * PARTS);
    let what = format!("{} has {bytes} bytes, and an object may have {most}", file.key);
    Err(MoverError::Task(format!("{what}: leave it out by `only.volumes[].paths`, or export into a claim")))
}

pub(super) fn store_error(error: crate::vault::StoreError) -> MoverError {
    MoverError::Vault(error.into())
}
