//! `cargo run --release -p dalsegno-bench [-- --quick] [--only W1]`: runs the workloads, prints a
//! table on stderr and JSON on stdout.

mod machine;
mod workloads;

use std::io::Write;

use dalsegno::Result;
use serde_json::json;
use workloads::Figure;

/// How much of each workload.
struct Sizes {
    latency_runs: usize,
    instances: u64,
    fans: [u64; 3],
    waiting: u64,
    history: u64,
    signals: u64,
}

const FULL: Sizes = Sizes {
    latency_runs: 200,
    instances: 20_000,
    fans: [1_000, 10_000, 100_000],
    waiting: 100_000,
    history: 10_000,
    signals: 1_000_000,
};

const QUICK: Sizes = Sizes {
    latency_runs: 50,
    instances: 2_000,
    fans: [100, 1_000, 10_000],
    waiting: 5_000,
    history: 1_000,
    signals: 20_000,
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
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let before = machine::sync_latency(folder.path())?;
    eprintln!(
        "sync latency L {:.3} ms, load {:.1}",
        before.as_secs_f64() * 1e3,
        machine::load()
    );
    eprintln!(
        "{:<34} {:>9} {:>8} {:>10} {:>8} {:>7} {:>6}",
        "workload", "count", "seconds", "per s", "CPU µs", "syncs", "MB"
    );
    let wanted = |name: &str| only.is_none_or(|only| name.starts_with(only.as_str()));
    let mut figures = Vec::new();
    for name in ["L1", "W1", "W2", "W3", "W4", "E1"]
        .into_iter()
        .filter(|name| wanted(name))
    {
        let place = tempfile::tempdir_in(folder.path())?;
        for figure in runtime.block_on(measure(name, place.path(), &sizes))? {
            print(&figure);
            figures.push(figure);
        }
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

async fn measure(name: &str, place: &std::path::Path, sizes: &Sizes) -> Result<Vec<Figure>> {
    let host = workloads::open(place).await?;
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
        "W4" => vec![workloads::long(&host, sizes.history).await?],
        _ => vec![workloads::signals(&host, sizes.signals, sizes.signals / 100).await?],
    };
    host.shutdown().await;
    Ok(figures)
}

fn print(figure: &Figure) {
    eprintln!(
        "{:<34} {:>9} {:>8.2} {:>10.0} {:>8.1} {:>7} {:>6}  {}",
        figure.workload,
        figure.count,
        figure.seconds,
        figure.per_second,
        figure.cpu_micros_each,
        figure.syncs,
        figure.resident_megabytes,
        figure.note
    );
}
