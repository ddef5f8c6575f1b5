//! A zone that is changed by DNS UPDATE (RFC 2136): the server does the compare-and-swap.
//!
//! Each change is one message: it names all that was read as prerequisites, and replaces the address and the ownership
//! together. The server takes it as a whole, or not at all because something has changed since.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode, UpdateMessage},
    rr::{
        self, DNSClass, Name, RData, RecordType, TSigner,
        rdata::{A, AAAA, CNAME, TXT, tsig::TsigAlgorithm as Algorithm},
    },
};

use crate::{
    api::dns_zone::TsigAlgorithm,
    core::claim::mark::{Standing, standing},
    traffic::{
        Address, Owner, Publication, Published, Record, TrafficError,
        resolve::Resolve,
        wire::{Clock, DEADLINE, Session, WireError},
    },
};

/// How often a change is tried while others change the same name.
const ATTEMPTS: u32 = 5;
/// How far clocks may be apart, in seconds: what RFC 8945 recommends.
const FUDGE: u16 = 300;
/// The types that a name's address may be of.
const ADDRESSES: [RecordType; 3] = [RecordType::A, RecordType::AAAA, RecordType::CNAME];

/// The settings of a zone, as the `DnsZone` and its Secret have them.
#[derive(Clone)]
pub struct Settings {
    /// `spec.zone`.
    pub zone: String,
    /// `spec.rfc2136.server`.
    pub server: String,
    /// `spec.rfc2136.tsig.name`.
    pub key_name: String,
    /// `spec.rfc2136.tsig.algorithm`.
    pub algorithm: TsigAlgorithm,
    /// The entry `secret` of the Secret, in Base64.
    pub secret: String,
}

/// A zone on its primary server.
pub struct Rfc2136 {
    zone: Name,
    server: String,
    host: String,
    port: u16,
    key: String,
    signer: TSigner,
    resolve: Resolve,
    clock: Clock,
}

/// The seconds since 1970 by this machine's clock.
#[must_use]
pub fn system_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

/// A name, and the one below it that carries the ownership: beside the name itself it could not stand with a CNAME.
struct Names {
    text: String,
    address: Name,
    owner: Name,
}

/// The record sets at both names, as the server has them.
struct Found {
    address: Vec<rr::Record>,
    owner: Vec<rr::Record>,
}

impl Rfc2136 {
    /// Understands the settings. Nothing is sent yet.
    ///
    /// # Errors
    /// When a setting cannot be understood.
    #[expect(clippy::missing_panics_doc, reason = "the algorithms of the API are all supported")]
    pub fn new(settings: &Settings, resolve: Resolve, clock: Clock) -> Result<Self, TrafficError> {
        let zone = domain(&settings.zone).ok_or_else(|| TrafficError::Zone(settings.zone.clone()))?;
        let server = settings.server.clone();
        let (host, port) = host_and_port(&server).ok_or_else(|| TrafficError::Server(server.clone()))?;
        let key_name = domain(&settings.key_name).ok_or_else(|| TrafficError::KeyName(settings.key_name.clone()))?;
        let algorithm = match settings.algorithm {
            TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
        };
        // Key files are copied by hand, with the line's end.
        let secret = STANDARD.decode(settings.secret.trim()).ok().filter(|it| !it.is_empty());
        let signer = TSigner::new(secret.ok_or(TrafficError::Secret)?, algorithm, key_name, FUDGE)
            .expect("the algorithms of the API are all supported");
        let key = settings.key_name.trim_end_matches('.').to_owned();
        Ok(Self { zone, server, host, port, key, signer, resolve, clock })
    }

    /// Whether the server answers for the zone, and takes updates of it signed with the key. Nothing is changed.
    ///
    /// # Errors
    /// What is wrong, by field, and what to do about it.
    pub async fn test(&self) -> Result<(), TrafficError> {
        let mut session = self.connect().await?;
        let answer = self.ask(&mut session, &self.zone, RecordType::SOA).await?;
        let is_soa = |it: &&rr::Record| it.record_type() == RecordType::SOA;
        if answer.answers.iter().any(|it| is_soa(&it) && it.name == self.zone) {
            return self.test_permission(&mut session).await;
        }
        let parent = answer.authorities.iter().find(is_soa).map(|it| plain(&it.name));
        Err(self.not_served(parent.map(|it| format!(", but '{it}'")).unwrap_or_default()))
    }

