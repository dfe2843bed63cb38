//! The client of a hub: starts, finds and steers instances and entities.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::{EntityPage, EntityQuery, InstancePage, InstanceQuery, Status};
use dalsegno_core::{EntityId, InstanceId, Payload, Timestamp, TraceContext};
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::LimiterDefinition;
use dalsegno_engine::request::{
    LimiterStatus, PurgeQuery, RequestError, RequestErrorKind, Signal, StartOptions,
};
use dalsegno_engine::webhooks::WebhookSubscription;
use dalsegno_host::v1::StuckWire as Stuck;
use dalsegno_host::{CheckStatus, Links, ManagementPayload, RemoteHub, RequestLinks, trace_in};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::Backend;
use crate::codec::{decode, encode};
use crate::entity::{Entity, EntityCaller};
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::limiter::Limiter;
use crate::orchestrator::Orchestrator;

/// Reaches a hub. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Client {
    backend: Backend,
    /// Shared, for every instance handle has a client.
    links: Option<Arc<Links>>,
    /// What it starts and sends is part of it, unless said otherwise.
    trace: Option<TraceContext>,
}

impl Client {
    /// The client of a hub in this process.
    pub fn in_process(hub: TaskHub) -> Self {
        Self {
            backend: Backend::Hub(hub),
            links: None,
            trace: None,
        }
    }

    /// The client of a host elsewhere, such as `http://127.0.0.1:8080`. It answers as the one in
    /// the host's own process does.
    ///
    /// # Errors
    /// When the text is no URL of a host.
    pub fn remote(url: &str) -> Result<Self> {
        Ok(Self::of_remote(RemoteHub::new(url)?, "default"))
    }

    /// The same, of what was set up for a hub of that name.
    pub(crate) fn of_remote(remote: RemoteHub, hub: &str) -> Self {
        let links = remote.links(hub);
        Self {
            backend: Backend::Remote(remote),
            links: Some(Arc::new(links)),
            trace: None,
        }
    }

    /// The same, with links that lead to a host.
    pub(crate) fn with_links(self, links: Links) -> Self {
        Self {
            links: Some(Arc::new(links)),
            ..self
        }
    }

    /// The links of an instance, as the answer to whoever started it: 202, `Location`,
    /// `Retry-After: 10`. In an HTTP trigger they begin with the origin the caller used.
    pub fn check_status<Out>(&self, instance: &Instance<Out>) -> CheckStatus {
        self.links().check_status(instance.id())
    }

    /// The same links and the one to rewind, for notes to other systems.
    pub fn management_payload<Out>(&self, instance: &Instance<Out>) -> ManagementPayload {
        self.links().management_payload(instance.id())
    }

    /// Where the host is reached, such as `https://example.com`. In an HTTP trigger that is how the
    /// caller reached it, so that links to the app's own routes lead back the same way.
    pub fn origin(&self) -> String {
        self.links().origin().to_owned()
    }

    fn links(&self) -> Arc<Links> {
        let without = || Arc::new(Links::open("http://127.0.0.1:8080", "default"));
        self.links.clone().unwrap_or_else(without)
    }

    /// The trace that what it sends is part of: that of the request, in an HTTP trigger.
    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_ref()
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The hub itself, when it runs in this process.
    pub fn hub(&self) -> Option<&TaskHub> {
        match &self.backend {
            Backend::Hub(hub) => Some(hub),
            Backend::Remote(_) => None,
        }
    }

    /// Starts an orchestration; options follow, then `.await`.
    pub fn start<In: Serialize, Out>(
        &self,
        orchestrator: fn() -> Orchestrator<In, Out>,
        input: In,
    ) -> Start<Out> {
        let orchestrator = orchestrator();
        let start = Start::new(self, orchestrator.name(), &input);
        match orchestrator.version_text() {
            Some(version) => start.version(version),
            None => start,
        }
    }

