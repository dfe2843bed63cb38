//! Turns whose code runs elsewhere: here, in the hands of the test.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dalsegno_core::action::{ChildOptions, TaskOptions};
use dalsegno_core::event::{ChildLink, Event, EventKind, ParentClosePolicy};
use dalsegno_core::limits::Limits;
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::query::Status;
use dalsegno_core::store::{InstanceRow, Store};
use dalsegno_core::{Action, EntityId, Failure, Fault, FaultKind, Message, PartitionId, Payload, TaskId};
use dalsegno_core::{Timestamp, hash};
use dalsegno_engine::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, Execution, ExecutionInfo, Executor, OperationOutcome,
    OperationRequest, OperationRun, OperationsEnded, TurnAddress, TurnAnswer, TurnSender,
};
use dalsegno_engine::input::{Command, IdOrigin};
use dalsegno_engine::loader::read_history;
use dalsegno_engine::request::{Answer, RequestErrorKind, StartOptions, unconsumed_of};
use dalsegno_engine::simulation::{Promise, SimHub, SimOptions, Stepped};
use dalsegno_engine::task::EventMark;
use dalsegno_engine::verify::verify;
use dalsegno_store_memory::MemoryStore;
use futures::future::BoxFuture;

use crate::app::id;
use crate::simulated::settle;

/// The instance of these tests.
const AWAY: &str = "away";

/// Bytes of one turn.
const TURN_BYTES_MAX: usize = 10_000;

/// One turn as the code elsewhere gets it.
#[derive(Clone, Debug)]
struct Sent {
    address: TurnAddress,
    past: Vec<String>,
    new: Vec<String>,
    /// What the store said of the instance when it was sent.
    stored: Option<(Status, u64)>,
}

/// What happened at the other side.
#[derive(Debug, Default)]
struct Elsewhere {
    sent: Mutex<Vec<Sent>>,
    withdrawn: Mutex<Vec<TurnAddress>>,
    /// What receipts saw of open tasks when they were given.
    receipts: Mutex<Vec<usize>>,
}

#[derive(Clone, Debug)]
struct Code {
    elsewhere: Arc<Elsewhere>,
    store: Arc<dyn Store>,
}

struct Remote {
    code: Code,
    past: Vec<String>,
}

/// An event in one word, with the name of those that are raised.
fn word(event: &Event) -> String {
    if let EventKind::EventRaised { name, .. } = &event.kind {
        return name.to_string();
    }
    let text = format!("{:?}", event.kind);
    let end = text.find([' ', '(']).unwrap_or(text.len());
    text[..end].to_owned()
}

fn words(events: &[Event]) -> Vec<String> {
    let told = |event: &&Event| event.kind != EventKind::OrchestratorCompleted;
    events.iter().filter(told).map(word).collect()
}

impl Execution for Remote {
    fn replay(&mut self, history: &[Event]) -> Result<(), Fault> {
        self.past.extend(words(history));
        Ok(())
    }

    fn advance(&mut self, _events: &[Event]) -> Result<Vec<Action>, Fault> {
        panic!("its code is not here");
    }

    fn send(&mut self, turn: &TurnAddress, events: &[Event]) -> Option<TurnSender> {
        let (code, past, new, address) = (self.code.clone(), self.past.clone(), words(events), turn.clone());
        Some(TurnSender::new(move || {
            let row = code.store.instance(&address.instance).expect("it reads");
            let messages = code.store.load(PartitionId(0)).expect("it reads").messages.len();
            let stored = row.map(|row| (row.status, messages as u64));
            let sent = Sent {
                address,
                past,
                new,
                stored,
            };
            code.elsewhere.sent.lock().expect("nobody panics").push(sent);
        }))
    }

    fn record(&mut self, events: &[Event]) {
        self.past.extend(words(events));
    }
}

impl Executor for Code {
    fn execution(&self, _info: &ExecutionInfo) -> Option<Box<dyn Execution>> {
        Some(Box::new(Remote {
            code: self.clone(),
            past: Vec::new(),
        }))
    }

    fn is_remote(&self, _orchestrator: &str, _version: Option<&str>) -> bool {
        true
    }

    fn withdraw(&self, turn: &TurnAddress) {
        let mut withdrawn = self.elsewhere.withdrawn.lock().expect("nobody panics");
        withdrawn.push(turn.clone());
    }

    fn default_version(&self, _orchestrator: &str) -> Option<Arc<str>> {
        None
    }

