//! Receivers are told of statuses: at least once, in order, signed, over restarts, and not for ever.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use dalsegno::{
    App, Client, ExternalEvent, Host, HostSettings, OrchestrationContext, Result, RetryPolicy, Status,
    TraceContext, Webhook, WebhookSecret, WebhookSettings, WebhookSubscription, orchestrator,
};
use dalsegno_host::RemoteHub;
use dalsegno_host::v1::DeliveryWire;

use super::{SOON, eventually};

const CANARY: &str = "canary-5b1e-in-no-message";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const GO: ExternalEvent<String> = ExternalEvent::new("Go");

#[orchestrator]
async fn waits(ctx: &OrchestrationContext, text: String) -> Result<String> {
    ctx.set_custom_status(CANARY);
    Ok(ctx.wait_for_event(GO).await? + &text)
}

/// A message as it came.
#[derive(Clone, Debug)]
struct Got {
    path: String,
    id: String,
    status: String,
    body: String,
    /// The headers `traceparent` and `tracestate`.
    trace: [Option<String>; 2],
}

/// Answers what it is told to, and keeps what it gets.
#[derive(Clone, Debug)]
struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<Script>>,
}

#[derive(Debug)]
struct Script {
    got: Vec<Got>,
    first: Vec<u16>,
    then: u16,
}

impl Receiver {
    /// The first answers, and what it answers then.
    async fn new(first: &[u16], then: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(Script {
                got: Vec::new(),
                first: first.to_vec(),
                then,
            })),
        };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn answer(&self, then: u16) {
        self.state.lock().unwrap().then = then;
    }

    fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap().got.clone()
    }

    async fn until(&self, count: usize) -> Vec<Got> {
        eventually(async || self.got().len() >= count).await;
        self.got()
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = WebhookSecret::parse(SECRET)
        .unwrap()
        .sign(&id, timestamp.parse().unwrap(), &body);
    assert_eq!(header("webhook-signature"), signed);
    let read: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(read["type"], "instance.status");
    assert!(!body.contains(CANARY) && !format!("{headers:?}").contains(CANARY));
    let mut state = receiver.state.lock().unwrap();
    state.got.push(Got {
        path: uri.path().to_owned(),
        id,
        status: read["data"]["status"].as_str().unwrap().to_owned(),
        body,
        trace: ["traceparent", "tracestate"].map(|name| {
            let value = headers.get(name)?;
            value.to_str().ok().map(str::to_owned)
        }),
    });
    let code = match state.first.is_empty() {
        true => state.then,
        false => state.first.remove(0),
    };
    let code = StatusCode::from_u16(code).unwrap();
    match code.is_redirection() {
        true => (code, [("location", receiver.url("elsewhere"))]).into_response(),
        false => code.into_response(),
    }
}

/// Tried again at once.
fn quick(attempts_max: u32) -> WebhookSettings {
    WebhookSettings {
        secret: WebhookSecret::parse(SECRET).ok(),
        retry: RetryPolicy::fixed(attempts_max, Duration::from_millis(1)),
        ..WebhookSettings::default()
    }
}

fn hook(url: String, statuses: &[Status]) -> Webhook {
    Webhook {
        name: "audit".into(),
        url,
        statuses: statuses.to_vec(),
        name_prefix: String::new(),
        secret: None,
    }
}

async fn host(folder: &Path, webhooks: WebhookSettings) -> Host {
    let mut settings = HostSettings::in_folder(folder);
    settings.webhooks = webhooks;
    App::new().register(waits).start(settings).await.unwrap()
}

async fn finish(client: &Client, id: &str) {
    let instance = client.start(waits, CANARY.into()).id(id).await.unwrap();
    instance.wait_for_start(SOON).await.unwrap();
    instance.raise_event(GO, "x".to_owned()).await.unwrap();
    instance.wait_for(SOON).await.unwrap();
}

