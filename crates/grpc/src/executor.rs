//! User code that runs at workers, beside what runs in this process.

use std::sync::{Arc, OnceLock};

use dalsegno_core::Event;
use dalsegno_core::span::SpanElsewhere;
use dalsegno_core::{Action, EntityId, Failure, Fault, InstanceId, Payload, TaskId, Timestamp};
use dalsegno_engine::Executor;
use dalsegno_engine::executor::{
    ActivityRequest, ActivitySettings, AttemptOutcome, EntityEffect, Execution, ExecutionInfo, Heartbeats,
    OperationOutcome, OperationRequest, OperationRun, OperationsEnded, Receipt, TurnAddress, TurnSender,
};
use dalsegno_engine::explain::{AttemptElsewhere, Reason};
use dalsegno_engine::request::WorkerStatus;
use futures::future::BoxFuture;
use hashbrown::{HashMap, HashSet};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::sync::oneshot;

use crate::proto::work_item::Request;
use crate::wire::{self, Names};
use crate::workers::{ActivityAnswer, Asked, Delivery, EntityAnswer, Parts, Past, Pending, Work, Workers};
use crate::{guid, proto};

/// What is registered here runs here; everything else is offered to workers.
#[derive(Debug)]
pub struct RemoteExecutor {
    local: Arc<dyn Executor>,
    orchestrators: HashSet<Arc<str>>,
    activities: HashSet<Arc<str>>,
    entities: HashSet<Arc<str>>,
    workers: Arc<Workers>,
}

impl RemoteExecutor {
    /// The code of this process, and the workers for all else.
    pub fn new(local: Arc<dyn Executor>, workers: Arc<Workers>) -> Self {
        Self {
            orchestrators: local.orchestrators().into_iter().collect(),
            activities: local.activities().into_iter().collect(),
            entities: local.entities().into_iter().collect(),
            local,
            workers,
        }
    }
}

impl Executor for RemoteExecutor {
    fn execution(&self, info: &ExecutionInfo) -> Option<Box<dyn Execution>> {
        if self.orchestrators.contains(&info.name) {
            return self.local.execution(info);
        }
        Some(Box::new(RemoteExecution {
            info: info.clone(),
            workers: self.workers.clone(),
            past: Arc::default(),
            past_bytes: 0,
            names: Names::default(),
            span: Arc::new(info.span.map_or_else(OnceLock::new, OnceLock::from)),
            sent: None,
            kept: None,
        }))
    }

    fn default_version(&self, orchestrator: &str) -> Option<Arc<str>> {
        let here = self.local.default_version(orchestrator);
        here.or_else(|| self.workers.highest_version(orchestrator))
    }

    fn orchestrators(&self) -> Vec<Arc<str>> {
        self.local.orchestrators()
    }

    fn orchestrator_named(&self, name: &str) -> Option<Arc<str>> {
        // Workers tell names only in filters, and may come later: any name may be theirs.
        Some(self.local.orchestrator_named(name).unwrap_or_else(|| name.into()))
    }

    fn is_remote(&self, orchestrator: &str, _version: Option<&str>) -> bool {
        !self.orchestrators.contains(orchestrator)
    }

    fn is_remote_entity(&self, entity: &str) -> bool {
        !self.entities.contains(entity)
    }

    fn drain_worker(&self, name: &str) -> usize {
        self.workers.drain_worker(name)
    }

    fn answers_dropped(&self) -> u64 {
        self.workers.stale()
    }

    fn workers(&self) -> Vec<WorkerStatus> {
        self.workers.list()
    }

    fn explain_activity(&self, name: &str) -> Option<String> {
        let is_missing = !self.activities.contains(name) && !self.workers.offers_activity(name);
        is_missing.then(|| self.workers.explain_missing_activity(name))
    }

    fn attempts_elsewhere(&self, instance: &InstanceId) -> HashMap<TaskId, AttemptElsewhere> {
        self.workers.attempts_of(instance.as_str())
    }

    fn withdraw(&self, turn: &TurnAddress) {
        self.workers.withdraw_turn(turn.instance.as_str(), turn.number);
    }

