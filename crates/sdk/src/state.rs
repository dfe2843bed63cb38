//! What the driver and the user's tasks share: open tasks, what the code asked for, external events.
//!
//! The lock is never held while user code, a waker or a drop of either runs.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{Location, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};

use dalsegno_core::message::Outcome;
use dalsegno_core::{Action, EntityId, Failure, Fault, FaultKind, Payload, TaskId, Timestamp};
use dalsegno_engine::executor::ExecutionInfo;
use dalsegno_engine::explain::{Reason, ReasonKind};
use hashbrown::HashMap;

use crate::cancel::Cancel;
use crate::event::Events;

/// Most actions of one turn before the code is stopped; the engine's `turn_actions_max` is the same.
const TURN_ACTIONS_MAX: usize = 200_000;

thread_local! {
    /// The execution whose code runs on this thread: the address of its `Waking`, or 0.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// Wakes the orchestrator's future, and notices who does.
#[derive(Debug, Default)]
pub(crate) struct Waking {
    woken: AtomicBool,
    foreign: AtomicBool,
}

impl Waking {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn is_current(&self) -> bool {
        CURRENT.get() == self.address()
    }

    /// Runs `body` as the code of this execution.
    pub(crate) fn enter<T>(&self, body: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(self.address());
        let result = body();
        CURRENT.set(before);
        result
    }

    pub(crate) fn set_woken(&self) {
        self.woken.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn was_foreign(&self) -> bool {
        self.foreign.load(Ordering::Relaxed)
    }
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_current() {
            self.foreign.store(true, Ordering::Relaxed);
        }
        self.set_woken();
    }
}

/// Carries a fault out of user code; goes around the panic hook.
pub(crate) struct FaultSignal;

/// One per execution; tasks, guards and contexts hold it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) info: ExecutionInfo,
    pub(crate) waking: Arc<Waking>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) now: Timestamp,
    pub(crate) replaying: bool,
    /// Nothing is emitted any more: evicted, continued as new, completed or at fault.
    pub(crate) closed: bool,
    pub(crate) continued: bool,
    pub(crate) fault: Option<Fault>,
    /// Counts events; what was asked for in an earlier step can no longer be edited.
    pub(crate) step: u64,
    pub(crate) asked: VecDeque<Asked>,
    pub(crate) events: Events,
    pub(crate) locked: Option<Locked>,
    /// Most executions are never asked to end, nor wait for it.
    cancel: Option<Box<Cancel>>,
    slots: HashMap<u32, Slot>,
    tasks_created: u32,
    uuids_created: u32,
    /// Open tasks and events that somebody polls: while there is none, nothing durable can wake the code.
    pub(crate) awaited: usize,
}

/// An action, and where the code asked for it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) action: Action,
    pub(crate) location: &'static Location<'static>,
    step: u64,
}

/// The lock that is held or asked for.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) task: TaskId,
    pub(crate) entities: Vec<EntityId>,
}

/// What a task is, as far as its completions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskKind {
    Activity,
    Timer,
    Orchestration,
    Entity,
    Lock,
}

/// See [`Shared::press`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressed {
    /// It goes on.
    No,
    /// Its timers, or code with a stack of undos, ended early; it is polled again.
    Woken,
    /// It ends here.
    Ends,
}

/// An open task. It goes when its future does.
#[derive(Debug)]
struct Slot {
    kind: TaskKind,
    location: &'static Location<'static>,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Unpolled,
    Polled(Waker),
    /// It was not asked for: the orchestration is to end.
    Refused(Box<Failure>),
    Done(Result<Option<Payload>, Box<Failure>>),
}

