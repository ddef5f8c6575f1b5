//! Questions that tell whether an application serves: by HTTP, by TCP, or to the API server.
//!
//! One question, one answer. When to ask is `operator::watch`'s, what follows from the answers is `core::health`'s. The
//! same fault gives the same words, without durations and ephemeral ports: reasons end up in a status.

mod http;
mod tcp;
pub mod workload;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    api::application as api,
    probe::{
        http::{Http, HttpClient},
        tcp::Tcp,
        workload::{Workload, WorkloadReader},
    },
    traffic::resolve::{Resolve, ResolveError},
};

/// One question that is asked again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Its name, unique within the application.
    pub name: String,
    /// How often it is asked.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// It is failing when this many of the last `of` answers were bad.
    pub failures: u32,
    /// How many answers are looked at.
    pub of: u32,
    /// What is asked.
    pub question: Question,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// A GET request.
    Http(Http),
    /// A connection.
    Tcp(Tcp),
    /// Whether a workload is ready.
    Workload(Workload),
}

/// Why a probe of the API cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ProbeError {
    #[error("spec.health.probes[name={0}] has not exactly one of http, tcp and workload")]
    Kind(String),
    #[error(
        "spec.health.probes[name={probe}].http.url: '{url}' is not an http or https address with a host: correct it"
    )]
    Url { probe: String, url: String },
}

impl Probe {
    /// Understands a probe of an application in that namespace. Nothing is asked yet.
    ///
    /// # Errors
    /// When it has none or several kinds, or its address is none.
    pub fn parse(namespace: &str, probe: &api::Probe) -> Result<Self, ProbeError> {
        let api::Probe { name, interval, timeout, failures, of, http, tcp, workload } = probe;
        let question = match (http, tcp, workload) {
            (Some(it), None, None) => {
                let wrong = || ProbeError::Url { probe: name.clone(), url: it.url.clone() };
                Question::Http(Http::parse(name, it).ok_or_else(wrong)?)
            }
            (None, Some(it), None) => {
                Question::Tcp(Tcp { host: it.host.clone(), port: it.port, field: field(name, "tcp.host") })
            }
            (None, None, Some(it)) => {
                Question::Workload(Workload { namespace: namespace.to_owned(), kind: it.kind, name: it.name.clone() })
            }
            (None, None, None) | (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                return Err(ProbeError::Kind(name.clone()));
            }
        };
        let second = Duration::from_secs(1);
        Ok(Self {
            name: name.clone(),
            interval: interval.duration().max(second),
            timeout: timeout.duration().max(second),
            failures: *failures,
            of: *of,
            question,
        })
    }
}

/// Which way a question goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through DNS, as everybody's does.
    ByName,
    /// What is asked of that name goes to that address, as it will once DNS leads there. Other names go through DNS.
    At {
        /// The public name, without a final dot.
        hostname: String,
        /// The address that it shall get.
        address: IpAddr,
    },
}

impl Route {
    /// The address that a host is asked at instead of the one that DNS knows.
    fn address_of(&self, host: &str) -> Option<IpAddr> {
        match self {
            Self::At { hostname, address } if same_name(host, hostname) => Some(*address),
            Self::At { .. } | Self::ByName => None,
        }
    }
}

/// Where a person finds what a probe asks.
fn field(probe: &str, part: &str) -> String {
    format!("spec.health.probes[name={probe}].{part}")
}

/// That a name leads nowhere, and what to do when that is said for certain.
fn unresolved(error: &ResolveError, field: &str) -> String {
    match error {
        ResolveError::Name(_) | ResolveError::Absent(_) | ResolveError::NoAddress(_) => {
            format!("{error}: correct {field}, or make a DNS record for it")
        }
        ResolveError::Settings(_) | ResolveError::Silent(_) | ResolveError::Failed { .. } => {
            format!("{error} ({field})")
        }
    }
}

