//! The gRPC endpoint: authenticates and admits a call, then hands it to the service.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Request, Response, Uri};
use dalsegno_engine::request::{CallNote, CallScopes, CalledHub, DEFAULT_HUB, NewHubs, SecondScope};
use futures::FutureExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tower::ServiceExt;

use super::auth::{Credential, Ending, KEY_HEADER, Principal, Revoked, UntilRevoked};
use super::dispatch::{Connection, check_invalid_key, protect};
use super::forwarding::client_address;
use super::grpc_calls::Call;
use super::request::State;
use super::time;
use crate::audit::{self, AuditRecord, Pending, RecordKind};
use crate::hubs::unknown_hub;
use crate::keys::Scope;

/// gRPC's codes of the endpoint's own refusals.
const NOT_FOUND: u32 = 5;
const PERMISSION_DENIED: u32 = 7;
const RESOURCE_EXHAUSTED: u32 = 8;
const UNIMPLEMENTED: u32 = 12;
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
    connection: Connection,
    mut request: Request<Body>,
) -> Response<Body> {
    let called = Called::of(&state, connection, &request);
    let note = CallNote::default();
    request.extensions_mut().insert(note.clone());
    request.extensions_mut().insert(called.hub_with_record(&state));
    request.extensions_mut().insert(called.second_scopes());
    let pending = called.pending(&state, &note);
    let admitted = called.admit(&state, request.uri(), request.headers());
    let kind = match admitted.is_ok() {
        true => RecordKind::Admitted,
        false => called.refused(),
    };
    let offers = Offers::of(&called, &state, kind);
    let mut response = match admitted {
        Ok(()) => called.pass(service, request).await,
        Err(refusal) => refusal.into_response(),
    };
    protect(response.headers_mut());
    // The code of a call that began well follows its body.
    let code = response.headers().get("grpc-status");
    let code = code.and_then(|code| code.to_str().ok()?.parse().ok());
    let code = code.unwrap_or_default();
    state.observer.http.called(called.call.name, code);
    offers.answered(code).await;
    if let Some(pending) = pending {
        pending.answered(code, kind).await;
    }
    response
}

/// A call, its caller, and the hub that it names.
struct Called {
    call: Call,
    principal: Principal,
    credential: Credential,
    client: IpAddr,
    hub: CalledHub,
}

/// Why a call is not passed on: gRPC's code, and a text.
struct Refusal(u32, String);

impl Called {
    fn of(state: &State, connection: Connection, request: &Request<Body>) -> Self {
        let headers = with_key(request.headers());
        let principal = state.access.authenticate(&headers, None, state.hub.now());
        let trusted = &state.settings.trusted_proxies;
        Self {
            call: Call::of(request.uri().path()),
            credential: Credential::of(&principal, &state.access, &state.hub),
            principal,
            client: client_address(&headers, connection.peer.ip(), trusted),
            hub: CalledHub::new(
                &hub_name(&headers),
                match state.settings.is_read_only {
                    true => NewHubs::Refused,
                    false => NewHubs::Allowed,
                },
            ),
        }
    }

    /// The hub with what records that the call created it. The record is written where the creation
    /// ends, which may be after the caller disconnected.
    fn hub_with_record(&self, state: &State) -> CalledHub {
        let mut record = self.record(state, "createHub");
        record.subject = Some(audit::action::cut(self.hub.name()));
        let (observer, clock) = (Arc::clone(&state.observer), state.hub.clone());
        self.hub.clone().recorded_by(Arc::new(move || {
            let (observer, now, mut record) = (Arc::clone(&observer), clock.now(), record.clone());
            record.at = time::exact(now);
            async move { observer.audit.record(record, RecordKind::Admitted, now).await }.boxed()
        }))
    }

    /// Which second scopes the caller has, as far as the table names any for the call.
    fn second_scopes(&self) -> CallScopes {
        let has = |scope| self.principal.permit(&[scope]).is_ok();
        let (mut control, mut entity) = (false, false);
        for second in self.call.second_scopes() {
            match second {
                SecondScope::Control => control = has(Scope::Control),
                SecondScope::Entity => entity = has(Scope::Entity),
            }
        }
        CallScopes { control, entity }
    }

