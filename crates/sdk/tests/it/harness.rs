//! Plays the engine for one execution: records what it asks for, delivers what the test says.

use dalsegno::{Event, EventKind, Failure, Fault, InstanceId, Orchestrator, Registry, Timestamp};
use dalsegno_core::event::ExecutionStarted;
use dalsegno_core::{Action, ExecutionId, Payload, TaskId};
use dalsegno_engine::executor::{Execution, ExecutionInfo, Executor};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One microsecond passes between two turns.
const TURN_MICROS: i64 = 1;

pub(crate) struct Play {
    registry: Registry,
    info: ExecutionInfo,
    execution: Box<dyn Execution>,
    pub(crate) history: Vec<Event>,
    now: i64,
}

impl Play {
    /// A fresh execution of an orchestrator that has had no turn.
    pub(crate) fn new<In, Out>(orchestrator: fn() -> Orchestrator<In, Out>) -> Self
    where
        In: DeserializeOwned + Send + 'static,
        Out: Serialize + 'static,
    {
        let mut registry = Registry::new();
        registry
            .register(orchestrator)
            .expect("nothing else is registered");
        let definition = orchestrator();
        let info = ExecutionInfo {
            span: None,
            instance: InstanceId::trusted("play"),
            execution_id: ExecutionId(7),
            name: definition.name().into(),
            version: definition.version_text().map(Into::into),
            trace: None,
            tags: Vec::new(),
            locked_entities_max: 32,
        };
        Self {
            execution: registry.execution(&info).expect("it is registered"),
            registry,
            info,
            history: Vec::new(),
            now: 0,
        }
    }

    /// The first turn.
    pub(crate) fn start(&mut self, input: impl Serialize) -> Vec<Action> {
        self.try_start(input).expect("no fault")
    }

    pub(crate) fn try_start(&mut self, input: impl Serialize) -> Result<Vec<Action>, Fault> {
        let started = ExecutionStarted {
            parent_name: None,
            name: self.info.name.clone(),
            version: self.info.version.clone(),
            execution_id: self.info.execution_id,
            input: Some(json(input)),
            parent: None,
            scheduled_start: None,
            trace: None,
        };
        self.try_turn(vec![EventKind::ExecutionStarted(Box::new(started))])
    }

    /// A turn with these events.
    pub(crate) fn turn(&mut self, kinds: Vec<EventKind>) -> Vec<Action> {
        self.try_turn(kinds).expect("no fault")
    }

    pub(crate) fn try_turn(&mut self, kinds: Vec<EventKind>) -> Result<Vec<Action>, Fault> {
        self.now += TURN_MICROS;
        let at = Timestamp::from_micros(self.now);
        let event = |kind| Event { at, kind };
        let started = std::iter::once(EventKind::OrchestratorStarted);
        let mut events: Vec<Event> = started.chain(kinds).map(event).collect();
        let actions = self.execution.advance(&events)?;
        events.extend(actions.iter().filter_map(Action::to_event).map(event));
        events.push(event(EventKind::OrchestratorCompleted));
        self.history.extend(events);
        Ok(actions)
    }

    /// Drops the execution and makes another from history.
    pub(crate) fn evict(&mut self) {
        self.try_replay().expect("code and history fit");
    }

    pub(crate) fn try_replay(&mut self) -> Result<(), Fault> {
        self.execution = self.registry.execution(&self.info).expect("it is registered");
        self.execution.replay(&self.history)
    }

    /// Replays the history with other code, registered under the same name.
    pub(crate) fn replay_with<In, Out>(&mut self, orchestrator: fn() -> Orchestrator<In, Out>) -> Fault
    where
        In: DeserializeOwned + Send + 'static,
        Out: Serialize + 'static,
    {
        self.registry = Registry::new();
        self.registry
            .register(orchestrator)
            .expect("nothing else is registered");
        self.try_replay().expect_err("code and history do not fit")
    }

    pub(crate) fn execution(&self) -> &dyn Execution {
        &*self.execution
    }

