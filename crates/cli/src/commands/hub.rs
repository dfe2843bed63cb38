//! `dalsegno hub`

use std::io::{IsTerminal, Write};

use clap::Subcommand;
use dalsegno_host::v1::HubStatsWire;

use crate::failure::{Exit, Failure};
use crate::output::{self, Row};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub(crate) enum Hub {
    /// List the task hubs of the host, its own first
    #[command(after_help = "Example: dalsegno hub list")]
    List,
    /// Make a task hub, unless it is there
    #[command(after_help = "Example: dalsegno hub create orders")]
    Create {
        /// Its name: letters, digits, - and _
        name: String,
    },
    /// Delete a task hub with all that is in it; asks for its name once more
    #[command(
        after_help = "Example: dalsegno hub delete orders\nWorkers that go on may make it again: end them first."
    )]
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show what a task hub takes on disk, and how much is in it
    #[command(after_help = "Example: dalsegno hub stats orders")]
    Stats {
        /// Its name; without it the one that --hub names, or the host's own
        name: Option<String>,
    },
}

const NUMBERS: [&str; 12] = [
    "hub",
    "disk",
    "log",
    "tables",
    "payloads",
    "free",
    "instances",
    "by status",
    "history events",
    "created in a day",
    "growth per day",
    "own",
];

impl Hub {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::List => {
                let names = session.ask(session.hub.hubs()).await?;
                session.rows(&["HUB"], &names.into_iter().map(shown).collect::<Vec<_>>());
            }
            Self::Create { name } => create(session, &name).await?,
            Self::Delete { name, yes } => return delete(session, &name, yes).await,
            Self::Stats { name } => {
                let name = match name {
                    Some(name) => name,
                    None => session.ask(session.hub.info()).await?.name,
                };
                let stats = session.ask(session.hub.hub_stats(&name)).await;
                session.one(&NUMBERS, &numbers(&stats.map_err(listed)?));
            }
        }
        Ok(Exit::Ok)
    }
}

async fn create(session: &Session, name: &str) -> Result<(), Failure> {
    let created = session.ask(session.hub.create_hub(name)).await.map_err(listed)?;
    session.say(&match created {
        true => format!("made the task hub {name}"),
        false => format!("the task hub {name} was there and is as it was"),
    });
    session.one(&["hub"], &shown(name.to_owned()));
    Ok(())
}

async fn delete(session: &Session, name: &str, is_sure: bool) -> Result<Exit, Failure> {
    // What is not there is told before anybody types anything.
    let stats = session.ask(session.hub.hub_stats(name)).await.map_err(listed)?;
    if !is_sure && !is_confirmed(&stats)? {
        session.say("nothing was deleted");
        return Ok(Exit::Usage);
    }
    session.ask(session.hub.delete_hub(name)).await.map_err(listed)?;
    session.say(&format!("deleted the task hub {name}"));
    Ok(Exit::Ok)
}

/// Asks for the name of the hub. Without a terminal nobody can type it.
fn is_confirmed(stats: &HubStatsWire) -> Result<bool, Failure> {
    let name = &stats.name;
    let instances: u64 = stats.instances.iter().map(|count| count.count).sum();
    if !std::io::stdin().is_terminal() {
        let text =
            format!("this deletes the task hub {name} with {instances} instances and nobody can be asked");
        return Err(Failure::usage(text).help("say --yes"));
    }
    let mut out = std::io::stderr();
    let question = format!(
        "this deletes the task hub {name} with {instances} instances, for good.\nits name, to go on: "
    );
    let asked = out.write_all(question.as_bytes()).and_then(|()| out.flush());
    asked.map_err(|error| Failure::unexpected(&error))?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::unexpected(&error))?;
    Ok(answer.trim() == name)
}

/// What is wrong with a hub is seen in the list of them.
fn listed(failure: Failure) -> Failure {
    failure.help("dalsegno hub list shows those that are there")
}

fn shown(name: String) -> Row {
    Row {
        json: serde_json::Value::from(name.as_str()).to_string(),
        id: name.clone(),
        cells: vec![name],
    }
}

fn numbers(stats: &HubStatsWire) -> Row {
    let instances: u64 = stats.instances.iter().map(|count| count.count).sum();
    let by_status: Vec<String> = stats
        .instances
        .iter()
        .filter(|count| count.count > 0)
        .map(|count| format!("{} {}", count.count, count.status))
        .collect();
    Row {
        id: stats.name.clone(),
        cells: vec![
            stats.name.clone(),
            output::bytes(stats.disk_bytes),
            output::bytes(stats.log_bytes),
            output::bytes(stats.database_bytes),
            format!("{} in {}", output::bytes(stats.payload_bytes), stats.payloads),
            stats.free_bytes.map(output::bytes).unwrap_or_default(),
            instances.to_string(),
            by_status.join(", "),
            stats.history_events.to_string(),
            stats.created_last_day.to_string(),
            output::bytes(stats.growth_bytes_per_day),
            if stats.own { "yes" } else { "no" }.to_owned(),
        ],
        json: serde_json::to_string(stats).unwrap_or_default(),
    }
}
