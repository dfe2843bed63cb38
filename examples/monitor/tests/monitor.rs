//! Alerts at the Nth failure, a bounded history, and the time of the next check.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use dalsegno::testing::TestHub;
use dalsegno::{EventKind, HOUR, Host, Instance, MINUTE};
use monitor::stub::Service;
use monitor::{Monitor, Notice, Pace, app, check_service, monitor};
use tokio::sync::mpsc::UnboundedReceiver;

const DOWN: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
const UP: StatusCode = StatusCode::OK;

async fn host() -> (Host, UnboundedReceiver<Notice>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (notices, told) = tokio::sync::mpsc::unbounded_channel();
    (
        app(notices).embedded(&folder).await.expect("a host"),
        told,
        folder,
    )
}

async fn end(host: Host, instance: Instance<()>) {
    instance.terminate("not needed").await.expect("terminated");
    let error = instance.wait().await.expect_err("it never completes");
    assert!(error.to_string().contains("terminated: not needed"), "{error}");
    host.shutdown().await;
}

#[tokio::test]
async fn the_third_failure_alerts_the_sixth_escalates_and_success_is_told_once() {
    let (host, mut told, _folder) = host().await;
    let plan = vec![UP, DOWN, DOWN, UP, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN, UP];
    let service = Service::start(plan).await.expect("a service");
    let watch = Monitor::of(service.url(), Duration::from_millis(1), Pace::FixedDelay);
    let instance = host.client().start(monitor, watch).await.expect("started");
    let expected = [
        (Notice::Alert(3), 7),
        (Notice::Escalation(6), 10),
        (Notice::Recovery(7), 12),
    ];
    for (notice, checks) in expected {
        assert_eq!(told.recv().await, Some(notice));
        assert!(service.asked() >= checks);
    }
    assert!(told.try_recv().is_err(), "nothing else was said");
    end(host, instance).await;
}

#[tokio::test]
async fn after_many_rounds_the_history_holds_one() {
    let (host, mut told, _folder) = host().await;
    let mut plan = vec![UP; 200];
    plan.push(DOWN);
    let service = Service::start(plan).await.expect("a service");
    let watch = Monitor {
        alert_after: 1,
        ..Monitor::of(service.url(), Duration::from_millis(1), Pace::FixedDelay)
    };
    let instance = host.client().start(monitor, watch).await.expect("started");
    assert_eq!(told.recv().await, Some(Notice::Alert(1)));
    assert!(service.asked() > 200);
    let events = instance.history().await.expect("a history").len();
    assert!(events <= 16, "{events} events");
    end(host, instance).await;
}

/// Five weeks of checks under a virtual clock: the service fails in every thousandth round and the
/// three after it, and the process dies once in a while.
#[test]
fn ten_thousand_rounds_keep_their_rhythm_and_a_history_of_one() {
    const ROUNDS: u32 = 10_000;
    let (notices, mut told) = tokio::sync::mpsc::unbounded_channel();
    let hub = TestHub::new(app(notices));
    let checks = Arc::new(Mutex::new(Vec::new()));
    let seen = checks.clone();
    hub.stub(check_service, move |_url| {
        let mut seen = seen.lock().expect("nobody panics with it");
        seen.push(());
        Ok(seen.len() % 1_000 > 3)
    });
    let begin = hub.now();
    let watch = Monitor::of("http://service.example/health", 5 * MINUTE, Pace::FixedRate);
    let instance = hub.start(monitor, watch);
    for _ in 0..10 {
        hub.advance(5 * MINUTE * (ROUNDS / 10));
        assert!(instance.history().expect("a history").len() <= 16);
        hub.crash();
    }
    assert_eq!(hub.now().since(begin), 5 * MINUTE * ROUNDS);
    let count = checks.lock().expect("nobody panics with it").len();
    assert!(
        (10_001..=10_020).contains(&count),
        "{count} checks: one a round, and those cut off by a crash again"
    );
    let notices: Vec<Notice> = std::iter::from_fn(|| told.try_recv().ok()).collect();
    let count = |wanted: fn(&Notice) -> bool| notices.iter().filter(|notice| wanted(notice)).count();
    assert!(count(|notice| *notice == Notice::Alert(3)) >= 10, "{notices:?}");
    assert!(
        count(|notice| matches!(notice, Notice::Recovery(3 | 4))) >= 9,
        "{notices:?}"
    );
    assert_eq!(count(|notice| matches!(notice, Notice::Escalation(_))), 0);
}

#[tokio::test]
async fn the_next_check_is_a_whole_interval_after_the_check() {
    let (host, mut told, _folder) = host().await;
    let service = Service::start(vec![DOWN]).await.expect("a service");
    let watch = Monitor {
        alert_after: 1,
        ..Monitor::of(service.url(), HOUR, Pace::FixedDelay)
    };
    let instance = host.client().start(monitor, watch).await.expect("started");
    assert_eq!(told.recv().await, Some(Notice::Alert(1)));

    let (ended, due) = timer(&instance).await;
    assert_eq!(
        due,
        ended + HOUR,
        "counted from the turn in which the check was over"
    );
    end(host, instance).await;
}

/// When the last turn began, and the timer it set; asked for until that turn is there.
async fn timer(instance: &Instance<()>) -> (dalsegno::Timestamp, dalsegno::Timestamp) {
    loop {
        let history = instance.history().await.expect("a history");
        let mut turn = None;
        for event in &history {
            match event.kind {
                EventKind::OrchestratorStarted => turn = Some(event.at),
                EventKind::TimerCreated { fire_at, .. } => return (turn.expect("a turn"), fire_at),
                _ => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_down() {
    let (host, mut told, _folder) = host().await;
    let watch = Monitor {
        alert_after: 2,
        ..Monitor::of(
            "http://127.0.0.1:9/health",
            Duration::from_millis(1),
            Pace::FixedRate,
        )
    };
    let instance = host.client().start(monitor, watch).await.expect("started");
    assert_eq!(told.recv().await, Some(Notice::Alert(2)));
    end(host, instance).await;
}
