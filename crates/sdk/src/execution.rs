//! The driver of one orchestrator.
//!
//! Replay and live progress are one path: an event is applied, then the future is polled until it
//! waits again. What the code asks for meanwhile is compared with what history records in replay,
//! and handed to the engine when live.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use dalsegno_core::event::Event;
use dalsegno_core::{Action, EventKind, Fault, FaultKind, Payload};
use dalsegno_engine::executor::{Execution, ExecutionInfo};
use dalsegno_engine::explain::Reason;
use tracing::Dispatch;

use crate::compare;
use crate::context::OrchestrationContext;
use crate::error::Error;
use crate::log_spans;
use crate::orchestrator::Begin;
use crate::panics::{self, Caught};
use crate::state::{FaultSignal, Pressed, Shared, TaskKind};

/// Most polls after one event; beyond it the code wakes itself for ever.
const POLLS_PER_EVENT_MAX: u32 = 100_000;

/// Most lines of "what it waits for".
const WAITS_SHOWN_MAX: usize = 10;

pub(crate) type Body = Pin<Box<dyn Future<Output = Result<Option<Payload>, Error>> + Send>>;

/// One execution of a user's orchestrator, alive between turns.
pub(crate) struct LiveExecution {
    shared: Arc<Shared>,
    begin: Option<Arc<dyn Begin>>,
    /// Where the orchestrator is defined: what it ends with is asked for there.
    location: &'static Location<'static>,
    body: Option<Body>,
    waker: Waker,
}

impl LiveExecution {
    pub(crate) fn new(info: ExecutionInfo, begin: Arc<dyn Begin>) -> Self {
        panics::install();
        let shared = Shared::new(info);
        Self {
            waker: Waker::from(shared.waking.clone()),
            shared,
            location: begin.location(),
            begin: Some(begin),
            body: None,
        }
    }

