//! User code that a partition wants run, and what came of it.
//!
//! A job owns all it needs, so whoever runs it holds nothing of the partition. What the partition
//! must not lose (the instance's state, the messages of the turn) stays behind in [`Running`]: a
//! job that never comes back can be abandoned.

use std::fmt;

use dalsegno_core::message::Target;
use dalsegno_core::orchestration::Draft;
use dalsegno_core::planted::{self, Bug};
use dalsegno_core::{Action, EntityId, Event, EventKind, Fault, FaultKind, InstanceId, Payload, Timestamp};

use super::entities::EntityTurn;
use super::sizes::{TurnLimits, checked};
use super::slot::{Item, Resident};
use crate::executor::{
    Execution, ExecutionInfo, Executor, OperationRequest, OperationRun, TurnAddress, TurnSender,
};

/// Code that has to run. At most one of a partition is out at a time.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of a partition, and a box would cost each turn"
)]
#[derive(Debug)]
pub enum Job {
    /// The next turn of an orchestrator.
    Turn(TurnJob),
    /// One operation of an entity.
    Operation(OperationJob),
}

/// What the code said.
#[derive(Debug)]
pub enum Done {
    /// A turn.
    Turn(TurnDone),
    /// An operation; `None` when nobody here knows the entity.
    Operation(Option<OperationRun>),
}

impl Job {
    /// Whose code it is.
    pub fn subject(&self) -> Target {
        match self {
            Self::Turn(job) => Target::Orchestration(job.info.instance.clone()),
            Self::Operation(job) => Target::Entity(job.entity.clone()),
        }
    }

    /// Runs the code.
    pub fn run(self, executor: &dyn Executor) -> Done {
        match self {
            Self::Turn(job) => Done::Turn(job.run(executor)),
            Self::Operation(job) => Done::Operation(job.run(executor)),
        }
    }
}

/// What stays with the partition while its job is out.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of a partition, and a box would cost each turn"
)]
#[derive(Debug)]
pub(super) enum Running {
    Turn(RunningTurn),
    Operation(EntityTurn),
}

#[derive(Debug)]
pub(super) struct RunningTurn {
    pub(super) id: InstanceId,
    pub(super) resident: Box<Resident>,
    pub(super) batch: Vec<Item>,
}

/// One turn of an orchestrator.
#[derive(Debug)]
pub struct TurnJob {
    pub(super) info: ExecutionInfo,
    /// By which it is known if its code runs elsewhere.
    pub(super) address: TurnAddress,
    pub(super) live: Option<Box<dyn Execution>>,
    pub(super) history: Option<Vec<Event>>,
    pub(super) draft: Draft,
    pub(super) limits: TurnLimits,
}

/// What the orchestrator said.
pub struct TurnDone {
    pub(super) live: Option<Box<dyn Execution>>,
    pub(super) draft: Draft,
    pub(super) result: Result<Said, Fault>,
    /// A history that was not empty was replayed.
    pub(super) replayed: bool,
}

/// What became of the new events.
#[derive(Debug)]
pub(super) enum Said {
    /// The code took them and asks for this. The next execution gets the events that it has not read.
    Actions(Vec<Action>, Vec<EventKind>),
    /// The code runs elsewhere: this sends them there.
    Away(TurnAddress, TurnSender),
}

impl fmt::Debug for TurnDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnDone")
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

impl TurnJob {
    fn run(mut self, executor: &dyn Executor) -> TurnDone {
        let has_history = self.history.as_ref().is_some_and(|history| !history.is_empty());
        let replayed = self.live.is_none() && has_history;
        let result = self.advance(executor);
        TurnDone {
            live: self.live.filter(|_| result.is_ok()),
            draft: self.draft,
            result,
            replayed,
        }
    }

    fn advance(&mut self, executor: &dyn Executor) -> Result<Said, Fault> {
        let live = match &mut self.live {
            Some(live) => live,
            None => {
                let fresh = executor
                    .execution(&self.info)
                    .ok_or_else(|| missing(&self.info))?;
                let live = self.live.insert(fresh);
                live.replay(self.history.as_deref().unwrap_or_default())?;
                live
            }
        };
        if let Some(sender) = live.send(&self.address, &self.draft.events) {
            return Ok(Said::Away(self.address.clone(), sender));
        }
        let actions = live.advance(&self.draft.events)?;
        let continues = |action: &Action| matches!(action, Action::ContinueAsNew { .. });
        let unread = match actions.iter().any(continues) {
            true if !planted::has(Bug::EventsLostAtContinueAsNew) => live.unconsumed_events(),
            _ => Vec::new(),
        };
        let actions = checked(actions, &unread, self.limits)?;
        Ok(Said::Actions(actions, unread))
    }
}

fn missing(info: &ExecutionInfo) -> Fault {
    let version = info
        .version
        .as_ref()
        .map(|version| format!(" version {version}"))
        .unwrap_or_default();
    let message = format!(
        "no orchestrator \"{}\"{version} is registered here: register it, then the instance goes on",
        info.name
    );
    Fault::new(FaultKind::Missing, message)
}

/// One operation of an entity.
#[derive(Debug)]
pub struct OperationJob {
    pub(super) entity: EntityId,
    pub(super) state: Option<Payload>,
    pub(super) request: OperationRequest,
    pub(super) now: Timestamp,
}

impl OperationJob {
    fn run(self, executor: &dyn Executor) -> Option<OperationRun> {
        executor.run_operation(&self.entity, self.state.as_ref(), self.request, self.now)
    }
}
