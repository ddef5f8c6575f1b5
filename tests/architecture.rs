//! Dependencies point inward, every file says what it is for, and no file tells two stories. Reads the sources; a
//! `use`, or a path in the code, that breaks a rule fails the test by file and line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What a module of `src/` may see: the other modules of the crate, and of the crates outside it.
struct Rule {
    module: &'static str,
    sees: &'static [&'static str],
    /// The only crates that a `use` may name. `None`: any.
    crates: Option<&'static [&'static str]>,
    never: &'static [&'static str],
}

/// Data and how it is written: no effects among them. `sha2` is for derived names, `cronexpr` for instants of schedules.
const DATA: Option<&[&str]> = Some(&[
    "cronexpr",
    "globset",
    "jiff",
    "k8s_openapi",
    "kube",
    "schemars",
    "serde",
    "serde_json",
    "sha2",
    "std",
    "thiserror",
]);

/// No client, no clock of the machine, no input or output, nothing that waits.
const OUTSIDE: &[&str] = &[
    "tokio",
    "tokio_util",
    "futures",
    "reqwest",
    "object_store",
    "axum",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "rustic_core",
    "rustix",
    "rustls",
    "tar",
    "zstd",
    "age",
    "rand",
    "clap",
    "anyhow",
    "tracing",
    "tracing_subscriber",
    "kube::client",
    "kube::Client",
    "kube::Api",
    "kube::api",
    "kube::runtime",
    "kube::config",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
];

const EDGES: &[&str] = &["vault", "capture", "traffic", "probe", "exec", "mover"];

fn rule(module: &str) -> Option<Rule> {
    let rule = |module, sees, crates, never| Some(Rule { module, sees, crates, never });
    match module {
        "api" => rule("api", &[], DATA, OUTSIDE),
        "core" => rule("core", &["api"], DATA, OUTSIDE),
        "cli" => rule("cli", &["api", "core"], None, &[]),
        "vault" => rule("vault", &["api", "core"], None, &["clap"]),
        "capture" => rule("capture", &["api", "core", "vault"], None, &["clap"]),
        "traffic" => rule("traffic", &["api", "core"], None, &["clap"]),
        "probe" => rule("probe", &["api", "core", "traffic"], None, &["clap"]),
        "exec" => rule("exec", &["api", "core"], None, &["clap"]),
        "mover" => rule("mover", &["api", "core", "vault", "capture", "exec"], None, &[]),
        "operator" => {
            rule("operator", &["api", "core", "vault", "capture", "traffic", "probe", "exec", "mover"], None, &[])
        }
        "inspect" => {
            let uses = &["api", "core", "vault", "capture", "traffic", "probe", "exec", "mover", "operator"];
            rule("inspect", uses, None, &[])
        }
        // Programs and the map may see everything.
        "main" | "lib" | "bin" => None,
        other => panic!("src/{other} has no rule: say in tests/architecture.rs what it may see"),
    }
}

/// A text without comments and strings, so that only code is judged. Lines keep their numbers.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = rest.find('"').map_or(rest.len(), |at| at + 1);
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if let Some(quoted) = ["'\"'", "'\\\"'"].iter().find(|it| rest.starts_with(*it)) {
            quoted.len()
        } else if first == '"' {
            string(rest)
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.extend(rest[..skipped].chars().filter(|it| *it == '\n'));
        rest = &rest[skipped..];
    }
    out
}

