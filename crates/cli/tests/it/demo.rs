//! The README's promise: `kill -9` in the middle and the same command again; no recorded activity
//! runs again, and the report is the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::store::Store;
use dalsegno_core::{EventKind, InstanceId};
use dalsegno_engine::loader::read_history;
use dalsegno_engine::partition::Entropy;
use dalsegno_store_embedded::{EmbeddedStore, Options};

const LAST_LINE: &str = "881 packages checked, 389 stale (no release since 2024-11), 0 failed";

fn demo(folder: &Path) -> Child {
    let folder = folder.to_str().unwrap();
    let arguments = [
        "demo",
        "--exit",
        "--port",
        "0",
        "--as-of",
        "2026-11",
        "--latency",
        "5",
        "--rate",
        "1000/1s",
    ];
    Command::new(env!("CARGO_BIN_EXE_dalsegno"))
        .args(arguments)
        .args(["--data-dir", folder])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Names whose answer is in a history, as the store has it after a kill; none once the run is
/// over, for the same command then begins another.
fn recorded(folder: &Path) -> BTreeSet<String> {
    let hub = folder.join("hub");
    if !hub.exists() {
        return BTreeSet::new();
    }
    let Ok(store) = EmbeddedStore::open(&hub, Options::default()) else {
        return BTreeSet::new();
    };
    let store: Arc<dyn Store> = Arc::new(store);
    let run = store.instance(&InstanceId::trusted("package-freshness")).unwrap();
    if run.is_some_and(|row| row.status.is_final()) {
        return BTreeSet::new();
    }
    let mut names = BTreeSet::new();
    for part in ["management", "rest"] {
        let id = InstanceId::trusted(format!("package-freshness-{part}"));
        let Some(row) = store.instance(&id).unwrap() else {
            continue;
        };
        let history = read_history(&*store, &row).unwrap();
        let asked = history.iter().filter_map(|event| match &event.kind {
            EventKind::TaskScheduled { task, input, .. } => Some((*task, input.clone()?)),
            _ => None,
        });
        let answered = history.iter().filter_map(|event| match &event.kind {
            EventKind::TaskCompleted { task, .. } => Some(*task),
            _ => None,
        });
        let answered: BTreeSet<_> = answered.collect();
        let known = asked.filter(|(task, _)| answered.contains(task));
        names.extend(known.map(|(_, input)| input.as_str().trim_matches('"').to_owned()));
    }
    names
}

/// Requests the catalogue has answered so far.
fn answered_requests(folder: &Path) -> Vec<String> {
    let log = fs::read_to_string(folder.join("catalogue-access.log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// Waits until the catalogue has answered so many requests; `true` when the child ended before.
fn outlives(child: &mut Child, folder: &Path, requests: usize) -> bool {
    while answered_requests(folder).len() < requests {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_killed_demonstration_goes_on_and_reports_the_same() {
    let kills = if dalsegno_store_tests::is_slow_run() {
        50
    } else {
        6
    };
    let seed: u64 = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4711);
    eprintln!("SEED={seed} cargo test -p dalsegno-cli demo");
    let mut entropy = Entropy::seeded(seed);
    let mut reports = BTreeSet::new();
    let (mut killed, mut continued, mut kept) = (0, 0, 0);
    while killed < kills {
        let folder = tempfile::tempdir().unwrap();
        let mut begun_before = false;
        loop {
            let known = recorded(folder.path());
            let requests = answered_requests(folder.path()).len();
            let mut child = demo(folder.path());
            let until = requests + (entropy.next_u64() % 300) as usize;
            let has_ended = killed >= kills || outlives(&mut child, folder.path(), until);
            if !has_ended {
                child.kill().unwrap();
                killed += 1;
            }
            let output = child.wait_with_output().unwrap();
            let repeated = answered_requests(folder.path()).split_off(requests);
            if begun_before {
                let again: Vec<_> = repeated.iter().filter(|name| known.contains(*name)).collect();
                assert!(again.is_empty(), "recorded and asked for again: {again:?}");
                kept += known.len();
                continued += u64::from(!known.is_empty());
            }
            begun_before = true;
            if has_ended {
                assert!(
                    output.status.success(),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
                assert_eq!(last_line(&output), LAST_LINE);
                reports.insert(output.stdout);
                break;
            }
        }
    }
    assert_eq!(reports.len(), 1, "the reports differ");
    assert!(
        continued > 0 && kept > 100,
        "no kill came in the middle: {continued} continued, {kept} answers kept"
    );
}
