//! How commands end: exit codes, and errors in their form.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use dalsegno_core::store::{ReadError, ReadErrorKind};
use dalsegno_engine::request::{RequestError, RequestErrorKind};
use dalsegno_host::visible::visible;
use dalsegno_store_embedded::OpenError;

use crate::arguments::Color;
use crate::output;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    Unexpected = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    CannotConnect = 5,
    TimedOut = 6,
    NotAuthorised = 7,
    InstanceFailed = 10,
    InstanceTerminated = 11,
    Temporary = 75,
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    code: &'static str,
    message: String,
    help: Option<String>,
}

impl Failure {
    /// Something the user typed.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            code: "usage",
            message: message.into(),
            help: None,
        }
    }

    /// An internal error.
    pub(crate) fn unexpected(error: &impl fmt::Display) -> Self {
        Self {
            exit: Exit::Unexpected,
            code: "unexpected",
            message: error.to_string(),
            help: None,
        }
    }

    /// A configuration that is refused.
    pub(crate) fn configuration(error: &impl fmt::Display) -> Self {
        Self {
            exit: Exit::Configuration,
            code: "configuration",
            message: error.to_string(),
            help: None,
        }
    }

    /// A folder that another process has open.
    pub(crate) fn in_use(error: &impl fmt::Display) -> Self {
        Self {
            exit: Exit::Conflict,
            code: "in_use",
            message: error.to_string(),
            help: None,
        }
    }

    /// A disk or system that failed; it may be over at the next attempt.
    pub(crate) fn io(error: &impl fmt::Display) -> Self {
        Self {
            exit: Exit::Temporary,
            code: "io",
            message: error.to_string(),
            help: None,
        }
    }

    /// A hub's folder that does not open.
    pub(crate) fn unopened(folder: &Path, error: &OpenError) -> Self {
        match () {
            () if error.is_in_use() => Self::in_use(&format_args!("{}: {error}", folder.display())),
            () if error.is_transient() => Self::io(error),
            () => Self::configuration(error),
        }
    }

    /// A host that does not start.
    pub(crate) fn not_started(error: &dalsegno::Error) -> Self {
        match error {
            error if error.is_in_use() => Self::in_use(error),
            error if error.is_transient() => Self::io(error),
            error if error.is_configuration() => Self::configuration(error),
            error => Self::unexpected(error),
        }
    }

    /// A hub that was opened and cannot be read.
    pub(crate) fn unread(error: &ReadError) -> Self {
        match error.kind() {
            ReadErrorKind::Fenced => Self::in_use(error),
            ReadErrorKind::Transient => Self::io(error),
            ReadErrorKind::Damaged => Self::configuration(error),
        }
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Is it this refusal of the host?
    pub(crate) fn has_code(&self, code: &str) -> bool {
        self.code == code
    }

    /// What is wrong, without code and help.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says it on stderr.
    pub(crate) fn report(&self, color: Color) -> Exit {
        output::styled(&self.text(color));
        self.exit
    }

    fn text(&self, color: Color) -> String {
        let (on, off) = match color {
            Color::On => ("\u{1b}[1;31m", "\u{1b}[0m"),
            Color::Off => ("", ""),
        };
        let message = visible(&self.message);
        let mut lines = message.lines();
        let mut text = format!(
            "{on}error[{}]{off}: {}",
            self.code,
            lines.next().unwrap_or_default()
        );
        for line in lines {
            text += &format!("\n  {line}");
        }
        if let Some(help) = &self.help {
            text += &format!("\n  help: {}", visible(help));
        }
        text
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let help = help(&error);
        Self {
            exit: exit(error.kind),
            code: error.code,
            message: error.detail,
            help,
        }
    }
}

fn exit(kind: RequestErrorKind) -> Exit {
    use RequestErrorKind as Kind;
    match kind {
        Kind::NotFound | Kind::OrchestratorNotFound | Kind::EntityNotFound => Exit::NotFound,
        Kind::InstanceExists
        | Kind::InstanceRunning
        | Kind::Finished
        | Kind::WrongState
        | Kind::IdempotencyConflict
        | Kind::EventIdReused => Exit::Conflict,
        Kind::Invalid | Kind::OverLimit => Exit::Usage,
        Kind::TimedOut => Exit::TimedOut,
        Kind::Unauthorized => Exit::NotAuthorised,
        Kind::Unreachable => Exit::CannotConnect,
        Kind::Busy | Kind::InsufficientStorage | Kind::Unavailable | Kind::Internal => Exit::Unexpected,
    }
}

