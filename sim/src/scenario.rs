//! One seed: random programs, clients and faults; then everything heals and is counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dalsegno_core::Timestamp;
use dalsegno_core::limiter::LimiterRule;
use dalsegno_core::query::InstanceQuery;
use dalsegno_core::store::CommitError;
use dalsegno_engine::executor::{ActivityRequest, AttemptOutcome};
use dalsegno_engine::input::{Command, InMemory};
use dalsegno_engine::marks::Suspects;
use dalsegno_engine::partition::{Counters, Entropy};
use dalsegno_engine::simulation::{Promise, SimHub, SimOptions, Stepped};
use dalsegno_engine::verify::verify;
use dalsegno_store_tests::{FailingStore, is_planned};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::elsewhere::Answered;
use crate::ground::{Ground, StoreFaults};
use crate::interpreter::Programs;
use crate::program::{COUNTERS, Program, Statement, below, generate};
use crate::subject::Subject;
use crate::swarm::Swarm;

pub use crate::ground::Trace;
pub use crate::subject::choose_program;

/// Steps under faults.
const STEPS_WITH_FAULTS: usize = 1_500;

/// Steps within which a healed hub has to come to rest; none of 10,000 seeds took 8,000.
const STEPS_TO_HEAL: usize = 40_000;

/// Steps of a host that has lost its hub and does not know yet.
const STEPS_FENCED: usize = 200;

/// What a seed was like, so that a pass can tell that it tried something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Crashes, whatever the reason.
    pub crashes: u64,
    /// Crashes of a recovery.
    pub crashed_recoveries: u64,
    /// Hubs taken over by another host.
    pub takeovers: u64,
    /// Former hosts that were told so by the store.
    pub fenced: u64,
    /// Batches that were certainly not written.
    pub refused: u64,
    /// Batches of which the store could not tell.
    pub unknown: u64,
    /// Processes that ended because the disk failed.
    pub broken_disks: u64,
    /// Jumps of the clock.
    pub clock_jumps: u64,
    /// Instances that completed with the right sum.
    pub completed: u64,
    /// Instances that were terminated.
    pub terminated: u64,
    /// Instances that were cancelled and ended so.
    pub canceled: u64,
    /// Children that were, with their parent.
    pub canceled_children: u64,
    /// Living instances that were replaced.
    pub replaced: u64,
    /// Finished instances that were started again.
    pub restarted: u64,
    /// Failed instances that were rewound.
    pub rewound: u64,
    /// Rewinds that were asked for.
    pub rewinds_asked: u64,
    /// Instances that were purged.
    pub purged: u64,
    /// Children that were purged with them.
    pub purged_children: u64,
    /// Instances that failed because their history was full.
    pub histories_full: u64,
    /// Events that were refused because too many messages waited.
    pub busy: u64,
    /// Starts for later that began in time.
    pub delayed_starts: u64,
    /// Clients that waited and were answered.
    pub waited: u64,
    /// Turns whose code ran elsewhere and was answered.
    pub away_turns: u64,
    /// Answers to turns that nobody waited for any more.
    pub stale_turns: u64,
    /// Turns that were lost at a worker and sent to another.
    pub lost_turns: u64,
    /// Events that no code waited for, and that are in a history.
    pub surplus_events: u64,
    /// Seeds whose counters were compared.
    pub exact: u64,
    /// What the partitions counted, summed over all lives.
    pub counters: Counters,
    /// A hash over all that was appended, if it was wanted.
    pub digest: Option<u64>,
}

