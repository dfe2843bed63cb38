//! Explanations put together: what the partition knows, what the code waits for, and who has what
//! it waits for.

use std::collections::BTreeSet;

use dalsegno_core::query::LargeValues;
use dalsegno_core::store::InstanceRow;
use dalsegno_core::{Event, InstanceId, PartitionId, Timestamp};

use super::TaskHub;
use super::client::ask;
use crate::dispatcher::Standing;
use crate::executor::ExecutionInfo;
use crate::explain::{AttemptElsewhere, Explanation, Reason, ReasonKind};
use crate::input::{Command, Explained, LimiterPlace};
use crate::loader;
use crate::partition::in_words;
use crate::request::{Answer, RequestError, RequestErrorKind, lock_holder};

/// Reasons of one explanation about which others are asked: children, entities.
const ASKED_MAX: usize = 20;

/// Most instances in one answer of [`TaskHub::stuck`].
pub const STUCK_MAX: usize = 1_000;

impl TaskHub {
    /// Why an instance does not move: what it waits for and since when, what holds that, and who.
    /// `None` when there is no such instance. Its code is replayed for it if it is not in memory.
    ///
    /// # Errors
    /// `Internal` when the store cannot be read.
    pub async fn explain(&self, id: &InstanceId) -> Answer<Option<Explanation>> {
        let Some(known) = self.known(id).await? else {
            return Ok(None);
        };
        let Explained {
            row,
            mut reasons,
            has_code,
        } = known;
        if row.status.is_final() {
            return Ok(Some(Explanation::new(row, Vec::new(), &[])));
        }
        let is_remote = self.runtime.executor.is_remote(&row.name, row.version.as_deref());
        let is_here = row.parked.is_none() && !is_remote;
        if is_remote && reasons.is_empty() && row.events > 0 {
            // The protocol has no word for it, and nothing else is left.
            let text = "an external event; which one its code at a worker does not say";
            reasons.push(Reason::new(ReasonKind::Event, text));
        }
        let history = if has_code || !is_here {
            self.history_of(&row, LargeValues::LeaveOut).await?
        } else {
            let history = self.history_of(&row, LargeValues::Read).await?;
            let (said, history) = self.replayed(&row, history).await?;
            reasons.extend(said);
            history
        };
        self.find_lines(&row, &mut reasons).await?;
        self.find_owners(&mut reasons).await?;
        Ok(Some(Explanation::new(row, reasons, &history)))
    }

    /// Instances that something holds which should not: parked, suspended, without a worker, between
    /// two attempts, before a limiter or a lock. By id, `most` at most, and whether
    /// there are more.
    ///
    /// # Errors
    /// As [`TaskHub::explain`]; `Invalid` for more than [`STUCK_MAX`].
    pub async fn stuck(&self, most: usize) -> Answer<(Vec<Explanation>, bool)> {
        if most > STUCK_MAX {
            let detail = format!("{most} stuck instances at once are too many: {STUCK_MAX} at most");
            return Err(RequestError::new(RequestErrorKind::Invalid, detail));
        }
        let mut named = BTreeSet::from_iter(self.runtime.dispatcher.unregistered());
        for partition in 0..self.runtime.mailboxes.partitions() {
            let stuck = ask(&self.runtime, PartitionId(partition), |reply| Command::Stuck {
                most: most + 1,
                reply,
            });
            named.extend(stuck.await?);
        }
        let mut stuck = Vec::new();
        for id in named {
            let Some(explanation) = self.explain(&id).await?.filter(Explanation::is_stuck) else {
                continue;
            };
            if stuck.len() == most {
                return Ok((stuck, true));
            }
            stuck.push(explanation);
        }
        Ok((stuck, false))
    }

    async fn known(&self, id: &InstanceId) -> Answer<Option<Explained>> {
        self.ask(id, |id, reply| Command::Explain { id, reply }).await
    }

    async fn history_of(&self, row: &InstanceRow, large: LargeValues) -> Answer<Vec<Event>> {
        let row = row.clone();
        self.runtime
            .blocking(move |store| loader::read_history_with(store, &row, large))
            .await
    }

