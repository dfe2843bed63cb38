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

impl Repair {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let repaired = match &self.folder {
            Some(folder) => offline(session, folder).await?,
            None => {
                let name = session.ask(session.hub.info()).await?.name;
                session.ask(session.hub.repair(&name)).await?
            }
        };
        for row in &repaired.moved {
            output::talk(&format!(
                "moved to quarantine {}: {} {} ({})",
                row.number, row.table, row.row, row.reason
            ));
        }
        for row in &repaired.left {
            output::talk(&format!("left: {} {} ({})", row.table, row.row, row.reason));
        }
        session.one(&["moved", "left"], &shown(&repaired));
        Ok(match repaired.left.is_empty() {
            true => Exit::Ok,
            false => Exit::Unexpected,
        })
    }
}

async fn offline(session: &Session, folder: &Path) -> Result<RepairedWire, Failure> {
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
    let moved = done.unwrap_or_else(|error| Err(Failure::unexpected(&error)))?;
    Ok(RepairedWire {
        moved: moved.into_iter().map(MovedWire::from).collect(),
        left: Vec::new(),
    })
}

fn shown(repaired: &RepairedWire) -> Row {
    let (moved, left) = (repaired.moved.len().to_string(), repaired.left.len().to_string());
    Row {
        id: moved.clone(),
        cells: vec![moved, left],
        json: serde_json::json!(repaired).to_string(),
    }
}
