//! One command to all instances that a filter finds: asked, begun and watched.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use dalsegno_engine::request::{RequestError, RequestErrorKind};
use dalsegno_host::NewOperation;
use dalsegno_host::v1::{OperationFilter, OperationState, OperationVerb, OperationWire, json};
use tokio::time::Instant;

use crate::failure::{Exit, Failure};
use crate::filter::filter;
use crate::input;
use crate::output::{Row, shown};
use crate::progress::Progress;
use crate::session::Session;

/// Between two looks at a job: short at first, since most are.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

const HEAD: [&str; 5] = ["operation", "matched", "applied", "skipped", "failed"];

/// Which instances, instead of one.
#[derive(Clone, Debug, Args)]
pub(crate) struct Batch {
    /// All that this finds, like 'status=Failed name=Order since=2h'
    #[arg(long = "where", value_name = "FILTER", value_parser = filter, long_help = LONG)]
    filter: Option<OperationFilter>,
    /// Say how many it would be, and change nothing
    #[arg(long, requires = "filter", conflicts_with = "id")]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// No more than so many per time, like 50/1s
    #[arg(long, value_parser = input::rate, value_name = "N/PERIOD", requires = "filter", conflicts_with = "id")]
    rate: Option<(u32, Duration)>,
}

const LONG: &str = "All that this finds, as a job of the host.
Words: status=A,B name=N prefix=P tag=N=V parent=ID waiting-for=EVENT
failed-activity=NAME since=T until=T, or all.
T is a time, or so long ago, like 2h.
A value with spaces stands in double quotes";

/// What each of them gets.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) verb: OperationVerb,
    pub(crate) reason: Option<String>,
    pub(crate) event: Option<(String, Option<dalsegno_core::Payload>)>,
    pub(crate) recursive: bool,
}

impl Order {
    pub(crate) fn new(verb: OperationVerb) -> Self {
        Self {
            verb,
            reason: None,
            event: None,
            recursive: false,
        }
    }

    pub(crate) fn reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    pub(crate) fn recursive(mut self, recursive: bool) -> Self {
        self.recursive = recursive;
        self
    }

    fn operation(
        &self,
        filter: &OperationFilter,
        dry_run: bool,
        rate: Option<(u32, Duration)>,
    ) -> NewOperation {
        NewOperation {
            verb: self.verb,
            filter: filter.clone(),
            dry_run,
            reason: self.reason.clone(),
            event: self.event.clone(),
            recursive: self.recursive,
            rate,
        }
    }
}