    /// An update that removes records which nobody has: permission is checked for each, and the zone stays as it is.
    async fn test_permission(&self, session: &mut Session<'_>) -> Result<(), TrafficError> {
        let names = self.names(&format!("reprise-test.{}", plain(&self.zone)))?;
        let nothing = |name: &Name, data| {
            let mut record = rr::Record::from_rdata(name.clone(), 0, data);
            record.dns_class = DNSClass::NONE;
            record
        };
        let mut update = self.update();
        update.add_update(nothing(&names.address, RData::A(A::new(192, 0, 2, 0))));
        update.add_update(nothing(&names.address, RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0))));
        update.add_update(nothing(&names.address, RData::CNAME(CNAME(names.owner.clone()))));
        update.add_update(nothing(&names.owner, RData::TXT(TXT::new(vec!["reprise-test".to_owned()]))));
        match self.exchange(session, update).await?.response_code {
            ResponseCode::NoError => Ok(()),
            code => Err(self.denied(&names.text, code)),
        }
    }

    /// What stands at a name.
    ///
    /// # Errors
    /// When it cannot be read, or does not lie in the zone.
    pub async fn read(&self, hostname: &str) -> Result<Record, TrafficError> {
        let names = self.names(hostname)?;
        let found = self.find(&mut self.connect().await?, &names).await?;
        Ok(Record { addresses: found.addresses(), ttl: found.ttl(), owner: found.sole_owner() })
    }

    /// Gives a name its address and its owner, by compare-and-swap from what is read.
    ///
    /// # Errors
    /// See `Provider::publish`.
    pub async fn publish(&self, wanted: &Publication) -> Result<Published, TrafficError> {
        let names = self.names(&wanted.hostname)?;
        let address = data(&wanted.address)?;
        if !wanted.owner.is_plain() {
            return Err(TrafficError::OwnerText(wanted.owner.id.clone()));
        }
        let mut sent = false;
        let mut unknown = None;
        for attempt in 0..=ATTEMPTS {
            let mut session = self.connect().await?;
            let found = self.find(&mut session, &names).await?;
            if settled(&found, wanted, sent)? {
                return Ok(if sent { Published::Changed } else { Published::Unchanged });
            }
            if attempt == ATTEMPTS {
                break;
            }
            if let Address::Name(_) = wanted.address {
                self.check_alone(&mut session, &names).await?;
            }
            match self.replace(&mut session, &names, &found, wanted, &address).await {
                Ok(true) => sent = true,
                // Somebody was faster. Two that are in step would meet again.
                Ok(false) => tokio::time::sleep(Duration::from_millis(rand::random_range(20..200))).await,
                // It may have been done: what stands there now tells, and the prerequisites keep it from being done twice.
                Err(error) if error.is_ambiguous() => {
                    sent = true;
                    unknown = Some(self.explained(error));
                }
                Err(error) => return Err(self.explained(error)),
            }
        }
        Err(unknown.unwrap_or(TrafficError::Unsettled { hostname: names.text, attempts: ATTEMPTS }))
    }

    /// Sends the one message that changes a name. False when what was read does not stand any more.
    async fn replace(
        &self,
        session: &mut Session<'_>,
        names: &Names,
        found: &Found,
        wanted: &Publication,
        address: &RData,
    ) -> Result<bool, WireError> {
        let mut update = self.update();
        let sets = ADDRESSES.map(|it| (&names.address, it, &found.address));
        for (name, kind, records) in sets.into_iter().chain([(&names.owner, RecordType::TXT, &found.owner)]) {
            let mut old = records.iter().filter(|it| it.record_type() == kind).peekable();
            if old.peek().is_none() {
                update.add_pre_requisite(empty(name, kind, DNSClass::NONE));
                continue;
            }
            update.add_pre_requisites(old.map(|it| rr::Record::from_rdata(name.clone(), 0, it.data.clone())));
            update.add_update(empty(name, kind, DNSClass::ANY));
        }
        update.add_update(rr::Record::from_rdata(names.address.clone(), wanted.ttl, address.clone()));
        let owner = RData::TXT(TXT::new(vec![wanted.owner.to_string()]));
        update.add_update(rr::Record::from_rdata(names.owner.clone(), wanted.ttl, owner));
        match session.exchange(update).await?.response_code {
            ResponseCode::NoError => Ok(true),
            ResponseCode::YXDomain | ResponseCode::YXRRSet | ResponseCode::NXRRSet | ResponseCode::NXDomain => {
                Ok(false)
            }
            code => Err(WireError::Refused(names.text.clone(), code)),
        }
    }

    async fn find(&self, session: &mut Session<'_>, names: &Names) -> Result<Found, TrafficError> {
        let mut found = Found { address: Vec::new(), owner: Vec::new() };
        // The owner last: an address that another region publishes in between must not look as if nobody owned it.
        for (name, kind) in
            [(&names.address, RecordType::A), (&names.address, RecordType::AAAA), (&names.owner, RecordType::TXT)]
        {
            let answer = self.ask(session, name, kind).await?;
            let records = if kind == RecordType::TXT { &mut found.owner } else { &mut found.address };
            // A CNAME comes with either question; what it leads to comes with it, and is of no interest here.
            let of_name = answer.answers.into_iter().filter(|it| it.name == *name);
            for record in of_name.filter(|it| [kind, RecordType::CNAME].contains(&it.record_type())) {
                if !records.contains(&record) {
                    records.push(record);
                }
            }
        }
        // A wildcard answers for names that do not exist. What is ours cannot come from one.
        if found.sole_owner().is_none() {
            if !found.owner.is_empty() && self.is_unused(session, &names.owner).await? {
                found.owner.clear();
            }
            if !found.address.is_empty() && self.is_unused(session, &names.address).await? {
                found.address.clear();
            }
        }
        Ok(found)
    }

    /// A CNAME beside other records is ignored by servers without a word, after the address was removed.
    async fn check_alone(&self, session: &mut Session<'_>, names: &Names) -> Result<(), TrafficError> {
        let answer = self.ask(session, &names.address, RecordType::ANY).await?;
        let others: BTreeSet<_> = answer
            .answers
            .iter()
            .filter(|it| it.name == names.address)
            .map(rr::Record::record_type)
            .filter(|it| {
                let signatures = [RecordType::RRSIG, RecordType::NSEC, RecordType::NSEC3];
                !ADDRESSES.contains(it) && !signatures.contains(it)
            })
            .map(|it| it.to_string())
            .collect();
        if others.is_empty() || self.is_unused(session, &names.address).await? {
            return Ok(());
        }
        let types = others.into_iter().collect::<Vec<_>>().join(", ");
        Err(TrafficError::Collision { hostname: names.text.clone(), types })
    }

    /// Whether nothing stands at a name, by an update of nothing under that condition.
    async fn is_unused(&self, session: &mut Session<'_>, name: &Name) -> Result<bool, TrafficError> {
        let mut update = self.update();
        update.add_pre_requisite(empty(name, RecordType::ANY, DNSClass::NONE));
        match self.exchange(session, update).await?.response_code {
            ResponseCode::NoError => Ok(true),
            ResponseCode::YXDomain => Ok(false),
            code => Err(self.denied(&plain(name), code)),
        }
    }

    async fn ask(&self, session: &mut Session<'_>, name: &Name, kind: RecordType) -> Result<Message, TrafficError> {
        let mut question = Message::query();
        question.metadata.recursion_desired = false;
        question.add_query(Query::query(name.clone(), kind));
        let answer = self.exchange(session, question).await?;
        match answer.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain if answer.authoritative => Ok(answer),
            ResponseCode::NoError if answer.authorities.iter().any(|it| self.is_below(it)) => {
                Err(TrafficError::Delegated { zone: plain(&self.zone), hostname: plain(name) })
            }
            ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::Refused | ResponseCode::NotAuth => {
                Err(self.not_served(String::new()))
            }
            code => Err(TrafficError::Failed { server: self.server.clone(), code: code.to_string() }),
        }
    }

    /// Whether a record hands a part of the zone to other servers.
    fn is_below(&self, record: &rr::Record) -> bool {
        record.record_type() == RecordType::NS && record.name != self.zone && self.zone.zone_of(&record.name)
    }

    async fn exchange(&self, session: &mut Session<'_>, message: Message) -> Result<Message, TrafficError> {
        session.exchange(message).await.map_err(|it| self.explained(it))
    }

    async fn connect(&self) -> Result<Session<'_>, TrafficError> {
        let found = self.resolve.lookup(&self.host).await;
        let addresses: Vec<SocketAddr> = found
            .map_err(|it| TrafficError::Unresolvable { server: self.server.clone(), reason: it.to_string() })?
            .into_iter()
            .map(|it| SocketAddr::new(it, self.port))
            .collect();
        Session::open(&addresses, &self.signer, self.clock).await.map_err(|it| self.explained(it))
    }

    fn update(&self) -> Message {
        let mut update = Message::query();
        update.metadata.op_code = OpCode::Update;
        update.metadata.recursion_desired = false;
        update.add_zone(Query::query(self.zone.clone(), RecordType::SOA));
        update
    }

    fn names(&self, hostname: &str) -> Result<Names, TrafficError> {
        let outside = || TrafficError::Outside { zone: plain(&self.zone), hostname: hostname.to_owned() };
        let address = domain(hostname).filter(|it| self.zone.zone_of(it)).ok_or_else(outside)?;
        let owner = address.prepend_label("_reprise").map_err(|_| outside())?;
        Ok(Names { text: plain(&address), address, owner })
    }

    fn not_served(&self, instead: String) -> TrafficError {
        TrafficError::NotServed { server: self.server.clone(), zone: plain(&self.zone), instead }
    }

    /// Why an update was not taken, when it was not for its prerequisites.
    fn denied(&self, name: &str, code: ResponseCode) -> TrafficError {
        match code {
            ResponseCode::Refused | ResponseCode::NotImp => {
                TrafficError::Denied { key: self.key.clone(), zone: plain(&self.zone), name: name.to_owned() }
            }
            ResponseCode::NotAuth | ResponseCode::NotZone => self.not_served(String::new()),
            code => TrafficError::Failed { server: self.server.clone(), code: code.to_string() },
        }
    }

    fn explained(&self, error: WireError) -> TrafficError {
        let (server, key) = (self.server.clone(), self.key.clone());
        match error {
            WireError::Connect(reason) => TrafficError::Unreachable { server, reason },
            WireError::Deadline => TrafficError::Deadline { server, seconds: DEADLINE.as_secs() },
            WireError::Garbled(reason) => TrafficError::Garbled { server, reason },
            WireError::BadKey => TrafficError::UnknownKey { key },
            WireError::BadSignature => TrafficError::WrongSecret { key },
            WireError::BadTime(seconds) => TrafficError::Clock { seconds },
            WireError::Unsigned => TrafficError::Unsigned { server, key },
            WireError::Refused(name, code) => self.denied(&name, code),
        }
    }
}

