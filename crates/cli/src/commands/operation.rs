//! `dalsegno operation`: jobs that command many instances.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use dalsegno_host::config::units;
use dalsegno_host::v1::{OperationWire, json};

use crate::batch;
use crate::complete;
use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

const HEAD: [&str; 9] = [
    "OPERATION",
    "VERB",
    "STATE",
    "MATCHED",
    "APPLIED",
    "SKIPPED",
    "FAILED",
    "STARTED",
    "RATE",
];

#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// List those that run, and the last that ran
    #[command(after_help = "Example: dalsegno operation list")]
    List,
    /// Go on to watch one; the exit code says how it ended
    #[command(after_help = "Example: dalsegno operation watch 5f1c0d7e9a3b2468")]
    Watch(Which),
    /// End one; what it has done stays done
    #[command(after_help = "Example: dalsegno operation cancel 5f1c0d7e9a3b2468")]
    Cancel(Which),
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Id of the operation
    #[arg(add = ArgValueCompleter::new(complete::operations))]
    operation: String,
}

impl Operation {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::List => {
                let all = session.ask(session.hub.operations()).await?;
                let rows: Vec<Row> = all.iter().map(|one| shown(session, one)).collect();
                session.rows(&HEAD, &rows);
                Ok(Exit::Ok)
            }
            Self::Watch(Which { operation }) => {
                let found = session.ask(session.hub.operation(&operation)).await;
                batch::watch(session, found.map_err(list_them)?).await
            }
            Self::Cancel(Which { operation }) => {
                let canceled = session.ask(session.hub.cancel_operation(&operation)).await;
                canceled.map_err(list_them)?;
                session.say(&format!("ends {operation} after the commands under way"));
                Ok(Exit::Ok)
            }
        }
    }
}

fn list_them(failure: Failure) -> Failure {
    match failure.exit {
        Exit::NotFound => failure.help("dalsegno operation list shows those that there are"),
        _ => failure,
    }
}

fn shown(session: &Session, one: &OperationWire) -> Row {
    let counts = [one.matched, one.applied, one.skipped, one.failed];
    let dry = if one.dry_run { " (dry run)" } else { "" };
    let mut cells = vec![
        one.id.clone(),
        format!("{}{dry}", one.verb.as_str()),
        one.state.as_str().to_owned(),
    ];
    cells.extend(counts.map(|count| count.to_string()));
    cells.push(session.time_text(&one.started));
    cells.push(
        one.rate
            .map(|rate| units::rate_text(rate.into()))
            .unwrap_or_default(),
    );
    Row {
        id: one.id.clone(),
        cells,
        json: json::operation(one),
    }
}