impl Shared {
    pub(crate) fn new(info: ExecutionInfo) -> Arc<Self> {
        let state = State {
            now: Timestamp::default(),
            replaying: false,
            closed: false,
            continued: false,
            fault: None,
            step: 0,
            asked: VecDeque::new(),
            events: Events::default(),
            locked: None,
            cancel: None,
            slots: HashMap::new(),
            tasks_created: 0,
            uuids_created: 0,
            awaited: 0,
        };
        Arc::new(Self {
            info,
            waking: Arc::default(),
            state: Mutex::new(state),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a call of user code. Refuses calls from anywhere but the running orchestrator.
    pub(crate) fn enter(&self) -> MutexGuard<'_, State> {
        assert!(
            self.waking.is_current(),
            "the context of orchestration {} was used outside its orchestrator: it must not go to another \
             thread, task or execution",
            self.info.instance
        );
        self.lock()
    }

    /// Stops the code here and parks the instance.
    pub(crate) fn fault(&self, kind: FaultKind, message: String) -> ! {
        self.lock().fault.get_or_insert(Fault::new(kind, message));
        resume_unwind(Box::new(FaultSignal))
    }

    /// Asks for an action of a new task.
    pub(crate) fn schedule(
        &self,
        kind: TaskKind,
        location: &'static Location<'static>,
        action: impl FnOnce(TaskId, Timestamp) -> Action,
    ) -> TaskId {
        let mut state = self.enter();
        let task = state.next_task();
        let refusal = state.refusal_of(kind);
        let action = action(task, state.now);
        let is_refused = refusal.is_some();
        let progress = refusal.map_or(Progress::Unpolled, |failure| Progress::Refused(Box::new(failure)));
        state.slots.insert(
            task.0,
            Slot {
                kind,
                location,
                progress,
            },
        );
        if !is_refused {
            self.ask(state, action, location);
        }
        task
    }

    /// Asks for an action that nobody waits for.
    pub(crate) fn emit(
        &self,
        location: &'static Location<'static>,
        action: impl FnOnce(TaskId, Timestamp) -> Action,
    ) -> TaskId {
        let mut state = self.enter();
        let task = state.next_task();
        let action = action(task, state.now);
        if !state.is_cut() {
            self.ask(state, action, location);
        }
        task
    }

    /// Asks for an action without a number of its own.
    pub(crate) fn emit_plain(&self, location: &'static Location<'static>, action: Action) {
        let state = self.enter();
        self.ask(state, action, location);
    }

    fn ask(&self, mut state: MutexGuard<'_, State>, action: Action, location: &'static Location<'static>) {
        state.ask(action, location);
        if state.asked.len() > TURN_ACTIONS_MAX {
            drop(state);
            let message = format!(
                "one turn asked for more than {TURN_ACTIONS_MAX} actions, at {location}: await some of them \
                 before asking for more"
            );
            self.fault(FaultKind::BusyLoop, message);
        }
    }

    /// Changes the action of a task that was created just now.
    pub(crate) fn edit(&self, task: TaskId, option: &str, change: impl FnOnce(&mut Action)) {
        let mut state = self.enter();
        if state.closed {
            return;
        }
        let is_refused = state.slots.get(&task.0).map_or(state.is_cut(), |slot| {
            matches!(slot.progress, Progress::Refused(_))
        });
        if is_refused {
            return;
        }
        let step = state.step;
        let asked = state.asked.iter_mut().rev().find(|asked| asked.is_of(task));
        match asked.filter(|asked| asked.step == step) {
            Some(asked) => change(&mut asked.action),
            None => {
                drop(state);
                let message = format!(
                    "`.{option}(..)` came after an await, when the task was already asked for: set options where \
                     the call is made"
                );
                self.fault(FaultKind::Diverged, message);
            }
        }
    }

    /// The outcome of a task, or its waker is kept.
    pub(crate) fn poll_task(&self, task: TaskId, waker: &Waker) -> Poll<Outcome> {
        let mut state = self.lock();
        let slot = state
            .slots
            .remove(&task.0)
            .expect("a task is not polled after it ended");
        let waker = match slot.progress {
            Progress::Done(outcome) => return Poll::Ready(state.hand_over(outcome)),
            Progress::Refused(failure) => return Poll::Ready(state.hand_over(Err(failure))),
            Progress::Polled(old) if old.will_wake(waker) => (old, None),
            Progress::Polled(old) => (waker.clone(), Some(old)),
            _ => {
                state.awaited += 1;
                (waker.clone(), None)
            }
        };
        let progress = Progress::Polled(waker.0);
        state.slots.insert(task.0, Slot { progress, ..slot });
        drop(state);
        drop(waker.1);
        Poll::Pending
    }

    /// Nobody waits for a task any more. Says whether it was still open.
    pub(crate) fn forget_task(&self, task: TaskId) -> bool {
        let mut state = self.lock();
        let slot = state.slots.remove(&task.0);
        if let Some(Slot {
            progress: Progress::Polled(_),
            ..
        }) = &slot
        {
            state.awaited -= 1;
        }
        drop(state);
        slot.is_some_and(|slot| !matches!(slot.progress, Progress::Done(_)))
    }

    /// A task ended.
    pub(crate) fn complete(&self, task: TaskId, kind: TaskKind, outcome: Outcome) -> Result<(), Fault> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let waker = match state.slots.get_mut(&task.0) {
            None if task.0 < state.tasks_created => return Ok(()),
            None => return Err(unknown_task(task, kind, "asked for no such task")),
            Some(slot) if slot.kind != kind => {
                let asked = format!("asked for {} at {}", slot.kind.words(), slot.location);
                return Err(unknown_task(task, kind, &asked));
            }
            Some(slot) => {
                let done = Progress::Done(outcome.map_err(Box::new));
                match std::mem::replace(&mut slot.progress, done) {
                    Progress::Polled(waker) => {
                        state.awaited -= 1;
                        Some(waker)
                    }
                    _ => None,
                }
            }
        };
        drop(guard);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The orchestration is to end: waits for events fail, and those who waited for this hear of it.
    pub(crate) fn cancel(&self, reason: Option<String>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.cancel_reason().is_some() {
            return;
        }
        let failure = Failure::cancelled(reason.as_deref());
        let waits = state.cancel_mut().arrive(reason);
        state.awaited -= waits.len();
        let mut wakers = state.events.fail_all(&failure, &mut state.awaited);
        wakers.extend(waits.into_iter().map(|(_, waker)| waker));
        drop(guard);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What becomes of code that has not heard of its cancellation and waits for nothing but timers.
    pub(crate) fn press(&self) -> Pressed {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.refusal().is_none() || state.closed {
            return Pressed::No;
        }
        let is_waited =
            |slot: &Slot| slot.kind == TaskKind::Timer && matches!(slot.progress, Progress::Polled(_));
        let mut timers: Vec<u32> = state
            .slots
            .iter()
            .filter_map(|(id, slot)| is_waited(slot).then_some(*id))
            .collect();
        if timers.is_empty() || timers.len() < state.awaited {
            return Pressed::No;
        }
        if state.is_cut() {
            let scope = state.cancel_mut().end_scope();
            drop(guard);
            return match scope {
                Some(waker) => {
                    waker.wake();
                    Pressed::Woken
                }
                None => Pressed::Ends,
            };
        }
        if let Some(request) = state.cancel_mut().request.as_mut() {
            request.is_cut = true;
        }
        timers.sort_unstable();
        let wakers = timers
            .into_iter()
            .map(|id| state.cut_timer(TaskId(id)))
            .collect::<Vec<_>>();
        drop(guard);
        wakers.into_iter().flatten().for_each(Waker::wake);
        Pressed::Woken
    }

    pub(crate) fn next_uuid(&self) -> u32 {
        let mut state = self.enter();
        state.uuids_created += 1;
        state.uuids_created
    }
}

impl State {
    fn next_task(&mut self) -> TaskId {
        let task = TaskId(self.tasks_created);
        self.tasks_created += 1;
        task
    }

    fn cancel_mut(&mut self) -> &mut Cancel {
        self.cancel.get_or_insert_default()
    }

    /// Why what is asked for now is refused: the code does not know yet that it is to end.
    pub(crate) fn refusal(&self) -> Option<Failure> {
        self.cancel.as_ref()?.refusal()
    }

    fn is_cut(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.is_cut())
    }

    /// Why the code is not to be believed: timers ended early and it does not know.
    pub(crate) fn cut_short(&self) -> Option<Failure> {
        self.refusal().filter(|_| self.is_cut())
    }

    /// Calls of entities are short and cannot be told: they are refused only with everything else.
    fn refusal_of(&self, kind: TaskKind) -> Option<Failure> {
        match kind {
            TaskKind::Activity | TaskKind::Orchestration => self.refusal(),
            TaskKind::Entity => self.cut_short(),
            TaskKind::Timer | TaskKind::Lock => None,
        }
    }

    /// A failure that reaches the code tells it that it is to end, if it is.
    fn hand_over(&mut self, outcome: Result<Option<Payload>, Box<Failure>>) -> Outcome {
        if outcome.is_err() {
            self.hear_of_cancel();
        }
        outcome.map_err(|failure| *failure)
    }

    /// The code learns that it is to end; the reason, if it is.
    pub(crate) fn hear_of_cancel(&mut self) -> Option<Option<String>> {
        let cancel = self.cancel.as_mut()?;
        let is_undoing = cancel.undoing > 0;
        let request = cancel.request.as_mut()?;
        request.is_heard |= !is_undoing;
        Some(request.reason.clone())
    }

    /// Is the orchestration to end? The reason.
    pub(crate) fn cancel_reason(&self) -> Option<Option<String>> {
        let request = self.cancel.as_ref()?.request.as_ref()?;
        Some(request.reason.clone())
    }

    pub(crate) fn wait_for_cancel(&mut self, wait: Option<u32>, waker: &Waker) -> (u32, Option<Waker>) {
        let (wait, old) = self.cancel_mut().wait(wait, waker);
        self.awaited += usize::from(old.is_none());
        (wait, old)
    }

    pub(crate) fn leave_cancel(&mut self, wait: u32) -> Option<Waker> {
        let left = self.cancel.as_mut()?.leave(wait);
        self.awaited -= usize::from(left.is_some());
        left
    }

    pub(crate) fn enter_scope(&mut self) -> u32 {
        self.cancel_mut().enter_scope()
    }

    /// Is the code of that scope to end? Then it has been told.
    pub(crate) fn poll_scope(&mut self, number: u32, waker: &Waker) -> Poll<Failure> {
        let (is_ended, _old) = self.cancel_mut().poll_scope(number, waker);
        if !is_ended {
            return Poll::Pending;
        }
        let reason = self.hear_of_cancel().flatten();
        Poll::Ready(Failure::cancelled(reason.as_deref()))
    }

    pub(crate) fn leave_scope(&mut self, number: u32) -> Option<Waker> {
        self.cancel.as_mut()?.leave_scope(number)
    }

    /// Undoing begins, or ends.
    pub(crate) fn count_undoing(&mut self, begins: bool) {
        let undoing = &mut self.cancel_mut().undoing;
        *undoing = if begins {
            *undoing + 1
        } else {
            undoing.saturating_sub(1)
        };
    }

    /// A timer ends before its time; its firing, should it come, finds nobody.
    fn cut_timer(&mut self, task: TaskId) -> Option<Waker> {
        let slot = self.slots.get_mut(&task.0)?;
        let location = slot.location;
        let before = std::mem::replace(&mut slot.progress, Progress::Done(Ok(None)));
        self.ask(Action::CancelTimer { task }, location);
        let Progress::Polled(waker) = before else {
            return None;
        };
        self.awaited -= 1;
        Some(waker)
    }

    pub(crate) fn ask(&mut self, action: Action, location: &'static Location<'static>) {
        if !self.closed {
            let step = self.step;
            self.asked.push_back(Asked {
                action,
                location,
                step,
            });
        }
    }

    /// What is open and polled, for people.
    pub(crate) fn waits_for(&self, most: usize) -> Vec<Reason> {
        let tasks = self
            .slots
            .iter()
            .filter(|(_, slot)| matches!(slot.progress, Progress::Polled(_)));
        let mut tasks: Vec<_> = tasks
            .map(|(id, slot)| (*id, slot.kind.words(), slot.location))
            .collect();
        tasks.sort_unstable_by_key(|task| task.0);
        let is_waited_for = self.cancel.as_ref().is_some_and(|cancel| cancel.is_waited_for());
        tasks
            .into_iter()
            .map(|(id, words, location)| Reason {
                task: Some(TaskId(id)),
                location: Some(location.to_string()),
                ..Reason::new(ReasonKind::Code, format!("{words}, task {id}, at {location}"))
            })
            .chain(self.events.waits_for())
            .chain(is_waited_for.then(|| Reason::new(ReasonKind::Code, "a request to cancel")))
            .take(most)
            .collect()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.slots.capacity() * (size_of::<Slot>() + size_of::<u32>() + 1)
            + self.asked.capacity() * size_of::<Asked>()
            + self.events.size_bytes()
    }
}

impl Asked {
    /// Is it the action by which this task was created?
    fn is_of(&self, id: TaskId) -> bool {
        match &self.action {
            Action::ScheduleTask { task, .. }
            | Action::CreateTimer { task, .. }
            | Action::StartOrchestration { task, .. }
            | Action::SendEvent { task, .. }
            | Action::CallEntity { task, .. }
            | Action::SignalEntity { task, .. }
            | Action::LockEntities { task, .. } => *task == id,
            _ => false,
        }
    }
}

impl TaskKind {
    fn words(self) -> &'static str {
        match self {
            Self::Activity => "an activity",
            Self::Timer => "a timer",
            Self::Orchestration => "a sub-orchestration",
            Self::Entity => "an entity's answer",
            Self::Lock => "a lock",
        }
    }
}

fn unknown_task(task: TaskId, kind: TaskKind, asked: &str) -> Fault {
    Fault::new(
        FaultKind::UnknownTask,
        format!(
            "history records that task {task}, {}, ended; the code {asked}. Deploy the code that fits, \
             register this one as a new version, or rewind",
            kind.words()
        ),
    )
}
