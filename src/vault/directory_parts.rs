//! A file that is written in parts: it is there once all of them are, and not before.

use std::fs::{self, File};
use std::io::Write;

use tokio::sync::mpsc;
use ulid::Ulid;

use super::super::{Part, StoreError, deadline};
use super::{Directory, OWN, Trouble, check_root, path};

impl Directory {
    /// Writes parts as one file, whatever is there. `bytes` is about how many there are.
    pub(in crate::vault) async fn put_parts(
        &self,
        key: &str,
        bytes: u64,
        parts: &mut mpsc::Receiver<Part>,
    ) -> Result<(), StoreError> {
        let unfinished = format!("{OWN}/new-{}", Ulid::generate());
        let written = self.write_parts(&unfinished, parts).await;
        let (key, name) = (key.to_owned(), unfinished.clone());
        let finish = move |root: &std::path::Path| {
            let target = path(root, &key)?;
            let folder = target.parent().expect("a key's file lies in the vault's directory");
            fs::create_dir_all(folder)?;
            File::open(root.join(&name))?.sync_all()?;
            fs::rename(root.join(&name), &target)?;
            Ok(File::open(folder)?.sync_all()?)
        };
        let stored = match written {
            Ok(()) => self.run(deadline(bytes), finish).await,
            Err(error) => Err(error),
        };
        if stored.is_err() {
            let _ = self.run(deadline(0), move |root| Ok(fs::remove_file(root.join(&unfinished))?)).await;
        }
        stored
    }

    async fn write_parts(&self, name: &str, parts: &mut mpsc::Receiver<Part>) -> Result<(), StoreError> {
        let name = name.to_owned();
        let create = move |root: &std::path::Path| -> Result<File, Trouble> {
            check_root(root)?;
            fs::create_dir_all(root.join(OWN))?;
            Ok(File::create_new(root.join(&name))?)
        };
        let mut file = self.run(deadline(0), create).await?;
        while let Some(part) = parts.recv().await {
            let part = part.map_err(StoreError::Other)?;
            let write = move |_: &std::path::Path| {
                file.write_all(&part)?;
                Ok(file)
            };
            file = self.run(deadline(super::super::manifest::PART_BYTES as u64), write).await?;
        }
        Ok(())
    }
}
