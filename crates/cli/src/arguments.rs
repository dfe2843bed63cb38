//! What can be typed.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use dalsegno_host::config::units;

use crate::commands;
use crate::complete;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 unexpected, 2 usage, 3 not found, 4 conflict or wrong state,
5 cannot connect, 6 timed out (the instance goes on), 7 not authorised,
10 failed, 11 terminated or canceled (when waiting), 78 configuration refused.";

/// Durable functions, self-hosted.
#[derive(Debug, Parser)]
#[command(name = "dalsegno", version, about, after_help = EXIT_CODES, max_term_width = 80)]
#[command(arg_required_else_help = true, subcommand_required = true)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Address of the host [default: http://127.0.0.1:8080]
    #[arg(long, short, global = true, env = "DALSEGNO_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Task hub of the host, instead of its own
    #[arg(long, global = true, env = "DALSEGNO_HUB", value_name = "NAME", add = ArgValueCompleter::new(complete::hubs))]
    pub(crate) hub: Option<String>,
    /// Key to show the host (or in the file DALSEGNO_TOKEN_FILE)
    #[arg(long, global = true, env = "DALSEGNO_TOKEN", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Certificates in PEM to check an https host by, instead of the system's
    #[arg(long, global = true, env = "DALSEGNO_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Host, hub and key by this name of profiles.toml
    #[arg(long, global = true, env = "DALSEGNO_PROFILE", value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Form of the answer
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// The same as --output json
    #[arg(long, global = true, conflicts_with = "output")]
    pub(crate) json: bool,
    /// How times are written in tables
    #[arg(long, global = true, value_enum, default_value_t = TimeForm::Iso, value_name = "FORM")]
    pub(crate) time: TimeForm,
    /// Give up after this, like 30s or 5m
    #[arg(long, global = true, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// No colour (also NO_COLOR)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Say nothing on stderr but errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// Whether errors are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    On,
    Off,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For people, with more columns where there are any
    Wide,
    /// One JSON value
    Json,
    /// One JSON value a line
    Jsonl,
    /// Comma-separated, with a head
    Csv,
    /// Ids alone, for pipes
    Id,
}

/// How times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimeForm {
    /// 5m ago
    Relative,
    /// 2026-03-01T09:30:00Z
    Iso,
    /// Seconds since 1970
    Unix,
}

