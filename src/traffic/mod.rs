//! Public names: which address a name leads to, and who may change it.
//!
//! A name is owned: beside its address stands a TXT record at `_reprise.<name>` with the application's identity, the
//! region and the epoch. Both change together or not at all, and only from what was read. This module knows nothing of
//! claims: the epoch is handed to it. What a resolver answers is `resolve`'s; whether to switch is decided in `core`.

pub mod resolve;
pub mod rfc2136;
mod wire;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::traffic::{resolve::Resolve, rfc2136::Rfc2136};

/// What changes a zone.
pub enum Provider {
    /// A server that takes signed updates.
    Rfc2136(Rfc2136),
}

impl Provider {
    /// A server that takes signed updates. Nothing is sent yet.
    ///
    /// # Errors
    /// When a setting cannot be understood.
    pub fn rfc2136(settings: &rfc2136::Settings, resolve: Resolve) -> Result<Self, TrafficError> {
        Rfc2136::new(settings, resolve, rfc2136::system_clock).map(Self::Rfc2136)
    }

    /// Whether the zone is served there, and whether it may be changed with the key. Nothing is changed.
    ///
    /// # Errors
    /// What is wrong, by the field of the `DnsZone`, and what to do about it.
    pub async fn test(&self) -> Result<(), TrafficError> {
        match self {
            Self::Rfc2136(it) => it.test().await,
        }
    }

    /// What stands at a name, read from where it is changed.
    ///
    /// # Errors
    /// When it cannot be read, or the name does not lie in the zone.
    pub async fn read(&self, hostname: &str) -> Result<Record, TrafficError> {
        match self {
            Self::Rfc2136(it) => it.read(hostname).await,
        }
    }

    /// Gives a name its address and its owner, together. Doing it again changes nothing.
    ///
    /// # Errors
    /// `Foreign` when the name belongs to somebody else, `Newer` and `Contested` when another region changed it under
    /// an epoch that is not lower. After any other error it is not known whether it was done: do it again.
    pub async fn publish(&self, publication: &Publication) -> Result<Published, TrafficError> {
        match self {
            Self::Rfc2136(it) => it.publish(publication).await,
        }
    }
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An A record.
    V4(Ipv4Addr),
    /// An AAAA record.
    V6(Ipv6Addr),
    /// A CNAME record, in lower case and without a final dot.
    Name(String),
}

impl Address {
    /// What people and Kubernetes write: an address, or a name, with or without a final dot.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(it)) => Self::V4(it),
            Ok(IpAddr::V6(it)) => Self::V6(it),
            Err(_) => Self::Name(text.trim_end_matches('.').to_ascii_lowercase()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(it) => it.fmt(out),
            Self::V6(it) => it.fmt(out),
            Self::Name(it) => it.fmt(out),
        }
    }
}

/// Who a name belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The application, the same in every region and in no other vault. Without commas, blanks and quotes.
    pub id: String,
    /// The region that the name leads to.
    pub region: String,
    /// The epoch of the claim it was published under.
    pub epoch: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "heritage=reprise,owner={},region={},epoch={}", self.id, self.region, self.epoch)
    }
}

impl Owner {
    /// Reads what `Display` writes, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("heritage=reprise,owner=")?;
        let (id, rest) = rest.split_once(",region=")?;
        let (region, epoch) = rest.split_once(",epoch=")?;
        let it = Self { id: id.to_owned(), region: region.to_owned(), epoch: epoch.parse().ok()? };
        (it.is_plain() && it.to_string() == text).then_some(it)
    }

    /// Whether it can be written so that it is read back the same, in one string of a TXT record.
    fn is_plain(&self) -> bool {
        let plain = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_graphic() && !b",\"\\;".contains(&it));
        plain(&self.id) && plain(&self.region) && self.to_string().len() <= 255
    }
}

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The addresses. Reprise writes exactly one.
    pub addresses: Vec<Address>,
    /// How long resolvers may keep it, in seconds. Zero without an address.
    pub ttl: u32,
    /// Whom it belongs to. None also when somebody else's text stands there.
    pub owner: Option<Owner>,
}

impl Record {
    /// The address, when there is exactly one.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match &self.addresses[..] {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// What a name shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The name, without a final dot.
    pub hostname: String,
    /// What it shall lead to.
    pub address: Address,
    /// How long resolvers may keep it, in seconds.
    pub ttl: u32,
    /// Whom it shall belong to.
    pub owner: Owner,
}

/// What publishing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The name was changed.
    Changed,
    /// It was so already: nothing was written.
    Unchanged,
}

/// Whether a name lies in a zone: at it, or below it. Both with or without a final dot.
#[must_use]
pub fn inside(zone: &str, hostname: &str) -> bool {
    let labels = |it: &str| it.trim_end_matches('.').to_ascii_lowercase();
    let (zone, hostname) = (labels(zone), labels(hostname));
    !zone.is_empty()
        && hostname.strip_suffix(&zone).is_some_and(|rest| rest.is_empty() || (rest.len() > 1 && rest.ends_with('.')))
}

