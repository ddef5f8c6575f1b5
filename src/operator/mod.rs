//! The shell: reads the world, asks the core, performs what it wants. No decision is made here.
//!
//! `shell` is the one loop of all kinds, `observe` what each kind looks at, `perform` the only place where the world is
//! changed, `work` what outlasts one pass. `keeper` and `watch` have rhythms of their own: claims and probes.

mod claims;
pub mod clock;
mod context;
mod http;
pub mod journal;
pub mod keeper;
mod lease;
mod metrics;
mod observe;
mod perform;
#[cfg(test)]
mod played;
mod readiness;
pub mod run;
pub(crate) mod secrets;
mod shell;
mod stores;
mod sweep;
pub mod watch;
pub(crate) mod work;
