//! An executor with next to nothing of its own. The fuzz target in `fuzz/` uses this file too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dalsegno_core::{EntityId, Payload, Timestamp};
use dalsegno_engine::Executor;
use dalsegno_engine::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, Execution, ExecutionInfo, OperationRequest,
    OperationRun,
};
use futures::future::BoxFuture;

/// No code of its own, but for an activity at times, which counts how often it ran.
#[derive(Debug, Default)]
pub(crate) struct Nothing {
    activity: Option<Arc<str>>,
    pub(crate) ran: Arc<AtomicUsize>,
}

impl Nothing {
    pub(crate) fn with_activity(name: &str) -> Self {
        Self {
            activity: Some(name.into()),
            ..Self::default()
        }
    }
}

impl Executor for Nothing {
    fn execution(&self, _info: &ExecutionInfo) -> Option<Box<dyn Execution>> {
        None
    }

    fn default_version(&self, _orchestrator: &str) -> Option<Arc<str>> {
        None
    }

    fn orchestrators(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn activities(&self) -> Vec<Arc<str>> {
        self.activity.iter().cloned().collect()
    }

    fn entities(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn activity_settings(&self, _name: &str) -> Option<ActivitySettings> {
        None
    }

    fn limiter_key(&self, _activity: &str, _input: Option<&Payload>) -> Arc<str> {
        "".into()
    }

    fn run_activity(&self, _request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        self.ran.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(AttemptOutcome::Completed(None)))
    }

    fn run_operation(
        &self,
        _entity: &EntityId,
        _state: Option<&Payload>,
        _request: OperationRequest,
        _now: Timestamp,
    ) -> Option<OperationRun> {
        None
    }
}
