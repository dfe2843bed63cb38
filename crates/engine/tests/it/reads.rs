//! Reads that fail: for the moment, or because of damage.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dalsegno_core::query::{InstanceQuery, LargeValues, Status};
use dalsegno_core::store::{Commit, CommitError, Field, InstanceRow, Op, ReadError, Store};
use dalsegno_core::{EntityId, ExecutionKey, FaultKind, PartitionId};
use dalsegno_engine::HubErrorKind;
use dalsegno_engine::input::{Command, IdOrigin};
use dalsegno_engine::loader::{list, read_history, read_history_page};
use dalsegno_engine::marks::Suspects;
use dalsegno_engine::request::RequestErrorKind;
use dalsegno_engine::simulation::SimHub;
use dalsegno_store_memory::MemoryStore;
use dalsegno_store_tests::{FailingStore, Fate, Faults};

use crate::app::{self, id, start};
use crate::simulated::{self, answer, begin, raise, settle};

/// Which reads fail, and how many there were.
#[derive(Debug, Default)]
struct Plan {
    /// Reads before the first that fails.
    passed: AtomicI64,
    /// Reads that fail then.
    failing: AtomicI64,
    is_damage: bool,
    /// Another process has the store by the time reads fail.
    is_fenced: bool,
    reads: AtomicU64,
}

impl Plan {
    fn failing(passed: i64, failing: i64, is_damage: bool) -> Arc<Self> {
        Arc::new(Self {
            passed: passed.into(),
            failing: failing.into(),
            is_damage,
            is_fenced: false,
            reads: AtomicU64::default(),
        })
    }
}

struct Planned(Arc<Plan>);

impl Faults for Planned {
    fn append(&mut self, _batch: &[Commit]) -> Fate {
        match self.0.is_fenced && self.0.passed.load(Ordering::SeqCst) < 0 {
            true => Fate::Fenced,
            false => Fate::Taken,
        }
    }

    fn read_fails(&mut self) -> bool {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        self.0.passed.fetch_sub(1, Ordering::SeqCst) <= 0 && self.0.failing.fetch_sub(1, Ordering::SeqCst) > 0
    }

    fn is_damage(&self) -> bool {
        self.0.is_damage
    }
}

/// A hub after a restart, with an instance that waits for an event, and whose reads fail so.
fn restarted(plan: &Arc<Plan>) -> (Arc<MemoryStore>, SimHub) {
    let store = Arc::new(MemoryStore::new(1));
    let mut hub = simulated::open(store.clone(), Suspects::default());
    begin(&mut hub, "wait");
    settle(&mut hub);
    let store = Arc::new(store.reopen());
    let failing = FailingStore::new(store.clone(), Planned(plan.clone()));
    (store, simulated::open(Arc::new(failing), Suspects::default()))
}

fn row(store: &MemoryStore) -> InstanceRow {
    store
        .instance(&id("wait"))
        .expect("it reads")
        .expect("it is there")
}

const FOR_EVER: i64 = i64::MAX;

#[test]
fn a_read_that_fails_for_the_moment_is_tried_again_after_a_pause() {
    // Of the row first, then of the history, which once parked the instance as damaged.
    for passed in [0, 1] {
        let plan = Plan::failing(passed, 3, false);
        let (store, mut hub) = restarted(&plan);
        let before = hub.now();
        let raised = raise(&mut hub, "wait");
        assert_eq!(answer(&mut hub, &raised), Ok(()));
        let row = row(&store);
        assert_eq!((row.status, row.parked), (Status::Completed, None));
        assert!(
            hub.now().since(before) >= Duration::from_millis(600),
            "three pauses"
        );
    }
}

