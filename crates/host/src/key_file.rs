//! Keys that follow their file: a key that was revoked there stops working without a restart.
//!
//! The host reads the file when a request comes, at most once a second. A file that is missing or
//! cannot be read changes nothing: the keys of the last good read stay valid.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use dalsegno_core::Timestamp;

use crate::keys::KeyRing;

/// How long a look at the file is good, and so how long a revoked key may still work.
const LOOK_MICROS: i64 = 1_000_000;

/// The keys that callers are held against. Clones are the same keys.
#[derive(Clone)]
pub struct Keys(Arc<Source>);

enum Source {
    Fixed(Arc<KeyRing>),
    File { path: PathBuf, seen: Mutex<Seen> },
}

/// What was found at the last look.
struct Seen {
    ring: Arc<KeyRing>,
    /// Of the file that was read.
    mark: Option<Mark>,
    /// Of the file that could not be read, and was reported.
    reported: Option<Option<Mark>>,
    looked: Timestamp,
}

/// By what a file is known to be another: `save` puts a new file in the place of the old one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Source::Fixed(ring) => f.debug_tuple("Keys").field(ring).finish(),
            Source::File { path, .. } => f.debug_tuple("Keys").field(path).finish(),
        }
    }
}

impl From<KeyRing> for Keys {
    fn from(ring: KeyRing) -> Self {
        Self(Arc::new(Source::Fixed(Arc::new(ring))))
    }
}

impl Keys {
    /// The keys of a file, read now and again whenever it changes.
    ///
    /// # Errors
    /// When the file is not there or holds something else.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mark = mark(path).ok();
        let seen = Mutex::new(Seen {
            ring: Arc::new(KeyRing::load(path)?),
            mark,
            reported: None,
            looked: Timestamp::from_micros(0),
        });
        let path = path.to_owned();
        Ok(Self(Arc::new(Source::File { path, seen })))
    }

    /// The keys as they are now.
    pub fn ring(&self, now: Timestamp) -> Arc<KeyRing> {
        match &*self.0 {
            Source::Fixed(ring) => ring.clone(),
            Source::File { path, seen } => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(Err(error)) = seen.look(path, now) {
                    let path = path.display();
                    tracing::error!(%path, %error, "the key file cannot be read; the keys before it stay good");
                }
                seen.ring.clone()
            }
        }
    }
}

impl Seen {
    /// Reads the file if it became another; an error is told once for each state of the file.
    fn look(&mut self, path: &Path, now: Timestamp) -> Option<io::Result<()>> {
        // A clock that was set back does not make a look last for ever.
        let age = now.as_micros() - self.looked.as_micros();
        if (0..LOOK_MICROS).contains(&age) {
            return None;
        }
        self.looked = now;
        let found = mark(path);
        let mark = found.as_ref().ok().copied();
        if mark.is_some() && mark == self.mark {
            return None;
        }
        match found.and_then(|_| KeyRing::load(path)) {
            Ok(ring) => {
                (self.mark, self.reported) = (mark, None);
                self.ring = Arc::new(ring);
                Some(Ok(()))
            }
            // The next look tries again: what is in the way may end without a change of the file, such as
            // its mode, or descriptors that ran out. It is reported once for each state of the file.
            Err(error) => {
                let is_new = self.reported != Some(mark);
                self.reported = Some(mark);
                is_new.then_some(Err(error))
            }
        }
    }
}

fn mark(path: &Path) -> io::Result<Mark> {
    let data = fs::metadata(path)?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&data);
    #[cfg(not(unix))]
    let inode = 0;
    Ok(Mark {
        modified: data.modified().ok(),
        bytes: data.len(),
        inode,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyHubs, Scope};

    fn second(number: i64) -> Timestamp {
        Timestamp::from_micros(1_772_357_400_000_000 + number * LOOK_MICROS)
    }

    fn look(keys: &Keys, now: Timestamp) -> Option<bool> {
        let Source::File { path, seen } = &*keys.0 else {
            panic!("a file was given")
        };
        seen.lock().unwrap().look(path, now).map(|read| read.is_ok())
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_could_not_be_read_is_read_as_soon_as_it_can_be() {
        // The mode was corrected, which changes neither time, length nor inode: the revoked key worked
        // until the next restart.
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut ring = KeyRing::new().unwrap();
        let old = ring.create("old", &[Scope::Read], KeyHubs::All, None).unwrap();
        ring.save(&path).unwrap();
        let keys = Keys::of_file(&path).unwrap();
        ring.revoke("old");
        ring.save(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(look(&keys, second(1)), Some(false));
        assert_eq!(look(&keys, second(2)), None, "reported before");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(look(&keys, second(3)), Some(true));
        assert!(keys.ring(second(3)).find(&old, second(3)).is_none());
    }

    #[test]
    fn a_revoked_key_stops_working_within_a_second_and_a_new_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut ring = KeyRing::new().unwrap();
        let old = ring.create("old", &[Scope::Read], KeyHubs::All, None).unwrap();
        ring.save(&path).unwrap();
        let keys = Keys::of_file(&path).unwrap();
        let knows = |secret: &str, now| keys.ring(now).find(secret, now).is_some();
        assert!(knows(&old, second(0)));

        assert!(ring.revoke("old"));
        let new = ring.create("new", &[Scope::Read], KeyHubs::All, None).unwrap();
        ring.save(&path).unwrap();
        let soon = Timestamp::from_micros(second(1).as_micros() - 1);
        assert!(knows(&old, soon), "looked at less than a second ago");
        assert!(!knows(&old, second(1)));
        assert!(knows(&new, second(1)));
        assert!(knows(&new, second(-5)), "a clock that was set back");
    }

    #[test]
    fn a_broken_or_missing_file_keeps_the_old_keys_and_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut ring = KeyRing::new().unwrap();
        let secret = ring.create("ops", &[Scope::Read], KeyHubs::All, None).unwrap();
        ring.save(&path).unwrap();
        let keys = Keys::of_file(&path).unwrap();
        let is_good = |now| keys.ring(now).find(&secret, now).is_some();
        assert_eq!(look(&keys, second(0)), None, "nothing changed");

        fs::write(&path, "{").unwrap();
        assert_eq!(look(&keys, second(1)), Some(false));
        assert_eq!(look(&keys, second(2)), None, "told before");
        assert!(is_good(second(3)));
        fs::remove_file(&path).unwrap();
        assert_eq!(look(&keys, second(4)), Some(false));
        assert_eq!(look(&keys, second(5)), None, "told before");
        assert!(is_good(second(6)));

        ring.revoke("ops");
        ring.save(&path).unwrap();
        assert_eq!(look(&keys, second(7)), Some(true));
        assert!(!is_good(second(8)));
    }
}
