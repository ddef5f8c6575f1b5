//! Where a dump is loaded, and by which command: as `backup.dumps` of the application says, or into another database, as
//! a `Restore` does. When it is loaded is `dump_load`.

use crate::api::{
    application::{Dump, LoadOnRestore, ProtectedApplication},
    restore::{DumpPart, LoadInto},
    span::Span,
};

/// How long a command may take of which nothing says it.
const TIMEOUT: Span = Span::from_secs(3_600);

/// The dumps that may be loaded, each as it would be: those of the application, or those that are named. One of which
/// nothing says how it is loaded is not among them.
#[must_use]
pub fn targets(application: &ProtectedApplication, named: Option<&[DumpPart]>) -> Vec<Dump> {
    match named {
        None => application.spec.backup.dumps.clone(),
        Some(named) => named.iter().filter_map(|it| one(application, it)).collect(),
    }
}

/// The dump of that name, as it would be loaded.
#[must_use]
pub fn target(application: &ProtectedApplication, named: Option<&[DumpPart]>, name: &str) -> Option<Dump> {
    match named.and_then(|it| it.iter().find(|it| it.name == name)) {
        Some(part) => one(application, part),
        None => declared(application, name).cloned(),
    }
}

fn declared<'a>(application: &'a ProtectedApplication, name: &str) -> Option<&'a Dump> {
    application.spec.backup.dumps.iter().find(|it| it.name == name)
}

fn one(application: &ProtectedApplication, part: &DumpPart) -> Option<Dump> {
    let declared = declared(application, &part.name);
    let Some(LoadInto { pods, container, load, timeout }) = part.into.clone() else { return declared.cloned() };
    let load = if load.is_empty() { declared?.load.clone() } else { load };
    Some(Dump {
        name: part.name.clone(),
        every: None,
        pods,
        container,
        dump: Vec::new(),
        load,
        load_on_restore: LoadOnRestore::Always,
        timeout: timeout.or(declared.map(|it| it.timeout)).unwrap_or(TIMEOUT),
        max_bytes: None,
    })
}
