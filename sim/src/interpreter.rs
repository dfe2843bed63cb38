//! The orchestrator that interprets programs: a hand-written state machine behind the engine's
//! executor, so that the engine is tried without the SDK.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dalsegno_core::action::{ChildOptions, TaskOptions};
use dalsegno_core::event::{ChildLink, ParentClosePolicy};
use dalsegno_core::{
    Action, EntityId, Event, EventKind, Fault, FaultKind, InstanceId, Payload, TaskId, Timestamp,
};
use dalsegno_core::{Failure, hash};
use dalsegno_engine::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, Execution, ExecutionInfo, Executor, OperationOutcome,
    OperationRequest, OperationRun, TurnAddress,
};
use dalsegno_engine::partition::Entropy;
use futures::future::BoxFuture;

use crate::elsewhere::{Away, Workers};
use crate::program::{Program, Statement};

/// Where a program is: what travels in inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Progress {
    program: usize,
    statement: usize,
    sum: i64,
}

impl Progress {
    fn parse(input: Option<&Payload>) -> Self {
        let text = input.map_or("[0,0,0]", Payload::as_str);
        let mut numbers = text
            .trim_matches(['[', ']'])
            .split(',')
            .map(|part| part.parse::<i64>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self {
            program: next() as usize,
            statement: next() as usize,
            sum: next(),
        }
    }

    fn payload(self) -> Payload {
        Payload::from(format!("[{},{},{}]", self.program, self.statement, self.sum))
    }
}

/// The input that runs a program from its beginning.
pub fn input_of(program: usize) -> Payload {
    Progress {
        program,
        statement: 0,
        sum: 0,
    }
    .payload()
}

/// The name of the event that a statement of a program waits for.
pub fn event_name(statement: usize) -> String {
    format!("e{statement}")
}

/// The operation that adds and may not happen before its time.
pub const LATER: &str = "later";

/// What a counter holds more when something happened before its time.
pub const EARLY: i64 = 1_000_000_000;

/// The input of [`LATER`].
pub fn later(amount: i64, at: Timestamp) -> Payload {
    Payload::from(format!("[{amount},{}]", at.as_micros()))
}

/// What [`LATER`] adds.
fn amount_at(input: Option<&Payload>, now: Timestamp) -> i64 {
    let text = input.map_or("", Payload::as_str).trim_matches(['[', ']']);
    let (amount, due) = text.split_once(',').unwrap_or(("0", "0"));
    let number = |text: &str| text.parse::<i64>().unwrap_or(0);
    match now.as_micros() < number(due) {
        true => EARLY,
        false => number(amount),
    }
}

fn counter(number: u8) -> EntityId {
    EntityId::new("counter", &number.to_string()).expect("digits are a valid key")
}

/// The orchestrator that runs in the host.
const HERE: &str = "program";

/// The same at workers.
const ELSEWHERE: &str = "program elsewhere";

/// How many instances run elsewhere, and which.
#[derive(Clone, Copy, Debug, Default)]
struct Distance {
    share: f64,
    salt: u64,
}

impl Distance {
    /// The orchestrator of an instance.
    fn orchestrator(self, id: &str) -> &'static str {
        let bits = Entropy::seeded(self.salt ^ hash::fingerprint(&[id])).share();
        if bits < self.share { ELSEWHERE } else { HERE }
    }
}

/// How a program takes a request to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unwinding {
    /// There is none.
    No,
    /// The next execution will heed it.
    Later,
    /// It waits for what it has begun and can not leave.
    Waits,
    /// It undoes what it did, by one activity, and ends.
    Undoes,
}

/// One execution of a program.
#[derive(Debug)]
struct Interpreter {
    programs: Arc<Vec<Program>>,
    /// What becomes of every other child when its parent is cancelled.
    close: ParentClosePolicy,
    instance: InstanceId,
    execution: String,
    progress: Progress,
    now: Timestamp,
    next_task: u32,
    /// Tasks the current statement still waits for.
    waiting: BTreeMap<TaskId, ()>,
    /// The event the current statement waits for.
    wanted: Option<String>,
    /// Steps of a transfer that are done.
    transfer: u8,
    lock: Option<TaskId>,
    unread: VecDeque<EventKind>,
    actions: Vec<Action>,
    has_ended: bool,
    unwinding: Unwinding,
    distance: Distance,
}

