//! From a request to its route: who asks, what for, may he.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use dalsegno_core::TraceContext;
use tower::ServiceExt;
use tracing::Instrument;

use super::auth::Identity;
use super::body::empty;
use super::path::{self, Face, Management};
use super::problem::{Bodies, Problem};
use super::query::percent_decode;
use super::request::{Call, RequestLinks, State, origin, trace_in};
use super::{commands, entities, grpc, health, list, metrics, purge, start, status, time};
use crate::audit::{self, AuditRecord, Subject};
use crate::dashboard;
use crate::keys::Scope;
use crate::server::HEADER_BYTES_MAX;
use crate::v1;

/// Characters of a sender's id of a request.
const REQUEST_ID_MAX: usize = 128;

/// Answers a request, whatever it is.
pub(crate) async fn dispatch(
    state: Arc<State>,
    app: Router,
    peer: SocketAddr,
    request: Request<Body>,
) -> Response<Body> {
    let (begin, face, method) = (
        Instant::now(),
        path::face(request.uri().path()),
        request.method().clone(),
    );
    let span = tracing::error_span!(
        "request",
        request_id = request_id(request.headers()),
        trace_id = trace_in(request.headers()).as_ref().map(TraceContext::trace_id),
    );
    let response = answer(&state, app, peer, request, &face).instrument(span).await;
    let code = response.status().as_u16();
    state
        .observer
        .http
        .answered(&face, &method, code, begin.elapsed());
    response
}

