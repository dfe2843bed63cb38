//! Hubs under a virtual clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dalsegno_core::limits::{Limits, TIMER_MAX};
use dalsegno_core::query::Status;
use dalsegno_core::store::{Commit, Store};
use dalsegno_core::{Failure, Message, PartitionId, Timestamp};
use dalsegno_engine::executor::{ActivityRequest, AttemptOutcome, OperationOutcome, OperationsEnded};
use dalsegno_engine::input::{Command, IdOrigin};
use dalsegno_engine::marks::Suspects;
use dalsegno_engine::record::decode_task;
use dalsegno_engine::request::{Answer, Started};
use dalsegno_engine::simulation::{Promise, RunAttempt, SimHub, SimOptions};
use dalsegno_engine::task::StoredTask;
use dalsegno_store_memory::MemoryStore;
use dalsegno_store_tests::{FailingStore, Fate, Faults};

use crate::app::{ALARM, App, Functions, id, start};

/// Ends of the process that an activity survives, and one.
pub(crate) const KILLS_MAX: u32 = 3;

/// A hub whose first attempts of activities fail.
pub(crate) fn open(store: Arc<dyn Store>, suspects: Suspects) -> SimHub {
    open_failing(store, suspects, 1)
}

/// A hub whose first so many attempts of each activity fail.
pub(crate) fn open_failing(store: Arc<dyn Store>, suspects: Suspects, failing: u32) -> SimHub {
    open_with(store, suspects, failing, Limits::default())
}

/// The same with these limits, but for those that the tests of deaths and evictions need.
pub(crate) fn open_with(store: Arc<dyn Store>, suspects: Suspects, failing: u32, limits: Limits) -> SimHub {
    let limits = Limits {
        kills_max: KILLS_MAX,
        payload_inline_bytes: 64,
        futures_bytes_max: 10_000,
        ..limits
    };
    let options = SimOptions {
        limits,
        suspects,
        ..SimOptions::default()
    };
    let functions = Arc::new(Functions(Arc::<App>::default()));
    SimHub::open(
        store,
        functions,
        options,
        Box::new(move |request, _| match request.attempt {
            attempt if attempt <= failing => AttemptOutcome::Failed {
                failure: Failure::new("Planned", "the first attempts fail"),
                retry_after: None,
            },
            _ => AttemptOutcome::Completed(None),
        }),
        Box::new(|_| {
            OperationsEnded::from(OperationOutcome {
                outcome: Ok(None),
                state: Some("1".into()),
                effects: Vec::new(),
            })
        }),
    )
    .expect("the store can be read")
}

pub(crate) fn begin(hub: &mut SimHub, name: &str) -> Promise<Started> {
    let options = Box::new(start(name));
    hub.ask(name, |reply| Command::Start {
        id: id(name),
        is_new_id: IdOrigin::Given,
        options,
        reply,
    })
}

pub(crate) fn raise(hub: &mut SimHub, name: &str) -> Promise<()> {
    let message = Message::EventRaised {
        name: "go".into(),
        input: None,
        trace: None,
    };
    hub.ask(name, |reply| Command::Raise {
        id: id(name),
        message,
        mark: None,
        reply,
    })
}

/// A hub that runs what its seed says, whose every attempt is reported twice.
fn seeded(store: Arc<dyn Store>, seed: u64, run_attempt: RunAttempt) -> SimHub {
    let options = SimOptions {
        seed,
        duplicates: 1.0,
        wakes_when_due: true,
        ..SimOptions::default()
    };
    let functions = Arc::new(Functions(Arc::<App>::default()));
    let no_operation = Box::new(|_| panic!("there is no entity"));
    SimHub::open(store, functions, options, run_attempt, no_operation).expect("an empty store opens")
}

/// A timer that fired while its instance was read again asked the store for it, which did not have
/// it yet: the timer was deleted as that of an instance which is no more.
#[test]
fn a_timer_that_is_due_while_its_instance_is_read_again_fires() {
    const STEPS: usize = 200;
    for seed in 0..50 {
        let is_slow = Arc::new(AtomicBool::new(true));
        let store = FailingStore::new(Arc::new(MemoryStore::new(1)), Slow(is_slow.clone()));
        let mut hub = seeded(
            Arc::new(store),
            seed,
            Box::new(|_, _| AttemptOutcome::Completed(None)),
        );
        begin(&mut hub, "alarm");
        raise(&mut hub, "alarm");
        hub.ask("alarm", |reply| Command::Rewind {
            id: id("alarm"),
            reason: None,
            reply,
        });
        let mut refused = 0;
        for step in 0..STEPS {
            if step == STEPS / 2 {
                hub.advance(2 * ALARM);
            }
            refused += usize::from(hub.step().is_err());
        }
        assert!(refused > 0, "the disk was slow");
        is_slow.store(false, Ordering::SeqCst);
        settle(&mut hub);
        let row = hub.store().instance(&id("alarm")).expect("it reads");
        let status = row.expect("it is there").status;
        assert_eq!(status, Status::Completed, "seed {seed}");
    }
}

