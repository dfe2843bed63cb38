//! Why a hub is not opened.

use std::error::Error;
use std::fmt;
use std::io;

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
    Io,
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

    pub(crate) fn in_use(pid: &str) -> Self {
        Self::new(Kind::InUse, format!("hub is in use by pid {pid}"))
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
        Self {
            source: Some(Box::new(error)),
            ..Self::new(Kind::Io, format!("cannot {what}"))
        }
    }

    pub(crate) fn sqlite(what: &str, error: rusqlite::Error) -> Self {
        let is_checksum = matches!(error, rusqlite::Error::FromSqlConversionFailure(..));
        let kind = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => Kind::Damaged,
            _ if is_checksum => Kind::Damaged,
            _ => Kind::Io,
        };
        Self {
            source: Some(Box::new(error)),
            ..Self::new(kind, format!("cannot {what} in hub.db"))
        }
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
