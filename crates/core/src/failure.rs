//! When user code fails (durable data) and when it does not fit its history (a fault).

use std::fmt;

use crate::payload::Payload;

/// A failure of user code, as recorded in history and shown to clients.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Failure {
    /// What kind of error it was: the last segment of a Rust type's name, an exception class. May be empty.
    pub kind: String,
    /// What went wrong, for people.
    pub message: String,
    /// Where, if the language tells.
    pub stack: Option<String>,
    /// What caused it.
    pub cause: Option<Box<Failure>>,
    /// Trying again cannot help.
    pub permanent: bool,
    /// A JSON object of what else the code's language says of it.
    pub properties: Option<Payload>,
}

/// The kind of failure by which a request to cancel goes through code.
pub const CANCELLED: &str = "Cancelled";

impl Failure {
    /// What a request to cancel makes of what was open.
    pub fn cancelled(reason: Option<&str>) -> Self {
        let message = reason.map_or_else(|| "cancelled".to_owned(), |reason| format!("cancelled: {reason}"));
        Self::new(CANCELLED, message).permanent()
    }

    /// Is it one of those?
    pub fn is_cancelled(&self) -> bool {
        self.kind == CANCELLED
    }

    /// A failure of a kind with a message.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// The same, never retried.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }
}

/// `kind: message`, or the message alone: what the management API shows as output.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.kind.is_empty() {
            write!(f, "{}: ", self.kind)?;
        }
        f.write_str(&self.message)
    }
}

/// Code and history do not fit together. Parks the instance; never part of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What did not fit.
    pub kind: FaultKind,
    /// Recorded against asked, with the source line where known, and what to do.
    pub message: String,
    /// The two side by side, where code and history went apart at one place.
    pub divergence: Option<Box<Divergence>>,
}

/// Where code and history went apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// What history records there; nothing when it ends there.
    pub recorded: Option<String>,
    /// What the code asked for instead; nothing when it asked for nothing more.
    pub asked: Option<String>,
    /// File, line and column of the code that asked, where known.
    pub location: Option<String>,
}

impl Fault {
    /// One without sides to compare.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            divergence: None,
        }
    }
}

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The code asked for something else than history records at this place.
    Diverged,
    /// History records more than the code asked for in that turn.
    Surplus,
    /// A completion for a task that the code never asked for.
    UnknownTask,
    /// The orchestrator waits for something that is not durable.
    ForeignWait,
    /// Something that is not durable woke the orchestrator.
    ForeignWake,
    /// A turn asked for more than `turn_actions_max`.
    BusyLoop,
    /// The orchestrator panicked.
    Panicked,
    /// The stored records of this instance cannot be read.
    Damaged,
    /// No code for this name and version is registered here.
    Missing,
    /// The process died too often while a turn of this instance ran, or its workers answered too
    /// often with what cannot be used.
    Poisoned,
    /// Its turn is too large for the workers that run its code, or asks for more than
    /// `turn_bytes_max` or `locked_entities_max`, or for a time more than 100 years ahead.
    Oversized,
}

impl FaultKind {
    /// All of them, by their number in stored records: new ones go to the end.
    pub const ALL: [Self; 11] = [
        Self::Diverged,
        Self::Surplus,
        Self::UnknownTask,
        Self::ForeignWait,
        Self::ForeignWake,
        Self::BusyLoop,
        Self::Panicked,
        Self::Damaged,
        Self::Missing,
        Self::Poisoned,
        Self::Oversized,
    ];

    /// The kind's name, as people and JSON see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Diverged => "Diverged",
            Self::Surplus => "Surplus",
            Self::UnknownTask => "UnknownTask",
            Self::ForeignWait => "ForeignWait",
            Self::ForeignWake => "ForeignWake",
            Self::BusyLoop => "BusyLoop",
            Self::Panicked => "Panicked",
            Self::Damaged => "Damaged",
            Self::Missing => "Missing",
            Self::Poisoned => "Poisoned",
            Self::Oversized => "Oversized",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.message)
    }
}
