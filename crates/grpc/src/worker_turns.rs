//! Turns of orchestrators that run in this process for a hub elsewhere.
//!
//! They run on threads of their own: code that reaches for an async runtime there is told so,
//! rather than starting something that no replay knows of. An execution stays alive between its
//! turns as long as there is room; what the hub sends as past is then compared by count and by the
//! last turn's events, and not replayed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use dalsegno_core::{Action, Fault, InstanceId};
use dalsegno_engine::Executor;
use dalsegno_engine::executor::{Execution, ExecutionInfo};
use hashbrown::HashMap;
use prost::bytes::Bytes;

use crate::worker_wire::{self as worker_wire, Reader};
use crate::{proto, wire};

/// Threads that run turns; an instance has always the same one.
#[derive(Debug)]
pub(crate) struct Turns {
    threads: Vec<mpsc::Sender<Job>>,
    counts: Arc<Counts>,
}

/// How often an execution was still alive, and how often it was replayed.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kept: AtomicU64,
    pub(crate) replayed: AtomicU64,
    pub(crate) asked: AtomicU64,
}

/// What becomes of a turn.
#[derive(Debug)]
pub(crate) enum Ran {
    /// It is answered; the token is still to be filled in.
    Answered(proto::OrchestratorResponse),
    /// It cannot run here: for another worker.
    NotHere(String),
}

struct Job {
    request: proto::OrchestratorRequest,
    token: String,
    done: Box<dyn FnOnce(Ran) + Send>,
}

