//! Programs whose code runs elsewhere: simulated workers get turns and answer them late, twice,
//! after they were taken back, or never.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dalsegno_core::{Action, Event, EventKind, Fault, FaultKind};
use dalsegno_engine::executor::{Execution, ExecutionInfo, TurnAddress, TurnAnswer, TurnSender};
use dalsegno_engine::loader::read_history;
use dalsegno_engine::partition::Entropy;
use dalsegno_engine::simulation::Promise;

use crate::interpreter::Programs;
use crate::program::below;
use crate::scenario::World;

/// Chance that a worker does something with one of the turns that are out, per step.
const PACE: f64 = 0.3;

/// What one host has sent, and what has become of it. Another host knows nothing of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workers(Arc<Mutex<BTreeMap<Key, Sent>>>);

/// Number and instance of a turn.
type Key = (u64, String);

/// One turn at the workers.
#[derive(Clone, Debug)]
struct Sent {
    info: ExecutionInfo,
    address: TurnAddress,
    past: Vec<Event>,
    new: Vec<Event>,
    is_withdrawn: bool,
    was_taken: bool,
}

/// An answer that was given, and what is to be said of it.
#[derive(Debug)]
pub(crate) struct Answered {
    turn: Key,
    /// It was taken back before the answer was given.
    was_withdrawn: bool,
    /// The history that was sent was that of the store.
    is_exact: bool,
    promise: Promise<bool>,
}

/// One execution of a program elsewhere, as its host sees it.
#[derive(Debug)]
pub(crate) struct Away {
    pub(crate) workers: Workers,
    pub(crate) info: ExecutionInfo,
    pub(crate) past: Vec<Event>,
}

impl Workers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn is wanted no more.
    pub(crate) fn withdraw(&self, turn: &TurnAddress) {
        for sent in self.lock().values_mut() {
            sent.is_withdrawn |= sent.address == *turn;
        }
    }
}

impl Execution for Away {
    fn replay(&mut self, history: &[Event]) -> Result<(), Fault> {
        self.past.extend_from_slice(history);
        Ok(())
    }

    fn advance(&mut self, _events: &[Event]) -> Result<Vec<Action>, Fault> {
        Err(Fault::new(FaultKind::Missing, "its code is not here"))
    }

    fn send(&mut self, turn: &TurnAddress, events: &[Event]) -> Option<TurnSender> {
        let sent = Sent {
            info: self.info.clone(),
            address: turn.clone(),
            past: self.past.clone(),
            new: events.to_vec(),
            is_withdrawn: false,
            was_taken: false,
        };
        let workers = self.workers.clone();
        Some(TurnSender::new(move || {
            let key = (sent.address.number, sent.address.instance.to_string());
            workers.lock().insert(key, sent);
        }))
    }

    fn record(&mut self, events: &[Event]) {
        self.past.extend_from_slice(events);
    }
}

/// What a worker makes of a turn of which it takes so many events.
fn answer(programs: &Programs, sent: &Sent, taken: usize) -> TurnAnswer {
    let mut code = programs.interpreter(&sent.info);
    let advanced = code
        .replay(&sent.past)
        .and_then(|()| code.advance(&sent.new[..taken]));
    match advanced {
        Err(fault) => TurnAnswer::Fault(fault),
        Ok(actions) => TurnAnswer::Ran {
            actions,
            unread: code.unconsumed_events(),
            events_taken: (taken < sent.new.len()).then_some(taken),
            span: None,
        },
    }
}

