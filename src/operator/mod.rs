//! The shell around the decisions: what runs, waits and talks to the world.

pub mod clock;
pub mod journal;
pub mod keeper;
