//! `dalsegno schedule`

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use dalsegno_engine::request::{RequestError, RequestErrorKind};
use dalsegno_host::nearest;
use dalsegno_host::v1::{ScheduleWire, json};

use crate::complete;
use crate::failure::{Exit, Failure};
use crate::output::{Row, cut};
use crate::session::Session;

const HEAD: [&str; 5] = ["NAME", "SCHEDULE", "ZONE", "NEXT", "LAST"];

#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// List the timer triggers, when they run and how the last run ended
    #[command(after_help = "Example: dalsegno schedule list --time relative")]
    List,
    /// Tell when a timer trigger runs next
    #[command(after_help = "Example: dalsegno schedule next nightly")]
    Next(Run),
    /// Run a timer trigger now
    #[command(after_help = "Example: dalsegno schedule run nightly")]
    Run(Run),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Name of the timer trigger
    #[arg(add = ArgValueCompleter::new(complete::schedules))]
    name: String,
}

impl Schedule {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::List => {
                let all = session.ask(session.hub.schedules()).await?;
                let rows: Vec<Row> = all.iter().map(|one| shown(session, one)).collect();
                session.rows(&HEAD, &rows);
            }
            Self::Next(wanted) => {
                let all = session.ask(session.hub.schedules()).await?;
                let found = all.iter().find(|one| one.name == wanted.name);
                let found = found.ok_or_else(|| unknown(&wanted.name, &all))?;
                let rows: Vec<Row> = found.next.iter().map(|at| time(session, at)).collect();
                session.rows(&["NEXT"], &rows);
            }
            Self::Run(run) => {
                session.ask(session.hub.run_schedule(&run.name)).await?;
                session.say(&format!("began {}", run.name));
            }
        }
        Ok(Exit::Ok)
    }
}

fn unknown(name: &str, all: &[ScheduleWire]) -> Failure {
    let detail = format!("there is no timer trigger {name}");
    let failure = Failure::from(RequestError::new(RequestErrorKind::NotFound, detail));
    match nearest(name, all.iter().map(|one| one.name.as_str())) {
        Some(near) => failure.help(format!("did you mean {near}?")),
        None => failure.help("dalsegno schedule list"),
    }
}

fn time(session: &Session, at: &str) -> Row {
    Row {
        id: at.to_owned(),
        cells: vec![session.time_text(at)],
        json: serde_json::Value::from(at).to_string(),
    }
}

fn shown(session: &Session, schedule: &ScheduleWire) -> Row {
    let next = schedule.next.first().map(|at| session.time_text(at));
    let last = schedule
        .last
        .as_ref()
        .map(|run| match (&run.failure, &run.ended) {
            (Some(failure), _) => format!("failed: {}", cut(failure)),
            (None, Some(at)) => format!("done {}", session.time_text(at)),
            (None, None) => format!("runs since {}", session.time_text(&run.started)),
        });
    Row {
        id: schedule.name.clone(),
        cells: vec![
            schedule.name.clone(),
            schedule.schedule.clone(),
            schedule.time_zone.clone(),
            next.unwrap_or_default(),
            last.unwrap_or_default(),
        ],
        json: json::schedule(schedule),
    }
}
