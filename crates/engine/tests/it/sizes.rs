//! Values beyond `payload_bytes_max` fail the step that made them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dalsegno_core::limits::Limits;
use dalsegno_core::query::Status;
use dalsegno_core::store::{Commit, Op, Store};
use dalsegno_core::{Action, EntityId, Payload, TaskId};
use dalsegno_engine::input::Command;
use dalsegno_engine::marks::Suspects;
use dalsegno_store_memory::MemoryStore;
use dalsegno_store_tests::{FailingStore, Fate, Faults};

use crate::app::{self, SOON, id, start};
use crate::simulated::{self, answer};

#[tokio::test(flavor = "multi_thread")]
async fn what_code_makes_is_bounded_as_what_clients_send_is() {
    let hub = app::hub(&Arc::default());
    for (name, says) in [
        ("large-output", "ends with, a value of"),
        ("large-result", "the activity returned a value of"),
        ("@large", "the operation returned, sent or became a value of"),
    ] {
        hub.start(start(name)).await.expect("it starts");
        let ended = hub.wait_for_completion(&id(name), Some(SOON)).await;
        let row = ended.expect("it ends").row;
        assert_eq!(row.status, Status::Failed, "{name}");
        let failure = row.failure.expect("it failed");
        assert_eq!(&*failure.kind, "PayloadTooLarge");
        assert!(failure.message.contains(says), "{name}: {failure}");
        assert!(
            failure.message.contains("payload_bytes_max is 2097152"),
            "{failure}"
        );
    }
    let entity = EntityId::new("thing", "a").expect("a good name");
    assert_eq!(
        hub.entity(&entity)
            .await
            .expect("it reads")
            .and_then(|row| row.state),
        None
    );
    hub.shutdown(SOON).await;
}

#[test]
fn every_value_of_an_action_is_seen() {
    let action = Action::ScheduleTask {
        task: TaskId(0),
        name: "a".into(),
        input: Some("1".into()),
        options: Default::default(),
    };
    assert_eq!(action.value(), Some(&"1".into()));
}

/// The most bytes of messages that one commit has had.
struct Largest(Arc<AtomicUsize>);

impl Faults for Largest {
    fn append(&mut self, batch: &[Commit]) -> Fate {
        let bytes = |op: &Op| match op {
            Op::PutMessage { data, .. } => data.len(),
            _ => 0,
        };
        for commit in batch {
            self.0
                .fetch_max(commit.ops.iter().map(bytes).sum(), Ordering::SeqCst);
        }
        Fate::Taken
    }
}

#[test]
fn a_turn_of_an_entity_is_bounded_though_its_queue_is_long() {
    // All that was queued went into one commit, which the log could not take: the hub hung for good.
    const VALUE: usize = 10_000;
    const SIGNALS: usize = 50;
    let limits = Limits {
        turn_bytes_max: 5 * VALUE,
        ..Limits::default()
    };
    // Operations that send as much as they get, and operations that wait while another runs.
    for operation in ["forward", "add"] {
        let store = Arc::new(MemoryStore::new(1));
        let largest = Arc::new(AtomicUsize::default());
        let failing = Arc::new(FailingStore::new(store.clone(), Largest(largest.clone())));
        let mut hub = simulated::open_with(failing, Suspects::default(), 0, limits.clone());
        let entity = EntityId::new("thing", "a").expect("a good name");
        let signals: Vec<_> = (0..SIGNALS)
            .map(|_| {
                hub.ask("@thing@a", |reply| Command::Signal {
                    entity: entity.clone(),
                    operation: operation.into(),
                    input: Some(Payload::from(format!("\"{}\"", "x".repeat(VALUE)))),
                    at: None,
                    trace: None,
                    reply,
                })
            })
            .collect();
        for signal in &signals {
            assert_eq!(answer(&mut hub, signal), Ok(()));
        }
        simulated::settle(&mut hub);
        let most = largest.load(Ordering::SeqCst);
        assert!((1..=7 * VALUE).contains(&most), "{operation}: {most} bytes");
        let row = store.entity(&entity).expect("it reads").expect("it is there");
        assert_eq!(row.state, Some("1".into()));
    }
}
