//! An app that works for a hub elsewhere.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dalsegno::{
    ActivityContext, App, ConnectedApp, EntityContext, Error, ExternalEvent, Host, HostSettings, Limiter,
    OrchestrationContext, RemoteWorkers, Result, RetryPolicy, Status, Tls, activity, entity, join_all,
    orchestrator, timer_trigger,
};
use serde::{Deserialize, Serialize};

use super::functions::{GO, Probe, app_with, echo, insistent, versioned_1, versioned_2, waiter};
use super::{SOON, eventually, hub_for_workers, until};

const NEXT: ExternalEvent<u32> = ExternalEvent::new("Next");
const STEPS: u32 = 12;

#[activity]
async fn square(number: u64) -> u64 {
    number * number
}

#[orchestrator]
async fn squares(ctx: &OrchestrationContext, count: u64) -> Result<u64> {
    let squares = join_all((0..count).map(|number| ctx.call(square, number))).await;
    Ok(squares.into_iter().sum::<std::result::Result<u64, _>>()?)
}

#[orchestrator]
async fn chain(ctx: &OrchestrationContext, count: u64) -> Result<u64> {
    let mut sum = 0;
    for number in 0..count {
        sum += ctx.call(square, number).await?;
    }
    Ok(sum)
}

/// Everything that has a number or a name on the way, with events between.
#[orchestrator]
async fn long_way(ctx: &OrchestrationContext, key: String) -> Result<Vec<u32>> {
    let tally = ctx.entity::<Tally>(key);
    let mut seen = Vec::new();
    for step in 0..STEPS {
        let lock = ctx.lock([tally.id()]).await;
        tally.add(step).await?;
        ctx.set_custom_status(step);
        drop(lock);
        tally.add(100).signal();
        let _ = ctx
            .timeout(Duration::from_millis(1), ctx.timer(Duration::from_secs(3600)))
            .await;
        ctx.call(square, u64::from(step)).await?;
        seen.push(ctx.wait_for_event(NEXT).await?);
    }
    Ok(seen)
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    sum: u32,
}

#[entity]
impl Tally {
    fn add(&mut self, amount: u32) -> u32 {
        self.sum += amount;
        self.sum
    }

    fn begin(&mut self, ctx: &EntityContext, id: String) -> Result<()> {
        ctx.start_as(dalsegno::InstanceId::parse(&id)?, echo, "from an entity".into())?;
        ctx.entity::<Tally>("other").add(5);
        Ok(())
    }
}

#[activity]
async fn start_another(ctx: ActivityContext, id: String) -> Result<String> {
    let started = ctx.client().start(echo, "by an activity".into()).id(id).await?;
    started.wait().await
}

#[orchestrator]
async fn by_activity(ctx: &OrchestrationContext, id: String) -> Result<String> {
    Ok(ctx.call(start_another, id).await?)
}

#[activity]
async fn which_attempt(ctx: ActivityContext) -> Result<u32> {
    match ctx.attempt() {
        3 => Ok(3),
        other => Err(Error::msg(format!("attempt {other}"))),
    }
}

#[activity(retry = RetryPolicy::fixed(3, Duration::from_millis(1)))]
async fn which_attempt_by_itself(ctx: ActivityContext) -> Result<u32> {
    match ctx.attempt() {
        3 => Ok(3),
        other => Err(Error::msg(format!("attempt {other}"))),
    }
}

#[orchestrator]
async fn attempts(ctx: &OrchestrationContext) -> Result<(u32, u32)> {
    let policy = RetryPolicy::exponential(4, Duration::from_millis(1)).jitter(0.5);
    let by_call = ctx.call(which_attempt, ()).retry(policy).await?;
    Ok((by_call, ctx.call(which_attempt_by_itself, ()).await?))
}

#[derive(Debug)]
struct Inner;

impl std::fmt::Display for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the disk is gone")
    }
}

impl std::error::Error for Inner {}

#[activity]
async fn broken() -> Result<()> {
    Err(Error::from(Inner).permanent())
}

#[orchestrator]
async fn breaks(ctx: &OrchestrationContext) -> Result<()> {
    Ok(ctx.call(broken, ()).await?)
}

#[orchestrator(name = "changing")]
async fn changing_before(ctx: &OrchestrationContext) -> Result<u64> {
    ctx.call(square, 3).await?;
    ctx.wait_for_event(GO).await?;
    Ok(ctx.call(square, 4).await?)
}

#[orchestrator(name = "changing")]
async fn changing_after(ctx: &OrchestrationContext) -> Result<u64> {
    ctx.timer(Duration::from_millis(1)).await;
    Ok(ctx.call(square, 4).await?)
}

