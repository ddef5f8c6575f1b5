//! What the demo and the lab tests share: the lab itself, commands with deadlines, waiting, the product installed in a
//! region, and the demo's application. It asserts nothing about the product: that is what its callers do.
//!
//! Everything here is synchronous: it runs programs and waits for them. Include it with
//! `#[path = "lab/harness/mod.rs"] mod harness;`.
#![allow(dead_code, reason = "each program that includes this uses a part of it")]

pub mod app;
pub mod command;
pub mod lab;
pub mod product;
pub mod residue;
pub mod shop;
pub mod wait;

use std::path::{Path, PathBuf};

/// A file of the project, by its path from the root.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