#[test]
fn a_store_that_is_anothers_is_noticed_by_a_read_that_fails() {
    // The host tried to read again for ever, and its client waited as long.
    let plan = Arc::new(Plan {
        failing: FOR_EVER.into(),
        is_fenced: true,
        ..Plan::default()
    });
    let (_, mut hub) = restarted(&plan);
    let raised = raise(&mut hub, "wait");
    let until = hub.now() + Duration::from_secs(60);
    assert!(matches!(hub.run(until), Err(CommitError::Fenced)));
    assert!(raised.take().is_none(), "nothing is answered");
    assert_eq!(plan.reads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_damaged_row_refuses_what_is_asked_and_is_not_read_for_ever() {
    let plan = Plan::failing(0, FOR_EVER, true);
    let (_, mut hub) = restarted(&plan);
    let raised = raise(&mut hub, "wait");
    let error = answer(&mut hub, &raised).expect_err("it cannot be read");
    assert_eq!(
        (error.kind, error.code),
        (RequestErrorKind::Internal, "hub_damaged")
    );
    assert!(error.detail.contains("instance wait cannot be read"), "{error}");
    assert_eq!(plan.reads.load(Ordering::SeqCst), 1);
    // The damage was on the way, not in the store: another command reads again.
    plan.failing.store(0, Ordering::SeqCst);
    let raised = raise(&mut hub, "wait");
    assert_eq!(answer(&mut hub, &raised), Ok(()));
}

#[test]
fn a_damaged_history_parks_its_instance_for_all_to_see() {
    let plan = Plan::failing(1, FOR_EVER, true);
    let (store, mut hub) = restarted(&plan);
    let raised = raise(&mut hub, "wait");
    assert_eq!(answer(&mut hub, &raised), Ok(()), "the event is stored");
    let fault = row(&store).parked.expect("the row says it");
    assert_eq!(fault.kind, FaultKind::Damaged);
    assert_eq!(plan.reads.load(Ordering::SeqCst), 2);

    // A start tries it again; a backup may be there now.
    let mut hub = simulated::open(Arc::new(store.reopen()), Suspects::default());
    settle(&mut hub);
    assert_eq!(row(&store).status, Status::Completed);
}

#[test]
fn a_history_that_is_shorter_than_its_row_says_is_damage() {
    // It was taken for an empty one, and the code began again from the start.
    let store = Arc::new(MemoryStore::new(1));
    let mut hub = simulated::open(store.clone(), Suspects::default());
    begin(&mut hub, "wait");
    let neighbour = id("wait-too");
    let started = hub.ask("wait-too", |reply| Command::Start {
        id: neighbour.clone(),
        is_new_id: IdOrigin::Given,
        options: Box::new(start("wait")),
        reply,
    });
    assert!(answer(&mut hub, &started).is_ok());
    drop(hub);
    let lost = row(&store).key;
    let history = store.history(lost).expect("it reads");
    assert!(!history.is_empty());
    // What a commit cannot do: the events go, the row stays.
    let row_then = row(&store);
    let wipe = vec![
        Op::DeleteExecution {
            key: lost,
            id: id("wait"),
        },
        Op::PutInstance(Box::new(row_then)),
    ];
    let commit = Commit {
        partition: PartitionId(0),
        epoch: store.load_hub().expect("it reads").epoch,
        ops: wipe,
    };
    store.append(&mut vec![commit]).expect("it takes it");

    let store = Arc::new(store.reopen());
    let mut hub = simulated::open(store.clone(), Suspects::default());
    for name in ["wait", "wait-too"] {
        let raised = raise(&mut hub, name);
        assert_eq!(answer(&mut hub, &raised), Ok(()), "the event is stored");
    }
    let fault = row(&store).parked.expect("the row says it");
    assert_eq!(fault.kind, FaultKind::Damaged);
    assert!(
        fault.message.contains("ends at event 0, its row says"),
        "{fault:?}"
    );
    let error = read_history(&*store, &row(&store)).expect_err("it is shorter");
    assert!(error.is_damage(), "{error}");
    let page = read_history_page(&*store, &row(&store), 0, LargeValues::Read, 1_000);
    assert!(page.expect_err("it is shorter").is_damage());
    let neighbour = store.instance(&neighbour).expect("it reads");
    assert_eq!(neighbour.expect("it is there").status, Status::Completed);
    // One that was purged while it was read is none.
    let mut gone = row(&store);
    gone.key = ExecutionKey(99);
    assert_eq!(read_history(&*store, &gone).expect("it reads"), []);
}

#[test]
fn a_damaged_entity_keeps_its_signals_stored() {
    let plan = Plan::failing(0, FOR_EVER, true);
    let (store, mut hub) = restarted(&plan);
    let entity = EntityId::new("thing", "a").expect("a good name");
    for _ in 0..2 {
        let signal = hub.ask("@thing@a", |reply| Command::Signal {
            entity: entity.clone(),
            operation: "add".into(),
            input: None,
            at: None,
            trace: None,
            reply,
        });
        assert_eq!(answer(&mut hub, &signal), Ok(()));
    }
    let delete = hub.ask("@thing@a", |reply| Command::DeleteEntity {
        entity: entity.clone(),
        reply,
    });
    let error = answer(&mut hub, &delete).expect_err("it cannot be read");
    assert!(error.detail.contains("entity @thing@a cannot be read"), "{error}");
    assert_eq!(plan.reads.load(Ordering::SeqCst), 1);
    let stored = store.load(PartitionId(0)).expect("it reads").messages;
    assert_eq!(stored.len(), 2);

    let mut hub = simulated::open(Arc::new(store.reopen()), Suspects::default());
    settle(&mut hub);
    let row = store.entity(&entity).expect("it reads").expect("it is there");
    assert_eq!(row.state, Some("1".into()));
}

#[test]
fn an_instance_whose_value_is_missing_is_listed_as_damaged_beside_its_neighbours() {
    // The whole list failed, and with it the overview and every purge by filter.
    let mut hub = simulated::open(Arc::new(MemoryStore::new(1)), Suspects::default());
    begin(&mut hub, "wait");
    settle(&mut hub);
    let store = hub.store().clone();
    let whole = store
        .instance(&id("wait"))
        .expect("it reads")
        .expect("it is there");
    let mut damaged = InstanceRow {
        key: ExecutionKey(99),
        id: id("damaged"),
        parked: None,
        ..whole
    };
    damaged.apart.set(Field::Output, true);
    let commit = Commit {
        partition: PartitionId(0),
        epoch: store.load_hub().expect("it reads").epoch,
        ops: vec![Op::PutInstance(Box::new(damaged))],
    };
    store.append(&mut vec![commit]).expect("it takes it");
    let query = InstanceQuery::default();
    let page = list(&*store, &query, usize::MAX).expect("it lists");
    let mut found: Vec<_> = page
        .rows
        .iter()
        .map(|row| (row.id.as_str(), row.parked.as_ref().map(|fault| fault.kind)))
        .collect();
    found.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(found, [("damaged", Some(FaultKind::Damaged)), ("wait", None)]);
}

/// Fails one read that a start makes: the one of the hub, or one of a partition.
struct FailingStart {
    reads_before: u32,
    error: fn() -> ReadError,
}

impl Faults for FailingStart {
    fn append(&mut self, _batch: &[Commit]) -> Fate {
        Fate::Taken
    }

    fn start_fails(&mut self) -> Option<ReadError> {
        let is_this_one = self.reads_before == 0;
        self.reads_before = self.reads_before.wrapping_sub(1);
        is_this_one.then_some((self.error)())
    }
}

#[tokio::test]
async fn a_start_that_cannot_read_says_whether_another_may_succeed() {
    // Every such error ended the process with the code for anything unexpected.
    let errors: [(fn() -> ReadError, HubErrorKind); 3] = [
        (
            || ReadError::transient("input/output error"),
            HubErrorKind::Transient,
        ),
        (
            || ReadError::damaged("message 7 is damaged"),
            HubErrorKind::Damaged,
        ),
        (
            || ReadError::fenced("another process has it"),
            HubErrorKind::InUse,
        ),
    ];
    for (error, kind) in errors {
        // The hub, the first partition, the second.
        for reads_before in 0..3 {
            let failing = FailingStore::new(
                Arc::new(MemoryStore::new(2)),
                FailingStart { reads_before, error },
            );
            let refused = app::open(Arc::new(failing)).map(drop).expect_err("a read fails");
            assert_eq!(refused.kind(), kind, "{reads_before}: {refused}");
            assert_eq!(refused.to_string(), error().to_string());
        }
    }
}
