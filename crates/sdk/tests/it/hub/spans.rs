//! Each orchestration is told of as one trace, once, with true times, over crashes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dalsegno::{
    ActivityContext, App, EntityContext, EntityId, Error, ExternalEvent, Host, HostSettings, Instance,
    OrchestrationContext, RemoteWorkers, Result, RetryPolicy, Sampler, Status, TraceContext, TraceProtocol,
    TraceSettings, activity, entity, orchestrator,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::receivers::{Got, Receiver, hex};
use super::{SOON, eventually, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const GO: ExternalEvent<String> = ExternalEvent::new("Go");
// Kinds of spans, as the protocol numbers them.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

#[derive(Default)]
struct Tries(AtomicU32);

/// Fails the first time; says whose work it is.
#[activity]
async fn reserve(ctx: ActivityContext) -> Result<String> {
    match ctx.data::<Tries>().0.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Error::msg("no room")),
        _ => Ok(said(ctx.trace_context())),
    }
}

#[activity]
async fn charge(_amount: u32) -> Result<()> {
    Err(Error::msg("no such card").permanent())
}

#[activity]
async fn pack(ctx: ActivityContext) -> String {
    said(ctx.trace_context())
}

fn said(trace: Option<&TraceContext>) -> String {
    trace.map_or("none".into(), |trace| trace.trace_parent().to_owned())
}

