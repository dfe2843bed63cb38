//! Answers that workers owe without naming a completion token.
//!
//! Such an answer names the instance alone, and of an activity its task: the answer to work that was
//! taken back, or that another worker answered already, looks like one to the instance's next turn,
//! or to the task of that number in its next execution. So every delivery to a worker that names no
//! tokens is recorded until it is answered or the worker's connection ends. Until then, the next work
//! of that kind, instance and task goes to workers that name tokens only. All deliveries of one entry
//! are of the same work, and an answer without a token is for that.

use std::sync::Arc;

use dalsegno_core::ExecutionId;
use hashbrown::{Equivalent, HashMap};

use super::{AnswerTo, Delivery, Kind, Pending, Work};

/// What an answer without a token says of the work that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Named {
    kind: Kind,
    task: i32,
    instance: Arc<str>,
}

/// The same, to look with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Meant<'a> {
    kind: Kind,
    task: i32,
    instance: &'a str,
}

impl Equivalent<Named> for Meant<'_> {
    fn equivalent(&self, key: &Named) -> bool {
        (self.kind, self.task, self.instance) == (key.kind, key.task, &*key.instance)
    }
}

impl<'a> Meant<'a> {
    fn by(to: AnswerTo<'a>) -> Self {
        Self {
            kind: to.kind,
            task: if to.kind == Kind::Activity { to.task } else { 0 },
            instance: to.instance,
        }
    }

    fn of(work: &'a Work) -> Self {
        Self {
            kind: work.kind(),
            task: if work.kind() == Kind::Activity {
                work.task
            } else {
                0
            },
            instance: &work.instance,
        }
    }
}

/// The work itself. An answer to one attempt of a task is good for another, one to a turn for that
/// turn alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Turn(u64),
    Execution(ExecutionId),
}

impl Subject {
    fn of(work: &Work) -> Self {
        match &work.answer {
            Pending::Turn(address) => Self::Turn(address.number),
            Pending::Activity(_) | Pending::Entity(_) => Self::Execution(work.execution),
        }
    }
}

#[derive(Debug)]
struct Debt {
    subject: Subject,
    /// Deliveries of the work, of which one answer each is to come.
    deliveries: Vec<Delivery>,
    /// So many answers came. Which of the deliveries they are for is not known, so all of those stay.
    answers: usize,
    /// Parts of one of the answers were dropped, and it is not known of which.
    is_in_parts: bool,
}

/// What an answer without a token leads to.
#[derive(Debug)]
pub(super) struct Settled {
    /// Deliveries of the work that it is for, the last one last.
    pub(super) deliveries: Vec<Delivery>,
    /// Nothing else is owed for that work.
    pub(super) is_last: bool,
    /// Parts of it may have been dropped.
    pub(super) is_in_parts: bool,
}

#[derive(Debug, Default)]
pub(super) struct Owed(HashMap<Named, Debt>);

impl Owed {
    /// Work was sent to a worker that has named no token so far.
    pub(super) fn add(&mut self, work: &Work, delivery: Delivery) {
        // Its answers name no instance, so none of them is taken.
        if work.kind() == Kind::Entity {
            return;
        }
        let Meant { kind, task, .. } = Meant::of(work);
        let named = Named {
            kind,
            task,
            instance: work.instance.clone(),
        };
        let subject = Subject::of(work);
        let debt = self.0.entry(named).or_insert_with(|| Debt {
            subject,
            deliveries: Vec::with_capacity(1),
            answers: 0,
            is_in_parts: false,
        });
        assert_eq!(
            debt.subject, subject,
            "work is not sent while answers to other work could be taken for its own"
        );
        debt.deliveries.push(delivery);
    }

    /// Could an answer to this work without a token be one to other work?
    pub(super) fn bars(&self, work: &Work) -> bool {
        let debt = self.0.get(&Meant::of(work));
        debt.is_some_and(|debt| debt.is_in_parts || debt.subject != Subject::of(work))
    }

    /// The stream that owes the first answer which bars this work.
    pub(super) fn first(&self, work: &Work) -> Option<u64> {
        let debt = self.0.get(&Meant::of(work)).filter(|_| self.bars(work))?;
        debt.deliveries.first().map(|delivery| delivery.stream)
    }

    /// An answer came without a token; `None`: none was owed.
    pub(super) fn settle(&mut self, to: AnswerTo<'_>) -> Option<Settled> {
        let meant = Meant::by(to);
        let debt = self.0.get_mut(&meant)?;
        debt.answers += 1;
        let is_in_parts = debt.is_in_parts;
        let is_last = debt.answers == debt.deliveries.len();
        let deliveries = match is_last {
            true => self.0.remove(&meant)?.deliveries,
            false => debt.deliveries.clone(),
        };
        Some(Settled {
            deliveries,
            is_last,
            is_in_parts,
        })
    }

    /// The delivery that an answer without a token is for; `None`: none is owed, or there are several.
    pub(super) fn only(&self, to: AnswerTo<'_>) -> Option<Delivery> {
        let debt = self.0.get(&Meant::by(to)).filter(|debt| !debt.is_in_parts)?;
        match *debt.deliveries {
            [only] => Some(only),
            _ => None,
        }
    }

    /// A part of an answer came that could not be used.
    pub(super) fn note_part(&mut self, to: AnswerTo<'_>) {
        if let Some(debt) = self.0.get_mut(&Meant::by(to)) {
            debt.is_in_parts = true;
        }
    }

    /// Work of which a part of the answer is here was taken from its worker, which sends the rest.
    pub(super) fn cut_in_parts(&mut self, work: &Work) {
        if let Some(debt) = self.0.get_mut(&Meant::of(work)) {
            debt.is_in_parts = true;
        }
    }

    /// The stream to which a delivery went, if it still owes the answer.
    pub(super) fn stream_of(&self, item: u64, number: u64) -> Option<u64> {
        let mut all = self.0.values().flat_map(|debt| &debt.deliveries);
        let found = all.find(|delivery| delivery.item == item && delivery.number == number);
        found.map(|delivery| delivery.stream)
    }

    /// The stream has ended. What came may have been its answers: then the others still owe theirs.
    pub(super) fn end(&mut self, stream: u64) {
        self.0.retain(|_, debt| {
            let before = debt.deliveries.len();
            debt.deliveries.retain(|delivery| delivery.stream != stream);
            debt.answers = debt.answers.saturating_sub(before - debt.deliveries.len());
            !debt.deliveries.is_empty()
        });
    }

    /// The answers of this stream are known by their tokens: what came without is of others.
    pub(super) fn forget(&mut self, stream: u64) {
        self.0.retain(|_, debt| {
            debt.deliveries.retain(|delivery| delivery.stream != stream);
            debt.answers < debt.deliveries.len()
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
