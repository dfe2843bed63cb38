//! The management API as clients meet it.

use dalsegno_core::{Event, EventKind, InstanceId};
use expect_test::expect;

use crate::world::{P, mask_times, world};

#[tokio::test]
async fn a_start_answers_with_the_links_and_the_links_work() {
    let world = world().await;
    let reply = world
        .post(&format!("{P}/orchestrators/wait/Order%201"), "{\"qty\":1.10}")
        .await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.header("retry-after"), Some("10"));
    assert_eq!(
        reply.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    let p = format!("{}{P}/instances/Order%201", world.origin());
    let q = "taskHub=default&connection=Storage";
    assert_eq!(reply.header("location"), Some(format!("{p}?{q}").as_str()));
    assert_eq!(
        reply.body,
        format!(
            r#"{{"id":"Order 1","statusQueryGetUri":"{p}?{q}","sendEventPostUri":"{p}/raiseEvent/{{eventName}}?{q}","terminatePostUri":"{p}/terminate?reason={{text}}&{q}","purgeHistoryDeleteUri":"{p}?{q}","restartPostUri":"{p}/restart?{q}","suspendPostUri":"{p}/suspend?reason={{text}}&{q}","resumePostUri":"{p}/resume?reason={{text}}&{q}"}}"#
        )
    );
    world
        .hub
        .wait_for_start(&dalsegno_core::InstanceId::trusted("Order 1"), None)
        .await
        .unwrap();

    let path = format!("{P}/instances/Order%201?{q}");
    let status = world.get(&path).await;
    assert_eq!((status.status, status.header("retry-after")), (202, Some("5")));
    assert_eq!(
        status.header("location"),
        Some(format!("{}{path}", world.origin()).as_str())
    );
    expect![[r#"{"name":"Wait","instanceId":"Order 1","runtimeStatus":"Running","input":{"qty":1.10},"customStatus":null,"output":null,"createdTime":"T","lastUpdatedTime":"T"}"#]]
        .assert_eq(&mask_times(&status.body));

    let raised = world
        .post(
            &format!("{P}/instances/Order%201/raiseEvent/GO?{q}"),
            "[\"Hello Tokyo!\"]",
        )
        .await;
    assert_eq!((raised.status, raised.body.as_str()), (202, ""));
    world
        .hub
        .wait_for_completion(&dalsegno_core::InstanceId::trusted("Order 1"), None)
        .await
        .unwrap();
    let status = world.get(&format!("{path}&showInput=False")).await;
    assert_eq!((status.status, status.header("location")), (200, None));
    expect![[r#"{"name":"Wait","instanceId":"Order 1","runtimeStatus":"Completed","input":null,"customStatus":null,"output":["Hello Tokyo!"],"createdTime":"T","lastUpdatedTime":"T"}"#]]
        .assert_eq(&mask_times(&status.body));

    let purged = world.delete(&path).await;
    assert_eq!(
        (purged.status, purged.body.as_str()),
        (200, r#"{"instancesDeleted":1}"#)
    );
    let gone = world.get(&path).await;
    assert_eq!((gone.status, gone.body.as_str()), (404, ""));
}

#[tokio::test]
async fn waiting_gives_the_output_or_the_status_or_the_links() {
    let world = world().await;
    let done = world
        .post(
            &format!("{P}/orchestrators/Echo?timeout=60&pollingInterval=1"),
            "{\"a\": 1.0}",
        )
        .await;
    assert_eq!((done.status, done.body.as_str()), (200, "{\"a\": 1.0}"));
    let nothing = world
        .post(&format!("{P}/orchestrators/Echo?timeout=60"), "")
        .await;
    assert_eq!((nothing.status, nothing.body.as_str()), (200, "null"));
    let failed = world
        .post(&format!("{P}/orchestrators/Fail/f?timeout=60"), "")
        .await;
    assert_eq!(failed.status, 200);
    expect![[r#"{"name":"Fail","instanceId":"f","runtimeStatus":"Failed","input":null,"customStatus":null,"output":"ValueError: no harp","createdTime":"T","lastUpdatedTime":"T"}"#]]
        .assert_eq(&mask_times(&failed.body));
    let loud = "returnInternalServerErrorOnFailure=true";
    assert_eq!(
        world
            .post(&format!("{P}/orchestrators/Fail?timeout=60&{loud}"), "")
            .await
            .status,
        500
    );
    assert_eq!(world.get(&format!("{P}/instances/f?{loud}")).await.status, 500);
    let slow = world
        .post(&format!("{P}/orchestrators/Wait/w?timeout=0&{loud}"), "")
        .await;
    assert_eq!(slow.status, 202);
    assert!(
        slow.header("location").unwrap().ends_with(&format!("&{loud}")),
        "{slow:?}"
    );
}

#[tokio::test]
async fn history_with_and_without_outputs() {
    let world = world().await;
    world.finished("Hello", "h", "\"Tokyo\"").await;
    let all = world
        .get(&format!(
            "{P}/instances/h?showHistory=true&showHistoryOutput=true"
        ))
        .await;
    expect![[r#"{"name":"Hello","instanceId":"h","runtimeStatus":"Completed","input":"Tokyo","customStatus":null,"output":"Hello Tokyo!","createdTime":"T","lastUpdatedTime":"T","historyEvents":[{"EventType":"ExecutionStarted","Timestamp":"T","FunctionName":"Hello","Input":"\"Tokyo\""},{"EventType":"TaskCompleted","Timestamp":"T","ScheduledTime":"T","FunctionName":"SayHello","Input":"\"Tokyo\"","Result":"Hello Tokyo!"},{"EventType":"ExecutionCompleted","Timestamp":"T","OrchestrationStatus":"Completed","Result":"Hello Tokyo!"}]}"#]]
        .assert_eq(&mask_times(&all.body));
    let bare = world
        .get(&format!("{P}/instances/h?showHistory=true&showInput=false"))
        .await;
    expect![[r#"{"name":"Hello","instanceId":"h","runtimeStatus":"Completed","input":null,"customStatus":null,"output":"Hello Tokyo!","createdTime":"T","lastUpdatedTime":"T","historyEvents":[{"EventType":"ExecutionStarted","Timestamp":"T","FunctionName":"Hello"},{"EventType":"TaskCompleted","Timestamp":"T","ScheduledTime":"T","FunctionName":"SayHello"},{"EventType":"ExecutionCompleted","Timestamp":"T","OrchestrationStatus":"Completed"}]}"#]]
        .assert_eq(&mask_times(&bare.body));
}

#[tokio::test]
async fn an_id_in_use_is_a_conflict_and_a_finished_one_is_replaced() {
    let world = world().await;
    world.running("Wait", "x", "1").await;
    let again = world.post(&format!("{P}/orchestrators/Wait/x"), "2").await;
    assert_eq!((again.status, again.code().as_str()), (409, "instance_exists"));
    assert_eq!(again.header("content-type"), Some("application/problem+json"));
    world.finished("Echo", "y", "1").await;
    let replaced = world
        .post(&format!("{P}/orchestrators/Echo/y?timeout=60"), "2")
        .await;
    assert_eq!((replaced.status, replaced.body.as_str()), (200, "2"));

    let key = [("Idempotency-Key", "k-1")];
    let path = format!("{P}/orchestrators/Wait/z");
    let first = world.send("POST", &path, &key, b"1").await;
    let second = world.send("POST", &path, &key, b"1").await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.body, second.body);
    let other = world.send("POST", &path, &key, b"2").await;
    assert_eq!(
        (other.status, other.code().as_str()),
        (409, "idempotency_conflict")
    );
}

#[tokio::test]
async fn the_event_that_stands_for_a_cancel_is_reserved() {
    let world = world().await;
    world.running("Wait", "w", "1").await;
    for name in ["dalsegno.cancel", "DALSEGNO.CANCEL"] {
        for path in [
            format!("{P}/instances/w/raiseEvent/{name}"),
            format!("/runtime/dalsegno/v1/instances/w/events/{name}"),
        ] {
            let refused = world.post(&path, "1").await;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (400, "invalid_event_name"),
                "{path}"
            );
        }
    }
    let many = r#"{"verb":"raise","event":"dalsegno.cancel","where":{"all":true}}"#;
    assert_eq!(
        world.post("/runtime/dalsegno/v1/operations", many).await.status,
        400
    );
}

#[tokio::test]
async fn an_event_with_a_key_is_raised_once() {
    let world = world().await;
    world.running("Wait", "k", "1").await;
    for path in [
        format!("{P}/instances/k/raiseEvent/other"),
        "/runtime/dalsegno/v1/instances/k/events/OTHER".to_owned(),
    ] {
        let send = async |key: &str, body: &str| {
            let headers = [("Idempotency-Key", key), ("Content-Type", "application/json")];
            world.send("POST", &path, &headers, body.as_bytes()).await
        };
        assert_eq!(send("e-1", "[1]").await.status, 202);
        assert_eq!(send("e-1", "[1]").await.status, 202);
        let other = send("e-1", "[2]").await;
        assert_eq!((other.status, other.code().as_str()), (409, "event_id_reused"));
        let none = send("", "[1]").await;
        assert_eq!((none.status, none.code().as_str()), (400, "invalid"));
    }
    let id = InstanceId::trusted("k");
    let history = world.hub.history(&id).await.unwrap();
    let raised = |event: &&Event| matches!(event.kind, EventKind::EventRaised { .. });
    assert_eq!(history.iter().filter(raised).count(), 1);
}

#[tokio::test]
async fn trace_headers_are_kept_and_invalid_ones_are_none() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let world = world().await;
    let both = [
        ("Traceparent", PARENT),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
    ];
    let twice = [("traceparent", PARENT), ("traceparent", PARENT)];
    let bad_state = [("traceparent", PARENT), ("tracestate", "A=1")];
    type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], Option<&'c str>);
    let cases: [Case<'_>; 5] = [
        ("t1", &both, Some(r#""trace":{"parent":"P","state":"a=1,b=2"}"#)),
        ("t2", &bad_state, Some(r#""trace":{"parent":"P"}"#)),
        ("t3", &twice, None),
        ("t4", &[("traceparent", "00-0-0-0")], None),
        ("t5", &[("tracestate", "a=1")], None),
    ];
    for (id, headers, wanted) in cases {
        let started = world
            .send("POST", &format!("{P}/orchestrators/Wait/{id}"), headers, b"")
            .await;
        assert_eq!(started.status, 202, "{id}");
        let shown = world
            .get(&format!("/runtime/dalsegno/v1/instances/{id}"))
            .await
            .body;
        match wanted.map(|wanted| wanted.replace('P', PARENT)) {
            Some(wanted) => assert!(shown.contains(&wanted), "{id}: {shown}"),
            None => assert!(!shown.contains("trace"), "{id}: {shown}"),
        }
    }
    let again = world
        .send(
            "POST",
            "/runtime/dalsegno/v1/orchestrators/Wait",
            &both,
            br#"{"id":"t6"}"#,
        )
        .await;
    assert_eq!(again.status, 202);
    let raised = world
        .send("POST", &format!("{P}/instances/t6/raiseEvent/other"), &both, b"")
        .await;
    assert_eq!(raised.status, 202);
    let history = world.get("/runtime/dalsegno/v1/instances/t6/history").await.body;
    assert_eq!(history.matches(PARENT).count(), 2, "{history}");
}

#[tokio::test]
async fn restart_starts_the_same_again() {
    let world = world().await;
    world.finished("Echo", "r", "[1]").await;
    let fresh = world
        .post(&format!("{P}/instances/r/restart?timeout=60"), "")
        .await;
    assert_eq!((fresh.status, fresh.body.as_str()), (200, "[1]"));
    let same = world
        .post(
            &format!("{P}/instances/r/restart?restartWithNewInstanceId=false"),
            "",
        )
        .await;
    assert_eq!(same.status, 202);
    assert!(same.body.starts_with(r#"{"id":"r","#), "{}", same.body);
    let other = world.post(&format!("{P}/instances/r/restart"), "").await;
    assert!(!other.body.starts_with(r#"{"id":"r","#), "{}", other.body);
}

#[tokio::test]
async fn entities_are_signalled_read_listed_and_deleted() {
    let world = world().await;
    for (path, body, wanted) in [
        ("Counter/a?op=add", "5", 202),
        ("counter/b?op=add", "1", 202),
        ("counter?op=add", "7", 202),
        ("counter/a?op=add", "{", 400),
        ("countr/a?op=add", "5", 400),
        ("counter/a%2Fb?op=add", "5", 400),
    ] {
        assert_eq!(
            world.post(&format!("{P}/entities/{path}"), body).await.status,
            wanted,
            "{path}"
        );
    }
    let text = world
        .send(
            "POST",
            &format!("{P}/entities/counter/t?op=say"),
            &[("Content-Type", "text/plain")],
            b"{oh",
        )
        .await;
    assert_eq!(text.status, 202);
    let state = |key: &'static str| world.get_until(key);
    assert_eq!(state("a").await, "5");
    assert_eq!(state("b").await, "1");
    assert_eq!(state("$").await, "7");
    assert_eq!(state("t").await, r#""{oh""#);

    let list = world
        .get(&format!("{P}/entities/COUNTER?fetchState=true&top=2"))
        .await;
    expect![[r#"[{"entityId":{"name":"counter","key":""},"lastOperationTime":"T","state":7},{"entityId":{"name":"counter","key":"a"},"lastOperationTime":"T","state":5}]"#]]
        .assert_eq(&mask_times(&list.body));
    let token = list.header("x-ms-continuation-token").unwrap().to_owned();
    let path = format!("{P}/entities/counter?top=2");
    let rest = world
        .send("GET", &path, &[("x-ms-continuation-token", &token)], b"")
        .await;
    expect![[r#"[{"entityId":{"name":"counter","key":"b"},"lastOperationTime":"T","state":null},{"entityId":{"name":"counter","key":"t"},"lastOperationTime":"T","state":null}]"#]]
        .assert_eq(&mask_times(&rest.body));

    assert_eq!(world.delete(&format!("{P}/entities/counter/b")).await.status, 202);
    assert_eq!(
        world.delete(&format!("{P}/instances/@counter@a")).await.body,
        r#"{"instancesDeleted":1}"#
    );
    assert_eq!(world.get(&format!("{P}/entities/counter/a")).await.status, 404);
    assert_eq!(world.get(&format!("{P}/entities/counter/none")).await.status, 404);
    assert_eq!(
        world.delete(&format!("{P}/instances/@counter@a")).await.status,
        404
    );
}

impl crate::world::World {
    /// Signals are answered before they are done: asks until there is a state.
    async fn get_until(&self, key: &str) -> String {
        loop {
            let reply = self.get(&format!("{P}/entities/counter/{key}")).await;
            if reply.status == 200 {
                return reply.body;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn pages_hold_every_instance_once_while_others_are_started() {
    let world = world().await;
    for index in 0..25 {
        world.finished("Echo", &format!("old-{index:02}"), "1").await;
    }
    let path = format!("{P}/instances?instanceIdPrefix=old-&top=4&showInput=false");
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = world
            .send("GET", &path, &[("x-ms-continuation-token", &token)], b"")
            .await;
        assert_eq!(page.status, 200, "{page:?}");
        let rows: Vec<serde_json::Value> = serde_json::from_str(&page.body).unwrap();
        seen.extend(
            rows.iter()
                .map(|row| row["instanceId"].as_str().unwrap().to_owned()),
        );
        world.finished("Echo", &format!("old-new-{pages}"), "1").await;
        pages += 1;
        token = page.header("x-ms-continuation-token").unwrap().to_owned();
        if token.is_empty() {
            break;
        }
        let other = world
            .send(
                "GET",
                &path.replace("old-", "ol"),
                &[("x-ms-continuation-token", &token)],
                b"",
            )
            .await;
        assert_eq!((other.status, other.code().as_str()), (400, "invalid_token"));
    }
    let wanted: Vec<String> = (0..25).rev().map(|index| format!("old-{index:02}")).collect();
    assert_eq!(seen, wanted);
    assert!(pages > 3);
}

#[tokio::test]
async fn purge_by_filter_needs_a_lower_bound_and_counts() {
    let world = world().await;
    for id in ["a", "b"] {
        world.finished("Echo", id, "1").await;
    }
    world.finished("Fail", "c", "1").await;
    world.running("Wait", "d", "1").await;
    for (query, status, body) in [
        ("", 400, None),
        (
            "?createdTimeFrom=2020-01-01&createdTimeTo=2020-01-02",
            404,
            Some(""),
        ),
        ("?createdTimeFrom=2020-01-01&runtimeStatus=Running", 400, None),
        (
            "?createdTimeFrom=2020-01-01&runtimeStatus=Canceled",
            404,
            Some(""),
        ),
        (
            "?createdTimeFrom=2020-01-01&runtimeStatus=Failed",
            200,
            Some(r#"{"instancesDeleted":1}"#),
        ),
        (
            "?createTimeFrom=2020-01-01",
            200,
            Some(r#"{"instancesDeleted":2}"#),
        ),
        ("?createdTimeFrom=2020-01-01", 404, Some("")),
    ] {
        let reply = world.delete(&format!("{P}/instances{query}")).await;
        assert_eq!(reply.status, status, "{query} {reply:?}");
        assert!(body.is_none_or(|body| body == reply.body), "{query} {reply:?}");
    }
    let forced = world.delete(&format!("{P}/instances/d?force=true")).await;
    assert_eq!(
        (forced.status, forced.body.as_str()),
        (200, r#"{"instancesDeleted":1}"#)
    );
}

#[tokio::test]
async fn a_key_in_the_header_starts_once_in_both_apis() {
    let world = world().await;
    let v1 = "/runtime/dalsegno/v1/orchestrators/Echo";
    for (path, body) in [
        (format!("{P}/orchestrators/Echo"), "1"),
        (v1.into(), r#"{"input":1}"#),
    ] {
        let key = [("Idempotency-Key", path.as_str())];
        let mut ids = Vec::new();
        for _ in 0..2 {
            let reply = world.send("POST", &path, &key, body.as_bytes()).await;
            assert_eq!(reply.status, 202, "{reply:?}");
            let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
            ids.push(body["id"].clone());
        }
        assert_eq!(ids[0], ids[1], "{path}");
        let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")];
        let refused = world.send("POST", &path, &twice, body.as_bytes()).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "invalid_parameter")
        );
    }
    let body = br#"{"input":1,"idempotencyKey":"a"}"#;
    for (key, status) in [("a", 202), ("b", 400)] {
        let reply = world.send("POST", v1, &[("Idempotency-Key", key)], body).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
}

#[tokio::test]
async fn a_purge_of_what_is_unfinished_names_the_member() {
    let world = world().await;
    let body = r#"{"createdFrom":"2020-01-01T00:00:00Z","statuses":["Running"]}"#;
    let refused = world.post("/runtime/dalsegno/v1/purge", body).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "invalid_parameter")
    );
    assert!(refused.body.contains(r#""param":"statuses""#), "{}", refused.body);
    let reversed = r#"{"createdFrom":"2026-01-02T00:00:00Z","createdTo":"2026-01-01T00:00:00Z"}"#;
    let refused = world.post("/runtime/dalsegno/v1/purge", reversed).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "out_of_range"));
    assert!(
        refused.body.contains(r#""param":"createdFrom""#),
        "{}",
        refused.body
    );
    let operation = format!(r#"{{"verb":"suspend","where":{reversed}}}"#);
    let refused = world.post("/runtime/dalsegno/v1/operations", &operation).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "out_of_range"));
    let empty = world.post("/runtime/dalsegno/v1/purge", "").await;
    assert!(
        empty.body.contains(r#""expected":"one JSON object""#),
        "{}",
        empty.body
    );
}

/// A request to cancel is ours; how it ends is told in the words of the management API.
#[tokio::test]
async fn canceled_ones_show_the_reason() {
    let world = world().await;
    let ours = "/runtime/dalsegno/v1";
    let late = r#"{"id":"c","scheduledStart":"2100-01-01T00:00:00Z"}"#;
    let started = world.post(&format!("{ours}/orchestrators/Wait"), late).await;
    assert!(started.status < 300, "{started:?}");
    let theirs = world.post(&format!("{P}/instances/c/cancel"), "").await;
    assert_eq!(theirs.status, 404, "the management API has no such command");
    let asked = world
        .post(&format!("{ours}/instances/c/cancel?reason=too+late"), "")
        .await;
    assert_eq!((asked.status, asked.body.as_str()), (202, ""));
    let status = world
        .get(&format!(
            "{P}/instances/c?showHistory=true&showHistoryOutput=true"
        ))
        .await;
    assert_eq!(status.status, 200);
    let told = r#""runtimeStatus":"Canceled","input":null,"customStatus":null,"output":"too late""#;
    assert!(status.body.contains(told), "{}", status.body);
    expect![[r#"[{"EventType":"CancelRequested","Timestamp":"T","Reason":"too late"},{"EventType":"ExecutionCanceled","Timestamp":"T","OrchestrationStatus":"Canceled","Result":"Cancelled: cancelled: too late","FailureDetails":{"ErrorType":"Cancelled","ErrorMessage":"cancelled: too late","StackTrace":null,"InnerFailure":null,"IsNonRetriable":true}}]"#]]
        .assert_eq(history_of(&mask_times(&status.body)));
    let listed = world.get(&format!("{P}/instances?runtimeStatus=Canceled")).await;
    assert!(listed.body.contains(r#""instanceId":"c""#), "{}", listed.body);
    let others = world
        .get(&format!("{P}/instances?runtimeStatus=Terminated"))
        .await;
    assert_eq!(others.body, "[]");
    let again = world.post(&format!("{ours}/instances/c/cancel"), "").await;
    assert_eq!(again.status, 410);
    assert_eq!(world.get(&format!("{ours}/instances/c/wait")).await.status, 200);
    let purged = world
        .delete(&format!(
            "{P}/instances?createdTimeFrom=2020-01-01T00:00:00Z&runtimeStatus=Canceled"
        ))
        .await;
    assert_eq!(purged.body, r#"{"instancesDeleted":1}"#);
}

fn history_of(status: &str) -> &str {
    let (_, history) = status.split_once(r#""historyEvents":"#).expect("a history");
    history
        .trim_end_matches('}')
        .strip_suffix(']')
        .map_or(history, |_| &history[..history.len() - 1])
}

#[tokio::test]
async fn terminated_ones_show_the_reason() {
    let world = world().await;
    let id = world.running("Wait", "t", "1").await;
    let reply = world
        .post(&format!("{P}/instances/t/terminate?reason=too+long%21"), "")
        .await;
    assert_eq!(reply.status, 202);
    world.hub.wait_for_completion(&id, None).await.unwrap();
    let status = world.get(&format!("{P}/instances/t?showHistory=true")).await;
    assert!(
        status
            .body
            .contains(r#""runtimeStatus":"Terminated","input":1,"customStatus":null,"output":"too long!""#),
        "{}",
        status.body
    );

    let id = world.running("Wait", "u", "1").await;
    world
        .post(&format!("{P}/instances/u/terminate?reason={{text}}"), "")
        .await;
    world.hub.wait_for_completion(&id, None).await.unwrap();
    assert!(
        world
            .get(&format!("{P}/instances/u"))
            .await
            .body
            .contains(r#""output":null"#)
    );
}

#[tokio::test]
async fn a_request_to_cancel_says_why_in_the_query_or_in_the_body() {
    let world = world().await;
    let late = r#"{"id":"c","scheduledStart":"2100-01-01T00:00:00Z"}"#;
    let started = world.post("/runtime/dalsegno/v1/orchestrators/Wait", late).await;
    assert!(started.status < 300, "{started:?}");
    let id = InstanceId::trusted("c");
    let path = "/runtime/dalsegno/v1/instances/c/cancel";
    for (query, body, code) in [
        ("", r#"{"raison":"x"}"#, "invalid_body"),
        ("", "[]", "invalid_body"),
        ("", "{", "invalid_json"),
        ("?reason=a", r#"{"reason":"b"}"#, "invalid_body"),
        (
            "",
            &format!(r#"{{"reason":"{}"}}"#, "x".repeat(5_000)),
            "reason_too_long",
        ),
    ] {
        let refused = world.post(&format!("{path}{query}"), body).await;
        assert_eq!(
            (refused.status, refused.code()),
            (400, code.into()),
            "{query} {body}"
        );
    }
    let taken = world.post(path, r#"{"reason":"too late"}"#).await;
    assert_eq!(taken.status, 202, "{taken:?}");
    let ended = world.hub.wait_for_completion(&id, None).await.unwrap();
    assert_eq!(ended.row.output.unwrap().as_str(), r#""too late""#);
}