fn app() -> App {
    app_with(&Probe::default())
        .register(square)
        .register(squares)
        .register(chain)
        .register(long_way)
        .register(start_another)
        .register(by_activity)
        .register(which_attempt)
        .register(which_attempt_by_itself)
        .register(attempts)
        .register(broken)
        .register(breaks)
        .entity::<Tally>()
}

fn address(host: &Host) -> String {
    format!("http://{}", host.address().unwrap())
}

async fn connect(host: &Host, app: App) -> ConnectedApp {
    let connected = app.connect(address(host)).start().unwrap();
    tokio::time::timeout(SOON, connected.connected()).await.unwrap();
    connected
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_app_runs_sequences_and_fans_out_without_replaying() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let connected = connect(&host, app()).await;
    let client = host.client();
    let sum = client.start(squares, 200).await.unwrap().wait().await.unwrap();
    assert_eq!(sum, (0..200).map(|number| number * number).sum::<u64>());
    let sum = client.start(chain, 50).await.unwrap().wait().await.unwrap();
    assert_eq!(sum, (0..50).map(|number| number * number).sum::<u64>());
    let counts = connected.counts();
    assert_eq!((counts.replayed, counts.asked), (0, 0), "{counts:?}");
    assert!(counts.kept >= 50, "{counts:?}");
    assert_eq!(connected.drain(SOON).await, 0);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_room_for_executions_asks_for_their_history() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let connected = app().connect(address(&host)).kept_bytes_max(0).start().unwrap();
    tokio::time::timeout(SOON, connected.connected()).await.unwrap();
    let sum = host
        .client()
        .start(chain, 20)
        .await
        .unwrap()
        .wait()
        .await
        .unwrap();
    assert_eq!(sum, (0..20).map(|number| number * number).sum::<u64>());
    Walk::begin(&host, "walk").await.finish().await;
    let counts = connected.counts();
    assert_eq!(counts.kept, 0, "{counts:?}");
    assert!(
        counts.asked >= 20 && counts.replayed >= counts.asked,
        "{counts:?}"
    );
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_calls_say_of_retries_reaches_the_hub_and_failures_come_whole() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let _connected = connect(&host, app()).await;
    let client = host.client();
    let tried = client.start(attempts, ()).await.unwrap();
    assert_eq!(tried.wait().await.unwrap(), (3, 3));
    let events = tried.history().await.unwrap();
    let scheduled = events.iter().filter(|event| event.kind.name() == "TaskScheduled");
    assert_eq!(scheduled.count(), 2, "attempts leave no event");

    let failed = client.start(breaks, ()).await.unwrap();
    let row = until(&failed, |status| status.row.status.is_final()).await.row;
    assert_eq!(row.status, Status::Failed);
    let failure = row.failure.unwrap();
    let text = format!("{failure:?}");
    assert!(
        text.contains("the disk is gone") && text.contains("Inner"),
        "{text}"
    );
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_apps_activities_and_entities_reach_others() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let _connected = connect(&host, app()).await;
    let client = host.client();
    let answer = client
        .start(by_activity, "other".into())
        .await
        .unwrap()
        .wait()
        .await;
    assert_eq!(answer.unwrap(), "by an activity");

    let tally = client.entity::<Tally>("one").unwrap();
    tally.begin("begun".into()).signal().await.unwrap();
    let begun = client.instance(echo, "begun").unwrap();
    super::eventually(async || begun.status().await.is_ok()).await;
    assert_eq!(begun.wait().await.unwrap(), "from an entity");
    let other = client.entity::<Tally>("other").unwrap();
    super::eventually(async || other.state().await.unwrap().is_some_and(|tally| tally.sum == 5)).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_by_name_alone_takes_the_highest_version_that_a_worker_has() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let _connected = connect(&host, app()).await;
    let client = host.client();
    let by_name = client.start_named::<String>("versioned", ()).await.unwrap();
    let one = client.start(versioned_1, ()).await.unwrap();
    let two = client.start(versioned_2, ()).await.unwrap();
    for instance in [&by_name, &one, &two] {
        instance.raise_event(GO, "go".into()).await.unwrap();
    }
    assert_eq!(by_name.wait().await.unwrap(), "two go");
    assert_eq!(one.wait().await.unwrap(), "one go");
    assert_eq!(two.wait().await.unwrap(), "two go");
    host.shutdown().await;
}

/// One instance on its long way, told to go on step by step.
struct Walk {
    instance: dalsegno::Instance<Vec<u32>>,
    step: u32,
}

impl Walk {
    async fn begin(host: &Host, key: &str) -> Self {
        let started = host.client().start(long_way, key.into()).id(key).await;
        Self {
            instance: started.unwrap(),
            step: 0,
        }
    }

