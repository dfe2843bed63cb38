//! Any bytes at any call of the service, as they come off the wire. The fuzz target in `fuzz/`
//! uses this file too.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request};
use dalsegno_grpc::service::{Hubs, router};
use dalsegno_grpc::tonic::Code;
use dalsegno_grpc::tonic::codegen::{Body as _, Service};
use futures::future::poll_fn;

const PROTOCOL: &str = include_str!("../../../proto/durabletask.proto");

/// Every call that takes one message.
pub(crate) static CALLS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let lines = PROTOCOL.lines().map(str::trim);
    let calls = lines.filter_map(|line| line.strip_prefix("rpc ")?.split_once('('));
    let of_one = calls.filter(|(_, message)| !message.starts_with("stream "));
    of_one.map(|(call, _)| call).collect()
});

/// An answer that does not come within this does not come.
const ANSWER: Duration = Duration::from_secs(30);

/// How often a call that may wait is looked at before its caller goes away.
const LOOKS: u32 = 20;

/// The largest message that is taken.
const MESSAGE_BYTES: usize = 64 * 1024;

/// What knocks.
#[derive(Clone)]
pub(crate) struct Door(axum::Router);

impl Door {
    pub(crate) fn new(hubs: Arc<dyn Hubs>) -> Self {
        Self(router(hubs, MESSAGE_BYTES))
    }

    /// The status of one call. `None`: it is one that waits, and waited until its caller left.
    pub(crate) async fn knock(&self, call: &str, message: &[u8]) -> Option<(Code, String)> {
        let answer = self
            .clone()
            .answered(format!("/TaskHubSidecarService/{call}"), message);
        let is_patient = call.starts_with("WaitFor") || call == "GetWorkItems";
        if !is_patient {
            let answer = tokio::time::timeout(ANSWER, answer).await;
            return Some(answer.expect("every other call is answered"));
        }
        let leave = async {
            for _ in 0..LOOKS {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = answer => Some(answer),
            () = leave => None,
        }
    }

    async fn answered(mut self, path: String, message: &[u8]) -> (Code, String) {
        let length = u32::try_from(message.len()).expect("messages are small");
        let frame = [&[0], &length.to_be_bytes()[..], message].concat();
        let request = Request::post(path)
            .header(CONTENT_TYPE, "application/grpc")
            .body(Body::from(frame))
            .expect("it is a request");
        let response = self.0.call(request).await.expect("routes do not fail");
        let (head, body) = response.into_parts();
        if let Some(status) = status(&head.headers) {
            return status;
        }
        let mut body = Box::pin(body);
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            let frame = frame.expect("bodies do not fail");
            if let Some(status) = frame.trailers_ref().and_then(status) {
                return status;
            }
        }
        panic!("an answer without a status");
    }
}

fn status(headers: &HeaderMap) -> Option<(Code, String)> {
    let code = headers.get("grpc-status")?;
    let message = headers.get("grpc-message");
    let message = message.map_or(String::new(), |text| {
        String::from_utf8_lossy(text.as_bytes()).into_owned()
    });
    Some((Code::from_bytes(code.as_bytes()), message))
}
