//! Which paths of a volume are meant, by patterns.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// How the line of a volume begins of which nothing lies under the paths that are wanted.
pub const FIT_NOTHING: &str = "volume";

/// What is told of such a volume.
#[must_use]
pub fn fit_nothing_of(claim: &str) -> String {
    format!("{FIT_NOTHING} {claim}: the point has no file under its paths")
}

/// Some paths of a volume, relative to its root. The default means none.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    patterns: GlobSet,
    /// Of each pattern, the names at its beginning that stand for themselves.
    begin: Vec<Vec<String>>,
}

impl Paths {
    /// Reads the patterns. `*` stands for letters of one name, `**` for any names.
    ///
    /// # Errors
    /// Says which pattern cannot be read, and why.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let (mut all, mut begin) = (GlobSetBuilder::new(), Vec::new());
        for pattern in patterns {
            let odd = |it: &str| matches!(it, "" | "." | "..");
            let plain = pattern.strip_suffix('/').unwrap_or(pattern);
            if plain.split('/').any(odd) {
                return Err(format!("'{pattern}': write a path from the volume's root, without '.', '..' and '//'"));
            }
            let glob = GlobBuilder::new(plain).literal_separator(true).build();
            all.add(glob.map_err(|error| format!("'{pattern}': {}", error.kind()))?);
            // A brace may hold a slash: what comes after it is not taken apart.
            let literal = |it: &&str| !it.contains(['*', '?', '[', ']', '{', '}', '\\', '!']);
            begin.push(plain.split('/').take_while(literal).map(ToOwned::to_owned).collect());
        }
        let patterns = all.build().map_err(|error| error.kind().to_string())?;
        Ok(Self { patterns, begin })
    }

    /// The same, no pattern meaning that everything is wanted, which is `None`.
    ///
    /// # Errors
    /// As `new`.
    pub fn some(patterns: &[String]) -> Result<Option<Self>, String> {
        if patterns.is_empty() { Ok(None) } else { Self::new(patterns).map(Some) }
    }

    /// Whether a path is meant. What lies below one that is, is so as well: that is for the caller to know.
    #[must_use]
    pub fn fit(&self, path: &Path) -> bool {
        self.patterns.is_match(path)
    }

    /// Whether something below a directory may be meant: others need not be looked into.
    #[must_use]
    pub fn may_hold(&self, directory: &Path) -> bool {
        self.begin.iter().any(|names| directory.iter().zip(names).all(|(name, begin)| name == begin.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    fn fit(pattern: &str, path: &str) -> bool {
        Paths::new(&[pattern.to_owned()]).unwrap().fit(Path::new(path))
    }

    #[test]
    fn a_star_stays_in_its_directory_and_two_do_not() {
        assert!(fit("conf/*.ini", "conf/app.ini") && !fit("conf/*.ini", "conf/old/app.ini"));
        assert!(fit("conf/**/app.ini", "conf/a/b/app.ini") && fit("conf/**/app.ini", "conf/app.ini"));
        assert!(fit("conf/", "conf") && !fit("conf", "confx") && !fit("onf", "conf"));
        assert!(fit("{a,b}/[xy]?", "b/y1") && !fit("{a,b}/[xy]?", "c/y1"));
    }

    #[test]
    fn a_directory_that_no_pattern_leads_into_is_not_looked_into() {
        let paths = Paths::new(&["conf/live/*.ini".to_owned(), "var/**/x".to_owned()]).unwrap();
        for there in ["conf", "conf/live", "conf/live/a", "var", "var/a/b"] {
            assert!(paths.may_hold(Path::new(there)), "{there}");
        }
        for other in ["con", "conf/old", "data", "data/conf"] {
            assert!(!paths.may_hold(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn names_that_are_no_utf8_fit_as_well() {
        let name = Path::new(OsStr::from_bytes(b"conf/\xff.ini"));
        assert!(Paths::new(&["conf/*.ini".to_owned()]).unwrap().fit(name));
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused_by_its_name() {
        for wrong in ["a/../b", "./a", "/a", "a//b", "a[", "{a"] {
            let refused = Paths::new(&["fine".to_owned(), wrong.to_owned()]).unwrap_err();
            assert!(refused.contains(wrong), "{refused}");
        }
    }
}
