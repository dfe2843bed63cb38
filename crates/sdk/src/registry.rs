//! What an app consists of, and how the engine runs it.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use dalsegno_core::{EntityId, Payload, Timestamp};
use dalsegno_engine::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, Execution, ExecutionInfo, Executor, OperationRequest,
    OperationRun,
};
use dalsegno_engine::request::LimiterOffer;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::activity::{Activity, ActivityContext, RunActivity};
use crate::client::Client;
use crate::data::Data;
use crate::entity::{Entity, EntityContext, Registered, RunEntity};
use crate::error::{Error, Result};
use crate::execution::LiveExecution;
use crate::limiter::Limiter;
use crate::log_spans;
use crate::orchestrator::{Begin, Orchestrator};
use crate::trigger::{HttpTrigger, TimerTrigger};
use crate::version;

/// Versions of one orchestrator, the highest last.
type Versions = Vec<(Option<Arc<str>>, Arc<dyn Begin>)>;

/// Everything that is registered.
#[derive(Default)]
pub struct Registry {
    orchestrators: BTreeMap<Arc<str>, Versions>,
    activities: BTreeMap<Arc<str>, Arc<dyn RunActivity>>,
    entities: BTreeMap<Arc<str>, Arc<dyn RunEntity>>,
    limiters: BTreeMap<String, Limiter>,
    http_triggers: Vec<HttpTrigger>,
    timer_triggers: Vec<TimerTrigger>,
    data: Arc<Data>,
}

/// What can be registered: what the attributes make of functions.
pub trait Definition {
    /// Puts it into a registry.
    ///
    /// # Errors
    /// When something of that name (and version) is there already.
    fn register_in(self, registry: &mut Registry) -> Result<()>;
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers what an attribute made of a function.
    ///
    /// # Errors
    /// When something of that name (and version) is there already.
    pub fn register<D: Definition>(&mut self, definition: fn() -> D) -> Result<()> {
        definition().register_in(self)
    }

    /// Registers an entity.
    ///
    /// # Errors
    /// When one of that name is there already.
    pub fn register_entity<E>(&mut self) -> Result<()>
    where
        E: Entity + Serialize + DeserializeOwned + Default + Send + 'static,
    {
        let definition = E::definition();
        let name: Arc<str> = definition.name().into();
        let entity = Arc::new(Registered {
            definition,
            marker: PhantomData,
        });
        match self.entities.insert(name.clone(), entity) {
            None => Ok(()),
            Some(_) => Err(duplicate("entity", &name)),
        }
    }

    /// Makes a limiter known, to be stored where the hub has none of that name.
    ///
    /// # Errors
    /// When another definition of that name is there already.
    pub fn register_limiter(&mut self, limiter: Limiter) -> Result<()> {
        let name = limiter.name().to_owned();
        match self.limiters.get(&name) {
            Some(known) if *known != limiter => Err(Error::msg(format!(
                "limiter {name:?} is defined twice, differently: use one constant for it"
            ))),
            _ => {
                self.limiters.insert(name, limiter);
                Ok(())
            }
        }
    }

    /// Gives activities a value, found by its type. The last of a type stays.
    ///
    /// # Panics
    /// When activities run already.
    pub fn insert_data<T: Send + Sync + 'static>(&mut self, value: T) {
        self.data_mut().insert(value);
    }

    /// Makes activities wait until there is a client: the hub begins before its client is known.
    ///
    /// # Panics
    /// When the registry is already in use.
    pub fn expect_client(&mut self) {
        self.data_mut().expect_client();
    }

    fn data_mut(&mut self) -> &mut Data {
        Arc::get_mut(&mut self.data).expect("data is given before anything runs")
    }

    /// Gives activities the client of the hub that runs them.
    pub fn set_client(&self, client: Client) {
        self.data.set_client(client);
    }

    /// Takes it away again when the hub has ended, so that the hub's store can be closed.
    pub(crate) fn forget_client(&self) {
        self.data.forget_client();
    }

    /// All limiters that are registered, alone or with an activity.
    pub fn limiters(&self) -> impl Iterator<Item = &Limiter> {
        self.limiters.values()
    }

    /// Takes out the HTTP triggers, for the host to serve.
    pub fn take_http_triggers(&mut self) -> Vec<HttpTrigger> {
        std::mem::take(&mut self.http_triggers)
    }

    /// Takes out the timer triggers, for the host to fire.
    pub fn take_timer_triggers(&mut self) -> Vec<TimerTrigger> {
        std::mem::take(&mut self.timer_triggers)
    }

    /// Orchestrators with the versions of each.
    pub(crate) fn versions(&self) -> Vec<(Arc<str>, dalsegno_grpc::worker::Versions)> {
        let versions = |own: &Versions| own.iter().map(|(version, _)| version.clone()).collect();
        let all = self.orchestrators.iter();
        all.map(|(name, own)| (name.clone(), versions(own))).collect()
    }

    /// The limiters, as a worker offers them to its hub.
    pub(crate) fn limiter_offers(&self) -> Vec<LimiterOffer> {
        let passes = |limiter: &Limiter, activity: &Arc<dyn RunActivity>| {
            activity.limiter().is_some_and(|own| own.name() == limiter.name())
        };
        let offer = |limiter: &Limiter| {
            let activities = self.activities.iter();
            let activities = activities.filter(|(_, activity)| passes(limiter, activity));
            LimiterOffer {
                name: limiter.name().into(),
                rule: limiter.definition(),
                activities: activities.map(|(name, _)| name.clone()).collect(),
            }
        };
        self.limiters().map(offer).collect()
    }

    fn begin(&self, info: &ExecutionInfo) -> Option<Arc<dyn Begin>> {
        let versions = self.orchestrators.get(&info.name)?;
        let fitting = versions.iter().find(|(version, _)| *version == info.version);
        fitting.map(|(_, begin)| begin.clone())
    }
}

