//! A request on its way to a route, and what all requests share.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use dalsegno_core::event::is_reserved_event_name;
use dalsegno_core::{EntityId, InstanceId, Payload, TraceContext};
use dalsegno_engine::TaskHub;
use dalsegno_engine::request::{CallNote, RaisedEvent};

use super::auth::{Access, Credential, InvalidKeys, Principal};
use super::body;
use super::links::{Codes, Links, WithCodes};
use super::problem::{Place, Problem};
use super::query::{self, Query, invalid};
use super::route::{Also, Parameter, Route, When};
use super::waits::{WaitSlot, Waits};
use crate::audit::AuditLimits;
use crate::hubs::{HubKeeper, HubList, unknown_hub};
use crate::keys::VerifiedLink;
use crate::nearest::nearest;
use crate::observer::Observer;
use crate::schedule::Schedules;
use crate::v1::jobs::Operations;

/// How a host answers HTTP.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Origin of links, instead of what the request says.
    pub public_url: Option<String>,
    /// Addresses whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// The listener speaks TLS.
    pub is_tls: bool,
    /// Whether they are looked at.
    pub use_forwarded_host: bool,
    /// What links name as connection.
    pub connection: String,
    /// Largest body, in bytes.
    pub body_bytes_max: usize,
    /// Most rows on a page.
    pub page_max: usize,
    /// How long the keys in links are good.
    pub link_lifetime: Duration,
    /// Whether control and purge links carry keys too.
    pub links_all_with_keys: bool,
    /// Whether a start replaces an unfinished instance of the same id.
    pub start_replaces_unfinished: bool,
    /// Most connections at once.
    pub connections_max: usize,
    /// How long a client may take to send its headers.
    pub header_timeout: Duration,
    /// A stream in which nothing happens says so this often, for proxies that cut off what is silent.
    pub heartbeat: Duration,
    /// Whether the dashboard is served.
    pub has_dashboard: bool,
    /// Whether whatever would change the hub is refused, but for the work of workers and the app's own routes.
    pub is_read_only: bool,
    /// Where every call that changes something is recorded, beside memory.
    pub audit_file: Option<PathBuf>,
    /// How large that file and its older ones may become.
    pub audit_limits: AuditLimits,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            public_url: None,
            is_tls: false,
            trusted_proxies: Vec::new(),
            use_forwarded_host: false,
            connection: "Storage".into(),
            body_bytes_max: 4 * 1024 * 1024,
            page_max: 1_000,
            link_lifetime: Duration::from_secs(30 * 24 * 3600),
            links_all_with_keys: false,
            start_replaces_unfinished: false,
            connections_max: 10_000,
            header_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
            has_dashboard: true,
            is_read_only: false,
            audit_file: None,
            audit_limits: AuditLimits::default(),
        }
    }
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct State {
    /// The host's own.
    pub(crate) hub: TaskHub,
    pub(crate) hubs: HubList,
    pub(crate) keeper: Option<Arc<dyn HubKeeper>>,
    pub(crate) settings: HttpSettings,
    pub(crate) access: Access,
    pub(crate) invalid_keys: Mutex<InvalidKeys>,
    pub(crate) waits: Waits,
    /// The app's timer triggers.
    pub(crate) schedules: Arc<Schedules>,
    /// Commands to many instances that run here.
    pub(crate) operations: Arc<Operations>,
    /// Measures and records.
    pub(crate) observer: Arc<Observer>,
    /// Tells streams, which never end by themselves, that the host goes down.
    pub(crate) closing: tokio::sync::watch::Sender<bool>,
}

impl State {
    /// The hub that a query names, the host's own when it names none. What it does not serve is
    /// told when the query is checked.
    pub(crate) fn hub_named(&self, raw: Option<&str>) -> TaskHub {
        let named = query::hub_of(raw).filter(|name| !name.is_empty());
        named
            .and_then(|name| self.hubs.find(&name))
            .unwrap_or_else(|| self.hub.clone())
    }

    /// The links of a hub as seen from an origin.
    pub(crate) fn links(&self, hub: &TaskHub, origin: String) -> Links {
        let codes = self.access.keys().map(|keys| Codes {
            keys: keys.clone(),
            clock: hub.clone(),
            lifetime: self.settings.link_lifetime,
            which: match self.settings.links_all_with_keys {
                true => WithCodes::All,
                false => WithCodes::StatusAndEvents,
            },
        });
        Links {
            origin,
            hub: hub.name().to_owned(),
            connection: self.settings.connection.clone(),
            codes,
        }
    }

