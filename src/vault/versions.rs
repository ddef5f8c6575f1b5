//! Versions of objects: what lay in a bucket at a time, and how it comes back.
//!
//! Whoever has the credentials can hide a version, not remove one that is locked. A version comes back as a new one on
//! top, a copy that the server makes; nothing is removed. Claims and heads say what is so now, and never come back.

use std::collections::VecDeque;

use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use serde::Deserialize;

use super::object_lock::is_locked;
use super::requests::{Asked, Requests, Signer};
use super::{Store, StoreError, wraps};
use crate::core::rewound::{Change, Difference, Rewound};

/// How many copies are under way at once.
const AT_ONCE: usize = 8;
/// How many versions one object has at most: those of one are held together.
const VERSIONS_LIMIT: usize = 100_000;

/// One page of versions, newest first within each key, as S3 answers it.
#[derive(Deserialize, Debug)]
pub struct Page {
    #[serde(rename = "IsTruncated", default)]
    truncated: bool,
    #[serde(rename = "NextKeyMarker", default)]
    next_key: String,
    #[serde(rename = "NextVersionIdMarker", default)]
    next_version: String,
    #[serde(rename = "$value", default)]
    entries: Vec<Entry>,
}

#[derive(Deserialize, Debug)]
enum Entry {
    Version(Version),
    DeleteMarker(Version),
    #[serde(other)]
    Other,
}

/// A version of an object, or of its absence.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
struct Version {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "VersionId")]
    id: String,
    #[serde(rename = "LastModified")]
    modified: Timestamp,
    /// Absent in a delete marker.
    #[serde(rename = "ETag", default)]
    tag: Option<String>,
}

/// To when a vault is rewound, and how.
#[derive(Clone, Debug)]
pub struct Rewind {
    /// The time.
    pub at: Timestamp,
    /// The id of a key: its wrap comes back as well.
    pub key: String,
    /// All wraps come back: a key that was retired since opens the vault again.
    pub all_keys: bool,
    /// Bring back what differs, and not only tell of it.
    pub apply: bool,
}

impl Rewind {
    /// Whether this object comes back: what is locked, but of the wraps of keys only those that are wanted.
    fn concerns(&self, key: &str) -> bool {
        let unwanted = wraps::id_of(key).is_some_and(|id| id != self.key && !self.all_keys);
        is_locked(key) && !unwanted
    }
}

/// The version that was current at a time, if it is not what is current now. `versions` are those of one key, newest
/// first.
fn lost_since(versions: &[Version], at: Timestamp) -> Lookup {
    let (Some(now), Some(then)) = (versions.first(), versions.iter().find(|it| it.modified <= at)) else {
        return Lookup::NotThere;
    };
    match (&then.tag, &now.tag) {
        (None, _) => Lookup::NotThere,
        (Some(_), None) => Lookup::Lost(then.clone(), Change::Deleted, now.modified),
        (Some(then), Some(now)) if then == now => Lookup::Same,
        // The first that hid it tells when it happened best; all of them came after `at`.
        (Some(_), Some(_)) => Lookup::Lost(then.clone(), Change::Overwritten, now.modified),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Lookup {
    /// There was none at that time.
    NotThere,
    /// It is what it was.
    Same,
    /// It was this version, and is not now.
    Lost(Version, Change, Timestamp),
}

impl Store {
    /// Compares the objects that recovery is made of with what they were at a time, and with `apply` brings those
    /// versions back. Nothing is removed; what was made since stays. Memory does not grow with the vault.
    ///
    /// # Errors
    /// `Other` when this store keeps no versions; any other `StoreError` but `Lost`.
    pub async fn rewind(&self, wanted: &Rewind) -> Result<Rewound, StoreError> {
        let versions = match self {
            Self::Bucket(bucket) => bucket.versions(),
            Self::Directory(_) => None,
            #[cfg(test)]
            Self::Fake(_) => None,
        };
        let of_s3 = versions.filter(|(requests, _)| matches!(requests.signer(), Signer::S3 { .. }));
        let (requests, prefix) = of_s3.ok_or_else(|| {
            StoreError::Other("this vault keeps no versions of objects: only a bucket of S3 does".to_owned())
        })?;
        let mut rewound = Rewound::default();
        for part in ["apps/", "keys/", "repos/", "reprise.json"] {
            rewind_part(requests, prefix, part, wanted, &mut rewound).await?;
        }
        Ok(rewound)
    }
}

async fn rewind_part(
    requests: &Requests,
    prefix: &str,
    part: &str,
    wanted: &Rewind,
    rewound: &mut Rewound,
) -> Result<(), StoreError> {
    let mut pages = Pages::new(requests, format!("{prefix}{part}"));
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        let mut lost = Vec::new();
        for versions in page.chunk_by(|a, b| a.key == b.key) {
            let Some(key) = versions[0].key.strip_prefix(prefix).filter(|key| wanted.concerns(key)) else { continue };
            match lost_since(versions, wanted.at) {
                Lookup::NotThere => {}
                Lookup::Same => rewound.objects += 1,
                Lookup::Lost(version, change, since) => {
                    rewound.note(Difference { key: key.to_owned(), change, at: since });
                    lost.push(version);
                }
            }
        }
        if wanted.apply {
            let copies = stream::iter(lost).map(|version| bring_back(requests, version));
            rewound.restored += copies.buffer_unordered(AT_ONCE).try_fold(0, async |sum, ()| Ok(sum + 1)).await?;
        }
    }
}

/// Has the server copy a version on top. The lock of a write comes with it.
async fn bring_back(requests: &Requests, version: Version) -> Result<(), StoreError> {
    let source = format!("/{}/{}?versionId={}", requests.bucket, version.key, version.id);
    let unusable = |_| StoreError::Other(format!("the version of `{}` has no usable id", version.key));
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-copy-source", HeaderValue::from_str(&source).map_err(unusable)?);
    let asked = Asked { method: Method::PUT, key: &version.key, headers, ..Asked::default() };
    let copied = requests.send(asked).await?;
    let copied = copied.filter(|it| String::from_utf8_lossy(&it.body).contains("CopyObjectResult"));
    copied.map(|_| ()).ok_or_else(|| StoreError::Other(format!("the version of `{}` was not copied", version.key)))
}

/// Versions under a prefix, page by page; those of one key come together.
struct Pages<'a> {
    requests: &'a Requests,
    prefix: String,
    /// Where the next page begins; `None` behind the last.
    next: Option<(String, String)>,
    /// The versions of the last key of a page, of which the next one may hold more.
    held: VecDeque<Version>,
}

