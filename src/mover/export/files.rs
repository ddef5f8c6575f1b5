//! Walks the directories of a snapshot, for an export into a store: what is an object, and a line of JSON about everything.
//!
//! A line has what no object says: the kind, the mode, the owner, the time, where links lead, extended attributes. Memory
//! does not grow with the volume, but for a name of each file that has several.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use rustic_core::repofile::{Node, NodeType};
use rustic_core::{IndexedFull, Repository, TreeId};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::super::engine::Engine;
use super::super::error::MoverError;
use super::super::source::unix_mode;
use super::blobs;
use super::name::{encoded_link, encoded_path, fits};
use super::upload::{FILES, GROUP, Upload};
use crate::core::hex::hex;
use crate::core::paths::Paths;
use crate::vault::Part;

/// The list is sent in parts of this size.
const PART: usize = 8 << 20;

/// A line of the list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    /// Below the volume's root; percent-encoded as in keys.
    path: &'a str,
    kind: &'static str,
    /// The object with its content, below the export's prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// In octal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<jiff::Timestamp>,
    /// Where a symbolic link leads; percent-encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target: Option<String>,
    /// The path of the same file under its first name: this one has no object of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    hard_link_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
    /// Names, and values in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    extended_attributes: Option<serde_json::Value>,
}

/// A directory on the way.
struct Folder {
    path: PathBuf,
    nodes: std::vec::IntoIter<Node>,
    /// Whether all that is in it is exported. Otherwise it only lies on the way.
    whole: bool,
}

/// What was found, without directories.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// A walk. It gives groups of files that are to be stored.
pub(super) struct Files<'a, S> {
    engine: &'a Engine,
    repository: &'a Repository<S>,
    only: Option<&'a Paths>,
    /// The prefix of the export, and the keys of this volume below it.
    base: &'a str,
    claim: &'a str,
    stack: Vec<Folder>,
    linked: HashMap<(u64, u64), String>,
    held: Option<Upload>,
    list: BytesMut,
    lines: mpsc::Sender<Part>,
    /// Whether a part of the list was sent.
    parted: bool,
    pub(super) found: Found,
    /// Why it ended early.
    pub(super) failed: Option<MoverError>,
}

impl<'a, S: IndexedFull> Files<'a, S> {
    pub(super) fn new(
        (engine, repository): (&'a Engine, &'a Repository<S>),
        tree: TreeId,
        only: Option<&'a Paths>,
        (base, claim): (&'a str, &'a str),
        lines: mpsc::Sender<Part>,
    ) -> Result<Self, MoverError> {
        let mut walk = Self {
            engine,
            repository,
            only,
            base,
            claim,
            stack: Vec::new(),
            linked: HashMap::new(),
            held: None,
            list: BytesMut::new(),
            lines,
            parted: false,
            found: Found::default(),
            failed: None,
        };
        walk.enter(PathBuf::new(), tree, only.is_none())?;
        Ok(walk)
    }

    /// The rest of the list. Without this it is taken back.
    pub(super) fn finish(mut self) {
        let rest = self.list.split().freeze();
        if !rest.is_empty() || !self.parted {
            let _ = self.lines.blocking_send(Ok(rest));
        }
    }

