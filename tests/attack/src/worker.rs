//! The code that the host under attack runs, in a worker that this process connects to it.
//!
//! An instance of `Collect` returns its input and the numbers of its events; an entity `Tally` stores the numbers
//! of its signals. So what became of every acknowledged operation is seen in values, once for each operation.

use std::net::SocketAddr;

use dalsegno::{
    App, ConnectedApp, ExternalEvent, OrchestrationContext, Result, activity, entity, orchestrator,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::broken::{Broken, Outcome, ensure};
use crate::process::PROCESS_CUT_OFF;

/// The event of an instance of `Collect`; [`END`] ends it.
pub(crate) const NOTE: ExternalEvent<u64> = ExternalEvent::new("note");

/// The number that no operation has.
pub(crate) const END: u64 = 0;

/// What an instance of `Collect` returns.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Collected {
    pub(crate) input: String,
    pub(crate) notes: Vec<u64>,
}

/// Collects the numbers of its events until the end; some of them go through an activity.
#[orchestrator(name = "Collect")]
async fn collect(ctx: &OrchestrationContext, input: String) -> Result<Collected> {
    let mut notes = Vec::new();
    loop {
        let note = ctx.wait_for_event(NOTE).await?;
        match note {
            END => return Ok(Collected { input, notes }),
            note if note % 3 == 0 => notes.push(ctx.call(echo, note).await?),
            note => notes.push(note),
        }
    }
}

/// Returns its input.
#[activity(name = "Echo")]
async fn echo(number: u64) -> u64 {
    number
}

/// Waits for an hour, with a large custom status.
#[orchestrator(name = "Sleep")]
async fn sleep(ctx: &OrchestrationContext, status: String) -> Result<()> {
    ctx.set_custom_status(status);
    ctx.timer(std::time::Duration::from_secs(3_600)).await;
    Ok(())
}

/// Returns its input.
#[orchestrator(name = "Return")]
async fn return_input(_ctx: &OrchestrationContext, input: String) -> Result<String> {
    Ok(input)
}

/// Reads an entity, behind the signals that were sent before.
#[orchestrator(name = "ReadTally")]
async fn read_tally(ctx: &OrchestrationContext, key: String) -> Result<Vec<u64>> {
    Ok(ctx.entity::<Tally>(key).all().await?)
}

/// The numbers of the signals that it received.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    numbers: Vec<u64>,
}

#[entity]
impl Tally {
    fn add(&mut self, number: u64) {
        self.numbers.push(number);
    }

    fn all(&self) -> Vec<u64> {
        self.numbers.clone()
    }
}

/// A worker that is connected until it is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    app: Option<ConnectedApp>,
    runtime: Option<Runtime>,
}

impl Worker {
    /// Connects to a host and waits for the connection.
    pub(crate) fn connect(address: SocketAddr) -> Outcome<Self> {
        let worker = Self::start(address)?;
        let (Some(app), Some(runtime)) = (&worker.app, &worker.runtime) else {
            return Err(Broken::new("the worker has ended"));
        };
        let connected =
            runtime.block_on(async { tokio::time::timeout(PROCESS_CUT_OFF, app.connected()).await });
        ensure(connected.is_ok(), || {
            format!("the worker had no connection after {PROCESS_CUT_OFF:?}")
        })?;
        Ok(worker)
    }

    /// Begins to connect: the host may end before the worker has reached it.
    pub(crate) fn start(address: SocketAddr) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let entered = runtime.enter();
        let app = App::new()
            .register(collect)
            .register(echo)
            .register(sleep)
            .register(return_input)
            .register(read_tally)
            .entity::<Tally>()
            .connect(format!("http://{address}"))
            .start()
            .map_err(|error| Broken::new(format!("the worker does not start: {error}")))?;
        drop(entered);
        Ok(Self {
            app: Some(app),
            runtime: Some(runtime),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let entered = runtime.enter();
            drop(self.app.take());
            drop(entered);
            // Threads that still run user code would hold up the end of an attack.
            runtime.shutdown_background();
        }
    }
}
