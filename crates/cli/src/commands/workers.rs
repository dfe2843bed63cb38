//! `dalsegno workers`

use clap::{Args, Subcommand};
use dalsegno_host::v1::{WorkerWire, json};

use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

const HEAD: [&str; 4] = ["WORKER", "TURNS", "ACTIVITIES", "OPERATIONS"];

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno workers --json")]
pub(crate) struct Workers {}

#[derive(Debug, Subcommand)]
pub(crate) enum Worker {
    /// List the workers that are connected; the same as workers
    #[command(after_help = "Example: dalsegno worker list -o id")]
    List(Workers),
}

impl Worker {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::List(workers) => workers.run(session).await,
        }
    }
}

impl Workers {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let workers = session.ask(session.hub.workers()).await?;
        session.rows(&HEAD, &workers.into_iter().map(shown).collect::<Vec<_>>());
        Ok(Exit::Ok)
    }
}

fn shown(worker: WorkerWire) -> Row {
    let json = json::worker(&worker);
    Row {
        id: worker.name.clone(),
        cells: vec![
            worker.name,
            worker.turns.to_string(),
            worker.activities.to_string(),
            worker.operations.to_string(),
        ],
        json,
    }
}
