//! A `MinIO` of our own on loopback, for tests that want a real server.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{S3Credentials, S3Location, SecretText};

pub(crate) fn location(endpoint: &str, id: &str, secret: &str) -> S3Location {
    S3Location {
        bucket: "bucket".to_owned(),
        prefix: "some/prefix".to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        path_style: true,
        ca_bundle: None,
        credentials: Some(S3Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: SecretText::new(secret),
            session_token: None,
        }),
        server_side_encryption: None,
        proxy: None,
    }
}

/// The key that it encrypts with when it is asked to: its name, and 32 bytes.
const KMS_KEY: &str = "lab-key:bGFiLWtleS1vZi0zMi1ieXRlcy1mb3ItbWluaW8tISE=";

/// The server, with one bucket. It ends with this value.
pub(crate) struct Minio {
    pub(crate) child: Child,
    pub(crate) folder: TempDir,
    pub(crate) url: String,
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Minio {
    pub(crate) async fn start(scheme: &str, prepare: impl FnOnce(&Path)) -> Self {
        let program = std::env::var("REPRISE_TEST_MINIO").expect("REPRISE_TEST_MINIO is the path of a MinIO binary");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("data/bucket")).unwrap();
        std::fs::create_dir_all(folder.path().join("certs")).unwrap();
        prepare(&folder.path().join("certs"));
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let child = Command::new(program)
            .args(["server", "--quiet", "--address", &address, "--certs-dir"])
            .arg(folder.path().join("certs"))
            .arg(folder.path().join("data"))
            .envs([("MINIO_ROOT_USER", "labadmin"), ("MINIO_ROOT_PASSWORD", "labsecret123")])
            .envs([("MINIO_BROWSER", "off"), ("MINIO_UPDATE", "off")])
            .env("MINIO_KMS_SECRET_KEY", KMS_KEY)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let minio = Self { child, folder, url: format!("{scheme}://{address}") };
        for _ in 0..150 {
            if TcpStream::connect(&address).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                return minio;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("MinIO does not start");
    }

    pub(crate) fn location(&self) -> S3Location {
        location(&self.url, "labadmin", "labsecret123")
    }
}
