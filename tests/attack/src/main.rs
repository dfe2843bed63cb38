//! Attacks the real binary from outside: failing disks, kills, damaged files, replaced locks and folders, forged
//! and stale credentials.
//!
//! A ledger outside of the process has every acknowledged operation. A part fails when something acknowledged is
//! lost, when a response shows what no client asked for, or when a process ends in a way that is not documented.
//! `cargo xtask attack` runs it; `--seed` repeats a run and `--only` runs one part.

mod broken;
mod clients;
mod credentials;
mod damage;
mod http;
mod kills;
mod ledger;
mod owners;
mod pool;
mod process;
mod random;
mod sync_errors;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::broken::{Broken, Outcome};
use crate::process::Program;

/// Kills of an ordinary run.
const KILLS: u64 = 40;

/// Kills with `RUN_SLOW=1`.
const KILLS_SLOW: u64 = 300;

/// A part of the attack: its name and what it runs.
type Part = (&'static str, fn(&Attack) -> Outcome<Report>);

const PARTS: [Part; 5] = [
    ("sync-errors", sync_errors::run),
    ("kills", kills::run),
    ("damage", damage::run),
    ("owners", owners::run),
    ("credentials", credentials::run),
];

/// What all parts need.
#[derive(Debug)]
pub(crate) struct Attack {
    pub(crate) program: Program,
    pub(crate) seed: u64,
    pub(crate) kills: u64,
    folder: PathBuf,
}

/// What a part did.
#[derive(Debug)]
pub(crate) struct Report {
    cases: u64,
    what: String,
}

impl Report {
    pub(crate) fn new(cases: u64, what: String) -> Self {
        Self { cases, what }
    }
}

impl Attack {
    /// Runs a case in a folder of its own, which stays when the case fails.
    pub(crate) fn in_folder<T>(&self, name: &str, case: impl FnOnce(&Path) -> Outcome<T>) -> Outcome<T> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&self.folder)?;
        case(folder.path()).map_err(|broken| {
            let kept = folder.keep();
            broken.at(&format!("folder {}", kept.display()))
        })
    }
}

fn main() -> ExitCode {
    match attack(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(broken) => {
            eprintln!("{broken}");
            ExitCode::FAILURE
        }
    }
}

fn attack(arguments: impl Iterator<Item = String>) -> Outcome {
    let (attack, only) = parse(arguments)?;
    let known = PARTS.map(|(name, _)| name);
    if let Some(only) = only.as_deref().filter(|only| !known.contains(only)) {
        let parts = known.join(", ");
        return Err(Broken::new(format!("--only must be one of {parts}; got {only}")));
    }
    std::fs::create_dir_all(&attack.folder)?;
    for (name, run) in PARTS {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let begin = Instant::now();
        eprintln!(
            "-- {name}: cargo xtask attack --only {name} --seed {}",
            attack.seed
        );
        let report = run(&attack).map_err(|broken| broken.at(&format!("{name}, seed {}", attack.seed)))?;
        let seconds = begin.elapsed().as_secs();
        eprintln!(
            "-- {name}: {} cases held after {seconds} s: {}",
            report.cases, report.what
        );
    }
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<(Attack, Option<String>)> {
    let mut attack = Attack {
        program: Program(PathBuf::new()),
        seed: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |since| since.as_secs()),
        kills: match std::env::var_os("RUN_SLOW") {
            Some(_) => KILLS_SLOW,
            None => KILLS,
        },
        folder: std::env::temp_dir(),
    };
    let mut only = None;
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = || {
            let wrong = |_| Broken::new(format!("{argument} must be a whole number; got {value:?}"));
            value.parse::<u64>().map_err(wrong)
        };
        match argument.as_str() {
            "--program" => attack.program = Program(PathBuf::from(&value)),
            "--folder" => attack.folder = PathBuf::from(&value),
            "--seed" => attack.seed = number()?,
            "--kills" => attack.kills = number()?,
            "--only" => only = Some(value),
            other => return Err(Broken::new(format!("unknown argument {other}"))),
        }
    }
    Ok((attack, only))
}
