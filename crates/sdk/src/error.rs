//! What user code returns when something goes wrong, and how that becomes a durable failure.
//!
//! [`Error`] takes any `std::error::Error` by `?` and therefore is none itself. What is recorded is a
//! [`Failure`]: the last segment of the error's type name, its text, and the texts of its sources.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use dalsegno_core::Failure;
use dalsegno_engine::executor::{AttemptOutcome, CancelReason};
use dalsegno_engine::request::{RequestError, RequestErrorKind};
use dalsegno_engine::{HubError, HubErrorKind};
use dalsegno_host::config::Refused;
use dalsegno_store_embedded::OpenError;

use crate::cancel::CancelRequested;

/// `std::result::Result` with [`Error`] unless another error is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of errors about what a host was told.
const CONFIGURATION: &str = "Configuration";

/// Longest chain of sources that is recorded.
const CAUSES_MAX: usize = 8;

/// Anything that went wrong in user code.
pub struct Error(Box<Inner>);

struct Inner {
    failure: Failure,
    retry: Retry,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

#[derive(Clone, Copy)]
enum Retry {
    ByPolicy,
    After(Duration),
    Limited(Duration),
}

impl Error {
    /// An error that is just a text.
    pub fn msg(message: impl Into<String>) -> Self {
        Self::from_failure(Failure::new("", message))
    }

    /// An error with a kind of the caller's choice, stable when types move or are renamed.
    pub fn with_kind(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::from_failure(Failure::new(kind, message))
    }

    /// The same error, never retried.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.failure.permanent = true;
        self
    }

    /// The same error; the next attempt of this task begins no earlier than after `delay`.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry = Retry::After(delay);
        self
    }

    /// Was it, or one of its causes, an error of type `E`?
    ///
    /// Decided by the last segment of the type's name, because that is what history keeps.
    pub fn is<E: ?Sized>(&self) -> bool {
        failure_is::<E>(&self.0.failure)
    }

    /// The error as `E`, if it was made from one in this process.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.source.as_deref().and_then(|source| source.downcast_ref())
    }

    /// Is it a cancellation? Returned by an orchestration that was asked to end, it ends it as `Canceled`.
    pub fn is_cancelled(&self) -> bool {
        self.0.failure.is_cancelled()
    }

    /// What will be recorded.
    pub fn failure(&self) -> &Failure {
        &self.0.failure
    }

    /// What a refused request was refused for, if that is what it is.
    pub fn request_kind(&self) -> Option<RequestErrorKind> {
        self.downcast_ref::<RequestError>().map(|error| error.kind)
    }

    /// No such instance, entity or limiter.
    pub fn is_not_found(&self) -> bool {
        self.request_kind() == Some(RequestErrorKind::NotFound)
    }

    /// The time given for a wait is over.
    pub fn is_timeout(&self) -> bool {
        self.request_kind() == Some(RequestErrorKind::TimedOut)
    }

    /// The id is in use by an instance that lives.
    pub fn is_instance_exists(&self) -> bool {
        self.request_kind() == Some(RequestErrorKind::InstanceExists)
    }

    /// The host was not started because of what it was told: its configuration, its address, its
    /// keys, or a folder that holds no hub or a damaged one. Nothing was changed.
    pub fn is_configuration(&self) -> bool {
        let refused_folder = self
            .downcast_ref::<OpenError>()
            .is_some_and(|error| !error.is_in_use() && !error.is_transient());
        let refused_hub = matches!(
            self.hub_kind(),
            Some(HubErrorKind::Damaged | HubErrorKind::Refused)
        );
        refused_folder
            || refused_hub
            || self.downcast_ref::<Refused>().is_some()
            || self.0.failure.kind == CONFIGURATION
    }

    /// The hub is open in another process.
    pub fn is_in_use(&self) -> bool {
        self.downcast_ref::<OpenError>().is_some_and(OpenError::is_in_use)
            || self.hub_kind() == Some(HubErrorKind::InUse)
    }

    /// The host was not started because the disk or the system failed, such as by an I/O error or for
    /// want of room: a later start may succeed.
    pub fn is_transient(&self) -> bool {
        self.downcast_ref::<OpenError>()
            .is_some_and(OpenError::is_transient)
            || self.hub_kind() == Some(HubErrorKind::Transient)
    }

    /// The host was not started because what is stored is damaged; the text says what to do.
    pub fn is_damaged(&self) -> bool {
        self.downcast_ref::<OpenError>()
            .is_some_and(OpenError::is_damaged)
            || self.hub_kind() == Some(HubErrorKind::Damaged)
    }

    /// Why a hub whose folder was opened was not started.
    fn hub_kind(&self) -> Option<HubErrorKind> {
        self.downcast_ref::<HubError>().map(HubError::kind)
    }

    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::with_kind(CONFIGURATION, message)
    }

    pub(crate) fn limited(delay: Duration) -> Self {
        let mut error = Self::with_kind("Limited", "the called service is at its limit");
        error.0.retry = Retry::Limited(delay);
        error
    }

    pub(crate) fn from_failure(failure: Failure) -> Self {
        Self(Box::new(Inner {
            failure,
            retry: Retry::ByPolicy,
            source: None,
        }))
    }

    pub(crate) fn into_failure(self) -> Failure {
        self.0.failure
    }

    pub(crate) fn into_outcome(self) -> AttemptOutcome {
        let failure = self.0.failure;
        match self.0.retry {
            Retry::Limited(retry_after) => AttemptOutcome::Limited { retry_after },
            Retry::After(delay) => AttemptOutcome::Failed {
                failure,
                retry_after: Some(delay),
            },
            Retry::ByPolicy => AttemptOutcome::Failed {
                failure,
                retry_after: None,
            },
        }
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let any = &error as &dyn StdError;
        let known = any.downcast_ref().map(TaskError::to_failure);
        let failure = known.or_else(|| any.downcast_ref().map(CancelRequested::to_failure));
        let failure = match failure {
            Some(failure) => failure,
            None => Failure {
                cause: causes_of(&error, CAUSES_MAX),
                ..Failure::new(kind_of::<E>(), error.to_string())
            },
        };
        Self(Box::new(Inner {
            failure,
            retry: Retry::ByPolicy,
            source: Some(Box::new(error)),
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.failure.message)
    }
}

/// The text and its causes: what `main` prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.failure.message)?;
        let mut cause = self.0.failure.cause.as_deref();
        while let Some(failure) = cause {
            write!(f, "\ncaused by: {failure}")?;
            cause = failure.cause.as_deref();
        }
        Ok(())
    }
}