    fn apply_all(&mut self, events: &[Event]) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let result = shared
            .waking
            .enter(|| (0..events.len()).try_for_each(|place| self.apply_next(&events[place..])));
        if result.is_err() {
            self.end();
        }
        result
    }

    /// Applies the first of these. An execution that begins with a request to end knows it from the start.
    fn apply_next(&mut self, events: &[Event]) -> Result<(), Fault> {
        let Some((event, rest)) = events.split_first() else {
            return Ok(());
        };
        if let (EventKind::ExecutionStarted(_), Some(EventKind::CancelRequested { reason })) =
            (&event.kind, rest.first().map(|next| &next.kind))
        {
            self.shared.cancel(reason.clone());
        }
        self.apply(event)
    }

    fn apply(&mut self, event: &Event) -> Result<(), Fault> {
        if self.shared.waking.was_foreign() {
            return Err(foreign_wake());
        }
        match &event.kind {
            EventKind::OrchestratorStarted => self.shared.lock().now = event.at,
            EventKind::OrchestratorCompleted => return self.end_of_recorded_turn(),
            EventKind::CancelRequested { reason } => {
                self.shared.cancel(reason.clone());
                return self.settle();
            }
            EventKind::ExecutionTerminated { .. } => {
                self.end();
                self.shared.lock().asked.clear();
            }
            EventKind::ExecutionStarted(started) => {
                let context = OrchestrationContext::new(self.shared.clone());
                let begin = self.begin.take();
                self.body = begin.map(|begin| begin.begin(context, started.input.clone()));
                self.shared.waking.set_woken();
                return self.settle();
            }
            EventKind::EventRaised { name, input, trace } => {
                let waker = {
                    let mut state = self.shared.lock();
                    let state = &mut *state;
                    let awaited = &mut state.awaited;
                    state.events.arrive(name, input.as_ref(), trace.as_ref(), awaited)
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
                return self.settle();
            }
            kind => match completion(kind) {
                Some((task, task_kind, outcome)) => {
                    self.shared.complete(task, task_kind, outcome)?;
                    return self.settle();
                }
                None if is_recorded_action(kind) => return self.confirm(kind),
                None => {}
            },
        }
        Ok(())
    }

    /// Polls the code until it waits for something durable.
    fn settle(&mut self) -> Result<(), Fault> {
        self.shared.lock().step += 1;
        let mut polls = 0;
        while self.body.is_some() && self.is_woken() {
            polls += 1;
            if polls > POLLS_PER_EVENT_MAX {
                return Err(busy_loop());
            }
            self.poll_once()?;
        }
        if self.body.is_some() && self.shared.lock().awaited == 0 {
            return Err(foreign_wait());
        }
        Ok(())
    }

    /// Is there anything to poll for? Code that is to end and waits for nothing but timers is pressed.
    fn is_woken(&mut self) -> bool {
        if self.shared.waking.take_woken() {
            return true;
        }
        match self.shared.press() {
            Pressed::No => false,
            Pressed::Woken => self.shared.waking.take_woken(),
            Pressed::Ends => {
                self.complete(Ok(None));
                false
            }
        }
    }

    fn poll_once(&mut self) -> Result<(), Fault> {
        let Some(body) = self.body.as_mut() else {
            return Ok(());
        };
        let mut context = Context::from_waker(&self.waker);
        let polled = panics::catch_quietly(|| body.as_mut().poll(&mut context));
        let (fault, continued) = {
            let mut state = self.shared.lock();
            (state.fault.take(), state.continued)
        };
        match (fault, polled) {
            (Some(fault), _) => Err(fault),
            (None, Err(caught)) => Err(panicked(&caught)),
            (None, Ok(Poll::Ready(result))) => {
                self.complete(result);
                Ok(())
            }
            (None, Ok(Poll::Pending)) => {
                if continued {
                    self.end();
                }
                Ok(())
            }
        }
    }

    fn complete(&mut self, result: Result<Option<Payload>, Error>) {
        let action = self.ending(result);
        // After continue-as-new this is not asked for any more.
        self.shared.lock().ask(action, self.location);
        self.end();
    }

    /// Code that was asked to end ends as cancelled when it returns that, or when it was cut short
    /// and could not know.
    fn ending(&self, result: Result<Option<Payload>, Error>) -> Action {
        let state = self.shared.lock();
        let is_cancelled = state.cancel_reason().is_some();
        match (result, state.cut_short()) {
            (Ok(_), Some(failure)) => Action::EndCancelled { failure },
            (Ok(result), None) => Action::Complete { result },
            (Err(error), _) => {
                let failure = error.into_failure();
                match is_cancelled && failure.is_cancelled() {
                    true => Action::EndCancelled { failure },
                    false => Action::Fail { failure },
                }
            }
        }
    }

    /// Drops the code. What its locals do when dropped is no longer asked for.
    fn end(&mut self) {
        self.shared.lock().closed = true;
        if let Some(body) = self.body.take() {
            // A panic in a user's `Drop` has nowhere to go.
            let _ = panics::catch_quietly(|| drop(body));
        }
    }

    /// The next action that history can record; others on the way are not compared.
    fn next_recorded(&self) -> Option<(EventKind, &'static Location<'static>)> {
        let mut state = self.shared.lock();
        while let Some(asked) = state.asked.pop_front() {
            if let Some(event) = asked.action.to_event() {
                return Some((event, asked.location));
            }
        }
        None
    }

    fn confirm(&self, recorded: &EventKind) -> Result<(), Fault> {
        match self.next_recorded() {
            None => Err(compare::asked_too_little(recorded)),
            Some((asked, _)) if compare::is_same(recorded, &asked) => Ok(()),
            Some((asked, location)) => Err(compare::diverged(recorded, &asked, location)),
        }
    }

    fn end_of_recorded_turn(&self) -> Result<(), Fault> {
        match self.next_recorded() {
            None => Ok(()),
            Some((asked, location)) => Err(compare::asked_too_much(&asked, location)),
        }
    }
}

impl Execution for LiveExecution {
    fn replay(&mut self, history: &[Event]) -> Result<(), Fault> {
        self.shared.lock().replaying = true;
        // What the code logs was logged when these turns were live.
        let result = tracing::dispatcher::with_default(&Dispatch::none(), || self.apply_all(history));
        self.shared.lock().replaying = false;
        result
    }

