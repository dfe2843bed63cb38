//! `/metrics`: what the host and its hub measure, in the text form of OpenMetrics.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, header};
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::HubMeasure;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::path::Face;
use super::problem::Problem;
use super::request::Call;
use crate::audit::AuditMeters;
use crate::traces::TraceExporter;

const FORM: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Bounds of how long requests take, in seconds.
const SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    face: &'static str,
    method: String,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Faced {
    face: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    call: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InStatus {
    status: &'static str,
}

/// What is measured of requests, all hubs together.
#[derive(Debug)]
pub(crate) struct HttpMeters {
    requests: Family<Asked, Counter>,
    seconds: Family<Faced, Histogram, fn() -> Histogram>,
    calls: Family<Called, Counter>,
}

impl Default for HttpMeters {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            calls: Family::default(),
        }
    }
}

impl HttpMeters {
    /// A request was answered; a stream when it began.
    pub(crate) fn answered(&self, face: &Face, method: &Method, code: u16, took: Duration) {
        let face = match face {
            Face::Management(_) => "management",
            Face::Ours(_) => "v1",
            Face::Health => "healthz",
            Face::Metrics => "metrics",
            Face::OpenApi => "openapi",
            Face::App => "app",
            Face::Reserved | Face::Unreadable => "other",
        };
        let known = [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::HEAD,
        ];
        let method = if known.contains(method) {
            method.as_str()
        } else {
            "other"
        };
        let asked = Asked {
            face,
            method: method.to_owned(),
            code,
        };
        self.requests.get_or_create(&asked).inc();
        let seconds = self.seconds.get_or_create(&Faced { face });
        seconds.observe(took.as_secs_f64());
    }

    /// A call of gRPC was answered; a stream when it began.
    pub(crate) fn called(&self, call: &'static str, code: u16) {
        let called = Called {
            call: call.to_owned(),
            code: code.to_string(),
        };
        self.calls.get_or_create(&called).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "http_requests",
            "Requests answered, by face, method and code",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "http_request",
            "From a request's headers to its answer's",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "grpc_calls",
            "Calls of gRPC answered, by call and code",
            self.calls.clone(),
        );
    }
}

fn register_audit(registry: &mut Registry, meters: &AuditMeters) {
    registry.register(
        "audit_records_lost",
        "Audit records that could not be written into the audit file",
        meters.lost.clone(),
    );
    registry.register(
        "audit_refusals_unrecorded",
        "Refused calls that are counted and have no audit record of their own",
        meters.unrecorded_refusals.clone(),
    );
}

/// Answers who reads them.
pub(super) async fn answer(call: &Call) -> Result<Response<Body>, Problem> {
    call.query()?;
    let hub = call.hub();
    let labels = [("hub".into(), hub.name().to_owned().into())];
    let mut registry = Registry::with_prefix_and_labels("dalsegno", labels.into_iter());
    hub.register_meters(&mut registry);
    register_hub(&mut registry, hub, &hub.measure().await?).await?;
    call.state.observer.http.register(&mut registry);
    register_audit(&mut registry, &call.state.observer.audit.meters);
    register_traces(&mut registry, call.state.observer.traces.as_deref());
    register_process(&mut registry, call.state.observer.begun);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a text takes what is written");
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, FORM);
    Ok(response)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    registry.register(name, help, ConstGauge::new(value));
}

fn bytes(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    registry.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(value));
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}

async fn register_hub(registry: &mut Registry, hub: &TaskHub, measure: &HubMeasure) -> Result<(), Problem> {
    let instances = Family::<InStatus, Gauge>::default();
    for (status, count) in hub.counts().await? {
        let labels = InStatus {
            status: status.as_str(),
        };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        instances.get_or_create(&labels).set(count);
    }
    registry.register("instances", "Instances there are, by status", instances);
    let HubMeasure { partitions, .. } = measure;
    for (name, help, value) in gauges(hub, measure) {
        gauge(registry, name, help, value);
    }
    for (name, help, value) in counts(hub, measure) {
        counter(registry, name, help, value);
    }
    bytes(
        registry,
        "futures_cached_size",
        "What code that is alive holds, roughly",
        partitions.live_bytes,
    );
    bytes(
        registry,
        "log_unapplied",
        "Log that is not yet in the tables",
        measure.unapplied_bytes,
    );
    if let Some(free) = measure.free_bytes {
        bytes(registry, "disk_free", "Room where the hub is stored", free);
    }
    Ok(())
}