    fn orchestrators(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn activities(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn entities(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn activity_settings(&self, _name: &str) -> Option<ActivitySettings> {
        Some(ActivitySettings {
            is_remote: true,
            ..ActivitySettings::default()
        })
    }

    fn limiter_key(&self, _activity: &str, _input: Option<&Payload>) -> Arc<str> {
        "".into()
    }

    fn run_activity(&self, _request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        Box::pin(async { AttemptOutcome::Completed(None) })
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

/// A hub, its store and the code elsewhere.
struct Ground {
    elsewhere: Arc<Elsewhere>,
    store: Arc<MemoryStore>,
    hub: SimHub,
    seed: u64,
}

impl Ground {
    fn new() -> Self {
        Self::seeded(0)
    }

    fn seeded(seed: u64) -> Self {
        let elsewhere = Arc::<Elsewhere>::default();
        let store = Arc::new(MemoryStore::new(1));
        let hub = open(store.clone(), &elsewhere, seed, SimOptions::default().start);
        Self {
            elsewhere,
            store,
            hub,
            seed,
        }
    }

    /// Its process dies at once and another takes the hub up.
    fn crash(&mut self) {
        self.store = Arc::new(self.store.reopen());
        self.hub = open(self.store.clone(), &self.elsewhere, self.seed, self.hub.now());
        settle(&mut self.hub);
    }

    fn begin(&mut self) {
        self.start(ReusePolicy::Reject);
    }

    fn start(&mut self, reuse: ReusePolicy) {
        let options = Box::new(StartOptions {
            name: AWAY.to_owned(),
            id: Some(id(AWAY)),
            reuse,
            ..StartOptions::default()
        });
        let promise = self.hub.ask(AWAY, |reply| Command::Start {
            id: id(AWAY),
            is_new_id: IdOrigin::Given,
            options,
            reply,
        });
        self.answer(&promise).expect("it is started");
    }

    fn answer<T: Send + 'static>(&mut self, promise: &Promise<T>) -> Answer<T> {
        settle(&mut self.hub);
        promise.take().expect("it was answered")
    }

    fn raise(&mut self, name: &str) {
        let promise = self.ask_raise(name, None);
        assert_eq!(self.answer(&promise), Ok(()), "{name}");
    }

    fn ask_raise(&mut self, name: &str, mark: Option<EventMark>) -> Promise<()> {
        let message = Message::EventRaised {
            name: name.into(),
            input: None,
            trace: None,
        };
        self.hub.ask(AWAY, |reply| Command::Raise {
            id: id(AWAY),
            message,
            mark,
            reply,
        })
    }

    /// Something else moves, so that who may leave memory does.
    fn look_around(&mut self) {
        for _ in 0..3 {
            let promise = self.hub.ask("other", |reply| Command::Purge {
                id: id("other"),
                key: None,
                reply,
            });
            let refused = self.answer(&promise).expect_err("there is no other");
            assert_eq!(refused.kind, RequestErrorKind::NotFound);
        }
    }

    fn suspend(&mut self) {
        let promise = self.hub.ask(AWAY, |reply| Command::Suspend {
            id: id(AWAY),
            reason: None,
            reply,
        });
        assert_eq!(self.answer(&promise), Ok(()));
    }

    fn resume(&mut self) {
        let promise = self.hub.ask(AWAY, |reply| Command::Resume {
            id: id(AWAY),
            reason: None,
            reply,
        });
        assert_eq!(self.answer(&promise), Ok(()));
    }

    fn cancel(&mut self) {
        let promise = self.hub.ask(AWAY, |reply| Command::Cancel {
            id: id(AWAY),
            reason: None,
            reply,
        });
        assert_eq!(self.answer(&promise), Ok(()));
    }

    fn terminate(&mut self) -> Promise<()> {
        self.hub.ask(AWAY, |reply| Command::Terminate {
            id: id(AWAY),
            reason: Some("enough".to_owned()),
            output: None,
            children: ParentClosePolicy::Abandon,
            reply,
        })
    }

    fn rewind(&mut self) {
        let promise = self.hub.ask(AWAY, |reply| Command::Rewind {
            id: id(AWAY),
            reason: None,
            reply,
        });
        assert_eq!(self.answer(&promise), Ok(()));
    }

    /// The turns sent since the last time.
    fn sent(&mut self) -> Vec<Sent> {
        settle(&mut self.hub);
        std::mem::take(&mut *self.elsewhere.sent.lock().expect("nobody panics"))
    }

    /// The one turn that was sent.
    fn turn(&mut self) -> Sent {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.into_iter().next().expect("there is one")
    }

    /// Is the turn still wanted?
    fn end(&mut self, turn: &Sent, answer: TurnAnswer) -> bool {
        let promise = self.hub.end_turn(turn.address.clone(), answer);
        self.answer(&promise).expect("the hub lives")
    }

    fn ran(&mut self, turn: &Sent, actions: Vec<Action>) {
        assert!(self.end(turn, ran(actions)), "{turn:?}");
    }

    fn row(&self) -> InstanceRow {
        let row = self.store.instance(&id(AWAY)).expect("it reads");
        row.expect("it is there")
    }

    fn status(&self) -> Status {
        self.row().status
    }

    fn history(&self) -> Vec<String> {
        words(&read_history(&*self.store, &self.row()).expect("it reads"))
    }

    fn messages(&self) -> usize {
        self.store.load(PartitionId(0)).expect("it reads").messages.len()
    }

    /// Nothing is left and nothing is wrong.
    fn is_clean(&self) {
        let loaded = self.store.load(PartitionId(0)).expect("it reads");
        assert!(loaded.messages.is_empty(), "{:?}", loaded.messages.len());
        assert!(loaded.tasks.is_empty() && loaded.timers.is_empty());
        let found = verify(&*self.store).expect("it reads").problems;
        assert!(found.is_empty(), "{found:?}");
    }
}

fn open(store: Arc<MemoryStore>, elsewhere: &Arc<Elsewhere>, seed: u64, start: Timestamp) -> SimHub {
    let code = Arc::new(Code {
        elsewhere: elsewhere.clone(),
        store: store.clone(),
    });
    let options = SimOptions {
        seed,
        start,
        limits: Limits {
            // Whatever may leave memory does.
            futures_bytes_max: 1,
            payload_inline_bytes: 64,
            turn_bytes_max: TURN_BYTES_MAX,
            locked_entities_max: 2,
            ..Limits::default()
        },
        ..SimOptions::default()
    };
    let (seen, tables) = (elsewhere.clone(), store.clone());
    SimHub::open(
        store,
        code,
        options,
        Box::new(move |request, _| {
            let (seen, tables) = (seen.clone(), tables.clone());
            request.receipt.request(move || {
                let open = tables.load(PartitionId(0)).expect("it reads").tasks.len();
                seen.receipts.lock().expect("nobody panics").push(open);
            });
            AttemptOutcome::Completed(None)
        }),
        Box::new(|_| {
            OperationsEnded::from(OperationOutcome {
                outcome: Ok(None),
                state: None,
                effects: Vec::new(),
            })
        }),
    )
    .expect("the store can be read")
}

fn ran(actions: Vec<Action>) -> TurnAnswer {
    TurnAnswer::Ran {
        actions,
        unread: Vec::new(),
        events_taken: None,
        span: None,
    }
}

/// A value of so many bytes.
fn bytes(count: usize) -> Option<Payload> {
    Some(format!("\"{}\"", "x".repeat(count - 2)).as_str().into())
}

fn raised(name: &str) -> EventKind {
    EventKind::EventRaised {
        name: name.into(),
        input: None,
        trace: None,
    }
}

fn complete() -> Vec<Action> {
    vec![Action::Complete { result: None }]
}

fn fail() -> Vec<Action> {
    let failure = Failure::new("Planned", "as planned");
    vec![Action::Fail { failure }]
}

fn schedule(task: u32) -> Action {
    Action::ScheduleTask {
        task: TaskId(task),
        name: "work".into(),
        input: None,
        options: TaskOptions::default(),
    }
}

const FIRST: [&str; 2] = ["OrchestratorStarted", "ExecutionStarted"];

#[test]
fn a_first_turn_is_stored_before_it_is_sent_and_pending_until_it_is_answered() {
    let mut ground = Ground::new();
    ground.begin();
    let turn = ground.turn();
    assert_eq!(turn.past, [""; 0]);
    assert_eq!(turn.new, FIRST);
    // The instance, and the message that begins it.
    assert_eq!(turn.stored, Some((Status::Pending, 1)));
    assert_eq!(ground.status(), Status::Pending);
    assert_eq!(ground.history(), [""; 0]);
    ground.ran(&turn, Vec::new());
    assert_eq!(ground.status(), Status::Running);
    assert_eq!(ground.history(), FIRST);
    ground.is_clean();
    assert!(!ground.end(&turn, ran(complete())), "it is answered once");
    assert_eq!(ground.status(), Status::Running);
}

#[test]
fn events_of_a_turn_that_is_out_are_answered_at_once_and_come_in_the_next_in_order() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    for name in ["a", "b", "c"] {
        ground.raise(name);
    }
    assert!(ground.sent().is_empty(), "one turn is open at a time");
    assert_eq!(ground.messages(), 4);
    ground.ran(&first, Vec::new());
    let next = ground.turn();
    assert_eq!(next.past, FIRST);
    assert_eq!(next.new, ["OrchestratorStarted", "a", "b", "c"]);
    ground.ran(&next, complete());
    assert_eq!(ground.status(), Status::Completed);
    ground.is_clean();
}

#[test]
fn events_that_were_not_taken_are_delivered_again_before_what_came_since() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    for name in ["a", "b", "c"] {
        ground.raise(name);
    }
    ground.ran(&first, Vec::new());
    let next = ground.turn();
    ground.raise("d");
    let some = TurnAnswer::Ran {
        actions: Vec::new(),
        unread: Vec::new(),
        events_taken: Some(2),
        span: None,
    };
    assert!(ground.end(&next, some));
    let again = ground.turn();
    assert_eq!(again.past[2..], ["OrchestratorStarted", "a"]);
    assert_eq!(again.new, ["OrchestratorStarted", "b", "c", "d"]);
    assert_eq!(ground.messages(), 3);
    ground.ran(&again, complete());
    ground.is_clean();
}

#[test]
fn a_turn_of_which_nothing_was_taken_is_delivered_again() {
    // All of it was taken as read, so what the worker had not looked at never came again.
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.ran(&first, Vec::new());
    for taken in [0, 1] {
        ground.raise("a");
        let turn = ground.turn();
        assert_eq!(turn.new, ["OrchestratorStarted", "a"]);
        let none = TurnAnswer::Ran {
            actions: Vec::new(),
            unread: Vec::new(),
            events_taken: Some(taken),
            span: None,
        };
        assert!(ground.end(&turn, none));
        let again = ground.turn();
        assert_eq!(again.new, ["OrchestratorStarted", "a"], "{taken} taken");
        ground.ran(&again, Vec::new());
    }
    let turn = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let read = ["a", "a"];
    let history = ground.history();
    let events: Vec<_> = history.iter().filter(|name| name.len() == 1).cloned().collect();
    assert_eq!(events, turn(&read));
    ground.is_clean();
}

#[test]
fn a_termination_takes_the_turn_back() {
    let mut ground = Ground::new();
    ground.begin();
    let turn = ground.turn();
    ground.raise("a");
    let promise = ground.terminate();
    assert_eq!(ground.answer(&promise), Ok(()));
    assert_eq!(ground.status(), Status::Terminated);
    let withdrawn = ground.elsewhere.withdrawn.lock().expect("nobody panics").clone();
    assert_eq!(withdrawn, std::slice::from_ref(&turn.address));
    assert!(!ground.end(&turn, ran(complete())), "the answer comes too late");
    assert_eq!(ground.status(), Status::Terminated);
    ground.is_clean();
}

#[test]
fn a_request_to_cancel_is_seen_before_the_end() {
    // It waited for the turn that was out, which ended the instance: it was acknowledged, and
    // nobody saw it.
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.ran(&first, Vec::new());
    ground.raise("a");
    let turn = ground.turn();
    ground.cancel();
    assert!(!ground.end(&turn, ran(complete())), "it was taken back");
    let told = ground.turn();
    assert_eq!(told.new, ["OrchestratorStarted", "a", "CancelRequested"]);
    ground.cancel();
    assert!(ground.sent().is_empty(), "a repeat does not take it back again");
    ground.ran(&told, complete());
    ground.is_clean();
}

#[test]
fn one_that_is_cancelled_before_its_first_answer_needs_no_worker() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.raise("a");
    ground.cancel();
    assert_eq!(ground.status(), Status::Canceled);
    assert!(!ground.end(&first, ran(complete())));
    ground.is_clean();
}

#[test]
fn a_suspension_takes_the_turn_back_and_a_resume_gives_what_waited() {
    // Together with what the turn had told of, the suspension went to the code, which had to
    // answer first: without a worker the instance was never suspended.
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.ran(&first, Vec::new());
    ground.raise("a");
    let turn = ground.turn();
    ground.raise("b");
    ground.suspend();
    assert_eq!(ground.status(), Status::Suspended);
    assert!(ground.sent().is_empty(), "nothing is sent to who is suspended");
    assert!(!ground.end(&turn, ran(complete())), "it was taken back");
    ground.raise("c");
    assert!(ground.sent().is_empty());
    ground.resume();
    assert_eq!(ground.status(), Status::Running, "no worker is needed for it");
    let next = ground.turn();
    assert_eq!(next.new, ["OrchestratorStarted", "a", "b", "c"]);
    let told = ["ExecutionSuspended", "OrchestratorStarted", "ExecutionResumed"];
    assert_eq!(next.past[3..], told);
    ground.ran(&next, complete());
    ground.is_clean();
}

#[test]
fn a_second_suspension_counts_though_the_resumed_turn_is_out() {
    // The status stayed Suspended until the turn after the resume was answered: the second request
    // was refused as a repeat, and the instance went on.
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.ran(&first, Vec::new());
    ground.suspend();
    ground.raise("a");
    ground.resume();
    let resumed = ground.turn();
    ground.suspend();
    assert_eq!(ground.status(), Status::Suspended);
    assert!(!ground.end(&resumed, ran(complete())));
    ground.crash();
    assert_eq!(ground.status(), Status::Suspended);
    assert!(ground.sent().is_empty());
    ground.resume();
    let last = ground.turn();
    assert_eq!(last.new, ["OrchestratorStarted", "a"]);
    ground.ran(&last, complete());
    ground.is_clean();
}

#[test]
fn one_that_is_suspended_before_its_first_answer_begins_after_the_resume() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.raise("a");
    ground.suspend();
    assert_eq!(ground.status(), Status::Suspended);
    assert!(!ground.end(&first, ran(complete())));
    ground.crash();
    assert!(ground.sent().is_empty());
    ground.resume();
    assert_eq!(ground.status(), Status::Pending);
    let again = ground.turn();
    assert_eq!(again.new, ["OrchestratorStarted", "ExecutionStarted", "a"]);
    ground.ran(&again, complete());
    ground.is_clean();
}

