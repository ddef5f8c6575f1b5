//! What the rest of an operator makes of a view, played as boldly as its view allows: it serves as soon as it may,
//! takes the claim whenever it can (unless it was planned to wait for a person), and stops only when it must.

use reprise::core::claim::{record::Intent, state::Wish, view::View};

/// Whether the application may be running in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    Off,
    Serving(u64),
    /// Being stopped: it may run for so many quanta yet.
    Stopping(u64, u8),
}

/// What the rest of an operator knows and wants. It lasts in the application's status.
#[derive(Clone, Debug)]
pub struct Seat {
    pub app: App,
    pub wish: Wish,
    pub fenced: Option<u64>,
    pub epoch: Option<u64>,
    /// It stops the application for this region, to release the claim to it.
    pub leaving: Option<String>,
    /// It asked for the application, and does not want it any more.
    pub unwilling: bool,
}

/// What is to be done with the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    None,
    /// The copy of this epoch must not go on.
    Stop(u64),
    /// It may serve with this epoch.
    Start(u64),
}

impl Seat {
    pub fn new(first: bool) -> Self {
        Self {
            app: App::Off,
            wish: if first { Wish::Hold } else { Wish::Watch },
            fenced: None,
            epoch: None,
            leaving: None,
            unwilling: false,
        }
    }
}

/// Looks at the view, says what is wanted of the claim (in the seat), and what to do.
pub fn govern(seat: &mut Seat, me: &str, waits_for_people: bool, view: &View) -> Task {
    if view.fenced {
        seat.fenced = view.own_epoch.max(seat.fenced);
    }
    if view.epoch > 0 && view.conflict.is_none() {
        seat.epoch = seat.epoch.max(Some(view.epoch));
    }
    let known = view.claim.is_some();
    match seat.app {
        App::Serving(epoch) => {
            let handover = view.requested_handover.clone().filter(|_| view.mine);
            if view.must_fence || (known && view.conflict.is_none() && (!view.mine || view.epoch != epoch)) {
                return Task::Stop(epoch);
            }
            if let Some(handover) = handover {
                seat.leaving = Some(handover.to);
                return Task::Stop(epoch);
            }
            seat.wish = Wish::Hold;
            Task::None
        }
        App::Stopping(..) => {
            // A holder that stops for a handover keeps the claim until it has stopped.
            seat.wish = if seat.leaving.is_some() { Wish::Hold } else { Wish::Watch };
            Task::None
        }
        App::Off => off(seat, me, waits_for_people, view),
    }
}

fn off(seat: &mut Seat, me: &str, waits_for_people: bool, view: &View) -> Task {
    if let Some(to) = seat.leaving.clone() {
        let withdrawn = view.claim.is_some() && view.requested_handover.is_none();
        if view.claim.is_none() || (view.mine && !withdrawn) {
            seat.wish = Wish::Release { to: Some(to), point: None, reason: "handover".to_owned() };
            return Task::None;
        }
        seat.leaving = None;
    }
    if view.mine && view.valid {
        seat.wish = Wish::Hold;
        return Task::Start(view.epoch);
    }
    if view.seizable && takes(seat, me, waits_for_people, view) {
        seat.wish = Wish::Seize { epoch: view.epoch + 1, reason: "silence".to_owned() };
    } else if view.mine && !view.fenced {
        seat.wish = Wish::Hold;
    } else if !pending(&seat.wish, view) {
        seat.wish = Wish::Watch;
    }
    Task::None
}

/// Whether what it wants may still come true.
fn pending(wish: &Wish, view: &View) -> bool {
    match wish {
        Wish::Seize { epoch, .. } => *epoch == view.epoch + 1,
        Wish::RequestHandover { .. } => !view.mine,
        Wish::Hold => view.claim.is_none(),
        Wish::Undecided | Wish::Watch | Wish::Release { .. } => false,
    }
}

/// Whether it takes a claim that it may take.
fn takes(seat: &Seat, me: &str, waits_for_people: bool, view: &View) -> bool {
    let for_me = |it: &Intent| matches!(it, Intent::Released { to: Some(to), .. } if to == me);
    if view.claim.as_ref().is_some_and(|it| for_me(&it.intent)) && !view.given_up_by(me) {
        // What it asked for, unless it changed its mind.
        return !seat.unwilling;
    }
    if waits_for_people && view.epoch > 0 {
        return view.mine || view.returned_to(me);
    }
    true
}
