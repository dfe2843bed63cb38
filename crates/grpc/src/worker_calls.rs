//! What workers answer.

use std::sync::Arc;

use dalsegno_core::{Fault, FaultKind};
use dalsegno_engine::executor::{TurnAddress, TurnAnswer};
use tokio::sync::oneshot;
use tonic::Status;

use crate::proto;
use crate::service::{Served, refused};
use crate::wire;
use crate::workers::{
    Abilities, ActivityAnswer, BAD_ANSWERS_MAX, Delivery, EntityAnswer, Kind, NoWork, Pending, TooLarge, Work,
};

/// The answer of a turn.
pub(crate) async fn complete_turn(
    served: &Served,
    mut response: proto::OrchestratorResponse,
) -> Result<(), Status> {
    let instance = response.instance_id.clone();
    if response.is_partial {
        let part = served.workers.keep_part(
            &response.completion_token,
            response.actions,
            response.num_events_processed,
        );
        return match part {
            Err(NoWork::Unknown) => Err(unknown_token()),
            _ => Ok(()),
        };
    }
    let Some((mut work, delivery)) = take(served, &response.completion_token, Kind::Turn, &instance, 0)?
    else {
        return Ok(());
    };
    if response.requires_history {
        served.workers.offer_with_past(work);
        return Ok(());
    }
    let span = wire::span_elsewhere(response.orchestration_trace_context.take());
    let parts = std::mem::take(&mut work.parts);
    let events_taken = match parts.has_begun {
        true => parts.events_taken,
        false => response.num_events_processed,
    };
    if parts.has_begun {
        response.actions = [parts.actions, response.actions].concat();
    }
    let turn = match wire::turn(response, &work) {
        Ok(turn) => turn,
        Err(error) => {
            refuse_answer(served, work, &error).await;
            let text = format!("turn of instance {instance}: {error}");
            return Err(Status::invalid_argument(text));
        }
    };
    let Pending::Turn(address) = work.answer else {
        return Ok(());
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
            events_taken: events_taken.and_then(|count| usize::try_from(count).ok()),
            span,
        },
    };
    served.hub.end_turn(address, answer).await.map_err(refused)?;
    Ok(())
}

/// The answer of an activity; returns when it is durable.
pub(crate) async fn complete_activity(
    served: &Served,
    response: proto::ActivityResponse,
) -> Result<(), Status> {
    let (token, instance) = (response.completion_token.clone(), response.instance_id.clone());
    let Some((work, _)) = take(served, &token, Kind::Activity, &instance, response.task_id)? else {
        return Ok(());
    };
    let Pending::Activity(waiting) = work.answer else {
        return Ok(());
    };
    let (durable, is_durable) = oneshot::channel();
    // Who waited may be gone: the answer is then stale.
    if waiting.send(ActivityAnswer { response, durable }).is_err() {
        return Ok(());
    }
    is_durable.await.map_err(|_| {
        Status::unavailable("the server goes down before the result is durable: the activity runs again")
    })
}

/// The answer of an entity; returns when it is durable.
pub(crate) async fn complete_entity(served: &Served, result: proto::EntityBatchResult) -> Result<(), Status> {
    let token = result.completion_token.clone();
    if result.failure_details.is_some() {
        return abandon(served, &token, Kind::Entity);
    }
    let Some((work, _)) = take(served, &token, Kind::Entity, "", 0)? else {
        return Ok(());
    };
    let asked = match &work.request {
        proto::work_item::Request::EntityRequestV2(request) => request.operation_requests.len(),
        _ => usize::MAX,
    };
    let answered = result.results.len();
    if answered > asked || result.results.iter().any(|result| result.kind.is_none()) {
        let error = format!(
            "entity {}: {asked} operations were asked for and {answered} results came, or one of them is neither success \
             nor failure",
            work.instance
        );
        refuse_answer(served, work, &error).await;
        return Err(Status::invalid_argument(error));
    }
    if answered == 0 || result.requires_state {
        // It has got all of it: what was sent is sent again.
        served.workers.offer_again(work);
        return Ok(());
    }
    let Pending::Entity(waiting) = work.answer else {
        return Ok(());
    };
    let (durable, is_durable) = oneshot::channel();
    // Who waited may be gone: the answer is then stale.
    if waiting.send(EntityAnswer { result, durable }).is_err() {
        return Ok(());
    }
    is_durable.await.map_err(|_| {
        Status::unavailable("the server goes down before the result is durable: the operations run again")
    })
}

