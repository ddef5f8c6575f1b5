//! Gives what was restored its owner, mode, extended attributes and times. What can't be set is a warning.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustic_core::repofile::{Metadata, Node};
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::log::Witness;
use super::super::source::unix_mode;

/// The most bytes of the names of a file's attributes, and of the value of one: what Linux allows.
const LIMIT: usize = 64 * 1024;

/// Of an open file or directory. Its path is for warnings.
pub(super) fn set(file: &File, path: &Path, node: &Node, witness: &Witness) {
    let meta = &node.meta;
    let (owner, group) = owners(meta);
    say(witness, path, "setting UID/GID", rustix::fs::fchown(file, owner, group).map_err(Into::into));
    if let Some(mode) = meta.mode {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(unix_mode(mode));
        say(witness, path, "chmod", file.set_permissions(Permissions::clone(&permissions)));
    }
    say(witness, path, "setting extended attributes", set_extended(&Open(file), node));
    if let Some(times) = times(meta) {
        say(witness, path, "setting file times", rustix::fs::futimens(file, &times).map_err(Into::into));
    }
}

/// Of something that can't be opened: a link, a device, a fifo, a socket.
pub(super) fn set_special(path: &Path, node: &Node, witness: &Witness) {
    let meta = &node.meta;
    let (owner, group) = owners(meta);
    let here = AtFlags::SYMLINK_NOFOLLOW;
    say(witness, path, "setting UID/GID", rustix::fs::chownat(CWD, path, owner, group, here).map_err(Into::into));
    if let (Some(mode), false) = (meta.mode, node.is_symlink()) {
        let permissions: Permissions = std::os::unix::fs::PermissionsExt::from_mode(unix_mode(mode));
        say(witness, path, "chmod", std::fs::set_permissions(path, permissions));
    }
    say(witness, path, "setting extended attributes", set_extended(&Named(path), node));
    if let Some(times) = times(meta) {
        let outcome = rustix::fs::utimensat(CWD, path, &times, here);
        say(witness, path, "setting file times", outcome.map_err(Into::into));
    }
}

fn say(witness: &Witness, path: &Path, what: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        witness.note(&format!("restore {}: {what} failed: {}", path.display(), error.kind()));
    }
}

fn owners(meta: &Metadata) -> (Option<Uid>, Option<Gid>) {
    (meta.uid.map(Uid::from_raw), meta.gid.map(Gid::from_raw))
}

fn times(meta: &Metadata) -> Option<Timestamps> {
    let spec = |time: jiff::Timestamp| {
        let nanoseconds = time.as_nanosecond().rem_euclid(1_000_000_000);
        let seconds = time.as_nanosecond().div_euclid(1_000_000_000);
        // Both fit: a timestamp has years up to 9999.
        Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: i64::try_from(nanoseconds).unwrap_or(0) }
    };
    let modified = meta.mtime?;
    Some(Timestamps { last_access: spec(meta.atime.unwrap_or(modified)), last_modification: spec(modified) })
}

/// Whatever has extended attributes.
trait Attributed {
    fn list(&self, buffer: &mut [u8]) -> rustix::io::Result<usize>;
    fn get(&self, name: &str, buffer: &mut [u8]) -> rustix::io::Result<usize>;
    fn set(&self, name: &str, value: &[u8]) -> rustix::io::Result<()>;
    fn remove(&self, name: &str) -> rustix::io::Result<()>;
}

struct Open<'a>(&'a File);

impl Attributed for Open<'_> {
    fn list(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        rustix::fs::flistxattr(self.0.as_fd(), buffer)
    }

    fn get(&self, name: &str, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        rustix::fs::fgetxattr(self.0.as_fd(), name, buffer)
    }

    fn set(&self, name: &str, value: &[u8]) -> rustix::io::Result<()> {
        rustix::fs::fsetxattr(self.0.as_fd(), name, value, XattrFlags::empty())
    }

    fn remove(&self, name: &str) -> rustix::io::Result<()> {
        rustix::fs::fremovexattr(self.0.as_fd(), name)
    }
}

struct Named<'a>(&'a Path);

impl Attributed for Named<'_> {
    fn list(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        rustix::fs::llistxattr(self.0, buffer)
    }

    fn get(&self, name: &str, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        rustix::fs::lgetxattr(self.0, name, buffer)
    }

    fn set(&self, name: &str, value: &[u8]) -> rustix::io::Result<()> {
        rustix::fs::lsetxattr(self.0, name, value, XattrFlags::empty())
    }

    fn remove(&self, name: &str) -> rustix::io::Result<()> {
        rustix::fs::lremovexattr(self.0, name)
    }
}

/// Sets those that the node has, and removes others.
fn set_extended(of: &impl Attributed, node: &Node) -> io::Result<()> {
    let wanted = &node.meta.extended_attributes;
    let mut names = vec![0; if wanted.is_empty() { 256 } else { LIMIT }];
    let length = match of.list(&mut names) {
        Err(Errno::RANGE) => {
            names.resize(LIMIT, 0);
            of.list(&mut names)?
        }
        // A file system that knows none.
        Err(Errno::NOTSUP) if wanted.is_empty() => return Ok(()),
        other => other?,
    };
    let mut outcome = Ok(());
    let mut keep = |result: rustix::io::Result<()>| {
        if let Err(error) = result {
            outcome = Err(error.into());
        }
    };
    let there: Vec<_> = names[..length].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    for name in there.iter().filter(|name| !name.is_empty() && !wanted.iter().any(|it| it.name == **name)) {
        keep(of.remove(name));
    }
    let mut buffer = vec![0; if wanted.is_empty() { 0 } else { LIMIT }];
    for attribute in wanted {
        let value = attribute.value.as_deref().unwrap_or_default();
        let same = there.iter().any(|name| **name == attribute.name)
            && of.get(&attribute.name, &mut buffer).is_ok_and(|length| &buffer[..length] == value);
        if !same {
            keep(of.set(&attribute.name, value));
        }
    }
    outcome
}
