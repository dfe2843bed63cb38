//! What user code makes that is too large. A value above `payload_bytes_max` fails the step that
//! made it; the text of a failure is cut, for it has to be told.

use dalsegno_core::limits::{Limits, TOO_FAR_AHEAD, is_too_far_ahead};
use dalsegno_core::{Action, EventKind, Failure, Fault, FaultKind, Message, Payload, Timestamp};

use crate::executor::{AttemptOutcome, EntityEffect, OperationOutcome};

/// Texts of a failure up to this are kept whole, however small `payload_inline_bytes` is.
const TEXT_BYTES_KEPT: usize = 4 * 1024;

/// Causes of a failure, one behind the other, that are kept.
const CAUSES_MAX: usize = 16;

/// How large what user code makes may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    value_max: usize,
    /// So that failures need not be kept apart from rows and histories.
    text_max: usize,
    heartbeat_max: usize,
    /// Of all that one operation of an entity returns, sends and becomes.
    operation_max: usize,
}

impl Sizes {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            value_max: limits.payload_bytes_max,
            text_max: limits.payload_inline_bytes.max(TEXT_BYTES_KEPT),
            heartbeat_max: limits.payload_inline_bytes,
            operation_max: limits.turn_bytes_max,
        }
    }
}

/// What one turn may ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnLimits {
    actions_max: usize,
    bytes_max: usize,
    locked_entities_max: usize,
    sizes: Sizes,
    now: Timestamp,
}

impl TurnLimits {
    pub(super) fn of(limits: &Limits, now: Timestamp) -> Self {
        Self {
            now,
            actions_max: limits.turn_actions_max,
            bytes_max: limits.turn_bytes_max,
            locked_entities_max: limits.locked_entities_max,
            sizes: Sizes::of(limits),
        }
    }
}

/// What a turn comes to, with the events that it leaves for the next execution. One that asks for
/// more than it may is a fault.
pub(super) fn checked(
    actions: Vec<Action>,
    unread: &[EventKind],
    limits: TurnLimits,
) -> Result<Vec<Action>, Fault> {
    let (count, most) = (actions.len(), limits.actions_max);
    if count > most {
        let message = format!(
            "one turn asked for {count} things, turn_actions_max is {most}: start children, or wait in between"
        );
        return Err(Fault::new(FaultKind::BusyLoop, message));
    }
    let locks = actions.iter().filter_map(|action| match action {
        Action::LockEntities { entities, .. } => Some(entities.len()),
        _ => None,
    });
    let (count, most) = (locks.max().unwrap_or_default(), limits.locked_entities_max);
    if count > most {
        let message = format!("{count} entities in one lock, locked_entities_max is {most}: lock fewer");
        return Err(Fault::new(FaultKind::Oversized, message));
    }
    if let Some(what) = actions
        .iter()
        .find_map(|action| too_far_ahead(action, limits.now))
    {
        let message = format!("{what} is due {TOO_FAR_AHEAD}: wait for less");
        return Err(Fault::new(FaultKind::Oversized, message));
    }
    let asked = actions.iter().filter_map(Action::value).map(Payload::len_bytes);
    let (bytes, most) = (
        asked.chain(unread.iter().map(event_bytes)).sum::<usize>(),
        limits.bytes_max,
    );
    if bytes > most {
        let message = format!(
            "one turn asks for {bytes} bytes of values, turn_bytes_max is {most}: pass references instead of values, or \
             wait in between"
        );
        return Err(Fault::new(FaultKind::Oversized, message));
    }
    Ok(checked_actions(actions, limits.sizes))
}

/// What of an action is due later than it may be. The code of a worker is held to this where its
/// response is read.
fn too_far_ahead(action: &Action, now: Timestamp) -> Option<String> {
    match action {
        Action::CreateTimer { fire_at, .. } if is_too_far_ahead(*fire_at, now) => Some("a timer".to_owned()),
        Action::SignalEntity {
            entity, at: Some(at), ..
        } if is_too_far_ahead(*at, now) => Some(format!("a signal to {entity}")),
        _ => None,
    }
}

fn event_bytes(event: &EventKind) -> usize {
    match event {
        EventKind::EventRaised { input, .. } => input.as_ref().map_or(0, Payload::len_bytes),
        _ => 0,
    }
}

/// Bytes of the value that a message brings.
pub(super) fn message_bytes(message: &Message) -> usize {
    let value = match message {
        Message::EventRaised { input, .. } => input.as_ref(),
        Message::TaskDone { outcome, .. }
        | Message::ChildDone { outcome, .. }
        | Message::EntityAnswered { outcome, .. } => outcome.as_ref().ok().and_then(Option::as_ref),
        _ => None,
    };
    value.map_or(0, Payload::len_bytes)
}