    fn activities(&self) -> Vec<Arc<str>> {
        self.local.activities()
    }

    fn entities(&self) -> Vec<Arc<str>> {
        self.local.entities()
    }

    fn activity_settings(&self, name: &str) -> Option<ActivitySettings> {
        let elsewhere = || ActivitySettings {
            is_remote: true,
            ..ActivitySettings::default()
        };
        self.local.activity_settings(name).or_else(|| Some(elsewhere()))
    }

    fn limiter_key(&self, activity: &str, input: Option<&Payload>) -> Arc<str> {
        self.local.limiter_key(activity, input)
    }

    fn run_activity(&self, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
        match self.activities.contains(&request.name) {
            true => self.local.run_activity(request),
            false => run_activity(self.workers.clone(), request),
        }
    }

    fn run_operation(
        &self,
        entity: &EntityId,
        state: Option<&Payload>,
        request: OperationRequest,
        now: Timestamp,
    ) -> Option<OperationRun> {
        if self.entities.contains(entity.name()) {
            return self.local.run_operation(entity, state, request, now);
        }
        None
    }

    fn run_operations(
        &self,
        entity: &EntityId,
        state: Option<&Payload>,
        requests: Vec<OperationRequest>,
        now: Timestamp,
    ) -> Option<BoxFuture<'static, OperationsEnded>> {
        if self.entities.contains(entity.name()) {
            return None;
        }
        let work = entity_request(entity, state, &requests, now);
        let run = run_operations(self.workers.clone(), work, state.cloned());
        Some(Box::pin(run))
    }
}

/// Takes work back that nobody waits for any more.
struct Withdrawal(Arc<Workers>, u64);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.withdraw(self.1);
    }
}

/// Offered at once; what waits for the answer is small, for there may be very many of it.
fn run_activity(workers: Arc<Workers>, request: ActivityRequest) -> BoxFuture<'static, AttemptOutcome> {
    let (answer, answered) = oneshot::channel();
    let (mut cancelled, heartbeats) = (request.cancelled.clone(), request.heartbeats.clone());
    let receipt = request.receipt.clone();
    let id = workers.offer(activity_work(request, answer));
    let withdrawal = Withdrawal(workers, id);
    Box::pin(async move {
        tokio::pin!(answered);
        let answer = tokio::select! {
            answer = &mut answered => answer,
            reason = cancelled.wait() => match withdrawal.0.cancel(id, reason) {
                // Who cancels waits as long as it thinks right.
                true => answered.await,
                false => return AttemptOutcome::Failed {
                    failure: Failure::new("Cancelled", format!("{reason:?}")),
                    retry_after: None,
                },
            },
        };
        activity_outcome(answer.ok(), &heartbeats, &receipt)
    })
}

/// What an answer comes to; `None`: there will be none.
fn activity_outcome(
    answer: Option<ActivityAnswer>,
    heartbeats: &Heartbeats,
    receipt: &Receipt,
) -> AttemptOutcome {
    let Some(ActivityAnswer {
        mut response,
        outcome,
    }) = answer
    else {
        return AttemptOutcome::Failed {
            failure: Failure::new("Unavailable", "the hub's workers were closed"),
            retry_after: None,
        };
    };
    if let Some(details) = response.last_heartbeat.take() {
        heartbeats.report(Some(Payload::from(details)));
    }
    receipt.request(move || outcome.tell(Ok(())));
    wire::outcome(response)
}

fn activity_work(request: ActivityRequest, answer: oneshot::Sender<ActivityAnswer>) -> Work {
    let labels = request.options.labels.as_deref();
    Work {
        name: request.name.clone(),
        version: labels.and_then(|labels| labels.version.clone()),
        instance: request.instance.shared(),
        began: Timestamp::default(),
        task: wire::event_id(request.task),
        execution: request.execution_id,
        asked: Asked::Attempt(Box::new(request)),
        locks: Vec::new(),
        past: Past::default(),
        parts: Parts::default(),
        bad_answers: 0,
        answer: Pending::Activity(answer),
    }
}