#[test]
fn the_next_execution_gets_what_was_unread_then_what_came_meanwhile() {
    for crashes in [false, true] {
        let mut ground = Ground::new();
        ground.begin();
        let first = ground.turn();
        ground.raise("c");
        ground.raise("d");
        let again = TurnAnswer::Ran {
            actions: vec![Action::ContinueAsNew {
                version: None,
                input: None,
            }],
            unread: vec![raised("a"), raised("b")],
            events_taken: None,
            span: None,
        };
        assert!(ground.end(&first, again));
        let mut next = ground.turn();
        if crashes {
            ground.crash();
            next = ground.turn();
        }
        assert_eq!(next.past, [""; 0]);
        assert_eq!(next.new[..2], FIRST);
        assert_eq!(next.new[2..], ["a", "b", "c", "d"], "crashes: {crashes}");
        ground.ran(&next, complete());
        ground.is_clean();
    }
}

#[test]
fn after_a_crash_the_turn_is_sent_again() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.raise("a");
    ground.crash();
    let again = ground.turn();
    assert_eq!(again.new, ["OrchestratorStarted", "ExecutionStarted", "a"]);
    ground.ran(&again, vec![schedule(0)]);
    let answered = ground.turn();
    assert_eq!(answered.new, ["OrchestratorStarted", "TaskCompleted"]);
    ground.crash();
    let answered = ground.turn();
    assert_eq!(answered.new, ["OrchestratorStarted", "TaskCompleted"]);
    assert_eq!(answered.past[2..], ["a", "TaskScheduled"]);
    ground.ran(&answered, complete());
    ground.is_clean();
    assert_eq!(first.new, FIRST);
}

