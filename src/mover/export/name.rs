//! Names of files as names in object storage: whatever a name is made of, its key is plain text, and says it.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The most bytes of one name of a key: what file systems allow.
const NAME: usize = 255;
/// The most bytes of a key below the vault's prefix: stores allow 1024 with it.
const KEY: usize = 800;

/// A name as a part of a key: letters, digits and `-_.~+=@,` stand for themselves, every other byte is percent-encoded. So
/// are dots at the end, which Azure would leave out.
pub(super) fn encoded(name: &OsStr) -> String {
    let mut text = escaped(name, "-_.~+=@,");
    let dots = text.len() - text.trim_end_matches('.').len();
    text.truncate(text.len() - dots);
    text.push_str(&"%2E".repeat(dots));
    text
}

/// A path, each of its names encoded.
pub(super) fn encoded_path(path: &Path) -> String {
    path.iter().map(encoded).collect::<Vec<_>>().join("/")
}

/// Where a symbolic link leads. That is no key: its slashes and dots stay.
pub(super) fn encoded_link(target: &Path) -> String {
    escaped(target.as_os_str(), "-_.~+=@,/")
}

fn escaped(name: &OsStr, plain: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_alphanumeric() || plain.contains(letter) {
                text.push(letter);
            } else {
                escape(letter.encode_utf8(&mut [0; 4]).as_bytes(), &mut text);
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

/// Whether a store takes such a key.
pub(super) fn fits(key: &str) -> bool {
    key.len() <= KEY && key.split('/').all(|it| it.len() <= NAME)
}

fn escape(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        let _ = write!(text, "%{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Vec<u8> {
        let (mut bytes, mut at) = (Vec::new(), 0);
        while at < text.len() {
            if text.as_bytes()[at] == b'%' {
                bytes.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
                at += 3;
            } else {
                bytes.push(text.as_bytes()[at]);
                at += 1;
            }
        }
        bytes
    }

    #[test]
    fn every_name_has_a_key_of_its_own_that_says_it() {
        let names: [(&[u8], &str); 7] = [
            (b"app-1.2_x~y+z=@,ini", "app-1.2_x~y+z=@,ini"),
            ("Größe".as_bytes(), "Größe"),
            (b"100% of a/b", "100%25%20of%20a%2Fb"),
            (b"not\xffutf8\xc3", "not%FFutf8%C3"),
            (b"line\nbreak\x01?#\\", "line%0Abreak%01%3F%23%5C"),
            (b"ends...", "ends%2E%2E%2E"),
            (b"%41", "%2541"),
        ];
        for (name, key) in names {
            assert_eq!(encoded(OsStr::from_bytes(name)), key);
            assert_eq!(decoded(key), name);
        }
        assert_eq!(encoded_path(Path::new("a b/c.")), "a%20b/c%2E");
        assert_eq!(encoded_link(Path::new("/a/../b c")), "/a/../b%20c");
    }

    #[test]
    fn a_key_that_no_store_takes_is_known() {
        assert!(fits(&format!("a/{}", "x".repeat(255))) && !fits(&"x".repeat(256)));
        assert!(!fits(&["x"; 401].join("/")));
    }
}
