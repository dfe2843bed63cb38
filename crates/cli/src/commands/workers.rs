//! `dalsegno workers`

use clap::{Args, Subcommand};
use dalsegno_host::v1::{WorkerWire, json};

use crate::arguments::Format;
use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

const HEAD: [&str; 5] = ["WORKER", "TURNS", "ACTIVITIES", "OPERATIONS", "OFFERS"];

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
        let width = match session.format() {
            Format::Wide | Format::Csv => HEAD.len(),
            _ => HEAD.len() - 1,
        };
        session.rows(
            &HEAD[..width],
            &workers.into_iter().map(shown).collect::<Vec<_>>(),
        );
        Ok(Exit::Ok)
    }
}

fn shown(worker: WorkerWire) -> Row {
    let json = json::worker(&worker);
    let offers = worker.offers.as_ref().map_or_else(
        || "whatever there is".to_owned(),
        |offers| {
            let entities = offers.entities.iter().map(|name| format!("@{name}"));
            let names = offers.orchestrators.iter().chain(&offers.activities);
            let all: Vec<String> = names.cloned().chain(entities).collect();
            all.join(" ")
        },
    );
    Row {
        id: worker.name.clone(),
        cells: vec![
            worker.name,
            worker.turns.to_string(),
            worker.activities.to_string(),
            worker.operations.to_string(),
            offers,
        ],
        json,
    }
}
