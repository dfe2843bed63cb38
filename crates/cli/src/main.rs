//! The command line of dalsegno: one file per subcommand, all against a running host.
//!
//! Data goes to stdout, talk to stderr. Exit codes are in `--help` and in [`failure`].

mod arguments;
mod batch;
mod commands;
mod complete;
mod failure;
mod filter;
mod input;
mod output;
mod profile;
mod progress;
mod screen;
mod session;
mod time;
mod tree;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;

use arguments::Arguments;
use failure::Exit;

/// What one thread allocates for a turn another frees, which the C library's allocator makes dear: a
/// busy hub does a third more with this one. It needs nothing to build but the C compiler that SQLite
/// needs. An instance that waits takes a seventh more memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Ends here when it is a shell that asks.
    CompleteEnv::with_factory(Arguments::command)
        .var(complete::VARIABLE)
        .complete();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let color = arguments.global.color();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::unexpected(&error).report(color).into(),
    };
    match runtime.block_on(commands::run(arguments)) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(color).into(),
    }
}

/// Help and version are answers; everything else is a mistake, told in our form.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody to tell when the answer cannot be printed.
        let _ = error.print();
        return Exit::Ok.into();
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    output::talk(&format!("error[usage]: {text}"));
    Exit::Usage.into()
}
