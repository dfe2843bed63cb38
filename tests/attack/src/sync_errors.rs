//! Injected errors of syncs and writes: strace makes one call of the host fail, or all calls from one on.
//!
//! The calls fail without being made, so the bytes of a failed sync may be on disk all the same. Therefore the
//! attack does not only look for lost operations: it also compares the time of the failed sync with the times at
//! which acknowledged operations were sent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::broken::{Broken, Outcome, ensure};
use crate::clients::{Acknowledgement, Clients};
use crate::ledger::{Ledger, lock};
use crate::pool::run_all;
use crate::process::{Ended, Host, Start};
use crate::random::Random;
use crate::worker::Worker;
use crate::{Attack, Report};

/// A failed write or sync ends a running host with this code.
const EXIT_STORE_FAILED: i32 = 74;

/// A failed write or sync ends a start with this code, and the service manager tries again.
const EXIT_START_FAILED: i32 = 75;

/// Operations of a host under injection.
const OPERATIONS: u64 = 45;

/// Operations of the hub that exists before the injection begins.
const OPERATIONS_BEFORE: u64 = 12;

/// Log segments whose calls may fail.
const SEGMENTS: u64 = 12;

/// Hosts that an injected error has to end while they run, and while they start: else the attack proves too little.
const ENDED_RUNNING_MIN: u64 = 5;
const ENDED_STARTING_MIN: u64 = 12;

/// Calls of the host that can fail, by their names in strace, and how each fails.
const FAILURES: [(&str, &str); 9] = [
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("write", "EIO"),
    ("write", "ENOSPC"),
    ("rename,renameat,renameat2", "EIO"),
    ("fallocate,ftruncate", "ENOSPC"),
    ("openat", "EIO"),
];

/// The hub at the begin of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Its folder does not exist.
    Nothing,
    /// It was killed under load.
    Killed,
}

/// One injection.
#[derive(Clone, Debug)]
struct Case {
    before: Before,
    calls: &'static str,
    error: &'static str,
    /// The number of the first call that fails.
    first: u64,
    /// All later ones fail too.
    is_lasting: bool,
}

/// How cases came out.
#[derive(Debug, Default)]
struct Counts {
    ended_starting: AtomicU64,
    ended_running: AtomicU64,
    unnoticed: AtomicU64,
    acknowledged: AtomicU64,
}

pub(crate) fn run(attack: &Attack) -> Outcome<Report> {
    let cases = cases(attack.seed);
    let counts = Counts::default();
    run_all(&cases, |index, case| {
        attack.in_folder("sync-errors", |folder| {
            let seed = Random::of_case(attack.seed, index as u64).number();
            attack_one(attack, case, seed, folder, &counts).map_err(|broken| broken.at(&format!("{case:?}")))
        })
    })?;
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let what = format!(
        "{} hosts ended while they started, {} while they ran, {} did not meet the error or retried; \
         {} acknowledged operations",
        of(&counts.ended_starting),
        of(&counts.ended_running),
        of(&counts.unnoticed),
        of(&counts.acknowledged)
    );
    let is_enough =
        of(&counts.ended_running) >= ENDED_RUNNING_MIN && of(&counts.ended_starting) >= ENDED_STARTING_MIN;
    ensure(is_enough, || {
        format!("too few hosts met an error to prove anything: {what}")
    })?;
    Ok(Report::new(cases.len() as u64, what))
}

/// A spread over the calls of a start and of the first operations, different with each seed.
fn cases(seed: u64) -> Vec<Case> {
    let mut random = Random::new(seed);
    let mut cases = Vec::new();
    for (calls, error) in FAILURES {
        for before in [Before::Nothing, Before::Killed] {
            let (count, last) = spread(calls, before);
            for step in 0..count {
                let (from, to) = (1 + last * step / count, 1 + last * (step + 1) / count);
                cases.push(Case {
                    before,
                    calls,
                    error,
                    first: from + random.below((to - from).max(1)),
                    is_lasting: random.below(3) == 0,
                });
            }
        }
    }
    cases
}

