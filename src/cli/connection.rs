//! Which cluster is asked: the kubeconfig, its context, and the namespace. It makes the client; it sends nothing.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// So long may the API server take to answer one request.
const ANSWER: Duration = Duration::from_secs(20);

/// Options that every verb has, as kubectl names them.
#[derive(Args, Debug)]
pub struct Connection {
    /// The kubeconfig file. Default: `$KUBECONFIG`, or ~/.kube/config, or the pod's own identity.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: its current one.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The namespace. Default: the context's.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The file that `--kubeconfig` names, or the context in it.
    #[error("cannot use the kubeconfig: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// Neither a kubeconfig nor a pod's identity.
    #[error("found no cluster; name one with --kubeconfig, --context or $KUBECONFIG: {0}")]
    Inferred(#[from] kube::config::InferConfigError),
    /// The client could not be made of it.
    #[error("cannot make a client of the kubeconfig: {0}")]
    Client(#[from] Box<kube::Error>),
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace that was asked for, or the context's.
    pub namespace: String,
}

impl Connection {
    /// Make the client.
    ///
    /// # Errors
    /// When no cluster is named, or the kubeconfig cannot be used.
    pub async fn open(&self) -> Result<Cluster, ConnectionError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &self.kubeconfig {
            Some(file) => Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await?,
            None if self.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        };
        config.connect_timeout = Some(ANSWER);
        config.read_timeout = Some(ANSWER);
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(Box::new)?;
        Ok(Cluster { client, namespace })
    }
}