    /// Starts an orchestration by name; the highest version unless said otherwise.
    pub fn start_named<Out>(&self, name: &str, input: impl Serialize) -> Start<Out> {
        Start::new(self, name, &input)
    }

    /// An instance of an orchestrator, whether it exists or not.
    ///
    /// # Errors
    /// When `id` is no instance id.
    pub fn instance<In, Out>(
        &self,
        _: fn() -> Orchestrator<In, Out>,
        id: impl AsRef<str>,
    ) -> Result<Instance<Out>> {
        self.instance_named(id)
    }

    /// An instance of any orchestrator, whether it exists or not.
    ///
    /// # Errors
    /// When `id` is no instance id.
    pub fn instance_named<Out>(&self, id: impl AsRef<str>) -> Result<Instance<Out>> {
        Ok(Instance::new(self, InstanceId::parse(id.as_ref())?))
    }

    /// An entity: its operations are methods, sent by `.signal().await`; its state is `.state().await`.
    ///
    /// # Errors
    /// When `key` is no key.
    pub fn entity<E: Entity>(&self, key: impl AsRef<str>) -> Result<E::Proxy<Client>> {
        Ok(E::proxy(self.clone(), EntityId::new(E::NAME, key.as_ref())?))
    }

    /// The state of an entity, or `None` when it has none.
    ///
    /// # Errors
    /// When it does not fit the type.
    pub async fn entity_state<S: DeserializeOwned>(&self, entity: &EntityId) -> Result<Option<S>> {
        let row = self.backend.entity(entity).await?;
        let state = row.and_then(|row| row.state);
        Ok(state.map(|state| decode(Some(&state))).transpose()?)
    }

    /// Signals an entity, at once or at a time.
    ///
    /// # Errors
    /// When no such entity is registered, or a limit refuses the signal.
    pub async fn signal_named(
        &self,
        entity: &EntityId,
        operation: &str,
        input: impl Serialize,
        at: Option<Timestamp>,
    ) -> Result<()> {
        let input = encode(&input)?;
        let signal = Signal {
            at,
            ..Signal::new(operation, input)
        };
        Ok(self.backend.signal_entity(entity, signal).await?)
    }

    /// Deletes an entity with its state; says whether it had one. Refused while locked.
    ///
    /// # Errors
    /// When it is locked.
    pub async fn delete_entity(&self, entity: &EntityId) -> Result<bool> {
        Ok(self.backend.delete_entity(entity).await?)
    }

    /// A page of entities.
    ///
    /// # Errors
    /// When the hub cannot answer.
    pub async fn list_entities(&self, query: EntityQuery) -> Result<EntityPage> {
        Ok(self.backend.list_entities(query).await?)
    }

    /// A page of instances, newest first.
    ///
    /// # Errors
    /// When the hub cannot answer.
    pub async fn list(&self, query: InstanceQuery) -> Result<InstancePage> {
        Ok(self.backend.list(query).await?)
    }

    /// Instances that something holds which should not: parked, suspended, without a worker, between
    /// two attempts, before a limiter or a lock. By id, so many at most.
    ///
    /// # Errors
    /// When `most` is more than a thousand or the hub cannot answer.
    pub async fn stuck(&self, most: usize) -> Result<Stuck> {
        Ok(self.backend.stuck(most).await?)
    }

    /// How many instances are in each status.
    ///
    /// # Errors
    /// When the hub cannot answer.
    pub async fn counts(&self) -> Result<Vec<(Status, u64)>> {
        Ok(self.backend.counts().await?)
    }

    /// Deletes finished instances by filter; says how many went.
    ///
    /// # Errors
    /// When the filter is too wide or the hub cannot answer.
    pub async fn purge_many(&self, query: PurgeQuery) -> Result<u64> {
        Ok(self.backend.purge_many(query).await?)
    }

    /// All buckets of all limiters.
    ///
    /// # Errors
    /// When the hub cannot answer.
    pub async fn limiters(&self) -> Result<Vec<LimiterStatus>> {
        Ok(self.backend.limiters().await?)
    }