impl Global {
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }

    pub(crate) fn color(&self) -> Color {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let wanted = !self.no_color && !set("NO_COLOR");
        if wanted && (set("CLICOLOR_FORCE") || std::io::stderr().is_terminal()) {
            Color::On
        } else {
            Color::Off
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start an orchestration
    Start(commands::start::Start),
    /// List instances, newest first
    List(commands::list::List),
    /// Show what an instance has done and waits for, as a tree
    Trace(commands::trace::Trace),
    /// Show changes of all instances as they come
    Tail(commands::tail::Tail),
    /// Show a hub at a glance
    Top(commands::top::Top),
    /// Count instances by status
    #[command(alias = "count")]
    Counts(commands::counts::Counts),
    /// Show one instance
    Get(commands::get::Get),
    /// Wait until an instance is finished
    Wait(commands::wait::Wait),
    /// Show the history of an instance
    History(commands::history::History),
    /// Raise an event for an instance
    Raise(commands::raise::Raise),
    /// End an instance
    Terminate(commands::terminate::Terminate),
    /// Ask an instance to end by its own code
    Cancel(commands::cancel::Cancel),
    /// Make an instance pause
    Suspend(commands::suspend::Suspend),
    /// Let a suspended instance go on
    Resume(commands::resume::Resume),
    /// Set a failed or parked instance going again
    Rewind(commands::rewind::Rewind),
    /// Begin the next attempt of an activity now
    RetryNow(commands::retry_now::RetryNow),
    /// Start a finished instance again
    Restart(commands::restart::Restart),
    /// Delete finished instances
    Purge(commands::purge::Purge),
    /// Look at entities and signal them
    #[command(subcommand)]
    Entity(commands::entity::Entity),
    /// Look at limiters and change them
    #[command(subcommand)]
    Limiter(commands::limiter::Limiter),
    /// List what webhooks were not told yet, or never will be
    Webhooks(commands::webhooks::Webhooks),
    /// Say why an instance does not move, and what would move it
    Explain(commands::explain::Explain),
    /// List what does not move and should
    Stuck(commands::stuck::Stuck),
    /// List the workers in other languages that are connected
    Workers(commands::workers::Workers),
    /// Look at the workers that are connected
    #[command(subcommand)]
    Worker(commands::workers::Worker),
    /// Show what the host logs, or change it until the host ends
    LogLevel(commands::log_level::LogLevel),
    /// Look at the timer triggers of the host, and run them
    #[command(subcommand)]
    Schedule(commands::schedule::Schedule),
    /// Look at commands to many instances that run, and end them
    #[command(subcommand)]
    Operation(commands::operation::Operation),
    /// The verbs of `func durable`, as it takes them
    #[command(subcommand)]
    Durable(commands::durable::Durable),
    /// Say what works between here and a host, and what does not
    Doctor(commands::doctor::Doctor),
    /// Look at the task hubs of the host, make and delete them
    #[command(subcommand)]
    Hub(commands::hub::Hub),
    /// Look at the configuration
    #[command(subcommand)]
    Config(commands::config::Config),
    /// Make, list and remove keys of hosts beyond loopback
    #[command(subcommand)]
    Key(commands::key::Key),
    /// Tell the version of this program and of the host
    Version(commands::version::Version),
    /// Write a hub into one file, while it goes on
    Backup(commands::backup::Backup),
    /// Make a hub of such a file, or prove that one could
    Restore(commands::backup::Restore),
    /// Check a hub that is not open: its files, then what they mean
    Verify(commands::verify::Verify),
    /// Move unreadable rows of a hub aside, with their bytes
    Repair(commands::repair::Repair),
    /// Show it: 881 packages, one rate limit, a crash if you like
    Demo(commands::demo::Demo),
    /// Serve workers and clients of any language on this machine
    Dev(commands::dev::Dev),
    /// Serve workers and clients of any language, as configured
    Serve(commands::dev::Serve),
    /// Make a new app from a template
    Init(commands::init::Init),
    /// Print what completes commands in a shell
    Completions(commands::completions::Completions),
    /// Print the manual, or write all of its pages
    Man(commands::man::Man),
    /// Print the OpenAPI document of a host
    #[command(name = "openapi")]
    OpenApi(commands::openapi::OpenApi),
    /// Explain a command or the code of an error
    Help(commands::help::Help),
}

/// A duration such as `30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| "write it like 250ms, 30s, 5m, 12h, 30d".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_one_another() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn typed_lines_are_understood_or_refused() {
        for (line, fits) in [
            (
                "start ProcessOrder -i {} --id order-9 --tag a=1 --tag b=2 --wait",
                true,
            ),
            (
                "start ProcessOrder --wait=30s --version 2 --if-exists return",
                true,
            ),
            ("start", false),
            ("start X --in 5m --at 2026-01-01", false),
            ("start X --tag a", false),
            ("list --status failed,running --top 5 --json", true),
            ("list --status broken", false),
            ("list -o jsonl --timeout 30s", true),
            ("list --timeout 30", false),
            ("list --json -o id", false),
            ("list --where status=Failed", true),
            ("list --where status=Failed --name Order", false),
            ("list --where status", false),
            ("retry-now order-9 6", true),
            ("retry-now order-9 six", false),
            ("purge --where all --rate 5/1s", true),
            ("purge --where all --rate 5", false),
            ("operation watch 1", true),
            ("count", true),
            ("wait order-9", true),
            ("raise order-9 approved -d true", true),
            ("purge order-9 --recursive", true),
            ("purge --since 2026-01-01 --yes", true),
            ("purge", false),
            ("purge order-9 --since 2026-01-01", false),
            ("entity signal counter a add -d 5", true),
            ("limiter set github --rate 5000/1h --burst 10", true),
            ("limiter set github", false),
            ("limiter set github --rate often", false),
            ("get @counter@a", false),
            ("strat X", false),
        ] {
            let words = std::iter::once("dalsegno").chain(line.split(' '));
            assert_eq!(Arguments::try_parse_from(words).is_ok(), fits, "{line}");
        }
    }
}
