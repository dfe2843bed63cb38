//! What workers answer.

use std::sync::Arc;

use dalsegno_core::{Fault, FaultKind};
use dalsegno_engine::executor::{TurnAddress, TurnAnswer};
use tonic::Status;

use crate::outcome::Outcome;
use crate::service::{Served, refused};
use crate::wire;
use crate::workers::{
    Abilities, ActivityAnswer, AnswerTo, Answered, Asked, BAD_ANSWERS_MAX, Delivery, EntityAnswer, Kind,
    NoWork, Pending, TooLarge, Work,
};
use crate::{fields, proto};

/// The answer of a turn; its outcome is told when it is durable.
pub(crate) fn complete_turn(served: &Served, response: proto::OrchestratorResponse, outcome: Outcome) {
    let to = AnswerTo {
        token: &response.completion_token,
        kind: Kind::Turn,
        instance: &response.instance_id,
        task: 0,
    };
    if response.is_partial {
        let (actions, taken) = (response.actions, response.num_events_processed);
        let part = served.workers.keep_part(to, actions, taken);
        return match part {
            Ok(()) => outcome.tell(Ok(())),
            Err(refused) => refuse(served, to, refused, outcome),
        };
    }
    let Some((Answered { work, delivery, .. }, outcome)) = take(served, to, outcome) else {
        return;
    };
    if response.requires_history {
        served.workers.offer_with_past(work);
        return outcome.tell(Ok(()));
    }
    end_turn(served, response, work, delivery, outcome);
}

/// Gives the hub what a worker made of a turn.
fn end_turn(
    served: &Served,
    mut response: proto::OrchestratorResponse,
    mut work: Work,
    delivery: Option<Delivery>,
    outcome: Outcome,
) {
    let instance = work.instance.clone();
    let context = response.orchestration_trace_context.take();
    let parts = std::mem::take(&mut work.parts);
    let events_taken = match parts.has_begun {
        true => parts.events_taken,
        false => response.num_events_processed,
    };
    if parts.has_begun {
        response.actions = [parts.actions, response.actions].concat();
    }
    let read = fields::count_if("numEventsProcessed", events_taken)
        .and_then(|taken| Ok((taken, wire::span_elsewhere(context)?)))
        .map_err(String::from)
        .and_then(|(taken, span)| Ok((wire::turn(response, &work)?, taken, span)));
    let (turn, events_taken, span) = match read {
        Ok(read) => read,
        Err(error) => {
            let text = format!("turn of instance {instance}: {error}");
            return refuse_answer(served, work, &error, (text, outcome));
        }
    };
    let Pending::Turn(address) = work.answer else {
        return outcome.tell(Ok(()));
    };
    if let Some(delivery) = delivery.filter(|_| turn.fault.is_none() && events_taken.is_none()) {
        // The first answer is the one that counts.
        let _ = work.past.answered.set(delivery);
    }
    if let Some(span) = span {
        // What it said first is what it goes on with.
        let _ = work.past.span.set(span);
    }
    // Its execution adds to it, and copies what others hold.
    drop(work.past);
    let answer = match turn.fault {
        Some(fault) => TurnAnswer::Fault(fault),
        None => TurnAnswer::Ran {
            actions: turn.actions,
            unread: turn.unread,
            events_taken,
            span,
        },
    };
    let tell = |answer: Result<bool, _>| outcome.tell(answer.map(drop).map_err(refused));
    served.hub.end_turn_then(address, answer, tell);
}

/// The answer of an activity; its outcome is told when it is durable.
pub(crate) fn complete_activity(served: &Served, response: proto::ActivityResponse, outcome: Outcome) {
    let to = AnswerTo {
        token: &response.completion_token,
        kind: Kind::Activity,
        instance: &response.instance_id,
        task: response.task_id,
    };
    let Some((answered, outcome)) = take(served, to, outcome) else {
        return;
    };
    let Pending::Activity(waiting) = answered.work.answer else {
        return outcome.tell(Ok(()));
    };
    // Who waited may be gone: the answer is then stale.
    if let Err(unread) = waiting.send(ActivityAnswer { response, outcome }) {
        unread.outcome.tell(Ok(()));
    }
}