impl Interpreter {
    fn task(&mut self) -> TaskId {
        self.next_task += 1;
        TaskId(self.next_task - 1)
    }

    fn apply(&mut self, event: &Event) {
        match &event.kind {
            EventKind::OrchestratorStarted => self.now = event.at,
            EventKind::ExecutionStarted(started) => {
                self.progress = Progress::parse(started.input.as_ref());
                self.begin();
            }
            EventKind::EventRaised { .. } => {
                self.unread.push_back(event.kind.clone());
                self.read_event();
            }
            EventKind::CancelRequested { .. } => self.take_cancel(),
            kind if self.unwinding >= Unwinding::Waits
                && answered(kind).is_some_and(|task| self.waiting.remove(&task).is_some()) =>
            {
                self.unwind();
            }
            EventKind::TaskCompleted { task, result, .. }
            | EventKind::SubOrchestrationInstanceCompleted { task, result }
                if self.waiting.remove(task).is_some() =>
            {
                self.progress.sum += number(result.as_ref());
                self.go_on();
            }
            EventKind::SubOrchestrationInstanceFailed { task, failure }
                if self.waiting.remove(task).is_some() =>
            {
                match failure.is_cancelled() {
                    true => self.go_on(),
                    false => self.fail(),
                }
            }
            EventKind::TaskFailed { task, .. } if self.waiting.remove(task).is_some() => {
                match self.current() {
                    Some(Statement::Fragile(_)) => self.fail(),
                    _ => self.go_on(),
                }
            }
            EventKind::TimerFired { task, .. }
            | EventKind::EntityOperationCompleted { task, .. }
            | EventKind::EntityOperationFailed { task, .. }
            | EventKind::EntityLockGranted { task }
                if self.waiting.remove(task).is_some() =>
            {
                self.go_on()
            }
            _ => {}
        }
    }

    fn read_event(&mut self) {
        let Some(wanted) = self.wanted.clone() else { return };
        let found = self
            .unread
            .iter()
            .position(|kind| matches!(kind, EventKind::EventRaised { name, .. } if **name == *wanted));
        if let Some(EventKind::EventRaised { input, .. }) = found.and_then(|at| self.unread.remove(at)) {
            self.wanted = None;
            self.progress.sum += number(input.as_ref());
            self.next_statement();
        }
    }

    /// Something the current statement waited for came.
    fn go_on(&mut self) {
        if !self.waiting.is_empty() {
            return;
        }
        if let Some(Statement::Transfer(from, to, amount)) = self.current() {
            self.transfer += 1;
            match self.transfer {
                1 => return self.call(from, -amount),
                2 => return self.call(to, amount),
                _ => {
                    if let Some(lock) = self.lock.take() {
                        self.actions.push(Action::UnlockEntities { lock, only: None });
                    }
                }
            }
        }
        self.next_statement();
    }

    /// One that continues as new before its end leaves the request to its next execution.
    fn take_cancel(&mut self) {
        let statements = &self.programs[self.progress.program].statements;
        let rest = statements.iter().skip(self.progress.statement);
        if rest
            .clone()
            .any(|statement| *statement == Statement::ContinueAsNew)
        {
            self.unwinding = Unwinding::Later;
            return;
        }
        self.unwinding = Unwinding::Waits;
        self.wanted = None;
        if let Some(Statement::Timer(_) | Statement::Race(_)) = self.current() {
            let timers = std::mem::take(&mut self.waiting).into_keys();
            self.actions
                .extend(timers.map(|task| Action::CancelTimer { task }));
        }
        self.unwind();
    }

    /// The next step towards the end, once nothing is waited for.
    fn unwind(&mut self) {
        if !self.waiting.is_empty() {
            return;
        }
        if self.unwinding == Unwinding::Undoes {
            self.has_ended = true;
            let failure = Failure::cancelled(None);
            return self.actions.push(Action::EndCancelled { failure });
        }
        self.unwinding = Unwinding::Undoes;
        if let Some(lock) = self.lock.take() {
            self.actions.push(Action::UnlockEntities { lock, only: None });
        }
        self.schedule_with("echo", 0, true);
    }