/// Why a name could not be read or changed, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum TrafficError {
    #[error("'{0}' is not a domain name: correct spec.zone of the DnsZone")]
    Zone(String),
    #[error(
        "'{0}' is not a server: write an address or a name in spec.rfc2136.server of the DnsZone, and a port when it is not 53"
    )]
    Server(String),
    #[error("'{0}' is not the name of a key: correct spec.rfc2136.tsig.name of the DnsZone")]
    KeyName(String),
    #[error(
        "the entry 'secret' of the Secret that spec.rfc2136.tsig.secret of the DnsZone names is not Base64: write it as it stands in the server's key file"
    )]
    Secret,
    #[error("'{hostname}' does not lie in the zone '{zone}': correct traffic.hostname, or traffic.zone")]
    Outside { zone: String, hostname: String },
    #[error("'{0}' is not a domain name, so the public name cannot lead to it")]
    Target(String),
    #[error("'{0}' cannot be written as an owner: the application's identity must have no commas, blanks or quotes")]
    OwnerText(String),
    #[error("the server '{server}' of spec.rfc2136.server cannot be found: {reason}; correct it, or write an address")]
    Unresolvable { server: String, reason: String },
    #[error(
        "no connection to the server '{server}' of spec.rfc2136.server: {reason}; check the address, and that its port is open for TCP from here"
    )]
    Unreachable { server: String, reason: String },
    #[error("the server '{server}' of spec.rfc2136.server did not answer within {seconds} s")]
    Deadline { server: String, seconds: u64 },
    #[error("the server '{server}' of spec.rfc2136.server ended the connection, or sent what cannot be read: {reason}")]
    Garbled { server: String, reason: String },
    #[error(
        "the server does not know the key '{key}' with that algorithm: check spec.rfc2136.tsig.name and spec.rfc2136.tsig.algorithm of the DnsZone"
    )]
    UnknownKey { key: String },
    #[error(
        "the server refused the signature of the key '{key}': the Secret that spec.rfc2136.tsig.secret of the DnsZone names does not hold the server's secret"
    )]
    WrongSecret { key: String },
    #[error("the server's clock and this one's are {seconds} s apart: set the wrong one, 300 s are tolerated")]
    Clock { seconds: u64 },
    #[error(
        "the server '{server}' did not sign its answer, or not with the key '{key}': check that spec.rfc2136.server of the DnsZone is the zone's primary server"
    )]
    Unsigned { server: String, key: String },
    #[error(
        "the server '{server}' does not serve the zone '{zone}'{instead}: correct spec.zone of the DnsZone, or spec.rfc2136.server, which must be the zone's primary server"
    )]
    NotServed { server: String, zone: String, instead: String },
    #[error(
        "'{hostname}' lies in a zone of its own, below '{zone}': make a DnsZone for it, and name that in traffic.zone"
    )]
    Delegated { zone: String, hostname: String },
    #[error(
        "the server does not let the key '{key}' change '{name}' in the zone '{zone}': grant it A, AAAA, CNAME and TXT there (BIND: update-policy {{ grant {key} zonesub A AAAA CNAME TXT; }};), and check that spec.rfc2136.server of the DnsZone is the primary server"
    )]
    Denied { key: String, zone: String, name: String },
    #[error("the server '{server}' of spec.rfc2136.server answered {code}")]
    Failed { server: String, code: String },
    #[error(
        "'{hostname}' belongs to somebody else ({found}), and is left as it is: remove what stands there, or hand it over by the TXT record {hand_over}"
    )]
    Foreign { hostname: String, found: String, hand_over: String },
    #[error("'{hostname}' was published by the region '{region}' under epoch {epoch}, which is newer than {mine}")]
    Newer { hostname: String, region: String, epoch: u64, mine: u64 },
    #[error(
        "'{hostname}' was published by the region '{region}' under the same epoch {epoch}: two regions believe to hold it, and a person must decide"
    )]
    Contested { hostname: String, region: String, epoch: u64 },
    #[error(
        "'{hostname}' cannot be an alias, since other records stand at that name ({types}): remove them, or use a Service that has an address instead of a name"
    )]
    Collision { hostname: String, types: String },
    #[error(
        "'{hostname}' did not become what it should in {attempts} attempts: somebody else keeps changing it, or the server ignores the change"
    )]
    Unsettled { hostname: String, attempts: u32 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_inside_its_zone_and_nowhere_else() {
        for (zone, hostname, is) in [
            ("example.com", "shop.example.com", true),
            ("example.com.", "a.b.Example.COM", true),
            ("example.com", "example.com", true),
            ("example.com", "badexample.com", false),
            ("example.com", ".example.com", false),
            ("shop.example.com", "example.com", false),
            ("example.com", "shop.example.org", false),
            ("", "example.com", false),
        ] {
            assert_eq!(inside(zone, hostname), is, "{hostname} in {zone}");
        }
    }

    #[test]
    fn an_owner_is_read_back_as_it_was_written() {
        let it = Owner { id: "01HZX/shop/web".into(), region: "eu-west".into(), epoch: u64::MAX };
        assert_eq!(Owner::parse(&it.to_string()), Some(it));
    }

    #[test]
    fn what_reprise_did_not_write_is_no_owner() {
        for text in [
            "",
            "v=spf1 -all",
            "heritage=external-dns,owner=x",
            "heritage=reprise,owner=a,region=b,epoch=",
            "heritage=reprise,owner=a,region=b,epoch=-1",
            "heritage=reprise,owner=a,region=b,epoch=01",
            "heritage=reprise,owner=a,region=b,epoch=1 ",
            "heritage=reprise,owner=,region=b,epoch=1",
            "heritage=reprise,owner=a,x=y,region=b,epoch=1",
            "heritage=reprise,owner=a,region=b,epoch=1,epoch=2",
        ] {
            assert_eq!(Owner::parse(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        assert_eq!(Address::of("192.0.2.1"), Address::V4(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(Address::of("2001:db8::1").to_string(), "2001:db8::1");
        assert_eq!(Address::of("LB-1.example.net."), Address::Name("lb-1.example.net".into()));
    }
}
