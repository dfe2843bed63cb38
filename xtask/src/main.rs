//! The project's own commands.
//!
//! `cargo xtask ci` is all that has to pass, at the desk as in CI. `cargo xtask sim --seeds N
//! --from S` runs the simulator. `cargo xtask sdks` runs the suites with the official SDKs. `cargo xtask
//! dashboard` runs the dashboard in a browser. `cargo xtask tidy` prints how long functions and files are.

mod ci;
mod dashboard;
mod sdks;
mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("ci") => ci::all(),
        Some("sdks") => sdks::all(),
        Some("dashboard") => dashboard::all(&arguments[1..]),
        Some("sim") => ci::simulate(&arguments[1..]),
        Some("tidy") => tidy::check(),
        _ => Err("usage: cargo xtask ci | sdks | dashboard [--pictures] | sim [--seeds N] [--from S] [--bug NAME] | tidy".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
