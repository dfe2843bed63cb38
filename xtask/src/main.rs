//! The project's own commands.
//!
//! `cargo xtask ci` is all that has to pass, at the desk as in CI. `cargo xtask sim --seeds N
//! --from S` runs the simulator. `cargo xtask sdks` runs the suites with the official SDKs. `cargo xtask
//! dashboard` runs the dashboard in a browser. `cargo xtask openapi` asks a server for everything its OpenAPI
//! document tells of. `cargo xtask attack` attacks the real binary from outside. `cargo xtask packaging` checks
//! the files for containers. `cargo xtask dist` makes the archive of a release. `cargo xtask tidy` prints how long
//! functions and files are.

mod attack;
mod ci;
mod dashboard;
mod dist;
mod openapi;
mod packaging;
mod sdks;
mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("ci") => ci::all(),
        Some("sdks") => sdks::all(),
        Some("dashboard") => dashboard::all(&arguments[1..]),
        Some("openapi") => openapi::all(&arguments[1..]),
        Some("attack") => attack::all(&arguments[1..]),
        Some("packaging") => packaging::check(),
        Some("dist") => dist::make(&arguments[1..]),
        Some("sim") => ci::simulate(&arguments[1..]),
        Some("tidy") => tidy::check(),
        _ => Err("usage: cargo xtask ci | sdks | openapi | dashboard [--pictures] | attack [--only PART] [--seed N] [--kills N] | packaging | dist [--profile dev] | sim [--seeds N] [--from S] [--bug NAME] | tidy".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