async fn deliveries(host: &Host) -> Vec<DeliveryWire> {
    let remote = RemoteHub::new(&format!("http://{}", host.address().unwrap())).unwrap();
    remote.deliveries().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_is_told_in_order_until_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(&[500, 503, 302, 500, 204, 500], 200).await;
    let settings = WebhookSettings {
        hooks: vec![hook(receiver.url("all"), &[Status::Running, Status::Completed])],
        ..quick(100)
    };
    let host = host(folder.path(), settings).await;
    finish(host.client(), "a").await;
    let got = receiver.until(7).await;
    let told: Vec<&str> = got.iter().map(|got| got.status.as_str()).collect();
    assert_eq!(
        told,
        [
            "Running",
            "Running",
            "Running",
            "Running",
            "Running",
            "Completed",
            "Completed"
        ]
    );
    assert!(
        got.iter().all(|got| got.path == "/all"),
        "a redirect is not followed: {got:?}"
    );
    let ids: Vec<&str> = got.iter().map(|got| got.id.as_str()).collect();
    assert!(ids[..5].iter().all(|id| *id == ids[0]) && ids[5] == ids[6] && ids[0] != ids[5]);
    let first: serde_json::Value = serde_json::from_str(&got[0].body).unwrap();
    assert_eq!(first["data"]["instanceId"], "a");
    assert_eq!(first["data"]["previousStatus"], "Pending");
    eventually(async || deliveries(&host).await.is_empty()).await;
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_told_whose_work_it_is() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(&[500], 200).await;
    let settings = WebhookSettings {
        hooks: vec![hook(receiver.url("all"), &[Status::Running])],
        ..quick(100)
    };
    let host = host(folder.path(), settings).await;
    let trace = TraceContext::parse(PARENT, Some("vendor=1"));
    let start = host.client().start(waits, CANARY.into()).id("a").trace(trace);
    start.await.unwrap();
    let wanted = [Some(PARENT.to_owned()), Some("vendor=1".to_owned())];
    let told = receiver.until(2).await;
    assert!(told.iter().all(|got| got.trace == wanted), "{told:?}");
    host.client().start(waits, CANARY.into()).id("b").await.unwrap();
    assert_eq!(receiver.until(3).await[2].trace, [None, None]);
    host.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_delivered_is_delivered_after_a_restart_also_of_an_instance_that_is_purged() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(&[], 500).await;
    let settings = WebhookSettings {
        hooks: vec![hook(receiver.url("all"), &[Status::Running, Status::Completed])],
        ..quick(u32::MAX)
    };
    let first = host(folder.path(), settings.clone()).await;
    finish(first.client(), "a").await;
    receiver.until(3).await;
    let waiting = deliveries(&first).await;
    let shown: Vec<_> = waiting
        .iter()
        .map(|d| (d.status.as_str(), d.state.as_str(), d.to.as_str()))
        .collect();
    assert_eq!(
        shown,
        [("Running", "pending", "audit"), ("Completed", "pending", "audit")]
    );
    first
        .client()
        .instance(waits, "a")
        .unwrap()
        .purge()
        .await
        .unwrap();
    drop(first);
    receiver.answer(200);
    let second = host(folder.path(), settings).await;
    eventually(async || receiver.got().iter().any(|got| got.status == "Completed")).await;
    eventually(async || deliveries(&second).await.is_empty()).await;
    let got = receiver.got();
    let end = got.iter().position(|got| got.status == "Completed").unwrap();
    let one = |told: &Got| told.status == "Running" && told.id == got[0].id;
    assert!(got[..end].iter().all(one), "{got:?}");
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_given_up_and_shown_and_the_next_is_told_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(&[500, 500, 500], 200).await;
    let settings = WebhookSettings {
        hooks: vec![hook(receiver.url("all"), &[Status::Running, Status::Completed])],
        ..quick(3)
    };
    let first = host(folder.path(), settings.clone()).await;
    finish(first.client(), "a").await;
    assert_eq!(receiver.until(4).await[3].status, "Completed");
    let given_up = async |host: &Host| {
        eventually(async || deliveries(host).await.len() == 1).await;
        deliveries(host).await.remove(0)
    };
    let before = given_up(&first).await;
    assert_eq!(
        (
            before.state.as_str(),
            before.status.as_str(),
            before.failed_attempts
        ),
        ("givenUp", "Running", 3)
    );
    assert!(
        before.last_failure.as_ref().unwrap().contains("500"),
        "{before:?}"
    );
    first.shutdown().await;
    let second = host(folder.path(), settings).await;
    assert_eq!(given_up(&second).await, before);
    // One that wants no more is not asked again.
    receiver.answer(410);
    finish(second.client(), "b").await;
    eventually(async || deliveries(&second).await.len() == 3).await;
    assert_eq!(receiver.got().len(), 6);
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_may_have_a_receiver_told_whose_host_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(&[], 200).await;
    let settings = WebhookSettings {
        allowed_hosts: vec![receiver.address.to_string()],
        ..quick(3)
    };
    let host = host(folder.path(), settings).await;
    let remote = Client::remote(&format!("http://{}", host.address().unwrap())).unwrap();
    for client in [host.client(), &remote] {
        let webhook = |url: String| WebhookSubscription {
            url,
            ..WebhookSubscription::default()
        };
        let refused = client
            .start(waits, "x".into())
            .webhook(webhook("http://169.254.169.254/".into()))
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("webhooks.allowed_hosts"),
            "{refused}"
        );
        let before = receiver.got().len();
        let instance = client
            .start(waits, "x".into())
            .webhook(webhook(receiver.url("own?token=t")))
            .await
            .unwrap();
        instance.terminate("enough").await.unwrap();
        let got = receiver.until(before + 1).await;
        assert_eq!(
            (got[before].status.as_str(), got[before].path.as_str()),
            ("Terminated", "/own")
        );
        assert!(got[before].body.contains(instance.id().as_str()));
    }
    eventually(async || deliveries(&host).await.is_empty()).await;
    assert_eq!(receiver.got().len(), 2);
    host.shutdown().await;
}