#[orchestrator(version = "2")]
async fn shipment(ctx: &OrchestrationContext) -> Result<String> {
    Ok(ctx.call(pack, ()).await?)
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Stock {
    left: u32,
}

#[entity]
impl Stock {
    fn take(&mut self, _ctx: &EntityContext, count: u32) -> u32 {
        self.left += count;
        self.left
    }
}

/// Something of everything; ends in a failure.
#[orchestrator]
async fn order(ctx: &OrchestrationContext, customer: String) -> Result<Vec<String>> {
    let retry = RetryPolicy::exponential(3, Duration::from_millis(1));
    let mut all = vec![ctx.call(reserve, ()).retry(retry).await?];
    ctx.timer(Duration::from_millis(5)).await;
    ctx.wait_for_event(GO).await?;
    all.push(ctx.call(shipment, ()).await?);
    ctx.entity::<Stock>("pens").take(3).await?;
    ctx.entity::<Stock>("inks").take(3).signal();
    ctx.set_custom_status(&all);
    if !customer.is_empty() {
        ctx.call(charge, 5).await?;
    }
    Ok(all)
}

#[orchestrator]
async fn rounds(ctx: &OrchestrationContext, left: u32) -> Result<String> {
    let said = ctx.call(pack, ()).await?;
    match left {
        0 => Ok(said),
        left => ctx.continue_as_new(rounds, left - 1).await,
    }
}

fn app() -> App {
    App::new()
        .entity::<Stock>()
        .register(reserve)
        .register(charge)
        .register(pack)
        .register(shipment)
        .register(order)
        .register(rounds)
        .data(Tries::default())
}

fn settings(folder: &Path, traces: TraceSettings) -> HostSettings {
    HostSettings {
        traces: Some(traces),
        partitions: 2,
        ..HostSettings::in_folder(folder)
    }
}

fn to(receiver: &Receiver, protocol: TraceProtocol) -> TraceSettings {
    TraceSettings {
        endpoint: receiver.url(),
        protocol,
        headers: vec![("api-key".into(), "k1".into())],
        service_name: "shop".into(),
        ..TraceSettings::default()
    }
}

fn caller() -> TraceContext {
    TraceContext::parse(&format!("00-{TRACE}-{CALLER}-01"), Some("vendor=1")).unwrap()
}

/// Begins an order and waits until it waits for its event.
async fn begin(host: &Host) -> Instance<Vec<String>> {
    let start = host.client().start(order, "c".into()).id("o").trace(caller());
    let instance = start.await.unwrap();
    until(&instance, |status| status.row.events >= 11).await;
    instance
}

/// Ends it and the host, which sends what waits.
async fn end(host: Host) -> Vec<String> {
    let instance = host.client().instance(order, "o").unwrap();
    instance
        .raise_event(GO, "go".into())
        .trace(caller())
        .await
        .unwrap();
    until(&instance, |status| status.row.status == Status::Failed).await;
    let status = instance.status().await.unwrap().row.custom_status;
    drop(instance);
    host.shutdown().await;
    serde_json::from_str(status.unwrap().as_str()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_orchestration_is_one_trace_over_grpc_and_over_http() {
    for protocol in [TraceProtocol::Grpc, TraceProtocol::Http] {
        let receiver = match protocol {
            TraceProtocol::Grpc => Receiver::grpc().await,
            TraceProtocol::Http => Receiver::http().await,
        };
        let folder = tempfile::tempdir().unwrap();
        let host = app()
            .start(settings(folder.path(), to(&receiver, protocol)))
            .await
            .unwrap();
        begin(&host).await;
        let handed = end(host).await;
        check_order(&receiver, &handed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_neither_repeats_nor_loses_a_span() {
    let receiver = Receiver::grpc().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), to(&receiver, TraceProtocol::Grpc));
    let host = app().start(settings.clone()).await.unwrap();
    let instance = begin(&host).await;
    drop(instance);
    drop(host);
    // The next process has the tries of another.
    let host = app().start(settings).await.unwrap();
    let handed = end(host).await;
    check_order(&receiver, &handed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_began_before_anybody_was_told_is_told_from_its_begin() {
    let receiver = Receiver::grpc().await;
    let folder = tempfile::tempdir().unwrap();
    let told = settings(folder.path(), to(&receiver, TraceProtocol::Grpc));
    let untold = HostSettings {
        traces: None,
        ..told.clone()
    };
    let host = app().start(untold).await.unwrap();
    let instance = host.client().start(order, "c".into()).id("o").await.unwrap();
    until(&instance, |status| status.row.events >= 11).await;
    drop(instance);
    host.shutdown().await;
    let host = app().start(told).await.unwrap();
    end(host).await;
    let got = receiver.got();
    assert_eq!(got.len(), 11, "{got:#?}");
    let creation = receiver.only("create_orchestration:order", PRODUCER);
    assert_eq!(creation.parent(), "");
    assert!(got.iter().all(|got| got.trace() == creation.trace()));
    let order = receiver.only("orchestration:order", SERVER);
    assert_eq!(order.parent(), creation.id());
    assert_eq!(receiver.only("activity:reserve", CLIENT).parent(), order.id());
}

/// All spans of an order, each once, in one trace, below one another.
fn check_order(receiver: &Receiver, handed: &[String]) {
    let got = receiver.got();
    let names: Vec<(&str, i32)> = got
        .iter()
        .map(|got| (got.span.name.as_str(), got.span.kind))
        .collect();
    let wanted = [
        ("activity:charge", CLIENT),
        ("activity:pack", CLIENT),
        ("activity:reserve", CLIENT),
        ("create_orchestration:order", PRODUCER),
        ("entity:stock:take", CLIENT),
        ("entity:stock:take", PRODUCER),
        ("orchestration:order", SERVER),
        ("orchestration:shipment:2", SERVER),
        ("orchestration:shipment:2", CLIENT),
        ("orchestration_event:Go", CONSUMER),
        ("timer", INTERNAL),
    ];
    let sorted = |names: &[(&str, i32)]| {
        let set: Vec<_> = names
            .iter()
            .map(|(name, kind)| (name.to_lowercase(), *kind))
            .collect();
        let mut set = set;
        set.sort();
        set
    };
    assert_eq!(sorted(&names), sorted(&wanted));
    let ids: BTreeSet<String> = got.iter().map(Got::id).collect();
    assert_eq!(ids.len(), got.len(), "each span has an id of its own");
    for span in &got {
        assert_eq!(span.trace(), TRACE, "{}", span.span.name);
        assert_eq!((span.service.as_str(), span.key.as_deref()), ("shop", Some("k1")));
        assert_eq!(span.span.trace_state, "vendor=1");
        assert_eq!(span.attribute("dalsegno.hub"), "default");
        assert!(span.span.start_time_unix_nano <= span.span.end_time_unix_nano);
    }
    check_links(receiver);
    check_details(receiver, handed);
}

fn check_links(receiver: &Receiver) {
    let creation = receiver.only("create_orchestration:order", PRODUCER);
    let order = receiver.only("orchestration:order", SERVER);
    let called = receiver.only("orchestration:shipment:2", CLIENT);
    let shipment = receiver.only("orchestration:shipment:2", SERVER);
    assert_eq!(creation.parent(), CALLER);
    assert_eq!(order.parent(), creation.id());
    assert_eq!(called.parent(), order.id());
    assert_eq!(shipment.parent(), called.id());
    assert_eq!(receiver.only("activity:pack", CLIENT).parent(), shipment.id());
    for (name, kind) in [
        ("activity:reserve", CLIENT),
        ("activity:charge", CLIENT),
        ("timer", INTERNAL),
        ("entity:stock:take", CLIENT),
        ("entity:stock:take", PRODUCER),
        ("orchestration_event:Go", CONSUMER),
    ] {
        assert_eq!(receiver.only(name, kind).parent(), order.id(), "{name}");
    }
    let event = receiver.only("orchestration_event:Go", CONSUMER);
    let links: Vec<String> = event.span.links.iter().map(|link| hex(&link.span_id)).collect();
    assert_eq!(links, [CALLER]);
}

fn check_details(receiver: &Receiver, handed: &[String]) {
    let (reserve, pack) = (
        receiver.only("activity:reserve", CLIENT),
        receiver.only("activity:pack", CLIENT),
    );
    let within = |span: &Got| format!("00-{TRACE}-{}-01", span.id());
    assert_eq!(
        handed,
        [within(&reserve), within(&pack)],
        "activities know their spans"
    );
    let order = receiver.only("orchestration:order", SERVER);
    for (name, value) in [
        ("durabletask.type", "orchestration"),
        ("durabletask.task.name", "order"),
        ("durabletask.task.instance_id", "o"),
        ("durabletask.task.status", "Failed"),
    ] {
        assert_eq!(order.attribute(name), value);
    }
    assert!(order.failure().unwrap().contains("no such card"), "{order:?}");
    let charge = receiver.only("activity:charge", CLIENT);
    assert!(charge.failure().unwrap().contains("no such card"));
    assert_eq!(reserve.failure(), None);
    assert_eq!(reserve.attribute("dalsegno.attempts"), "2");
    assert_eq!(reserve.attribute("durabletask.task.task_id"), "0");
    let moments: Vec<&str> = reserve
        .span
        .events
        .iter()
        .map(|event| event.name.as_str())
        .collect();
    assert_eq!(moments, ["attempt_failed", "attempt_started"]);
    let shipment = receiver.only("orchestration:shipment:2", SERVER);
    assert_eq!(shipment.attribute("durabletask.task.version"), "2");
    assert_eq!(shipment.failure(), None);
    let timer = receiver.only("timer", INTERNAL);
    let took = timer.span.end_time_unix_nano - timer.span.start_time_unix_nano;
    assert!(took >= 5_000_000, "{took}");
    assert!(timer.attribute("durabletask.fire_at").ends_with('Z'));
    let entity = receiver.only("entity:stock:take", CLIENT);
    assert_eq!(entity.attribute("durabletask.task.operation"), "take");
    let id = EntityId::new("Stock", "pens").unwrap();
    assert_eq!(
        entity.attribute("durabletask.event.target_instance_id"),
        id.to_string()
    );
    assert!(
        !format!("{:?}", receiver.got()).contains("\"pens\\\""),
        "no values"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_caller_a_trace_begins_and_each_execution_is_told() {
    let receiver = Receiver::http().await;
    let folder = tempfile::tempdir().unwrap();
    let host = app()
        .start(settings(folder.path(), to(&receiver, TraceProtocol::Http)))
        .await
        .unwrap();
    let instance = host.client().start(rounds, 2).await.unwrap();
    let last = instance.wait().await.unwrap();
    let trace = instance.status().await.unwrap().trace.unwrap();
    drop(instance);
    host.shutdown().await;
    let got = receiver.got();
    assert_eq!(got.len(), 7, "{got:#?}");
    assert!(got.iter().all(|got| got.trace() == trace.trace_id()));
    let creation = receiver.only("create_orchestration:rounds", PRODUCER);
    assert_eq!(creation.parent(), "", "the trace begins here");
    let rounds: Vec<&Got> = got.iter().filter(|got| got.span.kind == SERVER).collect();
    let statuses: Vec<String> = rounds
        .iter()
        .map(|got| got.attribute("durabletask.task.status"))
        .collect();
    assert_eq!(statuses, ["ContinuedAsNew", "ContinuedAsNew", "Completed"]);
    assert!(rounds.iter().all(|got| got.parent() == creation.id()));
    let activities: Vec<&Got> = got
        .iter()
        .filter(|got| got.span.name == "activity:pack")
        .collect();
    assert!(last.contains(&activities[2].id()));
    for (activity, round) in activities.iter().zip(rounds) {
        assert_eq!(activity.parent(), round.id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_is_not_told_and_handed_on_as_such() {
    let receiver = Receiver::grpc().await;
    let folder = tempfile::tempdir().unwrap();
    let traces = TraceSettings {
        sampler: Sampler::ParentBased(0.0),
        ..to(&receiver, TraceProtocol::Grpc)
    };
    let host = app().start(settings(folder.path(), traces)).await.unwrap();
    let own = host.client().start(shipment, ()).await.unwrap();
    let unsampled = TraceContext::parse(&format!("00-{TRACE}-{CALLER}-00"), None);
    let given = host.client().start(shipment, ()).trace(unsampled).await.unwrap();
    assert!(own.wait().await.unwrap().ends_with("-00"));
    assert!(given.wait().await.unwrap().ends_with("-00"));
    let sampled = host.client().start(shipment, ()).trace(caller()).await.unwrap();
    sampled.wait().await.unwrap();
    drop((own, given, sampled));
    host.shutdown().await;
    let got = receiver.got();
    assert_eq!(got.len(), 3, "{got:#?}");
    assert!(got.iter().all(|got| got.trace() == TRACE));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_request_reaches_what_it_starts_through_a_worker() {
    let receiver = Receiver::grpc().await;
    let folder = tempfile::tempdir().unwrap();
    let hub = HostSettings {
        remote_workers: RemoteWorkers::ThisHub,
        ..settings(folder.path(), to(&receiver, TraceProtocol::Grpc))
    };
    let host = App::new().start(hub).await.unwrap();
    let connected = app()
        .connect(format!("http://{}", host.address().unwrap()))
        .start()
        .unwrap();
    connected.connected().await;
    let handed: String = host
        .client()
        .start_named("shipment", ())
        .trace(caller())
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    connected.drain(SOON).await;
    host.shutdown().await;
    let names: Vec<String> = receiver.got().into_iter().map(|got| got.span.name).collect();
    let wanted = [
        "activity:pack",
        "create_orchestration:shipment:2",
        "orchestration:shipment:2",
    ];
    assert_eq!(names, wanted, "our own workers tell of no spans: the hub does");
    let pack = receiver.only("activity:pack", CLIENT);
    assert_eq!(handed, format!("00-{TRACE}-{}-01", pack.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_tells_only_what_it_did() {
    let receiver = Receiver::grpc().await;
    let folder = tempfile::tempdir().unwrap();
    let host = app()
        .start(settings(folder.path(), to(&receiver, TraceProtocol::Grpc)))
        .await
        .unwrap();
    let instance = begin(&host).await;
    instance.raise_event(GO, "go".into()).await.unwrap();
    until(&instance, |status| status.row.status == Status::Failed).await;
    instance.rewind("again").await.unwrap();
    until(&instance, |status| status.row.status == Status::Failed).await;
    drop(instance);
    host.shutdown().await;
    let got = receiver.got();
    let ids: BTreeSet<String> = got.iter().map(Got::id).collect();
    assert_eq!(ids.len(), got.len(), "each span has an id of its own");
    let count = |name: &str| got.iter().filter(|got| got.span.name == name).count();
    assert_eq!(count("create_orchestration:order"), 1);
    assert_eq!(count("activity:reserve"), 1);
    assert_eq!(count("timer"), 1);
    assert_eq!(count("activity:charge"), 2);
    assert_eq!(count("orchestration:order"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_holds_nothing_up_and_costs_spans_that_are_counted() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let traces = TraceSettings {
        endpoint: format!("http://{nobody}"),
        queue_max: 20,
        ..TraceSettings::default()
    };
    let host = app().start(settings(folder.path(), traces)).await.unwrap();
    for _ in 0..20 {
        let instance = host.client().start(shipment, ()).await.unwrap();
        instance.wait().await.unwrap();
    }
    let address = host.address().unwrap();
    eventually(async || dropped(address).await >= 3 * 10).await;
    host.shutdown().await;
}

async fn dropped(address: SocketAddr) -> u64 {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("dalsegno_spans_dropped_total"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap()
}
