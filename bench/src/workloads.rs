//! The workloads: the same for every engine that is compared.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use dalsegno::{
    App, ExternalEvent, Host, HostSettings, Instance, InstanceQuery, OrchestrationContext, Result, activity,
    entity, join_all, orchestrator,
};
use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

use crate::machine;

/// Client tasks that start, raise and signal at once.
const CLIENTS: usize = 512;

#[activity]
async fn greet(city: String) -> String {
    format!("Hello {city}!")
}

/// Five activities, one after the other.
#[orchestrator]
async fn sequence(ctx: &OrchestrationContext) -> Result<Vec<String>> {
    let mut greetings = Vec::with_capacity(5);
    for city in ["Tokyo", "Seattle", "London", "Cairo", "Lima"] {
        greetings.push(ctx.call(greet, city.into()).await?);
    }
    Ok(greetings)
}

#[activity]
async fn square(number: u64) -> u64 {
    number * number
}

/// One activity per number, all at once.
#[orchestrator]
async fn fan_out(ctx: &OrchestrationContext, count: u64) -> Result<u64> {
    let squares = join_all((0..count).map(|number| ctx.call(square, number))).await;
    Ok(squares.into_iter().sum::<std::result::Result<u64, _>>()?)
}

const GO: ExternalEvent<u64> = ExternalEvent::new("Go");

#[orchestrator]
async fn waiting(ctx: &OrchestrationContext) -> Result<u64> {
    Ok(ctx.wait_for_event(GO).await?)
}

/// Timers of an idle hub.
const IDLE_TIMERS: u64 = 1_000;

#[orchestrator]
async fn sleeping(ctx: &OrchestrationContext) -> Result<()> {
    ctx.timer(Duration::from_secs(7 * 24 * 3600)).await;
    Ok(())
}

/// As many activities as asked, one after the other, in one execution.
#[orchestrator]
async fn long_history(ctx: &OrchestrationContext, count: u64) -> Result<u64> {
    let mut sum = 0;
    for number in 0..count {
        sum += ctx.call(square, number % 10).await?;
    }
    Ok(sum)
}

/// A sum.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    sum: i64,
}

#[entity]
impl Tally {
    fn add(&mut self, amount: i64) -> i64 {
        self.sum += amount;
        self.sum
    }
}

/// What a workload came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) workload: String,
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    pub(crate) cpu_micros_each: f64,
    pub(crate) syncs: u64,
    pub(crate) resident_megabytes: u64,
    /// Of the workload's process.
    pub(crate) peak_megabytes: u64,
    pub(crate) note: String,
}

pub(crate) fn app() -> App {
    App::new()
        .register(greet)
        .register(sequence)
        .register(square)
        .register(fan_out)
        .register(waiting)
        .register(sleeping)
        .register(long_history)
        .entity::<Tally>()
}

/// The hub in a folder, a fresh one if it is empty.
pub(crate) async fn open(folder: &Path) -> Result<Host> {
    app().embedded(folder.join("hub")).await
}

/// The same with so little room for live futures that instances which wait are evicted.
pub(crate) async fn open_evicting(folder: &Path) -> Result<Host> {
    let mut settings = HostSettings::in_folder(folder.join("hub"));
    settings.listen = None;
    settings.limits.futures_bytes_max = 0;
    app().start(settings).await
}

/// Measures what runs between its making and its end.
struct Measure {
    begin: Instant,
    cpu: Duration,
    syncs: u64,
}

impl Measure {
    fn begin(host: &Host) -> Self {
        Self {
            begin: Instant::now(),
            cpu: machine::cpu_time(),
            syncs: host.hub().synced_batches(),
        }
    }

    fn end(self, host: &Host, workload: &str, count: u64) -> Figure {
        let seconds = self.begin.elapsed().as_secs_f64();
        let cpu = (machine::cpu_time() - self.cpu).as_secs_f64();
        Figure {
            workload: workload.to_owned(),
            count,
            seconds,
            per_second: count as f64 / seconds,
            cpu_micros_each: cpu * 1e6 / count as f64,
            syncs: host.hub().synced_batches() - self.syncs,
            resident_megabytes: machine::resident_bytes() / (1024 * 1024),
            peak_megabytes: machine::peak_bytes() / (1024 * 1024),
            note: String::new(),
        }
    }
}

