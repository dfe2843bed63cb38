//! `dalsegno repair`

use std::path::PathBuf;

use clap::Args;
use dalsegno_store_embedded::repair::{Repaired, repair};

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
        let repaired = done.unwrap_or_else(|error| Err(Failure::unexpected(&error)))?;
        for row in &repaired.moved {
            output::talk(&format!(
                "moved to quarantine {}: {} {} ({})",
                row.number,
                row.table,
                row.row,
                row.reason.escape_debug()
            ));
        }
        for line in &repaired.malformed {
            output::talk(&format!("problem: hub.db: {line}"));
        }
        session.one(&["moved"], &shown(&repaired));
        match repaired.malformed.is_empty() {
            true => Ok(Exit::Ok),
            false => Err(Failure::configuration(&format_args!(
                "{} is malformed, and a repair moves single rows only",
                self.folder.join("hub.db").display()
            ))
            .help("restore the hub from a backup: dalsegno restore FILE --path FOLDER")),
        }
    }
}

fn shown(repaired: &Repaired) -> Row {
    let rows: Vec<serde_json::Value> = repaired
        .moved
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
    let count = repaired.moved.len().to_string();
    Row {
        id: count.clone(),
        cells: vec![count],
        json: serde_json::json!({ "moved": rows, "malformed": repaired.malformed }).to_string(),
    }
}
