//! What lines that users log say of where they were logged: instance, function, task, trace.
//!
//! The spans are of the level `ERROR` so that no filter takes them from the lines within them.

use dalsegno_core::{EntityId, TraceContext};
use dalsegno_engine::executor::{ActivityRequest, ExecutionInfo, OperationRequest};
use tracing::Span;

pub(crate) fn of_orchestrator(info: &ExecutionInfo) -> Span {
    tracing::error_span!(
        "orchestrator",
        instance_id = info.instance.as_str(),
        execution_id = display(info.execution_id),
        name = &*info.name,
        trace_id = info.trace.as_ref().map(TraceContext::trace_id),
    )
}

pub(crate) fn of_activity(request: &ActivityRequest) -> Span {
    tracing::error_span!(
        "activity",
        instance_id = request.instance.as_str(),
        execution_id = display(request.execution_id),
        name = &*request.name,
        task_id = request.task.0,
        attempt = request.attempt,
        trace_id = request.trace.as_ref().map(TraceContext::trace_id),
    )
}

pub(crate) fn of_operation(entity: &EntityId, request: &OperationRequest) -> Span {
    tracing::error_span!(
        "entity",
        instance_id = display(entity),
        name = entity.name(),
        operation = &*request.operation,
        trace_id = request.trace.as_ref().map(TraceContext::trace_id),
    )
}
