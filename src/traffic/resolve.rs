//! Names to addresses, as the system's name servers tell them, without keeping any: a probe must see a switch at once.
//!
//! The servers may keep answers as long as they may; that is part of what a client sees.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_net::{DnsError, NetError, runtime::TokioRuntimeProvider};
use hickory_proto::op::ResponseCode;
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
};

/// How long a look-up may take, over all servers and attempts.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many addresses of a name are looked at.
const MOST_ADDRESSES: usize = 8;

/// Asks for addresses. Cheap to clone.
#[derive(Clone)]
pub struct Resolve(TokioResolver);

/// Why a name has no address. The same fault gives the same words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// `/etc/resolv.conf` or `/etc/hosts`.
    #[error("the system's settings for name servers cannot be read: {0}")]
    Settings(String),
    /// What was asked for.
    #[error("'{0}' is not a domain name")]
    Name(String),
    /// The servers say so.
    #[error("the name '{0}' does not exist")]
    Absent(String),
    /// It exists, as something else.
    #[error("the name '{0}' has no address")]
    NoAddress(String),
    /// No server said anything.
    #[error("no name server answered for '{0}'")]
    Silent(String),
    /// A server could not say.
    #[error("the name servers answered {code} for '{name}'")]
    Failed {
        /// What was asked for.
        name: String,
        /// What they answered.
        code: String,
    },
}

impl Resolve {
    /// With the system's servers, search list and hosts file, as they stand now.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn system() -> Result<Self, ResolveError> {
        let builder = Resolver::builder_tokio().map_err(|it| ResolveError::Settings(it.to_string()))?;
        Self::build(builder)
    }

    /// With these servers alone.
    ///
    /// # Errors
    /// When there is none.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, ResolveError> {
        let servers = servers.iter().map(|it| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
                way.port = it.port();
                way
            });
            NameServerConfig::new(it.ip(), true, connections.to_vec())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Self::build(Resolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    fn build(mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, ResolveError> {
        let options = builder.options_mut();
        options.cache_size = 0;
        // Less than the timeout of a probe by default: silent name servers shall be told as such.
        options.timeout = Duration::from_secs(1);
        options.attempts = 1;
        // Kubernetes says 5, so that a public name is first asked for below every search domain: four times the
        // questions, for each probe. A name with a dot is asked for as it is first.
        options.ndots = 1;
        builder.build().map(Self).map_err(|it| ResolveError::Settings(it.to_string()))
    }

    /// The addresses of a name, at least one and at most eight; of an address, itself.
    ///
    /// # Errors
    /// When there is none, or no answer within 5 s.
    pub async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let answer = match tokio::time::timeout(DEADLINE, self.0.lookup_ip(name)).await {
            Err(_) => return Err(ResolveError::Silent(name.to_owned())),
            Ok(answer) => answer.map_err(|it| explained(name, &it))?,
        };
        let addresses: Vec<_> = answer.iter().take(MOST_ADDRESSES).collect();
        if addresses.is_empty() { Err(ResolveError::NoAddress(name.to_owned())) } else { Ok(addresses) }
    }
}

fn explained(name: &str, error: &NetError) -> ResolveError {
    let name = name.to_owned();
    match error {
        NetError::Dns(DnsError::NoRecordsFound(it)) => match it.response_code {
            ResponseCode::NXDomain => ResolveError::Absent(name),
            ResponseCode::NoError => ResolveError::NoAddress(name),
            code => ResolveError::Failed { name, code: code.to_string() },
        },
        NetError::Dns(DnsError::ResponseCode(ResponseCode::NXDomain)) => ResolveError::Absent(name),
        NetError::Dns(DnsError::ResponseCode(code)) => ResolveError::Failed { name, code: code.to_string() },
        NetError::Proto(_) => ResolveError::Name(name),
        _ => ResolveError::Silent(name),
    }
}