/// The answer of an entity; its outcome is told when it is durable.
pub(crate) fn complete_entity(served: &Served, result: proto::EntityBatchResult, outcome: Outcome) {
    let token = &result.completion_token;
    if result.failure_details.is_some() {
        return outcome.tell(abandon(served, token, Kind::Entity));
    }
    let to = AnswerTo {
        token,
        kind: Kind::Entity,
        instance: "",
        task: 0,
    };
    if let Some((answered, outcome)) = take(served, to, outcome) {
        end_operations(served, result, answered.work, outcome);
    }
}

/// Gives who waits what a worker made of an entity's operations.
fn end_operations(served: &Served, mut result: proto::EntityBatchResult, work: Work, outcome: Outcome) {
    let asked = match &work.asked {
        Asked::Message(message) => match &**message {
            proto::work_item::Request::EntityRequestV2(request) => request.operation_requests.len(),
            _ => usize::MAX,
        },
        Asked::Attempt(_) => usize::MAX,
    };
    let answered = result.results.len();
    if answered > asked || result.results.iter().any(|result| result.kind.is_none()) {
        let error = format!(
            "entity {}: {asked} operations were asked for and {answered} results came, or one of them is neither success \
             nor failure",
            work.instance
        );
        return refuse_answer(served, work, &error, (error.clone(), outcome));
    }
    let effects = match wire::entity_effects(std::mem::take(&mut result.actions)) {
        Ok(effects) => effects,
        Err(bad) => {
            let error = format!("entity {}: {bad}", work.instance);
            return refuse_answer(served, work, &error, (error.clone(), outcome));
        }
    };
    if answered == 0 || result.requires_state {
        // It has got all of it: what was sent is sent again.
        served.workers.offer_again(work);
        return outcome.tell(Ok(()));
    }
    let Pending::Entity(waiting) = work.answer else {
        return outcome.tell(Ok(()));
    };
    // Who waited may be gone: the answer is then stale.
    let answer = EntityAnswer {
        result,
        effects,
        outcome,
    };
    if let Err(unread) = waiting.send(answer) {
        unread.outcome.tell(Ok(()));
    }
}

/// Work whose answer cannot be used is offered again, to somebody who may do better; after so many
/// such answers it is given up, and who gave the last one is told then.
fn refuse_answer(served: &Served, mut work: Work, error: &str, (text, outcome): (String, Outcome)) {
    let refusal = Status::invalid_argument(text);
    work.bad_answers += 1;
    if work.bad_answers < BAD_ANSWERS_MAX {
        served.workers.offer_again(work);
        return outcome.tell(Err(refusal));
    }
    let message = format!(
        "workers answered \"{}\" {BAD_ANSWERS_MAX} times with what cannot be used, the last time: {error}; correct the \
         worker, then rewind the instance",
        work.name
    );
    let told = move || outcome.tell(Err(refusal));
    give_up(served, work, (FaultKind::Poisoned, "BadAnswer"), message, told);
}

/// Ends work that workers cannot receive.
pub(crate) fn refuse_large(served: &Served, refused: Vec<TooLarge>) {
    for TooLarge { work, bytes } in refused {
        let message = format!(
            "the work item \"{}\" has {bytes} bytes and broke two connections of workers: let workers receive larger \
             messages (grpc.max_receive_message_length), pass references instead of values, or continue as new",
            work.name
        );
        give_up(
            served,
            work,
            (FaultKind::Oversized, "PayloadTooLarge"),
            message,
            || {},
        );
    }
}