    fn fail(&mut self) {
        if self.unwinding == Unwinding::Later {
            self.unwinding = Unwinding::Waits;
            return self.unwind();
        }
        self.has_ended = true;
        let failure = Failure::new("Broken", "as planned");
        self.actions.push(Action::Fail { failure });
    }

    fn current(&self) -> Option<Statement> {
        self.programs[self.progress.program]
            .statements
            .get(self.progress.statement)
            .cloned()
    }

    fn next_statement(&mut self) {
        self.progress.statement += 1;
        self.begin();
    }

    fn call(&mut self, target: u8, amount: i64) {
        let task = self.task();
        self.waiting.insert(task, ());
        let input = Some(Payload::from(amount.to_string()));
        self.actions.push(Action::CallEntity {
            task,
            entity: counter(target),
            operation: "add".into(),
            input,
            request: None,
        });
    }

    fn schedule(&mut self, name: &str, value: i64) {
        self.schedule_with(name, value, false);
    }

    fn schedule_with(&mut self, name: &str, value: i64, undo: bool) {
        let task = self.task();
        self.waiting.insert(task, ());
        let input = Some(Payload::from(value.to_string()));
        let options = TaskOptions {
            undo,
            ..TaskOptions::default()
        };
        self.actions.push(Action::ScheduleTask {
            task,
            name: name.into(),
            input,
            options,
        });
    }

    #[expect(clippy::too_many_lines, reason = "one match over all statements")]
    fn begin(&mut self) {
        self.transfer = 0;
        let Some(statement) = self.current() else {
            self.has_ended = true;
            let result = Some(Payload::from(self.progress.sum.to_string()));
            return self.actions.push(Action::Complete { result });
        };
        match statement {
            Statement::Activities(values) => {
                values.into_iter().for_each(|value| self.schedule("echo", value))
            }
            Statement::Failing => self.schedule("fail", 0),
            Statement::Detached(value) => {
                self.schedule("echo", 1_000 + value);
                self.waiting.clear();
                self.next_statement();
            }
            Statement::Timer(ms) | Statement::Race(ms) => {
                let task = self.task();
                self.waiting.insert(task, ());
                let fire_at = self.now + std::time::Duration::from_millis(ms);
                self.actions.push(Action::CreateTimer { task, fire_at });
            }
            Statement::Event(_) => {
                self.wanted = Some(event_name(self.progress.statement));
                self.read_event();
            }
            Statement::Child(program) => self.start_child(program),
            Statement::CallCounter(target, amount) => self.call(target, amount),
            Statement::SignalCounter(target, amount) => {
                let task = self.task();
                let input = Some(Payload::from(amount.to_string()));
                let operation = "add".into();
                self.actions.push(Action::SignalEntity {
                    task,
                    entity: counter(target),
                    operation,
                    input,
                    at: None,
                    request: None,
                });
                self.next_statement();
            }
            Statement::SignalLater(target, amount, ms) => {
                let task = self.task();
                let at = self.now + std::time::Duration::from_millis(ms);
                self.actions.push(Action::SignalEntity {
                    task,
                    entity: counter(target),
                    operation: LATER.into(),
                    input: Some(later(amount, at)),
                    at: Some(at),
                    request: None,
                });
                self.next_statement();
            }
            Statement::Fragile(value) => {
                self.schedule("fragile", value);
                self.schedule("echo", 1);
            }
            Statement::FailingOperation(target) => {
                let task = self.task();
                self.waiting.insert(task, ());
                self.actions.push(Action::CallEntity {
                    task,
                    entity: counter(target),
                    operation: "fail".into(),
                    input: None,
                    request: None,
                });
            }
            Statement::Transfer(from, to, _) => {
                let task = self.task();
                self.waiting.insert(task, ());
                self.lock = Some(task);
                let mut entities = vec![counter(from), counter(to)];
                entities.sort();
                self.actions.push(Action::LockEntities {
                    task,
                    entities,
                    request: None,
                });
            }
            Statement::ContinueAsNew => {
                self.has_ended = true;
                let next = Progress {
                    statement: self.progress.statement + 1,
                    ..self.progress
                };
                self.actions.push(Action::ContinueAsNew {
                    version: None,
                    input: Some(next.payload()),
                });
            }
        }
    }

