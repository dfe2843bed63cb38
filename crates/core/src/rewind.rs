//! What a history looks like before the failure that ended it.
//!
//! A rewound instance goes on in a new execution whose history is the old one without the last
//! failed answers and what they led to. The code is then replayed and the tasks that failed are
//! open again.

use crate::event::{Event, EventKind};

fn is_failed_answer(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::TaskFailed { .. }
            | EventKind::SubOrchestrationInstanceFailed { .. }
            | EventKind::EntityOperationFailed { .. }
    )
}

/// What only the code can cause: everything but answers, raised events and bookkeeping.
fn is_asked_by_code(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::TaskScheduled { .. }
            | EventKind::TimerCreated { .. }
            | EventKind::SubOrchestrationInstanceCreated { .. }
            | EventKind::EventSent { .. }
            | EventKind::EntityOperationCalled { .. }
            | EventKind::EntityOperationSignaled { .. }
            | EventKind::EntityLockRequested { .. }
            | EventKind::EntityUnlockSent { .. }
    )
}

/// Cuts a failed history back to before its last failure.
///
/// The failed answers since the code last asked for anything go, and what the code did about the
/// first of them. Without any failed answer (the code failed by itself) only the end goes, so that
/// corrected code can go on from there.
pub fn before_failure(history: &[Event]) -> Vec<Event> {
    let Some(last) = history.iter().rposition(|event| is_failed_answer(&event.kind)) else {
        return history
            .iter()
            .filter(|event| !is_end(&event.kind))
            .cloned()
            .collect();
    };
    let asked_before = history[..last]
        .iter()
        .rposition(|event| is_asked_by_code(&event.kind));
    let begin = asked_before.map_or(0, |at| at + 1);
    let kept_after = |kind: &EventKind| !is_failed_answer(kind) && !is_asked_by_code(kind) && !is_end(kind);
    let after = history[begin..].iter().filter(|event| kept_after(&event.kind));
    history[..begin].iter().chain(after).cloned().collect()
}

fn is_end(kind: &EventKind) -> bool {
    kind.is_final()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use crate::id::TaskId;
    use crate::time::Timestamp;

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
            },
            'c' => EventKind::TaskCompleted {
                task,
                result: None,
                attempts: 1,
            },
            'f' => EventKind::TaskFailed {
                task,
                failure,
                attempts: 1,
            },
            'F' => EventKind::ExecutionFailed { failure },
            _ => EventKind::OrchestratorCompleted,
        }
    }

    fn check(before: &str, expected: &str) {
        let after = before_failure(&history(before));
        assert_eq!(after, history(expected), "{before}");
    }

    #[test]
    fn the_failed_answer_and_the_end_go() {
        check("oSxofFx", "oSxox");
    }

    #[test]
    fn a_fan_out_keeps_what_succeeded() {
        check("oSSSxofxocxofFx", "oSSSxoxocxox");
    }

    #[test]
    fn a_compensation_that_followed_the_failure_goes_too() {
        check("oSxofSxocFx", "oSxoxocx");
    }

    #[test]
    fn an_earlier_failure_that_was_handled_stays() {
        check("oSxofSxofFx", "oSxofSxox");
    }

    #[test]
    fn code_that_failed_by_itself_only_loses_its_end() {
        check("oSxocFx", "oSxocx");
    }
}
