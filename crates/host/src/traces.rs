//! Sends what executions did to a tracing system, over OTLP.
//!
//! One exporter for all hubs of a process. What waits is limited: beyond it executions are dropped
//! and counted, so a receiver that is slow or away costs a fixed amount of memory and no commit
//! waits for it. Spans and their ids are the core's (`dalsegno_core::span`); this is only the way out.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use dalsegno_core::span::{EndedExecution, Span, SpanKind, Value};
use dalsegno_core::{Timestamp, TraceContext};
use dalsegno_engine::traces::Traces;
use opentelemetry::trace::{Event, Link, SpanContext, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, SpanId, TraceId, trace};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::http::time;

/// Spans that are sent together.
const BATCH_MAX: usize = 512;
/// How long a batch waits for more.
const LINGER: Duration = Duration::from_millis(200);
/// How often a batch is sent that the receiver does not take; then it is dropped.
const ATTEMPTS_MAX: u32 = 6;
/// Pause after the first of these attempts; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// What the caller says; where none says anything, this share.
    ParentBased(f64),
    /// This share, whatever callers say.
    Share(f64),
}

impl Default for Sampler {
    fn default() -> Self {
        Self::ParentBased(1.0)
    }
}

impl Sampler {
    fn samples(self, trace: u128, given: Option<bool>) -> bool {
        match (self, given) {
            (Self::ParentBased(_), Some(given)) => given,
            (Self::ParentBased(share) | Self::Share(share), _) => is_in_share(trace, share),
        }
    }
}

/// As the SDKs of OpenTelemetry decide it, so that all who see a trace decide alike.
fn is_in_share(trace: u128, share: f64) -> bool {
    let low = (trace as u64) >> 1;
    share >= 1.0 || (low as f64) < share * (1_u64 << 63) as f64
}

/// How spans are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TraceProtocol {
    /// Protobuf in HTTP requests.
    #[default]
    Http,
    /// Calls of gRPC.
    Grpc,
}

/// Where and how spans are sent.
#[derive(Clone, PartialEq)]
pub struct TraceSettings {
    /// The receiver: `http://collector:4318`.
    pub endpoint: String,
    /// How.
    pub protocol: TraceProtocol,
    /// Sent along: names and values. They may hold keys and are never shown.
    pub headers: Vec<(String, String)>,
    /// How long one sending may take.
    pub timeout: Duration,
    /// What the sender is called.
    pub service_name: String,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// Most history events whose spans wait to be sent.
    pub queue_max: usize,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            protocol: TraceProtocol::default(),
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            service_name: "dalsegno".to_owned(),
            sampler: Sampler::default(),
            queue_max: 100_000,
        }
    }
}

impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("TraceSettings")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &names)
            .field("timeout", &self.timeout)
            .field("service_name", &self.service_name)
            .field("sampler", &self.sampler)
            .field("queue_max", &self.queue_max)
            .finish()
    }
}

/// What became of spans.
#[derive(Debug, Default)]
pub struct TraceCounts {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl TraceCounts {
    /// Spans that the receiver took.
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans that it was never sent, or did not take.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Sends spans in the background.
#[derive(Debug)]
pub struct TraceExporter {
    settings: TraceSettings,
    counts: Arc<TraceCounts>,
    /// History events that wait.
    waiting: Arc<AtomicUsize>,
    queue: Mutex<Option<UnboundedSender<Ended>>>,
    sender: Mutex<Option<JoinHandle<()>>>,
}

/// An execution that waits, and the hub it is of.
type Ended = (Arc<str>, EndedExecution);

impl TraceExporter {
    /// Starts one. Needs a tokio runtime. Does not wait for the receiver.
    ///
    /// # Errors
    /// When the settings cannot be used; the text says what to do.
    pub fn start(settings: TraceSettings) -> Result<Arc<Self>, String> {
        let exporter = exporter_of(&settings)?;
        let (queue, waiting_executions) = unbounded_channel();
        let (counts, waiting) = (Arc::<TraceCounts>::default(), Arc::<AtomicUsize>::default());
        let sender = Sender {
            exporter,
            time_max: settings.timeout,
            executions: waiting_executions,
            waiting: waiting.clone(),
            counts: counts.clone(),
            is_failing: false,
        };
        Ok(Arc::new(Self {
            settings,
            counts,
            waiting,
            queue: Mutex::new(Some(queue)),
            sender: Mutex::new(Some(tokio::spawn(sender.run()))),
        }))
    }

    /// What takes the executions of a hub.
    pub fn of_hub(self: &Arc<Self>, hub: &str) -> Arc<dyn Traces> {
        Arc::new(OfHub {
            hub: hub.into(),
            exporter: self.clone(),
        })
    }