#[test]
fn a_start_in_place_of_a_living_instance_takes_its_turn_back() {
    let mut ground = Ground::new();
    ground.begin();
    let old = ground.turn();
    ground.raise("a");
    ground.start(ReusePolicy::TerminateAndStart);
    let new = ground.turn();
    assert_eq!(new.new, FIRST, "nothing of the old one is left");
    assert!(!ground.end(&old, ran(complete())));
    assert_eq!(ground.status(), Status::Pending);
    ground.ran(&new, complete());
    ground.is_clean();
}

#[test]
fn one_whose_turn_is_out_does_not_leave_memory() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.raise("a");
    ground.look_around();
    assert_eq!(ground.hub.counters().evictions, 0);
    ground.ran(&first, Vec::new());
    let next = ground.turn();
    assert_eq!(next.past, FIRST);
    ground.ran(&next, Vec::new());
    ground.look_around();
    ground.raise("b");
    let after = ground.turn();
    assert!(ground.hub.counters().evictions > 0, "it left when it might");
    assert_eq!(
        after.past,
        [
            "OrchestratorStarted",
            "ExecutionStarted",
            "OrchestratorStarted",
            "a"
        ]
    );
    ground.ran(&after, complete());
    ground.is_clean();
}

#[test]
fn a_timer_that_fires_while_a_turn_is_out_comes_in_the_next() {
    for crashes in [false, true] {
        let mut ground = Ground::new();
        ground.begin();
        let first = ground.turn();
        let fire_at = ground.hub.now() + Duration::from_secs(5);
        let timer = Action::CreateTimer {
            task: TaskId(0),
            fire_at,
        };
        ground.ran(&first, vec![timer]);
        // The clock has gone on: the timer has fired already, so the turn that is out tells of it.
        let mut fired = ground.turn();
        assert_eq!(fired.new, ["OrchestratorStarted", "TimerFired"]);
        let later = ground.hub.now() + Duration::from_secs(5);
        let second = Action::CreateTimer {
            task: TaskId(1),
            fire_at: later,
        };
        ground.raise("a");
        ground.ran(&fired, vec![second]);
        let out = ground.turn();
        assert_eq!(out.new, ["OrchestratorStarted", "a"]);
        settle(&mut ground.hub);
        assert!(ground.hub.now() >= later, "its time has come while a turn is out");
        if crashes {
            ground.crash();
            fired = ground.turn();
            assert_eq!(fired.new.len(), 3, "{fired:?}");
        } else {
            ground.ran(&out, Vec::new());
            fired = ground.turn();
            assert_eq!(fired.new, ["OrchestratorStarted", "TimerFired"]);
        }
        ground.ran(&fired, complete());
        ground.is_clean();
    }
}