/// Work whose answer cannot be used is offered again, to somebody who may do better; after so many
/// such answers it is given up.
async fn refuse_answer(served: &Served, mut work: Work, error: &str) {
    work.bad_answers += 1;
    if work.bad_answers < BAD_ANSWERS_MAX {
        return served.workers.offer_again(work);
    }
    let message = format!(
        "workers answered \"{}\" {BAD_ANSWERS_MAX} times with what cannot be used, the last time: {error}; correct the \
         worker, then rewind the instance",
        work.name
    );
    give_up(served, work, (FaultKind::Poisoned, "BadAnswer"), message).await;
}

/// Ends work that workers cannot receive.
pub(crate) async fn refuse_large(served: Arc<Served>, refused: Vec<TooLarge>) {
    for TooLarge { work, bytes } in refused {
        let message = format!(
            "the work item \"{}\" has {bytes} bytes and broke two connections of workers: let workers receive larger \
             messages (grpc.max_receive_message_length), pass references instead of values, or continue as new",
            work.name
        );
        give_up(&served, work, (FaultKind::Oversized, "PayloadTooLarge"), message).await;
    }
}

/// Ends work that workers cannot do: the instance is parked, the activity fails, the entity's
/// first operation fails.
async fn give_up(served: &Served, work: Work, (kind, error_type): (FaultKind, &str), message: String) {
    tracing::warn!(instance_id = %work.instance, message, "a work item is given up");
    let details = proto::TaskFailureDetails {
        error_type: error_type.to_owned(),
        error_message: message.clone(),
        is_non_retriable: true,
        ..Default::default()
    };
    let (durable, _) = oneshot::channel();
    match work.answer {
        Pending::Turn(address) => {
            let fault = Fault::new(kind, message);
            if let Err(error) = served.hub.end_turn(address, TurnAnswer::Fault(fault)).await {
                tracing::debug!(
                    error = error.detail,
                    "the turn is offered again after the next start"
                );
            }
        }
        Pending::Activity(waiting) => {
            let response = proto::ActivityResponse {
                failure_details: Some(details),
                ..Default::default()
            };
            // Who waited may be gone.
            let _ = waiting.send(ActivityAnswer { response, durable });
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
            let _ = waiting.send(EntityAnswer { result, durable });
        }
    }
}

/// Puts work back.
pub(crate) fn abandon(served: &Served, token: &str, kind: Kind) -> Result<(), Status> {
    match served.workers.abandon(token, kind) {
        Ok(()) | Err(NoWork::Stale) => Ok(()),
        Err(NoWork::Unknown) => Err(unknown_token()),
    }
}

/// The work that an answer is for; `None` when it comes too late.
fn take(
    served: &Served,
    token: &str,
    kind: Kind,
    instance: &str,
    task: i32,
) -> Result<Option<(Work, Option<Delivery>)>, Status> {
    // Go sends none.
    let found = match token.is_empty() {
        true => served.workers.token_of(kind, instance, task),
        false => None,
    };
    let token = match (&found, token.is_empty()) {
        (Some(found), _) => found,
        (None, false) => token,
        (None, true) => return Ok(None),
    };
    match served.workers.finish_delivery(token, kind) {
        Ok(work) => Ok(Some(work)),
        Err(NoWork::Stale) => Ok(None),
        Err(NoWork::Unknown) => Err(unknown_token()),
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