    fn start_child(&mut self, program: usize) {
        let task = self.task();
        self.waiting.insert(task, ());
        let instance = InstanceId::trusted(format!("{}-{}", &self.execution[..16], task.0));
        // Of either kind, and the same in every replay.
        let parent_close = match program % 2 {
            0 => self.close,
            _ => ParentClosePolicy::Abandon,
        };
        self.actions.push(Action::StartOrchestration {
            task,
            name: self.distance.orchestrator(instance.as_str()).into(),
            version: None,
            instance,
            input: Some(input_of(program)),
            link: ChildLink::Awaited,
            options: ChildOptions {
                parent_close,
                ..ChildOptions::default()
            },
        });
    }
}

fn number(payload: Option<&Payload>) -> i64 {
    payload
        .and_then(|payload| payload.as_str().parse().ok())
        .unwrap_or(0)
}

impl Execution for Interpreter {
    fn replay(&mut self, history: &[Event]) -> Result<(), Fault> {
        let mut asked = VecDeque::new();
        for event in history {
            let expected = asked.front();
            if expected == Some(&event.kind) {
                asked.pop_front();
                continue;
            }
            if matches!(event.kind, EventKind::OrchestratorCompleted) && !asked.is_empty() {
                let message = format!("{}: asked for {asked:?}, not recorded", self.instance);
                return Err(Fault::new(FaultKind::Diverged, message));
            }
            self.apply(event);
            asked.extend(self.actions.drain(..).filter_map(|action| action.to_event()));
        }
        Ok(())
    }

    fn advance(&mut self, events: &[Event]) -> Result<Vec<Action>, Fault> {
        let mut events = events.iter();
        for event in events.by_ref() {
            self.apply(event);
            if self.has_ended {
                break;
            }
        }
        self.unread
            .extend(events.map(|event| event.kind.clone()).filter(is_event));
        Ok(std::mem::take(&mut self.actions))
    }

    fn unconsumed_events(&self) -> Vec<EventKind> {
        self.unread.iter().cloned().collect()
    }
}

/// The task that an event answers.
fn answered(kind: &EventKind) -> Option<TaskId> {
    match kind {
        EventKind::TaskCompleted { task, .. }
        | EventKind::TaskFailed { task, .. }
        | EventKind::SubOrchestrationInstanceCompleted { task, .. }
        | EventKind::SubOrchestrationInstanceFailed { task, .. }
        | EventKind::EntityOperationCompleted { task, .. }
        | EventKind::EntityOperationFailed { task, .. }
        | EventKind::EntityLockGranted { task } => Some(*task),
        _ => None,
    }
}

fn is_event(kind: &EventKind) -> bool {
    matches!(kind, EventKind::EventRaised { .. })
}

/// User code of the simulation: the interpreter, its activities and its counters.
#[derive(Clone, Debug)]
pub struct Programs {
    programs: Arc<Vec<Program>>,
    is_broken: Arc<AtomicBool>,
    close: ParentClosePolicy,
    distance: Distance,
    workers: Workers,
}

impl Programs {
    /// The code that interprets these, in a world that is whole.
    pub fn new(programs: Arc<Vec<Program>>) -> Self {
        Self {
            programs,
            is_broken: Arc::default(),
            close: ParentClosePolicy::Abandon,
            distance: Distance::default(),
            workers: Workers::default(),
        }
    }

    /// The same, where so large a share of the instances runs elsewhere.
    #[must_use]
    pub fn with_workers(self, share: f64, salt: u64) -> Self {
        Self {
            distance: Distance { share, salt },
            ..self
        }
    }

    /// The same for another host, which has sent nothing yet.
    #[must_use]
    pub(crate) fn on_new_host(&self) -> Self {
        Self {
            workers: Workers::default(),
            ..self.clone()
        }
    }

