//! From a request to its route: who asks, what for, may he.

use std::borrow::Cow;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use dalsegno_core::TraceContext;
use dalsegno_engine::request::CallNote;
use tower::ServiceExt;
use tracing::Instrument;

use super::auth::{Credential, Ending, Principal, Revoked, UntilRevoked, forbidden, unauthorized};
use super::authorize::authorize;
use super::body::empty;
use super::forwarding::{client_address, origin};
use super::path::{self, Face, Management};
use super::problem::{Bodies, Problem};
use super::query::percent_decode;
use super::request::{Call, RequestLinks, State, trace_in};
use super::route::Route;
use super::{commands, entities, grpc, health, list, metrics, purge, route, routes, start, status, time};
use crate::app_routes::{OfApp, Scheme};
use crate::audit::{self, AuditRecord, Pending, RecordKind};
use crate::dashboard;
use crate::openapi;
use crate::server::HEADER_BYTES_MAX;
use crate::v1;

/// Characters of a sender's id of a request.
const REQUEST_ID_MAX: usize = 128;

/// From where a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    /// The other end: the client, or its proxy.
    pub(crate) peer: SocketAddr,
    /// Our end.
    pub(crate) listening: SocketAddr,
}

/// Answers a request, whatever it is.
pub(crate) async fn dispatch(
    state: Arc<State>,
    app: Router,
    connection: Connection,
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
    let mut response = answer(&state, app, connection, request, &face)
        .instrument(span)
        .await;
    // What the app answers is the app's to protect; refusals on its paths are the host's.
    if response.extensions_mut().remove::<OfApp>().is_none() {
        protect(response.headers_mut());
    }
    let code = response.status().as_u16();
    state
        .observer
        .http
        .answered(&face, &method, code, begin.elapsed());
    response
}

