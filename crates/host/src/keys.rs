//! Keys: which caller may do what, in which task hub.
//!
//! The key file stores the name, the SHA-256 of a 256-bit random secret, scopes, hub and dates; never
//! the secret. It also stores the secret that signs link keys ([`crate::link_keys`]).

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalsegno_core::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use crate::link_keys::{LinkOperation, LinkSigner, LinkTarget, VerifiedLink};

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Status, lists, history, entities' states.
    Read,
    /// Start orchestrations; with `control`, in the place of running ones.
    Start,
    /// Raise events.
    Signal,
    /// Terminate, suspend, resume, rewind, restart.
    Control,
    /// Delete finished instances; with `control`, running ones too.
    Purge,
    /// Signal and delete entities.
    Entity,
    /// Serve work items.
    Worker,
    /// Limiters, and app routes of level admin.
    Admin,
    /// App routes of level function.
    Function,
}

impl Scope {
    /// All of them: what the master key has.
    pub const ALL: [Self; 9] = [
        Self::Read,
        Self::Start,
        Self::Signal,
        Self::Control,
        Self::Purge,
        Self::Entity,
        Self::Worker,
        Self::Admin,
        Self::Function,
    ];
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Control => "control",
            Self::Purge => "purge",
            Self::Entity => "entity",
            Self::Worker => "worker",
            Self::Admin => "admin",
            Self::Function => "function",
        })
    }
}

/// The task hubs that a key opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHubs {
    /// The default hub of the host that reads the key file.
    Default,
    /// The hub of this name.
    Named(String),
    /// Every hub, and what belongs to the whole host.
    All,
    /// Every hub: the key is from a version in which keys had no hub.
    AllUnstated,
}

impl KeyHubs {
    /// Whether the key opens the hub of this name, on a host whose default hub is `default`.
    pub fn include(&self, hub: &str, default: &str) -> bool {
        match self {
            Self::Default => hub == default,
            Self::Named(name) => hub == name,
            Self::All | Self::AllUnstated => true,
        }
    }

    /// Whether the key opens every hub.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::All | Self::AllUnstated)
    }
}

impl fmt::Display for KeyHubs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default hub"),
            Self::Named(name) => f.write_str(name),
            Self::All => f.write_str("all hubs"),
            Self::AllUnstated => f.write_str("all hubs (created before keys had a hub)"),
        }
    }
}

/// A key as the key file stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, for people and audit.
    pub id: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Where it allows it.
    pub hubs: KeyHubs,
    /// Refused after this.
    pub expires: Option<Timestamp>,
    sha256: [u8; 32],
}

/// The keys of a host and the secret its links are signed with.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<Arc<Key>>,
    link_secret: [u8; 32],
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("keys", &self.keys)
            .field("link_secret", &"***")
            .finish()
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RingFile {
    link_secret: String,
    keys: Vec<KeyFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyFile {
    id: String,
    sha256: String,
    scopes: Vec<Scope>,
    /// Keys of versions before 0.2 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hubs: Option<HubsFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_micros: Option<i64>,
}

/// `"default"`, `"all"` or `{"named": "orders"}`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum HubsFile {
    Default,
    All,
    Named(String),
}

