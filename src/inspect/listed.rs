//! `reprise vault points`: all points of an application in a vault, with what retention makes of each.
//!
//! All are gone through, since what becomes of one depends on the others; what is told of them is a page.

use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::{InspectError, application};
use crate::{
    api::{application::Retention, recovery_point::Level},
    core::{
        app_key::AppKey,
        retention::{Fate, Known, Reason},
        vault_answer::{Newest, PointInVault, PointState, PointsInVault},
        verified::Damage,
    },
    operator::work::{Surveyed, survey},
    vault::Vault,
};

/// How many points are read at a time.
const AT_ONCE: usize = 16;

/// Which points.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct PointsArguments {
    /// The `Vault`.
    pub vault: String,
    /// The application, as NAMESPACE/NAME.
    #[arg(value_parser = application)]
    pub application: AppKey,
    /// The most points that are told.
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
    /// Only points that come after this one in the list.
    #[arg(long)]
    pub before: Option<String>,
    /// Which points are kept, as JSON: `backup.retention` of the application. Without it nothing is said of that.
    #[arg(long, value_parser = policy)]
    pub retention: Option<Retention>,
    /// A point that a run restores from. Can be repeated.
    #[arg(long)]
    pub in_use: Vec<String>,
    /// The `Vault` whose holds count as well, where points are copied from that one.
    #[arg(long)]
    pub held_in: Option<String>,
}

fn policy(text: &str) -> Result<Retention, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// A page of the points, newest first.
pub(super) async fn points(
    vault: &Vault,
    first: Option<&Vault>,
    wanted: &PointsArguments,
) -> Result<PointsInVault, InspectError> {
    let judged = (wanted.retention.as_ref(), wanted.in_use.as_slice());
    let survey = survey(vault, first, &wanted.application, judged, Timestamp::now()).await;
    let survey = survey.map_err(InspectError::Settings)?;
    let begin = match &wanted.before {
        None => 0,
        Some(id) => survey.points.iter().position(|it| it.point.id == *id).map(|it| it + 1).ok_or_else(|| {
            InspectError::Input(format!("there is no point '{id}' any more: begin with the newest, without --before"))
        })?,
    };
    let total = survey.points.len();
    let page = survey.points.into_iter().skip(begin).take(wanted.limit);
    let points = stream::iter(page).map(|it| told(vault, &wanted.application, it)).buffered(AT_ONCE);
    let points: Vec<PointInVault> = points.collect().await;
    let more = begin + points.len() < total;
    Ok(PointsInVault { points, total, more, unreadable: survey.unreadable, suspended: survey.suspended })
}

async fn told(vault: &Vault, key: &AppKey, surveyed: Surveyed) -> PointInVault {
    let Surveyed { point, note, fate } = surveyed;
    let read = vault.read_point(&key.namespace, &key.name, &point.id).await.ok();
    let (kept, why) = match fate {
        None => (None, None),
        Some(Fate::Keep(reasons)) => (Some(true), Some(Reason::all(&reasons))),
        Some(Fate::Drop(why)) => (Some(false), Some(why.text().to_owned())),
    };
    let damage = note.as_ref().and_then(|it| it.damage.as_ref()).map(Damage::text);
    let state = state(&point);
    let whole = damage.is_none() && state == PointState::Good;
    PointInVault {
        consistent_at: point.at,
        state,
        region: read.as_ref().map(|it| it.region.clone()),
        bytes: read.as_ref().map(|it| Newest::of(it).bytes),
        level: whole.then(|| note.as_ref().map_or(Level::L1, |it| it.level)),
        verified_at: note.as_ref().map(|it| it.at),
        damage,
        held: point.held,
        kept,
        why,
        id: point.id,
    }
}

fn state(point: &Known) -> PointState {
    match (point.branch, point.suspicious, point.good) {
        (true, _, _) => PointState::Branch,
        (false, true, _) => PointState::Suspicious,
        (false, false, true) => PointState::Good,
        (false, false, false) => PointState::Partial,
    }
}