impl Batch {
    /// Whether many are meant.
    pub(crate) fn is_meant(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether nobody wants to be asked.
    pub(crate) fn is_sure(&self) -> bool {
        self.yes
    }

    /// Looks, asks, and does it.
    pub(crate) async fn run(&self, session: &Session, order: &Order) -> Result<Exit, Failure> {
        let Some(filter) = &self.filter else {
            return Err(Failure::usage("which instances? name one, or say --where"));
        };
        // Before anything is asked of the host: nobody could answer.
        if !self.dry_run && !self.yes && !io::stdin().is_terminal() {
            let verb = order.verb.as_str();
            return Err(
                Failure::usage(format!("{verb} of many instances, and nobody can be asked"))
                    .help("say --yes, or look first with --dry-run"),
            );
        }
        let mut expected = None;
        if self.dry_run || !self.yes {
            let found = begin(session, order.operation(filter, true, None), None).await?;
            expected = Some(found.matched);
            if self.dry_run {
                session.one(&["matched", "examples"], &found_row(&found));
                return Ok(ended(&found));
            }
            if found.matched == 0 {
                session.say("none fits: nothing was done");
                return Ok(Exit::Ok);
            }
            if !is_confirmed(&found, &mut io::stdin().lock(), &mut io::stderr())? {
                session.say("nothing was done");
                return Ok(Exit::Ok);
            }
        }
        let done = begin(session, order.operation(filter, false, self.rate), expected).await?;
        Ok(tell_end(session, &done))
    }
}

/// Goes on to watch a job, and tells its end.
pub(crate) async fn watch(session: &Session, operation: OperationWire) -> Result<Exit, Failure> {
    let done = follow(session, operation, None).await?;
    Ok(tell_end(session, &done))
}

fn tell_end(session: &Session, done: &OperationWire) -> Exit {
    for refusal in &done.refusals {
        session.say(&format!("{}: {}", refusal.id, refusal.detail));
    }
    let told = done.refusals.len() as u64;
    if done.failed + done.skipped > told {
        let more = done.failed + done.skipped - told;
        session.say(&format!("and {more} more"));
    }
    session.one(&HEAD, &done_row(done));
    if let Some(problem) = &done.problem {
        session.say(&format!("it ended early: {problem}"));
    }
    ended(done)
}

fn ended(operation: &OperationWire) -> Exit {
    match operation.state {
        OperationState::Done if operation.failed == 0 => Exit::Ok,
        _ => Exit::Unexpected,
    }
}

/// Shows how many there are and some of them, and reads an answer.
fn is_confirmed(
    found: &OperationWire,
    input: &mut impl BufRead,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let examples: Vec<String> = found.examples.iter().map(|id| shown(id)).collect();
    let more = match found.matched > examples.len() as u64 {
        true => ", …",
        false => "",
    };
    let asked = write!(
        out,
        "{} {}: {}{more}\ngo on? [y/N] ",
        found.verb.as_str(),
        many(found.matched),
        examples.join(", ")
    );
    let asked = asked.and_then(|()| out.flush());
    asked.map_err(|error| Failure::unexpected(&error))?;
    let mut answer = String::new();
    input
        .read_line(&mut answer)
        .map_err(|error| Failure::unexpected(&error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn many(count: u64) -> String {
    match count {
        1 => "1 instance".into(),
        count => format!("{count} instances"),
    }
}

/// Begins a job and waits for its end.
async fn begin(
    session: &Session,
    new: NewOperation,
    expected: Option<u64>,
) -> Result<OperationWire, Failure> {
    let operation = session.ask(session.hub.begin_operation(new)).await?;
    follow(session, operation, expected).await
}

/// Waits for the end of a job, with its progress on stderr. Ctrl-C leaves it, and ends a look alone.
async fn follow(
    session: &Session,
    mut operation: OperationWire,
    expected: Option<u64>,
) -> Result<OperationWire, Failure> {
    let end = session.timeout().map(|timeout| Instant::now() + timeout);
    let mut progress = Progress::new(session);
    let mut pause = PAUSE_MIN;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    while operation.state == OperationState::Running {
        if end.is_some_and(|end| Instant::now() >= end) {
            progress.over();
            return Err(goes_on(&operation));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = &mut interrupt => {
                progress.over();
                if operation.dry_run {
                    session.ask(session.hub.cancel_operation(&operation.id)).await?;
                    return Err(Failure::unexpected(&"interrupted while it looked"));
                }
                return Err(goes_on(&operation));
            }
        }
        pause = (pause * 2).min(PAUSE_MAX);
        operation = session.ask(session.hub.operation(&operation.id)).await?;
        tell(&mut progress, &operation, expected);
    }
    progress.over();
    Ok(operation)
}

fn goes_on(operation: &OperationWire) -> Failure {
    let id = &operation.id;
    let detail = format!("operation {id} goes on at the host");
    Failure::from(RequestError::new(RequestErrorKind::TimedOut, detail)).help(format!(
        "dalsegno operation watch {id}, or end it: dalsegno operation cancel {id}"
    ))
}

/// Tells how far a job is: the share of what a look before it had found.
fn tell(progress: &mut Progress, operation: &OperationWire, expected: Option<u64>) {
    if operation.state != OperationState::Running {
        return;
    }
    if operation.dry_run {
        return progress.tell(None, &format!("looking: {} found", operation.matched));
    }
    let over = operation.applied + operation.skipped + operation.failed;
    let text = format!(
        "{}: {} of {} found so far, {} skipped, {} failed",
        operation.verb.as_str(),
        operation.applied,
        operation.matched,
        operation.skipped,
        operation.failed
    );
    progress.tell(expected.map(|expected| (over, expected)), &text);
}

fn found_row(found: &OperationWire) -> Row {
    Row {
        id: found.matched.to_string(),
        cells: vec![found.matched.to_string(), found.examples.join(" ")],
        json: json::operation(found),
    }
}

fn done_row(done: &OperationWire) -> Row {
    let counts = [done.matched, done.applied, done.skipped, done.failed];
    let mut cells = vec![done.id.clone()];
    cells.extend(counts.map(|count| count.to_string()));
    Row {
        id: done.id.clone(),
        cells,
        json: json::operation(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(matched: u64, examples: &[&str]) -> OperationWire {
        OperationWire {
            id: "1".into(),
            verb: OperationVerb::Terminate,
            r#where: OperationFilter::default(),
            dry_run: true,
            rate: None,
            state: OperationState::Done,
            matched,
            applied: 0,
            skipped: 0,
            failed: 0,
            examples: examples.iter().map(ToString::to_string).collect(),
            refusals: Vec::new(),
            started: String::new(),
            ended: None,
            problem: None,
        }
    }

    #[test]
    fn only_a_yes_is_one() {
        for (typed, wanted) in [
            ("y\n", true),
            ("yes\n", true),
            ("\n", false),
            ("", false),
            ("no\n", false),
        ] {
            let mut asked = Vec::new();
            let one = found(7, &["a", "b\u{1b}[2J", "c", "d", "e"]);
            assert_eq!(
                is_confirmed(&one, &mut typed.as_bytes(), &mut asked),
                Ok(wanted),
                "{typed:?}"
            );
            assert_eq!(
                String::from_utf8(asked).unwrap(),
                "terminate 7 instances: a, b\\u{1b}[2J, c, d, e, …\ngo on? [y/N] "
            );
        }
        let mut asked = Vec::new();
        is_confirmed(&found(1, &["a"]), &mut "".as_bytes(), &mut asked).unwrap();
        assert_eq!(asked, b"terminate 1 instance: a\ngo on? [y/N] ");
    }

    #[test]
    fn what_failed_is_no_success() {
        let mut one = found(1, &["a"]);
        assert_eq!(ended(&one), Exit::Ok);
        one.skipped = 1;
        assert_eq!(ended(&one), Exit::Ok);
        one.failed = 1;
        assert_eq!(ended(&one), Exit::Unexpected);
        one.failed = 0;
        one.state = OperationState::Canceled;
        assert_eq!(ended(&one), Exit::Unexpected);
    }
}