    /// What code that is not in memory waits for: it is replayed aside, and what it asks for is nobody's.
    async fn replayed(&self, row: &InstanceRow, history: Vec<Event>) -> Answer<(Vec<Reason>, Vec<Event>)> {
        let info = ExecutionInfo {
            instance: row.id.clone(),
            execution_id: row.execution_id,
            name: row.name.clone(),
            version: row.version.clone(),
            trace: None,
            span: None,
            tags: row.tags.clone(),
            locked_entities_max: self.limits().locked_entities_max,
        };
        let executor = self.runtime.executor.clone();
        self.runtime
            .blocking(move |_| {
                let replay = || {
                    let mut execution = executor.execution(&info)?;
                    execution.replay(&history).ok()?;
                    Some(execution.waits_for())
                };
                // It is the users' code: a panic of theirs is told when a turn meets it.
                let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(replay));
                Ok((said.ok().flatten().unwrap_or_default(), history))
            })
            .await
    }

    /// Activities that wait before they run: for a limiter, or for a slot.
    async fn find_lines(&self, row: &InstanceRow, reasons: &mut [Reason]) -> Answer<()> {
        if !reasons.iter().any(|reason| reason.kind == ReasonKind::Activity) {
            return Ok(());
        }
        let mut places = Vec::new();
        for partition in 0..self.runtime.mailboxes.partitions() {
            let instance = row.id.clone();
            let here = ask(&self.runtime, PartitionId(partition), |reply| Command::Places {
                instance,
                reply,
            });
            places.extend(here.await?);
        }
        places.retain(|place: &LimiterPlace| place.execution == row.key);
        let now = self.now();
        let mut elsewhere = self.runtime.executor.attempts_elsewhere(&row.id);
        for reason in reasons
            .iter_mut()
            .filter(|reason| reason.kind == ReasonKind::Activity)
        {
            let place = places.iter().find(|place| Some(place.task) == reason.task);
            let standing = reason
                .task
                .and_then(|task| self.runtime.dispatcher.standing(row.key, task));
            match (place, standing) {
                (Some(place), _) => tell_place(reason, place, now),
                (None, Some(Standing::Waits { before })) => {
                    reason.kind = ReasonKind::Slot;
                    reason.text += &format!(" waits for a slot of this host; {before} are before it");
                }
                (None, Some(Standing::Runs)) => {
                    let at = reason.task.and_then(|task| elsewhere.remove(&task));
                    tell_attempt(reason, at, now);
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// Who holds the locks, and what the children wait for.
    async fn find_owners(&self, reasons: &mut [Reason]) -> Answer<()> {
        for reason in reasons.iter_mut().take(ASKED_MAX) {
            match reason.kind {
                ReasonKind::Lock | ReasonKind::Entity => self.find_holder(reason).await?,
                ReasonKind::Child => self.find_childs_state(reason).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn find_holder(&self, reason: &mut Reason) -> Answer<()> {
        for entity in reason.entities.iter().take(ASKED_MAX) {
            let Some(row) = self.entity(entity).await? else {
                continue;
            };
            let Some(holder) = lock_holder(&row) else {
                continue;
            };
            reason.text += &format!("; {entity} is locked by {holder}");
            reason.owner.get_or_insert_with(|| holder.to_string());
            // A call to an entity that another has locked waits for that lock.
            reason.kind = ReasonKind::Lock;
        }
        Ok(())
    }

    async fn find_childs_state(&self, reason: &mut Reason) -> Answer<()> {
        let Some(child) = reason.instance.clone() else {
            return Ok(());
        };
        let Some(known) = self.known(&child).await? else {
            return Ok(());
        };
        let waits = Explanation::new(known.row, known.reasons, &[]);
        let status = waits.row.status.as_str();
        reason.name = Some(waits.row.name.clone());
        reason.text += &format!(" ({}) is {status}", waits.row.name);
        if let Some(first) = waits.reasons.first() {
            reason.text += &format!(": {}", first.text);
        }
        Ok(())
    }
}

fn tell_attempt(reason: &mut Reason, at: Option<AttemptElsewhere>, now: Timestamp) {
    match at {
        None => reason.text += " is at work",
        Some(AttemptElsewhere::Waits(why)) => reason.text += &format!(" {why}"),
        Some(AttemptElsewhere::At { worker, time }) => {
            reason.text += &format!(" is at worker {worker}, for {}", in_words(time));
            reason.since = Some(now - time);
            reason.owner = Some(worker);
        }
    }
}

fn tell_place(reason: &mut Reason, place: &LimiterPlace, now: Timestamp) {
    let bucket = match place.key.is_empty() {
        true => format!("limiter \"{}\"", place.limiter),
        false => format!("limiter \"{}\", key \"{}\"", place.limiter, place.key),
    };
    let next = match place.next_grant {
        Some(next) if next > now => format!("; its next token is there in {}", in_words(next.since(now))),
        _ => String::new(),
    };
    reason.kind = ReasonKind::Limiter;
    reason.text += &format!(" waits for {bucket}: {} are before it{next}", place.before);
    reason.due = place.next_grant.filter(|_| place.before == 0);
    reason.owner = Some(place.limiter.to_string());
}
