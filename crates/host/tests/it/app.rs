//! User code for the tests: some orchestrators, an activity and an entity, without the SDK.

use std::sync::Arc;
use std::time::Duration;

use dalsegno_core::action::{ChildOptions, TaskOptions};
use dalsegno_core::event::{ChildLink, Event, EventKind};
use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::{Action, EntityId, Failure, Fault, InstanceId, Payload, TaskId, Timestamp};
use dalsegno_engine::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, Execution, ExecutionInfo, Executor, OperationOutcome,
    OperationRequest, OperationRun,
};
use dalsegno_engine::explain::{Reason, ReasonKind};
use futures::future::BoxFuture;

/// What is registered.
#[derive(Debug)]
pub(crate) struct App;

/// `Echo` returns its input; `Fail` fails with it; `Wait` returns what the event `go` brings;
/// `Hello` returns what the activity `SayHello` makes of its input: `"fail"` fails it, `"retry"` does so
/// with an attempt to come in an hour. `Family` waits for a child `Wait`.
struct Script {
    name: Arc<str>,
    input: Option<Payload>,
}

impl Execution for Script {
    fn replay(&mut self, history: &[Event]) -> Result<(), Fault> {
        for event in history {
            self.take(event);
        }
        Ok(())
    }

    fn advance(&mut self, events: &[Event]) -> Result<Vec<Action>, Fault> {
        Ok(events.iter().filter_map(|event| self.take(event)).collect())
    }

    fn awaited_events(&self) -> Vec<Arc<str>> {
        match &*self.name {
            "Wait" => vec!["go".into()],
            _ => Vec::new(),
        }
    }

    fn waits_for(&self) -> Vec<Reason> {
        vec![Reason::new(ReasonKind::Event, format!("{} waits", self.name)).named("go".into())]
    }
}

impl Script {
    fn take(&mut self, event: &Event) -> Option<Action> {
        match (&*self.name, &event.kind) {
            (name, EventKind::ExecutionStarted(started)) => {
                self.input = started.input.clone();
                self.begin(name.to_owned().as_str())
            }
            ("Wait", EventKind::EventRaised { name, input, .. }) if name.eq_ignore_ascii_case("go") => {
                Some(Action::Complete {
                    result: input.clone(),
                })
            }
            ("Hello", EventKind::TaskFailed { failure, .. }) => Some(Action::Fail {
                failure: failure.clone(),
            }),
            ("Family", EventKind::SubOrchestrationInstanceCompleted { result, .. })
            | ("Hello", EventKind::TaskCompleted { result, .. }) => Some(Action::Complete {
                result: result.clone(),
            }),
            _ => None,
        }
    }

    fn options(&self) -> TaskOptions {
        let is_tried_again = self
            .input
            .as_ref()
            .is_some_and(|input| input.as_str() == "\"retry\"");
        TaskOptions {
            retry: is_tried_again.then_some(RetryPolicy::fixed(2, Duration::from_secs(3600))),
            ..TaskOptions::default()
        }
    }

    fn begin(&self, name: &str) -> Option<Action> {
        match name {
            "Echo" => Some(Action::Complete {
                result: self.input.clone(),
            }),
            "Fail" => Some(Action::Fail {
                failure: Failure::new("ValueError", "no harp"),
            }),
            "Hello" => Some(Action::ScheduleTask {
                task: TaskId(0),
                name: "SayHello".into(),
                input: self.input.clone(),
                options: self.options(),
            }),
            "Family" => Some(Action::StartOrchestration {
                task: TaskId(0),
                name: "Wait".into(),
                version: None,
                instance: InstanceId::trusted("child-of-family"),
                input: None,
                link: ChildLink::Awaited,
                options: ChildOptions::default(),
            }),
            _ => None,
        }
    }
}

impl Executor for App {
    fn execution(&self, info: &ExecutionInfo) -> Option<Box<dyn Execution>> {
        let known = self.orchestrators().contains(&info.name);
        known.then(|| {
            Box::new(Script {
                name: info.name.clone(),
                input: None,
            }) as Box<dyn Execution>
        })
    }

    fn default_version(&self, _orchestrator: &str) -> Option<Arc<str>> {
        None
    }

    fn orchestrators(&self) -> Vec<Arc<str>> {
        ["Echo", "Fail", "Family", "Hello", "Wait"]
            .map(Arc::from)
            .to_vec()
    }

    fn activities(&self) -> Vec<Arc<str>> {
        vec!["SayHello".into()]
    }

    fn entities(&self) -> Vec<Arc<str>> {
        vec!["counter".into()]
    }

    fn activity_settings(&self, name: &str) -> Option<ActivitySettings> {
        (name == "SayHello").then(ActivitySettings::default)
    }

    fn limiter_key(&self, _activity: &str, _input: Option<&Payload>) -> Arc<str> {
        "".into()
    }

    fn run_activity(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        let name: String = request
            .input
            .and_then(|input| serde_json::from_str(input.as_str()).ok())
            .unwrap_or_default();
        if matches!(name.as_str(), "fail" | "retry") {
            let failure = Failure::new("ValueError", "no harp");
            return Box::pin(async move {
                AttemptOutcome::Failed {
                    failure,
                    retry_after: None,
                }
            });
        }
        let result = Payload::from(format!("\"Hello {name}!\""));
        Box::pin(async move { AttemptOutcome::Completed(Some(result)) })
    }

    /// `add` adds its input, `delete` deletes; everything else is ignored.
    fn run_operation(
        &self,
        entity: &EntityId,
        state: Option<&Payload>,
        request: OperationRequest,
        _now: Timestamp,
    ) -> Option<OperationRun> {
        if entity.name() != "counter" {
            return None;
        }
        let number = |payload: Option<&Payload>| {
            payload
                .and_then(|payload| payload.as_str().parse::<i64>().ok())
                .unwrap_or(0)
        };
        let state = match &*request.operation {
            "add" => Some(Payload::from(
                (number(state) + number(request.input.as_ref())).to_string(),
            )),
            "say" => request.input,
            "delete" => None,
            _ => state.cloned(),
        };
        Some(OperationRun::Done(OperationOutcome {
            outcome: Ok(None),
            state,
            effects: vec![],
        }))
    }
}