    /// Names of the hubs that a caller may enter, the default hub first.
    pub(crate) fn visible_hubs(&self, principal: &Principal) -> Vec<String> {
        let default = self.hub.name();
        let mut names = self.hubs.names();
        names.retain(|name| principal.may_enter(name, default));
        names
    }
}

/// What an app route may ask of the host that serves it: an axum extractor.
#[derive(Clone, Debug)]
pub struct RequestLinks {
    /// The hub.
    pub hub: TaskHub,
    /// Its links, as the caller sees this host.
    pub links: Links,
}

impl<S: Sync> FromRequestParts<S> for RequestLinks {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// One request, past the checks of its caller.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) state: Arc<State>,
    /// The one that is meant.
    pub(crate) hub: TaskHub,
    pub(crate) principal: Principal,
    /// The address of the caller, resolved through trusted proxies.
    pub(crate) client: IpAddr,
    /// What a response that takes long depends on.
    pub(crate) credential: Credential,
    /// The link that opened the route, if it was one.
    pub(crate) link: Option<VerifiedLink>,
    pub(crate) links: Links,
    pub(crate) parts: Parts,
    /// In a mutex only because a body cannot be looked at from two threads; nobody ever waits for it.
    pub(crate) body: Mutex<Body>,
    /// What the audit record says of it.
    pub(crate) note: CallNote,
    /// What its route takes in the query.
    pub(crate) parameters: &'static [Parameter],
    /// The second scopes that its route names.
    pub(crate) also: &'static [Also],
}

impl Call {
    /// Found to be for a route.
    #[must_use]
    pub(crate) fn on<T>(self, route: &Route<T>) -> Self {
        Self {
            parameters: route.query,
            also: route.also,
            ..self
        }
    }

    pub(crate) fn hub(&self) -> &TaskHub {
        &self.hub
    }

    /// Refuses a caller without the second scopes that the route names for this case.
    pub(crate) fn permit_when(&self, when: When) -> Result<(), Problem> {
        let fitting = self.also.iter().filter(|also| also.when == when);
        for also in fitting {
            self.principal.permit(&[also.scope])?;
        }
        Ok(())
    }

    /// The same for a member of the body, or of the bulk operation in the path.
    pub(crate) fn permit_member(&self, name: &'static str, value: &'static str) -> Result<(), Problem> {
        self.permit_when(When::Member(name, value))
    }