/// A file without its tests, which may use what they like.
fn product(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

/// How many hashes a raw string that begins here has.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// The length of the string that begins here.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Every path that the code names, with its line: a `use` with braces gives one for each leaf.
fn paths(code: &str) -> Vec<(usize, String)> {
    let (mut found, mut line, mut rest) = (Vec::new(), 1, code);
    while !rest.is_empty() {
        let length = rest.find(|it: char| !(it.is_alphanumeric() || it == '_' || it == ':')).unwrap_or(rest.len());
        let path = rest[..length].trim_end_matches(':');
        let mut next = length;
        if rest[..length].ends_with("::") && rest[length..].starts_with('{') {
            next += group(&rest[length..]);
            found.extend(leaves(&rest[length + 1..next - 1]).into_iter().map(|leaf| (line, format!("{path}::{leaf}"))));
        } else {
            next += rest[length..].chars().next().map_or(0, char::len_utf8);
            if path.contains("::") {
                found.push((line, path.to_owned()));
            }
        }
        line += rest[..next].matches('\n').count();
        rest = &rest[next..];
    }
    found
}

/// The crates outside that `use` lines name.
fn crates(code: &str) -> Vec<(usize, String)> {
    let lines =
        code.lines().enumerate().filter_map(|(at, line)| Some((at + 1, line.trim_start().strip_prefix("use ")?)));
    let first = |path: &str| path.split([':', ';', '{', ' ']).next().unwrap_or_default().to_owned();
    let outside = |name: &String| !["crate", "self", "super"].contains(&name.as_str());
    lines.map(|(at, path)| (at, first(path))).filter(|(_, name)| outside(name)).collect()
}

/// The length of the braces that open here, with what is in them.
fn group(text: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// `a, b::{c, d}` gives `a`, `b::c` and `b::d`.
fn leaves(inside: &str) -> Vec<String> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    let parts = parts.into_iter().map(str::trim).filter(|it| !it.is_empty());
    let unfold = |part: &str| match part.split_once("::{") {
        Some((head, tail)) => {
            let tail = tail.strip_suffix('}').unwrap_or(tail);
            leaves(tail).into_iter().map(|it| format!("{head}::{it}")).collect()
        }
        None => vec![part.split_whitespace().next().unwrap_or_default().to_owned()],
    };
    parts.flat_map(unfold).collect()
}

/// What is wrong with a file of that module.
fn complaints(module: &str, file: &str, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let lines = text.lines().count();
    if !text.starts_with("//! ") {
        out.push(format!("{file}:1: does not open with `//!` saying what it is for"));
    }
    if lines > 600 {
        out.push(format!("{file}: {lines} lines; a file tells one story, and 600 lines is a split"));
    }
    let Some(rule) = rule(module).filter(|_| !file.ends_with("_tests.rs")) else { return out };
    let code = code(product(text));
    for (line, name) in crates(&code) {
        if rule.crates.is_some_and(|it| !it.contains(&name.as_str())) {
            out.push(format!("{file}:{line}: {} must not see the crate {name}", rule.module));
        }
    }
    for (line, path) in paths(&code) {
        if let Some(inner) = path.strip_prefix("crate::") {
            let other = inner.split("::").next().unwrap_or_default();
            if other != rule.module && !rule.sees.contains(&other) {
                out.push(format!("{file}:{line}: {} must not see {other} ({path})", rule.module));
            }
        }
        for never in rule.never {
            if path == *never || path.strip_prefix(never).is_some_and(|it| it.starts_with("::")) {
                out.push(format!("{file}:{line}: {} must not see {never} ({path})", rule.module));
            }
        }
    }
    out
}

/// The module that a file belongs to: the first part of its path below `src/`.
fn module_of(path: &Path) -> String {
    let first = path.components().next().expect("a file below src/");
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn dependencies_point_inward_and_every_file_tells_one_story() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(files.len() > 10, "found no sources in {}", root.display());
    let complaints: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let inside = path.strip_prefix(&root).expect("below src/");
            let text = fs::read_to_string(path).expect("a readable file");
            complaints(&module_of(inside), &format!("src/{}", inside.display()), &text)
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn tests_and_benches_say_what_they_are_for_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests", "benches"].map(|it| root.join(it)).into_iter().filter(|it| it.is_dir());
    for path in folders.flat_map(|it| sources(&it)) {
        let inside = path.strip_prefix(root).expect("below the project");
        if inside.components().any(|it| it.as_os_str() == "target") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a readable file");
        let complaints = complaints("lib", &inside.display().to_string(), &text);
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    }
}

#[test]
fn every_module_that_the_rules_speak_of_is_declared_inward() {
    let order = ["api", "core", "vault", "capture", "traffic", "probe", "exec", "mover", "operator", "inspect"];
    for (at, module) in order.iter().enumerate() {
        let inner: BTreeSet<&str> = order[..at].iter().copied().collect();
        let sees = rule(module).expect("a rule").sees;
        assert!(sees.iter().all(|it| inner.contains(it)), "{module} sees what is not further in: {sees:?}");
    }
    for edge in EDGES {
        assert!(!rule("core").expect("a rule").sees.contains(edge));
    }
}

#[test]
fn a_use_that_points_outward_is_found_in_every_form() {
    let bad = "//! A file.\nuse crate::{api::span::Span, vault::keys};\nfn f() { crate::operator::run(); }\n";
    assert_eq!(
        complaints("core", "x.rs", bad),
        [
            "x.rs:2: core must not see vault (crate::vault::keys)",
            "x.rs:3: core must not see operator (crate::operator::run)",
        ]
    );
    let nested =
        "//! A file.\nuse crate::{\n    api::{span::Span, vault},\n    traffic::{rfc2136, owner::{self, Owner}},\n};\n";
    let found = complaints("core", "x.rs", nested);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|it| it.contains("must not see traffic")), "{found:?}");
}

