//! `dalsegno schedule`

use clap::{Args, Subcommand};
use dalsegno_host::v1::{ScheduleWire, json};

use crate::failure::{Exit, Failure};
use crate::output::{Row, cut};
use crate::session::Session;

const HEAD: [&str; 5] = ["NAME", "SCHEDULE", "ZONE", "NEXT", "LAST"];

#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// List the timer triggers, when they run and how the last run ended
    #[command(after_help = "Example: dalsegno schedule list --time relative")]
    List,
    /// Run a timer trigger now
    #[command(after_help = "Example: dalsegno schedule run nightly")]
    Run(Run),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Name of the timer trigger
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
            Self::Run(run) => {
                session.ask(session.hub.run_schedule(&run.name)).await?;
                session.say(&format!("began {}", run.name));
            }
        }
        Ok(Exit::Ok)
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