#[test]
fn a_fault_parks_the_instance_with_what_waits() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.raise("a");
    let fault = Fault::new(FaultKind::Missing, "no such code there");
    assert!(ground.end(&first, TurnAnswer::Fault(fault)));
    let parked = ground.row().parked.expect("it is parked");
    assert_eq!(parked.message, "no such code there");
    ground.raise("b");
    assert!(ground.sent().is_empty());
    // Another start of the hub is another chance.
    ground.crash();
    let again = ground.turn();
    assert_eq!(again.new, ["OrchestratorStarted", "ExecutionStarted", "a", "b"]);
    ground.ran(&again, complete());
    assert!(ground.row().parked.is_none());
    ground.is_clean();
}

#[test]
fn one_that_failed_is_rewound_and_purged() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.ran(&first, vec![schedule(0)]);
    let second = ground.turn();
    ground.ran(&second, fail());
    assert_eq!(ground.status(), Status::Failed);
    ground.rewind();
    assert_eq!(ground.status(), Status::Running);
    let again = ground.turn();
    assert_eq!(again.new[0], "OrchestratorStarted");
    assert!(again.past.contains(&"TaskScheduled".to_owned()), "{again:?}");
    assert!(!again.past.contains(&"ExecutionFailed".to_owned()), "{again:?}");
    let purge = |ground: &mut Ground| {
        let promise = ground.hub.ask(AWAY, |reply| Command::Purge {
            id: id(AWAY),
            key: None,
            reply,
        });
        ground.answer(&promise).map_err(|error| error.kind)
    };
    assert_eq!(purge(&mut ground), Err(RequestErrorKind::InstanceRunning));
    ground.ran(&again, complete());
    assert_eq!(purge(&mut ground), Ok(()));
    assert!(ground.store.instance(&id(AWAY)).expect("it reads").is_none());
    assert!(!ground.end(&again, ran(Vec::new())), "nobody waits for it");
    ground.is_clean();
}