/// The next command.
fn help(error: &RequestError) -> Option<String> {
    use RequestErrorKind as Kind;
    let id = error.id.as_deref().unwrap_or("ID");
    if let Some(help) = finer_help(error.code) {
        return Some(help.into());
    }
    Some(match error.kind {
        Kind::NotFound => "dalsegno list shows what there is".into(),
        Kind::InstanceExists => format!("dalsegno get {id}, or start with --if-exists terminate"),
        Kind::InstanceRunning => format!("dalsegno terminate {id}, or purge with --force"),
        Kind::Finished => format!("dalsegno restart {id}"),
        Kind::WrongState if id.starts_with('@') => "dalsegno entity list shows who has its lock".into(),
        Kind::WrongState => format!("dalsegno get {id} shows its state"),
        Kind::TimedOut => format!("it goes on: dalsegno wait {id}"),
        Kind::Unreachable => "start the host, or say where it is: --server URL, or DALSEGNO_SERVER".into(),
        Kind::Unauthorized => "show a key: --key KEY, or DALSEGNO_TOKEN".into(),
        Kind::Busy | Kind::Unavailable => "try again in a moment".into(),
        Kind::InsufficientStorage => "dalsegno purge --since T, or give the host's disk room".into(),
        _ => return None,
    })
}

/// Where the code of the host says more than its kind.
fn finer_help(code: &str) -> Option<&'static str> {
    Some(match code {
        "read_only" => "ask a host that is not read-only",
        "hub_damaged" => "stop the host, and look with dalsegno verify FOLDER",
        "forbidden" => "show a key with the scope for it: --key KEY, or DALSEGNO_TOKEN",
        "too_many_bad_keys" => "wait a minute, and show a good key: --key KEY, or DALSEGNO_TOKEN",
        "foreign_host" => "use a name of the host's own, or add this one to its http.hosts",
        "unknown_hub" => "dalsegno hub list shows those that are here",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use dalsegno_engine::HubError;
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_error_names_its_code_its_cause_and_the_next_command() {
        let error = RequestError::new(
            RequestErrorKind::Finished,
            "cannot raise \"approved\" on order-9: instance is Completed",
        );
        let failure = Failure::from(error.about("order-9"));
        expect![[r#"
            error[finished]: cannot raise "approved" on order-9: instance is Completed
              help: dalsegno restart order-9"#]]
        .assert_eq(&failure.text(Color::Off));
        assert_eq!(failure.exit, Exit::Conflict);
        let colored = Failure::usage("x").text(Color::On);
        assert_eq!(colored, "\u{1b}[1;31merror[usage]\u{1b}[0m: x");
    }

    #[test]
    fn a_host_that_cannot_read_its_hub_ends_with_the_code_that_says_whether_to_try_again() {
        let read_errors = [
            (ReadError::transient("input/output error"), 75),
            (ReadError::damaged("message 7 is damaged"), 78),
            (ReadError::fenced("another process has opened the hub"), 4),
        ];
        for (error, code) in read_errors {
            assert_eq!(Failure::unread(&error).exit as u8, code, "{error}");
            let refused = dalsegno::Error::from(HubError::from(error));
            assert_eq!(Failure::not_started(&refused).exit as u8, code, "{refused}");
            assert_eq!(refused.is_damaged(), code == 78);
        }
        let other = dalsegno::Error::msg("no luck");
        assert_eq!(Failure::not_started(&other).exit as u8, 1);
    }

    #[test]
    fn all_mistakes_of_a_configuration_stand_below_one_another() {
        let failure = Failure::configuration(&"dalsegno.toml:1:1: a\ndalsegno.toml:2:1: b");
        expect![[r#"
            error[configuration]: dalsegno.toml:1:1: a
              dalsegno.toml:2:1: b"#]]
        .assert_eq(&failure.text(Color::Off));
        assert_eq!(failure.exit as u8, 78);
    }

    #[test]
    fn every_code_has_its_page() {
        for failure in [
            Failure::usage(""),
            Failure::unexpected(&""),
            Failure::configuration(&""),
            Failure::in_use(&""),
            Failure::io(&""),
        ] {
            assert!(
                dalsegno_host::error_code(failure.code).is_some(),
                "{}",
                failure.code
            );
        }
    }

    #[test]
    fn exit_codes_mean_something() {
        use RequestErrorKind as Kind;
        for (kind, code) in [
            (Kind::Internal, 1),
            (Kind::Invalid, 2),
            (Kind::NotFound, 3),
            (Kind::OrchestratorNotFound, 3),
            (Kind::WrongState, 4),
            (Kind::InstanceExists, 4),
            (Kind::Finished, 4),
            (Kind::Unreachable, 5),
            (Kind::TimedOut, 6),
            (Kind::Unauthorized, 7),
        ] {
            assert_eq!(
                Failure::from(RequestError::new(kind, "x")).exit as u8,
                code,
                "{kind:?}"
            );
        }
    }
}
