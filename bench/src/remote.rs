//! G1 and G2: sequences and fans whose code runs in another process and speaks gRPC with the hub.
//! P1 and P2: the same with a worker in Python, if `DALSEGNO_PYTHON` names an interpreter that has
//! the package `durabletask`. CPU time is the server's: starts, waits and the log are in it, the
//! worker is not.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use dalsegno::{App, Error, Host, HostSettings, RemoteWorkers, Result, until_ended};

use crate::workloads::{self, Figure};
use crate::{Sizes, again};

/// Makes this program the worker: `--be-worker ADDRESS`.
pub(crate) const WORKER: &str = "--be-worker";

/// The environment variable that names the interpreter.
const PYTHON: &str = "DALSEGNO_PYTHON";

/// The worker, in the other process.
pub(crate) async fn work(address: &str) -> Result<()> {
    let worker = workloads::app().connect(address).start()?;
    until_ended().await;
    drop(worker);
    Ok(())
}

/// Ends the worker when it is dropped.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        // One that is gone already needs no end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Worker {
    fn spawn(name: &str, address: &str) -> Result<Option<Self>> {
        let mut command = match name.starts_with('G') {
            true => again(&[WORKER.as_ref(), address.as_ref()])?,
            false => match std::env::var_os(PYTHON) {
                Some(python) => {
                    let mut command = Command::new(python);
                    command.args(["-c", PROGRAM, address.trim_start_matches("http://")]);
                    command
                }
                None => return Ok(None),
            },
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Some(Self(child)))
    }
}

/// Runs one of the workloads.
pub(crate) async fn measure(name: &str, place: &Path, sizes: &Sizes) -> Result<Vec<Figure>> {
    let settings = HostSettings {
        remote_workers: RemoteWorkers::ThisHub,
        ..HostSettings::in_folder(place.join("hub"))
    };
    let host = App::new().start(settings).await?;
    let address = host
        .address()
        .ok_or_else(|| Error::msg("the host does not listen"))?;
    let Some(worker) = Worker::spawn(name, &format!("http://{address}"))? else {
        host.shutdown().await;
        return Ok(Vec::new());
    };
    // The first one connects, and warms up what is made once.
    workloads::sequences(&host, 1, "").await?;
    let figures = run(name, &host, sizes).await;
    drop(worker);
    host.shutdown().await;
    figures
}

async fn run(name: &str, host: &Host, sizes: &Sizes) -> Result<Vec<Figure>> {
    let goal = |figure: Figure, goal: &str| Figure {
        note: goal.to_owned(),
        ..figure
    };
    let sequence_goal = "CPU is the server's; goal 8,000/s, aim 15,000/s and 40 µs";
    Ok(match name {
        "G1" => vec![goal(
            workloads::sequences(host, sizes.instances, "G1 W1 over gRPC, Rust worker").await?,
            sequence_goal,
        )],
        "P1" => vec![goal(
            workloads::sequences(host, sizes.python[0], "P1 W1 over gRPC, Python worker").await?,
            "CPU is the server's; aim 40 µs",
        )],
        _ => {
            let (counts, worker) = match name {
                "G2" => (sizes.fans.to_vec(), "Rust"),
                _ => (vec![sizes.python[1]], "Python"),
            };
            let mut figures = Vec::new();
            for count in counts {
                let figure = workloads::fan(host, count).await?;
                let workload = format!("{name} {} over gRPC, {worker} worker", figure.workload);
                figures.push(goal(
                    Figure { workload, ..figure },
                    "CPU is the server's; aim 40 µs",
                ));
            }
            figures
        }
    })
}

/// The same functions with the official SDK.
const PROGRAM: &str = r#"
import logging, sys, threading
from durabletask import task
from durabletask.worker import TaskHubGrpcWorker

def greet(ctx, city):
    return f"Hello {city}!"

def sequence(ctx, _):
    greetings = []
    for city in ["Tokyo", "Seattle", "London", "Cairo", "Lima"]:
        greetings.append((yield ctx.call_activity(greet, input=city)))
    return greetings

def square(ctx, number):
    return number * number

def fan_out(ctx, count):
    squares = yield task.when_all([ctx.call_activity(square, input=number) for number in range(count)])
    return sum(squares)

logging.disable(logging.INFO)
with TaskHubGrpcWorker(host_address=sys.argv[1]) as worker:
    for activity in (greet, square):
        worker.add_activity(activity)
    for orchestrator in (sequence, fan_out):
        worker.add_orchestrator(orchestrator)
    worker.start()
    threading.Event().wait()
"#;
