//! One seed: random programs, clients and crashes; then everything heals and is counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dalsegno_core::event::ParentClosePolicy;
use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::limits::Limits;
use dalsegno_core::message::ReusePolicy;
use dalsegno_core::orchestration::Orchestration;
use dalsegno_core::query::{LargeValues, Status};
use dalsegno_core::store::{InstanceRow, Store};
use dalsegno_core::{EntityId, InstanceId, Payload, Timestamp};
use dalsegno_engine::input::{Command, IdOrigin};
use dalsegno_engine::loader::{complete, read_entity, read_history};
use dalsegno_engine::partition::{Counters, Entropy};
use dalsegno_engine::request::{RequestErrorKind, StartOptions, Started};
use dalsegno_engine::simulation::{Promise, SimHub, SimOptions, Stepped};
use dalsegno_engine::verify::verify;
use dalsegno_store_memory::MemoryStore;
use futures::FutureExt;

use crate::interpreter::{Programs, event_name, input_of};
use crate::program::{COUNTERS, Program, Statement, below, counted, generate, result_of};

/// Steps under faults.
const STEPS_WITH_FAULTS: usize = 1_500;

/// Steps within which a healed hub has to come to rest.
const STEPS_TO_HEAL: usize = 400_000;

/// What a seed was like, so that a pass can tell that it tried something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// Crashes.
    pub crashes: u64,
    /// Instances that completed with the right sum.
    pub completed: u64,
    /// Instances that were terminated.
    pub terminated: u64,
    /// What the partitions counted, summed over all lives.
    pub counters: Counters,
}

/// Something a client asked for and has to ask again until it is answered.
struct Asked<T> {
    promise: Option<Promise<T>>,
    is_done: bool,
}

impl<T> Asked<T> {
    fn new() -> Self {
        Self {
            promise: None,
            is_done: false,
        }
    }

    fn is_open(&self) -> bool {
        !self.is_done && self.promise.is_none()
    }
}

/// One instance under test.
struct Subject {
    id: InstanceId,
    program: usize,
    start: Asked<Started>,
    /// Events its program and no child waits for, by name.
    events: Vec<(String, i64, Asked<()>)>,
    /// A victim is suspended, resumed and terminated; nothing is known of its sum.
    is_victim: bool,
    suspension: Option<Promise<()>>,
}

struct World {
    seed: u64,
    entropy: Entropy,
    programs: Arc<Vec<Program>>,
    store: Arc<MemoryStore>,
    hub: SimHub,
    subjects: Vec<Subject>,
    /// Signals by clients: answered, and those that may or may not have come through.
    signals: [i64; COUNTERS as usize],
    maybe: [i64; COUNTERS as usize],
    open_signals: Vec<(usize, i64, Promise<()>)>,
    /// Attempts by idempotency key: what really ran.
    ledger: Arc<Mutex<BTreeMap<String, u32>>>,
    marks: Marks,
    tiny: bool,
}

/// The programs of a seed, for a hub in a process of its own.
pub fn programs_of(seed: u64) -> Vec<Program> {
    generate(&mut Entropy::seeded(seed), 12)
}

/// Runs one seed.
///
/// # Errors
/// The first invariant that broke, in words.
pub fn run(seed: u64) -> Result<Marks, String> {
    let mut world = World::new(seed)?;
    world.run_with_faults()?;
    world.heal()?;
    world.check()?;
    Ok(world.marks)
}

fn options(seed: u64, start: Timestamp, tiny: bool) -> SimOptions {
    let rule = LimiterRule {
        rate: Some((200, Duration::from_secs(1))),
        burst: Some(3),
        concurrency: Some(2),
    };
    let mut limits = Limits::default();
    if tiny {
        limits.futures_bytes_max = 1;
    }
    if seed.is_multiple_of(3) {
        // Almost every value is large then, and kept apart.
        limits.payload_inline_bytes = 2;
    }
    SimOptions {
        seed,
        start,
        limits,
        duplicates: 0.1,
        limiters: vec![("echo".into(), rule)],
        ..SimOptions::default()
    }
}

fn open(
    store: &Arc<MemoryStore>,
    programs: &Arc<Vec<Program>>,
    options: SimOptions,
    ledger: &Arc<Mutex<BTreeMap<String, u32>>>,
) -> Result<SimHub, String> {
    let ledger = ledger.clone();
    let run_attempt = Box::new(
        move |request: &dalsegno_engine::executor::ActivityRequest,
              future: futures::future::BoxFuture<'static, _>| {
            let mut ledger = ledger.lock().expect("nobody panics with it");
            *ledger.entry(request.idempotency_key()).or_insert(0) += 1;
            future.now_or_never().expect("simulated activities do not wait")
        },
    );
    let run_operation = Box::new(|future: futures::future::BoxFuture<'static, _>| {
        future.now_or_never().expect("simulated operations do not wait")
    });
    let executor = Arc::new(Programs(programs.clone()));
    SimHub::open(store.clone(), executor, options, run_attempt, run_operation)
}

