//! The app's functions, with what a test puts in their place.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::{EntityId, Failure, Payload, Timestamp};
use dalsegno_engine::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, Execution, ExecutionInfo, Executor, OperationRequest,
    OperationRun,
};
use dalsegno_engine::partition::Entropy;
use futures::FutureExt;
use futures::future::BoxFuture;
use hashbrown::HashMap;

use super::memory::{Forgetful, Memory};
use crate::registry::Registry;

/// An activity's code as a test wants it.
pub(super) type Stub = Arc<dyn Fn(Option<&Payload>) -> AttemptOutcome + Send + Sync>;

/// A registry behind stubs. Outlives crashes of the hub.
pub(super) struct TestExecutor {
    registry: Arc<Registry>,
    plan: Mutex<Plan>,
    memory: Memory,
    entropy: Mutex<Entropy>,
}

#[derive(Default)]
struct Plan {
    stubs: HashMap<String, Stub>,
    failures: HashMap<String, (u32, String)>,
    attempts: HashMap<String, u64>,
}

impl TestExecutor {
    pub(super) fn new(registry: Registry, memory: Memory, seed: u64) -> Self {
        Self {
            registry: Arc::new(registry),
            plan: Mutex::default(),
            memory,
            entropy: Mutex::new(Entropy::seeded(seed)),
        }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stub(&self, activity: &str, stub: Stub) {
        self.plan().stubs.insert(activity.to_owned(), stub);
    }

    pub(super) fn fail_next(&self, activity: &str, count: u32, message: &str) {
        let planned = (count, message.to_owned());
        self.plan().failures.insert(activity.to_owned(), planned);
    }

    pub(super) fn attempts(&self, activity: &str) -> u64 {
        self.plan().attempts.get(activity).copied().unwrap_or(0)
    }

    /// Counts the attempt; what the test wants to come of it, if anything.
    fn planned(&self, request: &ActivityRequest) -> Option<AttemptOutcome> {
        let stub = {
            let mut plan = self.plan();
            *plan.attempts.entry(request.name.to_string()).or_default() += 1;
            if let Some((left, message)) = plan.failures.get_mut(&*request.name)
                && *left > 0
            {
                *left -= 1;
                return Some(AttemptOutcome::Failed {
                    failure: Failure::new("", message.clone()),
                    retry_after: None,
                });
            }
            plan.stubs.get(&*request.name).cloned()
        };
        stub.map(|stub| stub(request.input.as_ref()))
    }
}

impl fmt::Debug for TestExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)
    }
}

impl Executor for TestExecutor {
    fn execution(&self, info: &ExecutionInfo) -> Option<Box<dyn Execution>> {
        let live = self.registry.execution(info)?;
        let seed = self
            .entropy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64();
        Some(match self.memory {
            Memory::Keep => live,
            memory => Box::new(Forgetful::new(
                live,
                self.registry.clone(),
                info.clone(),
                memory,
                seed,
            )),
        })
    }

    fn default_version(&self, orchestrator: &str) -> Option<Arc<str>> {
        self.registry.default_version(orchestrator)
    }

    fn orchestrators(&self) -> Vec<Arc<str>> {
        self.registry.orchestrators()
    }

    fn activities(&self) -> Vec<Arc<str>> {
        self.registry.activities()
    }

    fn entities(&self) -> Vec<Arc<str>> {
        self.registry.entities()
    }

    fn activity_settings(&self, name: &str) -> Option<ActivitySettings> {
        let registered = self.registry.activity_settings(name);
        // A stub may stand for an activity that runs elsewhere.
        registered.or_else(|| self.plan().stubs.get(name).map(|_| ActivitySettings::default()))
    }

    fn limiter_key(&self, activity: &str, input: Option<&Payload>) -> Arc<str> {
        self.registry.limiter_key(activity, input)
    }

    fn run_activity(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        match self.planned(&request) {
            Some(outcome) => std::future::ready(outcome).boxed(),
            None => self.registry.run_activity(request),
        }
    }

    fn run_operation(
        &self,
        entity: &EntityId,
        state: Option<&Payload>,
        request: OperationRequest,
        now: Timestamp,
    ) -> Option<OperationRun> {
        self.registry.run_operation(entity, state, request, now)
    }
}
