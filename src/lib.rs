//! Reprise: a Kubernetes operator for high availability and disaster recovery across regions.

pub mod api;
pub mod cli;
pub mod core;