    /// Advances the clock, so that `now()` can be told apart.
    pub(crate) fn at(&mut self, micros: i64) -> &mut Self {
        self.now = micros - TURN_MICROS;
        self
    }
}

pub(crate) fn json(value: impl Serialize) -> Payload {
    Payload::from_json(serde_json::to_string(&value).expect("it is JSON"))
}

pub(crate) fn done(task: u32, result: impl Serialize) -> EventKind {
    EventKind::TaskCompleted {
        task: TaskId(task),
        result: Some(json(result)),
        attempts: 1.into(),
    }
}

pub(crate) fn failed(task: u32, failure: Failure) -> EventKind {
    EventKind::TaskFailed {
        task: TaskId(task),
        failure,
        attempts: 1.into(),
    }
}

pub(crate) fn fired(task: u32) -> EventKind {
    EventKind::TimerFired {
        task: TaskId(task),
        fire_at: Timestamp::from_micros(0),
    }
}

pub(crate) fn raised(name: &str, input: impl Serialize) -> EventKind {
    EventKind::EventRaised {
        name: name.into(),
        input: Some(json(input)),
        trace: None,
    }
}

pub(crate) fn answered(task: u32, result: impl Serialize) -> EventKind {
    EventKind::EntityOperationCompleted {
        task: TaskId(task),
        result: Some(json(result)),
    }
}

pub(crate) fn granted(task: u32) -> EventKind {
    EventKind::EntityLockGranted { task: TaskId(task) }
}

/// What a turn asked for, one short line each.
pub(crate) fn show(actions: &[Action]) -> String {
    actions.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(action: &Action) -> String {
    let text = |payload: &Option<Payload>| {
        payload
            .as_ref()
            .map_or("null".to_owned(), |p| p.as_str().to_owned())
    };
    match action {
        Action::ScheduleTask {
            task, name, input, ..
        } => format!("{task}: {name} {}", text(input)),
        Action::CreateTimer { task, fire_at } => format!("{task}: timer {fire_at:?}"),
        Action::CancelTimer { task } => format!("cancel timer {task}"),
        Action::StartOrchestration {
            task,
            name,
            version,
            instance,
            input,
            link,
            ..
        } => format!(
            "{task}: start {name} {version:?} as {instance} {} {link:?}",
            text(input)
        ),
        Action::SendEvent {
            task,
            instance,
            name,
            input,
        } => format!("{task}: event {name} to {instance} {}", text(input)),
        Action::CallEntity {
            task,
            entity,
            operation,
            input,
            ..
        } => format!("{task}: call {entity} {operation} {}", text(input)),
        Action::SignalEntity {
            task,
            entity,
            operation,
            input,
            at,
            ..
        } => format!("{task}: signal {entity} {operation} {} {at:?}", text(input)),
        Action::LockEntities { task, entities, .. } => format!("{task}: lock {entities:?}"),
        Action::UnlockEntities { lock, .. } => format!("unlock {lock}"),
        Action::ContinueAsNew { version, input } => format!("continue as new {version:?} {}", text(input)),
        Action::Complete { result } => format!("complete {}", text(result)),
        Action::Fail { failure } => format!("fail {failure}"),
        Action::EndCancelled { failure } => format!("end cancelled {failure}"),
        Action::Terminate { instance, .. } => format!("terminate {instance}"),
        Action::SetCustomStatus { status } => format!("status {}", text(status)),
    }
}

/// A text without the source line of a panic. Hooks belong to the process: where another test has
/// set one, the line is not known.
pub(crate) fn without_place(text: &str) -> String {
    let is_place = |inside: &str| inside.contains(".rs:");
    let cut = |(before, rest): (&str, &str)| {
        let (inside, after) = rest.split_once(')')?;
        is_place(inside).then(|| format!("{before}{after}"))
    };
    text.split_once(" (")
        .and_then(cut)
        .unwrap_or_else(|| text.to_owned())
}