#[test]
fn what_came_while_the_last_turn_failed_is_there_after_a_rewind() {
    // It was acknowledged and dropped with the end of the instance.
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.raise("a");
    ground.ran(&first, fail());
    assert_eq!(ground.status(), Status::Failed);
    ground.rewind();
    let again = ground.turn();
    assert_eq!(again.past, [""; 0]);
    assert_eq!(again.new, ["OrchestratorStarted", "ExecutionStarted", "a"]);
    ground.ran(&again, complete());
    ground.is_clean();
}

#[test]
fn a_termination_of_one_that_is_being_cancelled_leaves_no_activity() {
    // Both in one turn: the activity was told to end and waited for, by nobody.
    let mut running = 0;
    for seed in 0..20 {
        let mut ground = Ground::seeded(seed);
        ground.begin();
        let first = ground.turn();
        let promise = ground.hub.end_turn(first.address.clone(), ran(vec![schedule(0)]));
        while ground.hub.running_tasks().count() == 0 {
            ground.hub.step().expect("the store takes it");
        }
        let cancelled = ground.hub.ask(AWAY, |reply| Command::Cancel {
            id: id(AWAY),
            reason: None,
            reply,
        });
        let terminated = ground.terminate();
        while ground.status() != Status::Terminated {
            ground.hub.step().expect("the store takes it");
        }
        running += u64::from(!ground.history().contains(&"TaskCompleted".to_owned()));
        let left = ground.store.load(PartitionId(0)).expect("it reads").tasks.len();
        assert_eq!(left, 0, "seed {seed}: no activity is waited for");
        assert_eq!(ground.answer(&terminated), Ok(()));
        assert_eq!((promise.take(), cancelled.take()), (Some(Ok(true)), Some(Ok(()))));
        ground.is_clean();
    }
    assert!(running > 0, "no activity was open when the end came");
}

#[test]
fn an_event_with_a_key_is_taken_once_while_a_turn_is_out() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    let mark = |fingerprint| EventMark {
        key: hash::wide("key"),
        fingerprint,
    };
    for crashes in [false, false, true] {
        if crashes {
            ground.crash();
        }
        let promise = ground.ask_raise("a", Some(mark(1)));
        assert_eq!(ground.answer(&promise), Ok(()));
    }
    let promise = ground.ask_raise("b", Some(mark(2)));
    let refused = ground.answer(&promise).expect_err("the key is another event's");
    assert_eq!(refused.kind, RequestErrorKind::EventIdReused);
    let again = ground.turn();
    assert_eq!(first.new, FIRST);
    assert_eq!(again.new, ["OrchestratorStarted", "ExecutionStarted", "a"]);
    ground.ran(&again, complete());
    ground.is_clean();
}

#[test]
fn a_receipt_is_given_once_the_outcome_is_durable() {
    let mut ground = Ground::new();
    ground.begin();
    let first = ground.turn();
    ground.ran(&first, vec![schedule(0)]);
    let next = ground.turn();
    assert_eq!(next.new, ["OrchestratorStarted", "TaskCompleted"]);
    // The turn that tells of it is out, and yet the worker knows: the task is stored as done.
    let receipts = ground.elsewhere.receipts.lock().expect("nobody panics").clone();
    assert_eq!(receipts, [0]);
    ground.ran(&next, complete());
    ground.is_clean();
}