impl Marks {
    /// Both together; the hashes are dropped.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            crashes: self.crashes + other.crashes,
            crashed_recoveries: self.crashed_recoveries + other.crashed_recoveries,
            takeovers: self.takeovers + other.takeovers,
            fenced: self.fenced + other.fenced,
            refused: self.refused + other.refused,
            unknown: self.unknown + other.unknown,
            broken_disks: self.broken_disks + other.broken_disks,
            clock_jumps: self.clock_jumps + other.clock_jumps,
            completed: self.completed + other.completed,
            terminated: self.terminated + other.terminated,
            canceled: self.canceled + other.canceled,
            canceled_children: self.canceled_children + other.canceled_children,
            replaced: self.replaced + other.replaced,
            restarted: self.restarted + other.restarted,
            rewound: self.rewound + other.rewound,
            rewinds_asked: self.rewinds_asked + other.rewinds_asked,
            purged: self.purged + other.purged,
            purged_children: self.purged_children + other.purged_children,
            histories_full: self.histories_full + other.histories_full,
            busy: self.busy + other.busy,
            delayed_starts: self.delayed_starts + other.delayed_starts,
            waited: self.waited + other.waited,
            away_turns: self.away_turns + other.away_turns,
            stale_turns: self.stale_turns + other.stale_turns,
            lost_turns: self.lost_turns + other.lost_turns,
            surplus_events: self.surplus_events + other.surplus_events,
            exact: self.exact + other.exact,
            counters: self.counters.plus(&other.counters),
            digest: None,
        }
    }

    /// Marks that every pass of some size has to hit, by name.
    pub fn named(&self) -> [(&'static str, u64); 29] {
        [
            ("crashes", self.crashes),
            ("crashed_recoveries", self.crashed_recoveries),
            ("takeovers", self.takeovers),
            ("fenced", self.fenced),
            ("refused", self.refused),
            ("unknown", self.unknown),
            ("broken_disks", self.broken_disks),
            ("clock_jumps", self.clock_jumps),
            ("completed", self.completed),
            ("terminated", self.terminated),
            ("canceled", self.canceled),
            ("canceled_children", self.canceled_children),
            ("replaced", self.replaced),
            ("restarted", self.restarted),
            ("rewound", self.rewound),
            ("rewinds_asked", self.rewinds_asked),
            ("purged", self.purged),
            ("purged_children", self.purged_children),
            ("histories_full", self.histories_full),
            ("busy", self.busy),
            ("delayed_starts", self.delayed_starts),
            ("waited", self.waited),
            ("away_turns", self.away_turns),
            ("stale_turns", self.stale_turns),
            ("lost_turns", self.lost_turns),
            ("surplus_events", self.surplus_events),
            ("exact", self.exact),
            ("replays", self.counters.replays),
            ("dropped_messages", self.counters.dropped_messages),
        ]
    }
}

/// All that a seed is made of.
pub(crate) struct World {
    pub(crate) entropy: Entropy,
    pub(crate) swarm: Swarm,
    pub(crate) programs: Arc<Vec<Program>>,
    pub(crate) executor: Programs,
    pub(crate) ground: Ground,
    pub(crate) failing: Arc<FailingStore>,
    pub(crate) faults: StoreFaults,
    pub(crate) hub: SimHub,
    pub(crate) subjects: Vec<Subject>,
    /// Signals by clients: answered, and those that may or may not have come through.
    pub(crate) signals: [i64; COUNTERS as usize],
    pub(crate) maybe: [i64; COUNTERS as usize],
    pub(crate) open_signals: Vec<(usize, i64, Promise<()>)>,
    /// What concerns workers elsewhere; apart, so that it does not shift what follows.
    pub(crate) distance: Entropy,
    /// The same for events that no code waits for.
    pub(crate) surplus: Entropy,
    /// Answers of workers that were not heard of yet.
    pub(crate) answered: Vec<Answered>,
    pub(crate) ledger: Ledger,
    pub(crate) marks: Marks,
    /// The latest time that any clock has shown.
    latest: Timestamp,
    /// Who is suspected at the next opening.
    suspects: Suspects,
    /// The first answer that was wrong.
    pub(crate) problem: Option<String>,
}

/// Attempts by idempotency key: what really ran.
pub(crate) type Ledger = Arc<Mutex<BTreeMap<String, u32>>>;

/// The programs of a seed, for a hub in a process of its own. Their signals are due at once: who
/// waits for the instances cannot tell when a later one has come.
pub fn programs_of(seed: u64) -> Vec<Program> {
    let mut programs = generate(&mut Entropy::seeded(seed), 12);
    let statements = programs.iter_mut().flat_map(|program| &mut program.statements);
    for statement in statements {
        if let Statement::SignalLater(counter, amount, _) = *statement {
            *statement = Statement::SignalCounter(counter, amount);
        }
    }
    programs
}

/// Runs one seed.
///
/// # Errors
/// The first invariant that broke, in words.
pub fn run(seed: u64) -> Result<Marks, String> {
    run_traced(seed, Trace::Off)
}

