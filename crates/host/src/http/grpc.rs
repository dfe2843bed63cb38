//! The door for gRPC: who calls, may he; then the call is the service's.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use dalsegno_engine::request::CallSubject;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tower::ServiceExt;

use super::auth::KEY_HEADER;
use super::dispatch::{check_bad_keys, note_stranger};
use super::grpc_calls::Call;
use super::request::State;
use super::time;
use crate::audit::AuditRecord;

/// Codes of gRPC that the door itself answers with.
const UNIMPLEMENTED: u32 = 12;
const RESOURCE_EXHAUSTED: u32 = 8;
const PERMISSION_DENIED: u32 = 7;
const UNAUTHENTICATED: u32 = 16;

/// Is it a call of gRPC?
pub(crate) fn is_call<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/grpc"))
}

/// Answers a call, counts it, and records it when it was to change something.
pub(crate) async fn answer(
    state: Arc<State>,
    service: Option<Router>,
    peer: SocketAddr,
    mut request: Request<Body>,
) -> Response<Body> {
    let call = Call::of(request.uri().path());
    let subject = CallSubject::default();
    request.extensions_mut().insert(subject.clone());
    let change = call
        .is_change()
        .then(|| change(&state, call.name, peer, request.headers()));
    let response = passed(&state, service, peer, (call, request)).await;
    // The code of a call that began well follows its body.
    let code = response.headers().get("grpc-status");
    let code = code.and_then(|code| code.to_str().ok()?.parse().ok());
    let code = code.unwrap_or_default();
    state.observer.http.called(call.name, code);
    if let Some(change) = change {
        state.observer.audit.note(AuditRecord {
            subject: subject.told().map(str::to_owned),
            result: code,
            ..change
        });
    }
    response
}

/// The record of a call, but for its outcome.
fn change(state: &State, call: &str, peer: SocketAddr, headers: &HeaderMap) -> AuditRecord {
    let now = state.hub.now();
    let named = |key| headers.get(key).and_then(|value| value.to_str().ok());
    let hub = named("taskhub").or_else(|| named("durable-taskhub"));
    AuditRecord {
        at: time::exact(now),
        caller: state.access.identify(&with_key(headers), None, now).name(),
        address: peer.ip().to_string(),
        hub: hub.unwrap_or_else(|| state.hub.name()).to_owned(),
        action: call.to_owned(),
        subject: None,
        result: 0,
        grpc: true,
    }
}

async fn passed(
    state: &Arc<State>,
    service: Option<Router>,
    peer: SocketAddr,
    (call, request): (Call, Request<Body>),
) -> Response<Body> {
    let Some(service) = service else {
        return refusal(
            UNIMPLEMENTED,
            "this server has no gRPC service: start it with `dalsegno dev` or `dalsegno serve`",
        );
    };
    if check_bad_keys(state, peer).is_err() {
        return refusal(
            RESOURCE_EXHAUSTED,
            "too many unknown keys came from this address within a minute: wait, and check the key",
        );
    }
    if let Err(problem) = state.access.check_host(request.uri(), request.headers()) {
        return refusal(PERMISSION_DENIED, &problem.detail);
    }
    let headers = with_key(request.headers());
    let identity = state.access.identify(&headers, None, state.hub.now());
    if identity.require().is_err() {
        note_stranger(state, &identity, peer);
        return refusal(
            UNAUTHENTICATED,
            "a key is needed: send it as x-functions-key, or as authorization: Bearer <key>",
        );
    }
    let may = call.scopes;
    if !may.is_empty() && may.iter().all(|scope| identity.permit(*scope).is_err()) {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let needed: Vec<String> = may
            .iter()
            .map(|scope| format!("{scope:?}").to_lowercase())
            .collect();
        return refusal(
            PERMISSION_DENIED,
            &format!("{name} needs a key with the scope {}", needed.join(" or ")),
        );
    }
    if state.settings.is_read_only && !call.only_shows() {
        return refusal(
            PERMISSION_DENIED,
            "this host only shows: read_only is set in its configuration",
        );
    }
    match service.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// An SDK's credential may give our key as its token.
pub(super) fn with_key(headers: &HeaderMap) -> Cow<'_, HeaderMap> {
    if !headers.contains_key(AUTHORIZATION) {
        return Cow::Borrowed(headers);
    }
    let mut headers = headers.clone();
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .and_then(|token| HeaderValue::from_str(token.trim()).ok());
    if let Some(key) = bearer.filter(|_| !headers.contains_key(KEY_HEADER)) {
        headers.insert(KEY_HEADER, key);
    }
    Cow::Owned(headers)
}

/// An answer without a body: gRPC's code and text in the headers.
fn refusal(code: u32, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code));
    let text = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    if let Ok(text) = HeaderValue::from_str(&text) {
        headers.insert("grpc-message", text);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_a_key() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
        assert_eq!(with_key(&headers).get(KEY_HEADER).unwrap(), "secret");
        headers.insert(KEY_HEADER, HeaderValue::from_static("other"));
        assert_eq!(with_key(&headers).get(KEY_HEADER).unwrap(), "other");
    }
}
