//! Starting, waiting, listing, counting.

use std::time::Duration;

use dalsegno::{Client, InstanceQuery, NewId, PurgeQuery, Status, Timestamp};
use dalsegno_engine::request::RequestErrorKind;

use super::functions::{
    GO, Probe, app_with, collector, echo, insistent, parent, starter, versioned_1, versioned_2, waiter,
};
use super::{SOON, on_all, on_both, until};

fn app() -> dalsegno::App {
    app_with(&Probe::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_reused_as_told() {
    on_all(app, async |client: Client| {
        let first = client.start(waiter, ()).id("a").tag("team", "red").await.unwrap();
        let again = client.start(waiter, ()).id("a").await.unwrap_err();
        assert!(again.is_instance_exists(), "{again}");
        let existing = client.start(waiter, ()).id("a").or_existing().await.unwrap();
        assert_eq!(existing.id(), first.id());

        first.wait_for_start(SOON).await.unwrap();
        let replaced = client.start(waiter, ()).id("a").or_terminate().await.unwrap();
        replaced.raise_event(GO, "second".into()).await.unwrap();
        assert_eq!(replaced.wait().await.unwrap(), "second");

        let refused = client.start(waiter, ()).id("a").or_reject().await.unwrap_err();
        assert!(refused.is_instance_exists(), "{refused}");
        let existing = client.start(waiter, ()).id("a").or_existing().await.unwrap();
        assert_eq!(existing.wait().await.unwrap(), "second");
        let third = client
            .start(echo, "third".into())
            .id("a")
            .or_replace()
            .await
            .unwrap();
        assert_eq!(third.wait().await.unwrap(), "third");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_start_with_the_same_key_is_one_start() {
    on_all(app, async |client: Client| {
        let start = |text: &str| client.start(echo, text.to_owned()).idempotency_key("order 7");
        let first = start("one").await.unwrap();
        assert_eq!(first.wait().await.unwrap(), "one");
        let second = start("one").await.unwrap();
        assert_eq!(first.id(), second.id());
        let other = start("two").await.unwrap_err();
        assert_eq!(other.request_kind(), Some(RequestErrorKind::IdempotencyConflict));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_and_ids_are_refused() {
    on_both(app, async |client: Client| {
        let unknown = client.start_named::<()>("nobody", ()).await.unwrap_err();
        assert_eq!(
            unknown.request_kind(),
            Some(RequestErrorKind::OrchestratorNotFound)
        );
        assert!(unknown.to_string().contains("nobody"), "{unknown}");
        assert!(client.start(echo, "x".into()).id("").await.is_err());
        let nobody = client.instance(waiter, "nobody").unwrap();
        assert!(nobody.status().await.unwrap_err().is_not_found());
        assert!(nobody.wait().await.unwrap_err().is_not_found());
        assert!(nobody.history().await.unwrap_err().is_not_found());
        assert!(
            nobody
                .raise_event(GO, "x".into())
                .await
                .unwrap_err()
                .is_not_found()
        );
        assert!(nobody.purge().await.unwrap_err().is_not_found());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_its_time() {
    on_all(app, async |client: Client| {
        let later = super::later();
        let instance = client.start(echo, "late".into()).at(later).await.unwrap();
        assert_eq!(instance.status().await.unwrap().row.status, Status::Pending);
        let started = instance.wait_for_start(Duration::from_millis(1)).await;
        assert!(started.unwrap_err().is_timeout());
        instance.terminate("not needed").await.unwrap();
        let past = Timestamp::from_micros(1);
        let instance = client.start(echo, "now".into()).at(past).await.unwrap();
        assert_eq!(instance.wait().await.unwrap(), "now");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_live_side_by_side() {
    on_all(app, async |client: Client| {
        let one = client.start(versioned_1, ()).await.unwrap();
        let two = client.start(versioned_2, ()).await.unwrap();
        let highest = client.start_named::<String>("versioned", ()).await.unwrap();
        for instance in [&one, &two, &highest] {
            instance.raise_event(GO, "go".into()).await.unwrap();
        }
        assert_eq!(one.wait().await.unwrap(), "one go");
        assert_eq!(two.wait().await.unwrap(), "two go");
        assert_eq!(highest.wait().await.unwrap(), "two go");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_before_the_wait_and_go_on_to_the_next_execution() {
    on_all(app, async |client: Client| {
        let instance = client.start(collector, Vec::new()).await.unwrap();
        for word in ["a", "b", "c", "d"] {
            instance.raise_event(GO, word.into()).await.unwrap();
        }
        assert_eq!(instance.wait().await.unwrap(), ["a", "b", "c", "d"]);
        let late = instance.raise_event(GO, "e".into()).await.unwrap_err();
        assert_eq!(late.request_kind(), Some(RequestErrorKind::Finished));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_before_the_instance_does() {
    on_both(app, async |client: Client| {
        let instance = client.start(waiter, ()).await.unwrap();
        let waited = instance.wait_for(Duration::from_millis(1)).await.unwrap_err();
        assert!(waited.is_timeout(), "{waited}");
        let started = instance.wait_for_start(SOON).await.unwrap();
        assert_eq!(started.row.status, Status::Running);
        let status = until(&instance, |status| status.row.custom_status.is_some()).await;
        assert_eq!(status.row.custom_status.unwrap().as_str(), "\"waiting\"");
        assert!(!status.waits_for.is_empty());
        instance.raise_event(GO, "x".into()).await.unwrap();
        assert_eq!(instance.wait_for(SOON).await.unwrap(), "x");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orchestrations_start_and_wake_others() {
    on_all(app, async |client: Client| {
        let waiting = client.start(waiter, ()).id("waiting").await.unwrap();
        let ids = ("fresh".to_owned(), "waiting".to_owned());
        let starter = client.start(starter, ids).await.unwrap();
        assert_eq!(starter.wait().await.unwrap(), "fresh");
        assert_eq!(waiting.wait().await.unwrap(), "sent");
        let fresh = client.instance(echo, "fresh").unwrap();
        assert_eq!(fresh.wait().await.unwrap(), "detached");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_filter_and_turn_pages() {
    on_all(app, async |client: Client| {
        for number in 0..5 {
            let start = client.start(echo, "x".into()).id(format!("red-{number}"));
            start.tag("team", "red").await.unwrap().wait().await.unwrap();
        }
        client
            .start(waiter, ())
            .id("blue-0")
            .tag("team", "blue")
            .await
            .unwrap();
        let query = |limit| InstanceQuery {
            limit,
            ..InstanceQuery::default()
        };
        let ids = async |query: InstanceQuery| -> Vec<String> {
            let page = client.list(query).await.unwrap();
            page.rows.iter().map(|row| row.id.to_string()).collect()
        };
        let red = ["red-4", "red-3", "red-2", "red-1", "red-0"];
        let by_prefix = InstanceQuery {
            id_prefix: Some("red-".into()),
            ..query(10)
        };
        assert_eq!(ids(by_prefix.clone()).await, red);
        let by_tag = InstanceQuery {
            tags: vec![("team".into(), "blue".into())],
            ..query(10)
        };
        assert_eq!(ids(by_tag).await, ["blue-0"]);
        let by_name = InstanceQuery {
            name: Some("waiter".into()),
            ..query(10)
        };
        assert_eq!(ids(by_name).await, ["blue-0"]);
        let by_status = InstanceQuery {
            statuses: vec![Status::Completed],
            ..query(10)
        };
        assert_eq!(ids(by_status).await, red);

        let mut page = InstanceQuery {
            limit: 2,
            ..by_prefix
        };
        let mut seen = Vec::new();
        loop {
            let found = client.list(page.clone()).await.unwrap();
            assert!(found.rows.len() <= 2);
            seen.extend(found.rows.iter().map(|row| row.id.to_string()));
            let Some(next) = found.next else { break };
            page.after = Some(next);
        }
        assert_eq!(seen, red);
        let counts = client.counts().await.unwrap();
        let completed = counts.iter().find(|(status, _)| *status == Status::Completed);
        assert_eq!(completed.map(|(_, count)| *count), Some(5));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_instances_are_purged_and_restarted() {
    on_all(app, async |client: Client| {
        let one = client.start(echo, "one".into()).id("one").await.unwrap();
        one.wait().await.unwrap();
        assert_eq!(
            one.restart(NewId::Same).await.unwrap().wait().await.unwrap(),
            "one"
        );
        let copy = one.restart(NewId::Generated).await.unwrap();
        assert_ne!(copy.id(), one.id());
        assert_eq!(copy.wait().await.unwrap(), "one");
        assert_eq!(one.purge().await.unwrap(), 1);
        assert!(one.status().await.unwrap_err().is_not_found());

        let family = client.start(parent, "child".into()).id("family").await.unwrap();
        let running = family.purge().await.unwrap_err();
        assert_eq!(running.request_kind(), Some(RequestErrorKind::InstanceRunning));
        let child = client.instance(waiter, "child").unwrap();
        super::eventually(async || child.status().await.is_ok()).await;
        child.raise_event(GO, "grown".into()).await.unwrap();
        assert_eq!(family.wait().await.unwrap(), "grown");
        assert_eq!(family.purge_recursive().await.unwrap(), 2);
        assert!(child.status().await.unwrap_err().is_not_found());

        let unbound = client.purge_many(PurgeQuery::default()).await.unwrap_err();
        assert_eq!(unbound.request_kind(), Some(RequestErrorKind::Invalid));
        let all = PurgeQuery {
            created_from: Some(Timestamp::from_micros(0)),
            ..PurgeQuery::default()
        };
        assert_eq!(client.purge_many(all).await.unwrap(), 1);
        assert!(copy.status().await.unwrap_err().is_not_found());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_leave_one_event() {
    on_all(app, async |client: Client| {
        let instance = client.start(insistent, 3).await.unwrap();
        assert_eq!(instance.wait().await.unwrap(), 4);
        let history = instance.history().await.unwrap();
        let names: Vec<&str> = history.iter().map(|event| event.kind.name()).collect();
        let expected = [
            "OrchestratorStarted",
            "ExecutionStarted",
            "TaskScheduled",
            "OrchestratorCompleted",
            "OrchestratorStarted",
            "TaskCompleted",
            "ExecutionCompleted",
            "OrchestratorCompleted",
        ];
        assert_eq!(names, expected);
    })
    .await;
}
