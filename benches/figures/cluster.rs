//! An API server and its etcd on loopback, from the lab's build. No controllers, no nodes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::process::{Server, free_address, measure};

/// How long the API server may take to be ready.
const READY: Duration = Duration::from_mins(1);
/// The user that the operator is, so that its requests can be told from ours.
pub const OPERATOR: &str = "operator";
/// The user that we are.
const BENCH: &str = "bench";
/// Each request of the operator is written down when it comes in: a watch, too, is one.
const POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy",
    "omitStages": ["ResponseStarted", "ResponseComplete", "Panic"],
    "rules": [{"level": "Metadata", "users": ["operator"]}, {"level": "None"}]}"#;

/// The cluster. It ends with this value.
pub struct Cluster {
    folder: PathBuf,
    api: Server,
    etcd: Server,
}

impl Cluster {
    /// Starts it, with its data below `folder`, and waits until it is ready.
    ///
    /// # Errors
    /// When `REPRISE_BENCH_KUBE` does not say where the programs are, or they do not start.
    pub async fn start(folder: &Path) -> Result<Self> {
        let programs =
            PathBuf::from(std::env::var("REPRISE_BENCH_KUBE").context("REPRISE_BENCH_KUBE: use `make bench`")?);
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (store, peers) = (free_address()?, free_address()?);
        let (store_url, peers_url) = (format!("http://{store}"), format!("http://{peers}"));
        let command = [
            text(programs.join("etcd")),
            format!("--data-dir={}", text(folder.join("etcd"))),
            format!("--listen-client-urls={store_url}"),
            format!("--advertise-client-urls={store_url}"),
            format!("--listen-peer-urls={peers_url}"),
            format!("--initial-advertise-peer-urls={peers_url}"),
            format!("--initial-cluster=default={peers_url}"),
            "--unsafe-no-fsync".to_owned(),
            // Hundreds of thousands of objects, twice.
            "--quota-backend-bytes=8589934592".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let mut etcd = Server::start(folder, "etcd", &command, vec![])?;
        etcd.listens(&store).await?;
        let api = start_api(folder, &programs, &store_url).await?;
        let mut cluster = Self { folder: folder.to_owned(), api, etcd };
        cluster.wait().await?;
        Ok(cluster)
    }

    /// The path of the operator's configuration.
    pub fn of_operator(&self) -> PathBuf {
        self.folder.join(OPERATOR)
    }

    /// The path of our configuration.
    pub fn of_bench(&self) -> PathBuf {
        self.folder.join(BENCH)
    }

    /// The path of the file in which the operator's requests are written down, as JSON lines.
    pub fn requests(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// Ends it.
    pub async fn stop(self) {
        self.api.stop().await;
        self.etcd.stop().await;
    }

    async fn wait(&mut self) -> Result<()> {
        let end = Instant::now() + READY;
        loop {
            self.api.runs()?;
            self.etcd.runs()?;
            let path = self.of_bench();
            let ready = async {
                let request = http::Request::get("/readyz").body(vec![])?;
                anyhow::Ok(client(&path).await?.request_text(request).await?)
            };
            match ready.await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => bail!("the API server is not ready in time: {error:#}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

/// Starts the API server with a certificate that it makes itself, and writes a configuration for each user.
async fn start_api(folder: &Path, programs: &Path, store: &str) -> Result<Server> {
    let key = folder.join("sa.key").to_string_lossy().into_owned();
    let making = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key];
    measure(folder, &making, vec![]).await.context("make a key for service accounts")?;
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let tokens = [BENCH, OPERATOR].map(|user| format!("{user}-token,{user},{user},system:masters\n")).concat();
    fs::write(folder.join("tokens"), tokens).context("write tokens")?;
    fs::write(folder.join("policy"), POLICY).context("write the audit policy")?;
    let address = free_address()?;
    let (host, port) = address.split_once(':').context("an address has a port")?;
    let command = [
        programs.join("kube-apiserver").to_string_lossy().into_owned(),
        format!("--bind-address={host}"),
        format!("--secure-port={port}"),
        format!("--advertise-address={host}"),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--etcd-servers={store}"),
        format!("--cert-dir={}", at("certs")),
        "--service-cluster-ip-range=10.99.0.0/16".to_owned(),
        "--service-account-issuer=https://bench.invalid".to_owned(),
        format!("--service-account-key-file={key}"),
        format!("--service-account-signing-key-file={key}"),
        format!("--token-auth-file={}", at("tokens")),
        "--authorization-mode=RBAC".to_owned(),
        format!("--audit-policy-file={}", at("policy")),
        format!("--audit-log-path={}", at("audit.log")),
    ];
    let mut api = Server::start(folder, "kube-apiserver", &command, vec![])?;
    api.listens(&address).await?;
    for user in [BENCH, OPERATOR] {
        let certificate = at("certs/apiserver.crt");
        let file = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": format!("https://{address}"), "certificate-authority": certificate}}],
            "users": [{"name": user, "user": {"token": format!("{user}-token")}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": user}}],
        });
        fs::write(folder.join(user), file.to_string()).context("write a configuration")?;
    }
    Ok(api)
}

/// A client by a configuration's path.
///
/// # Errors
/// When it is no configuration.
pub async fn client(path: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(path).context("read a configuration")?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.context("use it")?;
    config.proxy_url = None;
    Client::try_from(config).context("make a client")
}
