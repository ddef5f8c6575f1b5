//! `reprise vault key …`: the keys of a vault, listed, given out, added and taken away.

use std::io::{BufRead, Read};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand};

use super::{Asked, InspectError, answer, application};
use crate::{
    core::{
        app_key::AppKey,
        key_answer::{ApplicationKeys, Escrowed, KeyId, KeyList, ListedKey, WholeKey},
        vault::Confirmation,
    },
    vault::{
        Location, Locked, SecretText, Settings, Vault, escrow, keys::Root, regions, repository, vault_key::VaultKey,
    },
};

/// The most of standard input that is read, in bytes.
const INPUT_LIMIT: u64 = 64 * 1024;

/// What is wanted of the keys of a vault.
#[derive(Args, Debug)]
pub(super) struct KeyArguments {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Subcommand, Debug)]
enum KeyVerb {
    /// List the keys.
    List {
        /// The `Vault`.
        vault: String,
    },
    /// Give out the key of this region's Secret, or what reads one application.
    Export {
        /// The `Vault`.
        vault: String,
        /// An application, as NAMESPACE/NAME.
        #[arg(long, value_parser = application)]
        application: Option<AppKey>,
    },
    /// Have the key in the Secret's entry `nextKey` open the vault as well.
    Rotate {
        /// The `Vault`.
        vault: String,
    },
    /// Have a key open the vault no longer.
    Retire {
        /// The `Vault`.
        vault: String,
        /// The key's id.
        key: String,
        /// A region that is no more, whatever key it was seen with.
        #[arg(long)]
        without: Vec<String>,
    },
    /// Say whether the key on standard input opens the vault.
    Confirm {
        /// The `Vault`.
        vault: String,
    },
    /// Give out what is stored for offline recipients.
    Escrowed {
        /// The `Vault`.
        vault: String,
    },
    /// Have this region's key open the vault, by the root on standard input.
    Recover {
        /// The `Vault`.
        vault: String,
    },
}

pub(super) async fn run(namespace: &str, arguments: &KeyArguments) -> Result<(), InspectError> {
    match &arguments.verb {
        KeyVerb::List { vault } => answer(&list(&Asked::open(namespace, vault).await?.vault().await?).await?),
        KeyVerb::Export { vault, application } => {
            let locked = Asked::open(namespace, vault).await?.locked().await?;
            let opened = locked.unlock().await?;
            match application {
                Some(AppKey { namespace, name }) => {
                    answer(&of_application(&opened, locked.settings(), namespace, name))
                }
                None => answer(&whole(&opened, locked.settings())),
            }
        }
        KeyVerb::Rotate { vault } => answer(&rotate(&Asked::open(namespace, vault).await?).await?),
        KeyVerb::Retire { vault, key, without } => {
            answer(&retire(&Asked::open(namespace, vault).await?, key, without).await?)
        }
        KeyVerb::Confirm { vault } => {
            let copy = input()?;
            answer(&confirm(&Asked::open(namespace, vault).await?.locked().await?, copy).await?)
        }
        KeyVerb::Escrowed { vault } => {
            let locked = Asked::open(namespace, vault).await?.locked().await?;
            let files = escrow::list(locked.store()).await?;
            answer(&Escrowed { files: files.iter().map(|it| BASE64_STANDARD.encode(it)).collect() })
        }
        KeyVerb::Recover { vault } => {
            let root = input()?;
            answer(&recover(&Asked::open(namespace, vault).await?.locked().await?, &root).await?)
        }
    }
}

fn input() -> Result<SecretText, InspectError> {
    let mut text = String::new();
    // A line and not all: the end of the input does not get through every API server.
    std::io::stdin().lock().take(INPUT_LIMIT).read_line(&mut text)?;
    Ok(SecretText::new(text.trim()))
}

async fn list(vault: &Vault) -> Result<KeyList, InspectError> {
    let marks = regions::marks(vault.store()).await?;
    let seen_with = |id: &str| marks.iter().filter(|it| it.key == id).map(|it| it.region.clone()).collect();
    let keys = vault.list_keys().await?.into_iter();
    let keys = keys.map(|it| ListedKey {
        regions: seen_with(&it.id),
        created: it.created.to_string(),
        id: it.id,
        note: it.note,
    });
    let recipients = escrow::list(vault.store()).await?.len();
    Ok(KeyList { vault_id: vault.id().to_owned(), keys: keys.collect(), recipients })
}

fn whole(vault: &Vault, settings: &Settings) -> WholeKey {
    WholeKey { vault_id: vault.id().to_owned(), id: vault.key_id(), key: settings.key.expose().to_owned() }
}

