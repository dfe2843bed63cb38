//! User code for the tests, without the SDK: it does what its name says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dalsegno_core::action::TaskOptions;
use dalsegno_core::event::{Event, EventKind};
use dalsegno_core::limits::Limits;
use dalsegno_core::retry::RetryPolicy;
use dalsegno_core::store::Store;
use dalsegno_core::{Action, EntityId, Fault, FaultKind, InstanceId, Payload, TaskId, Timestamp};
use dalsegno_engine::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, EntityEffect, Execution, ExecutionInfo, Executor,
    OperationOutcome, OperationRequest, OperationRun,
};
use dalsegno_engine::request::StartOptions;
use dalsegno_engine::{HubError, HubOptions, TaskHub};
use dalsegno_store_memory::MemoryStore;
use futures::future::BoxFuture;

/// No test waits longer than this for what is to come.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Longest turn.
pub(crate) const TURN_MS_MAX: u64 = 20;

/// The limiter of the activity `limited`.
pub(crate) const LIMITER: &str = "github";

/// Blocks threads until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_open: AtomicBool,
    is_met: AtomicBool,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    /// Somebody stands before it.
    pub(crate) fn is_met(&self) -> bool {
        self.is_met.load(Ordering::SeqCst)
    }

    fn pass(&self) {
        self.is_met.store(true, Ordering::SeqCst);
        while !self.is_open.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// What is registered. Orchestrators: `quick` ends at once, `block` waits at the gate, `panic`
/// panics in the executor itself, `wait` waits for an event, `alarm` sets a timer and has a fault on
/// its first event; every other name calls the activity of
/// that name. What starts with `slow` keeps its partition busy before its first turn.
#[derive(Debug, Default)]
pub(crate) struct App {
    pub(crate) gate: Gate,
    pub(crate) has_faulted: AtomicBool,
}

/// A hub in memory, with one thread and little patience.
pub(crate) fn impatient_hub(app: &Arc<App>) -> TaskHub {
    hub_with(
        app,
        Limits {
            turn_ms_max: TURN_MS_MAX,
            ..Limits::default()
        },
    )
}

/// A hub in memory, with one thread.
pub(crate) fn hub(app: &Arc<App>) -> TaskHub {
    hub_with(app, Limits::default())
}

fn hub_with(app: &Arc<App>, limits: Limits) -> TaskHub {
    let options = HubOptions {
        threads: 1,
        limits,
        limiters: vec![(LIMITER.into(), rule())],
        ..HubOptions::default()
    };
    TaskHub::open(
        Arc::new(MemoryStore::new(2)),
        Arc::new(Functions(app.clone())),
        options,
    )
    .expect("an empty store opens")
}

/// A hub on this store, with code that does not matter.
pub(crate) fn open(store: Arc<dyn Store>) -> Result<TaskHub, HubError> {
    let app = Arc::new(App::default());
    TaskHub::open(store, Arc::new(Functions(app)), HubOptions::default())
}

fn rule() -> dalsegno_core::limiter::LimiterRule {
    dalsegno_core::limiter::LimiterRule {
        rate: Some((1000, Duration::from_secs(1))),
        burst: None,
        concurrency: None,
    }
}

/// Starts the orchestrator of this name, which is its id too.
pub(crate) fn start(name: &str) -> StartOptions {
    StartOptions {
        name: name.to_owned(),
        id: Some(id(name)),
        ..StartOptions::default()
    }
}

pub(crate) fn id(name: &str) -> InstanceId {
    InstanceId::trusted(name)
}

struct Script {
    name: Arc<str>,
    app: Arc<App>,
}

impl Execution for Script {
    fn replay(&mut self, _history: &[Event]) -> Result<(), Fault> {
        Ok(())
    }

    fn advance(&mut self, events: &[Event]) -> Result<Vec<Action>, Fault> {
        if &*self.name == "alarm" {
            return self.alarm(events);
        }
        Ok(events.iter().filter_map(|event| self.take(&event.kind)).collect())
    }
}

/// How long after its turn a timer of `alarm` is due.
pub(crate) const ALARM: Duration = Duration::from_secs(1);

impl Script {
    fn take(&self, event: &EventKind) -> Option<Action> {
        match event {
            EventKind::ExecutionStarted(_) => self.begin(),
            EventKind::TaskCompleted { result, .. } | EventKind::EventRaised { input: result, .. } => {
                Some(Action::Complete {
                    result: result.clone(),
                })
            }
            EventKind::TaskFailed { failure, .. } | EventKind::EntityOperationFailed { failure, .. } => {
                Some(Action::Fail {
                    failure: failure.clone(),
                })
            }
            _ => None,
        }
    }

    fn alarm(&self, events: &[Event]) -> Result<Vec<Action>, Fault> {
        let mut actions = Vec::new();
        for event in events {
            match &event.kind {
                EventKind::ExecutionStarted(_) => actions.push(Action::CreateTimer {
                    task: TaskId(0),
                    fire_at: event.at + ALARM,
                }),
                EventKind::TimerFired { .. } => actions.push(Action::Complete { result: None }),
                EventKind::EventRaised { .. } if !self.app.has_faulted.swap(true, Ordering::SeqCst) => {
                    return Err(Fault::new(FaultKind::Diverged, "as planned"));
                }
                _ => {}
            }
        }
        Ok(actions)
    }

    fn begin(&self) -> Option<Action> {
        match self.name.trim_start_matches("slow-") {
            "quick" => return Some(Action::Complete { result: None }),
            "wait" => return None,
            "block" => {
                self.app.gate.pass();
                return Some(Action::Complete { result: None });
            }
            "large-output" => {
                return Some(Action::Complete {
                    result: Some(large()),
                });
            }
            "panic" => panic!("a planned panic of the executor"),
            _ => {}
        }
        let task = TaskId(0);
        Some(match self.name.strip_prefix('@') {
            Some(operation) => Action::CallEntity {
                task,
                entity: EntityId::new("thing", "a").expect("a good name"),
                operation: operation.into(),
                input: None,
                request: None,
            },
            None => Action::ScheduleTask {
                task,
                name: self.name.clone(),
                input: None,
                options: TaskOptions {
                    retry: (&*self.name == "own-retry")
                        .then(|| RetryPolicy::fixed(2, Duration::from_secs(1))),
                    timeout: None,
                    labels: None,
                    undo: false,
                },
            },
        })
    }
}

/// What the engine is given.
#[derive(Clone, Debug)]
pub(crate) struct Functions(pub(crate) Arc<App>);

impl Executor for Functions {
    fn execution(&self, info: &ExecutionInfo) -> Option<Box<dyn Execution>> {
        Some(Box::new(Script {
            name: info.name.clone(),
            app: self.0.clone(),
        }))
    }

    fn default_version(&self, orchestrator: &str) -> Option<Arc<str>> {
        if orchestrator.starts_with("slow-") {
            std::thread::sleep(5 * Duration::from_millis(TURN_MS_MAX));
        }
        None
    }

    fn orchestrators(&self) -> Vec<Arc<str>> {
        let names = [
            "quick",
            "wait",
            "alarm",
            "frail",
            "large-output",
            "large-result",
            "@large",
            "own-retry",
            "block",
            "panic",
            "slow-block",
            "unmade",
            "limited",
            "@panic",
            "@panic-later",
        ];
        names.map(Arc::from).to_vec()
    }

    fn activities(&self) -> Vec<Arc<str>> {
        ["unmade", "limited", "frail", "large-result", "own-retry"]
            .map(Arc::from)
            .to_vec()
    }

    fn entities(&self) -> Vec<Arc<str>> {
        vec!["thing".into()]
    }

    fn activity_settings(&self, name: &str) -> Option<ActivitySettings> {
        Some(ActivitySettings {
            limiter: (name == "limited").then(|| LIMITER.into()),
            retry: (name == "frail").then(|| RetryPolicy::fixed(100, Duration::from_secs(1))),
            ..ActivitySettings::default()
        })
    }

    fn limiter_key(&self, _activity: &str, _input: Option<&Payload>) -> Arc<str> {
        panic!("a planned panic of a limiter key")
    }

    fn run_activity(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        assert_ne!(&*request.name, "unmade", "no future of it is made");
        let result = (&*request.name == "large-result").then(large);
        Box::pin(async { AttemptOutcome::Completed(result) })
    }

    fn run_operation(
        &self,
        _entity: &EntityId,
        _state: Option<&Payload>,
        request: OperationRequest,
        _now: Timestamp,
    ) -> Option<OperationRun> {
        match &*request.operation {
            "panic" => panic!("a planned panic of an operation"),
            "large" => Some(OperationRun::Done(OperationOutcome {
                outcome: Ok(None),
                state: Some(large()),
                effects: Vec::new(),
            })),
            "forward" => Some(OperationRun::Done(OperationOutcome {
                outcome: Ok(None),
                state: Some("1".into()),
                effects: vec![EntityEffect::Signal {
                    entity: EntityId::new("thing", "z").expect("a good name"),
                    operation: "add".into(),
                    input: request.input,
                    at: None,
                }],
            })),
            _ => Some(OperationRun::Later(Box::pin(async { later() }))),
        }
    }
}

/// A value beyond the limit.
fn large() -> Payload {
    format!("\"{}\"", "x".repeat(Limits::default().payload_bytes_max))
        .as_str()
        .into()
}

fn later() -> OperationOutcome {
    panic!("a planned panic of an operation with I/O")
}
