//! The Kubernetes objects of one application: out of the API server, into a bundle, and back; and how the application
//! they describe is stopped and started.
//!
//! Reading order: `discover` (which kinds there are), `rules` (what is left out, and what never enters a bundle),
//! `select` (what is wanted), `references` (what that needs), `collect` (reads the namespace, page by page), `cluster`
//! (and what it needs of the cluster), `assemble` and `bundle` (the file), `policy`, `clean` and `map` (what may go back,
//! and how it is changed), `order`, `refs` and `graph` (when), `apply`, `prepare`, `put` and `claims` (puts it back), `fence`
//! (stops and starts). `page`, `blocks`, `spool` and `call` are what these stand on.
//!
//! Volumes and their claims are the data plane's: claims are recorded here and made by it; `claims` gives those that stand their labels, annotations
//! and owners.

pub mod apply;
mod assemble;
pub mod blocks;
pub mod bundle;
pub mod call;
mod claims;
pub mod clean;
mod cluster;
pub mod collect;
pub mod compare;
pub mod definitions;
mod differ;
pub mod discover;
pub mod fence;
pub mod graph;
pub mod isolate;
mod listed;
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
pub mod references;
pub mod refs;
pub mod rules;
pub mod select;
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
        select::Selection,
    };
    use kube::Client;

    fn task(_: impl Future + Send) {}

    #[test]
    fn all_of_it_can_run_in_a_task_of_its_own() {
        // For the compiler: nothing is run.
        let _ = |client: &Client, bundle: &Bundle, options: &Options| {
            let all = Selection::default();
            task(capture(client, "shop", &all, Limits::default()));
            task(restore(client, "shop", bundle, options));
            task(stop(client, "shop"));
            task(start(client, "shop"));
        };
    }
}
