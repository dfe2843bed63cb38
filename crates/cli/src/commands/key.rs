//! `dalsegno key`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use dalsegno_host::keys::{KeyRing, Scope};

use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

#[derive(Debug, Subcommand)]
#[command(
    after_help = "A host reads the file that auth.keys_file names,\nand again within a second of a change."
)]
pub(crate) enum Key {
    /// Make a key and print its secret, which is nowhere kept
    Create(Create),
    /// List the keys of a file, without secrets
    #[command(after_help = "Example: dalsegno key list")]
    List(File),
    /// Remove a key; hosts that run refuse it within a second
    #[command(after_help = "Example: dalsegno key revoke monitor")]
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// The key file
    #[arg(long, value_name = "FILE", default_value = "dalsegno-keys.json")]
    file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno key create monitor --scope read")]
pub(crate) struct Create {
    /// Name of the key; one of that name is replaced
    id: String,
    /// What it allows; may be repeated; without it everything
    #[arg(long = "scope", value_name = "SCOPE", value_parser = scope)]
    scopes: Vec<Scope>,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Name of the key
    id: String,
    #[command(flatten)]
    file: File,
}

fn word(scope: Scope) -> String {
    format!("{scope:?}").to_lowercase()
}

fn scope(text: &str) -> Result<Scope, String> {
    let known = Scope::ALL.into_iter().find(|scope| word(*scope) == text);
    let words: Vec<String> = Scope::ALL.into_iter().map(word).collect();
    known.ok_or_else(|| format!("expected one of {}", words.join(", ")))
}

fn load(file: &Path) -> Result<KeyRing, Failure> {
    let ring = match file.exists() {
        true => KeyRing::load(file),
        false => KeyRing::new(),
    };
    ring.map_err(|error| Failure::configuration(&format!("{}: {error}", file.display())))
}

fn save(ring: &KeyRing, file: &Path) -> Result<(), Failure> {
    ring.save(file)
        .map_err(|error| Failure::configuration(&format!("{}: {error}", file.display())))
}

impl Key {
    pub(crate) fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::Create(create) => create.run(session),
            Self::List(file) => {
                let rows: Vec<Row> = load(&file.file)?.keys().iter().map(row).collect();
                session.rows(&["KEY", "SCOPES"], &rows);
                Ok(Exit::Ok)
            }
            Self::Revoke(revoke) => {
                let mut ring = load(&revoke.file.file)?;
                if !ring.revoke(&revoke.id) {
                    let message = format!("{} has no key {}", revoke.file.file.display(), revoke.id);
                    return Err(Failure::usage(message).help("dalsegno key list shows what there is"));
                }
                save(&ring, &revoke.file.file)?;
                session.say(&format!(
                    "removed {}; hosts that read this file refuse it within a second",
                    revoke.id
                ));
                Ok(Exit::Ok)
            }
        }
    }
}

impl Create {
    fn run(self, session: &Session) -> Result<Exit, Failure> {
        let mut ring = load(&self.file.file)?;
        let scopes = if self.scopes.is_empty() {
            Scope::ALL.to_vec()
        } else {
            self.scopes
        };
        let replaced = ring.keys().iter().any(|key| key.id == self.id);
        let secret = ring
            .create(&self.id, &scopes, None)
            .map_err(|error| Failure::unexpected(&error))?;
        save(&ring, &self.file.file)?;
        if replaced {
            session.say(&format!(
                "replaced {}: its secret before this one is refused within a second",
                self.id
            ));
        }
        let json = serde_json::json!({ "id": self.id, "secret": secret });
        session.one(
            &["key", "secret"],
            &Row {
                id: secret.clone(),
                cells: vec![self.id, secret],
                json: json.to_string(),
            },
        );
        session.say("send it as x-functions-key, or set DALSEGNO_TOKEN; it is shown this once");
        Ok(Exit::Ok)
    }
}

fn row(key: &dalsegno_host::keys::Key) -> Row {
    let scopes: Vec<String> = key.scopes.iter().copied().map(word).collect();
    let json = serde_json::json!({ "id": key.id, "scopes": scopes });
    Row {
        id: key.id.clone(),
        cells: vec![key.id.clone(), scopes.join(",")],
        json: json.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words() {
        assert_eq!(scope("read"), Ok(Scope::Read));
        assert!(
            scope("root")
                .unwrap_err()
                .starts_with("expected one of read, start")
        );
    }
}