    fn advance(&mut self, events: &[Event]) -> Result<Vec<Action>, Fault> {
        let span = log_spans::of_orchestrator(&self.shared.info);
        span.in_scope(|| self.apply_all(events))?;
        let asked = {
            let mut state = self.shared.lock();
            let next = std::collections::VecDeque::new();
            std::mem::replace(&mut state.asked, next)
        };
        // By way of a Vec, so that the actions take the place of what held them.
        let asked = Vec::from(asked);
        Ok(asked.into_iter().map(|asked| asked.action).collect())
    }

    fn unconsumed_events(&self) -> Vec<EventKind> {
        self.shared.lock().events.unread()
    }

    fn awaited_events(&self) -> Vec<Arc<str>> {
        self.shared.lock().events.awaited()
    }

    fn waits_for(&self) -> Vec<Reason> {
        self.shared.lock().waits_for(WAITS_SHOWN_MAX)
    }

    fn size_bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| size_of_val(&**body));
        let info = &self.shared.info;
        let names =
            info.instance.as_str().len() + info.name.len() + info.version.as_ref().map_or(0, |v| v.len());
        size_of::<Self>() + size_of::<Shared>() + body + names + self.shared.lock().size_bytes()
    }
}

impl Drop for LiveExecution {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for LiveExecution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveExecution")
            .field("info", &self.shared.info)
            .finish_non_exhaustive()
    }
}

type Completion = (dalsegno_core::TaskId, TaskKind, dalsegno_core::Outcome);

fn completion(kind: &EventKind) -> Option<Completion> {
    let completion = match kind.clone() {
        EventKind::TaskCompleted { task, result, .. } => (task, TaskKind::Activity, Ok(result)),
        EventKind::TaskFailed { task, failure, .. } => (task, TaskKind::Activity, Err(failure)),
        EventKind::TimerFired { task, .. } => (task, TaskKind::Timer, Ok(None)),
        EventKind::SubOrchestrationInstanceCompleted { task, result } => {
            (task, TaskKind::Orchestration, Ok(result))
        }
        EventKind::SubOrchestrationInstanceFailed { task, failure } => {
            (task, TaskKind::Orchestration, Err(failure))
        }
        EventKind::EntityOperationCompleted { task, result } => (task, TaskKind::Entity, Ok(result)),
        EventKind::EntityOperationFailed { task, failure } => (task, TaskKind::Entity, Err(failure)),
        EventKind::EntityLockGranted { task } => (task, TaskKind::Lock, Ok(None)),
        _ => return None,
    };
    Some(completion)
}

/// Terminations are not asked for by the code.
fn is_recorded_action(kind: &EventKind) -> bool {
    let is_end = matches!(
        kind,
        EventKind::ExecutionCompleted { .. }
            | EventKind::ExecutionFailed { .. }
            | EventKind::ExecutionCanceled { .. }
    );
    is_end || kind.is_asked_by_code()
}

fn fault(kind: FaultKind, message: impl Into<String>) -> Fault {
    Fault::new(kind, message)
}

fn busy_loop() -> Fault {
    fault(
        FaultKind::BusyLoop,
        format!(
            "the orchestrator woke itself {POLLS_PER_EVENT_MAX} times after one event and never waited for anything durable"
        ),
    )
}

fn foreign_wait() -> Fault {
    fault(
        FaultKind::ForeignWait,
        "the orchestrator waits for something that is not durable: after a restart nobody would wake it. Wait for \
         activities, timers, events, entities and sub-orchestrations of its context; everything else belongs into an activity",
    )
}

fn foreign_wake() -> Fault {
    fault(
        FaultKind::ForeignWake,
        "something that is not durable woke the orchestrator: another thread, a runtime's timer or socket. In a \
         replay it would not happen at the same place; do such work in an activity",
    )
}

fn panicked(caught: &Caught) -> Fault {
    if caught.payload.is::<FaultSignal>() {
        return fault(FaultKind::Panicked, "a fault was raised and lost");
    }
    let text = caught
        .payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| caught.payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no text)".into());
    let place = caught
        .place
        .as_ref()
        .map_or_else(String::new, |place| format!(" ({place})"));
    let advice = match text.contains("reactor running") || text.contains("Tokio") {
        true => ". Tokio does not run in an orchestrator: use ctx.timer(..), or do the work in an activity",
        false => "",
    };
    fault(
        FaultKind::Panicked,
        format!("the orchestrator panicked: {text}{place}{advice}"),
    )
}
