//! `reprise`: the operator, the mover and the generator of the CRDs, one image for all.

use std::{net::SocketAddr, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use reprise::{capture::policy::Policy, cli::crds, core::mover_job::MoverSettings, inspect, mover, operator::run};

/// High availability and disaster recovery for Kubernetes applications across regions.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the operator of one region.
    Operator(Box<OperatorArguments>),
    /// Do one task on one volume. The task stands in the environment: the operator starts this, not a person.
    Mover,
    /// Hold a volume mounted while a mover reads it: sleeps until it is ended.
    Hold,
    /// Ask something of a vault, as the operator: `kubectl reprise` runs this inside the operator's pod.
    Vault(inspect::VaultArguments),
    /// Print or write the CRDs.
    Crds(crds::CrdsArguments),
}

#[derive(clap::Args)]
struct OperatorArguments {
    /// The name of this region, as applications name it.
    #[arg(long, env = "REPRISE_REGION", value_parser = region)]
    region: String,
    /// This pod's name.
    #[arg(long, env = "POD_NAME")]
    pod: String,
    /// This pod's namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// The image that movers run.
    #[arg(long, env = "REPRISE_MOVER_IMAGE")]
    mover_image: String,
    /// When nodes pull it.
    #[arg(long, env = "REPRISE_MOVER_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    mover_pull_policy: String,
    /// The service account of movers.
    #[arg(long, env = "REPRISE_MOVER_SERVICE_ACCOUNT", default_value = "reprise-mover")]
    mover_service_account: String,
    /// The service account of movers that run commands in pods.
    #[arg(long, env = "REPRISE_DUMP_MOVER_SERVICE_ACCOUNT", default_value = "reprise-dump-mover")]
    dump_mover_service_account: String,
    /// Whether movers may read volumes through the node's file system.
    #[arg(long, env = "REPRISE_DIRECT", default_value_t = false, action = clap::ArgAction::Set)]
    direct: bool,
    /// The kubelet's root on the nodes.
    #[arg(long, env = "REPRISE_KUBELET_ROOT", default_value = "/var/lib/kubelet")]
    kubelet_root: String,
    /// Requests and limits of movers, as JSON.
    #[arg(long, env = "REPRISE_MOVER_RESOURCES", value_parser = resources, default_value = r#"{"limits":{"memory":"1Gi"}}"#)]
    mover_resources: serde_json::Value,
    /// What restores may bring back of objects that grant rights or reach beyond a namespace, as JSON.
    #[arg(long, env = "REPRISE_RESTORE_ALLOW", value_parser = policy, default_value = "{}")]
    restore_allow: Policy,
    /// Whether namespaces may be made for rehearsals, and deleted.
    #[arg(long, env = "REPRISE_REHEARSALS", default_value_t = false, action = clap::ArgAction::Set)]
    rehearsals: bool,
    /// Where metrics and health are served.
    #[arg(long, env = "REPRISE_HTTP", default_value = "0.0.0.0:8080")]
    http: SocketAddr,
    /// How logs are written.
    #[arg(long, env = "REPRISE_LOG", default_value = "json")]
    log: Log,
}

#[derive(Clone, Copy, ValueEnum)]
enum Log {
    Json,
    Text,
}

fn resources(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn policy(text: &str) -> Result<Policy, String> {
    serde_json::from_str(text).map_err(|error| format!("restore.allow of the chart: {error}"))
}

fn region(text: &str) -> Result<String, String> {
    let plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    let fits = !text.is_empty()
        && text.len() <= 63
        && text.chars().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-');
    fits.then(|| text.to_owned()).ok_or_else(|| {
        "a region's name has 1 to 63 lower-case letters, digits and '-', and '-' not at its ends: set `region` of the chart".to_owned()
    })
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Mover => mover::run(),
        Verb::Hold => hold(),
        Verb::Vault(arguments) => inspect::run(&arguments),
        Verb::Crds(arguments) => ended(crds::run(&arguments).map_err(Into::into)),
        Verb::Operator(arguments) => ended(operate(*arguments)),
    }
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reprise: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The pod that runs this has a deadline of its own.
fn hold() -> ExitCode {
    std::thread::sleep(std::time::Duration::from_hours(2));
    ExitCode::SUCCESS
}

fn operate(arguments: OperatorArguments) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    match arguments.log {
        Log::Json => log.json().flatten_event(true).init(),
        Log::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stdout())).init(),
    }
    let configuration = run::Configuration {
        region: arguments.region,
        pod: arguments.pod,
        movers: MoverSettings {
            namespace: arguments.namespace,
            image: arguments.mover_image,
            pull_policy: arguments.mover_pull_policy,
            service_account: arguments.mover_service_account,
            dump_service_account: arguments.dump_mover_service_account,
            direct: arguments.direct,
            kubelet_root: arguments.kubelet_root,
            resources: arguments.mover_resources,
        },
        policy: arguments.restore_allow,
        rehearsals: arguments.rehearsals,
        http: arguments.http,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run::run(configuration))
}