impl Key {
    fn is_current(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl KeyRing {
    /// A ring without keys, with a fresh secret for links.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            keys: Vec::new(),
            link_secret: random()?,
        })
    }

    /// Adds a key, which replaces one of the same name, and returns its secret. The ring does not
    /// store the secret.
    ///
    /// # Errors
    /// When the system cannot provide random bytes.
    pub fn create(
        &mut self,
        id: &str,
        scopes: &[Scope],
        hubs: KeyHubs,
        expires: Option<Timestamp>,
    ) -> io::Result<String> {
        let secret = format!("dsk_{}", hex(&random()?));
        self.keys.retain(|key| key.id != id);
        self.keys.push(Arc::new(Key {
            id: id.to_owned(),
            scopes: scopes.to_vec(),
            hubs,
            expires,
            sha256: Sha256::digest(secret.as_bytes()).into(),
        }));
        Ok(secret)
    }

    /// Replaces the secret that signs links. Every link that was issued before stops working.
    ///
    /// # Errors
    /// When the system cannot provide random bytes.
    pub fn rotate_link_secret(&mut self) -> io::Result<()> {
        self.link_secret = random()?;
        Ok(())
    }

    /// Removes a key; says whether it was there.
    pub fn revoke(&mut self, id: &str) -> bool {
        let before = self.keys.len();
        self.keys.retain(|key| key.id != id);
        self.keys.len() < before
    }

    /// The keys, without secrets.
    pub fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// The key with this secret. Takes the same time for every wrong one.
    pub fn find(&self, secret: &str, now: Timestamp) -> Option<&Arc<Key>> {
        let given: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.sha256.ct_eq(&given)) {
                found = Some(key);
            }
        }
        found.filter(|key| key.is_current(now))
    }

    /// Whether this very key is still there and has not expired.
    pub(crate) fn still_has(&self, key: &Key, now: Timestamp) -> bool {
        let same = |known: &&Arc<Key>| bool::from(known.sha256.ct_eq(&key.sha256));
        self.keys
            .iter()
            .find(same)
            .is_some_and(|known| known.is_current(now) && **known == *key)
    }

    /// What signs and verifies the links of this ring.
    pub fn link_signer(&self) -> LinkSigner {
        LinkSigner::new(self.link_secret)
    }

    /// Reads a ring from its file.
    ///
    /// # Errors
    /// When the file is not there, is open to others than its owner, or holds something else. The
    /// text names no secret.
    pub fn load(path: &Path) -> io::Result<Self> {
        check_private(path)?;
        let damaged = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is no key ring of this version",
            )
        };
        let file: RingFile = serde_json::from_str(&fs::read_to_string(path)?).map_err(|_| damaged())?;
        let keys = file.keys.into_iter().map(|key| {
            Some(Arc::new(Key {
                sha256: unhex(&key.sha256)?,
                id: key.id,
                scopes: key.scopes,
                hubs: match key.hubs {
                    Some(HubsFile::Default) => KeyHubs::Default,
                    Some(HubsFile::Named(name)) => KeyHubs::Named(name),
                    Some(HubsFile::All) => KeyHubs::All,
                    None => KeyHubs::AllUnstated,
                },
                expires: key.expires_micros.map(Timestamp::from_micros),
            }))
        });
        Ok(Self {
            keys: keys.collect::<Option<_>>().ok_or_else(damaged)?,
            link_secret: unhex(&file.link_secret).ok_or_else(damaged)?,
        })
    }

    /// Changes the ring in a file while no other process does: locks, reads, changes, writes. Where
    /// there is no file, the change begins with a new ring. When it fails, nothing is written.
    ///
    /// # Errors
    /// What [`KeyRing::load`] and [`KeyRing::save`] refuse, when the file cannot be locked, and the error of
    /// the change.
    pub fn change<T, E: From<io::Error>>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = lock(path)?;
        let mut ring = match path.exists() {
            true => Self::load(path)?,
            false => Self::new()?,
        };
        let outcome = change(&mut ring)?;
        ring.save(path)?;
        Ok(outcome)
    }

    /// Writes the ring: a new file readable by its owner alone takes the old one's place.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = RingFile {
            link_secret: hex(&self.link_secret),
            keys: self.keys.iter().map(|key| KeyFile::from(&**key)).collect(),
        };
        let text = serde_json::to_string_pretty(&file).map_err(io::Error::other)?;
        let fresh = beside(path, "new");
        // What a crash left there has a mode of its own, and may be a link.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut out = private(fs::OpenOptions::new().write(true).create_new(true)).open(&fresh)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(fresh, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Waits until no other process changes the key file. The lock is on a file of its own, which stays:
/// each change puts a new file in the place of the key file.
fn lock(path: &Path) -> io::Result<fs::File> {
    let lock = private(fs::OpenOptions::new().write(true).create(true)).open(beside(path, "lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// `keys.json.new`
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// A file that is created so is its owner's alone.
fn private(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// The file holds what signs links, so whoever reads it can make them.
#[cfg(unix)]
fn check_private(path: &Path) -> io::Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path)?.permissions());
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "others than its owner may use it (mode {:o}): chmod 600 {}",
            mode & 0o777,
            path.display()
        ),
    ))
}

#[cfg(not(unix))]
fn check_private(_path: &Path) -> io::Result<()> {
    Ok(())
}

impl From<&Key> for KeyFile {
    fn from(key: &Key) -> Self {
        Self {
            id: key.id.clone(),
            sha256: hex(&key.sha256),
            scopes: key.scopes.clone(),
            hubs: match &key.hubs {
                KeyHubs::Default => Some(HubsFile::Default),
                KeyHubs::Named(name) => Some(HubsFile::Named(name.clone())),
                KeyHubs::All => Some(HubsFile::All),
                KeyHubs::AllUnstated => None,
            },
            expires_micros: key.expires.map(Timestamp::as_micros),
        }
    }
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex_bytes(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digits = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
    digits
        .map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| !pair.contains('+')))
        .collect()
}

pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    unhex_bytes(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_772_357_400_000_000);
    const LATER: Timestamp = Timestamp::from_micros(1_772_357_500_000_000);

    #[test]
    fn a_secret_is_found_by_its_hash_and_is_nowhere_kept() {
        let mut ring = KeyRing::new().unwrap();
        let secret = ring
            .create("ops", &[Scope::Read], KeyHubs::Default, Some(LATER))
            .unwrap();
        assert_eq!(ring.find(&secret, NOW).map(|key| key.id.as_str()), Some("ops"));
        assert_eq!(ring.find(&secret, LATER), None, "expired");
        assert_eq!(ring.find("dsk_00", NOW), None);
        assert!(!format!("{ring:?}").contains(&secret[4..]));

        let folder = std::env::temp_dir().join(format!("dalsegno-keys-{}", hex(&random().unwrap())));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("keys.json");
        ring.save(&path).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains(&secret[4..]));
        let mut again = KeyRing::load(&path).unwrap();
        assert_eq!(again.keys(), ring.keys());
        assert!(again.revoke("ops"));
        assert_eq!(again.find(&secret, NOW), None);
        fs::write(&path, "{}").unwrap();
        assert_eq!(
            KeyRing::load(&path).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        KeyRing::new().unwrap().save(&path).unwrap();
        for (mode, wanted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let loaded = KeyRing::load(&path).map(|_| ()).map_err(|error| error.kind());
            assert_eq!(loaded.is_ok(), wanted, "{mode:o}");
            assert!(
                wanted || loaded == Err(io::ErrorKind::PermissionDenied),
                "{mode:o}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_was_left_beside_the_file_lends_it_no_mode() {
        // A new file that a crash left there, or that somebody put there, stayed open to others.
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        let left = beside(&path, "new");
        let leave_file = || {
            fs::write(&left, "left").unwrap();
            fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
        };
        let leave_link = || std::os::unix::fs::symlink(&elsewhere, &left).unwrap();
        for leave in [&leave_file as &dyn Fn(), &leave_link] {
            leave();
            KeyRing::new().unwrap().save(&path).unwrap();
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert!(!left.exists());
        }
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    }

    #[test]
    fn changes_at_the_same_time_lose_nothing_of_each_other() {
        // Two processes read the same file, and the one that wrote last undid what the other did: a
        // revoked key worked again.
        const THREADS: usize = 8;
        const CHANGES: usize = 10;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let together = std::sync::Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (path, together) = (&path, &together);
                scope.spawn(move || {
                    together.wait();
                    for number in 0..CHANGES {
                        let id = format!("{thread}-{number}");
                        let created = KeyRing::change(path, |ring| {
                            ring.create(&id, &[Scope::Read], KeyHubs::Default, None)
                        });
                        created.unwrap();
                    }
                });
            }
        });
        assert_eq!(KeyRing::load(&path).unwrap().keys().len(), THREADS * CHANGES);
    }

    #[test]
    fn a_change_that_fails_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let failed = KeyRing::change(&path, |ring| {
            ring.create("lost", &[Scope::Read], KeyHubs::Default, None)?;
            Err::<(), _>(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_key_opens_its_hub_and_a_key_of_an_older_file_opens_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut ring = KeyRing::new().unwrap();
        for (id, hubs) in [
            ("default", KeyHubs::Default),
            ("orders", KeyHubs::Named("orders".into())),
            ("all", KeyHubs::All),
            ("old", KeyHubs::AllUnstated),
        ] {
            ring.create(id, &[Scope::Read], hubs, None).unwrap();
        }
        ring.save(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.matches("\"hubs\"").count(),
            3,
            "the older form has no hubs: {text}"
        );
        let ring = KeyRing::load(&path).unwrap();
        let opens: Vec<(bool, bool)> = ring
            .keys()
            .iter()
            .map(|key| {
                (
                    key.hubs.include("main", "main"),
                    key.hubs.include("orders", "main"),
                )
            })
            .collect();
        assert_eq!(opens, [(true, false), (false, true), (true, true), (true, true)]);
        assert_eq!(
            ring.keys()
                .iter()
                .map(|key| key.hubs.is_all())
                .collect::<Vec<_>>(),
            [false, false, true, true]
        );
    }

    #[test]
    fn a_rotated_link_secret_ends_earlier_links_and_keeps_the_keys() {
        let mut ring = KeyRing::new().unwrap();
        let secret = ring.create("ops", &[Scope::Read], KeyHubs::All, None).unwrap();
        let id = dalsegno_core::InstanceId::trusted("i");
        let target = LinkTarget {
            hub: "default",
            operation: LinkOperation::Status,
            id: &id,
        };
        let code = ring.link_signer().sign(target, NOW, LATER);
        assert!(ring.link_signer().verify(&code, target, NOW).is_some());
        ring.rotate_link_secret().unwrap();
        assert_eq!(ring.link_signer().verify(&code, target, NOW), None);
        assert!(ring.find(&secret, NOW).is_some());
    }
}
