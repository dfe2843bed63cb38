//! Hubs under a virtual clock.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::limits::Limits;
use dalsegno_core::store::Store;
use dalsegno_core::{Failure, Message};
use dalsegno_engine::executor::{AttemptOutcome, OperationOutcome, OperationsEnded};
use dalsegno_engine::input::{Command, IdOrigin};
use dalsegno_engine::marks::Suspects;
use dalsegno_engine::request::{Answer, Started};
use dalsegno_engine::simulation::{Promise, SimHub, SimOptions};

use crate::app::{App, Functions, id, start};

/// Ends of the process that an activity survives, and one.
pub(crate) const KILLS_MAX: u32 = 3;

/// A hub whose first attempts of activities fail.
pub(crate) fn open(store: Arc<dyn Store>, suspects: Suspects) -> SimHub {
    open_failing(store, suspects, 1)
}

/// A hub whose first so many attempts of each activity fail.
pub(crate) fn open_failing(store: Arc<dyn Store>, suspects: Suspects, failing: u32) -> SimHub {
    let limits = Limits {
        kills_max: KILLS_MAX,
        payload_inline_bytes: 64,
        futures_bytes_max: 10_000,
        ..Limits::default()
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
