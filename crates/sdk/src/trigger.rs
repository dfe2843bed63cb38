//! What starts orchestrations from outside: HTTP requests and the clock.

use std::borrow::Cow;
use std::fmt;

use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use dalsegno_core::Timestamp;
use dalsegno_engine::request::RequestErrorKind;
use futures::future::BoxFuture;
use serde_json::json;

use crate::client::Client;
use crate::error::{Error, Result};

/// Who may call an HTTP trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AuthLevel {
    /// Everybody.
    Anonymous,
    /// Whoever has a key of the function or the host.
    #[default]
    Function,
    /// Whoever has the host's admin key.
    Admin,
}

type Routing = dyn Fn(MethodFilter) -> MethodRouter + Send + Sync;

/// An HTTP trigger: an axum handler with its route. [`Client`] is an extractor.
pub struct HttpTrigger {
    name: Cow<'static, str>,
    route: Cow<'static, str>,
    methods: Vec<Method>,
    auth: AuthLevel,
    routing: Box<Routing>,
}

impl HttpTrigger {
    /// A trigger at the route of its name, for GET and POST, for holders of a function key.
    pub fn new<H, T>(name: impl Into<Cow<'static, str>>, handler: H) -> Self
    where
        H: Handler<T, ()>,
        T: 'static,
    {
        let name = name.into();
        Self {
            route: name.clone(),
            name,
            methods: vec![Method::GET, Method::POST],
            auth: AuthLevel::default(),
            routing: Box::new(move |methods| axum::routing::on(methods, handler.clone())),
        }
    }

    /// The path below `/api`, with `{name}` for parts that vary.
    #[must_use]
    pub fn route(mut self, route: impl Into<Cow<'static, str>>) -> Self {
        self.route = route.into();
        self
    }

    /// The methods it answers. Unknown ones are left out; `#[http_trigger]` refuses them.
    #[must_use]
    pub fn methods<'m>(mut self, methods: impl IntoIterator<Item = &'m str>) -> Self {
        let parsed = methods.into_iter().filter_map(|name| name.parse().ok());
        self.methods = parsed.filter(|method| filter_of(method).is_some()).collect();
        self
    }

    /// Who may call it.
    #[must_use]
    pub fn auth(mut self, level: AuthLevel) -> Self {
        self.auth = level;
        self
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path below `/api`, without a slash in front.
    pub fn route_path(&self) -> &str {
        self.route.trim_start_matches('/')
    }

    /// The methods it answers.
    pub fn method_list(&self) -> &[Method] {
        &self.methods
    }

    /// Who may call it.
    pub fn auth_level(&self) -> AuthLevel {
        self.auth
    }

    /// The handler for its methods; the host puts a [`Client`] into the request's extensions.
    pub fn into_router(self) -> MethodRouter {
        let filters = self.methods.iter().filter_map(filter_of);
        match filters.reduce(MethodFilter::or) {
            Some(filter) => (self.routing)(filter),
            None => MethodRouter::new(),
        }
    }
}

fn filter_of(method: &Method) -> Option<MethodFilter> {
    MethodFilter::try_from(method.clone()).ok()
}

impl fmt::Debug for HttpTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTrigger")
            .field("name", &self.name)
            .field("route", &self.route)
            .field("methods", &self.methods)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

/// One occurrence of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerInfo {
    /// When it was due; the same when a function that was cut off runs again.
    pub scheduled: Timestamp,
    /// Whether it runs later than that because the host was down.
    pub past_due: bool,
}

type OnTimer = dyn Fn(Client, TimerInfo) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// A function that runs by a schedule: on one host, at least once per occurrence.
pub struct TimerTrigger {
    name: Cow<'static, str>,
    schedule: Cow<'static, str>,
    time_zone: Option<Cow<'static, str>>,
    run_on_startup: bool,
    handler: Box<OnTimer>,
}

impl TimerTrigger {
    /// A trigger with a six-field NCRONTAB schedule (seconds first), in UTC.
    pub fn new<F>(
        name: impl Into<Cow<'static, str>>,
        schedule: impl Into<Cow<'static, str>>,
        handler: F,
    ) -> Self
    where
        F: Fn(Client, TimerInfo) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    {
        Self {
            name: name.into(),
            schedule: schedule.into(),
            time_zone: None,
            run_on_startup: false,
            handler: Box::new(handler),
        }
    }

    /// The IANA time zone in which the schedule is read.
    #[must_use]
    pub fn time_zone(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.time_zone = Some(name.into());
        self
    }

    /// Runs also when the host starts.
    #[must_use]
    pub fn run_on_startup(mut self, run: bool) -> Self {
        self.run_on_startup = run;
        self
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schedule.
    pub fn schedule(&self) -> &str {
        &self.schedule
    }

    /// The time zone; `None` is UTC.
    pub fn time_zone_name(&self) -> Option<&str> {
        self.time_zone.as_deref()
    }

    /// Does it run when the host starts?
    pub fn runs_on_startup(&self) -> bool {
        self.run_on_startup
    }

    /// Runs the function for one occurrence.
    pub fn fire(&self, client: Client, info: TimerInfo) -> BoxFuture<'static, Result<()>> {
        (self.handler)(client, info)
    }
}

impl fmt::Debug for TimerTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerTrigger")
            .field("name", &self.name)
            .field("schedule", &self.schedule)
            .field("time_zone", &self.time_zone)
            .finish_non_exhaustive()
    }
}

/// An error of a handler: a refused request says so, anything else is the function's fault.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let kind = self.request_kind();
        let status = kind.map_or(StatusCode::INTERNAL_SERVER_ERROR, status_of);
        let code = kind.map_or("function_failed", RequestErrorKind::code);
        let body = json!({ "status": status.as_u16(), "code": code, "detail": self.to_string() });
        (status, axum::Json(body)).into_response()
    }
}

fn status_of(kind: RequestErrorKind) -> StatusCode {
    match kind {
        RequestErrorKind::NotFound => StatusCode::NOT_FOUND,
        RequestErrorKind::OrchestratorNotFound
        | RequestErrorKind::EntityNotFound
        | RequestErrorKind::Invalid => StatusCode::BAD_REQUEST,
        RequestErrorKind::InstanceExists
        | RequestErrorKind::InstanceRunning
        | RequestErrorKind::WrongState
        | RequestErrorKind::IdempotencyConflict
        | RequestErrorKind::EventIdReused => StatusCode::CONFLICT,
        RequestErrorKind::Finished => StatusCode::GONE,
        RequestErrorKind::OverLimit => StatusCode::PAYLOAD_TOO_LARGE,
        RequestErrorKind::Busy => StatusCode::TOO_MANY_REQUESTS,
        RequestErrorKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        RequestErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        RequestErrorKind::Unavailable | RequestErrorKind::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
        RequestErrorKind::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
        RequestErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