    /// Changes what a limiter allows; it stays so after a restart of the app.
    ///
    /// # Errors
    /// When the definition makes no sense or the hub cannot answer.
    pub async fn set_limiter(&self, limiter: &Limiter) -> Result<()> {
        let definition: LimiterDefinition = limiter.definition();
        Ok(self.backend.set_limiter(limiter.name(), definition).await?)
    }
}

/// In an HTTP trigger the client is an argument like any other.
impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = (StatusCode, &'static str);

    fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send {
        let host = parts.extensions.get::<RequestLinks>();
        let of_host = host.map(|host| Self::in_process(host.hub.clone()).with_links(host.links.clone()));
        let client = of_host.or_else(|| parts.extensions.get::<Self>().cloned());
        let client = client.map(|client| Self {
            trace: trace_in(&parts.headers),
            ..client
        });
        let missing = (StatusCode::INTERNAL_SERVER_ERROR, "no hub behind this route");
        std::future::ready(client.ok_or(missing))
    }
}

/// A start that is not sent yet: set options, then `.await`.
#[must_use = "nothing starts unless it is awaited"]
pub struct Start<Out> {
    client: Client,
    options: Result<StartOptions>,
    out: PhantomData<fn() -> Out>,
}

impl<Out> Start<Out> {
    fn new<In: Serialize>(client: &Client, name: &str, input: &In) -> Self {
        let options = encode(input).map(|input| StartOptions {
            name: name.to_owned(),
            input,
            trace: client.trace.clone(),
            ..StartOptions::default()
        });
        Self {
            client: client.clone(),
            options: options.map_err(Error::from),
            out: PhantomData,
        }
    }

    fn set(mut self, change: impl FnOnce(&mut StartOptions)) -> Self {
        if let Ok(options) = &mut self.options {
            change(options);
        }
        self
    }

    /// Takes this id instead of a generated one.
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        match InstanceId::parse(id.as_ref()) {
            Ok(id) => self.set(|options| options.id = Some(id)),
            Err(error) => {
                let text = format!("{:?} is no instance id: {error}", id.as_ref());
                self.options = Err(RequestError::new(RequestErrorKind::Invalid, text).into());
                self
            }
        }
    }

    /// A name and a value to find it by. May be said several times.
    pub fn tag(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(|options| options.tags.push((name.into(), value.into())))
    }

    /// This version instead of the handle's, or of the highest.
    pub fn version(self, version: impl Into<String>) -> Self {
        self.set(|options| options.version = Some(version.into()))
    }

    /// Tells this receiver of the instance's end, or of the statuses it names: a URL whose host is
    /// among `webhooks.allowed_hosts`. Told at least once, in order, signed as Standard Webhooks says.
    pub fn webhook(self, webhook: WebhookSubscription) -> Self {
        self.set(|options| options.webhook = Some(webhook))
    }

    /// Not before this time.
    pub fn at(self, time: Timestamp) -> Self {
        self.set(|options| options.scheduled_start = Some(time))
    }

    /// A repeat with the same key gets the first answer again.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.set(|options| options.idempotency_key = Some(key.into()))
    }

    /// It is part of this trace, and so are its children and activities: the header `traceparent` of
    /// W3C Trace Context. Refused when it is none; to hand on what a request came with, take
    /// [`TraceContext::parse`] and [`Start::trace`].
    pub fn trace_parent(mut self, header: impl AsRef<str>) -> Self {
        match TraceContext::parse(header.as_ref(), None) {
            Some(trace) => self.trace(trace),
            None => {
                let text = format!(
                    "{:?} is no traceparent: it looks like 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                    header.as_ref()
                );
                self.options = Err(RequestError::new(RequestErrorKind::Invalid, text).into());
                self
            }
        }
    }

    /// It is part of this trace, and so are its children and activities; with `None` of none.
    pub fn trace(self, trace: impl Into<Option<TraceContext>>) -> Self {
        let trace = trace.into();
        self.set(|options| options.trace = trace)
    }

    /// When the id is in use, whatever its state, gives that instance.
    pub fn or_existing(self) -> Self {
        self.reuse(ReusePolicy::ReturnExisting)
    }

    /// When the id is in use by a finished instance, replaces it. The default, said aloud.
    pub fn or_replace(self) -> Self {
        self.reuse(ReusePolicy::Replace)
    }

    /// When the id is in use, refuses, also when that instance is finished.
    pub fn or_reject(self) -> Self {
        self.reuse(ReusePolicy::Reject)
    }

    /// When the id is in use by an instance that lives, terminates it and starts anew, in one commit.
    pub fn or_terminate(self) -> Self {
        self.reuse(ReusePolicy::TerminateAndStart)
    }

    fn reuse(self, policy: ReusePolicy) -> Self {
        self.set(|options| options.reuse = policy)
    }
}

