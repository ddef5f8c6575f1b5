//! A claim as the tests of other decisions see it: sound, and of a vault that answers.

use jiff::Timestamp;

use super::{
    record::{Claim, Deadlines, FORMAT, Intent},
    view::View,
};

/// What `region` sees of the claim of `shop/shop`.
pub fn view(region: &str, holder: Option<&str>, epoch: u64) -> View {
    let claim = Claim {
        format: FORMAT,
        group: "shop.shop".into(),
        epoch,
        holder: holder.map(Into::into),
        candidates: vec!["east".into(), "west".into()],
        seq: epoch,
        nonce: "n".into(),
        intent: Intent::None,
        deadlines: Deadlines { renew: 10, hold: 30, fence: 30, wait: 75 },
        reason: String::new(),
        health: None,
        renewed_at: Timestamp::constant(1_800_000_000, 0),
    };
    let mine = holder == Some(region);
    View {
        claim: Some(claim),
        absent: false,
        readable: true,
        holder: holder.map(Into::into),
        epoch,
        mine,
        own_epoch: mine.then_some(epoch),
        valid: mine,
        lease: None,
        must_fence: false,
        fenced: false,
        silent_for: 0,
        seizable: false,
        conflict: None,
        last_error: None,
        requested_handover: None,
        holder_health: None,
    }
}
