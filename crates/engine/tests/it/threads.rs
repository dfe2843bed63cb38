//! The threads of a hub outlive the code they run, whatever it does.

use std::sync::Arc;

use dalsegno_core::FaultKind;
use dalsegno_core::query::Status;
use dalsegno_engine::TaskHub;
use dalsegno_engine::request::InstanceStatus;

use crate::app::{self, App, SOON, id, start};

/// Asks until the instance is like this.
async fn until(hub: &TaskHub, name: &str, is_so: impl Fn(&InstanceStatus) -> bool) -> InstanceStatus {
    let asking = async {
        loop {
            let status = hub.status(&id(name)).await.expect("the hub answers");
            if let Some(status) = status.filter(&is_so) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, asking).await.expect("it comes to it")
}

async fn is_at_work(hub: &TaskHub) {
    hub.start(start("quick")).await.expect("it starts");
    let ended = hub.wait_for_completion(&id("quick"), Some(SOON)).await;
    assert_eq!(ended.expect("it ends").row.status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_begins_late_in_a_round_is_watched_too() {
    // The watchdog slept when a round had lasted for two of its looks, and nothing woke it when the
    // round came to user code at last: code that did not come back was never found.
    let app = Arc::new(App::default());
    let hub = app::impatient_hub(&app);
    let started = tokio::spawn({
        let hub = hub.clone();
        async move { hub.start(start("slow-block")).await }
    });
    let status = until(&hub, "slow-block", |status| status.row.parked.is_some()).await;
    assert_eq!(status.row.parked.expect("it is parked").kind, FaultKind::BusyLoop);
    started.await.expect("no panic").expect("it was started");
    is_at_work(&hub).await;
    app.gate.open();
    hub.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_executor_panics_parks_its_instance() {
    let hub = app::hub(&Arc::default());
    hub.start(start("panic")).await.expect("it starts");
    let status = until(&hub, "panic", |status| status.row.parked.is_some()).await;
    let fault = status.row.parked.expect("it is parked");
    assert_eq!(fault.kind, FaultKind::Panicked);
    assert!(
        fault.message.contains("a planned panic of the executor"),
        "{fault}"
    );
    is_at_work(&hub).await;
    assert_eq!(hub.health().stuck_threads, 0);
    hub.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_panics_outside_of_the_users_future_fails_and_holds_nothing_up() {
    let hub = app::hub(&Arc::default());
    for (name, says) in [
        ("unmade", "no future of it is made"),
        ("@panic", "a planned panic of an operation"),
        ("@panic-later", "a planned panic of an operation with I/O"),
    ] {
        hub.start(start(name)).await.expect("it starts");
        let ended = hub.wait_for_completion(&id(name), Some(SOON)).await;
        let failure = ended.expect("it ends").row.failure.expect("it fails");
        assert!(failure.message.contains(says), "{name}: {failure}");
    }
    hub.start(start("limited")).await.expect("it starts");
    let ended = hub.wait_for_completion(&id("limited"), Some(SOON)).await;
    assert_eq!(ended.expect("it ends").row.status, Status::Completed);
    hub.shutdown(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_hub_that_is_abandoned_with_a_stuck_thread_is_told() {
    let app = Arc::new(App::default());
    let hub = app::hub(&app);
    hub.start(start("wait")).await.expect("it starts");
    let waiting = tokio::spawn({
        let hub = hub.clone();
        async move { hub.wait_for_completion(&id("wait"), None).await }
    });
    // Both are on one thread, and the second one holds it up.
    until(&hub, "wait", |status| status.row.status == Status::Running).await;
    let stuck = tokio::spawn({
        let hub = hub.clone();
        async move { hub.start(start("block")).await }
    });
    while !app.gate.is_met() {
        tokio::task::yield_now().await;
    }
    hub.abandon();
    let told = tokio::time::timeout(SOON, waiting).await.expect("it is told");
    assert!(told.expect("no panic").is_err());
    let told = tokio::time::timeout(SOON, stuck).await.expect("it is told");
    drop(told);
    app.gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_a_stuck_thread_shuts_down() {
    let app = Arc::new(App::default());
    let hub = app::impatient_hub(&app);
    for _ in 0..3 {
        hub.start(start("block")).await.ok();
        until(&hub, "block", |status| status.row.parked.is_some()).await;
        hub.rewind(&id("block"), None).await.expect("it is parked");
    }
    let end = hub.shutdown(SOON);
    tokio::time::timeout(SOON, end).await.expect("it shuts down");
    app.gate.open();
}
