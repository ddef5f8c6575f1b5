//! What names one application, the same in every region.

use std::fmt;

/// An application by its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppKey {
    /// Its namespace.
    pub namespace: String,
    /// The `ProtectedApplication`'s name.
    pub name: String,
}

impl AppKey {
    /// The name of its claim: `<namespace>.<name>`. A namespace has no dots, so no two applications share one.
    #[must_use]
    pub fn group(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// Where its claim lies in a vault.
    #[must_use]
    pub fn claim_object(&self) -> String {
        format!("claims/{}.json", self.group())
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}