impl<Out> IntoFuture for Start<Out> {
    type Output = Result<Instance<Out>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let (client, options) = (self.client, self.options);
        let started = async move {
            let started = client.backend.start(options?).await?;
            Ok((client, started.id))
        };
        Box::pin(async move { started.await.map(|(client, id)| Instance::new(&client, id)) })
    }
}

impl<Out> fmt::Debug for Start<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl EntityCaller for Client {
    type Call<Out> = ClientOperation<Out>;

    fn operation<Out>(
        &self,
        entity: &EntityId,
        operation: &'static str,
        input: &impl Serialize,
    ) -> ClientOperation<Out> {
        ClientOperation {
            client: self.clone(),
            entity: entity.clone(),
            operation,
            input: encode(input).map_err(Error::from),
            trace: self.trace.clone(),
            out: PhantomData,
        }
    }
}

/// An operation that a client has not sent yet.
#[must_use = "nothing is sent unless `.signal()` is awaited"]
pub struct ClientOperation<Out> {
    client: Client,
    entity: EntityId,
    operation: &'static str,
    input: Result<Option<Payload>>,
    trace: Option<TraceContext>,
    out: PhantomData<fn() -> Out>,
}

impl<Out> ClientOperation<Out> {
    /// It is part of this trace, and so is what the operation asks of others; with `None` of none.
    pub fn trace(mut self, trace: impl Into<Option<TraceContext>>) -> Self {
        self.trace = trace.into();
        self
    }

    /// Sends it; returns when that is durable, not when it is done.
    ///
    /// # Errors
    /// When no such entity is registered, or a limit refuses the signal.
    pub async fn signal(self) -> Result<()> {
        self.send(None).await
    }

    /// Sends it, to be done at a time.
    ///
    /// # Errors
    /// When no such entity is registered, or a limit refuses the signal.
    pub async fn signal_at(self, at: Timestamp) -> Result<()> {
        self.send(Some(at)).await
    }

    /// Sends it, to be done after a time.
    ///
    /// # Errors
    /// When no such entity is registered, or a limit refuses the signal.
    pub async fn signal_after(self, delay: Duration) -> Result<()> {
        let at = self.client.backend.now() + delay;
        self.send(Some(at)).await
    }

    async fn send(self, at: Option<Timestamp>) -> Result<()> {
        let signal = Signal {
            at,
            trace: self.trace,
            ..Signal::new(self.operation, self.input?)
        };
        Ok(self.client.backend.signal_entity(&self.entity, signal).await?)
    }
}

impl<Out> fmt::Debug for ClientOperation<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {:?} of {}", self.operation, self.entity)
    }
}

impl crate::entity::EntityProxy<Client> {
    /// The entity's state, or `None` when it has none.
    ///
    /// # Errors
    /// When it does not fit the type.
    pub async fn state_as<S: DeserializeOwned>(&self) -> Result<Option<S>> {
        self.caller().entity_state(&self.id()).await
    }
}