impl<In, Out> Definition for Orchestrator<In, Out>
where
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + 'static,
{
    fn register_in(self, registry: &mut Registry) -> Result<()> {
        if self.is_remote() {
            return Err(remote("orchestrator", self.name()));
        }
        let version: Option<Arc<str>> = self.version_text().map(Into::into);
        let versions = registry.orchestrators.entry(self.name().into()).or_default();
        if versions.iter().any(|(known, _)| *known == version) {
            let version = version.map_or("no version".to_owned(), |version| format!("version {version:?}"));
            return Err(duplicate(&format!("orchestrator with {version}"), self.name()));
        }
        versions.push((version, Arc::new(self)));
        versions.sort_by(|(one, _), (other, _)| match (one, other) {
            (Some(one), Some(other)) => version::compare(one, other),
            _ => one.is_some().cmp(&other.is_some()),
        });
        Ok(())
    }
}

impl<In, Out> Definition for Activity<In, Out>
where
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + 'static,
{
    fn register_in(self, registry: &mut Registry) -> Result<()> {
        if self.is_remote() {
            return Err(remote("activity", self.name()));
        }
        let name: Arc<str> = self.name().into();
        if registry.activities.contains_key(&name) {
            return Err(duplicate("activity", &name));
        }
        if let Some(problem) = RunActivity::settings(&self)
            .retry
            .and_then(|retry| retry.problem())
        {
            return Err(Error::msg(format!(
                "the retry policy of activity {name:?}: {problem}"
            )));
        }
        if let Some(limiter) = RunActivity::limiter(&self) {
            registry.register_limiter(limiter.clone())?;
        }
        registry.activities.insert(name, Arc::new(self));
        Ok(())
    }
}

impl Definition for HttpTrigger {
    fn register_in(self, registry: &mut Registry) -> Result<()> {
        if registry
            .http_triggers
            .iter()
            .any(|known| known.name() == self.name())
        {
            return Err(duplicate("HTTP trigger", self.name()));
        }
        registry.http_triggers.push(self);
        Ok(())
    }
}

impl Definition for TimerTrigger {
    fn register_in(self, registry: &mut Registry) -> Result<()> {
        if registry
            .timer_triggers
            .iter()
            .any(|known| known.name() == self.name())
        {
            return Err(duplicate("timer trigger", self.name()));
        }
        registry.timer_triggers.push(self);
        Ok(())
    }
}

fn duplicate(what: &str, name: &str) -> Error {
    Error::msg(format!(
        "{what} {name:?} is registered twice: give one of them another name, or another version"
    ))
}

fn remote(what: &str, name: &str) -> Error {
    Error::msg(format!(
        "{what} {name:?} runs elsewhere: it is called, not registered"
    ))
}

impl Executor for Registry {
    fn execution(&self, info: &ExecutionInfo) -> Option<Box<dyn Execution>> {
        let begin = self.begin(info)?;
        Some(Box::new(LiveExecution::new(info.clone(), begin)))
    }

    fn default_version(&self, orchestrator: &str) -> Option<Arc<str>> {
        self.orchestrators.get(orchestrator)?.last()?.0.clone()
    }

    fn orchestrators(&self) -> Vec<Arc<str>> {
        self.orchestrators.keys().cloned().collect()
    }

    fn activities(&self) -> Vec<Arc<str>> {
        self.activities.keys().cloned().collect()
    }

    fn entities(&self) -> Vec<Arc<str>> {
        self.entities.keys().cloned().collect()
    }

    fn activity_settings(&self, name: &str) -> Option<ActivitySettings> {
        self.activities.get(name).map(|activity| activity.settings())
    }

    fn limiter_key(&self, activity: &str, input: Option<&Payload>) -> Arc<str> {
        let key = self
            .activities
            .get(activity)
            .map(|activity| activity.limiter_key(input));
        key.unwrap_or_default().into()
    }

    fn run_activity(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        match self.activities.get(&request.name) {
            Some(activity) => {
                let (activity, data) = (activity.clone(), self.data.clone());
                let span = log_spans::of_activity(&request);
                let attempt = async move {
                    data.complete().await;
                    activity.attempt(ActivityContext::new(request, data)).await
                };
                Box::pin(attempt.instrument(span))
            }
            None => {
                let error = Error::msg(format!("activity {:?} is not registered here", &*request.name));
                Box::pin(futures::future::ready(error.into_outcome()))
            }
        }
    }

    fn run_operation(
        &self,
        entity: &EntityId,
        state: Option<&Payload>,
        request: OperationRequest,
        now: Timestamp,
    ) -> Option<OperationRun> {
        let definition = self.entities.get(entity.name())?;
        let span = log_spans::of_operation(entity, &request);
        let context = EntityContext::new(entity.clone(), now).traced(request.trace.clone());
        let run = span.in_scope(|| definition.clone().run(context, state, request));
        Some(match run {
            OperationRun::Later(later) => OperationRun::Later(Box::pin(later.instrument(span))),
            done @ OperationRun::Done(_) => done,
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("orchestrators", &self.orchestrators.keys())
            .field("activities", &self.activities.keys())
            .field("entities", &self.entities.keys())
            .finish_non_exhaustive()
    }
}