impl World {
    fn new(seed: u64) -> Result<Self, String> {
        let mut entropy = Entropy::seeded(seed);
        let count = 2 + below(&mut entropy, 6);
        let programs = Arc::new(generate(&mut entropy, count));
        let tiny = below(&mut entropy, 2) == 0;
        let store = Arc::new(MemoryStore::new(1 + below(&mut entropy, 3) as u32));
        let ledger = Arc::default();
        let hub = open(
            &store,
            &programs,
            options(entropy.next_u64(), SimOptions::default().start, tiny),
            &ledger,
        )?;
        let subjects = (0..2 + below(&mut entropy, 6))
            .map(|number| subject(&mut entropy, &programs, number))
            .collect();
        Ok(Self {
            seed,
            entropy,
            programs,
            store,
            hub,
            subjects,
            signals: Default::default(),
            maybe: Default::default(),
            open_signals: Vec::new(),
            ledger,
            marks: Marks::default(),
            tiny,
        })
    }

    fn run_with_faults(&mut self) -> Result<(), String> {
        let crash_share = [0.0, 0.002, 0.01, 0.03][below(&mut self.entropy, 4)];
        for _ in 0..STEPS_WITH_FAULTS {
            if self.entropy.share() < 0.1 {
                self.act_as_client();
            }
            if self.entropy.share() < crash_share {
                self.crash()?;
            }
            self.step()?;
            self.collect();
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Stepped, String> {
        let stepped = self.hub.step().map_err(|error| error.to_string())?;
        if let Stepped::WaitsUntil(due) = stepped {
            let early = Duration::from_millis(1);
            let far = due.since(self.hub.now());
            self.hub.advance(if self.entropy.share() < 0.5 {
                far
            } else {
                far.min(early)
            });
        }
        Ok(stepped)
    }

    /// The process dies: what was not appended is gone, what was asked and not answered is unknown.
    fn crash(&mut self) -> Result<(), String> {
        self.collect();
        self.marks.crashes += 1;
        self.marks.counters = self.marks.counters.plus(&self.hub.counters());
        let findings = verify(&*self.store).map_err(|error| error.to_string())?;
        if let Some(problem) = findings.problems.first() {
            return Err(format!("after a crash: {problem}"));
        }
        let now = self.hub.now();
        self.store = Arc::new(self.store.reopen());
        self.hub = open(
            &self.store,
            &self.programs,
            options(self.entropy.next_u64(), now, self.tiny),
            &self.ledger,
        )?;
        for subject in &mut self.subjects {
            subject.start.promise = None;
            subject.suspension = None;
            for (_, _, asked) in &mut subject.events {
                asked.promise = None;
            }
        }
        for (counter, amount, _) in self.open_signals.drain(..) {
            self.maybe[counter] += amount;
        }
        Ok(())
    }

    fn act_as_client(&mut self) {
        let number = below(&mut self.entropy, self.subjects.len());
        match below(&mut self.entropy, 6) {
            0 | 1 => self.start(number),
            2 | 3 => self.raise(number),
            4 => self.signal(),
            _ => self.harass(number),
        }
    }

    fn start(&mut self, number: usize) {
        let subject = &mut self.subjects[number];
        if !subject.start.is_open() {
            return;
        }
        let options = Box::new(StartOptions {
            name: "program".to_owned(),
            input: Some(input_of(subject.program)),
            reuse: ReusePolicy::ReturnExisting,
            idempotency_key: Some(subject.id.to_string()),
            ..StartOptions::default()
        });
        let id = subject.id.clone();
        let promise = self.hub.ask(subject.id.as_str(), |reply| Command::Start {
            id,
            is_new_id: IdOrigin::Given,
            options,
            reply,
        });
        subject.start.promise = Some(promise);
    }

    fn raise(&mut self, number: usize) {
        let subject = &mut self.subjects[number];
        let open: Vec<usize> = (0..subject.events.len())
            .filter(|at| subject.events[*at].2.is_open())
            .collect();
        if open.is_empty() || !subject.start.is_done {
            return;
        }
        let at = open[below(&mut self.entropy, open.len())];
        let (name, value, asked) = &mut subject.events[at];
        let (id, name, input) = (
            subject.id.clone(),
            name.as_str().into(),
            Some(Payload::from(value.to_string())),
        );
        asked.promise = Some(self.hub.ask(subject.id.as_str(), |reply| Command::Raise {
            id,
            name,
            input,
            reply,
        }));
    }

    fn signal(&mut self) {
        let counter = below(&mut self.entropy, COUNTERS as usize);
        let amount = 1 + below(&mut self.entropy, 5) as i64;
        let entity = EntityId::new("counter", &counter.to_string()).expect("digits are a valid key");
        let input = Some(Payload::from(amount.to_string()));
        let id = entity.to_string();
        let promise = self.hub.ask(&id, |reply| Command::Signal {
            entity,
            operation: "add".into(),
            input,
            at: None,
            reply,
        });
        self.open_signals.push((counter, amount, promise));
    }

    /// Suspends and resumes anybody, terminates victims.
    fn harass(&mut self, number: usize) {
        let subject = &mut self.subjects[number];
        if !subject.start.is_done || subject.suspension.is_some() {
            return;
        }
        let id = subject.id.clone();
        let reason = None;
        let choice = below(&mut self.entropy, if subject.is_victim { 3 } else { 2 });
        subject.suspension = Some(self.hub.ask(subject.id.as_str(), |reply| match choice {
            0 => Command::Suspend { id, reason, reply },
            1 => Command::Resume { id, reason, reply },
            _ => Command::Terminate {
                id,
                reason,
                children: ParentClosePolicy::Terminate,
                reply,
            },
        }));
    }

    /// Takes the answers that have come.
    fn collect(&mut self) {
        for subject in &mut self.subjects {
            if subject.start.promise.as_ref().and_then(Promise::take).is_some() {
                subject.start = Asked {
                    promise: None,
                    is_done: true,
                };
            }
            for (_, _, asked) in &mut subject.events {
                if let Some(answer) = asked.promise.as_ref().and_then(Promise::take) {
                    let is_over = answer
                        .err()
                        .is_none_or(|error| error.kind == RequestErrorKind::Finished);
                    *asked = Asked {
                        promise: None,
                        is_done: is_over,
                    };
                }
            }
            if subject.suspension.as_ref().and_then(Promise::take).is_some() {
                subject.suspension = None;
            }
        }
        let signals = &mut self.signals;
        self.open_signals.retain(|(counter, amount, promise)| {
            let answered = promise.take().is_some();
            if answered {
                signals[*counter] += amount;
            }
            !answered
        });
    }

    /// No more faults: everything asked for is asked until answered, everybody is resumed.
    fn heal(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_TO_HEAL {
            for number in 0..self.subjects.len() {
                self.start(number);
                self.raise(number);
                self.resume(number);
            }
            self.collect();
            if self.step()? == Stepped::Idle && self.is_settled()? {
                self.marks.counters = self.marks.counters.plus(&self.hub.counters());
                return Ok(());
            }
        }
        Err(format!(
            "nothing rests after {STEPS_TO_HEAL} steps without faults: {}",
            self.unfinished()?
        ))
    }

    fn resume(&mut self, number: usize) {
        let subject = &mut self.subjects[number];
        if subject.start.is_done && subject.suspension.is_none() && self.entropy.share() < 0.01 {
            let id = subject.id.clone();
            let promise = self.hub.ask(subject.id.as_str(), |reply| Command::Resume {
                id,
                reason: None,
                reply,
            });
            subject.suspension = Some(promise);
        }
    }

    fn is_settled(&mut self) -> Result<bool, String> {
        let asked = self
            .subjects
            .iter()
            .all(|subject| subject.start.is_done && subject.events.iter().all(|event| event.2.is_done));
        Ok(asked && self.open_signals.is_empty() && self.unfinished()?.is_empty())
    }

    fn unfinished(&self) -> Result<String, String> {
        let mut open = Vec::new();
        for subject in &self.subjects {
            let row = self
                .store
                .instance(&subject.id)
                .map_err(|error| error.to_string())?;
            match row {
                Some(row) if row.status.is_final() => {}
                Some(row) => open.push(format!(
                    "{} is {} {:?}, {}",
                    subject.id,
                    row.status.as_str(),
                    row.parked,
                    self.awaited(&row)?
                )),
                None => open.push(format!("{} is not there", subject.id)),
            }
        }
        Ok(open.join(", "))
    }

    /// What an instance waits for, for the report of a failure.
    fn awaited(&self, row: &InstanceRow) -> Result<String, String> {
        let history = read_history(&*self.store, row).map_err(|error| error.to_string())?;
        let orchestration = Orchestration::fold(row.clone(), &history);
        Ok(format!(
            "waits for {:?} after {} events",
            orchestration.tasks(),
            history.len()
        ))
    }

    fn check(&mut self) -> Result<(), String> {
        let findings = verify(&*self.store).map_err(|error| error.to_string())?;
        if let Some(problem) = findings.problems.first() {
            return Err(format!("at the end: {problem}"));
        }
        self.check_sums()?;
        self.check_counters()?;
        self.check_rest()
    }

    fn check_sums(&mut self) -> Result<(), String> {
        for subject in &self.subjects {
            let row = self
                .store
                .instance(&subject.id)
                .map_err(|error| error.to_string())?;
            let mut row = row.ok_or_else(|| format!("{} was acknowledged and is gone", subject.id))?;
            complete(&*self.store, &mut row, LargeValues::Read).map_err(|error| error.to_string())?;
            if row.status == Status::Terminated && subject.is_victim {
                self.marks.terminated += 1;
                continue;
            }
            let expected = result_of(&self.programs, subject.program).to_string();
            let output = row.output.as_ref().map(|output| output.as_str().to_owned());
            if row.status != Status::Completed || output.as_deref() != Some(&expected) {
                let status = row.status.as_str();
                return Err(format!(
                    "{} is {status} with {output:?}, expected {expected}; {:?}",
                    subject.id, row.failure
                ));
            }
            self.marks.completed += 1;
        }
        Ok(())
    }

    /// Counters hold what was acknowledged, each once; what is unknown may or may not be in.
    fn check_counters(&mut self) -> Result<(), String> {
        if self.subjects.iter().any(|subject| subject.is_victim) {
            return Ok(());
        }
        let mut certain = self.signals;
        for subject in &self.subjects {
            for (sum, amount) in certain.iter_mut().zip(counted(&self.programs, subject.program)) {
                *sum += amount;
            }
        }
        for (number, expected) in certain.into_iter().enumerate() {
            let id = EntityId::new("counter", &number.to_string()).map_err(|error| error.to_string())?;
            let row = read_entity(&*self.store, &id).map_err(|error| error.to_string())?;
            let state = row
                .and_then(|row| row.state)
                .map_or(0, |state| state.as_str().parse::<i64>().unwrap_or(i64::MIN));
            let most = expected + self.maybe[number];
            if !(expected..=most).contains(&state) {
                return Err(format!(
                    "counter {number} is {state}, expected {expected} to {most}"
                ));
            }
        }
        Ok(())
    }

    /// At rest nothing is left over: no task, timer, message or lock.
    fn check_rest(&mut self) -> Result<(), String> {
        let hub = self.store.load_hub().map_err(|error| error.to_string())?;
        for partition in 0..hub.partitions {
            let loaded = self
                .store
                .load(dalsegno_core::PartitionId(partition))
                .map_err(|error| error.to_string())?;
            let left = [
                loaded.messages.len(),
                loaded.tasks.len(),
                loaded.timers.len(),
                loaded.busy_entities.len(),
            ];
            if left != [0; 4] {
                return Err(format!(
                    "at rest, messages, tasks, timers and locks are left: {left:?}"
                ));
            }
        }
        let most = self
            .ledger
            .lock()
            .map_err(|error| error.to_string())?
            .values()
            .copied()
            .max()
            .unwrap_or(0);
        let allowed = 2 * (u32::try_from(self.marks.crashes).unwrap_or(u32::MAX) + 1);
        if most > allowed {
            return Err(format!(
                "an activity ran {most} times with {} crashes (seed {})",
                self.marks.crashes, self.seed
            ));
        }
        Ok(())
    }
}

fn subject(entropy: &mut Entropy, programs: &[Program], number: usize) -> Subject {
    let program = choose_program(entropy, programs);
    let statements = programs[program].statements.iter().enumerate();
    let events = statements.filter_map(|(at, statement)| match statement {
        Statement::Event(value) => Some((event_name(at), *value, Asked::new())),
        _ => None,
    });
    Subject {
        id: InstanceId::trusted(format!("subject-{number}")),
        program,
        start: Asked::new(),
        events: events.collect(),
        is_victim: below(entropy, 5) == 0,
        suspension: None,
    }
}

/// The number of a program whose children wait for no events: nobody knows their ids.
pub fn choose_program(entropy: &mut Entropy, programs: &[Program]) -> usize {
    fn waits(programs: &[Program], number: usize) -> bool {
        programs[number]
            .statements
            .iter()
            .any(|statement| match statement {
                Statement::Event(_) => true,
                Statement::Child(child) => waits(programs, *child),
                _ => false,
            })
    }
    let fits = |number: &usize| {
        let children = programs[*number]
            .statements
            .iter()
            .filter_map(|statement| match statement {
                Statement::Child(child) => Some(*child),
                _ => None,
            });
        !children.into_iter().any(|child| waits(programs, child))
    };
    let fitting: Vec<usize> = (0..programs.len()).filter(fits).collect();
    fitting[below(entropy, fitting.len())]
}