impl Found {
    fn addresses(&self) -> Vec<Address> {
        let address = |it: &rr::Record| match &it.data {
            RData::A(it) => Some(Address::V4(it.0)),
            RData::AAAA(it) => Some(Address::V6(it.0)),
            RData::CNAME(it) => Some(Address::Name(plain(&it.0))),
            _ => None,
        };
        let mut all: Vec<_> = self.address.iter().filter_map(address).collect();
        all.sort();
        all
    }

    fn ttl(&self) -> u32 {
        self.address.iter().map(|it| it.ttl).min().unwrap_or_default()
    }

    /// The owner, when nothing but one owner's text stands there.
    fn sole_owner(&self) -> Option<Owner> {
        match &self.owner[..] {
            [only] => Owner::parse(&text(only)),
            _ => None,
        }
    }
}

/// Whether a name is as wanted. It fails when the name may not be changed to that.
fn settled(found: &Found, wanted: &Publication, sent: bool) -> Result<bool, TrafficError> {
    let hostname = wanted.hostname.clone();
    let Some(owner) = found.sole_owner() else {
        if found.owner.is_empty() && found.address.is_empty() {
            return Ok(false);
        }
        let found = match &found.owner[..] {
            [] => found.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            texts => texts.iter().map(|it| format!("\"{}\"", text(it))).collect::<Vec<_>>().join(", "),
        };
        return Err(foreign(wanted, found));
    };
    if owner.id != wanted.owner.id {
        return Err(foreign(wanted, format!("\"{owner}\"")));
    }
    match standing((owner.epoch, &owner.region), (wanted.owner.epoch, &wanted.owner.region)) {
        Standing::Older | Standing::Mine => {}
        Standing::Newer => {
            let Owner { region, epoch, .. } = owner;
            return Err(TrafficError::Newer { hostname, region, epoch, mine: wanted.owner.epoch });
        }
        Standing::Contested => {
            return Err(TrafficError::Contested { hostname, region: owner.region, epoch: owner.epoch });
        }
    }
    // A server may cut the time to live to what it likes: once it was told, that is left to it.
    let ttl_is_right = sent || found.ttl() == wanted.ttl;
    Ok(owner == wanted.owner && found.addresses() == [wanted.address.clone()] && ttl_is_right)
}

