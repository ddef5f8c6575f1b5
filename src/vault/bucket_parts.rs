//! An object of a bucket that is sent in parts: it is there once all of them are, and not before.
//!
//! A part may be sent again under its number; so may the order to join them, whose reply may be lost after it was carried
//! out. What is not joined is taken back.

use futures::{StreamExt, TryStreamExt, stream};
use object_store::PutPayload;
use object_store::multipart::PartId;
use object_store::path::Path;
use tokio::sync::mpsc;

use super::super::bucket_error::classify;
use super::super::{Part, StoreError, deadline};
use super::Bucket;

/// How many parts are under way at once.
const AT_ONCE: usize = 3;

impl Bucket {
    /// Writes parts as one object, whatever is there.
    pub(in crate::vault) async fn put_parts(
        &self,
        key: &str,
        parts: &mut mpsc::Receiver<Part>,
    ) -> Result<(), StoreError> {
        let local = |reason: String| StoreError::Other(reason);
        let first = parts.recv().await.transpose().map_err(local)?.unwrap_or_default();
        let Some(second) = parts.recv().await.transpose().map_err(local)? else {
            return self.put(key, first).await;
        };
        let path = self.path(key)?;
        let begin = || async { self.client.create_multipart(&path).await.map_err(|it| classify(&it, &self.place)) };
        let upload = self.repeat(deadline(0), begin).await?.ok_or_else(|| self.place.no_bucket())?;
        let known = stream::iter([Ok(first), Ok(second)]);
        let rest = stream::poll_fn(|context| parts.poll_recv(context));
        let sent: Result<Vec<PartId>, StoreError> = known
            .chain(rest)
            .enumerate()
            .map(|(number, part)| self.send(&path, &upload, number, part))
            .buffered(AT_ONCE)
            .try_collect()
            .await;
        match sent {
            Ok(sent) => self.join(key, &path, &upload, sent).await,
            Err(error) => {
                let abort = || async {
                    self.client.abort_multipart(&path, &upload).await.map_err(|it| classify(&it, &self.place))
                };
                // The parts cost room until they are gone; the error that tells why matters more.
                if let Err(left) = self.repeat(deadline(0), abort).await {
                    tracing::warn!(key, upload, error = %left, "parts of an upload that was given up could not be removed");
                }
                Err(error)
            }
        }
    }

    async fn send(&self, path: &Path, upload: &String, number: usize, part: Part) -> Result<PartId, StoreError> {
        let part = part.map_err(StoreError::Other)?;
        let send = || async {
            let payload = PutPayload::from_bytes(part.clone());
            let sent = self.client.put_part(path, upload, number, payload).await;
            sent.map_err(|error| classify(&error, &self.place))
        };
        self.repeat(deadline(part.len() as u64), send).await?.ok_or_else(|| self.place.no_bucket())
    }

    async fn join(&self, key: &str, path: &Path, upload: &String, sent: Vec<PartId>) -> Result<(), StoreError> {
        let join = || async {
            let joined = self.client.complete_multipart(path, upload, sent.clone()).await;
            joined.map(|_| ()).map_err(|error| classify(&error, &self.place))
        };
        match self.repeat(deadline(0) * 3, join).await? {
            Some(()) => Ok(()),
            // The upload is gone: an earlier order was carried out, if the object is there.
            None if self.find(key).await?.is_some() => Ok(()),
            None => Err(self.place.no_bucket()),
        }
    }
}