impl World {
    /// A worker does something with one of the turns that are out, or nothing.
    pub(crate) fn act_elsewhere(&mut self) -> Result<(), String> {
        if self.swarm.elsewhere == 0.0 {
            return Ok(());
        }
        self.judge_turns()?;
        if self.distance.share() >= PACE {
            return Ok(());
        }
        let chosen = {
            let open = self.executor.workers().lock();
            match open.len() {
                0 => return Ok(()),
                count => open.iter().nth(below(&mut self.distance, count)),
            }
            .map(|(key, sent)| (key.clone(), sent.clone()))
        };
        let Some((key, sent)) = chosen else {
            return Ok(());
        };
        // One that is answered may be history, and cut by a rewind.
        let is_answered = sent.was_taken || self.answered.iter().any(|answer| answer.turn == key);
        let is_exact = is_answered || self.has_sent_all(&sent)?;
        if self.distance.share() < self.swarm.lost_turns {
            // The worker is gone; the turn is offered to the next one.
            self.marks.lost_turns += 1;
            return Ok(());
        }
        let taken = match self.distance.share() < self.swarm.short_turns {
            true => cut(&sent.new, &mut self.distance),
            false => sent.new.len(),
        };
        let answer = answer(&self.executor, &sent, taken);
        if let TurnAnswer::Fault(fault) = &answer
            && !sent.is_withdrawn
            && is_exact
        {
            return Err(format!("a worker cannot run {}: {fault}", sent.info.instance));
        }
        let answered = Answered {
            turn: key,
            was_withdrawn: sent.is_withdrawn,
            is_exact,
            promise: self.hub.end_turn(sent.address.clone(), answer),
        };
        self.answered.push(answered);
        Ok(())
    }

    /// The past that was sent is a part of what is stored, from its beginning; is it all of it?
    fn has_sent_all(&self, sent: &Sent) -> Result<bool, String> {
        let (id, store) = (&sent.info.instance, self.ground.store());
        let row = store.instance(id).map_err(|error| error.to_string())?;
        let Some(row) = row.filter(|row| row.execution_id == sent.info.execution_id) else {
            return Ok(false);
        };
        let history = read_history(&*store, &row).map_err(|error| error.to_string())?;
        let first = &sent.new[0];
        if !history.starts_with(&sent.past) {
            let stored = history.iter().map(Some).chain(std::iter::repeat(None));
            let differing = stored
                .zip(&sent.past)
                .find(|(stored, sent)| *stored != Some(*sent));
            return Err(format!(
                "{id}: a worker was sent another past than the stored one: {differing:?}"
            ));
        }
        if first.kind != EventKind::OrchestratorStarted
            || sent.past.last().is_some_and(|last| last.at > first.at)
        {
            return Err(format!("{id}: a turn begins with {first:?}"));
        }
        Ok(history.len() == sent.past.len())
    }

    /// Is every turn that is wanted answered?
    pub(crate) fn is_answered_elsewhere(&self) -> bool {
        let open = self.executor.workers().lock();
        self.answered.is_empty() && open.values().all(|sent| sent.is_withdrawn || sent.was_taken)
    }

    /// Looks at what became of answers.
    fn judge_turns(&mut self) -> Result<(), String> {
        let answered = std::mem::take(&mut self.answered);
        for answer in answered {
            let Some(result) = answer.promise.take() else {
                self.answered.push(answer);
                continue;
            };
            let was_taken = result.map_err(|error| format!("a turn's answer was refused: {error:?}"))?;
            self.judge_turn(&answer, was_taken)?;
        }
        Ok(())
    }

    fn judge_turn(&mut self, answer: &Answered, was_taken: bool) -> Result<(), String> {
        let forgets = self.distance.share() >= self.swarm.duplicates;
        let mut open = self.executor.workers().lock();
        let Some(sent) = open.get_mut(&answer.turn) else {
            self.marks.stale_turns += 1;
            return match was_taken {
                true => Err("a turn was taken twice".to_owned()),
                false => Ok(()),
            };
        };
        let id = sent.info.instance.clone();
        if was_taken && (answer.was_withdrawn || sent.was_taken) {
            return Err(format!("{id}: an answer to a turn of before was taken"));
        }
        if was_taken && !answer.is_exact {
            return Err(format!(
                "{id}: an answer was taken that did not know all of the past"
            ));
        }
        if !was_taken && !sent.is_withdrawn && !sent.was_taken {
            return Err(format!("{id}: the answer to a turn that is out was dropped"));
        }
        sent.was_taken |= was_taken;
        if forgets {
            open.remove(&answer.turn);
        }
        match was_taken {
            true => self.marks.away_turns += 1,
            false => self.marks.stale_turns += 1,
        }
        Ok(())
    }
}

/// How many of a turn's events a worker takes that does not take all. A request to cancel and what
/// it brings with it go together.
fn cut(events: &[Event], entropy: &mut Entropy) -> usize {
    let is_cancel = |event: &Event| matches!(event.kind, EventKind::CancelRequested { .. });
    match events.iter().any(is_cancel) {
        true => events.len(),
        false => 1 + below(entropy, events.len()),
    }
}