/// The same with a trace.
///
/// # Errors
/// As [`run`].
pub fn run_traced(seed: u64, trace: Trace) -> Result<Marks, String> {
    World::new(seed, trace)?.run()
}

impl World {
    fn new(seed: u64, trace: Trace) -> Result<Self, String> {
        let mut entropy = Entropy::seeded(seed);
        let swarm = Swarm::of(&mut entropy, seed);
        let count = 2 + below(&mut entropy, 6);
        let programs = Arc::new(generate(&mut entropy, count));
        let mut executor = Programs::new(programs.clone()).with_workers(swarm.elsewhere, seed);
        if swarm.cancellations > 0.0 {
            executor = executor.with_following_children();
        }
        let ground = Ground::new(&swarm, 1 + below(&mut entropy, 3) as u32)?;
        let faults = StoreFaults::new(&swarm, entropy.next_u64(), trace);
        let failing = Arc::new(FailingStore::new(ground.store(), faults.clone()));
        let ledger = Ledger::default();
        let options = options(&swarm, entropy.next_u64(), SimOptions::default().start);
        let hub = faults.without_failed_reads(|| open(&failing, &executor, options, &ledger))?;
        let mut subjects: Vec<Subject> = (0..2 + below(&mut entropy, 6))
            .map(|number| Subject::random(&mut entropy, &programs, number))
            .collect();
        for subject in &mut subjects {
            if entropy.share() < swarm.delayed_starts {
                let delay = Duration::from_millis(below(&mut entropy, 5_000) as u64);
                subject.scheduled = Some(hub.now() + delay);
            }
        }
        Ok(Self {
            suspects: Suspects::default(),
            latest: hub.now(),
            entropy,
            swarm,
            programs,
            executor,
            ground,
            failing,
            faults,
            hub,
            subjects,
            signals: Default::default(),
            maybe: Default::default(),
            open_signals: Vec::new(),
            distance: Entropy::seeded(!seed),
            surplus: Entropy::seeded(seed.rotate_left(32)),
            answered: Vec::new(),
            ledger,
            marks: Marks::default(),
            problem: None,
        })
    }

    fn run(mut self) -> Result<Marks, String> {
        for _ in 0..STEPS_WITH_FAULTS {
            self.one_fault()?;
            if self.entropy.share() < self.swarm.clients {
                self.act_as_client()?;
            }
            self.act_elsewhere()?;
            self.raise_surplus();
            self.step()?;
            self.collect()?;
        }
        self.heal()?;
        self.check()?;
        self.marks.digest = self.faults.digest();
        Ok(self.marks)
    }

    pub(crate) fn happens(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.entropy.share() < rate
    }

    /// Whatever may go wrong before the next step.
    fn one_fault(&mut self) -> Result<(), String> {
        if self.happens(self.swarm.checkpoints) {
            self.ground.fold(&mut self.entropy);
        }
        if self.happens(self.swarm.disk_faults) {
            self.ground.disturb(&mut self.entropy);
        }
        if self.happens(self.swarm.outages) {
            let is_broken = below(&mut self.entropy, 2) == 0;
            self.executor.set_broken(is_broken);
        }
        if self.happens(self.swarm.clock_jumps) {
            self.marks.clock_jumps += 1;
            let hours = 1 + below(&mut self.entropy, 24 * 30) as u64;
            self.hub.advance(Duration::from_secs(3_600 * hours));
        }
        if self.happens(self.swarm.takeovers) {
            self.take_over()?;
        }
        if self.happens(self.swarm.crashes) {
            self.crash()?;
        }
        Ok(())
    }

    /// Lets one thing happen. A process that its store has ended starts again.
    pub(crate) fn step(&mut self) -> Result<Stepped, String> {
        self.latest = self.latest.max(self.hub.now());
        match self.hub.step() {
            Ok(stepped) => {
                if let Stepped::WaitsUntil(due) = stepped {
                    self.wait_for(due);
                }
                Ok(stepped)
            }
            Err(error) => {
                self.fail(&error)?;
                Ok(Stepped::Moved)
            }
        }
    }

    fn wait_for(&mut self, due: Timestamp) {
        let early = Duration::from_millis(1);
        let far = due.since(self.hub.now());
        self.hub.advance(if self.entropy.share() < 0.5 {
            far
        } else {
            far.min(early)
        });
    }

