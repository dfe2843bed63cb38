//! `dalsegno repair`

use std::path::{Path, PathBuf};

use clap::Args;
use dalsegno_host::v1::{MovedWire, RepairedWire};
use dalsegno_store_embedded::repair::repair;

use crate::failure::{Exit, Failure};
use crate::output::{self, Row};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno repair --hub orders\nMake a backup first. The table quarantine of hub.db has what was moved."
)]
pub(crate) struct Repair {
    /// Of the hub in this folder, which no host has open
    folder: Option<PathBuf>,
}

/// What a repair did, and what is wrong with the file of the tables still.
struct Done {
    rows: RepairedWire,
    malformed: Vec<String>,
}

impl Repair {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let done = match &self.folder {
            Some(folder) => offline(session, folder).await?,
            None => {
                let name = session.ask(session.hub.info()).await?.name;
                Done {
                    rows: session.ask(session.hub.repair(&name)).await?,
                    malformed: Vec::new(),
                }
            }
        };
        for row in &done.rows.moved {
            output::talk(&format!(
                "moved to quarantine {}: {} {} ({})",
                row.number, row.table, row.row, row.reason
            ));
        }
        for row in &done.rows.left {
            output::talk(&format!("left: {} {} ({})", row.table, row.row, row.reason));
        }
        for line in &done.malformed {
            output::talk(&format!("problem: hub.db: {line}"));
        }
        session.one(&["moved", "left"], &shown(&done));
        match &self.folder {
            Some(folder) if !done.malformed.is_empty() => Err(Failure::configuration(&format_args!(
                "{} is malformed, and a repair moves single rows only",
                folder.join("hub.db").display()
            ))
            .help("restore the hub from a backup: dalsegno restore FILE --path FOLDER")),
            _ if !done.rows.left.is_empty() => Ok(Exit::Unexpected),
            _ => Ok(Exit::Ok),
        }
    }
}

async fn offline(session: &Session, folder: &Path) -> Result<Done, Failure> {
    let place = folder.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        if !place.join("identity").exists() {
            let text = format!("{} holds no hub", place.display());
            return Err(Failure::configuration(&text));
        }
        repair(&place).map_err(|error| {
            let failure = Failure::unopened(&place, &error);
            match error.is_in_use() {
                true => failure.help("dalsegno repair without a folder asks the host that has it open"),
                false => failure,
            }
        })
    });
    let why = || format!("still repairing {}", folder.display());
    let done = session.patiently(work, why).await;
    let repaired = done.unwrap_or_else(|error| Err(Failure::unexpected(&error)))?;
    Ok(Done {
        rows: RepairedWire {
            moved: repaired.moved.into_iter().map(MovedWire::from).collect(),
            left: Vec::new(),
        },
        malformed: repaired.malformed,
    })
}

fn shown(done: &Done) -> Row {
    let (moved, left) = (
        done.rows.moved.len().to_string(),
        done.rows.left.len().to_string(),
    );
    Row {
        id: moved.clone(),
        cells: vec![moved, left],
        json: serde_json::json!({
            "moved": done.rows.moved,
            "left": done.rows.left,
            "malformed": done.malformed,
        })
        .to_string(),
    }
}
