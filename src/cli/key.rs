//! `kubectl reprise key`: the keys of a vault.
//!
//! What needs the vault is asked inside the operator's pod (`inside`); what is changed in the cluster, the Secret and
//! the annotation of the `Vault`, is changed with the rights of whoever calls, so that audit logs name them.

use std::{
    fmt::Write,
    io::{BufRead, IsTerminal, Read},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use k8s_openapi::api::{authentication::v1::SelfSubjectReview, core::v1::Secret};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    CliError,
    connection::Cluster,
    inside::Inside,
    output::{Cell, Printer, Tone, table},
    request,
};
use crate::{
    api::vault::Vault,
    core::{
        key_answer::{ApplicationKeys, Escrowed, KeyId, KeyList, WholeKey},
        vault::{Confirmation, KEY_CONFIRMED},
    },
};

/// The most of a file with a key or an identity, in bytes.
const FILE_LIMIT: u64 = 64 * 1024;
/// The entry of the Secret that holds the key which is to follow.
const NEXT: &str = "nextKey";

/// What is wanted of the keys of a vault.
#[derive(Args, Debug)]
pub struct KeyArguments {
    /// Where the operator is.
    #[command(flatten)]
    pub inside: Inside,
    /// What is wanted.
    #[command(subcommand)]
    pub verb: KeyVerb,
}

/// What is wanted of the keys of a vault.
#[derive(Subcommand, Debug)]
pub enum KeyVerb {
    /// List the keys that open a vault, and the regions that use them.
    List {
        /// The `Vault`.
        vault: String,
    },
    /// Print the key of this region, or what reads one application's data. It is secret.
    Export {
        /// The `Vault`.
        vault: String,
        /// Only what reads this application, as NAMESPACE/NAME.
        #[arg(long, value_name = "NAMESPACE/NAME")]
        application: Option<String>,
    },
    /// Have a new key open the vault as well: the entry `nextKey` of its Secret, which is made if it is not there.
    Rotate {
        /// The `Vault`.
        vault: String,
    },
    /// Have a key open the vault no longer. Refused while a region uses it.
    Retire {
        /// The `Vault`.
        vault: String,
        /// The key's id, as `list` shows it.
        key: String,
        /// A region that is no more: what it was seen with does not count. Can be repeated.
        #[arg(long, value_name = "REGION")]
        without: Vec<String>,
    },
    /// Say that a copy of the key is kept outside the regions. The copy itself is asked for, and tried.
    Confirm {
        /// The `Vault`.
        vault: String,
        /// The file with the copy; `-` is standard input.
        #[arg(long, value_name = "FILE", default_value = "-")]
        copy: PathBuf,
    },
    /// Have the key in this region's Secret open the vault, when all keys of it are lost: with an offline identity.
    Recover {
        /// The `Vault`.
        vault: String,
        /// The file with the age identity of a recipient of `spec.encryption.recipients`. It stays on this machine.
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
    },
}

/// Do what is wanted.
///
/// # Errors
/// When the operator's pod or the API server does not do it, or a file can't be used.
pub async fn run(cluster: &Cluster, wanted: &KeyArguments, printer: &mut Printer) -> Result<(), CliError> {
    let inside = &wanted.inside;
    match &wanted.verb {
        KeyVerb::List { vault } => {
            let keys: KeyList = inside.ask(cluster, &["vault", "key", "list", vault], "").await?;
            printer.answer(&keys, |colour| listed(&keys, colour))?;
        }
        KeyVerb::Export { vault, application: None } => {
            let key: WholeKey = inside.ask(cluster, &["vault", "key", "export", vault], "").await?;
            printer.answer(&key, |_| format!("{}\n", key.key))?;
            let note =
                format!("key {} of vault {}: whoever has it reads everything in the vault", key.id, key.vault_id);
            printer.progress(&note, Tone::Doubtful);
        }
        KeyVerb::Export { vault, application: Some(application) } => {
            let asked = ["vault", "key", "export", vault, "--application", application];
            let keys: ApplicationKeys = inside.ask(cluster, &asked, "").await?;
            printer.answer(&keys, |_| of_application(&keys))?;
        }
        KeyVerb::Rotate { vault } => rotate(cluster, inside, vault, printer).await?,
        KeyVerb::Retire { vault, key, without } => {
            let mut asked = vec!["vault", "key", "retire", vault.as_str(), key.as_str()];
            asked.extend(without.iter().flat_map(|it| ["--without", it.as_str()]));
            let retired: KeyId = inside.ask(cluster, &asked, "").await?;
            printer.answer(&retired, |_| format!("the key {key} no longer opens the vault {vault}\n"))?;
        }
        KeyVerb::Confirm { vault, copy } => confirm(cluster, inside, vault, copy, printer).await?,
        KeyVerb::Recover { vault, identity } => recover(cluster, inside, vault, identity, printer).await?,
    }
    Ok(())
}