/// How many cases there are of a call, and the last call that one of them hits.
fn spread(calls: &str, before: Before) -> (u64, u64) {
    match (calls, before) {
        ("fsync", Before::Nothing) => (9, 22),
        ("fsync", Before::Killed) => (4, 6),
        ("fdatasync", Before::Nothing) => (2, 3),
        ("fdatasync", Before::Killed) => (14, 22),
        ("pwrite64", Before::Nothing) => (5, 150),
        ("pwrite64", Before::Killed) => (6, 90),
        ("openat", Before::Nothing) => (3, 30),
        ("openat", Before::Killed) => (3, 12),
        (_, Before::Nothing) => (2, 3),
        (_, Before::Killed) => (2, 2),
    }
}

fn attack_one(attack: &Attack, case: &Case, seed: u64, folder: &Path, counts: &Counts) -> Outcome {
    let hub = folder.join("hub");
    let ledger = Mutex::new(Ledger::default());
    if case.before == Before::Killed {
        let host = Host::start_ready(attack.program.dev(&hub))?;
        Clients::new(host.address, seed, Some(OPERATIONS_BEFORE)).run(&ledger)?;
        no_panic(&host.kill()?)?;
    }
    let log = folder.join("strace.log");
    let traced = attack.program.dev_traced(&hub, &log, &options(case, &hub));
    match Host::start(traced)? {
        Start::Ended(ended) => {
            refused_start(&ended)?;
            counts.ended_starting.fetch_add(1, Ordering::Relaxed);
        }
        Start::Ready(host) => {
            under_load(host, seed, &log, &ledger, counts)?;
            attack.program.verify_sound(&hub)?;
        }
    }
    let ledger = lock(&ledger);
    counts
        .acknowledged
        .fetch_add(ledger.acknowledged(), Ordering::Relaxed);
    ledger.settle(&attack.program, &hub)
}

/// A start that met an error ends with the code that makes a service manager try again.
fn refused_start(ended: &Ended) -> Outcome {
    ended.expect(&[EXIT_START_FAILED, EXIT_STORE_FAILED])
}

/// The options of strace: which calls fail, on which files.
fn options(case: &Case, hub: &Path) -> Vec<String> {
    let lasting = if case.is_lasting { "+" } else { "" };
    let mut options = vec![
        "-e".to_owned(),
        format!("trace={}", case.calls),
        "-e".to_owned(),
        format!(
            "inject={}:error={}:when={}{lasting}",
            case.calls, case.error, case.first
        ),
    ];
    for path in files(hub) {
        options.extend(["-P".to_owned(), path.to_string_lossy().into_owned()]);
    }
    options
}

/// The files of a hub: calls on anything else do not fail.
fn files(hub: &Path) -> Vec<PathBuf> {
    let mut names: Vec<String> = [
        "identity.new",
        "identity",
        "running",
        "hub.db",
        "hub.db-wal",
        "hub.db-journal",
    ]
    .map(str::to_owned)
    .to_vec();
    for number in 1..=SEGMENTS {
        names.push(format!("log.{number:016x}"));
        names.push(format!("log.spare.{number:016x}"));
    }
    let files = names.iter().map(|name| hub.join(name));
    files.chain([hub.to_owned()]).collect()
}

/// Lets clients ask until the host ends, and checks how it ended.
fn under_load(host: Host, seed: u64, log: &Path, ledger: &Mutex<Ledger>, counts: &Counts) -> Outcome {
    let worker = match seed % 2 {
        0 => None,
        _ => Some(Worker::start(host.address)?),
    };
    let acknowledged = Clients::new(host.address, seed ^ 1, Some(OPERATIONS)).run(ledger)?;
    let injections = injections(&std::fs::read_to_string(log)?)?;
    let failed_sync = injections
        .iter()
        .find(|injection| injection.has_to_end_the_host());
    let ended = match failed_sync {
        // A sync that failed is never retried.
        Some(_) => host.wait_for_end()?,
        None => end(host)?,
    };
    drop(worker);
    if let Some(injection) = failed_sync.filter(|injection| injection.is_of_log()) {
        nothing_acknowledged_after(injection, &acknowledged)?;
    }
    match ended.code() {
        // Killed by the attack: the host did not meet the error, or retries a write that the store refused.
        None => {
            counts.unnoticed.fetch_add(1, Ordering::Relaxed);
            no_panic(&ended)
        }
        Some(_) => {
            counts.ended_running.fetch_add(1, Ordering::Relaxed);
            ended.expect(&[EXIT_STORE_FAILED])
        }
    }
}