    /// 403 when this host changes nothing.
    pub(crate) fn check_writable(&self) -> Result<(), Problem> {
        match self.state.settings.is_read_only {
            false => Ok(()),
            true => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "read_only",
                "this host is read-only: read_only is set in its configuration",
            )),
        }
    }

    /// A place among those that wait, for as long as it is kept; 429 when there is none.
    pub(crate) fn wait_slot(&self) -> Result<WaitSlot, Problem> {
        let limits = self.hub().limits();
        let (all, own) = (limits.waiters_max, limits.waiters_per_key_max);
        self.state.waits.slot(&self.principal, self.client, all, own)
    }

    /// The query, checked against what the route takes, against the second scopes that its flags need,
    /// and for the hub it names.
    pub(crate) fn query(&self) -> Result<Query, Problem> {
        let known: Vec<&'static str> = self.parameters.iter().map(|parameter| parameter.name).collect();
        let query = Query::parse(self.parts.uri.query(), &known)?;
        for also in self.also {
            if let When::Flag(name) = also.when
                && query.boolean(name, false)?
            {
                self.permit_when(also.when)?;
            }
        }
        match query.text("taskHub") {
            Some(hub) if !hub.is_empty() && !self.is_own(hub) => Err(self.unknown_hub(hub)),
            _ => Ok(query),
        }
    }

    /// Whether a name means the hub that was checked when the request was admitted, and one that the
    /// caller may know of.
    fn is_own(&self, hub: &str) -> bool {
        let found = self.state.hubs.find(hub);
        let is_foreign = matches!(self.principal, Principal::Key(_))
            && !self.principal.may_enter(self.hub().name(), self.state.hub.name());
        found.is_some_and(|found| found.name() == self.hub().name()) && !is_foreign
    }

    /// 400 for a hub that the query names: the same whether it is not there or the caller may not
    /// enter it.
    pub(crate) fn unknown_hub(&self, name: &str) -> Problem {
        let names = self.state.visible_hubs(&self.principal);
        Problem::bad_request("unknown_hub", unknown_hub(name, &names))
            .param("taskHub")
            .got(name)
            .expected(names.join(", "))
    }

    pub(crate) async fn body(&mut self) -> Result<Bytes, Problem> {
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        body::read(&self.parts.headers, body, self.state.settings.body_bytes_max).await
    }

    /// One JSON value, or nothing, whatever the content type.
    pub(crate) async fn payload(&mut self) -> Result<Option<Payload>, Problem> {
        body::payload(&self.body().await?)
    }

    /// A header's text; 400 when it is not ASCII, or there twice.
    pub(crate) fn header(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.parts.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(invalid(name, "", "the header once").at(Place::Header));
        }
        value
            .to_str()
            .map(Some)
            .map_err(|_| invalid(name, "", "printable ASCII").at(Place::Header))
    }

    /// The header by which a repeat is known.
    pub(crate) fn idempotency_key(&self) -> Result<Option<String>, Problem> {
        Ok(self.header("idempotency-key")?.map(str::to_owned))
    }

    /// An event with what the headers say of it.
    pub(crate) fn raised(&self, name: String, input: Option<Payload>) -> Result<RaisedEvent, Problem> {
        Ok(RaisedEvent {
            name,
            input,
            idempotency_key: self.idempotency_key()?,
            trace: self.trace(),
        })
    }

    /// The trace that the caller works in. As W3C says, invalid headers are no error and no trace.
    pub(crate) fn trace(&self) -> Option<TraceContext> {
        trace_in(&self.parts.headers)
    }

    /// A reason: empty or the placeholder of the link is none.
    pub(crate) fn reason(&self, query: &Query) -> Result<Option<String>, Problem> {
        let reason = query
            .text("reason")
            .filter(|reason| !reason.is_empty() && *reason != "{text}");
        self.check_reason(reason)?;
        Ok(reason.map(str::to_owned))
    }

    /// 400 for a reason that is too long.
    pub(crate) fn check_reason(&self, reason: Option<&str>) -> Result<(), Problem> {
        let most = self.hub().limits().reason_bytes_max;
        match reason.map_or(0, str::len) {
            bytes if bytes > most => Err(Problem::bad_request(
                "reason_too_long",
                format!("the reason has {bytes} bytes, reason_bytes_max is {most}: shorten it"),
            )
            .param("reason")),
            _ => Ok(()),
        }
    }

    /// 400 for the name of an event as links spell it, or one that is too long.
    pub(crate) fn check_event_name(&self, name: &str) -> Result<(), Problem> {
        let most = self.hub().limits().name_bytes_max;
        if name == "{eventName}" {
            return Err(Problem::bad_request(
                "invalid_event_name",
                "put the event's name in the place of {eventName}",
            ));
        }
        if is_reserved_event_name(name) {
            return Err(Problem::bad_request(
                "invalid_event_name",
                format!("events named {name} are reserved: POST .../cancel asks an instance to cancel"),
            ));
        }
        if name.len() > most {
            return Err(Problem::bad_request(
                "invalid_event_name",
                format!(
                    "the event's name has {} bytes, name_bytes_max is {most}",
                    name.len()
                ),
            ));
        }
        Ok(())
    }

    /// 400 for a name that no registered entity has.
    pub(crate) fn check_entity_name(&self, name: &str) -> Result<(), Problem> {
        let known = self.hub().executor().entities();
        let name = name.to_lowercase();
        if known.iter().any(|known| **known == *name) {
            return Ok(());
        }
        let hint = match nearest(&name, known.iter().map(|known| &**known)) {
            Some(near) => format!("did you mean {near}?"),
            None => "register it with the app".into(),
        };
        Err(Problem::bad_request(
            "entity_not_found",
            format!("no entity of that name is registered: {hint}"),
        )
        .got(&name))
    }
}

/// An instance id from a path.
pub(crate) fn instance_id(text: &str) -> Result<InstanceId, Problem> {
    InstanceId::parse(text).map_err(|invalid| {
        Problem::bad_request("invalid_instance_id", invalid.reason)
            .got(text)
            .param("instanceId")
    })
}

/// An entity's id from a path.
pub(crate) fn entity_id(name: &str, key: &str) -> Result<EntityId, Problem> {
    EntityId::new(name, key).map_err(|invalid| {
        Problem::bad_request("invalid_entity_id", invalid.reason).got(&format!("@{name}@{key}"))
    })
}

impl HttpSettings {
    /// Of the listener's own addresses.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.is_tls {
            true => "https",
            false => "http",
        }
    }
}

/// The trace that these headers of W3C Trace Context name. Invalid ones are no error and no trace.
pub fn trace_in(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None;
    }
    let states: Result<Vec<&str>, _> = headers
        .get_all("tracestate")
        .iter()
        .map(HeaderValue::to_str)
        .collect();
    TraceContext::parse(parent, states.ok().map(|states| states.join(",")).as_deref())
}