/// Ends work that workers cannot do: the instance is parked, the activity fails, the entity's
/// first operation fails. Calls `then` when the hub has taken it.
fn give_up(
    served: &Served,
    work: Work,
    (kind, error_type): (FaultKind, &str),
    message: String,
    then: impl FnOnce() + Send + 'static,
) {
    tracing::warn!(instance_id = %work.instance, message, "a work item is given up");
    let details = proto::TaskFailureDetails {
        error_type: error_type.to_owned(),
        error_message: message.clone(),
        is_non_retriable: true,
        ..Default::default()
    };
    let outcome = Outcome::new(move |_| then());
    match work.answer {
        Pending::Turn(address) => {
            let fault = TurnAnswer::Fault(Fault::new(kind, message));
            // Where the hub goes down the turn is offered again after the next start.
            served.hub.end_turn_then(address, fault, |answer| {
                outcome.tell(answer.map(drop).map_err(refused))
            });
        }
        Pending::Activity(waiting) => {
            let response = proto::ActivityResponse {
                failure_details: Some(details),
                ..Default::default()
            };
            // Who waited may be gone.
            let _ = waiting.send(ActivityAnswer { response, outcome });
        }
        Pending::Entity(waiting) => {
            let failure = proto::OperationResultFailure {
                failure_details: Some(details),
                ..Default::default()
            };
            let result = proto::EntityBatchResult {
                results: vec![proto::OperationResult {
                    kind: Some(proto::operation_result::Kind::Failure(failure)),
                }],
                ..Default::default()
            };
            // Who waited may be gone.
            let _ = waiting.send(EntityAnswer {
                result,
                effects: Vec::new(),
                outcome,
            });
        }
    }
}

/// Puts work back.
pub(crate) fn abandon(served: &Served, token: &str, kind: Kind) -> Result<(), Status> {
    match served.workers.abandon(token, kind) {
        Ok(()) | Err(NoWork::Stale) => Ok(()),
        Err(refused) => Err(status_of(refused)),
    }
}

/// The work that an answer is for, and where its outcome is told; `None` when there is none and that
/// was told.
fn take(served: &Served, to: AnswerTo<'_>, outcome: Outcome) -> Option<(Answered, Outcome)> {
    match served.workers.answered(to) {
        Ok(answered) => {
            let outcome = served.workers.settle(&answered, outcome);
            Some((answered, outcome))
        }
        Err(refused) => {
            refuse(served, to, refused, outcome);
            None
        }
    }
}

/// An answer that is too late is dropped, and the worker has done nothing wrong.
fn refuse(served: &Served, to: AnswerTo<'_>, refused: NoWork, outcome: Outcome) {
    match refused {
        NoWork::Stale => served.workers.tell_late(to, outcome),
        refused => outcome.tell(Err(status_of(refused))),
    }
}

fn status_of(refused: NoWork) -> Status {
    match refused {
        NoWork::Another(text) => Status::invalid_argument(text),
        NoWork::Unknown | NoWork::Stale => unknown_token(),
    }
}

fn unknown_token() -> Status {
    Status::not_found("this completion token was never given out by this server: it may have been restarted")
}

/// The stream of a worker that connects.
pub(crate) fn connect(
    served: &Arc<Served>,
    name: String,
    request: proto::GetWorkItemsRequest,
) -> Result<crate::stream::WorkItems, Status> {
    let most = [
        request.max_concurrent_orchestration_work_items,
        request.max_concurrent_activity_work_items,
        request.max_concurrent_entity_work_items,
    ];
    let can = |capability: proto::WorkerCapability| request.capabilities.contains(&capability.into());
    let abilities = Abilities {
        streams_history: can(proto::WorkerCapability::HistoryStreaming),
        keeps_executions: can(proto::WorkerCapability::KeepsExecutions),
        hears_cancels: can(proto::WorkerCapability::HearsCancels),
    };
    let filter = crate::filter::Filter::new(request.work_item_filters);
    let id = served
        .workers
        .connect(name, filter, most, abilities)
        .ok_or_else(|| Status::unavailable("the server is going down: connect again in a moment"))?;
    let unattended = served.workers.take_unattended(id);
    if !unattended.is_empty() {
        tokio::spawn(draw_up_again(served.clone(), unattended));
    }
    Ok(crate::stream::WorkItems::new(served.clone(), id))
}

/// Turns that waited for a worker are drawn up anew, with the time of now and what came meanwhile.
async fn draw_up_again(served: Arc<Served>, turns: Vec<TurnAddress>) {
    for address in turns {
        let nothing_taken = TurnAnswer::Ran {
            actions: Vec::new(),
            unread: Vec::new(),
            events_taken: Some(0),
            span: None,
        };
        let instance = address.instance.clone();
        if let Err(error) = served.hub.end_turn(address, nothing_taken).await {
            // It goes down; the turn is drawn up when it is back.
            tracing::debug!(%instance, %error, "a turn was not drawn up again");
            return;
        }
    }
}
