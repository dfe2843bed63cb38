//! `dalsegno-sim --seeds N --from S [--failures N] [--bug NAME] [--trace]`: runs seeds and says
//! which failed, up to so many (1), and what the others came by. `--trace` prints every batch.

use std::process::ExitCode;

use dalsegno_core::planted::{self, Bug};
use dalsegno_sim::scenario::{self, Marks, Trace};

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
    let trace = match arguments.iter().any(|argument| argument == "--trace") {
        true => Trace::Print,
        false => Trace::Off,
    };
    let failures_max = number("--failures", 1);
    let mut failures = 0;
    let mut marks = Marks::default();
    for seed in from..from + seeds {
        match scenario::run_traced(seed, trace) {
            Ok(one) => marks = marks.plus(&one),
            Err(problem) => {
                eprintln!(
                    "seed {seed} failed: {problem}\nrepeat it: cargo xtask sim --seeds 1 --from {seed}"
                );
                failures += 1;
                if failures == failures_max {
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    let named: Vec<String> = marks
        .named()
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    eprintln!("{seeds} seeds from {from}: {}", named.join(", "));
    match failures {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
