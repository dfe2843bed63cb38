//! Why a hub is not opened.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use dalsegno_core::store::{ReadError, ReadErrorKind, is_refused};

use crate::sqlite::read;

/// A hub that is not opened. Nothing of it was changed, and the text says what to do.
#[derive(Debug)]
pub struct OpenError {
    kind: Kind,
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    InUse,
    Foreign,
    Newer,
    Older,
    Damaged,
    /// The system refuses, and will refuse again until somebody changes something.
    Refused,
    /// The disk or the system failed; it may be over when it is tried again.
    Transient,
}

impl OpenError {
    /// Another process has it open.
    pub fn is_in_use(&self) -> bool {
        self.kind == Kind::InUse
    }

    /// The folder is something else than a hub, or another one than asked for.
    pub fn is_foreign(&self) -> bool {
        self.kind == Kind::Foreign
    }

    /// A newer version of dalsegno wrote it.
    pub fn is_newer(&self) -> bool {
        self.kind == Kind::Newer
    }

    /// A version of dalsegno wrote it that is too old to read.
    pub fn is_older(&self) -> bool {
        self.kind == Kind::Older
    }

    /// Files are missing, damaged, or do not belong together.
    pub fn is_damaged(&self) -> bool {
        self.kind == Kind::Damaged
    }

    /// The disk or the system failed, and the hub may open when it is tried again: an I/O error,
    /// a full disk, no free file descriptors.
    pub fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    pub(crate) fn in_use(pid: &str) -> Self {
        Self::new(Kind::InUse, format!("hub is in use by pid {pid}"))
    }

    /// The file `lock` was free, but the hub is not.
    pub(crate) fn in_use_without_lock(how: &str) -> Self {
        let text = format!(
            "hub is in use, though its file `lock` was deleted or replaced: {how}; end that process first"
        );
        Self::new(Kind::InUse, text)
    }

    pub(crate) fn foreign(text: impl Into<String>) -> Self {
        Self::new(Kind::Foreign, text)
    }

    pub(crate) fn newer(what: &str, found: u32, known: u32) -> Self {
        let text = format!(
            "{what} has format {found}, this version knows up to {known}: use a newer version of dalsegno"
        );
        Self::new(Kind::Newer, text)
    }

    pub(crate) fn older(what: &str, found: u32, known: u32) -> Self {
        let text = format!(
            "{what} has format {found}, this version reads {known} only: use the version that made it, or a new folder"
        );
        Self::new(Kind::Older, text)
    }

    /// Tables that an opening brings to the present format, met by somebody who only reads.
    pub(crate) fn not_upgraded(what: &str, found: u32, known: u32) -> Self {
        let text = format!(
            "{what} has format {found}, which a host brings to {known} when it opens the hub: start one first"
        );
        Self::new(Kind::Older, text)
    }

    pub(crate) fn damaged(what: &str) -> Self {
        Self::new(Kind::Damaged, format!("{what}: restore the hub from a backup"))
    }

    pub(crate) fn io(what: &str, error: io::Error) -> Self {
        let kind = match is_refused(error.kind()) {
            true => Kind::Refused,
            false => Kind::Transient,
        };
        Self {
            source: Some(Box::new(error)),
            ..Self::new(kind, format!("cannot {what}"))
        }
    }

    pub(crate) fn sqlite(what: &str, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let kind = match error.sqlite_error_code() {
            Some(
                Code::SystemIoFailure
                | Code::DiskFull
                | Code::OutOfMemory
                | Code::CannotOpen
                | Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::FileLockingProtocolFailed
                // Of a database that was opened for writing: its `-wal` or `-shm` could not be.
                | Code::ReadOnly,
            ) => Kind::Transient,
            _ if read::is_damage(&error) => Kind::Damaged,
            _ => Kind::Refused,
        };
        if kind == Kind::Damaged {
            let reason = read::reason(&error);
            return Self::damaged(&format!("cannot {what} in hub.db, which is damaged: {reason}"));
        }
        Self {
            source: Some(Box::new(error)),
            ..Self::new(kind, format!("cannot {what} in hub.db"))
        }
    }

    pub(crate) fn unread(what: &str, error: ReadError) -> Self {
        let kind = match error.kind() {
            ReadErrorKind::Damaged => Kind::Damaged,
            ReadErrorKind::Fenced => Kind::InUse,
            ReadErrorKind::Transient => Kind::Transient,
        };
        Self {
            source: Some(Box::new(error)),
            ..Self::new(kind, format!("cannot {what}"))
        }
    }

    /// Says where the damaged hub is.
    pub(crate) fn in_folder(mut self, folder: &Path) -> Self {
        if self.kind == Kind::Damaged {
            self.text = format!("{}: {}", folder.display(), self.text);
        }
        self
    }

    fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
