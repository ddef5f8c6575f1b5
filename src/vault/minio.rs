//! A `MinIO` of our own on loopback, for tests that want a real server.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::bucket::Bucket;
use super::requests::Asked;
use super::{S3Credentials, S3Location, SecretText, StoreError, s3, versions};

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
        object_lock: None,
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

    /// Makes its bucket anew, with versions and locks.
    pub(crate) async fn make_locked_bucket(&self) {
        // On a busy machine it listens long before it answers.
        let mut tries = 0;
        while let Err(error) = self.ask(Method::DELETE, "", &[]).await {
            tries += 1;
            assert!(error.is_transient() && tries < 20, "{error}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-bucket-object-lock-enabled", HeaderValue::from_static("true"));
        let bucket = self.bucket();
        let (requests, _) = bucket.versions().unwrap();
        requests.send(Asked { method: Method::PUT, headers, ..Asked::default() }).await.unwrap();
    }

    /// Removes all versions that it can, like a thief with these credentials: how many could not, and could be removed.
    pub(crate) async fn remove_all_versions(&self) -> (usize, usize) {
        let (mut refused, mut removed) = (0, 0);
        for (key, version) in versions::all(self.bucket().versions().unwrap().0).await {
            match self.ask(Method::DELETE, &key, &[("versionId", &version)]).await {
                Ok(_) => removed += 1,
                Err(_) => refused += 1,
            }
        }
        (refused, removed)
    }

    async fn ask(&self, method: Method, key: &str, query: &[(&str, &str)]) -> Result<Option<Bytes>, StoreError> {
        let bucket = self.bucket();
        let (requests, _) = bucket.versions().unwrap();
        Ok(requests.send(Asked { method, key, query, ..Asked::default() }).await?.map(|it| it.body))
    }

    fn bucket(&self) -> Bucket {
        s3::open(&self.location()).unwrap()
    }
}
