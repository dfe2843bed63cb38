//! Keys: who may do what.
//!
//! Kept are the name, the SHA-256 of a 256-bit random secret, scopes and dates; never the secret.
//! A link key (capability) is not kept at all: it is a MAC over one instance and one operation.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use dalsegno_core::{InstanceId, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Status, lists, history, entities' states.
    Read,
    /// Start orchestrations.
    Start,
    /// Raise events.
    Signal,
    /// Terminate, suspend, resume, rewind, restart.
    Control,
    /// Delete finished instances.
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

/// A key as kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, for people and audit.
    pub id: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Refused after this.
    pub expires: Option<Timestamp>,
    sha256: [u8; 32],
}

/// The keys of a host and the secret its links are signed with.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<Key>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_micros: Option<i64>,
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

    /// Adds a key and returns its secret, which is nowhere kept.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn create(&mut self, id: &str, scopes: &[Scope], expires: Option<Timestamp>) -> io::Result<String> {
        let secret = format!("dsk_{}", hex(&random()?));
        self.keys.retain(|key| key.id != id);
        self.keys.push(Key {
            id: id.to_owned(),
            scopes: scopes.to_vec(),
            expires,
            sha256: Sha256::digest(secret.as_bytes()).into(),
        });
        Ok(secret)
    }

    /// Removes a key; says whether it was there.
    pub fn revoke(&mut self, id: &str) -> bool {
        let before = self.keys.len();
        self.keys.retain(|key| key.id != id);
        self.keys.len() < before
    }

    /// The keys, without secrets.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key with this secret. Takes the same time for every wrong one.
    pub fn find(&self, secret: &str, now: Timestamp) -> Option<&Key> {
        let given: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.sha256.ct_eq(&given)) {
                found = Some(key);
            }
        }
        found.filter(|key| key.expires.is_none_or(|expires| now < expires))
    }

    /// What signs this ring's links.
    pub fn link_signer(&self) -> LinkSigner {
        LinkSigner(self.link_secret)
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
            Some(Key {
                sha256: unhex(&key.sha256)?,
                id: key.id,
                scopes: key.scopes,
                expires: key.expires_micros.map(Timestamp::from_micros),
            })
        });
        Ok(Self {
            keys: keys.collect::<Option<_>>().ok_or_else(damaged)?,
            link_secret: unhex(&file.link_secret).ok_or_else(damaged)?,
        })
    }

    /// Writes the ring: a new file readable by its owner alone takes the old one's place.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = RingFile {
            link_secret: hex(&self.link_secret),
            keys: self.keys.iter().map(KeyFile::from).collect(),
        };
        let text = serde_json::to_string_pretty(&file).map_err(io::Error::other)?;
        let fresh = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(&fresh)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(fresh, path)
    }
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
            expires_micros: key.expires.map(Timestamp::as_micros),
        }
    }
}

/// What a link lets its holder do, with one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkOperation {
    /// Read the status.
    Status,
    /// Raise events.
    RaiseEvent,
    /// Terminate.
    Terminate,
    /// Delete.
    Purge,
    /// Start again.
    Restart,
    /// Suspend.
    Suspend,
    /// Resume.
    Resume,
    /// Rewind.
    Rewind,
}

impl LinkOperation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::RaiseEvent => "raiseEvent",
            Self::Terminate => "terminate",
            Self::Purge => "purge",
            Self::Restart => "restart",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Rewind => "rewind",
        }
    }
}

/// How link keys begin; what begins so is never looked up among the keys.
const LINK_KEY_PREFIX: &str = "dsl1_";

/// Makes and checks link keys: `dsl1_<expiry, seconds, hex>_<MAC, hex>`.
#[derive(Clone, Copy)]
pub struct LinkSigner([u8; 32]);

impl fmt::Debug for LinkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSigner(***)")
    }
}

impl LinkSigner {
    /// Is this a link key, good or not?
    pub fn is_link_key(code: &str) -> bool {
        code.starts_with(LINK_KEY_PREFIX)
    }

    /// The link key for one operation on one instance of a hub, until it expires.
    pub fn sign(&self, hub: &str, operation: LinkOperation, id: &InstanceId, expires: Timestamp) -> String {
        let seconds = format!("{:x}", expires.as_micros().max(0) / 1_000_000);
        let mac = self.mac(hub, operation, id, &seconds);
        format!("{LINK_KEY_PREFIX}{seconds}_{}", hex(&mac))
    }

    /// Is it good for that, now?
    pub fn verify(
        &self,
        code: &str,
        hub: &str,
        operation: LinkOperation,
        id: &InstanceId,
        now: Timestamp,
    ) -> bool {
        let Some((seconds, mac)) = code
            .strip_prefix(LINK_KEY_PREFIX)
            .and_then(|rest| rest.split_once('_'))
        else {
            return false;
        };
        let Some(mac) = unhex(mac) else { return false };
        let genuine = bool::from(self.mac(hub, operation, id, seconds).ct_eq(&mac));
        let expires = i64::from_str_radix(seconds, 16).unwrap_or(0);
        genuine && now.as_micros() / 1_000_000 < expires
    }

    /// Lengths come first, so that no two tuples read the same.
    fn mac(&self, hub: &str, operation: LinkOperation, id: &InstanceId, seconds: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        for part in [hub, operation.as_str(), id.as_str(), seconds] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
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

fn unhex(text: &str) -> Option<[u8; 32]> {
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
        let secret = ring.create("ops", &[Scope::Read], Some(LATER)).unwrap();
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

    #[test]
    fn a_link_key_is_good_for_one_operation_on_one_instance_until_it_expires() {
        let signer = KeyRing::new().unwrap().link_signer();
        let id = |text| InstanceId::parse(text).unwrap();
        let code = signer.sign("default", LinkOperation::Status, &id("order-1"), LATER);
        assert!(signer.verify(&code, "default", LinkOperation::Status, &id("order-1"), NOW));
        for (hub, operation, instance, now) in [
            ("other", LinkOperation::Status, "order-1", NOW),
            ("default", LinkOperation::Terminate, "order-1", NOW),
            ("default", LinkOperation::Status, "order-2", NOW),
            ("default", LinkOperation::Status, "order-1", LATER),
        ] {
            assert!(!signer.verify(&code, hub, operation, &id(instance), now));
        }
        let longer = code.replacen("dsl1_", "dsl1_1", 1);
        assert!(!signer.verify(&longer, "default", LinkOperation::Status, &id("order-1"), NOW));
        let other = KeyRing::new().unwrap().link_signer();
        assert!(!other.verify(&code, "default", LinkOperation::Status, &id("order-1"), NOW));
    }
}
