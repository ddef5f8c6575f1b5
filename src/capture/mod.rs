//! The Kubernetes objects of one namespace: out of the API server, into a bundle, and back; and how the application
//! they describe is stopped and started.
//!
//! Reading order: `discover` (which kinds there are), `rules` (what is left out, and what never enters a bundle),
//! `collect` (reads everything, page by page), `bundle` (the file), `policy`, `clean` and `map` (what may go back, and how it
//! is changed), `order`, `refs` and `graph` (when), `apply`, `prepare` and `put` (puts it back), `fence` (stops and starts).
//! `page`, `spool` and `call` are what these stand on.
//!
//! Volumes and their claims are the data plane's: claims are recorded here and put back by it. Cluster-scoped objects
//! and definitions of kinds are not captured.

pub mod apply;
pub mod bundle;
pub mod call;
pub mod clean;
pub mod collect;
pub mod compare;
pub mod definitions;
pub mod discover;
pub mod fence;
pub mod graph;
pub mod map;
pub mod marks;
pub mod object;
pub mod order;
mod owners;
pub mod page;
pub mod policy;
mod prepare;
mod put;
pub mod read;
pub mod refs;
pub mod rules;
pub mod spool;
mod webhooks;

/// The field manager of everything written here.
pub const FIELD_MANAGER: &str = "reprise";

#[cfg(test)]
mod tests {
    use super::{
        apply::{Options, restore},
        bundle::Bundle,
        collect::{Limits, capture},
        fence::{start, stop},
    };
    use kube::Client;

    fn task(_: impl Future + Send) {}

    #[test]
    fn all_of_it_can_run_in_a_task_of_its_own() {
        // For the compiler: nothing is run.
        let _ = |client: &Client, bundle: &Bundle, options: &Options| {
            task(capture(client, "shop", Limits::default()));
            task(restore(client, "shop", bundle, options));
            task(stop(client, "shop"));
            task(start(client, "shop"));
        };
    }
}