#[test]
fn a_receipt_is_given_for_an_outcome_that_nobody_wants() {
    let mut unwanted = 0;
    for seed in 0..60 {
        let mut ground = Ground::seeded(seed);
        ground.begin();
        let first = ground.turn();
        let promise = ground.hub.end_turn(first.address.clone(), ran(vec![schedule(0)]));
        while ground.hub.running_tasks().count() == 0 {
            assert_ne!(ground.hub.step().expect("the store takes it"), Stepped::Idle);
        }
        let terminated = ground.terminate();
        while ground.hub.attempts_run == 0 && ground.hub.running_tasks().count() > 0 {
            ground.hub.step().expect("the store takes it");
        }
        let ran_then = ground.hub.attempts_run;
        assert_eq!(ground.answer(&promise), Ok(true));
        assert_eq!(ground.answer(&terminated), Ok(()));
        assert_eq!(ground.status(), Status::Terminated);
        let given = ground.elsewhere.receipts.lock().expect("nobody panics").len() as u64;
        assert_eq!(given, ran_then, "seed {seed}");
        unwanted += u64::from(given > 0 && !ground.history().contains(&"TaskCompleted".to_owned()));
        ground.is_clean();
    }
    assert!(unwanted > 5, "only {unwanted} outcomes were wanted by nobody");
}

/// What a worker asked for was bounded by the count of its actions alone.
#[test]
fn a_turn_that_asks_for_more_than_a_limit_allows_parks_its_instance() {
    let value = |task: u32, count| Action::ScheduleTask {
        task: TaskId(task),
        name: "act".into(),
        input: bytes(count),
        options: TaskOptions::default(),
    };
    let lock = |count: u32| Action::LockEntities {
        task: TaskId(1),
        entities: (0..count)
            .map(|number| EntityId::new("counter", &number.to_string()).expect("a good name"))
            .collect(),
        request: None,
    };
    let unread = |count| {
        vec![EventKind::EventRaised {
            name: "later".into(),
            input: bytes(count),
            trace: None,
        }]
    };
    let next = || {
        vec![Action::ContinueAsNew {
            version: None,
            input: None,
        }]
    };
    for (actions, unread, said) in [
        (vec![value(1, 5_000), value(2, 5_000)], Vec::new(), None),
        (
            vec![value(1, 5_000), value(2, 5_001)],
            Vec::new(),
            Some("one turn asks for 10001 bytes of values, turn_bytes_max is 10000"),
        ),
        (next(), unread(10_000), None),
        (next(), unread(10_001), Some("turn_bytes_max is 10000")),
        (vec![lock(2)], Vec::new(), None),
        (
            vec![lock(3)],
            Vec::new(),
            Some("3 entities in one lock, locked_entities_max is 2"),
        ),
    ] {
        let mut ground = Ground::new();
        ground.begin();
        let turn = ground.turn();
        let answer = TurnAnswer::Ran {
            actions,
            unread,
            events_taken: None,
            span: None,
        };
        assert!(ground.end(&turn, answer));
        let parked = ground.row().parked;
        assert_eq!(parked.is_some(), said.is_some(), "{parked:?}");
        if let (Some(fault), Some(said)) = (parked, said) {
            assert_eq!(fault.kind, FaultKind::Oversized);
            assert!(fault.message.contains(said), "{}", fault.message);
            let ended = ground.terminate();
            assert_eq!(ground.answer(&ended), Ok(()));
            ground.is_clean();
        }
    }
}

#[test]
fn a_turn_takes_no_more_bytes_of_messages_than_it_may() {
    for is_suspended in [false, true] {
        let mut ground = Ground::new();
        ground.begin();
        let turn = ground.turn();
        ground.ran(&turn, Vec::new());
        let names = ["a", "b", "c", "d", "e"];
        let first = match is_suspended {
            true => {
                ground.suspend();
                Vec::new()
            }
            false => {
                ground.raise("first");
                vec![ground.turn()]
            }
        };
        for name in names {
            let message = Message::EventRaised {
                name: name.into(),
                input: bytes(4_000),
                trace: None,
            };
            let raised = ground.hub.ask(AWAY, |reply| Command::Raise {
                id: id(AWAY),
                message,
                mark: None,
                reply,
            });
            assert_eq!(ground.answer(&raised), Ok(()), "{name}");
        }
        match first.first() {
            Some(turn) => ground.ran(turn, Vec::new()),
            None => ground.resume(),
        }
        let mut came = Vec::new();
        while came.len() < names.len() {
            let turn = ground.turn();
            let events: Vec<_> = turn
                .new
                .iter()
                .filter(|word| names.contains(&word.as_str()))
                .cloned()
                .collect();
            assert!(events.len() <= 2, "{events:?}");
            came.extend(events);
            ground.ran(&turn, Vec::new());
        }
        assert_eq!(came, names, "suspended: {is_suspended}");
    }
}

