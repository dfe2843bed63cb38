//! A real process on the real store, killed at random moments: what was acknowledged is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use dalsegno_engine::partition::Entropy;
use dalsegno_sim::program::{COUNTERS, Program, counted, result_of};
use dalsegno_sim::scenario::programs_of;
use dalsegno_store_embedded::{EmbeddedStore, Options};

/// The seed of the target's programs.
const PROGRAMS_SEED: u64 = 11;

/// What the target said, over all its lives.
#[derive(Default)]
struct Ledger {
    asked: BTreeMap<String, usize>,
    acknowledged: Vec<String>,
    signalling: [i64; COUNTERS as usize],
    signalled: [i64; COUNTERS as usize],
}

impl Ledger {
    fn take(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["starting", id, program] => drop(self.asked.insert(id.to_owned(), program.parse().unwrap())),
            ["started", id, _] => self.acknowledged.push(id.to_owned()),
            ["signalling", counter, amount] => add(&mut self.signalling, counter, amount),
            ["signalled", counter, amount] => add(&mut self.signalled, counter, amount),
            _ => {}
        }
    }
}

fn add(sums: &mut [i64; COUNTERS as usize], counter: &str, amount: &str) {
    sums[counter.parse::<usize>().unwrap()] += amount.parse::<i64>().unwrap();
}

fn target(arguments: &[&str], stdin: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_kill-target"))
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets the target live until it has said something and a random time has passed.
fn one_life(folder: &Path, cycle: u64, lifetime: Duration, ledger: &mut Ledger) {
    let folder = folder.to_str().unwrap();
    let mut child = target(&["run", folder, &cycle.to_string()], Stdio::null());
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    if let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) {
        ledger.take(&line);
        std::thread::sleep(lifetime);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    lines.try_iter().for_each(|line| ledger.take(&line));
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let cycles = if dalsegno_store_tests::is_slow_run() {
        50
    } else {
        5
    };
    let seed: u64 = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4711);
    eprintln!("SEED={seed} cargo test -p dalsegno-sim kill");
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("hub");
    let mut entropy = Entropy::seeded(seed);
    let mut ledger = Ledger::default();
    for cycle in 0..cycles {
        let lifetime = Duration::from_millis(5 + entropy.next_u64() % 150);
        one_life(&hub, cycle, lifetime, &mut ledger);
        verify_hub(&hub);
    }
    assert!(
        ledger.acknowledged.len() as u64 >= cycles * 5,
        "too little was acknowledged to prove anything"
    );
    let results = finish(&hub, &ledger);
    check(&programs_of(PROGRAMS_SEED), &ledger, &results);
}

/// What is on disk after a kill makes sense, before anything goes on.
fn verify_hub(hub: &Path) {
    let report = dalsegno_store_embedded::verify::verify(hub).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    let store = EmbeddedStore::open(hub, Options::default()).unwrap();
    let findings = dalsegno_engine::verify::verify(&store).unwrap();
    assert_eq!(findings.problems, Vec::<String>::new());
}

/// Asks again for everything and returns what the target says came out.
fn finish(hub: &Path, ledger: &Ledger) -> Vec<String> {
    let mut child = target(&["finish", hub.to_str().unwrap()], Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    let requests: String = ledger
        .asked
        .iter()
        .map(|(id, program)| format!("x {id} {program}\n"))
        .collect();
    let writer = std::thread::spawn(move || stdin.write_all(requests.as_bytes()).unwrap());
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .collect();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    lines
}

/// Every instance came to its sum; every counter holds each signal and operation once.
fn check(programs: &[Program], ledger: &Ledger, results: &[String]) {
    let mut expected = ledger.signalled;
    let mut done = 0;
    for line in results {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["done", id, program, output] => {
                let program: usize = program.parse().unwrap();
                assert_eq!(output, result_of(programs, program).to_string(), "{id}");
                for (sum, amount) in expected.iter_mut().zip(counted(programs, program)) {
                    *sum += amount;
                }
                done += 1;
            }
            ["counter", counter, value] => {
                let (counter, value): (usize, i64) = (counter.parse().unwrap(), value.parse().unwrap());
                let unknown = ledger.signalling[counter] - ledger.signalled[counter];
                let range = expected[counter]..=expected[counter] + unknown;
                assert!(
                    range.contains(&value),
                    "counter {counter} is {value}, expected {range:?}"
                );
            }
            _ => panic!("{line}"),
        }
    }
    assert_eq!(done, ledger.asked.len(), "an instance is missing");
}
