//! What all handles of one test hub share: the simulated hub, its store, and the runtime of activities.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dalsegno_core::query::LargeValues;
use dalsegno_core::store::{InstanceRow, ReadError, Store};
use dalsegno_core::{Event, InstanceId, Timestamp};
use dalsegno_engine::choices::ChoiceTree;
use dalsegno_engine::executor::{ActivityRequest, AttemptOutcome, OperationsEnded};
use dalsegno_engine::input::Command;
use dalsegno_engine::loader::{complete, read_history};
use dalsegno_engine::partition::Entropy;
use dalsegno_engine::request::Answer;
use dalsegno_engine::simulation::{Promise, SimHub, SimOptions, Stepped};
use dalsegno_engine::turn::Reply;
use dalsegno_store_memory::MemoryStore;
use futures::future::BoxFuture;

use super::executor::TestExecutor;
use super::memory::Memory;
use crate::app::App;
use crate::error::{Error, Result};

/// Partitions of a test hub unless every interleaving is tried.
const PARTITIONS: u32 = 3;

/// Most steps in one go; beyond it something never comes to rest.
const STEPS_MAX: u64 = 1_000_000;

/// Longest an activity may take in real time.
const ACTIVITY_SECONDS_MAX: u64 = 30;

/// How often the end of an attempt is reported twice.
const DUPLICATES_SHARE: f64 = 0.1;

/// How a test hub is made.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) memory: Memory,
    pub(super) choices: Option<Arc<Mutex<ChoiceTree>>>,
}

pub(super) struct World {
    sim: SimHub,
    store: Arc<MemoryStore>,
    executor: Arc<TestExecutor>,
    runtime: Arc<tokio::runtime::Runtime>,
    setup: Setup,
    /// Seeds of the lives after crashes.
    entropy: Entropy,
    instances: u64,
}

impl World {
    pub(super) fn new(app: App, setup: Setup) -> Result<Self> {
        let partitions = if setup.choices.is_some() { 1 } else { PARTITIONS };
        let store = Arc::new(MemoryStore::new(partitions));
        let executor = Arc::new(TestExecutor::new(app.into_registry()?, setup.memory, setup.seed));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let runtime = Arc::new(runtime);
        let mut entropy = Entropy::seeded(setup.seed);
        let start = SimOptions::default().start;
        let sim = open(
            &store,
            &executor,
            &runtime,
            options(&setup, &mut entropy, start, &executor),
        )?;
        Ok(Self {
            sim,
            store,
            executor,
            runtime,
            setup,
            entropy,
            instances: 0,
        })
    }

    pub(super) fn executor(&self) -> &TestExecutor {
        &self.executor
    }

    pub(super) fn now(&self) -> Timestamp {
        self.sim.now()
    }

    pub(super) fn next_id(&mut self) -> InstanceId {
        self.instances += 1;
        InstanceId::trusted(format!("test-{}", self.instances))
    }

    /// Opens the store again: what was not durable is gone.
    pub(super) fn crash(&mut self) -> Result<()> {
        let now = self.sim.now();
        self.store = Arc::new(self.store.reopen());
        let options = options(&self.setup, &mut self.entropy, now, &self.executor);
        self.sim = open(&self.store, &self.executor, &self.runtime, options)?;
        Ok(())
    }

    /// One step. The clock does not move.
    pub(super) fn step(&mut self) -> Stepped {
        let stepped = self.sim.step();
        stepped.unwrap_or_else(|error| panic!("the store in memory refuses a batch: {error}"))
    }

    /// Steps until nothing moves; the clock jumps to what is due up to `until`.
    pub(super) fn run(&mut self, until: Timestamp) {
        for _ in 0..STEPS_MAX {
            match self.step() {
                Stepped::Moved => {}
                Stepped::WaitsUntil(due) if due <= until => {
                    let wait = due.since(self.sim.now());
                    self.sim.advance(wait);
                }
                Stepped::WaitsUntil(_) | Stepped::Idle => return,
            }
        }
        panic!(
            "the hub does not come to rest within {STEPS_MAX} steps: something goes on for ever, such as an eternal \
             orchestration; let a time pass with `advance` instead of `run`"
        );
    }

