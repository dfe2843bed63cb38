//! What leaves memory.

use std::sync::Arc;

use dalsegno_core::EntityId;
use dalsegno_core::query::EntityQuery;
use dalsegno_core::store::Store;
use dalsegno_engine::input::Command;
use dalsegno_engine::marks::Suspects;
use dalsegno_store_memory::MemoryStore;

use crate::simulated::{self, answer};

#[test]
fn entities_that_nobody_uses_leave_memory_and_come_back() {
    // They stayed for ever, deleted ones too.
    let store = Arc::new(MemoryStore::new(1));
    let mut hub = simulated::open(store.clone(), Suspects::default());
    for round in 0..2 {
        for number in 0..100 {
            let entity = EntityId::new("thing", &number.to_string()).expect("a good name");
            let signal = hub.ask(&entity.to_string(), |reply| Command::Signal {
                entity: entity.clone(),
                operation: "add".into(),
                input: None,
                at: None,
                trace: None,
                reply,
            });
            assert_eq!(answer(&mut hub, &signal), Ok(()), "round {round}");
        }
        assert!(hub.entities_in_memory() <= 25, "{}", hub.entities_in_memory());
    }
    let query = EntityQuery {
        limit: 1000,
        ..EntityQuery::default()
    };
    assert_eq!(store.list_entities(&query).expect("it reads").rows.len(), 100);
}