async fn answer(
    state: &Arc<State>,
    app: Router,
    peer: SocketAddr,
    request: Request<Body>,
    face: &Face,
) -> Response<Body> {
    if header_bytes(request.headers()) > HEADER_BYTES_MAX {
        return empty(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let face = face.clone();
    if face == Face::Health {
        return health::answer(request.uri().query(), || state.hub.health());
    }
    let bodies = if matches!(face, Face::Ours(_)) {
        Bodies::Full
    } else {
        Bodies::Classic
    };
    let (parts, body) = request.into_parts();
    if let Err(problem) = state.access.check_host(&parts.uri, &parts.headers) {
        return problem.into_response(bodies);
    }
    if state.settings.has_dashboard
        && let Some(answer) = dashboard::answer(&parts)
    {
        return answer;
    }
    let led_away = dashboard::led_away(&parts).filter(|_| state.settings.has_dashboard);
    let code = code(parts.uri.query());
    let headers = match face {
        // Prometheus sends its key as a token.
        Face::Metrics => grpc::with_key(&parts.headers),
        _ => Cow::Borrowed(&parts.headers),
    };
    let identity = state.access.identify(&headers, code.as_deref(), state.hub.now());
    let hub = match face {
        // The app's query is the app's.
        Face::App => state.hub.clone(),
        _ => state.hub_named(parts.uri.query()),
    };
    let links = state.links(&hub, origin(&state.settings, &parts, peer));
    let call = Call {
        state: Arc::clone(state),
        hub,
        identity: identity.clone(),
        peer,
        links,
        parts,
        body: body.into(),
    };
    let response = if face == Face::App {
        match to_app(app, call).await {
            answer if led_away.is_some_and(|statuses| statuses.contains(&answer.status())) => {
                dashboard::lead_there()
            }
            answer => answer,
        }
    } else {
        let change = change(&call, &face);
        let response = guarded(call, face, peer)
            .await
            .unwrap_or_else(|problem| problem.into_response(bodies));
        if let Some(change) = change {
            state.observer.audit.note(answered(change, &response));
        }
        response
    };
    note_bad_key(state, &identity, peer, &response);
    response
}

/// The record of a call that is to change something, but for its outcome.
fn change(call: &Call, face: &Face) -> Option<AuditRecord> {
    let (Face::Management(segments) | Face::Ours(segments)) = face else {
        return None;
    };
    if matches!(call.parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let (action, subject) = audit::action(&call.parts.method, segments);
    Some(AuditRecord {
        at: time::exact(call.state.hub.now()),
        caller: call.identity.name(),
        address: call.peer.ip().to_string(),
        hub: call.hub().name().to_owned(),
        action,
        subject,
        result: 0,
        grpc: false,
    })
}

/// What came of it; a start tells which id it gave.
fn answered(change: AuditRecord, response: &Response<Body>) -> AuditRecord {
    let started = response.extensions().get::<Subject>();
    AuditRecord {
        subject: started.map(|Subject(id)| id.to_string()).or(change.subject),
        result: response.status().as_u16(),
        ..change
    }
}

/// hyper looks at its buffer only when a read ends within the headers, so they are counted here.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

/// The routes that need somebody we know.
async fn guarded(call: Call, face: Face, peer: SocketAddr) -> Result<Response<Body>, Problem> {
    check_bad_keys(&call.state, peer)?;
    call.identity.require()?;
    call.state
        .access
        .check_origin(&call.parts.method, &call.parts.headers)?;
    if !matches!(call.parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        call.check_writable()?;
    }
    match face {
        Face::Management(segments) => match path::management(&call.parts.method, &segments) {
            Some(route) => management(call, route).await,
            None => Err(Problem::not_found()),
        },
        Face::Ours(segments) => match path::ours(&call.parts.method, &segments) {
            Some(route) => v1::dispatch(call, route).await,
            None => Err(Problem::not_found()),
        },
        Face::Unreadable => Err(Problem::bad_request(
            "invalid_path",
            "the path has a broken percent-escape, or is not UTF-8",
        )),
        Face::Metrics => metrics::answer(&call).await,
        Face::Reserved | Face::Health | Face::App => Err(Problem::not_found()),
    }
}

async fn management(call: Call, route: Management) -> Result<Response<Body>, Problem> {
    match route {
        Management::Start { name, id } => start::start(call, name, id).await,
        Management::Status { id } => status::show(call, id).await,
        Management::List => list::list(call).await,
        Management::Purge { id } => purge::one(call, id).await,
        Management::PurgeMany => purge::many(call).await,
        Management::RaiseEvent { id, event } => commands::raise_event(call, id, event).await,
        Management::Command { id, command } => commands::command(call, id, command).await,
        Management::Restart { id } => commands::restart(call, id).await,
        Management::Entities { name } => entities::list(call, name).await,
        Management::Entity { name, key } => entities::show(call, name, key).await,
        Management::Signal { name, key } => entities::signal(call, name, key).await,
        Management::DeleteEntity { name, key } => entities::delete(call, name, key).await,
        Management::MakePrimary => {
            call.permit(Scope::Control)?;
            Ok(empty(StatusCode::OK))
        }
    }
}

/// Hands over to the app, which finds the caller and the links in the request's extensions.
async fn to_app(app: Router, call: Call) -> Response<Body> {
    let Call {
        state,
        identity,
        links,
        parts,
        body,
        ..
    } = call;
    let mut request = Request::from_parts(parts, body.into_inner().unwrap_or_else(PoisonError::into_inner));
    let access = state.access.clone();
    request.extensions_mut().insert(identity);
    request.extensions_mut().insert(access);
    request.extensions_mut().insert(RequestLinks {
        hub: state.hub.clone(),
        links,
    });
    app.oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// What lines that are logged for a request say of it: what its sender calls it, or what we do.
fn request_id(headers: &HeaderMap) -> String {
    let is_plain = |text: &&str| {
        !text.is_empty() && text.len() <= REQUEST_ID_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    match given.filter(is_plain) {
        Some(given) => given.to_owned(),
        None => format!("{:016x}", getrandom::u64().unwrap_or_default()),
    }
}

/// The key in the query, before the query is checked.
fn code(raw: Option<&str>) -> Option<String> {
    raw?.split('&').find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.eq_ignore_ascii_case("code")
            .then(|| percent_decode(value))
            .flatten()
    })
}

pub(super) fn check_bad_keys(state: &State, peer: SocketAddr) -> Result<(), Problem> {
    let table = state.bad_keys.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = table.shut_seconds(peer.ip(), state.hub.now());
    if seconds > 0 {
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_bad_keys",
            format!(
                "too many unknown keys came from this address within a minute: check the key, and wait {seconds} s"
            ),
        )
        .retry_after(seconds));
    }
    Ok(())
}

fn note_bad_key(state: &State, identity: &Identity, peer: SocketAddr, response: &Response<Body>) {
    if response.status() == StatusCode::UNAUTHORIZED {
        note_stranger(state, identity, peer);
    }
}

/// Counts who shows a key that is none of ours.
pub(super) fn note_stranger(state: &State, identity: &Identity, peer: SocketAddr) {
    if *identity == Identity::Stranger {
        let mut table = state.bad_keys.lock().unwrap_or_else(PoisonError::into_inner);
        table.note(peer.ip(), state.hub.now());
    }
}
