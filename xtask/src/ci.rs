//! Everything that has to pass before a change lands.

use std::process::Command;
use std::time::Instant;

/// Seeds of the simulator in one pass.
const SEEDS: &str = "10000";

/// One step: a name and what it runs.
type Step = (&'static str, fn() -> Result<(), String>);

/// Runs all steps; the first that fails ends it.
pub(crate) fn all() -> Result<(), String> {
    let steps: [Step; 15] = [
        ("tools", tools),
        ("format", || cargo(&["fmt", "--all", "--check"])),
        ("lints", || {
            cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        }),
        ("fuzz target", || {
            // No member of the workspace: whatever changes what it uses would break it unseen.
            cargo(&[
                "check",
                "--manifest-path",
                "fuzz/Cargo.toml",
                "--target-dir",
                "target/fuzz",
            ])
        }),
        ("tidy", crate::tidy::check),
        ("tests", || cargo(&["test", "--workspace", "--no-fail-fast"])),
        ("sdks", crate::sdks::all),
        ("openapi", || crate::openapi::all(&[])),
        ("dashboard", || crate::dashboard::all(&[])),
        ("attack", || crate::attack::all(&[])),
        ("packaging", crate::packaging::check),
        ("archive", || {
            crate::dist::make(&["--profile".to_owned(), "dev".to_owned()])
        }),
        ("docs", docs),
        ("licences", || {
            cargo(&["deny", "check", "bans", "licenses", "sources"])
        }),
        ("simulation", || {
            simulate(&["--seeds".to_owned(), SEEDS.to_owned()])
        }),
    ];
    for (name, run) in steps {
        let begin = Instant::now();
        eprintln!("== {name}");
        run().map_err(|problem| format!("{name}: {problem}"))?;
        eprintln!("== {name}: passed after {} s", begin.elapsed().as_secs());
    }
    Ok(())
}

/// A C compiler builds SQLite; cargo-deny reads the licences. Both are installed if they can be.
fn tools() -> Result<(), String> {
    if !succeeds("cc", &["--version"]) {
        if !succeeds("test", &["-w", "/var/lib/dpkg/lock"]) {
            return Err("a C compiler is missing; as root: apt-get install build-essential".to_owned());
        }
        run("apt-get", &["update", "-qq"])?;
        run("apt-get", &["install", "-y", "-qq", "build-essential"])?;
    }
    if !succeeds("cargo", &["deny", "--version"]) {
        cargo(&["install", "--quiet", "--locked", "--debug", "cargo-deny"])?;
    }
    Ok(())
}

/// Builds all programs with the features that the tests build them with: another choice of packages or targets would
/// compile most dependencies a second time.
pub(crate) fn build() -> Result<(), String> {
    cargo(&["build", "--workspace", "--bins", "--tests", "--quiet"])
}

fn docs() -> Result<(), String> {
    let mut command = Command::new("cargo");
    command
        .args(["doc", "--workspace", "--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    status(command, "cargo doc")
}

/// Runs the simulator, optimised: it is all computation.
pub(crate) fn simulate(arguments: &[String]) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command
        .args(["run", "--release", "--quiet", "--package", "dalsegno-sim", "--"])
        .args(arguments);
    status(command, "the simulator")
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    run("cargo", arguments)
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).env("RUN_SLOW", "1");
    status(command, &format!("{program} {}", arguments.join(" ")))
}

pub(crate) fn status(mut command: Command, what: &str) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what} ended with {status}")),
        Err(error) => Err(format!("{what} cannot be run: {error}")),
    }
}

pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}
