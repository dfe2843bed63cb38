//! The changes of an instance as server-sent events, as they go over the wire.

use std::time::Duration;

use dalsegno_core::limits::Limits;
use dalsegno_engine::request::RaisedEvent;
use dalsegno_host::server::HttpSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Reply, World, world, world_with};

const V1: &str = "/runtime/dalsegno/v1/instances";

/// A body without the sizes of its chunks.
fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &rest[..size];
        body = rest[size..].strip_prefix("\r\n").unwrap_or("");
    }
    whole
}

/// Names and ids of the events of an answer that ended.
fn told(reply: &Reply) -> Vec<(String, String)> {
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("text/event-stream"))
    );
    let body = dechunked(&reply.body);
    let mut frames = body.split_terminator("\n\n");
    assert_eq!(frames.next(), Some("retry: 1000"));
    let field = |frame: &str, name: &str| {
        let line = frame.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().to_owned()
    };
    frames
        .map(|frame| (field(frame, "event: "), field(frame, "id: ")))
        .collect()
}

#[tokio::test]
async fn an_instance_is_told_from_its_begin_or_from_any_place_in_header_or_query() {
    let world = world().await;
    let id = world.finished("Hello", "h", "\"Tokyo\"").await;
    let all = told(&world.get(&format!("{V1}/h/stream")).await);
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.first(), Some(&"execution"));
    assert_eq!(names[names.len() - 2..], ["status", "end"]);
    let history = world.hub.history(&id).await.unwrap();
    assert_eq!(
        names.iter().filter(|name| **name == "history").count(),
        history.len()
    );
    for (index, (_, id)) in all.iter().enumerate().take(all.len() - 1) {
        let query = world.get(&format!("{V1}/h/stream?after={id}")).await;
        assert_eq!(told(&query), all[index + 1..], "{id}");
        // A browser keeps the address, and says in the header how far it came since.
        let path = format!("{V1}/h/stream?after={}", all[0].1);
        let header = world.send("GET", &path, &[("Last-Event-ID", id)], b"").await;
        assert_eq!(told(&header), all[index + 1..], "{id}");
    }
    let end = &all.last().unwrap().1;
    let over = world
        .send("GET", &format!("{V1}/h/stream"), &[("Last-Event-ID", end)], b"")
        .await;
    assert_eq!(
        (over.status, over.body.as_str()),
        (204, ""),
        "it tells a browser to stay away"
    );
}

#[tokio::test]
async fn what_is_no_place_or_no_instance_is_refused_before_the_stream_begins() {
    let world = world().await;
    world.finished("Echo", "e", "1").await;
    for (path, header, status, code) in [
        ("e/stream?after=x", None, 400, "invalid_parameter"),
        ("e/stream?after=", None, 400, "invalid_parameter"),
        ("e/stream", Some("1.2"), 400, "invalid_parameter"),
        ("e/stream", Some("1.2.z"), 400, "invalid_parameter"),
        ("e/stream?aftr=1", None, 400, "unknown_parameter"),
        ("nobody/stream", None, 404, "not_found"),
    ] {
        let headers: Vec<(&str, &str)> = header.map(|value| ("Last-Event-ID", value)).into_iter().collect();
        let reply = world.send("GET", &format!("{V1}/{path}"), &headers, b"").await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{path} {reply:?}"
        );
        if let Some(bad) = header {
            assert!(
                reply.body.contains("Last-Event-ID") && reply.body.contains(bad),
                "{reply:?}"
            );
        }
    }
    let all = told(&world.get(&format!("{V1}/e/stream")).await);
    // Of an execution that was never here: all is told. Of this one: there is no such place.
    let foreign = world
        .get(&format!("{V1}/e/stream?after=999.9999.0000000000000000"))
        .await;
    assert_eq!(told(&foreign), all);
    let behind = all[0].1.replace(".0.", ".9999.");
    let beyond = world.get(&format!("{V1}/e/stream?after={behind}")).await;
    assert_eq!(
        (beyond.status, beyond.code().as_str()),
        (400, "invalid"),
        "{beyond:?}"
    );
}

/// A stream that is open, and what came of it.
struct Open {
    stream: TcpStream,
    came: String,
}

impl Open {
    async fn of(world: &World, path: &str) -> Self {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", world.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        let came = String::new();
        Self { stream, came }
    }

