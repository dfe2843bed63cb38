//! `dalsegno-sim --seeds N --from S [--bug NAME]`: runs seeds and says which failed.

use std::process::ExitCode;

use dalsegno_core::planted::{self, Bug};
use dalsegno_sim::scenario;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, default: u64| value(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seeds, from) = (number("--seeds", 300), number("--from", 0));
    let bug = value("--bug");
    planted::plant(
        bug.as_ref()
            .and_then(|name| Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == *name)),
    );
    let mut crashes = 0;
    let mut completed = 0;
    let mut terminated = 0;
    let mut replays = 0;
    for seed in from..from + seeds {
        match scenario::run(seed) {
            Ok(marks) => {
                crashes += marks.crashes;
                completed += marks.completed;
                terminated += marks.terminated;
                replays += marks.counters.replays;
            }
            Err(problem) => {
                eprintln!(
                    "seed {seed} failed: {problem}\nrepeat it: cargo xtask sim --seeds 1 --from {seed}"
                );
                return ExitCode::FAILURE;
            }
        }
    }
    eprintln!(
        "{seeds} seeds from {from}: {crashes} crashes, {replays} replays, {completed} instances completed, {terminated} terminated"
    );
    ExitCode::SUCCESS
}