    /// The store failed: as planned, or as the disk made it.
    fn fail(&mut self, error: &CommitError) -> Result<(), String> {
        let is_on_disk = self.swarm.is_on_disk;
        match error {
            CommitError::NotApplied(_) if is_planned(error) => self.marks.refused += 1,
            CommitError::NotApplied(cause) if is_on_disk && is_full(&**cause) => {
                self.marks.refused += 1;
                if below(&mut self.entropy, 4) == 0 {
                    self.ground.make_room();
                }
            }
            CommitError::Unknown(_) if is_planned(error) => {
                self.marks.unknown += 1;
                self.crash()?;
            }
            CommitError::Unknown(_) if is_on_disk => {
                self.marks.broken_disks += 1;
                self.crash()?;
            }
            // The disk died between two appends: nothing of this one is there.
            CommitError::NotApplied(_) if is_on_disk => {
                self.marks.broken_disks += 1;
                self.crash()?;
            }
            error => return Err(format!("the store refused a batch: {error}")),
        }
        Ok(())
    }

    /// The process dies: what was not appended is gone, what was asked and not answered is unknown.
    fn crash(&mut self) -> Result<(), String> {
        self.suspects = self.suspects();
        self.collect()?;
        self.marks.crashes += 1;
        self.marks.counters = self.marks.counters.plus(&self.hub.counters());
        // What was under way arrives before the next opening, or after it and is fenced.
        let comes_late = below(&mut self.entropy, 2) == 0;
        if !comes_late {
            self.failing.settle();
        }
        let may_crash_again = self.swarm.crashes > 0.0;
        let (ground, crashes) = self.ground.reopen(&mut self.entropy, may_crash_again)?;
        self.ground = ground;
        self.marks.crashed_recoveries += crashes;
        if comes_late {
            self.failing.settle();
        }
        self.verify("after a crash")?;
        let now = self.time_after_restart();
        self.hub = self.open_hub(now)?;
        self.forget_promises();
        Ok(())
    }

    pub(crate) fn verify(&self, when: &str) -> Result<(), String> {
        let findings = verify(&*self.ground.store()).map_err(|error| error.to_string())?;
        if let Some(problem) = findings.problems.first() {
            return Err(format!("{when}: {problem}"));
        }
        let query = InstanceQuery {
            limit: usize::MAX,
            ..InstanceQuery::default()
        };
        let page = self
            .ground
            .store()
            .list(&query)
            .map_err(|error| error.to_string())?;
        match page.rows.iter().find(|row| row.updated > self.latest) {
            Some(row) => Err(format!(
                "{when}: {} moved at {:?}, which no clock has reached: {:?}",
                row.id, row.updated, self.latest
            )),
            None => Ok(()),
        }
    }

    /// A machine's clock may have been set back while the process was down.
    fn time_after_restart(&mut self) -> Timestamp {
        let now = self.hub.now();
        if !self.happens(self.swarm.clock_jumps * 50.0) {
            return now;
        }
        self.marks.clock_jumps += 1;
        let back = below(&mut self.entropy, 3_600_000_000) as i64;
        Timestamp::from_micros(now.as_micros() - back)
    }

    fn open_hub(&mut self, now: Timestamp) -> Result<SimHub, String> {
        self.failing = Arc::new(FailingStore::new(self.ground.store(), self.faults.clone()));
        let mut options = options(&self.swarm, self.entropy.next_u64(), now);
        options.suspects = std::mem::take(&mut self.suspects);
        self.executor = self.executor.on_new_host();
        let faults = self.faults.clone();
        faults.without_failed_reads(|| open(&self.failing, &self.executor, options, &self.ledger))
    }

    /// Some of the activities that run, and anybody whose code might have run.
    fn suspects(&mut self) -> Suspects {
        let chance = self.swarm.suspicions;
        let tasks: Vec<_> = self.hub.running_tasks().collect();
        let counters = (0..COUNTERS).map(|counter| format!("@counter@{counter}"));
        let ids: Vec<_> = self
            .subjects
            .iter()
            .map(|subject| subject.id.to_string())
            .chain(counters)
            .collect();
        let mut is_suspect = || self.entropy.share() < chance;
        Suspects {
            tasks: tasks.into_iter().filter(|_| is_suspect()).collect(),
            ids: ids.into_iter().filter(|_| is_suspect()).collect(),
        }
    }

