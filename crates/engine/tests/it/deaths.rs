//! Activities that kill their process.

use std::sync::Arc;

use dalsegno_core::query::Status;
use dalsegno_engine::marks::Suspects;
use dalsegno_engine::simulation::{SimHub, Stepped};
use dalsegno_store_memory::MemoryStore;

use crate::app::id;
use crate::simulated::{self, KILLS_MAX, begin, settle};

/// Goes on until an attempt runs that is not the first one.
fn until_retry_runs(hub: &mut SimHub) {
    for _ in 0..1000 {
        if hub.running_tasks().count() == 1
            && hub.now() > dalsegno_engine::simulation::SimOptions::default().start
        {
            return;
        }
        match hub.step().expect("the store takes it") {
            Stepped::WaitsUntil(due) => hub.advance(due.since(hub.now())),
            Stepped::Moved | Stepped::Idle => {}
        }
    }
    panic!("no second attempt runs");
}

#[test]
fn a_retry_that_kills_the_process_is_counted_too() {
    // The stored record of a task that is tried again has a due time, also while the retry runs: it
    // was taken for one that waits, so its kills were never counted, and the process died for ever.
    let store = Arc::new(MemoryStore::new(1));
    let mut hub = simulated::open(store.clone(), Suspects::default());
    begin(&mut hub, "frail");
    until_retry_runs(&mut hub);
    for _ in 0..KILLS_MAX {
        let suspects = Suspects {
            tasks: hub.running_tasks().collect(),
            ..Suspects::default()
        };
        assert_eq!(suspects.tasks.len(), 1);
        hub = simulated::open(Arc::new(store.reopen()), suspects);
        for _ in 0..1000 {
            if hub.running_tasks().count() == 1 || hub.step().expect("the store takes it") == Stepped::Idle {
                break;
            }
        }
    }
    settle(&mut hub);
    let row = hub
        .store()
        .instance(&id("frail"))
        .expect("it reads")
        .expect("it is there");
    assert_eq!(row.status, Status::Failed);
    assert_eq!(&*row.failure.expect("it failed").kind, "Poisoned");
}