fn foreign(wanted: &Publication, found: String) -> TrafficError {
    let lowest = Owner { epoch: 0, ..wanted.owner.clone() };
    let hand_over = format!("_reprise.{} \"{lowest}\"", wanted.hostname);
    TrafficError::Foreign { hostname: wanted.hostname.clone(), found, hand_over }
}

/// The text of a record, as far as it is one: at most 255 characters.
fn text(record: &rr::Record) -> String {
    match &record.data {
        RData::TXT(it) => String::from_utf8_lossy(&it.txt_data.concat()).chars().take(255).collect(),
        other => format!("{} {other}", other.record_type()),
    }
}

fn data(address: &Address) -> Result<RData, TrafficError> {
    match address {
        Address::V4(it) => Ok(RData::A(A(*it))),
        Address::V6(it) => Ok(RData::AAAA(AAAA(*it))),
        Address::Name(it) => {
            let name = domain(it).ok_or_else(|| TrafficError::Target(it.clone()))?;
            Ok(RData::CNAME(CNAME(name)))
        }
    }
}

/// A record without data, as prerequisites and removals are written.
fn empty(name: &Name, kind: RecordType, class: DNSClass) -> rr::Record {
    let mut record = rr::Record::update0(name.clone(), 0, kind);
    record.dns_class = class;
    record
}

