//! The decisions. No client, no clock, no `async`, no input or output.
//!
//! Everything here is a function of plain values: `decide(&object, &observed, now) -> Decision`. What it wants done
//! is an `Effect`, which `operator::perform` carries out.

pub mod app_key;
pub mod application;
pub mod calendar;
pub mod chain;
pub mod child;
pub mod claim;
pub mod claim_kept;
pub mod condition;
pub mod copies;
pub mod dns_zone;
pub mod dump;
pub mod dump_load;
pub mod dump_target;
pub mod effect;
pub mod empty_claim;
pub mod failover;
pub mod health;
pub mod hex;
pub mod key_answer;
pub mod labels;
pub mod locks;
pub mod mover_job;
pub mod mover_progress;
pub mod mover_task;
pub mod paths;
pub mod point;
pub mod recovery_point;
pub mod restore;
pub mod retention;
pub mod rewound;
pub mod schedule;
pub mod slo;
pub mod vault;
pub mod vault_answer;
pub mod vault_check;
pub mod verified;
pub mod volume_ahead;
pub mod volume_restore;
pub mod work;
