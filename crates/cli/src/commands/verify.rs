//! `dalsegno verify`

use std::path::PathBuf;

use clap::Args;
use dalsegno_store_embedded::verify::{Report, verify};
use dalsegno_store_embedded::{EmbeddedStore, Options};

use crate::failure::{Exit, Failure};
use crate::output::{self, Row};
use crate::session::Session;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno verify .dalsegno/hub\nExit code 0 when it is sound, 1 when it is not."
)]
pub(crate) struct Verify {
    /// Folder of the hub, which nobody may have open
    #[arg(default_value = ".dalsegno/hub")]
    folder: PathBuf,
}

impl Verify {
    pub(crate) fn run(self, session: &Session) -> Result<Exit, Failure> {
        let report = verify(&self.folder).map_err(|error| {
            if error.is_in_use() {
                Failure::in_use(&format_args!("{}: {error}", self.folder.display()))
                    .help("end the host that has it open, or verify a copy of the folder")
            } else {
                Failure::configuration(&error)
            }
        })?;
        session.one(&HEAD, &shown(&report));
        for problem in &report.problems {
            output::talk(&format!("problem: {problem}"));
        }
        let meaning = if report.is_sound() {
            self.check_meaning()?
        } else {
            Vec::new()
        };
        for problem in &meaning {
            output::talk(&format!("problem: {problem}"));
        }
        Ok(if report.is_sound() && meaning.is_empty() {
            Exit::Ok
        } else {
            Exit::Unexpected
        })
    }
}

impl Verify {
    /// What records and tables say together. For that the hub is opened as every start does it.
    fn check_meaning(&self) -> Result<Vec<String>, Failure> {
        let store = EmbeddedStore::open(&self.folder, Options::default())
            .map_err(|error| Failure::configuration(&error))?;
        let findings =
            dalsegno_engine::verify::verify(&store).map_err(|error| Failure::unexpected(&error))?;
        Ok(findings.problems)
    }
}

const HEAD: [&str; 7] = [
    "verdict",
    "instances",
    "histories",
    "events",
    "commits",
    "in log only",
    "applied",
];

fn shown(report: &Report) -> Row {
    let verdict = if report.is_sound() {
        "sound".to_owned()
    } else {
        format!("{} problems", report.problems_count)
    };
    let counts: serde_json::Map<String, serde_json::Value> = report
        .counts
        .iter()
        .map(|(status, count)| (status.as_str().to_owned(), (*count).into()))
        .collect();
    let json = serde_json::json!({
        "sound": report.is_sound(),
        "problems": report.problems,
        "problemsCount": report.problems_count,
        "instances": report.instances,
        "histories": report.histories,
        "events": report.events,
        "lastCommit": report.last,
        "appliedCommit": report.applied,
        "commitsInLogOnly": report.unapplied,
        "counts": counts,
    });
    let numbers = [
        report.instances,
        report.histories,
        report.events,
        report.last,
        report.unapplied,
        report.applied,
    ];
    Row {
        id: verdict.clone(),
        cells: std::iter::once(verdict)
            .chain(numbers.map(|number| number.to_string()))
            .collect(),
        json: json.to_string(),
    }
}
