//! What of a volume is left out of backups on request, and left alone by restores: what patterns fit, and what lies in a
//! directory with an entry `.nobackup`.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::error::MoverError;

/// A directory that has an entry of this name is stored with nothing but it, whereby a restore knows of it.
const MARK: &str = ".nobackup";

/// What is left out, and how much that was so far.
pub(super) struct Exclusions {
    patterns: Gitignore,
    excluded: AtomicU64,
    marked: AtomicU64,
}

impl Exclusions {
    /// Patterns as in a `.gitignore` that lies in `root`.
    pub(super) fn new(root: &Path, patterns: &[String]) -> Result<Self, MoverError> {
        let mut builder = GitignoreBuilder::new(root);
        for pattern in patterns {
            let added = builder.add_line(None, pattern);
            added.map_err(|error| MoverError::Task(format!("`exclude`, pattern `{pattern}`: {error}")))?;
        }
        let patterns = builder.build().map_err(|error| MoverError::Task(format!("`exclude`: {error}")))?;
        Ok(Self { patterns, excluded: AtomicU64::new(0), marked: AtomicU64::new(0) })
    }

    /// Whether a pattern fits.
    pub(super) fn fit(&self, path: &Path, is_dir: bool) -> bool {
        !self.patterns.is_empty() && self.patterns.matched(path, is_dir).is_ignore()
    }

    /// Whether a pattern leaves this out: counted, so ask once.
    pub(super) fn leave_out(&self, path: &Path, is_dir: bool) -> bool {
        let out = self.fit(path, is_dir);
        self.excluded.fetch_add(u64::from(out), Ordering::Relaxed);
        out
    }

    /// Of the names in a directory, those that are stored: of a marked one the mark alone. Counted, so ask once.
    pub(super) fn stored(&self, mut names: Vec<OsString>) -> Vec<OsString> {
        if names.iter().any(|it| it == MARK) {
            names.retain(|it| it == MARK);
            self.marked.fetch_add(1, Ordering::Relaxed);
        }
        names
    }

    /// How many entries patterns left out, each with what is in it; and how many directories were marked.
    pub(super) fn seen(&self) -> (u64, u64) {
        (self.excluded.load(Ordering::Relaxed), self.marked.load(Ordering::Relaxed))
    }
}

/// Whether a directory with these names is marked.
pub(super) fn is_marked<'a>(mut names: impl Iterator<Item = &'a OsStr>) -> bool {
    names.any(|it| it == MARK)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_a_gitignore() {
        let patterns = ["*.tmp", "/cache/", "logs/**/*.gz", "!keep.tmp", "[0-9]?", "spool"].map(str::to_owned);
        let exclusions = Exclusions::new(Path::new("/data"), &patterns).unwrap();
        let fit = |path: &[u8], is_dir| exclusions.fit(&Path::new("/data").join(OsStr::from_bytes(path)), is_dir);
        for (path, is_dir, expected) in [
            (&b"a.tmp"[..], false, true),
            (b"deep/er/\xff.tmp", false, true),
            (b"deep/keep.tmp", false, false),
            (b"cache", true, true),
            (b"cache", false, false),
            (b"deep/cache", true, false),
            (b"logs/a.gz", false, true),
            (b"logs/2027/01/a.gz", false, true),
            (b"other/logs/a.gz", false, false),
            (b"deep/7x", false, true),
            (b"deep/77x", false, false),
            (b"deep/spool", true, true),
            (b"spooler", false, false),
        ] {
            assert_eq!(fit(path, is_dir), expected, "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let wrong = Exclusions::new(Path::new("/data"), &["ok".to_owned(), "a[z-a]".to_owned()]);
        assert!(wrong.is_err_and(|error| error.to_string().contains("`a[z-a]`")));
    }
}