#[test]
fn the_core_has_no_client_no_clock_and_no_input_or_output() {
    for bad in [
        "fn f() { tokio::spawn(g()); }",
        "use some_new_crate::Thing;",
        "use kube::{Client, ResourceExt};",
        "use kube::{core::ObjectMeta, runtime::watcher};",
        "fn f() { std::fs::read(\"x\"); }",
        "use std::{collections::BTreeMap, time::{Duration, Instant}};",
    ] {
        let found = complaints("core", "x.rs", &format!("//! A file.\n{bad}\n"));
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
    }
    let good = "//! A file.\nuse std::time::Duration;\nuse kube::core::ObjectMeta;\nuse jiff::Timestamp;\nuse kube::{KubeSchema, ResourceExt};\n";
    assert_eq!(complaints("core", "x.rs", good), Vec::<String>::new());
}

#[test]
fn words_in_comments_and_strings_are_no_dependencies() {
    let good = "//! A file: `crate::vault` uses tokio::sync.\n// crate::operator\nconst A: &str = \"crate::vault \\\" tokio::time\";\nconst B: &str = r#\"crate::vault \" tokio::time\"#;\n/* crate::mover */\nconst C: char = '\"'; // crate::mover\n";
    assert_eq!(complaints("core", "x.rs", good), Vec::<String>::new());
}

#[test]
fn tests_inside_a_file_may_use_what_they_like() {
    let text = "//! A file.\nfn f() {}\n#[cfg(test)]\nmod tests {\n    use rand::random;\n}\n";
    assert_eq!(complaints("core", "x.rs", text), Vec::<String>::new());
    assert_eq!(complaints("core", "x_tests.rs", "//! A file.\nuse rand::random;\n"), Vec::<String>::new());
}

#[test]
fn a_file_without_a_purpose_or_with_too_many_stories_is_found() {
    assert_eq!(complaints("core", "x.rs", "use jiff::Timestamp;\n").len(), 1);
    let long = format!("//! A file.\n{}", "\n".repeat(600));
    assert_eq!(
        complaints("core", "x.rs", &long),
        ["x.rs: 601 lines; a file tells one story, and 600 lines is a split"]
    );
}

#[test]
#[should_panic(expected = "src/helpers has no rule")]
fn a_module_without_a_rule_is_not_let_through() {
    let _ = complaints("helpers", "x.rs", "//! A file.\n");
}