type Told = (&'static str, &'static str, u64);

fn gauges(hub: &TaskHub, measure: &HubMeasure) -> [Told; 16] {
    let HubMeasure { partitions, .. } = measure;
    [
        ("instances_resident", "Instances in memory", partitions.resident),
        (
            "futures_cached",
            "Orchestrators whose code is alive in memory",
            partitions.live,
        ),
        (
            "parked_instances",
            "Instances parked by a fault",
            partitions.parked,
        ),
        ("turns_at_workers", "Turns that workers have", partitions.away),
        (
            "messages_queued",
            "Messages and commands that wait for a turn",
            partitions.queued,
        ),
        (
            "messages_held",
            "Messages that wait for a resume, a start or other code",
            partitions.held,
        ),
        ("timers", "Timers that are set", partitions.timers),
        (
            "retries_waiting",
            "Activities and children between two attempts",
            partitions.retries,
        ),
        (
            "limiter_waiting",
            "Activities that wait for a limiter",
            partitions.limited,
        ),
        ("entities_resident", "Entities in memory", partitions.entities),
        (
            "activities_running",
            "Attempts that run in this process",
            measure.activities_running,
        ),
        (
            "activities_waiting",
            "Activities in line for a slot of this process",
            measure.activities_waiting,
        ),
        (
            "clients_waiting",
            "Clients that wait for an instance",
            measure.waiters,
        ),
        (
            "stuck_threads",
            "Threads that user code does not give back",
            measure.stuck_threads,
        ),
        (
            "workers",
            "Workers in other languages that are connected",
            hub.executor().workers().len() as u64,
        ),
        (
            "unhealthy",
            "What /healthz tells of: 0 is healthy",
            hub.health().problems.len() as u64,
        ),
    ]
}

fn counts(hub: &TaskHub, measure: &HubMeasure) -> [Told; 7] {
    let counters = &measure.partitions.counters;
    [
        ("turns", "Turns of orchestrators", counters.turns),
        ("replays", "Histories that were replayed", counters.replays),
        (
            "futures_evicted",
            "Orchestrators whose code left memory",
            counters.evictions,
        ),
        ("faults", "Faults of orchestrators' code", counters.faults),
        (
            "messages_dropped",
            "Messages for executions and tasks that are no more",
            counters.dropped_messages,
        ),
        ("commits", "Batches made durable", measure.commits),
        (
            "worker_answers_dropped",
            "Answers of workers that came too late",
            hub.executor().answers_dropped(),
        ),
    ]
}

fn register_traces(registry: &mut Registry, traces: Option<&TraceExporter>) {
    let (exported, dropped) = traces.map_or((0, 0), |traces| {
        (traces.counts().exported(), traces.counts().dropped())
    });
    counter(
        registry,
        "spans_exported",
        "Spans that the receiver of traces took",
        exported,
    );
    counter(
        registry,
        "spans_dropped",
        "Spans that were not sent, or not taken",
        dropped,
    );
}

fn register_process(registry: &mut Registry, begun: Instant) {
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "What this is", version);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = now.saturating_sub(begun.elapsed());
    registry.register_with_unit(
        "process_start_time",
        "When this host began, since 1970",
        Unit::Seconds,
        ConstGauge::new(start.as_secs_f64()),
    );
    let Some(usage) = Usage::of_this_process() else {
        return;
    };
    registry.register_with_unit(
        "process_cpu",
        "Processor time used",
        Unit::Seconds,
        ConstCounter::new(usage.cpu_seconds),
    );
    bytes(
        registry,
        "process_resident_memory",
        "Memory in use",
        usage.resident_bytes,
    );
    gauge(registry, "process_threads", "Threads", usage.threads);
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauge(
            registry,
            "process_open_files",
            "Open files and connections",
            open.count() as u64,
        );
    }
}

/// What the system says of this process: proc(5).
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    threads: u64,
}

impl Usage {
    fn of_this_process() -> Option<Self> {
        // The system counts in hundredths of a second on every Linux: USER_HZ of time(7).
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in brackets may have spaces in it.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(Self {
            cpu_seconds: (number(11)? + number(12)?) as f64 / TICKS,
            resident_bytes: kilobytes * 1024,
            threads: number(17)?,
        })
    }
}
