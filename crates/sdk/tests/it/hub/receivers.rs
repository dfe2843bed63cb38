//! Receivers of traces, as collectors are: the service of OTLP over gRPC, and the same over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;
use tonic::transport::server::TcpIncoming;

/// A span as it came.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) span: Span,
    pub(super) service: String,
    /// The header `api-key` of what brought it.
    pub(super) key: Option<String>,
}

impl Got {
    pub(super) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub(super) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    pub(super) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(super) fn attributes(&self) -> BTreeMap<String, String> {
        texts(&self.span.attributes)
    }

    pub(super) fn attribute(&self, name: &str) -> String {
        self.attributes().remove(name).unwrap_or_default()
    }

    /// The message of its failure, if it failed.
    pub(super) fn failure(&self) -> Option<&str> {
        let status = self.span.status.as_ref()?;
        (status.code == SpanStatus::Error as i32).then_some(status.message.as_str())
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let text = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key.clone(), text)
    };
    attributes.iter().map(text).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keeps what it gets. Goes on until the test's runtime ends.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    pub(super) async fn grpc() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self::at(listener.local_addr().unwrap());
        let service = TraceServiceServer::new(receiver.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        receiver
    }

    pub(super) async fn http() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self::at(listener.local_addr().unwrap());
        let router = Router::new()
            .route("/v1/traces", axum::routing::post(over_http))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn at(address: SocketAddr) -> Self {
        Self {
            address,
            got: Arc::default(),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// In the order of their names, then of their begins.
    pub(super) fn got(&self) -> Vec<Got> {
        let mut got = self.got.lock().unwrap().clone();
        got.sort_by(|one, other| {
            let order = |got: &Got| {
                (
                    got.span.name.clone(),
                    got.span.start_time_unix_nano,
                    got.span.kind,
                )
            };
            order(one).cmp(&order(other))
        });
        got
    }

    /// The only one of this name and kind.
    pub(super) fn only(&self, name: &str, kind: i32) -> Got {
        let all = self.got();
        let mut found: Vec<Got> = all
            .into_iter()
            .filter(|got| got.span.name == name && got.span.kind == kind)
            .collect();
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
        found.remove(0)
    }

    fn take(&self, request: ExportTraceServiceRequest, key: Option<&str>) {
        let mut got = self.got.lock().unwrap();
        for of_resource in request.resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let service = texts(&resource.attributes)
                .remove("service.name")
                .unwrap_or_default();
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            got.extend(spans.map(|span| Got {
                span,
                service: service.clone(),
                key: key.map(str::to_owned),
            }));
        }
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let key = request.metadata().get("api-key").cloned();
        let key = key.as_ref().and_then(|key| key.to_str().ok());
        self.take(request.into_inner(), key);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn over_http(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let is_protobuf = headers
        .get("content-type")
        .is_some_and(|kind| kind == "application/x-protobuf");
    let Some(request) = ExportTraceServiceRequest::decode(body)
        .ok()
        .filter(|_| is_protobuf)
    else {
        return (StatusCode::BAD_REQUEST, Vec::new());
    };
    receiver.take(request, headers.get("api-key").and_then(|key| key.to_str().ok()));
    (
        StatusCode::OK,
        ExportTraceServiceResponse::default().encode_to_vec(),
    )
}