    fn enter(&mut self, path: PathBuf, tree: TreeId, whole: bool) -> Result<(), MoverError> {
        self.engine.meter.step();
        let nodes = self.repository.get_tree(&tree).map_err(|error| self.engine.error(&error))?.nodes;
        for node in &nodes {
            let name = node.name();
            let bytes = name.as_encoded_bytes();
            if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|it| matches!(it, b'/' | 0)) {
                return Err(MoverError::Corrupt(format!("`{}` in `{}` is not a name", name.display(), path.display())));
            }
        }
        self.stack.push(Folder { path, nodes: nodes.into_iter(), whole });
        Ok(())
    }

    /// The next file that is to be an object.
    fn one(&mut self) -> Result<Option<Upload>, MoverError> {
        while let Some(folder) = self.stack.last_mut() {
            let Some(node) = folder.nodes.next() else {
                self.stack.pop();
                continue;
            };
            let path = folder.path.join(node.name());
            let whole = folder.whole || self.only.is_some_and(|it| it.fit(&path));
            let on_the_way = whole || self.only.is_some_and(|it| it.may_hold(&path));
            if let Some(tree) = node.subtree {
                if whole {
                    self.note(&encoded_path(&path), &node, None, None)?;
                }
                if on_the_way {
                    self.enter(path, tree, whole)?;
                }
            } else if whole && let Some(upload) = self.file(&path, &node)? {
                return Ok(Some(upload));
            }
        }
        Ok(None)
    }

    /// What is no directory: a line, and an object if it is a file that was not met under another name.
    fn file(&mut self, path: &Path, node: &Node) -> Result<Option<Upload>, MoverError> {
        self.found.files += 1;
        let path = encoded_path(path);
        if !node.is_file() {
            self.note(&path, node, None, None)?;
            self.engine.meter.files(1);
            return Ok(None);
        }
        let meta = &node.meta;
        if meta.links > 1 && meta.inode != 0 && meta.device_id != 0 {
            if let Some(first) = self.linked.get(&(meta.device_id, meta.inode)).cloned() {
                self.note(&path, node, None, Some(&first))?;
                self.engine.meter.files(1);
                return Ok(None);
            }
            self.linked.insert((meta.device_id, meta.inode), path.clone());
        }
        let below = self.below(&path);
        let places = blobs::places(self.engine, self.repository, node.content.as_deref().unwrap_or_default())?;
        let upload = Upload { key: format!("{}{below}", self.base), places };
        self.found.bytes += upload.bytes();
        self.note(&path, node, Some((&below, upload.bytes())), None)?;
        Ok(Some(upload))
    }

    /// The key below the export's prefix. One that no store takes is made of the path's hash; the list says whose it is.
    fn below(&self, path: &str) -> String {
        let below = format!("volumes/{}/{path}", self.claim);
        if fits(&below) { below } else { format!("long/{}/{}", self.claim, hex(&Sha256::digest(path))) }
    }

    fn note(
        &mut self,
        path: &str,
        node: &Node,
        object: Option<(&str, u64)>,
        hard_link_to: Option<&str>,
    ) -> Result<(), MoverError> {
        let attributes = &node.meta.extended_attributes;
        let attributes = (!attributes.is_empty()).then(|| serde_json::to_value(attributes)).transpose();
        let unsaid = |error: serde_json::Error| MoverError::Engine(error.to_string());
        let (kind, device) = match &node.node_type {
            NodeType::File => ("file", None),
            NodeType::Dir => ("directory", None),
            NodeType::Symlink { .. } => ("symlink", None),
            NodeType::Dev { device } => ("blockDevice", Some(*device)),
            NodeType::Chardev { device } => ("characterDevice", Some(*device)),
            NodeType::Fifo => ("fifo", None),
            NodeType::Socket => ("socket", None),
        };
        let line = Line {
            path,
            kind,
            key: object.map(|it| it.0),
            bytes: object.map(|it| it.1),
            mode: node.meta.mode.filter(|_| !node.is_symlink()).map(|it| format!("{:04o}", unix_mode(it))),
            uid: node.meta.uid,
            gid: node.meta.gid,
            modified: node.meta.mtime,
            link_target: node.is_symlink().then(|| encoded_link(node.node_type.to_link())),
            hard_link_to,
            device,
            extended_attributes: attributes.map_err(unsaid)?,
        };
        self.list.extend_from_slice(&serde_json::to_vec(&line).map_err(unsaid)?);
        self.list.extend_from_slice(b"\n");
        while self.list.len() >= PART {
            let part: Bytes = self.list.split_to(PART).freeze();
            self.parted = true;
            // A store that has failed is told by what stores the list.
            let _ = self.lines.blocking_send(Ok(part));
        }
        Ok(())
    }

    /// Files that are stored together, or a large one.
    fn group(&mut self) -> Result<Option<Vec<Upload>>, MoverError> {
        let mut group: Vec<Upload> = self.held.take().into_iter().collect();
        let mut bytes = group.iter().map(Upload::bytes).sum::<u64>();
        while group.len() < FILES && bytes <= GROUP {
            let Some(next) = self.one()? else { break };
            if !group.is_empty() && bytes + next.bytes() > GROUP {
                self.held = Some(next);
                break;
            }
            bytes += next.bytes();
            group.push(next);
        }
        Ok((!group.is_empty()).then_some(group))
    }
}

impl<S: IndexedFull> Iterator for Files<'_, S> {
    type Item = Vec<Upload>;

    fn next(&mut self) -> Option<Vec<Upload>> {
        if self.failed.is_some() {
            return None;
        }
        match self.group() {
            Ok(group) => group,
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }
}