impl<'a> Pages<'a> {
    fn new(requests: &'a Requests, prefix: String) -> Self {
        Self { requests, prefix, next: Some(Default::default()), held: VecDeque::new() }
    }

    /// The next versions, of whole keys; empty at the end.
    async fn next(&mut self) -> Result<Vec<Version>, StoreError> {
        while let Some((key, version)) = self.next.take() {
            let mut query = vec![("versions", ""), ("prefix", self.prefix.as_str()), ("max-keys", "1000")];
            if !key.is_empty() {
                query.push(("key-marker", &key));
                query.push(("version-id-marker", &version));
            }
            let asked = Asked { query: &query, ..Asked::default() };
            let page: Option<Page> = self.requests.ask(asked).await?;
            let page = page.ok_or_else(|| StoreError::Other("the bucket lists no versions".to_owned()))?;
            if page.truncated && (&page.next_key, &page.next_version) > (&key, &version) {
                self.next = Some((page.next_key, page.next_version));
            }
            self.held.extend(page.entries.into_iter().filter_map(|entry| match entry {
                Entry::Version(version) => Some(version),
                Entry::DeleteMarker(version) => Some(Version { tag: None, ..version }),
                Entry::Other => None,
            }));
            let whole = match (&self.next, self.held.back()) {
                (Some(_), Some(last)) => self.held.iter().position(|it| it.key == last.key).unwrap_or(0),
                _ => self.held.len(),
            };
            if whole == 0 && self.held.len() > VERSIONS_LIMIT {
                let key = &self.held[0].key;
                return Err(StoreError::Other(format!("`{key}` has more than {VERSIONS_LIMIT} versions")));
            }
            if whole > 0 {
                return Ok(self.held.drain(..whole).collect());
            }
        }
        Ok(Vec::new())
    }
}

/// All versions of a bucket, without the markers, as keys and ids.
#[cfg(test)]
pub(super) async fn all(requests: &Requests) -> Vec<(String, String)> {
    let (mut pages, mut all) = (Pages::new(requests, String::new()), Vec::new());
    loop {
        let page = pages.next().await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page.into_iter().filter(|it| it.tag.is_some()).map(|it| (it.key, it.id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(id: &str, second: i64, tag: Option<&str>) -> Version {
        let modified = Timestamp::from_second(second).unwrap();
        Version { key: "k".into(), id: id.into(), modified, tag: tag.map(Into::into) }
    }

    fn at(second: i64, versions: &[Version]) -> Option<(String, Change)> {
        match lost_since(versions, Timestamp::from_second(second).unwrap()) {
            Lookup::Lost(version, change, _) => Some((version.id, change)),
            Lookup::NotThere | Lookup::Same => None,
        }
    }

    #[test]
    fn the_version_that_was_current_comes_back_and_nothing_else() {
        let deleted = [version("3", 30, None), version("2", 20, Some("b")), version("1", 10, Some("a"))];
        assert_eq!(at(25, &deleted), Some(("2".into(), Change::Deleted)));
        assert_eq!(at(15, &deleted), Some(("1".into(), Change::Deleted)));
        assert_eq!(at(5, &deleted), None, "it was not there yet");
        assert_eq!(at(30, &deleted), None, "it was deleted by then");
        assert_eq!(at(15, &deleted[1..]), Some(("1".into(), Change::Overwritten)));
        assert_eq!(at(25, &deleted[1..]), None, "it is what it was");
        let again = [version("2", 20, Some("a")), version("1", 10, Some("a"))];
        assert_eq!(at(15, &again), None, "written again with the same content");
    }

    #[test]
    fn a_page_of_versions_is_read_in_its_order() {
        let text = "<?xml version=\"1.0\"?><ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>\
            <Prefix>p/</Prefix><KeyMarker></KeyMarker><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>\
            <NextVersionIdMarker>v</NextVersionIdMarker><DeleteMarker><Key>k</Key><VersionId>3</VersionId><IsLatest>true</IsLatest>\
            <LastModified>1970-01-01T00:00:30.000Z</LastModified><Owner><ID>x</ID></Owner></DeleteMarker><Version><Key>k</Key>\
            <VersionId>2</VersionId><LastModified>1970-01-01T00:00:20.000Z</LastModified><ETag>&quot;b&quot;</ETag><Size>1</Size>\
            </Version></ListVersionsResult>";
        let page: Page = quick_xml::de::from_str(text).unwrap();
        assert!(page.truncated && page.next_key == "k" && page.next_version == "v");
        let ids = page.entries.iter().filter_map(|it| match it {
            Entry::Version(it) => Some((it.id.as_str(), it.tag.as_deref())),
            Entry::DeleteMarker(it) => Some((it.id.as_str(), None)),
            Entry::Other => None,
        });
        let ids: Vec<_> = ids.collect();
        assert_eq!(ids, [("3", None), ("2", Some("\"b\""))]);
    }
}