    /// The same after another start of the host.
    fn at(self, host: &Host) -> Self {
        let id = self.instance.id();
        Self {
            instance: host.client().instance(long_way, id).unwrap(),
            ..self
        }
    }

    async fn go(&mut self, steps: u32) {
        for _ in 0..steps {
            let shown = self.step.to_string();
            until(&self.instance, |status| {
                status
                    .row
                    .custom_status
                    .as_ref()
                    .is_some_and(|own| own.as_str() == shown)
            })
            .await;
            self.instance.raise_event(NEXT, self.step).await.unwrap();
            self.step += 1;
        }
    }

    async fn finish(mut self) {
        self.go(STEPS - self.step).await;
        let seen = tokio::time::timeout(SOON, self.instance.wait()).await.unwrap();
        assert_eq!(seen.unwrap(), (0..STEPS).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_or_dies_in_the_middle_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let first = connect(&host, app()).await;
    let mut walk = Walk::begin(&host, "walk").await;
    walk.go(4).await;
    first.drain(SOON).await;
    let second = connect(&host, app()).await;
    walk.go(4).await;
    assert!(second.counts().replayed > 0);
    drop(second);
    let third = connect(&host, app()).await;
    walk.finish().await;
    assert!(third.counts().replayed > 0);
    let tally = host.client().entity::<Tally>("walk").unwrap();
    let sum = (0..STEPS).sum::<u32>() + 100 * STEPS;
    super::eventually(async || tally.state().await.unwrap().is_some_and(|tally| tally.sum == sum)).await;
    host.shutdown().await;
}

async fn hub_at(folder: &Path, listen: SocketAddr) -> Host {
    let settings = HostSettings {
        remote_workers: RemoteWorkers::ThisHub,
        listen: Some(listen),
        ..HostSettings::in_folder(folder)
    };
    // Connections of the one before end a moment later.
    let trying = async {
        loop {
            match App::new().start(settings.clone()).await {
                Ok(host) => return host,
                Err(error) => assert!(error.to_string().contains("in use"), "{error}"),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, trying).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_comes_back_to_a_host_that_was_gone() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let listen = host.address().unwrap();
    let connected = connect(&host, app()).await;
    let mut walk = Walk::begin(&host, "walk").await;
    walk.go(4).await;
    drop(host);
    let host = hub_at(folder.path(), listen).await;
    walk = walk.at(&host);
    walk.go(4).await;
    host.shutdown().await;
    let host = hub_at(folder.path(), listen).await;
    walk.at(&host).finish().await;
    assert!(connected.counts().connections >= 3, "{:?}", connected.counts());
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_does_not_fit_parks_the_instance_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let before = connect(&host, App::new().register(square).register(changing_before)).await;
    let instance = host.client().start(changing_before, ()).await.unwrap();
    until(&instance, |status| status.row.status == Status::Running).await;
    super::eventually(async || {
        let events = instance.history().await.unwrap();
        events.iter().any(|event| event.kind.name() == "TaskCompleted")
    })
    .await;
    before.drain(SOON).await;
    let after = connect(&host, App::new().register(square).register(changing_after)).await;
    instance.raise_event(GO, "go".into()).await.unwrap();
    let parked = until(&instance, |status| status.row.parked.is_some()).await.row;
    assert_eq!(parked.status, Status::Running);
    let reason = parked.parked.unwrap().to_string();
    assert!(
        reason.contains("Diverged") && reason.contains("square"),
        "{reason}"
    );
    after.drain(SOON).await;

    // The code that fits is back: told to try again, it goes on.
    let _before = connect(&host, App::new().register(square).register(changing_before)).await;
    instance.rewind("the right code is back").await.unwrap();
    assert_eq!(
        tokio::time::timeout(SOON, instance.wait())
            .await
            .unwrap()
            .unwrap(),
        16
    );
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_does_not_finish_is_handed_back() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let probe = Probe::default();
    let first = connect(&host, app_with(&probe)).await;
    let instance = host
        .client()
        .start(super::functions::watching, ())
        .id("held")
        .await
        .unwrap();
    super::eventually(async || probe.notes("held") == ["began"]).await;
    // The receipt of the turn that asked for the activity may still be under way.
    super::eventually(async || first.in_flight() == 1).await;
    assert_eq!(first.drain(Duration::ZERO).await, 1);
    let second = connect(&host, app_with(&probe)).await;
    super::eventually(async || probe.notes("held").iter().filter(|note| *note == "began").count() == 2).await;
    assert!(probe.notes("held").contains(&"Shutdown".to_owned()));
    instance.terminate("enough").await.unwrap();
    drop(second);
    host.shutdown().await;
}

#[timer_trigger("0 0 7 * * *")]
async fn every_morning(_client: dalsegno::Client) -> Result<()> {
    Ok(())
}

#[tokio::test]
async fn what_only_a_host_can_give_is_refused_by_name() {
    let app = App::new().register(every_morning);
    let error = app.connect("http://127.0.0.1:9").start().unwrap_err().to_string();
    assert!(error.contains("\"every_morning\""), "{error}");
    let error = App::new().connect("ftp://there").start().unwrap_err().to_string();
    assert!(error.contains("http://127.0.0.1:8080"), "{error}");
    let error = App::new()
        .register(square)
        .register(square)
        .connect("http://127.0.0.1:9");
    assert!(error.start().unwrap_err().to_string().contains("twice"));
    let hub = App::new().connect("http://127.0.0.1:9").hub("a\nb").start();
    assert!(hub.unwrap_err().to_string().contains("the hub's name"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_connects_by_tls_to_whom_it_trusts() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let settings = HostSettings {
        remote_workers: RemoteWorkers::ThisHub,
        tls: Some(Tls::read(&certificate, &key).unwrap()),
        ..HostSettings::in_folder(folder.path().join("hub"))
    };
    let host = App::new().start(settings).await.unwrap();
    let address = format!("https://localhost:{}", host.address().unwrap().port());
    let unreadable = app().connect(&address).trust("no certificate").start();
    assert!(unreadable.unwrap_err().to_string().contains("PEM"));
    let connected = app().connect(&address).trust(made.cert.pem()).start().unwrap();
    tokio::time::timeout(SOON, connected.connected()).await.unwrap();
    let began = connected.client().start(squares, 4).await.unwrap();
    assert_eq!(began.wait().await.unwrap(), 14);
    connected.drain(SOON).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_limits_activities_that_say_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Limiter::new("slow").rate(1, Duration::from_millis(40)).burst(1);
    let settings = HostSettings {
        remote_workers: RemoteWorkers::ThisHub,
        limiters: vec![("slow".to_owned(), slow.definition())],
        limited: vec![("square".to_owned(), "slow".to_owned())],
        ..HostSettings::in_folder(folder.path())
    };
    let host = App::new().start(settings).await.unwrap();
    let _connected = connect(&host, app()).await;
    let began = std::time::Instant::now();
    let instance = host.client().start(squares, 4).await.unwrap();
    assert_eq!(instance.wait().await.unwrap(), 14);
    // One at once, three more in 40 ms each; a bound from below does not flake.
    assert!(
        began.elapsed() >= Duration::from_millis(100),
        "{:?}",
        began.elapsed()
    );
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_worker_begins_when_one_connects() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let waiting = host.client().start(waiter, ()).await.unwrap();
    waiting.raise_event(GO, "early".into()).await.unwrap();
    let retried = host.client().start(insistent, 2).await.unwrap();
    let _connected = connect(&host, app()).await;
    assert_eq!(waiting.wait().await.unwrap(), "early");
    assert_eq!(retried.wait().await.unwrap(), 3);
    host.shutdown().await;
}

#[tokio::test]
async fn what_holds_an_instance_elsewhere_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let host = hub_for_workers(folder.path()).await;
    let waiting = host.client().start(waiter, ()).await.unwrap();
    let told = async |kind: &str| {
        let explanation = waiting.explain().await.unwrap();
        explanation
            .reasons
            .first()
            .is_some_and(|reason| reason.kind == kind)
    };
    eventually(async || told("noWorker").await).await;
    assert_eq!(host.client().stuck(10).await.unwrap().rows.len(), 1);
    let _connected = connect(&host, app()).await;
    eventually(async || told("event").await).await;
    assert_eq!(host.client().stuck(10).await.unwrap().rows.len(), 0);
    host.shutdown().await;
}

#[tokio::test]
async fn the_client_of_a_worker_reaches_the_hub_that_it_works_for() {
    let folder = tempfile::tempdir().unwrap();
    let settings = HostSettings {
        remote_workers: RemoteWorkers::AnyHub,
        ..HostSettings::in_folder(folder.path())
    };
    let host = App::new().start(settings).await.unwrap();
    let address = format!("http://{}", host.address().unwrap());
    let app = App::new()
        .register(by_activity)
        .register(start_another)
        .register(echo);
    let connected = app.connect(&address).hub("orders").start().unwrap();
    connected.connected().await;
    let started = connected
        .client()
        .start(by_activity, "another".into())
        .id("one")
        .await
        .unwrap();
    assert_eq!(started.wait().await.unwrap(), "by an activity");
    assert_eq!(host.hub_names(), ["default", "orders"]);
    let elsewhere = host.client().instance(echo, "another").unwrap();
    assert!(elsewhere.status().await.is_err());
    connected.drain(SOON).await;
    host.shutdown().await;
}