/// The end of a host that may be about to end by itself.
fn end(mut host: Host) -> Outcome<Ended> {
    match host.has_ended()? {
        true => host.wait_for_end(),
        false => host.kill(),
    }
}

fn no_panic(ended: &Ended) -> Outcome {
    ensure(!ended.printed.contains("panicked"), || {
        format!("the host panicked: {}", ended.printed)
    })
}

/// A call that strace made fail.
#[derive(Debug)]
struct Injection {
    /// Seconds since 1970.
    at: f64,
    call: String,
    /// The call that the same thread made before.
    before: String,
}

impl Injection {
    fn is_sync(&self) -> bool {
        self.call.starts_with("fsync") || self.call.starts_with("fdatasync")
    }

    fn is_of_log(&self) -> bool {
        self.call.contains("/log.")
    }

    /// Every failed sync ends the host, with two exceptions, both of SQLite.
    ///
    /// The tables: the host tries a failed checkpoint again as a whole, and the log keeps what it folds until then.
    /// SQLite also ignores a failed sync of the checkpoint with which it closes a connection. Either way SQLite
    /// writes the pages again before it syncs them again.
    ///
    /// The folder, behind the first sync of a new `hub.db-wal` or `hub.db-journal`: SQLite ignores that error.
    fn has_to_end_the_host(&self) -> bool {
        let is_of_tables = |call: &str| call.contains("/hub.db");
        let is_of_folder = self.call.contains("/hub>");
        self.is_sync() && !is_of_tables(&self.call) && !(is_of_folder && is_of_tables(&self.before))
    }
}

/// The failed calls in a log of strace: lines of a thread's id, a time and a call.
fn injections(text: &str) -> Outcome<Vec<Injection>> {
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((at, call)) = rest.trim_start().split_once(' ') else {
            continue;
        };
        let before = last.insert(thread, call).unwrap_or_default();
        if call.contains("(INJECTED)") {
            let at = at
                .parse()
                .map_err(|_| Broken::new(format!("the line of strace has no time: {line}")))?;
            let (call, before) = (call.to_owned(), before.to_owned());
            found.push(Injection { at, call, before });
        }
    }
    Ok(found)
}

fn nothing_acknowledged_after(injection: &Injection, acknowledged: &[Acknowledgement]) -> Outcome {
    let late: Vec<_> = acknowledged
        .iter()
        .filter(|operation| operation.sent > injection.at)
        .collect();
    ensure(late.is_empty(), || {
        format!("acknowledged although sent after a sync had failed ({injection:?}): {late:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_of_the_log_has_to_end_the_host_and_one_of_the_tables_has_not() {
        let log = "7  1.5 fsync(9</h/hub/hub.db-wal>) = 0\n\
                   8 2.5 fdatasync(3</h/hub/log.01>) = -1 EIO (Input/output error) (INJECTED)\n\
                   7  3.5 fsync(4</h/hub>) = -1 EIO (Input/output error) (INJECTED)\n\
                   8 4.5 fsync(4</h/hub>) = -1 EIO (Input/output error) (INJECTED)\n";
        let found = injections(log).expect("the log is well formed");
        let ends: Vec<_> = found
            .iter()
            .map(|injection| {
                (
                    injection.at,
                    injection.has_to_end_the_host(),
                    injection.is_of_log(),
                )
            })
            .collect();
        assert_eq!(ends, [(2.5, true, true), (3.5, false, false), (4.5, true, false)]);
    }
}
