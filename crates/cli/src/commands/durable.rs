//! `dalsegno durable`: the verbs of `func durable`, for hands and scripts that know them.
//!
//! Each is read as a line of our own, so both do the same.

use clap::{Args, Parser, Subcommand};

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

/// A purge without a beginning means all that is finished.
const BEGINNING: &str = "1970-01-01";

#[derive(Debug, Subcommand)]
pub(crate) enum Durable {
    /// Start an orchestration, as start does
    #[command(after_help = "Example: dalsegno durable start-new --function-name Order")]
    StartNew(StartNew),
    /// List instances, as list does
    #[command(after_help = "Example: dalsegno durable get-instances --runtime-status failed")]
    GetInstances(GetInstances),
    /// Show an instance, as get does
    #[command(after_help = "Example: dalsegno durable get-runtime-status --id order-9")]
    GetRuntimeStatus(One),
    /// Show the history of an instance, as history does
    #[command(after_help = "Example: dalsegno durable get-history --id order-9")]
    GetHistory(One),
    /// Raise an event, as raise does
    #[command(after_help = "Example: dalsegno durable raise-event --id order-9 --event-name ok")]
    RaiseEvent(RaiseEvent),
    /// End an instance, as terminate does
    #[command(after_help = "Example: dalsegno durable terminate --id order-9 --reason lost")]
    Terminate(Reasoned),
    /// Set a failed instance going again, as rewind does
    #[command(after_help = "Example: dalsegno durable rewind --id order-9")]
    Rewind(Reasoned),
    /// Delete finished instances, as purge --yes does
    #[command(after_help = "Example: dalsegno durable purge-history --created-before 2026-01-01")]
    PurgeHistory(PurgeHistory),
    /// Delete a task hub, as hub delete --yes does
    #[command(after_help = "Example: dalsegno durable delete-task-hub --task-hub-name orders")]
    DeleteTaskHub(DeleteTaskHub),
}

#[derive(Debug, Args)]
pub(crate) struct StartNew {
    /// Name of the orchestrator
    #[arg(long, value_name = "NAME")]
    function_name: String,
    /// Input: JSON, @FILE, or - for stdin
    #[arg(long)]
    input: Option<String>,
    /// Id of the instance; without it one is made
    #[arg(long)]
    id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GetInstances {
    /// Only these statuses
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "STATUS")]
    runtime_status: Vec<String>,
    /// Created at or after
    #[arg(long, value_name = "TIME")]
    created_after: Option<String>,
    /// Created at or before
    #[arg(long, value_name = "TIME")]
    created_before: Option<String>,
    /// At most so many
    #[arg(long, default_value = "10")]
    top: String,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Id of the instance
    #[arg(long)]
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct RaiseEvent {
    /// Id of the instance
    #[arg(long)]
    id: String,
    /// Name of the event
    #[arg(long, value_name = "NAME")]
    event_name: String,
    /// Its data: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    event_data: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Reasoned {
    /// Id of the instance
    #[arg(long)]
    id: String,
    /// Why
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeHistory {
    /// Created at or after
    #[arg(long, value_name = "TIME")]
    created_after: Option<String>,
    /// Created at or before
    #[arg(long, value_name = "TIME")]
    created_before: Option<String>,
    /// Of these statuses
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "STATUS")]
    runtime_status: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteTaskHub {
    /// Name of the hub
    #[arg(long, value_name = "NAME")]
    task_hub_name: String,
}

impl Durable {
    /// The command that is meant.
    pub(crate) fn meant(self) -> Result<Command, Failure> {
        let words = self.line();
        let read = Arguments::try_parse_from(words.0);
        let read = read.map_err(|error| {
            let text = error.render().to_string();
            Failure::usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end())
        })?;
        Ok(read.command)
    }

    fn line(self) -> Line {
        match self {
            Self::StartNew(new) => Line::new("start")
                .flag("input", new.input)
                .flag("id", new.id)
                .words([new.function_name]),
            Self::GetInstances(wanted) => Line::new("list")
                .flag("status", joined(&wanted.runtime_status))
                .flag("since", wanted.created_after)
                .flag("until", wanted.created_before)
                .flag("top", Some(wanted.top)),
            Self::GetRuntimeStatus(one) => Line::new("get").words([one.id]),
            Self::GetHistory(one) => Line::new("history").words([one.id]),
            Self::RaiseEvent(event) => Line::new("raise")
                .flag("data", event.event_data)
                .words([event.id, event.event_name]),
            Self::Terminate(end) => Line::new("terminate").flag("reason", end.reason).words([end.id]),
            Self::Rewind(rewind) => Line::new("rewind")
                .flag("reason", rewind.reason)
                .words([rewind.id]),
            Self::PurgeHistory(purge) => Line::new("purge")
                .flag("since", Some(purge.created_after.unwrap_or(BEGINNING.to_owned())))
                .flag("until", purge.created_before)
                .flag("status", joined(&purge.runtime_status))
                .words_of(["--yes"]),
            Self::DeleteTaskHub(hub) => Line::new("hub")
                .words_of(["delete", "--yes"])
                .words([hub.task_hub_name]),
        }
    }
}

/// Words as they would be typed.
struct Line(Vec<String>);

impl Line {
    fn new(command: &str) -> Self {
        Self(vec!["dalsegno".to_owned(), command.to_owned()])
    }

    fn flag(mut self, name: &str, value: Option<String>) -> Self {
        self.0.extend(value.map(|value| format!("--{name}={value}")));
        self
    }

    fn words_of<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.0.extend(words.map(str::to_owned));
        self
    }

    /// What is no flag, whatever it begins with.
    fn words<const N: usize>(mut self, words: [String; N]) -> Self {
        self.0.push("--".to_owned());
        self.0.extend(words);
        self
    }
}

fn joined(words: &[String]) -> Option<String> {
    (!words.is_empty()).then(|| words.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_are_read_as_our_own() {
        for (line, wanted) in [
            (
                "start-new --function-name Order --input {} --id=-9",
                "dalsegno start --input={} --id=-9 -- Order",
            ),
            (
                "get-instances --runtime-status failed running --created-after 2026-01-01",
                "dalsegno list --status=failed,running --since=2026-01-01 --top=10",
            ),
            ("get-history --id order-9", "dalsegno history -- order-9"),
            (
                "delete-task-hub --task-hub-name orders",
                "dalsegno hub delete --yes -- orders",
            ),
            (
                "raise-event --id a --event-name b --event-data 1",
                "dalsegno raise --data=1 -- a b",
            ),
            (
                "purge-history --runtime-status completed",
                "dalsegno purge --since=1970-01-01 --status=completed --yes",
            ),
        ] {
            let words = ["dalsegno", "durable"].into_iter().chain(line.split(' '));
            let Command::Durable(durable) = Arguments::try_parse_from(words).unwrap().command else {
                panic!("{line} is no line of func durable");
            };
            assert_eq!(durable.line().0.join(" "), wanted);
        }
    }
}