    fn forget_promises(&mut self) {
        self.answered.clear();
        self.subjects.iter_mut().for_each(Subject::forget_promises);
        for (counter, amount, _) in self.open_signals.drain(..) {
            self.maybe[counter] += amount;
        }
    }

    /// Another host opens the hub while this one lives. Whatever the former host is asked from
    /// now on, it must not answer.
    fn take_over(&mut self) -> Result<(), String> {
        if self.swarm.is_on_disk {
            // A folder has a lock: there is no second host.
            return Ok(());
        }
        self.collect()?;
        self.marks.takeovers += 1;
        self.marks.counters = self.marks.counters.plus(&self.hub.counters());
        self.ground = self.ground.reopen(&mut self.entropy, false)?.0;
        let next = self.open_hub(self.hub.now())?;
        let mut former = std::mem::replace(&mut self.hub, next);
        self.forget_promises();
        let answers = self.ask_former(&mut former);
        for _ in 0..below(&mut self.entropy, STEPS_FENCED) {
            match former.step() {
                Ok(Stepped::Moved) => {}
                Ok(_) => break,
                Err(CommitError::Fenced) => {
                    self.marks.fenced += 1;
                    break;
                }
                Err(error) if is_planned(&error) => {}
                Err(error) => return Err(format!("a fenced host was told: {error}")),
            }
        }
        match answers.0.take().is_some() || answers.1.take().is_some() {
            true => Err("a host that had lost its hub answered".to_owned()),
            false => Ok(()),
        }
    }

    /// A read and a write, as clients ask them who have not heard of the other host.
    fn ask_former(&mut self, former: &mut SimHub) -> (Promise<InMemory>, Promise<()>) {
        let number = below(&mut self.entropy, self.subjects.len());
        let id = self.subjects[number].id.clone();
        let status = former.ask(id.as_str(), |reply| Command::Status {
            id: id.clone(),
            reply,
        });
        let write = former.ask("meta", |reply| Command::SetMeta {
            name: "former".into(),
            data: Some(Vec::new()),
            reply,
        });
        (status, write)
    }

    /// No more faults: everything asked for is asked until answered, everybody goes on.
    fn heal(&mut self) -> Result<(), String> {
        self.swarm = self.swarm.healed();
        self.faults.heal();
        self.executor.set_broken(false);
        self.ground.heal();
        for _ in 0..STEPS_TO_HEAL {
            self.ask_for_the_rest()?;
            self.act_elsewhere()?;
            self.collect()?;
            if self.step()? == Stepped::Idle && self.is_answered_elsewhere() && self.is_settled()? {
                self.marks.counters = self.marks.counters.plus(&self.hub.counters());
                return Ok(());
            }
        }
        Err(format!(
            "nothing rests after {STEPS_TO_HEAL} steps without faults: {}",
            self.unfinished()?
        ))
    }
}

fn is_full(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    cause
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
}

fn options(swarm: &Swarm, seed: u64, start: Timestamp) -> SimOptions {
    let rule = LimiterRule {
        rate: Some((200, Duration::from_secs(1))),
        burst: Some(3),
        concurrency: Some(2),
    };
    SimOptions {
        seed,
        start,
        limits: swarm.limits.clone(),
        duplicates: swarm.duplicates,
        limiters: vec![("echo".into(), rule)],
        batch_turns_max: swarm.batch_turns_max,
        ..SimOptions::default()
    }
}

fn open(
    store: &Arc<FailingStore>,
    executor: &Programs,
    options: SimOptions,
    ledger: &Ledger,
) -> Result<SimHub, String> {
    let ledger = ledger.clone();
    let run_attempt = Box::new(
        move |request: &ActivityRequest, future: BoxFuture<'static, AttemptOutcome>| {
            let mut ledger = ledger.lock().expect("nobody panics with it");
            *ledger.entry(request.idempotency_key()).or_insert(0) += 1;
            future.now_or_never().expect("simulated activities do not wait")
        },
    );
    let run_operation = Box::new(|future: BoxFuture<'static, _>| {
        future.now_or_never().expect("simulated operations do not wait")
    });
    SimHub::open(
        store.clone(),
        Arc::new(executor.clone()),
        options,
        run_attempt,
        run_operation,
    )
}
