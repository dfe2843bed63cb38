//! Whose work it is: trace context from a start to everything that it leads to.

use dalsegno::{
    ActivityContext, App, Client, EntityContext, EntityId, Event, EventKind, HostSettings, Instance,
    InstanceQuery, NewId, OrchestrationContext, Result, TraceContext, activity, entity, http_trigger,
    orchestrator,
};
use dalsegno_engine::request::RequestErrorKind;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::functions::GO;
use super::{eventually, on_all, on_both, until};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-00";

#[activity]
async fn traced(ctx: ActivityContext) -> String {
    said(ctx.trace_context())
}

fn said(trace: Option<&TraceContext>) -> String {
    trace.map_or("none".into(), |trace| format!("{trace:?}"))
}

/// Fails the first time, so that there is something to rewind.
#[activity]
async fn brittle(ctx: ActivityContext) -> Result<String> {
    let tries = ctx.data::<Tries>();
    match tries.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Err(dalsegno::Error::msg("the first time")),
        _ => Ok(said(ctx.trace_context())),
    }
}

#[derive(Default)]
struct Tries(std::sync::atomic::AtomicU32);

#[orchestrator]
async fn child(ctx: &OrchestrationContext) -> Result<Vec<String>> {
    let own = said(ctx.trace_context());
    Ok(vec![own, ctx.call(traced, ()).await?])
}

/// Two executions; the second asks an activity and a child.
#[orchestrator]
async fn family(ctx: &OrchestrationContext, execution: u32) -> Result<Vec<String>> {
    ctx.wait_for_event(GO).await?;
    if execution == 1 {
        return ctx.continue_as_new(family, 2).await;
    }
    let mut all = vec![said(ctx.trace_context()), ctx.call(traced, ()).await?];
    all.extend(ctx.call(child, ()).await?);
    Ok(all)
}

#[orchestrator]
async fn failing(ctx: &OrchestrationContext) -> Result<String> {
    Ok(ctx.call(brittle, ()).await?)
}

/// Keeps whose work its last operation was.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Diary {
    last: String,
}

#[entity]
impl Diary {
    fn write(&mut self, ctx: &EntityContext) -> String {
        self.last = said(ctx.trace_context());
        self.last.clone()
    }

    /// Has another one write, and a child tell.
    fn pass_on(&mut self, ctx: &EntityContext, other: String) -> Result<()> {
        ctx.entity::<Diary>(other).write().signal();
        ctx.start(child, ())?;
        Ok(())
    }
}

#[orchestrator]
async fn diarist(ctx: &OrchestrationContext, key: String) -> Result<String> {
    Ok(ctx.entity::<Diary>(key).write().await?)
}

fn app() -> App {
    App::new()
        .entity::<Diary>()
        .register(diarist)
        .register(traced)
        .register(brittle)
        .register(child)
        .register(family)
        .register(failing)
        .data(Tries::default())
}

fn trace() -> TraceContext {
    TraceContext::parse(PARENT, Some("vendor=1")).unwrap()
}

