//! A GET request, and whether its answer is what it shall be.
//!
//! Each question makes a connection of its own, so that a change of DNS is seen. Redirects are followed on the same
//! host only: what another host says is not this application's health.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Client, ClientBuilder, Response, Url,
    dns::{Addrs, Name, Resolving},
    header::LOCATION,
    redirect::Policy,
};
use rustls::CertificateError;

use crate::{
    api::application::HttpProbe,
    probe::{Route, field, same_name, unresolved},
    traffic::resolve::{Resolve, ResolveError},
};

/// How much of a body is looked at, in bytes.
const BODY: usize = 64 * 1024;
/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// A GET request.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    url: Url,
    status: Vec<u16>,
    contains: Option<String>,
    /// Where the address stands, for people.
    field: String,
}

/// Makes requests. Cheap to clone: the certificates that it trusts are read once.
#[derive(Clone)]
pub(super) struct HttpClient {
    by_name: Client,
    resolve: Resolve,
}

impl HttpClient {
    pub(super) fn new(resolve: Resolve) -> Result<Self, String> {
        let by_name = builder(&resolve).build().map_err(|it| explained(&it, "", ""))?;
        Ok(Self { by_name, resolve })
    }

    fn at(&self, host: &str, address: IpAddr) -> Result<Client, String> {
        // The port of the address is not looked at: the URL's is taken.
        builder(&self.resolve).resolve(host, SocketAddr::new(address, 0)).build().map_err(|it| explained(&it, host, ""))
    }
}

fn builder(resolve: &Resolve) -> ClientBuilder {
    Client::builder()
        .user_agent("reprise-probe")
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(Uncached(resolve.clone())))
}

struct Uncached(Resolve);

impl reqwest::dns::Resolve for Uncached {
    fn resolve(&self, name: Name) -> Resolving {
        let resolve = self.0.clone();
        Box::pin(async move {
            let addresses = resolve.lookup(name.as_str()).await?;
            let all: Addrs = Box::new(addresses.into_iter().map(|it| SocketAddr::new(it, 0)));
            Ok(all)
        })
    }
}

impl Http {
    /// None when the address is none.
    pub(super) fn parse(name: &str, probe: &HttpProbe) -> Option<Self> {
        let url = Url::parse(&probe.url).ok()?;
        let known = ["http", "https"].contains(&url.scheme()) && url.has_host();
        known.then(|| Self {
            url,
            status: probe.status.clone(),
            contains: probe.contains.clone(),
            field: field(name, "http.url"),
        })
    }

    pub(super) async fn ask(&self, client: &HttpClient, route: &Route) -> Result<(), String> {
        let host = self.url.host_str().unwrap_or_default();
        let client = match route.address_of(host) {
            Some(address) => &client.at(host, address)?,
            None => &client.by_name,
        };
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS {
            let answer = client.get(url.clone()).send().await.map_err(|it| explained(&it, host, &self.field))?;
            let status = answer.status();
            if self.status.contains(&status.as_u16()) {
                return self.check_body(answer, host).await;
            }
            let target = answer.headers().get(LOCATION).and_then(|it| url.join(it.to_str().ok()?).ok());
            match target.filter(|_| status.is_redirection()) {
                None => return Err(format!("status {}, expected {}", status.as_u16(), list(&self.status))),
                Some(target) if target.host_str().is_some_and(|it| same_name(it, host)) => url = target,
                // Not where to: such addresses carry tokens, and differ each time.
                Some(_) => return Err(format!("status {}, a redirect to another host", status.as_u16())),
            }
        }
        Err(format!("more than {REDIRECTS} redirects"))
    }

    async fn check_body(&self, mut answer: Response, host: &str) -> Result<(), String> {
        let Some(text) = &self.contains else { return Ok(()) };
        let mut body = Vec::new();
        while body.len() < BODY {
            let Some(chunk) = answer.chunk().await.map_err(|it| explained(&it, host, &self.field))? else { break };
            body.extend_from_slice(&chunk[..chunk.len().min(BODY - body.len())]);
        }
        let found = text.is_empty() || body.windows(text.len()).any(|it| it == text.as_bytes());
        if found { Ok(()) } else { Err(format!("the body does not contain '{text}'")) }
    }
}

fn list(status: &[u16]) -> String {
    status.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// What lies at the bottom of an error, in words that do not change from one time to the next.
fn explained(error: &reqwest::Error, host: &str, field: &str) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(it) = cause {
        if let Some(it) = it.downcast_ref::<ResolveError>() {
            return unresolved(it, field);
        }
        if let Some(it) = it.downcast_ref::<rustls::Error>() {
            return untrusted(it, host);
        }
        cause = it.source();
        if let Some(it) = it.downcast_ref::<io::Error>() {
            // One of these may hold another one, or what TLS says; its own `source` would pass over that.
            match it.get_ref() {
                Some(inner) => cause = Some(inner),
                None => last = it.kind().to_string(),
            }
        }
    }
    match last {
        last if !last.is_empty() => last,
        _ if error.is_connect() => "no connection".to_owned(),
        _ if error.is_body() || error.is_decode() => "the answer broke off".to_owned(),
        _ if error.is_builder() => "the request could not be made".to_owned(),
        _ => "the connection was closed, or the answer is not HTTP".to_owned(),
    }
}

/// Not in the library's words: they tell the time.
fn untrusted(error: &rustls::Error, host: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(it) => match it {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate is not for '{host}'")
            }
            CertificateError::UnknownIssuer => "the certificate's issuer is not trusted here".to_owned(),
            CertificateError::Revoked => "the certificate was revoked".to_owned(),
            _ => "the certificate is not valid".to_owned(),
        },
        _ => "no TLS connection could be agreed on".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_certificate_is_told_without_the_time() {
        let time = |seconds| rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let expired = |now| CertificateError::ExpiredContext { time: time(now), not_after: time(5) };
        let said = |it| untrusted(&rustls::Error::InvalidCertificate(it), "shop.example.com");
        assert_eq!(said(expired(10)), said(expired(20)));
        assert_eq!(said(expired(10)), "the certificate has expired");
        assert_eq!(said(CertificateError::NotValidForName), "the certificate is not for 'shop.example.com'");
    }
}