    /// Checks the caller against what the table says of the call.
    fn admit(&self, state: &State, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let denied = |text: &str| Err(Refusal(PERMISSION_DENIED, text.to_owned()));
        if let Err(problem) = check_invalid_key(state, &self.principal, self.client) {
            return Err(Refusal(RESOURCE_EXHAUSTED, problem.detail.clone()));
        }
        if let Err(problem) = state.access.check_host(uri, headers) {
            return denied(&problem.detail);
        }
        // No call is opened by a link.
        if !self.principal.is_known() {
            return Err(Refusal(
                UNAUTHENTICATED,
                "this call needs a key: send it as x-functions-key, or as authorization: Bearer <key>".into(),
            ));
        }
        if self.principal.permit(self.call.scopes).is_err() {
            let name = uri.path().rsplit('/').next().unwrap_or_default();
            let needed: Vec<String> = self.call.scopes.iter().map(ToString::to_string).collect();
            return denied(&format!(
                "{name} needs a key with the scope {}",
                needed.join(" or ")
            ));
        }
        let (default, named) = (state.hub.name(), self.hub.name());
        if !self.principal.may_enter(state.hubs.exact_name(named), default) {
            // The same as for a hub that is not there.
            let names = state.visible_hubs(&self.principal);
            return Err(Refusal(NOT_FOUND, unknown_hub(named, &names)));
        }
        if state.settings.is_read_only && !self.call.only_shows() {
            return denied("this host is read-only: read_only is set in its configuration");
        }
        Ok(())
    }

    async fn pass(&self, service: Option<Router>, request: Request<Body>) -> Response<Body> {
        let Some(service) = service else {
            let text = "this server has no gRPC service: start it with `dalsegno dev` or `dalsegno serve`";
            return Refusal(UNIMPLEMENTED, text.into()).into_response();
        };
        match self.credential.guard(service.oneshot(request)).await {
            Ok(Ok(response)) if self.call.is_stream() => {
                response.map(|body| UntilRevoked::wrap(body, &self.credential, Ending::Status))
            }
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(Revoked) => Refusal(
                UNAUTHENTICATED,
                "the key of this call was revoked or has expired".into(),
            )
            .into_response(),
        }
    }

    /// The audit record to come, of a call that is to change something.
    fn pending(&self, state: &State, note: &CallNote) -> Option<Pending> {
        let unanswered = match self.refused() {
            RecordKind::RefusedKey => RecordKind::Admitted,
            refused => refused,
        };
        let record = self
            .call
            .is_change()
            .then(|| self.record(state, self.call.name))?;
        let note = note.clone();
        Some(Pending::new(
            &state.observer,
            &state.hub,
            record,
            note,
            unanswered,
        ))
    }

    /// The kind of record if the call is refused.
    fn refused(&self) -> RecordKind {
        match self.principal.is_known() {
            true => RecordKind::RefusedKey,
            false => RecordKind::RefusedStranger,
        }
    }

    fn record(&self, state: &State, action: &str) -> AuditRecord {
        AuditRecord {
            at: time::exact(state.hub.now()),
            caller: self.principal.name().into_owned(),
            address: self.client.to_string(),
            hub: audit::action::cut(state.hubs.exact_name(self.hub.name())),
            action: action.to_owned(),
            grpc: true,
            ..AuditRecord::default()
        }
    }
}

/// Limiters that a call changes by offering them, recorded also if its caller disconnects.
struct Offers<'a> {
    called: &'a Called,
    state: &'a State,
    kind: RecordKind,
    is_recorded: bool,
}

impl<'a> Offers<'a> {
    fn of(called: &'a Called, state: &'a State, kind: RecordKind) -> Self {
        Self {
            called,
            state,
            kind,
            is_recorded: false,
        }
    }

    /// Records them with the result of the call.
    async fn answered(mut self, code: u16) {
        if let Some(pending) = self.take() {
            pending.answered(code, self.kind).await;
        }
    }

    fn take(&mut self) -> Option<Pending> {
        if std::mem::replace(&mut self.is_recorded, true) {
            return None;
        }
        let note = self.called.hub.offers()?.clone();
        let record = self.called.record(self.state, "offerLimiters");
        let (observer, hub) = (&self.state.observer, &self.state.hub);
        Some(Pending::new(observer, hub, record, note, self.kind))
    }
}

impl Drop for Offers<'_> {
    /// The caller disconnected first: the record is written as it is dropped.
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// The hub that a call names in its metadata, else the default hub.
fn hub_name(headers: &HeaderMap) -> String {
    let named = |key| headers.get(key).and_then(|value| value.to_str().ok());
    let name = named("taskhub").or_else(|| named("durable-taskhub"));
    name.filter(|name| !name.is_empty())
        .unwrap_or(DEFAULT_HUB)
        .to_owned()
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

impl Refusal {
    /// A response without a body: gRPC's code and text in the headers.
    fn into_response(self) -> Response<Body> {
        let Self(code, text) = self;
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(code));
        let text = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert("grpc-message", text);
        }
        response
    }
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