async fn go(instance: &Instance<Vec<String>>) {
    instance.raise_event(GO, "go".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_reaches_all_that_a_start_leads_to() {
    on_all(app, async |client: Client| {
        let instance = client.start(family, 1).trace(trace()).await.unwrap();
        go(&instance).await;
        go(&instance).await;
        let wanted = format!("{PARENT} vendor=1");
        assert_eq!(instance.wait().await.unwrap(), vec![wanted; 4]);
        assert_eq!(instance.status().await.unwrap().trace, Some(trace()));
        let history = instance.history().await.unwrap();
        let started = history.iter().find_map(|event| match &event.kind {
            EventKind::ExecutionStarted(started) => started.trace.clone(),
            _ => None,
        });
        assert_eq!(started, Some(trace()));
    })
    .await;
}

/// Starts one that tells whose work it is, and raises an event.
#[http_trigger(methods = ["POST"], auth = anonymous)]
async fn place(client: Client) -> Result<String> {
    let instance = client.start(child, ()).await?;
    let told = instance.wait().await?;
    let other = client.start(family, 2).await?;
    other.raise_event(GO, "go".into()).await?;
    other.wait().await?;
    let raised = raised(&other.history().await?);
    Ok(format!("{} {}", told.join(" "), said(raised[0].as_ref())))
}

/// What the trigger told, with these headers of the request.
async fn placed(address: SocketAddr, headers: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("POST /api/place HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.0 200"), "{text}");
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_http_trigger_starts_is_part_of_the_trace_of_its_request() {
    let folder = tempfile::tempdir().unwrap();
    let app = app().register(place);
    let host = app.start(HostSettings::in_folder(folder.path())).await.unwrap();
    let address = host.address().unwrap();
    let headers = format!("traceparent: {PARENT}\r\ntracestate: vendor=1\r\n");
    let wanted = format!("{PARENT} vendor=1");
    assert_eq!(placed(address, &headers).await, [wanted.as_str(); 3].join(" "));
    let invalid = format!("traceparent: {}\r\n", PARENT.to_uppercase());
    for headers in [invalid.as_str(), ""] {
        assert_eq!(placed(address, headers).await, "none none none");
    }
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_trace_none_is_made_and_a_bad_one_is_refused() {
    on_all(app, async |client: Client| {
        let instance = client.start(child, ()).await.unwrap();
        assert_eq!(instance.wait().await.unwrap(), ["none", "none"]);
        assert_eq!(instance.status().await.unwrap().trace, None);
        let named = client.start(child, ()).trace_parent(OTHER).await.unwrap();
        assert_eq!(named.wait().await.unwrap(), [OTHER, OTHER]);
        for new_id in [NewId::Generated, NewId::Same] {
            let again = named.restart(new_id).await.unwrap();
            assert_eq!(again.wait().await.unwrap(), [OTHER, OTHER]);
        }
        let refused = client
            .start(child, ())
            .trace_parent("00-1-2-3")
            .await
            .unwrap_err();
        assert_eq!(refused.request_kind(), Some(RequestErrorKind::Invalid));
        assert!(refused.to_string().contains("looks like 00-"), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewound_instance_keeps_its_trace() {
    on_all(app, async |client: Client| {
        let instance = client.start(failing, ()).trace(trace()).await.unwrap();
        instance.wait().await.unwrap_err();
        instance.rewind("").await.unwrap();
        assert_eq!(instance.wait().await.unwrap(), format!("{PARENT} vendor=1"));
        assert_eq!(instance.status().await.unwrap().trace, Some(trace()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let settings = || HostSettings {
        listen: None,
        ..HostSettings::in_folder(folder.path())
    };
    let host = app().start(settings()).await.unwrap();
    let far = host.hub().now() + dalsegno::DAY;
    let client = host.client();
    let waiting = client.start(family, 1).id("t").trace(trace()).await.unwrap();
    let later = client
        .start(child, ())
        .id("l")
        .at(far)
        .trace(trace())
        .await
        .unwrap();
    until(&waiting, |status| status.row.events > 0).await;
    let raise = waiting.raise_event(GO, "go".into());
    let other = TraceContext::parse(OTHER, None).unwrap();
    raise.trace(other.clone()).await.unwrap();
    drop((waiting, later));
    host.shutdown().await;

    let host = app().start(settings()).await.unwrap();
    let later = host.client().instance(child, "l").unwrap();
    assert_eq!(later.status().await.unwrap().trace, Some(trace()));
    let waiting = host.client().instance(family, "t").unwrap();
    waiting.suspend("").await.unwrap();
    waiting
        .raise_event(GO, "held".into())
        .trace(other.clone())
        .await
        .unwrap();
    drop((later, waiting));
    host.shutdown().await;

    let host = app().start(settings()).await.unwrap();
    let waiting = host.client().instance(family, "t").unwrap();
    waiting.resume("").await.unwrap();
    assert_eq!(
        waiting.wait().await.unwrap(),
        vec![format!("{PARENT} vendor=1"); 4]
    );
    let history = waiting.history().await.unwrap();
    assert_eq!(raised(&history), [Some(other)]);
    drop(waiting);
    host.shutdown().await;
}

/// The traces of the events that an execution got.
fn raised(history: &[Event]) -> Vec<Option<TraceContext>> {
    let traces = history.iter().filter_map(|event| match &event.kind {
        EventKind::EventRaised { trace, .. } => Some(trace.clone()),
        _ => None,
    });
    traces.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_are_part_of_the_trace_that_reaches_them() {
    on_both(app, async |client: Client| {
        let wanted = format!("{PARENT} vendor=1");
        let called = client.start(diarist, "a".into()).trace(trace()).await.unwrap();
        assert_eq!(called.wait().await.unwrap(), wanted);

        let diary = client.entity::<Diary>("b").unwrap();
        diary.write().trace(trace()).signal().await.unwrap();
        eventually(async || last(&client, "b").await.as_ref() == Some(&wanted)).await;
        diary.write().signal().await.unwrap();
        eventually(async || last(&client, "b").await.as_deref() == Some("none")).await;

        diary.pass_on("c".into()).trace(trace()).signal().await.unwrap();
        eventually(async || last(&client, "c").await.as_ref() == Some(&wanted)).await;
        let started = InstanceQuery {
            name: Some("child".into()),
            limit: 10,
            ..InstanceQuery::default()
        };
        let page = client.list(started).await.unwrap();
        let child = client.instance(child, page.rows[0].id.as_str()).unwrap();
        assert_eq!(child.wait().await.unwrap(), [wanted.clone(), wanted]);
    })
    .await;
}

async fn last(client: &Client, key: &str) -> Option<String> {
    let id = EntityId::new("Diary", key).unwrap();
    let diary: Option<Diary> = client.entity_state(&id).await.unwrap();
    diary.map(|diary| diary.last)
}
