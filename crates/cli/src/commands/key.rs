//! `dalsegno key`

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use dalsegno_core::Timestamp;
use dalsegno_host::keys::{KeyHubs, KeyRing, Scope};

use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

#[derive(Debug, Subcommand)]
#[command(
    after_help = "A host reads the file that auth.keys_file names,\nand again within a second of a change. A host that was given a copy\n(systemd's LoadCredential) has to be restarted."
)]
pub(crate) enum Key {
    /// Create a key and print its secret, which is stored nowhere
    Create(Create),
    /// List the keys of a file, without secrets
    #[command(after_help = "Example: dalsegno key list")]
    List(File),
    /// Remove a key; a host that reads the file refuses it
    #[command(after_help = "Example: dalsegno key revoke monitor")]
    Revoke(Revoke),
    /// Replace the secret of links: earlier links stop working
    #[command(after_help = "Example: dalsegno key rotate-link-secret --file keys.json")]
    RotateLinkSecret(File),
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// The key file
    #[arg(long, value_name = "FILE", default_value = "dalsegno-keys.json")]
    file: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno key create monitor --scope read --expires 90d\nThe key opens the default hub, the hub of --hub, or with --all-hubs every hub."
)]
pub(crate) struct Create {
    /// Name of the key; replaces a key of that name
    id: String,
    /// What it allows; may be repeated; `all` allows everything
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = scopes)]
    scopes: Vec<Scopes>,
    /// Open every hub, and what belongs to the whole host
    #[arg(long, conflicts_with = "hub")]
    all_hubs: bool,
    /// When it expires: a time, or a duration from now such as 90d
    #[arg(long, value_name = "TIME", value_parser = crate::input::future)]
    expires: Option<Timestamp>,
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

/// One scope, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scopes {
    One(Scope),
    All,
}

fn scopes(text: &str) -> Result<Scopes, String> {
    if text == "all" {
        return Ok(Scopes::All);
    }
    let known = Scope::ALL.into_iter().find(|scope| scope.to_string() == text);
    let words = Scope::ALL.map(|scope| scope.to_string());
    known
        .map(Scopes::One)
        .ok_or_else(|| format!("must be one of {}, or all", words.join(", ")))
}

/// In the order of [`Scope::ALL`], each once.
fn union(asked: &[Scopes]) -> Vec<Scope> {
    let has = |scope: &Scope| asked.contains(&Scopes::All) || asked.contains(&Scopes::One(*scope));
    Scope::ALL.into_iter().filter(has).collect()
}

fn load(file: &Path) -> Result<KeyRing, Failure> {
    let ring = match file.exists() {
        true => KeyRing::load(file),
        false => KeyRing::new(),
    };
    ring.map_err(|error| refused(file, &error))
}

/// Why a key file is not changed.
enum Unchanged {
    /// It cannot be read or written.
    File(io::Error),
    /// What was asked for does not fit.
    Asked(Failure),
}

impl From<io::Error> for Unchanged {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

/// Changes the ring of a file, one process at a time.
fn change<T>(file: &Path, change: impl FnOnce(&mut KeyRing) -> Result<T, Unchanged>) -> Result<T, Failure> {
    KeyRing::change(file, change).map_err(|unchanged| match unchanged {
        Unchanged::File(error) => refused(file, &error),
        Unchanged::Asked(failure) => failure,
    })
}

fn refused(file: &Path, error: &io::Error) -> Failure {
    Failure::configuration(&format!("{}: {error}", file.display()))
}

/// When hosts learn of a change, for the end of a message.
const SEEN: &str = "a host that reads a copy of the file, as under systemd's LoadCredential, \
                    sees the change at its next start";

impl Key {
    pub(crate) fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::Create(create) => create.run(session),
            Self::List(file) => {
                let ring = load(&file.file)?;
                let rows: Vec<Row> = ring.keys().iter().map(|key| row(key)).collect();
                session.rows(&["KEY", "SCOPES", "HUB", "EXPIRES"], &rows);
                Ok(Exit::Ok)
            }
            Self::RotateLinkSecret(file) => {
                // A file that is not there has no links to end.
                KeyRing::load(&file.file).map_err(|error| refused(&file.file, &error))?;
                change(&file.file, |ring| Ok(ring.rotate_link_secret()?))?;
                session.say(&format!(
                    "replaced the link secret: links issued before stop working within a second, keys stay valid; {SEEN}"
                ));
                Ok(Exit::Ok)
            }
            Self::Revoke(revoke) => {
                let file = &revoke.file.file;
                change(file, |ring| match ring.revoke(&revoke.id) {
                    true => Ok(()),
                    false => {
                        let message = format!("{} has no key {}", file.display(), revoke.id);
                        let failure = Failure::usage(message).help("dalsegno key list shows what there is");
                        Err(Unchanged::Asked(failure))
                    }
                })?;
                session.say(&format!(
                    "removed {} from {}: a host that reads this file refuses it within a second, and ends its streams within five; {SEEN}",
                    revoke.id,
                    file.display()
                ));
                Ok(Exit::Ok)
            }
        }
    }
}

impl Create {
    fn run(self, session: &Session) -> Result<Exit, Failure> {
        let scopes = union(&self.scopes);
        let hubs = match (self.all_hubs, session.named_hub()) {
            (true, _) => KeyHubs::All,
            (false, Some(name)) => KeyHubs::Named(name.to_owned()),
            (false, None) => KeyHubs::Default,
        };
        let (replaced, secret) = change(&self.file.file, |ring| {
            let replaced = ring.keys().iter().any(|key| key.id == self.id);
            let secret = ring.create(&self.id, &scopes, hubs.clone(), self.expires)?;
            Ok((replaced, secret))
        })?;
        if replaced {
            session.say(&format!(
                "replaced {}: its secret before this one is refused within a second; {SEEN}",
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
        session.say(&format!(
            "for {hubs}; send the secret as x-functions-key, or set DALSEGNO_TOKEN: it is shown this once"
        ));
        Ok(Exit::Ok)
    }
}

fn row(key: &dalsegno_host::keys::Key) -> Row {
    let scopes: Vec<String> = key.scopes.iter().map(ToString::to_string).collect();
    let expires = key.expires.map(dalsegno_host::v1::json::time);
    let json = serde_json::json!({
        "id": key.id,
        "scopes": scopes,
        "hub": match &key.hubs {
            KeyHubs::Named(name) => Some(name),
            KeyHubs::Default | KeyHubs::All | KeyHubs::AllUnstated => None,
        },
        "allHubs": key.hubs.is_all(),
        "expires": expires,
    });
    let cells = vec![
        key.id.clone(),
        scopes.join(","),
        key.hubs.to_string(),
        expires.unwrap_or_else(|| "never".into()),
    ];
    Row {
        id: key.id.clone(),
        cells,
        json: json.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words() {
        assert_eq!(scopes("read"), Ok(Scopes::One(Scope::Read)));
        assert_eq!(scopes("all"), Ok(Scopes::All));
        let refused = scopes("root").unwrap_err();
        assert!(refused.starts_with("must be one of read, start"), "{refused}");
        let asked = [Scopes::One(Scope::Start), Scopes::One(Scope::Read)];
        assert_eq!(union(&asked), [Scope::Read, Scope::Start]);
        assert_eq!(union(&[Scopes::All]), Scope::ALL);
    }
}