    /// What became of spans so far.
    pub fn counts(&self) -> &TraceCounts {
        &self.counts
    }

    /// Sends what waits, and takes nothing more. What is not sent in this time is dropped.
    pub async fn finish(&self, wait: Duration) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut sender) = sender else { return };
        if tokio::time::timeout(wait, &mut sender).await.is_err() {
            sender.abort();
            tracing::warn!("spans that waited were not exported in time");
        }
    }

    fn take(&self, hub: &Arc<str>, execution: EndedExecution) {
        let events = execution.history.len();
        let before = self.waiting.fetch_add(events, Ordering::Relaxed);
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = before == 0 || before + events <= self.settings.queue_max;
        let refused = match queue.as_ref().filter(|_| fits) {
            Some(queue) => queue.send((hub.clone(), execution)).err().map(|error| error.0.1),
            None => Some(execution),
        };
        if let Some(execution) = refused {
            self.waiting.fetch_sub(events, Ordering::Relaxed);
            let spans = execution.spans().len() as u64;
            self.counts.dropped.fetch_add(spans, Ordering::Relaxed);
        }
    }
}

impl Drop for TraceExporter {
    fn drop(&mut self) {
        let sender = self.sender.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.take() {
            sender.abort();
        }
    }
}

#[derive(Debug)]
struct OfHub {
    hub: Arc<str>,
    exporter: Arc<TraceExporter>,
}

impl Traces for OfHub {
    fn samples(&self, trace: u128, given: Option<bool>) -> bool {
        self.exporter.settings.sampler.samples(trace, given)
    }

    fn ended(&self, execution: EndedExecution) {
        self.exporter.take(&self.hub, execution);
    }
}

/// The task that sends.
struct Sender {
    exporter: SpanExporter,
    time_max: Duration,
    executions: UnboundedReceiver<Ended>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<TraceCounts>,
    /// The last sending failed; told once until one succeeds.
    is_failing: bool,
}

impl Sender {
    async fn run(mut self) {
        while let Some(first) = self.executions.recv().await {
            let mut events = 0;
            let mut batch = self.spans(first, &mut events);
            let linger = tokio::time::sleep(LINGER);
            tokio::pin!(linger);
            while batch.len() < BATCH_MAX {
                let next = tokio::select! {
                    next = self.executions.recv() => next,
                    () = &mut linger => None,
                };
                match next {
                    Some(next) => batch.extend(self.spans(next, &mut events)),
                    None => break,
                }
            }
            for part in batch.chunks(BATCH_MAX) {
                self.send(part).await;
            }
            self.waiting.fetch_sub(events, Ordering::Relaxed);
        }
    }

    fn spans(&self, (hub, execution): Ended, events: &mut usize) -> Vec<SpanData> {
        *events += execution.history.len();
        let spans = execution.spans().into_iter();
        spans.map(|span| data(span, &execution.trace, &hub)).collect()
    }