fn of_application(vault: &Vault, settings: &Settings, namespace: &str, application: &str) -> ApplicationKeys {
    let key = vault.keys().application(namespace, application);
    ApplicationKeys {
        namespace: namespace.to_owned(),
        application: application.to_owned(),
        key: key.to_text().expose().to_owned(),
        repository_password: key.repository_password().expose().to_owned(),
        identity: key.identity().expose().to_owned(),
        repository: as_restic_names_it(&settings.location, &repository::prefix(namespace, application)),
        manifests: match &settings.location {
            Location::S3(at) => {
                format!("s3://{}", joined(&[&at.bucket, &at.prefix, &manifests(namespace, application)]))
            }
            Location::Azure(at) => {
                format!("az://{}", joined(&[&at.container, &at.prefix, &manifests(namespace, application)]))
            }
            Location::Directory(at) => joined(&[&at.path, &manifests(namespace, application)]),
        },
    }
}

fn manifests(namespace: &str, application: &str) -> String {
    format!("apps/{namespace}/{application}/manifests/")
}

fn as_restic_names_it(location: &Location, folder: &str) -> String {
    match location {
        Location::S3(at) => {
            let server = at.endpoint.as_deref().unwrap_or("https://s3.amazonaws.com").trim_end_matches('/');
            format!("s3:{}", joined(&[server, &at.bucket, &at.prefix, folder]))
        }
        Location::Azure(at) => format!("azure:{}:/{}", at.container, joined(&[&at.prefix, folder])),
        Location::Directory(at) => joined(&[&at.path, folder]),
    }
}

fn joined(parts: &[&str]) -> String {
    parts.iter().filter(|it| !it.is_empty()).copied().collect::<Vec<_>>().join("/")
}

async fn rotate(asked: &Asked) -> Result<KeyId, InspectError> {
    let next = asked.secrets.next_key(&asked.object).await.map_err(InspectError::Settings)?;
    let next = next.ok_or_else(|| {
        let secret = &asked.object.spec.encryption.secret.name;
        InspectError::Input(format!("Secret '{secret}' has no entry 'nextKey': put the new key there"))
    })?;
    let (vault, key) = (asked.vault().await?, VaultKey::new(&next).map_err(crate::vault::VaultError::Key)?);
    if key.id() == vault.key_id() {
        return Err(InspectError::Input("the Secret's entry 'nextKey' is the key that it has already".to_owned()));
    }
    vault.add_key(&key, "rotated").await?;
    Ok(KeyId { id: key.id() })
}

async fn retire(asked: &Asked, key: &str, without: &[String]) -> Result<KeyId, InspectError> {
    let confirmed = Confirmation::of(&asked.object).is_some_and(|it| it.key == key);
    if confirmed && asked.object.spec.encryption.recipients.is_empty() {
        let message = format!(
            "the key {key} is the one whose copy was confirmed: make a copy of its successor first, then kubectl reprise key confirm"
        );
        return Err(InspectError::Input(message));
    }
    asked.vault().await?.retire_key(key, without).await?;
    Ok(KeyId { id: key.to_owned() })
}

/// Opens the vault with the copy: that it is long enough, or begins well, would prove nothing.
async fn confirm(locked: &Locked, copy: SecretText) -> Result<KeyId, InspectError> {
    // Were the vault empty, the copy would become its key.
    locked.unlock().await?;
    let copy = Locked::new(Settings { key: copy, ..locked.settings().clone() })?;
    Ok(KeyId { id: copy.unlock().await?.key_id() })
}

async fn recover(locked: &Locked, root: &SecretText) -> Result<KeyId, InspectError> {
    let root = Root::parse(root.expose());
    let root = root.ok_or_else(|| InspectError::Input("what was given is not the root of a vault".to_owned()))?;
    locked.recover(&root).await?;
    Ok(KeyId { id: locked.key().id() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::{DirectoryLocation, S3Location};

    fn bucket(prefix: &str, endpoint: Option<&str>) -> Location {
        Location::S3(S3Location {
            bucket: "b".to_owned(),
            prefix: prefix.to_owned(),
            region: "r".to_owned(),
            endpoint: endpoint.map(ToOwned::to_owned),
            path_style: true,
            ca_bundle: None,
            server_side_encryption: None,
            object_lock: None,
            proxy: None,
            credentials: None,
        })
    }

    #[test]
    fn a_repository_is_named_as_restic_takes_it() {
        let directory = Location::Directory(DirectoryLocation { path: "/vaults/nfs".to_owned() });
        for (location, expected) in [
            (bucket("", None), "s3:https://s3.amazonaws.com/b/repos/shop.db"),
            (bucket("a/b", Some("https://s3.example.com/")), "s3:https://s3.example.com/b/a/b/repos/shop.db"),
            (directory, "/vaults/nfs/repos/shop.db"),
        ] {
            assert_eq!(as_restic_names_it(&location, &repository::prefix("shop", "db")), expected);
        }
    }
}
