//! What a history looks like before the failure that ended it.
//!
//! A rewound instance goes on in a new execution whose history is the old one without the last
//! failed answers and what they led to. The code is then replayed and the tasks that failed are
//! open again.

use std::collections::BTreeSet;

use crate::event::{Event, EventKind};
use crate::id::{ExecutionKey, TaskId};
use crate::message::Message;
use crate::time::Timestamp;

fn is_failed_answer(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::TaskFailed { .. }
            | EventKind::SubOrchestrationInstanceFailed { .. }
            | EventKind::EntityOperationFailed { .. }
    )
}

/// What a rewound instance begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewound {
    /// Whole turns, from the first to the last in which the code asked for something before it failed.
    pub history: Vec<Event>,
    /// What reached the code after that and was no failure: delivered again, in order.
    pub again: Vec<EventKind>,
}

/// Cuts a failed history back to before its last failure.
///
/// The failed answers since the code last asked for anything go, and what the code did about them.
/// Without any failed answer (the code failed by itself) its last turn is taken back, so that
/// corrected code can go on from there.
pub fn before_failure(history: &[Event]) -> Rewound {
    let cut = match history.iter().rposition(|event| is_failed_answer(&event.kind)) {
        Some(last) => {
            let asked = history[..last]
                .iter()
                .rposition(|event| event.kind.is_asked_by_code());
            asked.map_or(0, |asked| turn_end(history, asked))
        }
        None => history
            .iter()
            .rposition(|event| event.kind == EventKind::OrchestratorStarted)
            .unwrap_or(0),
    };
    let asked: BTreeSet<TaskId> = history[..cut]
        .iter()
        .filter_map(|event| asked_task(&event.kind))
        .collect();
    // An answer to what is cut off would answer whatever takes its task id next.
    let is_wanted = |kind: &&EventKind| answered_task(kind).is_none_or(|task| asked.contains(&task));
    let again = history[cut..]
        .iter()
        .map(|event| &event.kind)
        .filter(|kind| is_delivered(kind))
        .filter(is_wanted);
    Rewound {
        history: history[..cut].to_vec(),
        again: again.cloned().collect(),
    }
}

/// The position behind the turn that `at` is in.
fn turn_end(history: &[Event], at: usize) -> usize {
    let completed = history[at..]
        .iter()
        .position(|event| event.kind == EventKind::OrchestratorCompleted);
    completed.map_or(history.len(), |offset| at + offset + 1)
}

/// The task that an event asks for and something will answer.
fn asked_task(kind: &EventKind) -> Option<TaskId> {
    match kind {
        EventKind::TaskScheduled { task, .. }
        | EventKind::TimerCreated { task, .. }
        | EventKind::SubOrchestrationInstanceCreated { task, .. }
        | EventKind::EntityOperationCalled { task, .. }
        | EventKind::EntityLockRequested { task, .. } => Some(*task),
        _ => None,
    }
}

/// The task that an event of [`Rewound::again`] answers.
fn answered_task(kind: &EventKind) -> Option<TaskId> {
    match kind {
        EventKind::TaskCompleted { task, .. }
        | EventKind::TimerFired { task, .. }
        | EventKind::SubOrchestrationInstanceCompleted { task, .. }
        | EventKind::EntityOperationCompleted { task, .. }
        | EventKind::EntityLockGranted { task } => Some(*task),
        _ => None,
    }
}

fn is_delivered(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::ExecutionStarted(_)
            | EventKind::TaskCompleted { .. }
            | EventKind::TimerFired { .. }
            | EventKind::SubOrchestrationInstanceCompleted { .. }
            | EventKind::EntityOperationCompleted { .. }
            | EventKind::EntityLockGranted { .. }
            | EventKind::EventRaised { .. }
            | EventKind::CancelRequested { .. }
    )
}

/// The message that brings an event of [`Rewound::again`] to the new execution.
pub fn as_message(kind: EventKind, execution: ExecutionKey) -> Option<Message> {
    let message = match kind {
        EventKind::ExecutionStarted(_) => {
            let fire_at = Timestamp::from_micros(0);
            Message::TimerFired {
                execution,
                task: TaskId::START,
                fire_at,
            }
        }
        EventKind::TaskCompleted {
            task,
            result,
            attempts,
        } => Message::TaskDone {
            execution,
            task,
            outcome: Ok(result),
            attempts,
        },
        EventKind::TimerFired { task, fire_at } => Message::TimerFired {
            execution,
            task,
            fire_at,
        },
        EventKind::SubOrchestrationInstanceCompleted { task, result } => Message::ChildDone {
            execution,
            task,
            outcome: Ok(result),
        },
        EventKind::EntityOperationCompleted { task, result } => Message::EntityAnswered {
            execution,
            task,
            outcome: Ok(result),
        },
        EventKind::EntityLockGranted { task } => Message::LockGranted {
            execution,
            task,
            entities: Vec::new(),
        },
        EventKind::CancelRequested { reason } => Message::Cancel { reason, parent: None },
        EventKind::EventRaised { name, input, trace } => Message::EventRaised { name, input, trace },
        _ => return None,
    };
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    fn history(letters: &str) -> Vec<Event> {
        letters
            .chars()
            .map(|c| Event {
                at: Timestamp::from_micros(0),
                kind: kind(c),
            })
            .collect()
    }

    fn kind(letter: char) -> EventKind {
        let task = TaskId(0);
        let failure = Failure::new("E", "e");
        match letter {
            'o' => EventKind::OrchestratorStarted,
            'S' => EventKind::TaskScheduled {
                task,
                name: "a".into(),
                input: None,
                options: None,
            },
            'c' => EventKind::TaskCompleted {
                task,
                result: None,
                attempts: 1.into(),
            },
            'f' => EventKind::TaskFailed {
                task,
                failure,
                attempts: 1.into(),
            },
            'F' => EventKind::ExecutionFailed { failure },
            _ => EventKind::OrchestratorCompleted,
        }
    }

    /// Expects the turns that stay, then a bar, then what is delivered again.
    fn check(before: &str, expected: &str) {
        let (kept, again) = expected.split_once('|').unwrap();
        let rewound = before_failure(&history(before));
        assert_eq!(rewound.history, history(kept), "{before}");
        assert_eq!(
            rewound.again,
            again.chars().map(kind).collect::<Vec<_>>(),
            "{before}"
        );
    }

    #[test]
    fn the_failed_answer_and_the_end_go() {
        check("oSxofFx", "oSx|");
    }

    #[test]
    fn a_fan_out_keeps_what_succeeded() {
        check("oSSSxofxocxofFx", "oSSSx|c");
    }

    #[test]
    fn a_compensation_that_followed_the_failure_goes_too() {
        check("oSxofSxFx", "oSx|");
    }

    #[test]
    fn an_earlier_failure_that_was_handled_stays() {
        check("oSxofSxofFx", "oSxofSx|");
    }

    #[test]
    fn an_answer_to_what_is_cut_off_is_not_delivered_again() {
        // The answer to a compensation came first to the rewound instance, which asked for
        // something else under the same task id: the deletion of the stale answer took the row of
        // the new task along, and the instance waited for ever.
        let mut history = history("oSxofSxocFx");
        for event in &mut history[5..] {
            if let EventKind::TaskScheduled { task, .. } | EventKind::TaskCompleted { task, .. } =
                &mut event.kind
            {
                *task = TaskId(1);
            }
        }
        assert_eq!(before_failure(&history).again, []);
    }

    #[test]
    fn code_that_failed_by_itself_takes_its_last_turn_back() {
        check("oSxocFx", "oSx|c");
    }
}