/// A task that an orchestrator waited for failed.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskError {
    task: String,
    failure: Box<Failure>,
}

impl TaskError {
    pub(crate) fn new(task: String, failure: Failure) -> Self {
        Self {
            task,
            failure: Box::new(failure),
        }
    }

    /// What the task failed with.
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Did it fail with an error of type `E`, or because of one?
    ///
    /// Decided by the last segment of the type's name, because that is what history keeps: renaming
    /// the type diverges running instances.
    pub fn is<E: ?Sized>(&self) -> bool {
        failure_is::<E>(&self.failure)
    }

    /// Was it cancelled: the task itself, or with the orchestration that waited for it?
    pub fn is_cancelled(&self) -> bool {
        self.failure.is_cancelled()
    }

    /// Did it fail with this kind, or because of it?
    pub fn is_kind(&self, kind: &str) -> bool {
        has_kind(&self.failure, kind)
    }

    fn to_failure(&self) -> Failure {
        Failure {
            kind: self.failure.kind.clone(),
            message: self.to_string(),
            stack: None,
            permanent: self.failure.permanent,
            properties: None,
            cause: Some(self.failure.clone()),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.task, self.failure.message)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.task, self.failure)
    }
}

impl StdError for TaskError {}

/// The time given to [`OrchestrationContext::timeout`](crate::OrchestrationContext::timeout) is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is over")
    }
}

impl StdError for Elapsed {}

/// An attempt of an activity was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled(pub CancelReason);

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            CancelReason::Requested => "cancelled: the orchestration was asked to end",
            CancelReason::Terminated => "cancelled: the orchestration was terminated",
            CancelReason::TimedOut => "cancelled: the attempt took longer than its limit",
            CancelReason::Shutdown => "cancelled: the host goes down",
        })
    }
}

impl StdError for Cancelled {}

/// Is a failure, or one of its causes, of the kind that errors of type `E` have?
pub(crate) fn failure_is<E: ?Sized>(failure: &Failure) -> bool {
    has_kind(failure, kind_of::<E>())
}

fn has_kind(failure: &Failure, kind: &str) -> bool {
    failure.kind == kind || failure.cause.as_ref().is_some_and(|cause| has_kind(cause, kind))
}

/// The last segment of a type's name, without parameters.
fn kind_of<E: ?Sized>() -> &'static str {
    let name = std::any::type_name::<E>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

fn causes_of(error: &dyn StdError, depth_max: usize) -> Option<Box<Failure>> {
    let source = error.source().filter(|_| depth_max > 0)?;
    Some(Box::new(Failure {
        cause: causes_of(source, depth_max - 1),
        ..Failure::new("", source.to_string())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_the_kind_and_the_causes() {
        let number = "x".parse::<u32>().expect_err("no number");
        let error = Error::from(std::io::Error::other(number));
        assert_eq!(error.failure().kind, "Error");
        let cause = error.failure().cause.as_ref().map(|cause| cause.message.clone());
        assert_eq!(cause, None, "io::Error hides its inner error behind its own text");
        assert_eq!(error.to_string(), "invalid digit found in string");
    }

    #[test]
    fn the_kind_of_a_failed_task_goes_through() {
        let failure = Failure::new("ParseIntError", "invalid digit");
        let error = Error::from(TaskError::new("activity \"read\"".into(), failure));
        assert!(error.is::<std::num::ParseIntError>());
        assert!(!error.is::<std::fmt::Error>());
        assert_eq!(error.to_string(), "activity \"read\" failed: invalid digit");
    }
}