/// L1: one sequence at a time on an idle hub; start to completion as the client sees it.
pub(crate) async fn latency(host: &Host, runs: usize) -> Result<Figure> {
    let client = host.client();
    let measure = Measure::begin(host);
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let wait = machine::cpu_wait();
        let begin = Instant::now();
        client.start(sequence, ()).await?.wait().await?;
        let took = begin.elapsed();
        times.push((took, machine::cpu_wait().saturating_sub(wait)));
    }
    times.sort();
    let mut figure = measure.end(host, "L1 latency of 5 activities", runs as u64);
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let (p50, p99) = (millis(times[runs / 2].0), millis(times[runs * 99 / 100].0));
    let syncs = figure.syncs as f64 / runs as f64;
    // On a busy machine most of the slow ones' time is waiting for a CPU, which is not ours.
    let slowest = times.iter().rev().take(4);
    let slowest: Vec<String> = slowest
        .map(|(took, wait)| format!("{:.1} ms ({:.1} waiting for a CPU)", millis(*took), millis(*wait)))
        .collect();
    figure.note = format!(
        "p50 {p50:.2} ms, p99 {p99:.2} ms, {syncs:.2} syncs each; slowest {}",
        slowest.join(", ")
    );
    Ok(figure)
}

/// W1: many sequences at once; counts activities.
pub(crate) async fn throughput(host: &Host, instances: u64) -> Result<Figure> {
    sequences(host, instances, "W1 hello sequence, activities").await
}

/// Many sequences at once, wherever their code runs.
pub(crate) async fn sequences(host: &Host, instances: u64, workload: &str) -> Result<Figure> {
    let client = host.client();
    let measure = Measure::begin(host);
    let runs = stream::iter(0..instances).map(|_| async { client.start(sequence, ()).await });
    let started: Vec<_> = runs.buffer_unordered(CLIENTS).collect().await;
    let waits = stream::iter(started).map(|instance| async { instance?.wait().await });
    let mut waits = waits.buffer_unordered(CLIENTS);
    while let Some(done) = waits.next().await {
        done?;
    }
    Ok(measure.end(host, workload, instances * 5))
}

/// W2: one orchestration with so many activities.
pub(crate) async fn fan(host: &Host, count: u64) -> Result<Figure> {
    let measure = Measure::begin(host);
    let sum = host.client().start(fan_out, count).await?.wait().await?;
    assert_eq!(
        sum,
        (0..count).map(|number| number * number).sum::<u64>(),
        "the fan-out lost something"
    );
    Ok(measure.end(host, "W2 fan-out, activities", count))
}

/// So many instances that wait for an event.
async fn park(host: &Host, instances: u64) -> Result<Vec<Instance<u64>>> {
    let client = host.client();
    let starts = stream::iter(0..instances).map(|_| async { client.start(waiting, ()).await });
    let started: Vec<_> = starts.buffer_unordered(CLIENTS).collect().await;
    let started = started.into_iter().collect::<Result<_>>()?;
    Ok(started)
}

/// Waits for a checkpoint, as a list does.
async fn fold(host: &Host) -> Result<()> {
    let query = InstanceQuery {
        limit: 1,
        ..InstanceQuery::default()
    };
    host.client().list(query).await.map(drop)
}

/// W3 without futures: what an instance that waits costs when nothing of it is kept alive.
pub(crate) async fn park_evicted(host: &Host, instances: u64) -> Result<Figure> {
    let before = machine::resident_bytes();
    let measure = Measure::begin(host);
    // Nobody keeps a handle: that would be the client's memory.
    drop(park(host, instances).await?);
    let mut figure = measure.end(host, "W3 instances parked and evicted", instances);
    fold(host).await?;
    let first = machine::resident_bytes();
    // What the first ones left with the allocator and in caches is used again by the next.
    drop(park(host, instances).await?);
    fold(host).await?;
    let next = machine::resident_bytes();
    figure.note = format!(
        "{} bytes resident per waiting instance, {} for each of as many more",
        first.saturating_sub(before) / instances,
        next.saturating_sub(first) / instances
    );
    Ok(figure)
}

/// How long it is watched.
const IDLE: Duration = Duration::from_secs(5);

/// I1: a hub with so many instances that wait and some timers that are far away does nothing.
pub(crate) async fn idle(host: &Host, instances: u64) -> Result<Figure> {
    let waiting = park(host, instances).await?;
    let timers = stream::iter(0..IDLE_TIMERS).map(|_| async { host.client().start(sleeping, ()).await });
    let timers: Vec<_> = timers.buffer_unordered(CLIENTS).collect().await;
    for timer in timers {
        timer?.wait_for_start(IDLE).await?;
    }
    fold(host).await?;
    // What the load left behind, such as the tables' own log, is done by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let measure = Measure::begin(host);
    let before = machine::activity();
    tokio::time::sleep(IDLE).await;
    let after = machine::activity();
    let mut figure = measure.end(host, "I1 idle, instances that wait", instances);
    figure.note = format!(
        "{:.2}% CPU, {} bytes written, {:.1} wake-ups a second",
        (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / IDLE.as_secs_f64() * 100.0,
        after.written - before.written,
        after.wakes.saturating_sub(before.wakes) as f64 / IDLE.as_secs_f64(),
    );
    drop(waiting);
    Ok(figure)
}

/// What is killed for R1, until it is.
pub(crate) async fn run_until_killed(host: &Host, load: &str, count: u64) -> Result<()> {
    if load == "W3" {
        drop(park(host, count).await?);
        say_ready()?;
        std::future::pending::<()>().await;
    }
    let client = host.client();
    let runs = stream::iter(0..).map(|_| async { client.start(sequence, ()).await?.wait().await });
    let mut runs = std::pin::pin!(runs.buffer_unordered(CLIENTS));
    let mut done = 0;
    while let Some(run) = runs.next().await {
        run?;
        done += 1;
        if done == count {
            say_ready()?;
        }
    }
    Ok(())
}

/// Tells the one who waits to kill this process.
fn say_ready() -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "ready")?;
    Ok(output.flush()?)
}

