//! A real hub in a real process, made to be killed: random programs on the embedded store.
//!
//! `kill-target run FOLDER CYCLE` starts, raises and signals until it is killed; a line on stdout
//! before each request and one after its answer. `kill-target finish FOLDER` reads the requests on
//! stdin, asks again for what may have got lost, waits for everything and prints what came out.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;

use dalsegno_core::message::ReusePolicy;
use dalsegno_core::{EntityId, InstanceId, Payload};
use dalsegno_engine::partition::Entropy;
use dalsegno_engine::request::{RaisedEvent, Signal, StartOptions};
use dalsegno_engine::{HubOptions, TaskHub};
use dalsegno_sim::interpreter::{Programs, event_name, input_of};
use dalsegno_sim::program::{COUNTERS, Program, Statement, below};
use dalsegno_sim::scenario::{choose_program, programs_of};
use dalsegno_store_embedded::{EmbeddedStore, Options};
use futures::StreamExt;

/// Seed of the programs; the parent process knows it too.
const PROGRAMS_SEED: u64 = 11;

/// Instances that are waited for at once at the end.
const FINISHED_AT_ONCE: usize = 256;

/// Clients that ask at once.
const CLIENTS: usize = 8;

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "run", folder, cycle] => runtime.block_on(run(folder.as_ref(), cycle.parse()?)),
        [_, "finish", folder] => runtime.block_on(finish(folder.as_ref())),
        _ => Err("usage: kill-target run FOLDER CYCLE | finish FOLDER".into()),
    }
}

fn open(folder: &Path, programs: &Arc<Vec<Program>>) -> Result<TaskHub, Failed> {
    let options = Options {
        partitions: 4,
        segment_bytes: 1024 * 1024,
        ..Options::default()
    };
    let store = Arc::new(EmbeddedStore::open(folder, options)?);
    Ok(TaskHub::open(
        store,
        Arc::new(Programs::new(programs.clone())),
        HubOptions::default(),
    )?)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The parent reads until it kills us; what it cannot read does not matter any more.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

async fn run(folder: &Path, cycle: u64) -> Result<(), Failed> {
    let programs = Arc::new(programs_of(PROGRAMS_SEED));
    let hub = open(folder, &programs)?;
    let clients = (0..CLIENTS).map(|client| {
        let (hub, programs) = (hub.clone(), programs.clone());
        tokio::spawn(async move {
            let mut entropy = Entropy::seeded(cycle * 1_000 + client as u64);
            for number in 0_u64.. {
                let id = format!("k{cycle}-{client}-{number}");
                let program = choose_program(&mut entropy, &programs);
                ask_all(&hub, &programs, &id, program).await;
                let (counter, amount) = (below(&mut entropy, COUNTERS as usize), 1 + below(&mut entropy, 5));
                say(&format!("signalling {counter} {amount}"));
                if signal(&hub, counter, amount).await {
                    say(&format!("signalled {counter} {amount}"));
                }
            }
        })
    });
    futures::future::join_all(clients).await;
    Ok(())
}

/// Starts an instance and raises all it waits for.
async fn ask_all(hub: &TaskHub, programs: &[Program], id: &str, program: usize) {
    say(&format!("starting {id} {program}"));
    if start(hub, id, program).await {
        say(&format!("started {id} {program}"));
        raise_all(hub, programs, id, program).await;
    }
}

async fn start(hub: &TaskHub, id: &str, program: usize) -> bool {
    let options = StartOptions {
        name: "program".to_owned(),
        id: Some(InstanceId::trusted(id)),
        input: Some(input_of(program)),
        reuse: ReusePolicy::ReturnExisting,
        ..StartOptions::default()
    };
    hub.start(options).await.is_ok()
}

async fn raise_all(hub: &TaskHub, programs: &[Program], id: &str, program: usize) {
    for (at, statement) in programs[program].statements.iter().enumerate() {
        if let Statement::Event(value) = statement {
            let input = Some(Payload::from(value.to_string()));
            // A finished instance has had the event: an answer to the first time got lost.
            let _ = hub
                .raise_event(&InstanceId::trusted(id), RaisedEvent::new(event_name(at), input))
                .await;
        }
    }
}

async fn signal(hub: &TaskHub, counter: usize, amount: usize) -> bool {
    let Ok(entity) = EntityId::new("counter", &counter.to_string()) else {
        return false;
    };
    hub.signal_entity(
        &entity,
        Signal::new("add", Some(Payload::from(amount.to_string()))),
    )
    .await
    .is_ok()
}

/// Asks for one instance again, waits for it and says what came out.
async fn finish_one(hub: &TaskHub, programs: &[Program], line: String) -> Result<String, Failed> {
    let [_, id, program] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("cannot read {line:?}: expected x ID PROGRAM").into());
    };
    let program = program.parse()?;
    start(hub, id, program).await;
    raise_all(hub, programs, id, program).await;
    let status = hub.wait_for_completion(&InstanceId::trusted(id), None).await?;
    let output = status.row.output;
    let output = output.map_or_else(String::new, |output| output.as_str().to_owned());
    Ok(format!("done {id} {program} {output}"))
}

async fn finish(folder: &Path) -> Result<(), Failed> {
    let programs = Arc::new(programs_of(PROGRAMS_SEED));
    let hub = open(folder, &programs)?;
    let lines: Vec<String> = std::io::stdin().lock().lines().collect::<Result<_, _>>()?;
    let mut finished = futures::stream::iter(lines)
        .map(|line| finish_one(&hub, &programs, line))
        .buffer_unordered(FINISHED_AT_ONCE);
    while let Some(line) = finished.next().await {
        say(&line?);
    }
    drop(finished);
    for counter in 0..COUNTERS {
        let entity = EntityId::new("counter", &counter.to_string())?;
        let state = hub.entity(&entity).await?.and_then(|row| row.state);
        say(&format!(
            "counter {counter} {}",
            state.map_or_else(|| "0".to_owned(), |state| state.as_str().to_owned())
        ));
    }
    hub.shutdown(std::time::Duration::ZERO).await;
    Ok(())
}