    /// What this host has sent.
    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The orchestrator of an instance.
    pub(crate) fn orchestrator_of(&self, id: &InstanceId) -> &'static str {
        self.distance.orchestrator(id.as_str())
    }

    /// The same, where every other child is cancelled with its parent.
    #[must_use]
    pub fn with_following_children(self) -> Self {
        Self {
            close: ParentClosePolicy::Cancel,
            ..self
        }
    }

    /// The code itself, in this process or at a worker.
    pub(crate) fn interpreter(&self, info: &ExecutionInfo) -> Box<dyn Execution> {
        Box::new(Interpreter {
            programs: self.programs.clone(),
            close: self.close,
            instance: info.instance.clone(),
            execution: info.execution_id.to_string(),
            progress: Progress::parse(None),
            now: Timestamp::from_micros(0),
            next_task: 0,
            waiting: BTreeMap::new(),
            wanted: None,
            transfer: 0,
            lock: None,
            unread: VecDeque::new(),
            actions: Vec::new(),
            has_ended: false,
            unwinding: Unwinding::No,
            distance: self.distance,
        })
    }

    /// Breaks the outside world, in which fragile activities then fail, or repairs it.
    pub fn set_broken(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::Relaxed);
    }
}

impl Executor for Programs {
    fn execution(&self, info: &ExecutionInfo) -> Option<Box<dyn Execution>> {
        if &*info.name == ELSEWHERE {
            return Some(Box::new(Away {
                workers: self.workers.clone(),
                info: info.clone(),
                past: Vec::new(),
            }));
        }
        (&*info.name == HERE).then(|| self.interpreter(info))
    }

    fn is_remote(&self, orchestrator: &str, _version: Option<&str>) -> bool {
        orchestrator == ELSEWHERE
    }

    fn withdraw(&self, turn: &TurnAddress) {
        self.workers.withdraw(turn);
    }

    fn default_version(&self, _orchestrator: &str) -> Option<Arc<str>> {
        None
    }

    fn orchestrators(&self) -> Vec<Arc<str>> {
        vec![HERE.into()]
    }

    fn activities(&self) -> Vec<Arc<str>> {
        vec!["echo".into(), "fail".into(), "fragile".into()]
    }

    fn entities(&self) -> Vec<Arc<str>> {
        vec!["counter".into()]
    }

    fn activity_settings(&self, name: &str) -> Option<ActivitySettings> {
        let retry = dalsegno_core::retry::RetryPolicy::fixed(2, std::time::Duration::from_millis(50));
        matches!(name, "echo" | "fail" | "fragile").then(|| ActivitySettings {
            limiter: (name == "echo").then(|| "echo".into()),
            retry: (name == "fail").then_some(retry),
            ..ActivitySettings::default()
        })
    }

    fn limiter_key(&self, _activity: &str, _input: Option<&Payload>) -> Arc<str> {
        "".into()
    }

    fn run_activity(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        let is_broken = self.is_broken.load(Ordering::Relaxed);
        Box::pin(async move {
            if &*request.name == "fail" || (&*request.name == "fragile" && is_broken) {
                let failure = Failure::new("Planned", "as planned");
                return AttemptOutcome::Failed {
                    failure,
                    retry_after: None,
                };
            }
            AttemptOutcome::Completed(request.input)
        })
    }

    fn run_operation(
        &self,
        _entity: &EntityId,
        state: Option<&Payload>,
        request: OperationRequest,
        now: Timestamp,
    ) -> Option<OperationRun> {
        let sum = number(state) + number(request.input.as_ref());
        let (outcome, sum) = match &*request.operation {
            LATER => (Ok(None), number(state) + amount_at(request.input.as_ref(), now)),
            "fail" => (Err(Failure::new("Planned", "as planned")), sum + 1_000_000),
            _ => (Ok(None), sum),
        };
        let state = Some(Payload::from(sum.to_string()));
        Some(OperationRun::Done(OperationOutcome {
            outcome,
            state,
            effects: Vec::new(),
        }))
    }
}