/// R1: the time until a hub that was killed works again: it is open, and a new orchestration ends.
pub(crate) async fn recover(folder: &Path, load: &str, count: u64) -> Result<Figure> {
    let begin = Instant::now();
    let host = open(folder).await?;
    let opened = begin.elapsed();
    let measure = Measure::begin(&host);
    host.client().start(sequence, ()).await?.wait().await?;
    let works = begin.elapsed();
    let mut figure = measure.end(&host, &format!("R1 recovery after kill in {load}"), count);
    figure.seconds = works.as_secs_f64();
    figure.per_second = count as f64 / figure.seconds;
    figure.note = format!(
        "open in {:.0} ms, a new orchestration done after {:.0} ms",
        opened.as_secs_f64() * 1e3,
        works.as_secs_f64() * 1e3
    );
    host.shutdown().await;
    Ok(figure)
}

/// R1h: opens a hub in which so many sequences have ended: their history is not read.
pub(crate) async fn reopen(folder: &Path, instances: u64) -> Result<Figure> {
    let host = open(folder).await?;
    let first = host.client().start(sequence, ()).await?;
    first.wait().await?;
    let events = first.history().await?.len() as u64;
    drop(first);
    throughput(&host, instances).await?;
    host.shutdown().await;
    let mut figure = recover(folder, "", events * instances).await?;
    figure.workload = "R1 start of a hub, events in it".to_owned();
    Ok(figure)
}

/// W3: so many instances wait for an event; then all get it.
pub(crate) async fn park_and_drain(host: &Host, instances: u64) -> Result<[Figure; 2]> {
    let before = machine::resident_bytes();
    let measure = Measure::begin(host);
    let started = park(host, instances).await?;
    let mut parked = measure.end(host, "W3 instances parked", instances);
    // What is only on its way to the tables is no cost of waiting.
    fold(host).await?;
    let bytes = (machine::resident_bytes().saturating_sub(before)) / instances;
    parked.note = format!("{bytes} bytes resident per waiting instance");
    let measure = Measure::begin(host);
    let raises = stream::iter(&started).map(|instance| instance.raise_event(GO, 1).into_future());
    let mut raises = raises.buffer_unordered(CLIENTS);
    while let Some(raised) = raises.next().await {
        raised?;
    }
    let mut waits = stream::iter(&started)
        .map(|instance| instance.wait())
        .buffer_unordered(CLIENTS);
    while let Some(done) = waits.next().await {
        done?;
    }
    Ok([parked, measure.end(host, "W3 raised and completed", instances)])
}

/// W4: one execution with a long history; is the end as fast as the start?
pub(crate) async fn long(host: &Host, count: u64) -> Result<Figure> {
    let measure = Measure::begin(host);
    let instance = host.client().start(long_history, count).await?;
    instance.wait().await?;
    let mut figure = measure.end(host, "W4 long history, activities", count);
    let history = instance.history().await?;
    let tenth = history.len() / 10;
    let micros = |events: &[dalsegno::Event]| match (events.first(), events.last()) {
        (Some(first), Some(last)) => last.at.since(first.at).as_secs_f64(),
        _ => 0.0,
    };
    let (first, last) = (
        micros(&history[..tenth]),
        micros(&history[history.len() - tenth..]),
    );
    figure.note = format!("last tenth takes {:.2} of the first tenth's time", last / first);
    Ok(figure)
}

/// E1: signals by a client over many entities.
pub(crate) async fn signals(host: &Host, count: u64, entities: u64) -> Result<Figure> {
    let client = host.client();
    let measure = Measure::begin(host);
    let signals = stream::iter(0..count).map(|number| async move {
        client
            .entity::<Tally>((number % entities).to_string())?
            .add(1)
            .signal()
            .await
    });
    let mut signals = signals.buffer_unordered(CLIENTS * 8);
    while let Some(signalled) = signals.next().await {
        signalled?;
    }
    Ok(measure.end(host, "E1 signals to entities", count))
}
