//! `dalsegno repair`

use std::path::PathBuf;

use clap::Args;
use dalsegno_store_embedded::Moved;
use dalsegno_store_embedded::repair::repair;

use crate::failure::{Exit, Failure};
use crate::output::{self, Row};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno repair .dalsegno/hub\nCopy the folder first (cp -a). The table quarantine has what was moved."
)]
pub(crate) struct Repair {
    /// Folder of the hub, which no host may have open
    #[arg(default_value = ".dalsegno/hub")]
    folder: PathBuf,
}

impl Repair {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let folder = self.folder.clone();
        let work = tokio::task::spawn_blocking(move || {
            if !folder.join("identity").exists() {
                let text = format!("{} holds no hub", folder.display());
                return Err(Failure::configuration(&text));
            }
            repair(&folder).map_err(|error| {
                let failure = Failure::unopened(&folder, &error);
                match error.is_in_use() {
                    true => failure.help("end the host that has it open, then repair it"),
                    false => failure,
                }
            })
        });
        let why = || format!("still repairing {}", self.folder.display());
        let done = session.patiently(work, why).await;
        let moved = done.unwrap_or_else(|error| Err(Failure::unexpected(&error)))?;
        for row in &moved {
            output::talk(&format!(
                "moved to quarantine {}: {} {} ({})",
                row.number,
                row.table,
                row.row,
                row.reason.escape_debug()
            ));
        }
        session.one(&["moved"], &shown(&moved));
        Ok(Exit::Ok)
    }
}

fn shown(moved: &[Moved]) -> Row {
    let rows: Vec<serde_json::Value> = moved
        .iter()
        .map(|row| {
            serde_json::json!({
                "number": row.number,
                "table": row.table,
                "row": row.row,
                "reason": row.reason,
            })
        })
        .collect();
    let count = moved.len().to_string();
    Row {
        id: count.clone(),
        cells: vec![count],
        json: serde_json::json!({ "moved": rows }).to_string(),
    }
}