/// A child's id was in use by another instance, and the end of the parent ended that one.
#[test]
fn the_end_of_a_parent_leaves_an_instance_alone_that_only_has_the_id_of_its_child() {
    for parent_close in [ParentClosePolicy::Terminate, ParentClosePolicy::Cancel] {
        for (seed, recursive) in (0..60).flat_map(|seed| [(seed, false), (seed, true)]) {
            let mut ground = Ground::seeded(seed);
            ground.begin();
            let turn = ground.turn();
            let options = Box::new(StartOptions {
                name: "other".to_owned(),
                id: Some(id("other")),
                ..StartOptions::default()
            });
            let started = ground.hub.ask("other", |reply| Command::Start {
                id: id("other"),
                is_new_id: IdOrigin::Given,
                options,
                reply,
            });
            ground.answer(&started).expect("it is started");
            let child = Action::StartOrchestration {
                task: TaskId(1),
                name: "child".into(),
                version: None,
                instance: id("other"),
                input: None,
                link: ChildLink::Awaited,
                options: ChildOptions {
                    parent_close,
                    ..ChildOptions::default()
                },
            };
            ground.hub.end_turn(turn.address.clone(), ran(vec![child]));
            match recursive {
                true => drop(ground.hub.ask(AWAY, |reply| Command::Terminate {
                    id: id(AWAY),
                    reason: None,
                    output: None,
                    children: ParentClosePolicy::Terminate,
                    reply,
                })),
                false => drop(ground.terminate()),
            }
            settle(&mut ground.hub);
            assert_eq!(ground.status(), Status::Terminated, "seed {seed}");
            let other = ground.store.instance(&id("other")).expect("it reads");
            let other = other.expect("it is there");
            assert_eq!((other.status, other.events), (Status::Pending, 0), "seed {seed}");
            let sent = ground.sent();
            let told = sent
                .iter()
                .any(|turn| turn.new.iter().any(|word| word == "CancelRequested"));
            assert!(!told, "seed {seed}: {sent:?}");
        }
    }
}

/// An event that was acknowledged while the turn that ended its instance was at a worker was in no
/// history, no list and no counter.
#[test]
fn an_event_that_comes_while_the_last_turn_is_out_is_listed_as_unconsumed() {
    let end = |ground: &mut Ground, turn: &Sent, how: &str| match how {
        "Completed" => ground.ran(turn, complete()),
        "Failed" => ground.ran(turn, fail()),
        "Canceled" => {
            let failure = Failure::cancelled(None);
            ground.ran(turn, vec![Action::EndCancelled { failure }]);
        }
        _ => {
            let promise = ground.terminate();
            assert_eq!(ground.answer(&promise), Ok(()));
        }
    };
    for how in ["Completed", "Failed", "Canceled", "Terminated"] {
        for is_crashed in [false, true] {
            let mut ground = Ground::new();
            ground.begin();
            let mut turn = ground.turn();
            ground.raise("a");
            ground.raise("b");
            if is_crashed {
                ground.crash();
                turn = ground.turn();
            }
            end(&mut ground, &turn, how);
            let row = ground.row();
            assert_eq!(row.status.as_str(), how);
            let history = ground.history();
            let late: Vec<_> = history
                .iter()
                .filter(|word| ["a", "b"].contains(&word.as_str()))
                .collect();
            assert_eq!(late, ["a", "b"], "{how}: {history:?}");
            if is_crashed {
                // After a crash they are part of the turn that is sent again.
                assert_eq!(
                    unconsumed_of(&row).count,
                    u64::from(how == "Terminated") * 2,
                    "{how}"
                );
            } else {
                let unconsumed = unconsumed_of(&row);
                assert_eq!((unconsumed.count, unconsumed.names.len()), (2, 2), "{how}");
            }
            ground.is_clean();
        }
    }
}

#[test]
fn what_a_suspended_instance_holds_at_its_end_is_listed_and_a_rewind_delivers_it() {
    let mut ground = Ground::new();
    ground.begin();
    let turn = ground.turn();
    ground.ran(&turn, Vec::new());
    ground.suspend();
    ground.raise("a");
    let ended = ground.terminate();
    assert_eq!(ground.answer(&ended), Ok(()));
    assert_eq!(unconsumed_of(&ground.row()).names, ["a".into()]);
    assert_eq!(ground.history().last().map(String::as_str), Some("a"));
    ground.is_clean();

    let mut ground = Ground::new();
    ground.begin();
    let turn = ground.turn();
    ground.raise("a");
    ground.ran(&turn, fail());
    assert_eq!(unconsumed_of(&ground.row()).count, 1);
    ground.rewind();
    assert_eq!(unconsumed_of(&ground.row()).count, 0);
    let turn = ground.turn();
    assert!(turn.new.contains(&"a".to_owned()), "{turn:?}");
    ground.ran(&turn, complete());
    assert_eq!(unconsumed_of(&ground.row()).count, 0, "the code was given it");
    ground.is_clean();
}

#[test]
fn an_event_that_comes_while_a_turn_continues_as_new_goes_to_the_next_execution() {
    let mut ground = Ground::new();
    ground.begin();
    let turn = ground.turn();
    ground.raise("a");
    let next = Action::ContinueAsNew {
        version: None,
        input: None,
    };
    ground.ran(&turn, vec![next]);
    let turn = ground.turn();
    assert_eq!(turn.new, ["OrchestratorStarted", "ExecutionStarted", "a"]);
    ground.ran(&turn, complete());
    assert_eq!(unconsumed_of(&ground.row()).count, 0);
    ground.is_clean();
}
