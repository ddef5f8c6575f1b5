//! Faults between a vault's client and a real S3 server, from a seed.

pub mod minio;
pub mod proxy;
pub mod volume;