    pub(super) fn advance_to(&mut self, time: Timestamp) {
        self.run(time);
        if time > self.sim.now() {
            self.sim.advance(time.since(self.sim.now()));
        }
    }

    /// Asks something and steps until it is answered. The clock does not move.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        id: &str,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Answer<T> {
        let promise: Promise<T> = self.sim.ask(id, command);
        for _ in 0..STEPS_MAX {
            if let Some(answer) = promise.take() {
                return answer;
            }
            if self.step() != Stepped::Moved {
                break;
            }
        }
        let answer = promise.take();
        answer.expect("a hub answers before it comes to rest")
    }

    pub(super) fn row(&self, id: &InstanceId) -> Result<Option<InstanceRow>> {
        let failed = |error: ReadError| Error::msg(error.to_string());
        let Some(mut row) = self.store.instance(id).map_err(failed)? else {
            return Ok(None);
        };
        complete(&*self.store, &mut row, LargeValues::Read).map_err(failed)?;
        Ok(Some(row))
    }

    pub(super) fn history_of(&self, row: &InstanceRow) -> Result<Vec<Event>> {
        read_history(&*self.store, row).map_err(|error| Error::msg(error.to_string()))
    }

    pub(super) fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// What is stored of all instances, by id.
    pub(super) fn histories(&self) -> BTreeMap<String, Vec<Event>> {
        let query = dalsegno_core::query::InstanceQuery {
            limit: usize::MAX,
            ..Default::default()
        };
        let page = self.store.list(&query).expect("a store in memory can be read");
        let history = |row: &InstanceRow| self.history_of(row).expect("a store in memory can be read");
        page.rows
            .iter()
            .map(|row| (row.id.to_string(), history(row)))
            .collect()
    }
}

fn options(setup: &Setup, entropy: &mut Entropy, start: Timestamp, executor: &TestExecutor) -> SimOptions {
    let limiters = executor.registry().limiters();
    SimOptions {
        seed: entropy.next_u64(),
        start,
        duplicates: if setup.choices.is_some() {
            0.0
        } else {
            DUPLICATES_SHARE
        },
        limiters: limiters
            .map(|limiter| (limiter.name().into(), limiter.definition()))
            .collect(),
        batch_turns_max: 0,
        choices: setup.choices.clone(),
        ..SimOptions::default()
    }
}

fn open(
    store: &Arc<MemoryStore>,
    executor: &Arc<TestExecutor>,
    runtime: &Arc<tokio::runtime::Runtime>,
    options: SimOptions,
) -> Result<SimHub> {
    let (for_attempts, for_operations) = (runtime.clone(), runtime.clone());
    let attempt = move |request: &ActivityRequest, future: BoxFuture<'static, AttemptOutcome>| {
        let what = format!("activity {:?}", &*request.name);
        finish(&for_attempts, &what, future)
    };
    let operation = move |future: BoxFuture<'static, OperationsEnded>| {
        finish(&for_operations, "an entity's operation", future)
    };
    let opened = SimHub::open(
        store.clone(),
        executor.clone(),
        options,
        Box::new(attempt),
        Box::new(operation),
    );
    opened.map_err(Error::msg)
}

fn finish<T>(runtime: &tokio::runtime::Runtime, what: &str, future: BoxFuture<'static, T>) -> T {
    let limit = Duration::from_secs(ACTIVITY_SECONDS_MAX);
    let ended = runtime.block_on(async { tokio::time::timeout(limit, future).await });
    ended.unwrap_or_else(|_| {
        panic!("{what} took longer than {ACTIVITY_SECONDS_MAX} s of real time: put a stub in its place")
    })
}
