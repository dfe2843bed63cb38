//! `cargo run --release -p dalsegno-bench [-- --quick] [--only W1]`: runs the workloads, each in a
//! process of its own so that its memory is its own, prints a table on stderr and JSON on stdout.

mod machine;
mod remote;
mod workloads;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use dalsegno::Result;
use serde_json::json;
use workloads::Figure;

/// That of the binary `dalsegno`, of which the figures tell.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much of each workload.
struct Sizes {
    latency_runs: usize,
    instances: u64,
    fans: [u64; 3],
    waiting: u64,
    history: u64,
    signals: u64,
    /// Sequences in the hub that is opened with a long history.
    finished: u64,
    /// Sequences and fans whose worker is written in Python, which is slow.
    python: [u64; 2],
}

const WORKLOADS: [&str; 14] = [
    "L1", "W1", "W2", "W3", "W3e", "W4", "E1", "I1", "R1", "R1h", "G1", "G2", "P1", "P2",
];

const FULL: Sizes = Sizes {
    latency_runs: 200,
    instances: 20_000,
    fans: [1_000, 10_000, 100_000],
    waiting: 100_000,
    history: 10_000,
    signals: 1_000_000,
    finished: 440_000,
    python: [400, 1_000],
};

const QUICK: Sizes = Sizes {
    latency_runs: 50,
    instances: 2_000,
    fans: [100, 1_000, 10_000],
    waiting: 5_000,
    history: 1_000,
    signals: 20_000,
    finished: 2_000,
    python: [40, 100],
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let sizes = if arguments.iter().any(|argument| argument == "--quick") {
        QUICK
    } else {
        FULL
    };
    let only = arguments
        .iter()
        .position(|argument| argument == "--only")
        .and_then(|at| arguments.get(at + 1));
    let runtime = tokio::runtime::Runtime::new()?;
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        Some([1, 2].map(|offset| arguments.get(at + offset).cloned().unwrap_or_default()))
    };
    if let Some([load, place]) = after(CHILD) {
        return runtime.block_on(be_killed(&load, Path::new(&place), &sizes));
    }
    if let Some([address, _]) = after(remote::WORKER) {
        return runtime.block_on(remote::work(&address));
    }
    if let Some([name, place]) = after(MEASURED) {
        let figures = runtime.block_on(measure(&name, Path::new(&place), &sizes))?;
        return Ok(writeln!(std::io::stdout(), "{}", json!(figures))?);
    }
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let before = machine::sync_latency(folder.path())?;
    eprintln!(
        "sync latency L {:.3} ms, load {:.1}",
        before.as_secs_f64() * 1e3,
        machine::load()
    );
    eprintln!(
        "{:<34} {:>9} {:>8} {:>10} {:>8} {:>7} {:>6} {:>6}",
        "workload", "count", "seconds", "per s", "CPU µs", "syncs", "MB", "peak"
    );
    let mut figures = Vec::new();
    for name in WORKLOADS
        .into_iter()
        .filter(|name| only.is_none_or(|only| name.starts_with(only.as_str())))
    {
        let place = tempfile::tempdir_in(folder.path())?;
        let told = in_a_process_of_its_own(name, place.path())?;
        told.iter().for_each(print);
        figures.extend(told);
    }
    let after = machine::sync_latency(folder.path())?;
    let summary = json!({
        "syncLatencyMs": { "before": before.as_secs_f64() * 1e3, "after": after.as_secs_f64() * 1e3 },
        "load": machine::load(),
        "figures": figures,
    });
    writeln!(std::io::stdout(), "{summary}")?;
    Ok(())
}

/// Makes this program the one that runs a workload: `--be-measured NAME FOLDER`.
const MEASURED: &str = "--be-measured";

fn in_a_process_of_its_own(name: &str, place: &Path) -> Result<Vec<Figure>> {
    let output = again(&[MEASURED.as_ref(), name.as_ref(), place.as_ref()])?
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(dalsegno::Error::msg(format!(
            "{name} ended with {}",
            output.status
        )));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// This program once more, with these arguments and the sizes of this run.
fn again(arguments: &[&OsStr]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    command.args(std::env::args().filter(|argument| argument == "--quick"));
    Ok(command)
}

/// Makes this program the one that is killed for R1: `--be-killed LOAD FOLDER`.
const CHILD: &str = "--be-killed";

async fn be_killed(load: &str, place: &Path, sizes: &Sizes) -> Result<()> {
    let host = workloads::open(place).await?;
    workloads::run_until_killed(&host, load, killed_at(load, sizes)).await
}

/// How much of a load is done when it is killed.
fn killed_at(load: &str, sizes: &Sizes) -> u64 {
    if load == "W3" {
        sizes.waiting
    } else {
        sizes.instances
    }
}

/// Runs a load in another process, kills that in the middle and opens what it left.
async fn kill_and_recover(load: &str, place: &Path, sizes: &Sizes) -> Result<Figure> {
    let place = place.join(load);
    let mut child = again(&[CHILD.as_ref(), load.as_ref(), place.as_ref()])?
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut said)?;
    }
    child.kill()?;
    child.wait()?;
    workloads::recover(&place, load, killed_at(load, sizes)).await
}

async fn measure(name: &str, place: &Path, sizes: &Sizes) -> Result<Vec<Figure>> {
    if name == "R1h" {
        return Ok(vec![workloads::reopen(place, sizes.finished).await?]);
    }
    if name == "R1" {
        let after_sequences = kill_and_recover("W1", place, sizes).await?;
        return Ok(vec![after_sequences, kill_and_recover("W3", place, sizes).await?]);
    }
    if name.starts_with(['G', 'P']) {
        return remote::measure(name, place, sizes).await;
    }
    let host = match name {
        "W3e" => workloads::open_evicting(place).await?,
        _ => workloads::open(place).await?,
    };
    let figures = match name {
        "L1" => vec![workloads::latency(&host, sizes.latency_runs).await?],
        "W1" => vec![workloads::throughput(&host, sizes.instances).await?],
        "W2" => {
            let mut figures = Vec::new();
            for count in sizes.fans {
                figures.push(workloads::fan(&host, count).await?);
            }
            figures
        }
        "W3" => workloads::park_and_drain(&host, sizes.waiting).await?.into(),
        "W3e" => vec![workloads::park_evicted(&host, sizes.waiting).await?],
        "I1" => vec![workloads::idle(&host, sizes.waiting).await?],
        "W4" => vec![workloads::long(&host, sizes.history).await?],
        _ => vec![workloads::signals(&host, sizes.signals, sizes.signals / 100).await?],
    };
    host.shutdown().await;
    Ok(figures)
}

fn print(figure: &Figure) {
    eprintln!(
        "{:<34} {:>9} {:>8.2} {:>10.0} {:>8.1} {:>7} {:>6} {:>6}  {}",
        figure.workload,
        figure.count,
        figure.seconds,
        figure.per_second,
        figure.cpu_micros_each,
        figure.syncs,
        figure.resident_megabytes,
        figure.peak_megabytes,
        figure.note
    );
}