/// History has such a timer when an earlier version wrote it, or when the clock was ahead.
#[test]
fn a_timer_in_a_history_may_be_due_later_than_a_turn_may_ask_for_now() {
    let store = Arc::new(MemoryStore::new(1));
    let open = |start: Timestamp| {
        let app = App {
            has_faulted: AtomicBool::new(true),
            ..App::default()
        };
        let options = SimOptions {
            start,
            ..SimOptions::default()
        };
        let no_attempt: RunAttempt = Box::new(|_, _| panic!("there is no activity"));
        let no_operation = Box::new(|_| panic!("there is no entity"));
        let functions = Arc::new(Functions(Arc::new(app)));
        SimHub::open(
            Arc::new(store.reopen()),
            functions,
            options,
            no_attempt,
            no_operation,
        )
        .expect("the store can be read")
    };
    let (now, later) = (
        Timestamp::from_micros(0),
        Timestamp::from_micros(0) + 2 * TIMER_MAX,
    );
    let mut hub = open(later);
    let begun = begin(&mut hub, "alarm");
    while begun.take().is_none() {
        hub.step().expect("the store takes it");
    }
    drop(hub);
    let mut hub = open(now);
    let raised = raise(&mut hub, "alarm");
    assert_eq!(answer(&mut hub, &raised), Ok(()));
    let row = || {
        store
            .instance(&id("alarm"))
            .expect("it reads")
            .expect("it is there")
    };
    assert_eq!((row().parked, row().status), (None, Status::Running));
    hub.advance(3 * TIMER_MAX);
    settle(&mut hub);
    assert_eq!(row().status, Status::Completed);
}

/// A disk that takes nothing for a while.
struct Slow(Arc<AtomicBool>);

impl Faults for Slow {
    fn append(&mut self, batch: &[Commit]) -> Fate {
        match !batch.is_empty() && self.0.load(Ordering::SeqCst) {
            true => Fate::Refused,
            false => Fate::Taken,
        }
    }
}

/// The receipt of a repeated report was given at once, before what it repeats was durable.
#[test]
fn the_receipt_of_a_repeated_report_is_given_behind_what_it_repeats() {
    for seed in 0..50 {
        let store = Arc::new(MemoryStore::new(1));
        let failures = Arc::<Mutex<Vec<usize>>>::default();
        let (tables, seen) = (store.clone(), failures.clone());
        let run = move |request: &ActivityRequest, _| {
            let (tables, seen) = (tables.clone(), seen.clone());
            request.receipt.request(move || {
                let tasks = tables.load(PartitionId(0)).expect("it reads").tasks;
                let failed = tasks.iter().map(|(key, task, data)| {
                    match decode_task(*key, *task, data).expect("it reads") {
                        StoredTask::Activity(record) => record.failures.len(),
                        other => panic!("{other:?} is no activity"),
                    }
                });
                seen.lock().expect("nobody panics").extend(failed);
            });
            AttemptOutcome::Failed {
                failure: Failure::new("Planned", "as planned"),
                retry_after: None,
            }
        };
        let mut hub = seeded(store, seed, Box::new(run));
        begin(&mut hub, "frail");
        hub.run(hub.now()).expect("the store takes it");
        let failures = failures.lock().expect("nobody panics").clone();
        assert_eq!(failures, [1], "seed {seed}: the failed attempt is stored");
    }
}

/// Runs all that moves within a minute.
pub(crate) fn settle(hub: &mut SimHub) {
    let until = hub.now() + Duration::from_secs(60);
    hub.run(until).expect("the store takes it");
}

/// The answer to something.
pub(crate) fn answer<T: Send + 'static>(hub: &mut SimHub, promise: &Promise<T>) -> Answer<T> {
    settle(hub);
    promise.take().expect("it was answered")
}
