//! What a rewind brings back.

use std::sync::Arc;

use dalsegno_core::query::Status;
use dalsegno_engine::input::Command;
use dalsegno_engine::marks::Suspects;
use dalsegno_store_memory::MemoryStore;

use crate::app::id;
use crate::simulated::{answer, begin, open_failing, settle};

#[test]
fn a_rewound_activity_is_retried_as_its_call_said() {
    // The options of a call stood with its task alone, whose record goes when the task ends: once
    // rewound it had one attempt.
    let store = Arc::new(MemoryStore::new(1));
    let mut hub = open_failing(store.clone(), Suspects::default(), 2);
    begin(&mut hub, "own-retry");
    settle(&mut hub);
    assert_eq!((status(&hub), hub.attempts_run), (Status::Failed, 2));

    let mut hub = open_failing(Arc::new(store.reopen()), Suspects::default(), 1);
    let rewound = hub.ask("own-retry", |reply| Command::Rewind {
        id: id("own-retry"),
        reason: None,
        reply,
    });
    assert_eq!(answer(&mut hub, &rewound), Ok(()));
    assert_eq!((status(&hub), hub.attempts_run), (Status::Completed, 2));
}

fn status(hub: &dalsegno_engine::simulation::SimHub) -> Status {
    let row = hub.store().instance(&id("own-retry")).expect("it reads");
    row.expect("it is there").status
}
