//! Orchestrations that leave memory between turns, at no cost of order.
//!
//! The hub's own eviction reads from the store, which lets other things go first: two runs of one
//! seed would differ for that reason alone. Here the code is thrown away and replayed within the
//! turn, so whatever differs is the code's own doing.

use std::sync::Arc;

use dalsegno_core::{Action, Event, EventKind, Fault};
use dalsegno_engine::executor::{Execution, ExecutionInfo, Executor};
use dalsegno_engine::explain::Reason;
use dalsegno_engine::partition::Entropy;

use crate::registry::Registry;

/// When an orchestration is thrown away and replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Never.
    Keep,
    /// Before every turn.
    Evict,
    /// Before every other turn, by the seed.
    Random,
}

/// An execution that is replayed before its turns.
pub(super) struct Forgetful {
    live: Box<dyn Execution>,
    registry: Arc<Registry>,
    info: ExecutionInfo,
    memory: Memory,
    entropy: Entropy,
    /// What was recorded so far, as the hub records it.
    history: Vec<Event>,
}

impl Forgetful {
    pub(super) fn new(
        live: Box<dyn Execution>,
        registry: Arc<Registry>,
        info: ExecutionInfo,
        memory: Memory,
        seed: u64,
    ) -> Self {
        Self {
            live,
            registry,
            info,
            memory,
            entropy: Entropy::seeded(seed),
            history: Vec::new(),
        }
    }

    fn forgets(&mut self) -> bool {
        let by_chance = self.entropy.share() < 0.5;
        !self.history.is_empty() && (self.memory == Memory::Evict || by_chance)
    }

    fn record(&mut self, events: &[Event], actions: &[Action]) {
        let Some(at) = events.last().map(|event| event.at) else {
            return;
        };
        self.history.extend_from_slice(events);
        let asked = actions.iter().filter_map(Action::to_event);
        let kinds = asked.chain([EventKind::OrchestratorCompleted]);
        self.history.extend(kinds.map(|kind| Event { at, kind }));
    }
}

impl Execution for Forgetful {
    fn replay(&mut self, history: &[Event]) -> Result<(), Fault> {
        self.history = history.to_vec();
        self.live.replay(history)
    }

    fn advance(&mut self, events: &[Event]) -> Result<Vec<Action>, Fault> {
        if self.forgets() {
            let fresh = self.registry.execution(&self.info);
            self.live = fresh.expect("what ran is still registered");
            self.live.replay(&self.history)?;
        }
        let actions = self.live.advance(events)?;
        self.record(events, &actions);
        Ok(actions)
    }

    fn unconsumed_events(&self) -> Vec<EventKind> {
        self.live.unconsumed_events()
    }

    fn waits_for(&self) -> Vec<Reason> {
        self.live.waits_for()
    }

    fn size_bytes(&self) -> usize {
        self.live.size_bytes()
    }
}