/// How many of these come first and have no more than so many bytes together; at least one.
pub(super) fn fitting<'m>(messages: impl Iterator<Item = Option<&'m Message>>, bytes_max: usize) -> usize {
    let mut bytes = 0_usize;
    let mut count = 0;
    for message in messages {
        bytes = bytes.saturating_add(message.map_or(0, message_bytes));
        if bytes > bytes_max && count > 0 {
            break;
        }
        count += 1;
    }
    count
}

/// What a turn comes to: one that asks for something with too large a value fails its orchestration.
fn checked_actions(actions: Vec<Action>, sizes: Sizes) -> Vec<Action> {
    let values = actions.iter().filter_map(Action::value);
    match failure_of(
        "a turn asks for something with, or ends with,",
        values,
        sizes.value_max,
    ) {
        Some(failure) => vec![Action::Fail { failure }],
        None => actions
            .into_iter()
            .map(|action| match action {
                Action::Fail { failure } => Action::Fail {
                    failure: bounded(failure, sizes.text_max),
                },
                other => other,
            })
            .collect(),
    }
}

/// What an attempt came to: another one would give as much, so there is none.
pub(super) fn checked_attempt(
    outcome: AttemptOutcome,
    heartbeat: Option<&Payload>,
    sizes: Sizes,
) -> AttemptOutcome {
    let (too_large, outcome) = match outcome {
        AttemptOutcome::Completed(result) => {
            let too_large = failure_of("the activity returned", result.iter(), sizes.value_max);
            (too_large, AttemptOutcome::Completed(result))
        }
        AttemptOutcome::Failed { failure, retry_after } => {
            let failed = AttemptOutcome::Failed {
                failure: bounded(failure, sizes.text_max),
                retry_after,
            };
            // The next attempt would be told of it.
            (heartbeat_failure(heartbeat, sizes.heartbeat_max), failed)
        }
        limited => (None, limited),
    };
    match too_large {
        Some(failure) => AttemptOutcome::Failed {
            failure,
            retry_after: None,
        },
        None => outcome,
    }
}

fn heartbeat_failure(heartbeat: Option<&Payload>, most: usize) -> Option<Failure> {
    let bytes = heartbeat.map_or(0, Payload::len_bytes);
    let message = format!(
        "the activity failed after a heartbeat with {bytes} bytes, payload_inline_bytes is {most}: report how far it is, and store the rest elsewhere"
    );
    (bytes > most).then(|| Failure::new("PayloadTooLarge", message).permanent())
}

/// What an operation came to.
pub(super) fn checked_operation(
    operation: OperationOutcome,
    sizes: Sizes,
    now: Timestamp,
) -> OperationOutcome {
    let result = operation.outcome.iter().flatten();
    let sent = operation.effects.iter().filter_map(|effect| match effect {
        EntityEffect::Signal { input, .. } | EntityEffect::Start { input, .. } => input.as_ref(),
    });
    let values: Vec<&Payload> = result.chain(&operation.state).chain(sent).collect();
    let bytes: usize = values.iter().map(|value| value.len_bytes()).sum();
    let most = sizes.operation_max;
    let message = format!(
        "the operation returned, sent and became {bytes} bytes of values, turn_bytes_max is {most}: pass references \
         instead of values"
    );
    let too_many = (bytes > most).then(|| Failure::new("PayloadTooLarge", message).permanent());
    let too_late = operation.effects.iter().find_map(|effect| match effect {
        EntityEffect::Signal {
            entity, at: Some(at), ..
        } if is_too_far_ahead(*at, now) => {
            let message = format!("the operation sent a signal to {entity} that is due {TOO_FAR_AHEAD}");
            Some(Failure::new("TooFarAhead", message).permanent())
        }
        _ => None,
    });
    let what = "the operation returned, sent or became";
    let too_large = failure_of(what, values.into_iter(), sizes.value_max);
    match too_large.or(too_many).or(too_late) {
        Some(failure) => OperationOutcome {
            outcome: Err(failure),
            state: None,
            effects: Vec::new(),
        },
        None => OperationOutcome {
            outcome: operation
                .outcome
                .map_err(|failure| bounded(failure, sizes.text_max)),
            ..operation
        },
    }
}

fn failure_of<'a>(what: &str, values: impl Iterator<Item = &'a Payload>, most: usize) -> Option<Failure> {
    let bytes = values
        .map(Payload::len_bytes)
        .max()
        .filter(|bytes| *bytes > most)?;
    let message = format!(
        "{what} a value of {bytes} bytes, payload_bytes_max is {most}: store it elsewhere and pass a reference"
    );
    Some(Failure::new("PayloadTooLarge", message).permanent())
}

/// A failure with texts of so many bytes at most, each cut between characters and marked where it
/// was cut.
fn bounded(mut failure: Failure, most: usize) -> Failure {
    let mut link = &mut failure;
    for _ in 1..CAUSES_MAX {
        cut(&mut link.kind, most);
        cut(&mut link.message, most);
        if let Some(stack) = &mut link.stack {
            cut(stack, most);
        }
        match link.cause {
            Some(ref mut cause) => link = cause,
            None => return failure,
        }
    }
    *link = Failure::new("", "further causes are not kept");
    failure
}

