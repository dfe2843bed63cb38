//! `dalsegno verify`

use std::path::{Path, PathBuf};

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
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let folder = self.folder.clone();
        let mut report = self
            .aside(session, "reading the files of", move || read(&folder))
            .await?;
        if report.is_sound() {
            let folder = self.folder.clone();
            let check = move || check_meaning(&folder);
            report.problems = self
                .aside(session, "checking what the records mean of", check)
                .await?;
            report.problems_count = report.problems.len() as u64;
        }
        session.one(&HEAD, &shown(&report));
        for problem in &report.problems {
            output::talk(&format!("problem: {problem}"));
        }
        Ok(match report.is_sound() {
            true => Exit::Ok,
            false => Exit::Unexpected,
        })
    }
}

impl Verify {
    /// Long work on a thread of its own, of which something is said when it takes its time.
    async fn aside<T: Send + 'static>(
        &self,
        session: &Session,
        what: &str,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let why = || {
            format!(
                "still {what} {} ({} MB)",
                self.folder.display(),
                megabytes(&self.folder)
            )
        };
        let done = session.patiently(tokio::task::spawn_blocking(work), why).await;
        done.unwrap_or_else(|error| Err(Failure::unexpected(&error)))
    }
}

pub(super) fn read(folder: &Path) -> Result<Report, Failure> {
    verify(folder).map_err(|error| {
        let failure = Failure::unopened(folder, &error);
        match error.is_in_use() {
            true => failure.help("end the host that has it open, or verify a copy of the folder"),
            false => failure,
        }
    })
}

/// What records and tables say together. For that the hub is opened as every start does it.
pub(super) fn check_meaning(folder: &Path) -> Result<Vec<String>, Failure> {
    let store =
        EmbeddedStore::open(folder, Options::default()).map_err(|error| Failure::unopened(folder, &error))?;
    let findings = dalsegno_engine::verify::verify(&store).map_err(|error| Failure::unread(&error))?;
    Ok(findings.problems)
}

/// Of the files, as far as they can be seen.
fn megabytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes: u64 = entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    bytes / 1_000_000
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
