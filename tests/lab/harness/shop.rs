//! The demo's application in the lab: its objects.

use std::fs;

use anyhow::Result;

use super::{app::App, file, lab::Region};

/// The application.
pub const SHOP: App = App { name: "shop", port: 30_080 };

/// Apply what the application was promised. `changed` may rewrite the document first.
///
/// # Errors
/// When the API server refuses it.
pub fn protect(region: &Region, changed: impl FnOnce(String) -> String) -> Result<()> {
    region.apply(&changed(fs::read_to_string(file("tests/lab/demo/protection.yaml"))?))
}

/// Apply the application itself.
///
/// # Errors
/// When the API server refuses it.
pub fn deploy(region: &Region) -> Result<()> {
    region.apply(&fs::read_to_string(file("tests/lab/demo/shop.yaml"))?)
}