/// An absolute name in lower case, from what people write. None also for the root.
fn domain(text: &str) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
    if text.is_empty() || !text.bytes().all(plain) {
        return None;
    }
    let mut name = Name::from_ascii(text.to_ascii_lowercase()).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A name as people write it: in lower case, without the final dot.
fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// `192.0.2.53`, `2001:db8::53`, `[2001:db8::53]:5353`, `ns1.example.com:5353`; the port is 53 where there is none.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    if let Ok(it) = SocketAddr::from_str(text) {
        return Some((it.ip().to_string(), it.port()));
    }
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
    if let Ok(it) = IpAddr::from_str(bare) {
        return Some((it.to_string(), 53));
    }
    let (host, port) =
        text.split_once(':').map_or(Some((text, 53)), |(host, port)| Some((host, port.parse().ok()?)))?;
    (port != 0 && domain(host).is_some()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_people_write_them() {
        for (text, host, port) in [
            ("192.0.2.53", "192.0.2.53", 53),
            ("192.0.2.53:5353", "192.0.2.53", 5353),
            ("2001:db8::53", "2001:db8::53", 53),
            ("[2001:db8::53]", "2001:db8::53", 53),
            ("[2001:db8::53]:5353", "2001:db8::53", 5353),
            ("ns1.example.com", "ns1.example.com", 53),
            ("ns1.example.com:5353", "ns1.example.com", 5353),
        ] {
            assert_eq!(host_and_port(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in ["", ":53", "ns1:", "ns1:0", "ns1:65536", "ns1:x", "https://ns1", "a b", "1:2:3"] {
            assert_eq!(host_and_port(text), None, "{text}");
        }
    }

    #[test]
    fn a_setting_that_cannot_be_understood_is_named() {
        let good = Settings {
            zone: "demo.example".into(),
            server: "192.0.2.53".into(),
            key_name: "key".into(),
            algorithm: TsigAlgorithm::HmacSha256,
            secret: " c2VjcmV0\n".into(),
        };
        let made = |it: &Settings| {
            let resolve = Resolve::with_servers(&["192.0.2.53:53".parse().unwrap()]).unwrap();
            Rfc2136::new(it, resolve, system_clock).map(|_| ()).map_err(|it| it.to_string())
        };
        assert_eq!(made(&good), Ok(()));
        for (wrong, field) in [
            (Settings { zone: "a..b".into(), ..good.clone() }, "spec.zone"),
            (Settings { server: "ns1:x".into(), ..good.clone() }, "spec.rfc2136.server"),
            (Settings { key_name: "a b".into(), ..good.clone() }, "spec.rfc2136.tsig.name"),
            (Settings { secret: "%".into(), ..good.clone() }, "spec.rfc2136.tsig.secret"),
            (Settings { secret: String::new(), ..good.clone() }, "spec.rfc2136.tsig.secret"),
        ] {
            assert!(made(&wrong).is_err_and(|it| it.contains(field)), "{field}");
        }
    }
}