async fn run_operations(
    workers: Arc<Workers>,
    request: proto::EntityRequest,
    state: Option<Payload>,
) -> OperationsEnded {
    let count = request.operation_requests.len();
    let (answer, answered) = oneshot::channel();
    let id = workers.offer(entity_work(request, answer));
    let _withdrawal = Withdrawal(workers, id);
    let Ok(EntityAnswer {
        result,
        effects,
        outcome,
    }) = answered.await
    else {
        let closed = || {
            failed(
                Failure::new("Unavailable", "the hub's workers were closed"),
                state.clone(),
            )
        };
        return OperationsEnded {
            outcomes: std::iter::repeat_with(closed).take(count).collect(),
            ..OperationsEnded::default()
        };
    };
    let receipt = Receipt::default();
    receipt.request(move || outcome.tell(Ok(())));
    OperationsEnded {
        outcomes: operation_outcomes(result, effects, state.as_ref()),
        receipt,
    }
}

fn entity_request(
    entity: &EntityId,
    state: Option<&Payload>,
    requests: &[OperationRequest],
    now: Timestamp,
) -> proto::EntityRequest {
    let event = |request: &OperationRequest| {
        let signal = proto::EntityOperationSignaledEvent {
            request_id: guid::new(),
            operation: request.operation.to_string(),
            input: wire::text_of(request.input.as_ref()),
            target_instance_id: Some(entity.to_string()),
            ..Default::default()
        };
        proto::HistoryEvent {
            event_id: -1,
            timestamp: Some(wire::timestamp(now)),
            kind: Some(proto::history_event::Kind::EntityOperationSignaled(signal)),
        }
    };
    proto::EntityRequest {
        instance_id: entity.to_string(),
        execution_id: String::new(),
        entity_state: wire::text_of(state),
        operation_requests: requests.iter().map(event).collect(),
    }
}

fn entity_work(request: proto::EntityRequest, answer: oneshot::Sender<EntityAnswer>) -> Work {
    let entity = wire::entity_id(&request.instance_id);
    let name = entity.as_ref().map_or("", EntityId::name);
    Work {
        name: name.into(),
        version: None,
        instance: request.instance_id.as_str().into(),
        began: Timestamp::default(),
        asked: Asked::Message(Box::new(Request::EntityRequestV2(request))),
        task: 0,
        execution: Default::default(),
        locks: Vec::new(),
        past: Past::default(),
        parts: Parts::default(),
        bad_answers: 0,
        answer: Pending::Entity(answer),
    }
}

fn failed(failure: Failure, state: Option<Payload>) -> OperationOutcome {
    OperationOutcome {
        outcome: Err(failure),
        state,
        effects: Vec::new(),
    }
}

/// One outcome for each result, in order. The state behind all of them is that of each that
/// succeeded; what they ask of others goes with the first of these.
fn operation_outcomes(
    result: proto::EntityBatchResult,
    mut effects: Vec<EntityEffect>,
    before: Option<&Payload>,
) -> Vec<OperationOutcome> {
    use proto::operation_result::Kind;
    let state = result.entity_state.map(Payload::from);
    let outcome = |result: proto::OperationResult| match result.kind {
        Some(Kind::Success(success)) => OperationOutcome {
            outcome: Ok(success.result.map(Payload::from)),
            state: state.clone(),
            effects: std::mem::take(&mut effects),
        },
        Some(Kind::Failure(proto::OperationResultFailure {
            failure_details: Some(details),
            ..
        })) => failed(wire::failure(details), before.cloned()),
        Some(Kind::Failure(_)) | None => failed(Failure::default(), before.cloned()),
    };
    result.results.into_iter().map(outcome).collect()
}

/// An orchestrator at a worker: its history in the worker's words, encoded once.
struct RemoteExecution {
    info: ExecutionInfo,
    workers: Arc<Workers>,
    past: Arc<Vec<Bytes>>,
    past_bytes: usize,
    names: Names,
    /// The span that the code tells of itself.
    span: Arc<OnceLock<SpanElsewhere>>,
    /// The turn that is out.
    sent: Option<Sent>,
    /// The worker that answered the last turn is where that answer left it.
    kept: Option<Delivery>,
}

