//! A public name leads where its owner says, and only the owner with the highest epoch can say so: against real BIND 9.

#![allow(clippy::unwrap_used, reason = "a test ends by it")]

mod bind;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bind::{Bind, ZONE, free_address, provider};
use reprise::{
    api::dns_zone::TsigAlgorithm,
    traffic::{
        Address, Owner, Provider, Publication, Published, Record, TrafficError,
        resolve::{Resolve, ResolveError},
        rfc2136::{Rfc2136, Settings, system_clock},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const APP: &str = "app.demo.example";

fn owner(region: &str, epoch: u64) -> Owner {
    Owner { id: "01HZXVAULT/shop/web".into(), region: region.into(), epoch }
}

/// The name as the region would publish it under an epoch. The address tells the epoch.
fn wanted(region: &str, epoch: u64) -> Publication {
    let last = u8::try_from(epoch % 256).unwrap();
    let address = Address::V4(Ipv4Addr::new(192, 0, 2, last));
    Publication { hostname: APP.into(), address, ttl: 30, owner: owner(region, epoch) }
}

fn at(hostname: &str, address: &str, epoch: u64) -> Publication {
    Publication { hostname: hostname.into(), address: Address::of(address), ..wanted("east", epoch) }
}

#[tokio::test]
async fn a_published_name_has_its_address_and_its_owner() {
    let bind = Bind::start();
    let it = bind.provider();
    assert_eq!(it.read(APP).await, Ok(Record { addresses: vec![], ttl: 0, owner: None }));
    assert_eq!(it.publish(&wanted("east", 1)).await, Ok(Published::Changed));
    assert_eq!(bind.dig(&[APP, "A"]), ["192.0.2.1"]);
    assert_eq!(
        bind.dig(&["_reprise.app.demo.example", "TXT"]),
        ["\"heritage=reprise,owner=01HZXVAULT/shop/web,region=east,epoch=1\""]
    );
    let record = it.read("App.Demo.Example.").await.unwrap();
    assert_eq!(record, Record { addresses: vec![Address::of("192.0.2.1")], ttl: 30, owner: Some(owner("east", 1)) });
}

#[tokio::test]
async fn publishing_what_stands_writes_nothing() {
    let bind = Bind::start();
    let it = bind.provider();
    it.publish(&wanted("east", 1)).await.unwrap();
    let serial = bind.serial();
    for _ in 0..3 {
        assert_eq!(it.publish(&wanted("east", 1)).await, Ok(Published::Unchanged));
    }
    assert_eq!(bind.serial(), serial);
    let slower = Publication { ttl: 60, ..wanted("east", 1) };
    assert_eq!(it.publish(&slower).await, Ok(Published::Changed), "another time to live is a change");
    assert_eq!(it.read(APP).await.unwrap().ttl, 60);
}

#[tokio::test]
async fn an_address_of_any_kind_takes_the_place_of_any_other() {
    let bind = Bind::start();
    let it = bind.provider();
    let addresses = [
        "192.0.2.1",
        "2001:db8::1",
        "lb.example.net",
        "lb2.example.net",
        "192.0.2.2",
        "LB.example.net.",
        "2001:db8::2",
        "192.0.2.3",
    ];
    for (epoch, address) in addresses.into_iter().enumerate() {
        let publication = at(APP, address, epoch as u64);
        assert_eq!(it.publish(&publication).await, Ok(Published::Changed), "{address}");
        assert_eq!(it.publish(&publication).await, Ok(Published::Unchanged), "{address}");
        assert_eq!(it.read(APP).await.unwrap().address(), Some(&Address::of(address)));
        let all = [bind.dig(&[APP, "A"]), bind.dig(&[APP, "AAAA"])].concat();
        assert!(
            all.iter().all(|it| it.trim_end_matches('.') == address.to_lowercase().trim_end_matches('.')),
            "{all:?}"
        );
    }
}

#[tokio::test]
async fn a_lower_epoch_never_takes_a_name_back() {
    let bind = Bind::start();
    let it = bind.provider();
    it.publish(&wanted("east", 6)).await.unwrap();
    it.publish(&wanted("west", 7)).await.unwrap();
    let serial = bind.serial();
    assert_eq!(
        it.publish(&wanted("east", 6)).await,
        Err(TrafficError::Newer { hostname: APP.into(), region: "west".into(), epoch: 7, mine: 6 })
    );
    assert_eq!(
        it.publish(&wanted("east", 7)).await,
        Err(TrafficError::Contested { hostname: APP.into(), region: "west".into(), epoch: 7 })
    );
    assert_eq!((bind.serial(), bind.dig(&[APP, "A"])), (serial, vec!["192.0.2.7".to_owned()]));
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_left_alone_and_can_be_handed_over() {
    let bind = Bind::start();
    let it = bind.provider();
    let serial = bind.serial();
    for (hostname, found) in [
        ("hand.demo.example", "192.0.2.99"),
        ("theirs.demo.example", "owner=other/shop/web"),
        ("spf.demo.example", "v=spf1"),
    ] {
        let error = it.publish(&at(hostname, "192.0.2.1", 5)).await.unwrap_err();
        assert!(matches!(&error, TrafficError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(found), "{error}");
    }
    assert_eq!(bind.serial(), serial);

    let error = it.publish(&at("hand.demo.example", "192.0.2.1", 5)).await.unwrap_err();
    let TrafficError::Foreign { hand_over, .. } = error else { panic!("{error}") };
    let (name, text) = hand_over.split_once(' ').unwrap();
    bind.nsupdate(&[&format!("update add {name} 30 TXT {text}")]);
    assert_eq!(it.publish(&at("hand.demo.example", "192.0.2.1", 5)).await, Ok(Published::Changed));
    assert_eq!(bind.dig(&["hand.demo.example", "A"]), ["192.0.2.1"]);
}

#[tokio::test]
async fn what_a_person_added_beside_an_owned_address_is_cleaned_up() {
    let bind = Bind::start();
    let it = bind.provider();
    it.publish(&wanted("east", 1)).await.unwrap();
    bind.nsupdate(&["update add app.demo.example 30 A 192.0.2.200", "update add app.demo.example 30 AAAA 2001:db8::9"]);
    assert_eq!(it.read(APP).await.unwrap().address(), None);
    assert_eq!(it.publish(&wanted("east", 1)).await, Ok(Published::Changed));
    assert_eq!([bind.dig(&[APP, "A"]), bind.dig(&[APP, "AAAA"])].concat(), ["192.0.2.1"]);
}

#[tokio::test]
async fn two_texts_of_owners_are_nobodys() {
    let bind = Bind::start();
    let it = bind.provider();
    it.publish(&wanted("east", 1)).await.unwrap();
    bind.nsupdate(&["update add _reprise.app.demo.example 30 TXT \"heritage=reprise,owner=x,region=y,epoch=9\""]);
    assert!(matches!(it.publish(&wanted("east", 2)).await, Err(TrafficError::Foreign { .. })));
}

#[tokio::test]
async fn a_wildcard_is_not_taken_for_a_record() {
    let bind = Bind::start();
    let it = bind.provider();
    for (hostname, address) in [("a.wild.demo.example", "192.0.2.1"), ("b.wild.demo.example", "lb.example.net")] {
        assert_eq!(it.read(hostname).await.unwrap().addresses, []);
        assert_eq!(it.publish(&at(hostname, address, 1)).await, Ok(Published::Changed));
        assert_eq!(it.read(hostname).await.unwrap().address(), Some(&Address::of(address)));
    }
    assert_eq!(bind.dig(&["c.wild.demo.example", "A"]), ["192.0.2.96"]);
}

#[tokio::test]
async fn an_alias_is_refused_where_other_records_stand() {
    let bind = Bind::start();
    let it = bind.provider();
    let error = it.publish(&at("mail.demo.example", "lb.example.net", 1)).await.unwrap_err();
    assert_eq!(error, TrafficError::Collision { hostname: "mail.demo.example".into(), types: "MX".into() });
    assert!(matches!(it.publish(&at(ZONE, "lb.example.net", 1)).await, Err(TrafficError::Collision { .. })));
    assert_eq!(it.publish(&at("mail.demo.example", "192.0.2.1", 1)).await, Ok(Published::Changed));
    assert_eq!(
        it.publish(&at(ZONE, "192.0.2.1", 1)).await,
        Ok(Published::Changed),
        "an address may stand at the zone's name"
    );
    assert!(matches!(
        it.publish(&at("mail.demo.example", "lb.example.net", 2)).await,
        Err(TrafficError::Collision { .. })
    ));
    assert_eq!(bind.dig(&["mail.demo.example", "A"]), ["192.0.2.1"], "and nothing was lost by trying");
}

#[tokio::test]
async fn names_outside_the_zone_are_refused() {
    let bind = Bind::start();
    let it = bind.provider();
    for hostname in ["app.other.example", "demo.example.org", "example", ""] {
        assert!(matches!(it.read(hostname).await, Err(TrafficError::Outside { .. })), "{hostname}");
    }
    assert!(matches!(it.read("x.child.demo.example").await, Err(TrafficError::Delegated { .. })));
}

#[tokio::test]
async fn the_test_of_a_zone_passes_and_changes_nothing() {
    let bind = Bind::start();
    let serial = bind.serial();
    assert_eq!(bind.provider().test().await, Ok(()));
    let strong = Settings { key_name: "Strong-Key.".into(), algorithm: TsigAlgorithm::HmacSha512, ..bind.settings() };
    assert_eq!(provider(&strong).test().await, Ok(()));
    assert_eq!(bind.serial(), serial);
}

#[tokio::test]
async fn each_wrong_setting_has_its_own_message() {
    let bind = Bind::start();
    let good = bind.settings();
    let tell = async |it: Settings| provider(&it).test().await.unwrap_err();

    let error = tell(Settings { secret: "d3Jvbmc=".into(), ..good.clone() }).await;
    assert_eq!(error, TrafficError::WrongSecret { key: "reprise-key".into() });
    let error = tell(Settings { key_name: "unknown-key".into(), ..good.clone() }).await;
    assert_eq!(error, TrafficError::UnknownKey { key: "unknown-key".into() });
    let error = tell(Settings { algorithm: TsigAlgorithm::HmacSha512, ..good.clone() }).await;
    assert_eq!(error, TrafficError::UnknownKey { key: "reprise-key".into() });
    let error = tell(Settings { zone: "nowhere.example".into(), ..good.clone() }).await;
    assert!(matches!(&error, TrafficError::NotServed { zone, .. } if zone == "nowhere.example"), "{error}");
    let error = tell(Settings { zone: "sub.demo.example".into(), ..good.clone() }).await;
    assert!(matches!(&error, TrafficError::NotServed { instead, .. } if instead == ", but 'demo.example'"), "{error}");
    let error = tell(Settings { zone: "fixed.example".into(), ..good.clone() }).await;
    assert!(matches!(&error, TrafficError::Denied { zone, .. } if zone == "fixed.example"), "{error}");
    let error = tell(Settings { key_name: "other-key".into(), ..good.clone() }).await;
    assert!(matches!(&error, TrafficError::Denied { key, .. } if key == "other-key"), "{error}");
    let error = tell(Settings { server: free_address().to_string(), ..good.clone() }).await;
    assert!(matches!(&error, TrafficError::Unreachable { reason, .. } if reason == "connection refused"), "{error}");

    let early =
        Rfc2136::new(&good, Resolve::with_servers(&[bind.address]).unwrap(), || system_clock() - 1_000).unwrap();
    let error = early.test().await.unwrap_err();
    assert!(matches!(error, TrafficError::Clock { seconds: 998..=1_002 }), "{error}");
}

#[tokio::test]
async fn a_key_without_permission_changes_nothing() {
    let bind = Bind::start();
    let serial = bind.serial();
    let it = provider(&Settings { key_name: "other-key".into(), ..bind.settings() });
    assert!(matches!(it.publish(&wanted("east", 1)).await, Err(TrafficError::Denied { .. })));
    assert_eq!(bind.serial(), serial);
}

#[tokio::test]
async fn a_server_is_found_by_its_name() {
    let bind = Bind::start();
    let named = |name: &str| Settings { server: format!("{name}:{}", bind.address.port()), ..bind.settings() };
    let resolve = || Resolve::with_servers(&[bind.address]).unwrap();
    let it = Provider::rfc2136(&named("ns1.demo.example"), resolve()).unwrap();
    assert_eq!(it.test().await, Ok(()));
    let it = Provider::rfc2136(&named("ns9.demo.example"), resolve()).unwrap();
    let error = it.test().await.unwrap_err();
    assert!(error.to_string().contains("the name 'ns9.demo.example' does not exist"), "{error}");
    assert!(matches!(error, TrafficError::Unresolvable { .. }));
}

#[tokio::test]
async fn a_switched_name_is_seen_at_once() {
    let bind = Bind::start();
    let resolve = Resolve::with_servers(&[bind.address]).unwrap();
    assert_eq!(resolve.lookup(APP).await, Err(ResolveError::Absent(APP.into())));
    for epoch in 1..4 {
        bind.provider().publish(&wanted("east", epoch)).await.unwrap();
        let Address::V4(expected) = wanted("east", epoch).address else { unreachable!() };
        assert_eq!(resolve.lookup(APP).await, Ok(vec![expected.into()]));
    }
    assert_eq!(resolve.lookup("mail.demo.example").await, Err(ResolveError::NoAddress("mail.demo.example".into())));
    let silent = Resolve::with_servers(&[free_address()]).unwrap();
    assert_eq!(silent.lookup(APP).await, Err(ResolveError::Silent(APP.into())));
}

/// Stands between a provider and the server, and does to each message what it is told to.
async fn between(server: SocketAddr, act: impl Fn(&[u8]) -> Act + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let act = Arc::new(act);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(pass(client, server, act.clone()));
        }
    });
    address
}

#[derive(Clone, Copy, PartialEq)]
enum Act {
    Pass,
    LoseQuestion,
    LoseAnswer,
    CloseAfter,
}

async fn pass(mut client: TcpStream, server: SocketAddr, act: Arc<impl Fn(&[u8]) -> Act>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    loop {
        let question = message(&mut client).await?;
        let act = act(&question);
        if act == Act::LoseQuestion {
            std::future::pending::<()>().await;
        }
        server.write_all(&question).await?;
        let answer = message(&mut server).await?;
        match act {
            Act::LoseAnswer => std::future::pending::<()>().await,
            Act::CloseAfter => return Ok(()),
            Act::Pass | Act::LoseQuestion => client.write_all(&answer).await?,
        }
    }
}

async fn message(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = from.read_u16().await?;
    let mut all = length.to_be_bytes().to_vec();
    all.resize(2 + usize::from(length), 0);
    from.read_exact(&mut all[2..]).await?;
    Ok(all)
}

fn is_update(message: &[u8]) -> bool {
    message[4] >> 3 & 0xf == 5
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_read_back_and_not_done_twice() {
    let bind = Bind::start();
    for (epoch, act) in [(1, Act::CloseAfter), (2, Act::LoseAnswer)] {
        let updates = Arc::new(AtomicU32::new(0));
        let count = updates.clone();
        let address = between(bind.address, move |it| {
            if is_update(it) && count.fetch_add(1, Ordering::SeqCst) == 0 { act } else { Act::Pass }
        })
        .await;
        let it = provider(&Settings { server: address.to_string(), ..bind.settings() });
        assert_eq!(it.publish(&wanted("east", epoch)).await, Ok(Published::Changed));
        assert_eq!(updates.load(Ordering::SeqCst), 1, "it was read back, and not sent again");
        assert_eq!(it.read(APP).await.unwrap().owner, Some(owner("east", epoch)));
    }
}

#[tokio::test]
async fn a_change_that_was_lost_on_the_way_is_sent_again() {
    let bind = Bind::start();
    let lost = AtomicBool::new(false);
    let address = between(bind.address, move |it| {
        if is_update(it) && !lost.swap(true, Ordering::SeqCst) { Act::LoseQuestion } else { Act::Pass }
    })
    .await;
    let it = provider(&Settings { server: address.to_string(), ..bind.settings() });
    assert_eq!(it.publish(&wanted("east", 1)).await, Ok(Published::Changed));
    assert_eq!(bind.dig(&[APP, "A"]), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_silent_server_ends_in_an_error_in_time() {
    let bind = Bind::start();
    let address = between(bind.address, |_| Act::LoseAnswer).await;
    let it = provider(&Settings { server: address.to_string(), ..bind.settings() });
    let end = tokio::time::timeout(Duration::from_secs(8), it.publish(&wanted("east", 1))).await;
    assert!(matches!(end, Ok(Err(TrafficError::Deadline { seconds: 5, .. }))), "{end:?}");
}

#[tokio::test]
async fn an_answer_that_was_forged_is_not_believed() {
    let bind = Bind::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let real = bind.address;
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(real).await.unwrap();
            while let Ok(question) = message(&mut client).await {
                server.write_all(&question).await.unwrap();
                let mut answer = message(&mut server).await.unwrap();
                let Some(at) = answer.windows(4).position(|it| it == [192, 0, 2, 1]) else {
                    client.write_all(&answer).await.unwrap();
                    continue;
                };
                answer[at + 3] = 66;
                client.write_all(&answer).await.unwrap();
            }
        }
    });
    bind.provider().publish(&wanted("east", 1)).await.unwrap();
    let it = provider(&Settings { server: address.to_string(), ..bind.settings() });
    assert!(matches!(it.read(APP).await, Err(TrafficError::Unsigned { .. })));
}

/// Says that the test is over, also when it failed: the runtime waits for threads that block.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_regions_that_race_the_higher_epoch_wins_and_nothing_is_mixed() {
    let bind = Arc::new(Bind::start());
    let done = Arc::new(AtomicBool::new(false));
    let end = End(done.clone());
    // A transfer is a look at the whole zone at one instant.
    let watcher = tokio::task::spawn_blocking({
        let (bind, done) = (bind.clone(), done.clone());
        move || {
            let mut looks = 0;
            while !done.load(Ordering::SeqCst) {
                let all = bind.dig(&["+noshort", "+nocmd", "+nostats", ZONE, "AXFR"]);
                let of = |name: &str| all.iter().filter(|it| it.starts_with(name)).cloned().collect::<Vec<_>>();
                let (addresses, owners) = (of("app.demo.example."), of("_reprise.app.demo.example."));
                assert!(addresses.len() == owners.len() && owners.len() <= 1, "{all:?}");
                if let (Some(address), Some(owner)) = (addresses.first(), owners.first()) {
                    let epoch = owner.rsplit("epoch=").next().unwrap().trim_end_matches('"');
                    assert!(address.ends_with(&format!("192.0.2.{epoch}")), "{address} {owner}");
                    looks += 1;
                }
            }
            looks
        }
    });
    for round in 0..30 {
        let (low, high) = (2 * round + 1, 2 * round + 2);
        let publish = |region: &'static str, epoch| {
            let it = bind.provider();
            tokio::spawn(async move { it.publish(&wanted(region, epoch)).await })
        };
        let (east, west) = (publish("east", low), publish("west", high));
        let (east, west) = (east.await.unwrap(), west.await.unwrap());
        assert_eq!(west, Ok(Published::Changed), "round {round}");
        assert!(matches!(east, Ok(Published::Changed) | Err(TrafficError::Newer { .. })), "round {round}: {east:?}");
        let record = bind.provider().read(APP).await.unwrap();
        assert_eq!(record.owner, Some(owner("west", high)), "round {round}");
        assert_eq!(record.address(), Some(&wanted("west", high).address), "round {round}");
    }
    drop(end);
    assert!(watcher.await.unwrap() > 10, "it was looked at while they raced");
}
