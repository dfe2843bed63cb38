//! Seeds pass, seeds repeat, and bugs that are planted are found.

use std::sync::Mutex;

use dalsegno_core::planted::{Bug, plant};
use dalsegno_sim::scenario;

/// The planted bug is one switch for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Seeds within which a planted bug has to be found. The rarest took 1,090.
const SEEDS_PER_BUG: u64 = 5_000;

/// Seeds that found a bug of ours once. 212799: a terminated activity kept its limiter's slot.
/// 108: a terminated instance left a held message behind. 432525: after a crash an unread event was
/// read back before the message that begins its execution, and was not looked at again.
const REGRESSIONS: [u64; 3] = [108, 212_799, 432_525];

#[test]
fn seeds_pass_and_do_something() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|error| error.into_inner());
    plant(None);
    let mut crashes = 0;
    let mut completed = 0;
    let mut replays = 0;
    let mut dropped = 0;
    let mut terminated = 0;
    for seed in (0..300).chain(REGRESSIONS) {
        let marks = scenario::run(seed).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        crashes += marks.crashes;
        completed += marks.completed;
        terminated += marks.terminated;
        replays += marks.counters.replays;
        dropped += marks.counters.dropped_messages;
    }
    assert!(crashes > 1_000, "{crashes} crashes");
    assert!(completed > 500, "{completed} completed");
    assert!(terminated > 10, "{terminated} terminated");
    assert!(replays > 1_000, "{replays} replays");
    assert!(dropped > 100, "{dropped} messages dropped");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|error| error.into_inner());
    plant(None);
    for seed in 0..50 {
        let (first, second) = (scenario::run(seed).unwrap(), scenario::run(seed).unwrap());
        assert_eq!(format!("{first:?}"), format!("{second:?}"), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|error| error.into_inner());
    for bug in Bug::ALL {
        plant(Some(bug));
        let found = (0..SEEDS_PER_BUG).find(|seed| scenario::run(*seed).is_err());
        plant(None);
        assert!(found.is_some(), "{bug:?} hid in {SEEDS_PER_BUG} seeds");
    }
}