/// A turn that is out.
struct Sent {
    number: u64,
    new_events: Vec<Bytes>,
    answered: Arc<OnceLock<Delivery>>,
}

/// Most events are no longer in the worker's words.
const EVENT_BYTES: usize = 96;

impl RemoteExecution {
    fn push(&mut self, events: Vec<Bytes>, bytes: usize) {
        Arc::make_mut(&mut self.past).extend(events);
        self.past_bytes += bytes;
    }

    /// Events as the protocol has them, in one piece of memory.
    fn encode(&mut self, events: &[Event]) -> (Vec<Bytes>, usize) {
        let mut buffer = Vec::with_capacity(events.len() * EVENT_BYTES);
        let mut ends = Vec::with_capacity(events.len());
        for event in events {
            if let Some(message) = self.names.event(event, &self.info) {
                // A vector takes whatever is written to it.
                let _ = message.encode(&mut buffer);
                ends.push(buffer.len());
            }
        }
        // It stays for as long as the execution: without room for more.
        let whole = Bytes::copy_from_slice(&buffer);
        let mut from = 0;
        let cut = |end| whole.slice(std::mem::replace(&mut from, end)..end);
        (ends.into_iter().map(cut).collect(), whole.len())
    }
}

impl Execution for RemoteExecution {
    fn replay(&mut self, history: &[Event]) -> Result<(), Fault> {
        let (events, bytes) = self.encode(history);
        self.push(events, bytes);
        Ok(())
    }

    fn advance(&mut self, _events: &[Event]) -> Result<Vec<Action>, Fault> {
        Ok(Vec::new())
    }

    fn send(&mut self, turn: &TurnAddress, events: &[Event]) -> Option<TurnSender> {
        // The events become history with the answer; until then what they name is looked up only.
        let known = self.names.clone();
        let (new_events, _) = self.encode(events);
        let locks = std::mem::replace(&mut self.names, known).locks();
        let past = Past {
            events: self.past.clone(),
            bytes: self.past_bytes,
            kept: self.kept,
            span: self.span.clone(),
            ..Past::default()
        };
        self.sent = Some(Sent {
            number: turn.number,
            new_events: new_events.clone(),
            answered: past.answered.clone(),
        });
        let (workers, info, span) = (self.workers.clone(), self.info.clone(), self.span.clone());
        let turn = turn.clone();
        let began = events.first().map(|event| event.at).unwrap_or_default();
        Some(TurnSender::new(move || {
            let request = proto::OrchestratorRequest {
                instance_id: info.instance.as_str().to_owned(),
                execution_id: Some(wire::execution_id(info.execution_id)),
                new_events,
                entity_parameters: Some(proto::OrchestratorEntityParameters {
                    entity_message_reorder_window: Some(prost_types::Duration::default()),
                }),
                orchestration_trace_context: span.get().map(wire::orchestration_trace),
                ..Default::default()
            };
            workers.offer(Work {
                asked: Asked::Message(Box::new(Request::OrchestratorRequest(request))),
                name: info.name.clone(),
                version: info.version.clone(),
                instance: info.instance.shared(),
                began,
                task: 0,
                execution: Default::default(),
                locks,
                past,
                parts: Parts::default(),
                bad_answers: 0,
                answer: Pending::Turn(turn),
            });
        }))
    }

    fn record(&mut self, events: &[Event]) {
        let (events, bytes) = self.encode(events);
        // A turn that was taken back, cut or widened is not what the worker has been through.
        let sent = self.sent.take();
        self.kept = sent
            .filter(|sent| events.starts_with(&sent.new_events))
            .and_then(|sent| sent.answered.get().copied());
        self.push(events, bytes);
    }

    fn waits_for(&self) -> Vec<Reason> {
        let explain = |number| self.workers.explain_turn(self.info.instance.as_str(), number);
        let sent = self.sent.as_ref().map(|sent| sent.number);
        sent.and_then(explain).into_iter().collect()
    }

    fn size_bytes(&self) -> usize {
        1024 + self.past_bytes + 32 * self.past.len()
    }
}