fn same_name(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whether it was what it shall be.
    pub good: bool,
    /// Why it was not. Empty when it was good.
    pub reason: String,
    /// How long it took.
    pub took: Duration,
}

/// Where questions are asked from: the network and the cluster of this region.
#[derive(Clone)]
pub struct Vantage {
    resolve: Resolve,
    http: HttpClient,
    workloads: WorkloadReader,
}

/// Why nothing can be asked from here.
#[derive(Debug, thiserror::Error)]
#[error("the client for HTTP probes could not be made: {0}")]
pub struct VantageError(String);

impl Vantage {
    /// With the means to ask.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(resolve: Resolve, workloads: WorkloadReader) -> Result<Self, VantageError> {
        let http = HttpClient::new(resolve.clone()).map_err(VantageError)?;
        Ok(Self { resolve, http, workloads })
    }

    /// Asks once, and takes at most the probe's `timeout`.
    pub async fn ask(&self, probe: &Probe, route: &Route) -> Answer {
        let start = Instant::now();
        let asking = async {
            match &probe.question {
                Question::Http(it) => it.ask(&self.http, route).await,
                Question::Tcp(it) => it.ask(&self.resolve, route).await,
                Question::Workload(it) => it.ask(&self.workloads).await,
            }
        };
        let result = tokio::time::timeout(probe.timeout, asking).await;
        let result = result.unwrap_or_else(|_| Err(format!("no answer within {} s", probe.timeout.as_secs())));
        Answer { good: result.is_ok(), reason: result.err().unwrap_or_default(), took: start.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{application::WorkloadKind, span::Span};

    fn api_probe() -> api::Probe {
        api::Probe {
            name: "web".into(),
            interval: Span::from_secs(10),
            timeout: Span::from_secs(3),
            failures: 3,
            of: 5,
            http: None,
            tcp: None,
            workload: None,
        }
    }

    #[test]
    fn a_probe_has_exactly_one_question() {
        let http = Some(api::HttpProbe { url: "http://shop.example.com".into(), status: vec![200], contains: None });
        let tcp = Some(api::TcpProbe { host: "shop.example.com".into(), port: 443 });
        let workload = Some(api::WorkloadProbe { kind: WorkloadKind::Deployment, name: "web".into() });
        let wrong = Err(ProbeError::Kind("web".into()));
        assert_eq!(Probe::parse("shop", &api_probe()), wrong);
        assert_eq!(Probe::parse("shop", &api::Probe { http, tcp: tcp.clone(), ..api_probe() }), wrong);
        assert_eq!(Probe::parse("shop", &api::Probe { workload: workload.clone(), tcp, ..api_probe() }), wrong);
        let probe = Probe::parse("shop", &api::Probe { workload, ..api_probe() }).unwrap();
        assert!(matches!(probe.question, Question::Workload(Workload { namespace, .. }) if namespace == "shop"));
    }

    #[test]
    fn a_name_that_leads_nowhere_is_told_with_the_field_and_the_remedy() {
        let said = unresolved(&ResolveError::Absent("shpo.example.com".into()), &field("web", "http.url"));
        for part in ["'shpo.example.com'", "correct spec.health.probes[name=web].http.url", "DNS record"] {
            assert!(said.contains(part), "{said}");
        }
        let silent = unresolved(&ResolveError::Silent("shop.example.com".into()), &field("web", "tcp.host"));
        assert!(!silent.contains("correct") && silent.contains("probes[name=web].tcp.host"), "{silent}");
    }

    #[test]
    fn an_address_that_is_none_is_refused_by_name() {
        for url in ["ftp://shop.example.com", "https://", "shop.example.com", "http://a b/"] {
            let http = Some(api::HttpProbe { url: url.into(), status: vec![200], contains: None });
            let error = Probe::parse("shop", &api::Probe { http, ..api_probe() });
            assert_eq!(error, Err(ProbeError::Url { probe: "web".into(), url: url.into() }));
        }
    }
}
