//! Values of user code that are larger than `payload_bytes_max`: the step that made one fails.

use dalsegno_core::{Action, Failure, Payload};

use crate::executor::{AttemptOutcome, EntityEffect, OperationOutcome};

/// What a turn comes to: one that asks for something with too large a value fails its orchestration.
pub(super) fn checked_actions(actions: Vec<Action>, most: usize) -> Vec<Action> {
    let values = actions.iter().filter_map(Action::value);
    match failure_of("a turn asks for something with, or ends with,", values, most) {
        Some(failure) => vec![Action::Fail { failure }],
        None => actions,
    }
}

/// What an attempt came to: another one would give as much, so there is none.
pub(super) fn checked_attempt(outcome: AttemptOutcome, most: usize) -> AttemptOutcome {
    let AttemptOutcome::Completed(result) = &outcome else {
        return outcome;
    };
    match failure_of("the activity returned", result.iter(), most) {
        Some(failure) => AttemptOutcome::Failed {
            failure,
            retry_after: None,
        },
        None => outcome,
    }
}

/// What an operation came to.
pub(super) fn checked_operation(operation: OperationOutcome, most: usize) -> OperationOutcome {
    let result = operation.outcome.iter().flatten();
    let sent = operation.effects.iter().filter_map(|effect| match effect {
        EntityEffect::Signal { input, .. } | EntityEffect::Start { input, .. } => input.as_ref(),
    });
    let values = result.chain(&operation.state).chain(sent);
    match failure_of("the operation returned, sent or became", values, most) {
        Some(failure) => OperationOutcome {
            outcome: Err(failure),
            state: None,
            effects: Vec::new(),
        },
        None => operation,
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