/// What a browser may do with a response of the host: take it for nothing but what it says it is,
/// and store it nowhere unless it says otherwise.
pub(super) fn protect(headers: &mut HeaderMap) {
    headers
        .entry(header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

async fn answer(
    state: &Arc<State>,
    app: Router,
    connection: Connection,
    request: Request<Body>,
    face: &Face,
) -> Response<Body> {
    if header_bytes(request.headers()) > HEADER_BYTES_MAX {
        return empty(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let face = face.clone();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match face {
        Face::Health if is_read => {
            return health::answer(request.uri().query(), || state.hub.health());
        }
        Face::Health => return method_not_allowed("GET, HEAD"),
        _ => {}
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
    let call = authenticated(state, connection, &face, parts, body);
    let (principal, client) = (call.principal.clone(), call.client);
    if face == Face::App {
        let answer = to_app(app, call).await;
        if led_away.is_some_and(|statuses| statuses.contains(&answer.status())) {
            return dashboard::lead_there();
        }
        // To a route that needs no key, what looks like one is none of ours: `?code=` of OAuth.
        if answer.status() != StatusCode::UNAUTHORIZED {
            return answer;
        }
        return match check_invalid_key(state, &principal, client) {
            Ok(()) => answer,
            Err(problem) => problem.into_response(bodies),
        };
    }
    if let Err(problem) = check_invalid_key(state, &principal, client) {
        return problem.into_response(bodies);
    }
    let refused = match principal.is_known() {
        true => RecordKind::RefusedKey,
        false => RecordKind::RefusedStranger,
    };
    // A link that opens its route is as good as a key; before it did, a stranger holds it.
    let unanswered = match refused {
        RecordKind::RefusedKey => RecordKind::Admitted,
        refused => refused,
    };
    let pending = change(&call, &face)
        .map(|record| Pending::new(&state.observer, &state.hub, record, call.note.clone(), unanswered));
    let response = guarded(call, face)
        .await
        .unwrap_or_else(|problem| problem.into_response(bodies));
    if let Some(pending) = pending {
        let result = response.status().as_u16();
        let kind = match result {
            401 | 403 | 429 => refused,
            _ => RecordKind::Admitted,
        };
        pending.answered(result, kind).await;
    }
    response
}

/// The request with its caller, and the hub that it is about.
fn authenticated(state: &Arc<State>, connection: Connection, face: &Face, parts: Parts, body: Body) -> Call {
    let Connection { peer, listening } = connection;
    let code = code(parts.uri.query());
    let headers = match face {
        // Prometheus sends its key as a token.
        Face::Metrics => grpc::with_key(&parts.headers),
        _ => Cow::Borrowed(&parts.headers),
    };
    let principal = state
        .access
        .authenticate(&headers, code.as_deref(), state.hub.now());
    let hub = match face {
        // The app's query is the app's.
        Face::App => state.hub.clone(),
        _ => state.hub_named(parts.uri.query()),
    };
    let origin = origin(&state.settings, &state.access, &parts, peer, listening);
    Call {
        credential: Credential::of(&principal, &state.access, &state.hub),
        link: None,
        client: client_address(&parts.headers, peer.ip(), &state.settings.trusted_proxies),
        links: state.links(&hub, origin),
        state: Arc::clone(state),
        hub,
        principal,
        parts,
        body: body.into(),
        parameters: &[],
        also: &[],
        note: CallNote::default(),
    }
}

/// The record of a call that is to change something, but for its outcome.
fn change(call: &Call, face: &Face) -> Option<AuditRecord> {
    let (Face::Management(segments) | Face::Ours(segments)) = face else {
        return None;
    };
    if matches!(call.parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let (action, subject) = audit::action::of(&call.parts.method, segments);
    Some(AuditRecord {
        at: time::exact(call.state.hub.now()),
        caller: call.principal.name().into_owned(),
        address: call.client.to_string(),
        hub: call.hub().name().to_owned(),
        action,
        subject,
        ..AuditRecord::default()
    })
}

/// hyper looks at its buffer only when a read ends within the headers, so they are counted here.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}

/// The routes of the host: for callers that it knows, and for links.
async fn guarded(call: Call, face: Face) -> Result<Response<Body>, Problem> {
    call.principal.require()?;
    call.state.access.check_origin(
        call.state.settings.scheme(),
        &call.parts.method,
        &call.parts.uri,
        &call.parts.headers,
    )?;
    if !matches!(call.parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        call.check_writable()?;
    }
    match face {
        Face::Management(segments) => {
            let (call, to) = admitted(call, routes::ROUTES, &segments).await?;
            while_valid(call, |call| management(call, to)).await
        }
        Face::Ours(segments) => {
            let (call, to) = admitted(call, v1::routes::ROUTES, &segments).await?;
            while_valid(call, |call| v1::dispatch(call, to)).await
        }
        Face::Unreadable => Err(Problem::bad_request(
            "invalid_path",
            "the path has a broken percent-escape, or is not UTF-8",
        )),
        Face::Metrics | Face::OpenApi => {
            let path = [call.parts.uri.path().trim_start_matches('/').to_owned()];
            match admitted(call, path::PAGES, &path).await? {
                (call, Face::Metrics) => metrics::answer(&call).await,
                (call, _) => openapi::answer(&call),
            }
        }
        Face::Reserved | Face::Health | Face::App => Err(Problem::not_found()),
    }
}

/// The route of a request, if the caller may use it.
async fn admitted<T>(
    mut call: Call,
    table: &'static [Route<T>],
    segments: &[String],
) -> Result<(Call, T), Problem> {
    let found = route::find(table, &call.parts.method, segments);
    let (route, to) = found.ok_or_else(|| match call.principal.is_known() {
        true => Problem::not_found(),
        false => forbidden(),
    })?;
    authorize(&mut call, route, segments).await?;
    Ok((call.on(route), to))
}

/// The answer of a handler, as long as the credential of its caller is valid.
async fn while_valid<F>(call: Call, handle: impl FnOnce(Call) -> F) -> Result<Response<Body>, Problem>
where
    F: Future<Output = Result<Response<Body>, Problem>>,
{
    let credential = call.credential.clone();
    match credential.guard(handle(call)).await {
        Ok(answer) => {
            answer.map(|answer| answer.map(|body| UntilRevoked::wrap(body, &credential, Ending::Cut)))
        }
        Err(Revoked) => Err(unauthorized()),
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
            call.query()?;
            Ok(empty(StatusCode::OK))
        }
    }
}

/// Hands over to the app, which finds the caller and the links in the request's extensions.
async fn to_app(app: Router, call: Call) -> Response<Body> {
    let Call {
        state,
        principal,
        credential,
        links,
        parts,
        body,
        ..
    } = call;
    let mut request = Request::from_parts(parts, body.into_inner().unwrap_or_else(PoisonError::into_inner));
    let access = state.access.clone();
    request.extensions_mut().insert(principal);
    request.extensions_mut().insert(credential);
    request.extensions_mut().insert(access);
    request.extensions_mut().insert(Scheme(state.settings.scheme()));
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

/// Counts a caller that sends an invalid key; 429 for one that sends too many. Whoever sends a valid
/// key from the same address is not affected.
pub(super) fn check_invalid_key(state: &State, principal: &Principal, client: IpAddr) -> Result<(), Problem> {
    if *principal != Principal::InvalidKey {
        return Ok(());
    }
    let mut table = state.invalid_keys.lock().unwrap_or_else(PoisonError::into_inner);
    match table.count(client, state.hub.now()) {
        0 => Ok(()),
        seconds => Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_bad_keys",
            format!(
                "this address sent too many invalid keys within a minute: check the key, and wait {seconds} s"
            ),
        )
        .retry_after(seconds)),
    }
}

fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
