//! Work on public names: testing zones, publishing, and asking probes once.

use std::net::IpAddr;

use super::{failure, open};
use crate::{
    api::application,
    core::{
        app_key::AppKey,
        work::{Failure, Outcome, Publication},
    },
    operator::{context::Context, stores},
    probe::{Probe, Route},
    traffic::{self, Address, Owner},
};

pub(super) async fn test(name: &str, context: &Context) -> Result<Outcome, Failure> {
    let provider = provider(name, context).await?;
    provider.test().await.map_err(|error| failure("ZoneFailed", error))?;
    Ok(Outcome::Done)
}

pub(super) async fn publish(
    publication: &Publication,
    application: &AppKey,
    vault: &str,
    context: &Context,
) -> Result<Outcome, Failure> {
    let provider = provider(&publication.zone, context).await?;
    let vault = open(vault, context).await?;
    // Opening the vault may have taken time: what cannot be undone is gated at the last moment.
    if !context.keeper.valid_now(application, publication.epoch) {
        return Err(failure("NoClaim", "not published: this region cannot prove that it holds the claim"));
    }
    let wanted = traffic::Publication {
        hostname: publication.hostname.clone(),
        address: Address::of(&publication.address),
        ttl: u32::try_from(publication.ttl).unwrap_or(u32::MAX),
        owner: Owner {
            id: format!("{}/{application}", vault.id()),
            region: context.region.clone(),
            epoch: publication.epoch,
        },
    };
    provider.publish(&wanted).await.map_err(|error| failure("PublishFailed", error))?;
    Ok(Outcome::Done)
}

async fn provider(name: &str, context: &Context) -> Result<traffic::Provider, Failure> {
    let Some(zone) = stores::get(&context.stores.zones, None, name) else {
        return Err(failure("NoZone", format!("there is no DnsZone '{name}' in this cluster")));
    };
    context.secrets.provider(&zone, &context.resolve).await
}

/// Asks each probe once. What was bad; nothing when all is well.
pub(super) async fn ask(
    probes: &[application::Probe],
    at: Option<&(String, IpAddr)>,
    context: &Context,
) -> Result<Outcome, Failure> {
    let route =
        at.map_or(Route::ByName, |(hostname, address)| Route::At { hostname: hostname.clone(), address: *address });
    let mut bad = Vec::new();
    for probe in probes {
        let parsed = Probe::parse("", probe).map_err(|error| failure("ProbeInvalid", error))?;
        let answer = context.vantage.ask(&parsed, &route).await;
        if !answer.good {
            bad.push(format!("{}: {}", probe.name, answer.reason));
        }
    }
    Ok(Outcome::Answered(bad))
}
