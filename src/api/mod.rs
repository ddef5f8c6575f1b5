//! The kinds of `reprise.dev/v1alpha1`: data, validation rules and print columns. No behaviour.
//!
//! What stands here is what `kubectl explain` prints and what the API server admits. Every field works: a field
//! that nothing reads does not belong here. What a value *means* is decided in `core`.

pub mod application;
pub mod dns_zone;
pub mod failover;
pub mod mappings;
pub mod recovery_point;
pub mod restore;
pub mod restoring;
pub mod span;
pub mod vault;

/// The API group of every kind.
pub const GROUP: &str = "reprise.dev";