    /// Reads until it has come; false when the connection ends before.
    async fn until(&mut self, wanted: &str) -> bool {
        let mut part = [0; 4096];
        while !self.came.contains(wanted) {
            let read = self.stream.read(&mut part).await.unwrap();
            if read == 0 {
                return false;
            }
            self.came.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        true
    }
}

#[tokio::test]
async fn changes_come_as_they_are_made_and_silence_is_broken_by_heartbeats() {
    let world = world_with(Limits::default(), |server| {
        server.settings(HttpSettings {
            heartbeat: Duration::from_millis(5),
            ..HttpSettings::default()
        })
    })
    .await;
    let id = world.running("Wait", "w", "1").await;
    let mut open = Open::of(&world, &format!("{V1}/w/stream")).await;
    assert!(open.until("event: status").await && open.until(": heartbeat\n\n").await);
    assert!(!open.came.contains("EventRaised"));
    let event = RaisedEvent::new("go", Some("[1,\n\r\n 2]".into()));
    world.hub.raise_event(&id, event).await.unwrap();
    assert!(open.until("event: end").await && open.until("\n\n\r\n0\r\n\r\n").await);
    assert!(open.came.contains("EventRaised"));
    assert!(
        open.came.contains("\"result\":[1,\ndata: \ndata: \ndata:  2]"),
        "{}",
        open.came
    );
    let remote = world.remote();
    let mut watch = remote.watch(&id, None, Default::default()).await.unwrap();
    let mut results = Vec::new();
    while let Some(change) = watch.next().await.unwrap() {
        results.push(change);
    }
    assert_eq!(results.last().map(|change| change.seen.is_end), Some(true));
}

#[tokio::test]
async fn streams_count_as_waits_of_their_caller() {
    let limits = Limits {
        waiters_per_key_max: 1,
        ..Limits::default()
    };
    let world = world_with(limits, |server| server).await;
    world.running("Wait", "w", "1").await;
    let mut open = Open::of(&world, &format!("{V1}/w/stream")).await;
    assert!(open.until("event: status").await);
    let refused = world.get(&format!("{V1}/w/stream")).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "busy"));
    drop(open);
    while world.get(&format!("{V1}/w/wait?timeout=0")).await.status == 429 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_rows_of_all_instances_are_told_behind_a_reset_and_with_their_filter() {
    let world = world().await;
    let mut open = Open::of(&world, "/runtime/dalsegno/v1/stream?prefix=a").await;
    assert!(open.until("event: reset").await);
    world.finished("Echo", "b", "1").await;
    let id = world.finished("Echo", "a1", "\"secret\"").await;
    assert!(open.until("\"id\":\"a1\",\"status\":\"Completed\"").await);
    world.hub.purge(&id, Default::default()).await.unwrap();
    assert!(open.until("event: removed\ndata: {\"id\":\"a1\"}").await);
    assert!(
        !open.came.contains("\"id\":\"b\"") && !open.came.contains("secret"),
        "{}",
        open.came
    );
    let bad = world.get("/runtime/dalsegno/v1/stream?status=Running").await;
    assert_eq!((bad.status, bad.code().as_str()), (400, "unknown_parameter"));
}

#[tokio::test]
async fn a_reader_of_all_rows_that_falls_behind_is_told_to_list_again() {
    use dalsegno_engine::changes::{HubChange, KEPT, RowChange};
    let world = world().await;
    let mut changes = world.hub.changes(Default::default());
    assert_eq!(changes.next().await, Some(HubChange::Reset));
    let options = |id: usize| dalsegno_engine::request::StartOptions {
        name: "Echo".into(),
        id: dalsegno_core::InstanceId::parse(&format!("i{id}")).ok(),
        ..Default::default()
    };
    for number in 0..=KEPT {
        let id = world.hub.start(options(number)).await.unwrap().id;
        world.hub.wait_for_completion(&id, None).await.unwrap();
    }
    assert_eq!(changes.next().await, Some(HubChange::Reset), "more than are kept");
    let mut told = 0;
    while told < KEPT {
        let Some(HubChange::Rows(rows)) = changes.next().await else {
            panic!("rows follow");
        };
        assert!(rows.iter().all(|row| matches!(&**row, RowChange::Is(_))));
        told += rows.len();
    }
}
