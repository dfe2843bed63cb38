//! `dalsegno workers`

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use dalsegno_host::v1::{WorkerWire, json};

use crate::arguments::Format;
use crate::complete;
use crate::failure::{Exit, Failure};
use crate::output::Row;
use crate::session::Session;

const HEAD: [&str; 6] = ["WORKER", "TURNS", "ACTIVITIES", "OPERATIONS", "STATE", "OFFERS"];

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno workers --json")]
pub(crate) struct Workers {}

#[derive(Debug, Subcommand)]
pub(crate) enum Worker {
    /// List the workers that are connected; the same as workers
    #[command(after_help = "Example: dalsegno worker list -o id")]
    List(Workers),
    /// Give a worker no more work; it finishes what it has
    Drain(Drain),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: dalsegno worker drain web-1")]
pub(crate) struct Drain {
    /// Its name, as worker list tells; all of this name are meant
    #[arg(add = ArgValueCompleter::new(complete::workers))]
    worker: String,
}

impl Worker {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::List(workers) => workers.run(session).await,
            Self::Drain(Drain { worker }) => {
                let drained = session.ask(session.hub.drain_worker(&worker)).await;
                drained.map_err(|failure| match failure.exit {
                    Exit::NotFound => failure.help("dalsegno worker list shows those that are connected"),
                    _ => failure,
                })?;
                session.say(&format!(
                    "{worker} gets no more work until it connects anew; dalsegno worker list tells what it still has"
                ));
                Ok(Exit::Ok)
            }
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
            if worker.draining { "draining" } else { "connected" }.to_owned(),
            offers,
        ],
        json,
    }
}