/// Cuts a text to so many bytes, the mark included.
pub(super) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let mut end = most - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dalsegno_core::limits::TIMER_MAX;
    use dalsegno_core::{EntityId, TaskId};

    use super::*;

    fn sizes() -> Sizes {
        Sizes::of(&Limits {
            payload_inline_bytes: 5_000,
            ..Limits::default()
        })
    }

    fn failed(failure: Failure, heartbeat: Option<&str>) -> Failure {
        let outcome = AttemptOutcome::Failed {
            failure,
            retry_after: None,
        };
        let heartbeat = heartbeat.map(Payload::from);
        match checked_attempt(outcome, heartbeat.as_ref(), sizes()) {
            AttemptOutcome::Failed { failure, .. } => failure,
            other => panic!("a failure becomes {other:?}"),
        }
    }

    #[test]
    fn what_code_asks_for_is_due_within_a_hundred_years() {
        let now = Timestamp::from_micros(5);
        let limits = TurnLimits::of(&Limits::default(), now);
        let entity = EntityId::new("counter", "a").unwrap();
        let timer = |fire_at| Action::CreateTimer {
            task: TaskId(1),
            fire_at,
        };
        let signal = |at| Action::SignalEntity {
            task: TaskId(2),
            entity: entity.clone(),
            operation: "add".into(),
            input: None,
            at: Some(at),
            request: None,
        };
        let last = now + TIMER_MAX;
        let beyond = last + Duration::from_micros(1);
        let past = Timestamp::from_micros(0);
        for (action, said) in [
            (timer(past), None),
            (timer(last), None),
            (timer(beyond), Some("a timer is due more than 100 years")),
            (timer(Timestamp::MAX), Some("a timer is due more than 100 years")),
            (signal(last), None),
            (
                signal(beyond),
                Some("a signal to @counter@a is due more than 100 years"),
            ),
        ] {
            let fault = checked(vec![action], &[], limits).err();
            assert_eq!(fault.is_some(), said.is_some(), "{fault:?}");
            if let (Some(fault), Some(said)) = (fault, said) {
                assert_eq!(fault.kind, FaultKind::Oversized);
                assert!(fault.message.starts_with(said), "{}", fault.message);
            }
        }
        for (at, is_taken) in [(last, true), (beyond, false)] {
            let operation = OperationOutcome {
                outcome: Ok(None),
                state: Some("1".into()),
                effects: vec![EntityEffect::Signal {
                    entity: entity.clone(),
                    operation: "add".into(),
                    input: None,
                    at: Some(at),
                }],
            };
            let ended = checked_operation(operation, sizes(), now);
            assert_eq!(
                (ended.outcome.is_ok(), ended.effects.len() == 1),
                (is_taken, is_taken)
            );
            if let Err(failure) = ended.outcome {
                assert!(failure.kind == "TooFarAhead" && failure.permanent, "{failure}");
            }
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut short = "short".to_owned();
        cut(&mut short, 512);
        assert_eq!(short, "short");
        for letter in ["x", "ü", "€"] {
            let mut text = letter.repeat(1000);
            cut(&mut text, 512);
            assert!(text.len() <= 512 && text.len() > 504);
            assert!(text.starts_with(letter) && text.ends_with('…'));
        }
    }

    #[test]
    fn the_texts_of_a_failure_and_of_its_causes_are_cut_and_end_somewhere() {
        let long = Failure {
            stack: Some("ü".repeat(9_000)),
            ..Failure::new("Kind", "x".repeat(9_000))
        };
        let deep = (0..100).fold(long.clone(), |cause, _| Failure {
            cause: Some(Box::new(cause)),
            ..long.clone()
        });
        let told = failed(deep, None);
        let causes: Vec<_> = std::iter::successors(Some(&told), |failure| failure.cause.as_deref()).collect();
        let (last, others) = causes.split_last().unwrap();
        assert_eq!(
            (others.len(), last.message.as_str()),
            (CAUSES_MAX - 1, "further causes are not kept")
        );
        for failure in others {
            let stack = failure.stack.as_ref().unwrap();
            assert!(failure.kind == "Kind" && failure.message.len() == 5_000 && stack.len() <= 5_000);
        }
        let whole = Failure::new("Kind", "x".repeat(5_000));
        assert_eq!(failed(whole.clone(), None), whole);
    }

    #[test]
    fn details_of_a_heartbeat_that_are_too_large_leave_no_further_attempt() {
        let whole = Failure::new("Kind", "why");
        let most = format!("\"{}\"", "x".repeat(4_998));
        assert_eq!(failed(whole.clone(), Some(&most)), whole);
        let refused = failed(whole, Some(&format!("{most} ")));
        assert!(refused.permanent);
        assert_eq!(
            refused.message,
            "the activity failed after a heartbeat with 5001 bytes, payload_inline_bytes is 5000: report how far it is, and store the rest elsewhere"
        );
    }
}