impl Turns {
    /// So many threads, which keep executions of at most so many bytes alive.
    pub(crate) fn new(
        executor: &Arc<dyn Executor>,
        threads: usize,
        bytes_max: usize,
    ) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let counts = Arc::<Counts>::default();
        let start = |number| {
            let (sender, jobs) = mpsc::channel::<Job>();
            let mut live = Live::new(executor.clone(), bytes_max / threads, counts.clone());
            let run = move || {
                while let Ok(Job { request, token, done }) = jobs.recv() {
                    done(live.run(request, token));
                }
            };
            let thread = std::thread::Builder::new().name(format!("turns-{number}"));
            thread.spawn(run).map(|_| sender)
        };
        Ok(Self {
            threads: (0..threads).map(start).collect::<Result<_, _>>()?,
            counts,
        })
    }

    /// Runs a turn and calls `done` with what became of it.
    pub(crate) fn run(
        &self,
        request: proto::OrchestratorRequest,
        token: String,
        done: impl FnOnce(Ran) + Send + 'static,
    ) {
        let hash = dalsegno_core::hash::fingerprint(&[&request.instance_id]);
        let threads = u64::try_from(self.threads.len()).unwrap_or(1);
        let thread = usize::try_from(hash % threads).unwrap_or_default();
        let done = Box::new(done);
        if let Some(thread) = self.threads.get(thread) {
            // A thread that is gone has panicked, which the log tells; its turns time out.
            let _ = thread.send(Job { request, token, done });
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// The executions of one thread.
struct Live {
    executor: Arc<dyn Executor>,
    kept: HashMap<String, Kept>,
    /// Who was used when, the longest ago first.
    uses: BTreeMap<u64, String>,
    last_use: u64,
    bytes: usize,
    bytes_max: usize,
    counts: Arc<Counts>,
}

/// One execution that is alive.
struct Kept {
    execution: Box<dyn Execution>,
    execution_id: String,
    reader: Reader,
    /// Of the delivery of its last turn.
    token: String,
    /// Events of its history, if its last turn was taken as it was answered.
    events: usize,
    /// Where the new events of its last turn are in there, and what they were.
    told: (usize, usize, u64),
    used: u64,
    bytes: usize,
}

/// What keeps a turn from running.
enum Problem {
    Fault(Fault),
    NotHere(String),
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::NotHere(text)
    }
}

impl Live {
    fn new(executor: Arc<dyn Executor>, bytes_max: usize, counts: Arc<Counts>) -> Self {
        Self {
            executor,
            kept: HashMap::new(),
            uses: BTreeMap::new(),
            last_use: 0,
            bytes: 0,
            bytes_max,
            counts,
        }
    }

    fn run(&mut self, request: proto::OrchestratorRequest, token: String) -> Ran {
        let instance = request.instance_id.clone();
        let mut response = match self.turn(request, token) {
            Ok(response) => response,
            Err(Problem::Fault(fault)) => {
                tracing::warn!(instance_id = instance, %fault, "the code does not fit its history");
                worker_wire::fault(&fault)
            }
            Err(Problem::NotHere(text)) => return Ran::NotHere(text),
        };
        response.instance_id = instance;
        Ran::Answered(response)
    }

    fn turn(
        &mut self,
        request: proto::OrchestratorRequest,
        token: String,
    ) -> Result<proto::OrchestratorResponse, Problem> {
        let kept = self.forget(&request.instance_id);
        let mut kept = match kept.filter(|kept| kept.fits(&request)) {
            Some(kept) => {
                self.counts.kept.fetch_add(1, Ordering::Relaxed);
                kept
            }
            None if request.kept_execution.is_some() => {
                self.counts.asked.fetch_add(1, Ordering::Relaxed);
                return Ok(proto::OrchestratorResponse {
                    requires_history: true,
                    ..Default::default()
                });
            }
            None => self.replay(&request)?,
        };
        let events = kept.reader.new_turn(&request.new_events)?;
        let mut actions = kept.execution.advance(&events)?;
        let unread = match actions.last() {
            Some(Action::ContinueAsNew { .. }) => kept.execution.unconsumed_events(),
            _ => Vec::new(),
        };
        actions
            .iter_mut()
            .for_each(|action| self.complete_options(action));
        kept.reader.note_asked(&actions);
        let is_over = actions.iter().any(ends);
        let recorded = actions
            .iter()
            .filter(|action| action.to_event().is_some())
            .count();
        let past = match request.kept_execution {
            Some(_) => kept.events,
            None => request.past_events.len(),
        };
        kept.token = token;
        kept.told = (
            past,
            past + request.new_events.len(),
            fingerprint(&request.new_events),
        );
        kept.events = past + request.new_events.len() + recorded;
        if !is_over {
            self.keep(request.instance_id, kept);
        }
        Ok(worker_wire::answer(actions, unread))
    }

    fn replay(&self, request: &proto::OrchestratorRequest) -> Result<Kept, Problem> {
        if !request.past_events.is_empty() {
            self.counts.replayed.fetch_add(1, Ordering::Relaxed);
        }
        let started = worker_wire::started(&request.past_events)
            .or_else(|| worker_wire::started(&request.new_events))
            .ok_or_else(|| "its history does not say what was started".to_owned())?;
        let execution_id = request.execution_id.clone().unwrap_or_default();
        let info = ExecutionInfo {
            instance: InstanceId::trusted(request.instance_id.as_str()),
            execution_id: worker_wire::execution_id(&execution_id),
            name: started.name.into(),
            version: started
                .version
                .filter(|version| !version.is_empty())
                .map(Into::into),
            trace: wire::trace(started.parent_trace_context),
            span: None,
            tags: sorted(started.tags),
            // The hub checks its own limit.
            locked_entities_max: usize::MAX,
        };
        let Some(mut execution) = self.executor.execution(&info) else {
            let version = info
                .version
                .as_deref()
                .map(|version| format!(" version {version}"));
            let version = version.unwrap_or_default();
            return Err(Problem::NotHere(format!(
                "orchestrator {}{version} is not registered here",
                info.name
            )));
        };
        let mut reader = Reader::default();
        let past = reader.past(&request.past_events)?;
        execution.replay(&past)?;
        Ok(Kept {
            execution,
            execution_id,
            reader,
            token: String::new(),
            events: 0,
            told: (0, 0, 0),
            used: 0,
            bytes: 0,
        })
    }

    /// What the definitions of activities say is told with their calls: the hub does not know them.
    fn complete_options(&self, action: &mut Action) {
        let Action::ScheduleTask {
            name, input, options, ..
        } = action
        else {
            return;
        };
        let Some(settings) = self.executor.activity_settings(name) else {
            return;
        };
        options.retry = options.retry.or(settings.retry);
        options.timeout = options.timeout.or(settings.timeout);
        if let Some(limiter) = settings.limiter {
            let key = self.executor.limiter_key(name, input.as_ref());
            options.pass(&limiter, &key);
        }
    }

    fn forget(&mut self, instance: &str) -> Option<Kept> {
        let kept = self.kept.remove(instance)?;
        self.uses.remove(&kept.used);
        self.bytes -= kept.bytes;
        Some(kept)
    }

    fn keep(&mut self, instance: String, mut kept: Kept) {
        self.last_use += 1;
        kept.used = self.last_use;
        kept.bytes = kept.execution.size_bytes() + instance.len();
        self.bytes += kept.bytes;
        self.uses.insert(kept.used, instance.clone());
        self.kept.insert(instance, kept);
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.uses.pop_first() else {
                return;
            };
            self.forget(&oldest);
        }
    }
}

impl Kept {
    /// Is what the hub calls past what this execution has been through? The same code on the same
    /// events asked for the same, so the last turn's events stand for all before them.
    fn fits(&self, request: &proto::OrchestratorRequest) -> bool {
        if let Some(kept) = &request.kept_execution {
            return kept.completion_token == self.token
                && usize::try_from(kept.past_events).is_ok_and(|events| events == self.events);
        }
        let (from, to, told) = self.told;
        request.execution_id.as_deref() == Some(self.execution_id.as_str())
            && request.past_events.len() == self.events
            && request
                .past_events
                .get(from..to)
                .is_some_and(|events| fingerprint(events) == told)
    }
}

fn ends(action: &Action) -> bool {
    matches!(
        action,
        Action::Complete { .. }
            | Action::Fail { .. }
            | Action::EndCancelled { .. }
            | Action::ContinueAsNew { .. }
    )
}

fn fingerprint(events: &[Bytes]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    events.hash(&mut hasher);
    hasher.finish()
}

fn sorted(tags: std::collections::HashMap<String, String>) -> Vec<(String, String)> {
    let mut tags: Vec<_> = tags.into_iter().collect();
    tags.sort();
    tags
}