    async fn send(&mut self, spans: &[SpanData]) {
        let count = spans.len() as u64;
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS_MAX {
            let sending = tokio::time::timeout(self.time_max, self.exporter.export(spans.to_vec()));
            let problem = match sending.await {
                Ok(Ok(())) => {
                    self.counts.exported.fetch_add(count, Ordering::Relaxed);
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("spans are exported again");
                    }
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer in {:?}", self.time_max),
            };
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::warn!(problem, "spans cannot be exported; it is tried again");
            }
            // Who ends waits for nobody who is away.
            if attempt == ATTEMPTS_MAX || self.executions.is_closed() {
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.counts.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

fn exporter_of(settings: &TraceSettings) -> Result<SpanExporter, String> {
    let url = reqwest::Url::parse(&settings.endpoint)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            format!(
                "traces.endpoint: \"{}\" is no address: write it like http://127.0.0.1:4318",
                settings.endpoint
            )
        })?;
    let refused = |error: &dyn fmt::Display| format!("traces.endpoint: {error}");
    let mut exporter = match settings.protocol {
        TraceProtocol::Grpc => {
            let mut headers = HeaderMap::new();
            for (name, value) in &settings.headers {
                let name = HeaderName::from_str(name).map_err(|_| bad_header())?;
                headers.insert(name, HeaderValue::from_str(value).map_err(|_| bad_header())?);
            }
            let builder = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(settings.endpoint.clone())
                .with_timeout(settings.timeout)
                .with_metadata(MetadataMap::from_headers(headers));
            builder.build().map_err(|error| refused(&error))?
        }
        TraceProtocol::Http => {
            let client = reqwest::Client::builder()
                .build()
                .map_err(|error| refused(&error))?;
            let builder = SpanExporter::builder()
                .with_http()
                .with_http_client(client)
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(with_path(url))
                .with_timeout(settings.timeout)
                .with_headers(settings.headers.iter().cloned().collect());
            builder.build().map_err(|error| refused(&error))?
        }
    };
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

fn bad_header() -> String {
    "traces.headers_file: a name or value cannot be sent as a header".to_owned()
}

/// Where traces go when the address names no path.
fn with_path(mut url: reqwest::Url) -> String {
    if matches!(url.path(), "" | "/") {
        url.set_path("/v1/traces");
    }
    url.into()
}

fn data(span: Span, context: &TraceContext, hub: &str) -> SpanData {
    let mut attributes = attributes(span.attributes);
    attributes.push(KeyValue::new("dalsegno.hub", hub.to_owned()));
    let mut events = SpanEvents::default();
    events.events = span
        .moments
        .into_iter()
        .map(|moment| {
            Event::new(
                moment.name,
                system_time(moment.at),
                self::attributes(moment.attributes),
                0,
            )
        })
        .collect();
    let mut links = SpanLinks::default();
    links.links = span
        .links
        .iter()
        .map(|link| {
            Link::new(
                span_context(link, SpanId::from(link.parent_span().0)),
                Vec::new(),
                0,
            )
        })
        .collect();
    SpanData {
        span_context: span_context(context, SpanId::from(span.id.0)),
        parent_span_id: span
            .parent
            .map_or(SpanId::INVALID, |parent| SpanId::from(parent.0)),
        parent_span_is_remote: false,
        span_kind: match span.kind {
            SpanKind::Internal => trace::SpanKind::Internal,
            SpanKind::Server => trace::SpanKind::Server,
            SpanKind::Client => trace::SpanKind::Client,
            SpanKind::Producer => trace::SpanKind::Producer,
            SpanKind::Consumer => trace::SpanKind::Consumer,
        },
        name: Cow::Owned(span.name),
        start_time: system_time(span.start),
        end_time: system_time(span.end),
        attributes,
        dropped_attributes_count: 0,
        events,
        links,
        status: span.failure.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("dalsegno")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn span_context(context: &TraceContext, span: SpanId) -> SpanContext {
    let trace = TraceId::from_hex(context.trace_id()).unwrap_or(TraceId::INVALID);
    let state = context
        .trace_state()
        .and_then(|state| TraceState::from_str(state).ok());
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, state.unwrap_or_default())
}

fn attributes(attributes: dalsegno_core::span::Attributes) -> Vec<KeyValue> {
    let attribute = |(name, value): (&'static str, Value)| match value {
        Value::Text(text) => KeyValue::new(name, text),
        Value::Number(number) => KeyValue::new(name, number),
        Value::Time(at) => KeyValue::new(name, time::exact(at)),
    };
    attributes.into_iter().map(attribute).collect()
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(at.as_micros()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampler_heeds_its_caller_or_takes_its_share() {
        let share = |sampler: Sampler| {
            let ids = (0..1000_u128).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834));
            ids.filter(|id| sampler.samples(*id, None)).count()
        };
        assert_eq!(share(Sampler::Share(1.0)), 1000);
        assert_eq!(share(Sampler::Share(0.0)), 0);
        assert!((200..300).contains(&share(Sampler::ParentBased(0.25))));
        let none = Sampler::ParentBased(0.0);
        assert!(none.samples(1, Some(true)));
        assert!(!none.samples(1, None));
        assert!(!Sampler::ParentBased(1.0).samples(1, Some(false)));
        assert!(Sampler::Share(1.0).samples(1, Some(false)));
    }

    #[test]
    fn an_address_is_completed_or_refused() {
        let of = |text: &str| with_path(reqwest::Url::parse(text).unwrap());
        assert_eq!(of("http://c:4318"), "http://c:4318/v1/traces");
        assert_eq!(of("http://c:4318/x/v1/traces"), "http://c:4318/x/v1/traces");
        for bad in ["", "collector:4318", "ftp://c", "http://"] {
            let settings = TraceSettings {
                endpoint: bad.to_owned(),
                ..TraceSettings::default()
            };
            let error = exporter_of(&settings).unwrap_err();
            assert!(error.contains("write it like"), "{error}");
        }
    }

    #[test]
    fn headers_are_not_shown() {
        let settings = TraceSettings {
            headers: vec![("api-key".to_owned(), "canary".to_owned())],
            ..TraceSettings::default()
        };
        let shown = format!("{settings:?}");
        assert!(shown.contains("api-key") && !shown.contains("canary"), "{shown}");
    }
}
