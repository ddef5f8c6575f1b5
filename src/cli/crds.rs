//! The definitions of our kinds as YAML: what `reprise crds` prints, and what `crds/` and the chart hold.
//!
//! They come from the types of `api`; only what an API server warns about is rewritten. Nothing is applied here.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use kube::{CustomResourceExt, ResourceExt};
use serde_json::Value;

use crate::api::{
    application::ProtectedApplication, dns_zone::DnsZone, failover::Failover, recovery_point::RecoveryPoint,
    restore::Restore, vault::Vault,
};

/// Where to write them.
#[derive(Args, Debug)]
pub struct CrdsArguments {
    /// Write one file for each kind into this directory, which must exist. Default: print them all.
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// Why they were not written.
#[derive(Debug, thiserror::Error)]
pub enum CrdsError {
    /// A definition is no YAML.
    #[error("cannot write {name} as YAML: {source}")]
    Yaml {
        /// The definition.
        name: String,
        /// What went wrong.
        source: serde_yaml::Error,
    },
    /// A file.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot print the definitions: {0}")]
    Print(#[source] io::Error),
}

/// One definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The file that holds it: `reprise.dev_vaults.yaml`.
    pub file: String,
    /// The document, ending with a line break.
    pub yaml: String,
}

/// Print the definitions, or write them into the directory.
///
/// # Errors
/// When standard output or a file cannot be written.
pub fn run(wanted: &CrdsArguments) -> Result<(), CrdsError> {
    let definitions = definitions()?;
    let Some(directory) = &wanted.directory else {
        let mut out = io::stdout().lock();
        for it in definitions {
            write!(out, "---\n{}", it.yaml).map_err(CrdsError::Print)?;
        }
        return out.flush().map_err(CrdsError::Print);
    };
    for it in definitions {
        write_file(&directory.join(it.file), &it.yaml)?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), CrdsError> {
    fs::write(path, text).map_err(|source| CrdsError::File { path: path.to_owned(), source })
}

/// Every kind's definition, by name.
///
/// # Errors
/// When one cannot be written as YAML.
pub fn definitions() -> Result<Vec<Definition>, CrdsError> {
    let all = [
        DnsZone::crd(),
        Failover::crd(),
        ProtectedApplication::crd(),
        RecoveryPoint::crd(),
        Restore::crd(),
        Vault::crd(),
    ];
    let written = all.iter().map(|crd| {
        let name = crd.name_any();
        let plural = &crd.spec.names.plural;
        let yaml = serde_json::to_value(crd)
            .map_err(serde::de::Error::custom)
            .and_then(|mut it| {
                known_formats_only(&mut it);
                serde_yaml::to_string(&it)
            })
            .map_err(|source| CrdsError::Yaml { name, source })?;
        Ok(Definition { file: format!("{}_{plural}.yaml", crd.spec.group), yaml })
    });
    written.collect()
}

/// An API server knows `int32` and `int64` and warns about Rust's other integers. The smallest that holds them all is
/// written instead; the bounds stand in `minimum` and `maximum`.
fn known_formats_only(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let known = fields.get("format").and_then(Value::as_str).and_then(|format| match format {
                "uint8" | "int8" | "uint16" | "int16" => Some("int32"),
                "uint32" | "uint64" | "uint" | "int" => Some("int64"),
                _ => None,
            });
            if let Some(known) = known {
                fields.insert("format".to_owned(), known.into());
            }
            fields.values_mut().for_each(known_formats_only);
        }
        Value::Array(items) => items.iter_mut().for_each(known_formats_only),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_in_stable_order() {
        let files: Vec<String> = definitions().expect("definitions").into_iter().map(|it| it.file).collect();
        let expected = ["dnszones", "failovers", "protectedapplications", "recoverypoints", "restores", "vaults"];
        assert_eq!(files, expected.map(|it| format!("reprise.dev_{it}.yaml")));
    }

    #[test]
    fn every_field_is_described_and_no_format_is_unknown() {
        for it in definitions().expect("definitions") {
            let value: Value = serde_yaml::from_str(&it.yaml).expect("YAML");
            let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            for part in ["spec", "status"] {
                examine(&schema["properties"][part], &format!("{} {part}", it.file));
            }
        }
    }

    fn examine(schema: &Value, at: &str) {
        if let Some(format) = schema["format"].as_str() {
            assert!(["int32", "int64", "date-time"].contains(&format), "{at}: format {format}");
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let described = property["description"].as_str().is_some_and(|it| !it.is_empty());
            assert!(described, "{at}.{name} has no description");
            examine(property, &format!("{at}.{name}"));
        }
        if !schema["items"].is_null() {
            examine(&schema["items"], &format!("{at}[]"));
        }
    }
}