fn listed(keys: &KeyList, colour: bool) -> String {
    let rows: Vec<Vec<Cell>> = keys
        .keys
        .iter()
        .map(|it| {
            let regions = if it.regions.is_empty() { "-".to_owned() } else { it.regions.join(",") };
            [&it.id, &regions, &it.created, &it.note].map(Cell::plain).to_vec()
        })
        .collect();
    let mut out = table(&["KEY", "REGIONS", "CREATED", "NOTE"], &rows, colour);
    let _ = match keys.recipients {
        0 => writeln!(out, "no offline recipient"),
        1 => writeln!(out, "1 offline recipient"),
        many => writeln!(out, "{many} offline recipients"),
    };
    out
}

fn of_application(keys: &ApplicationKeys) -> String {
    let ApplicationKeys { namespace, application, key, repository_password, identity, repository, manifests } = keys;
    format!(
        "\
# What reads {namespace}/{application}, and nothing else in the vault. It is secret.
# The credentials of the storage are needed besides: read only, for these two places, is enough.

# Volumes: which snapshot is of which claim stands in the point's JSON. Never write, forget or prune.
export RESTIC_REPOSITORY='{repository}'
export RESTIC_PASSWORD='{repository_password}'
restic --no-lock snapshots
restic --no-lock restore SNAPSHOT --target DIRECTORY

# Objects: a file under {manifests} for each content; the point's JSON names it.
export AGE_IDENTITY='{identity}'
age --decrypt -i <(echo \"$AGE_IDENTITY\") MANIFEST | zstd -d | tar x

# Both come of this key.
APPLICATION_KEY='{key}'
"
    )
}

async fn vault_of(cluster: &Cluster, name: &str) -> Result<Vault, CliError> {
    let found = Api::<Vault>::all(cluster.client.clone()).get_opt(name).await;
    let found = found.map_err(request(format!("read the Vault {name}")))?;
    found.ok_or_else(|| CliError::Refused(format!("there is no Vault '{name}' in this cluster")))
}

async fn rotate(cluster: &Cluster, inside: &Inside, vault: &str, printer: &mut Printer) -> Result<(), CliError> {
    let (secret, namespace) = (vault_of(cluster, vault).await?.spec.encryption.secret.name, &inside.operator_namespace);
    let secrets = Api::<Secret>::namespaced(cluster.client.clone(), namespace);
    let found = secrets.get_opt(&secret).await.map_err(request(format!("read the Secret {secret}")))?;
    let found =
        found.ok_or_else(|| CliError::Refused(format!("there is no Secret '{secret}' in namespace {namespace}")))?;
    let data = found.data.unwrap_or_default();
    let next = data.get(NEXT).filter(|it| !it.0.is_empty());
    // The key that followed last time, and is the key by now, is followed by another.
    if next.is_none() || next == data.get("key") {
        let next = BASE64_STANDARD.encode(fresh_key());
        let patch = json!({"metadata": {"resourceVersion": found.metadata.resource_version}, "data": {NEXT: next}});
        let done = secrets.patch(&secret, &PatchParams::default(), &Patch::Merge(patch)).await;
        done.map_err(request(format!("put a new key into the Secret {secret}")))?;
        printer.progress(&format!("a new key stands in the entry {NEXT} of the Secret {secret}"), Tone::Plain);
    }
    let added: KeyId = inside.ask(cluster, &["vault", "key", "rotate", vault], "").await?;
    printer.answer(&added, |_| next_steps(vault, &secret, namespace, &added.id))?;
    Ok(())
}

/// As long as any attacker needs it: 256 bits, in hexadecimal.
fn fresh_key() -> String {
    rand::random::<[u8; 32]>().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn next_steps(vault: &str, secret: &str, namespace: &str, id: &str) -> String {
    format!(
        "\
the key {id} opens the vault {vault} as well. Next:
1. Take it out of this cluster, and keep a copy outside the regions:
     kubectl get secret {secret} -n {namespace} -o jsonpath='{{.data.{NEXT}}}' | base64 -d
2. In every region, make it the Secret's entry `key`. Both keys open the vault meanwhile.
3. kubectl reprise key confirm {vault}
4. When kubectl reprise key list {vault} shows no region with the old key:
     kubectl reprise key retire {vault} OLD
"
    )
}

async fn confirm(
    cluster: &Cluster,
    inside: &Inside,
    vault: &str,
    copy: &Path,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let copy = read(copy, "the copy of the key, from where it is kept: ")?;
    let confirmed: KeyId = inside.ask(cluster, &["vault", "key", "confirm", vault], copy.trim()).await?;
    let confirmation = Confirmation { key: confirmed.id.clone(), at: now(), who: who(cluster).await? };
    let patch = json!({"metadata": {"annotations": {KEY_CONFIRMED: confirmation.to_text()}}});
    let vaults = Api::<Vault>::all(cluster.client.clone());
    let done = vaults.patch(vault, &PatchParams::default(), &Patch::Merge(patch)).await;
    done.map_err(request(format!("annotate the Vault {vault}")))?;
    printer.answer(&confirmed, |_| {
        format!(
            "the copy is of the key {}, which opens the vault {vault}; noted at the Vault of this cluster:\n  {KEY_CONFIRMED}: {}\n",
            confirmed.id,
            confirmation.to_text()
        )
    })?;
    Ok(())
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The name that the API server has of whoever calls.
async fn who(cluster: &Cluster) -> Result<String, CliError> {
    let reviews = Api::<SelfSubjectReview>::all(cluster.client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = review.map_err(request("ask who you are"))?;
    let user = review.status.and_then(|it| it.user_info).and_then(|it| it.username);
    Ok(user.unwrap_or_else(|| "unknown".to_owned()))
}

async fn recover(
    cluster: &Cluster,
    inside: &Inside,
    vault: &str,
    identity: &Path,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let text = read(identity, "the age identity: ")?;
    let stored: Escrowed = inside.ask(cluster, &["vault", "key", "escrowed", vault], "").await?;
    let root = opened(&stored, &text).map_err(CliError::Refused)?;
    let recovered: KeyId = inside.ask(cluster, &["vault", "key", "recover", vault], root.trim()).await?;
    printer.answer(&recovered, |_| {
        format!("the key {} in this region's Secret opens the vault {vault} from now on\n", recovered.id)
    })?;
    Ok(())
}

/// The root that one of the identities opens. They stay here: what goes to the operator is the vault's own.
fn opened(stored: &Escrowed, identities: &str) -> Result<String, String> {
    let lines = identities.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
    let identities: Vec<age::x25519::Identity> = lines
        .map(|it| it.parse().map_err(|why| format!("--identity: a line is no age identity (AGE-SECRET-KEY-1…): {why}")))
        .collect::<Result<_, String>>()?;
    if stored.files.is_empty() {
        return Err(
            "the vault holds nothing for an offline recipient: spec.encryption.recipients was never set".to_owned()
        );
    }
    for file in &stored.files {
        let Ok(file) = BASE64_STANDARD.decode(file) else { continue };
        let found = identities.iter().find_map(|it| age::decrypt(it, &file).ok());
        if let Some(root) = found.and_then(|it| String::from_utf8(it).ok()) {
            return Ok(root);
        }
    }
    Err(format!("--identity: none of the {} offline recipients of the vault is its own", stored.files.len()))
}

/// A file of at most `FILE_LIMIT` bytes; of standard input, one line.
fn read(path: &Path, prompt: &str) -> Result<String, CliError> {
    let unusable = |error: std::io::Error| CliError::Refused(format!("{}: {error}", path.display()));
    let mut text = String::new();
    if path == Path::new("-") {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            eprint!("{prompt}");
        }
        stdin.lock().take(FILE_LIMIT).read_line(&mut text).map_err(unusable)?;
    } else {
        std::fs::File::open(path).and_then(|it| it.take(FILE_LIMIT).read_to_string(&mut text)).map_err(unusable)?;
    }
    if text.trim().is_empty() {
        return Err(CliError::Refused(format!("{}: it is empty", path.display())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(for_: &[&age::x25519::Identity]) -> Escrowed {
        let file =
            |it: &&age::x25519::Identity| BASE64_STANDARD.encode(age::encrypt(&it.to_public(), b"root").unwrap());
        Escrowed { files: for_.iter().map(file).collect() }
    }

    fn text(identity: &age::x25519::Identity) -> String {
        use age::secrecy::ExposeSecret;
        format!("# created: today\n# public key: age1\n{}\n", identity.to_string().expose_secret())
    }

    #[test]
    fn an_identity_opens_what_is_stored_for_it_as_age_keygen_writes_it() {
        let [one, two, other] = std::array::from_fn(|_| age::x25519::Identity::generate());
        let stored = stored(&[&one, &two]);
        assert_eq!(opened(&stored, &text(&two)).as_deref(), Ok("root"));
        assert!(opened(&stored, &text(&other)).unwrap_err().contains("none of the 2 offline recipients"));
        assert!(opened(&stored, "age1abc").unwrap_err().contains("no age identity"));
        assert!(opened(&Escrowed { files: vec![] }, &text(&one)).unwrap_err().contains("spec.encryption.recipients"));
    }

    #[test]
    fn a_new_key_is_long_and_never_the_same() {
        let (one, two) = (fresh_key(), fresh_key());
        assert_eq!((one.len(), one.chars().all(|it| it.is_ascii_hexdigit())), (64, true));
        assert_ne!(one, two);
    }
}
