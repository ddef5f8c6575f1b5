//! An azurite of our own on loopback, for tests that want Azure's protocol from a server that its makers wrote.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;
use tempfile::TempDir;

use super::{AzureCredentials, AzureLocation, SecretText};

/// The account that every azurite has, and its key: both are in azurite's documentation.
const ACCOUNT: &str = "devstoreaccount1";
pub(crate) const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// The version of the protocol that signatures are made for.
const VERSION: &str = "2021-12-02";

/// The server, with one container. It ends with this value.
pub(crate) struct Azurite {
    pub(crate) child: Child,
    pub(crate) url: String,
    _folder: TempDir,
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Azurite {
    pub(crate) async fn start() -> Self {
        let program = std::env::var("REPRISE_TEST_AZURITE").expect("REPRISE_TEST_AZURITE is the path of azurite-blob");
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort"])
            .arg(port.to_string())
            .arg("--location")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let azurite = Self { child, url: format!("http://127.0.0.1:{port}/{ACCOUNT}"), _folder: folder };
        let url = format!("{}/container?restype=container&{}", azurite.url, signature("sco", "rwdlc"));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        // The first time thousands of files are read.
        for _ in 0..450 {
            let made = client.put(&url).header("content-length", 0).header("x-ms-version", VERSION).send().await;
            match made {
                Ok(reply) if reply.status().is_success() => return azurite,
                Ok(reply) => panic!("azurite makes no container: {}", reply.text().await.unwrap()),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        panic!("azurite does not start");
    }

    pub(crate) fn location(&self) -> AzureLocation {
        self.location_with(AzureCredentials::AccountKey(SecretText::new(ACCOUNT_KEY)))
    }

    pub(crate) fn location_with(&self, credentials: AzureCredentials) -> AzureLocation {
        AzureLocation {
            account: ACCOUNT.to_owned(),
            container: "container".to_owned(),
            prefix: "some/prefix".to_owned(),
            endpoint: Some(self.url.clone()),
            ca_bundle: None,
            immutability: None,
            credentials: Some(credentials),
            proxy: None,
        }
    }
}

/// A shared access signature of the account for an hour: resource types and permissions by their letters.
pub(crate) fn signature(types: &str, permissions: &str) -> String {
    let expiry = (Timestamp::now() + SignedDuration::from_hours(1)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let text = format!("{ACCOUNT}\n{permissions}\nb\n{types}\n\n{expiry}\n\nhttp\n{VERSION}\n\n");
    let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64_STANDARD.decode(ACCOUNT_KEY).unwrap()).unwrap();
    mac.update(text.as_bytes());
    let sig = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    let escape = |text: &str| text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(':', "%3A");
    format!("sv={VERSION}&ss=b&srt={types}&sp={permissions}&se={}&spr=http&sig={}", escape(&expiry), escape(&sig))
}
