//! `MinIO` on loopback, from the lab's build: the object storage that both sides of a comparison use.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use reprise::api::vault::{Encryption, S3, SecretName, VaultSpec};

use super::process::{Server, Variables, free_address};

/// The bucket that is there.
pub const BUCKET: &str = "bench";
/// The name of its credentials, and of the vault's key.
pub const USER: &str = "benchadmin";
/// The secret of its credentials.
pub const PASSWORD: &str = "benchsecret";
/// The vault's key.
pub const KEY: &str = "a key for figures and for nothing else";

/// The server.
pub struct Storage {
    /// `http://127.0.0.1:…`
    pub url: String,
    server: Server,
}

impl Storage {
    /// Starts it, with its data below `folder`.
    ///
    /// # Errors
    /// When `REPRISE_BENCH_MINIO` does not say where the program is, or it does not start.
    pub async fn start(folder: &Path) -> Result<Self> {
        let program = std::env::var("REPRISE_BENCH_MINIO").context("REPRISE_BENCH_MINIO: use `make bench`")?;
        let data = folder.join("minio");
        fs::create_dir_all(data.join(BUCKET)).context("make a bucket")?;
        let address = free_address()?;
        let data = data.to_string_lossy().into_owned();
        let command = [&program, "server", "--quiet", "--address", &address, &data];
        let variables: Variables = [
            ("MINIO_ROOT_USER", USER),
            ("MINIO_ROOT_PASSWORD", PASSWORD),
            ("MINIO_BROWSER", "off"),
            ("MINIO_UPDATE", "off"),
        ]
        .map(|(name, value)| (name, value.into()))
        .to_vec();
        let mut server = Server::start(folder, "minio", &command, variables)?;
        server.listens(&address).await?;
        // It listens before it answers.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        server.runs()?;
        Ok(Self { url: format!("http://{address}"), server })
    }

    /// A vault in it.
    pub fn vault(&self, prefix: &str) -> VaultSpec {
        VaultSpec {
            s3: Some(S3 {
                bucket: BUCKET.to_owned(),
                prefix: Some(prefix.to_owned()),
                region: "us-east-1".to_owned(),
                endpoint: Some(self.url.clone()),
                path_style: None,
                ca_bundle: None,
                credentials: Some(SecretName { name: "vault".to_owned() }),
                server_side_encryption: None,
                object_lock: None,
            }),
            azure: None,
            proxy: None,
            limits: None,
            directory: None,
            allow_exports: false,
            encryption: Encryption::new("vault-key"),
        }
    }

    /// Ends it.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// The credentials as programs take them from their environment.
pub fn credentials() -> Variables {
    vec![("AWS_ACCESS_KEY_ID", USER.into()), ("AWS_SECRET_ACCESS_KEY", PASSWORD.into())]
}
