//! What instances did, for tracing systems: kept without values while they live, told at their end.
//!
//! Where nobody is told, a trace is handed on as it came and nothing is kept.

use std::sync::Arc;

use dalsegno_core::span::{EndedExecution, SpanElsewhere, Spans, without_values};
use dalsegno_core::{Event, ExecutionId, InstanceId, SpanId, TraceContext};

use super::Partition;
use super::slot::{Resident, Slot};
use crate::record;
use crate::traces::Traces;
use crate::turn::{Effect, Turn};

/// Who tells of the creation of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Creator {
    /// The hub.
    Hub,
    /// Who asked for it, with the span that its trace names.
    Caller,
}

/// The trace of a new instance.
pub(super) fn begin_trace(
    traces: Option<&Arc<dyn Traces>>,
    execution: ExecutionId,
    given: Option<&TraceContext>,
    creator: Creator,
) -> Option<TraceContext> {
    let Some(traces) = traces else {
        return given.cloned();
    };
    let creation = SpanId::of_creation(execution);
    Some(match given {
        Some(given) if creator == Creator::Caller => given.with_creation(None),
        Some(given) => {
            let trace = u128::from_str_radix(given.trace_id(), 16).unwrap_or(0);
            given.created_by(creation, traces.samples(trace, Some(given.is_sampled())))
        }
        None => {
            let trace = execution.0.max(1);
            TraceContext::begun(trace, creation, traces.samples(trace, None))
        }
    })
}

/// Prepares an instance that came into memory for what it will do.
pub(super) fn follow(traces: Option<&Arc<dyn Traces>>, resident: &mut Resident) {
    let orchestration = &mut resident.orchestration;
    let row = &orchestration.row;
    if row.status.is_final() || (traces.is_none() && row.extra.is_empty()) {
        return;
    }
    let elsewhere = record::decode_extra(&row.extra).unwrap_or_default().span;
    if let Some(elsewhere) = elsewhere {
        orchestration.spans = Spans::ToldElsewhere(elsewhere.id);
    }
    if traces.is_none() {
        return;
    }
    if orchestration.trace.is_none() {
        // It was created before anybody was told.
        orchestration.trace = begin_trace(traces, row.execution_id, None, Creator::Hub);
    }
    let is_sampled = orchestration.trace.as_ref().is_some_and(TraceContext::is_sampled);
    if !is_sampled {
        return;
    }
    if elsewhere.is_none() {
        orchestration.spans = Spans::Told;
    }
    let history = resident.history.as_deref().unwrap_or_default();
    resident.trail = Some(history.iter().map(without_values).collect());
}

impl Partition {
    /// Notes what a turn added, and tells of the execution when it is over.
    pub(super) fn note_trail(&mut self, id: &InstanceId, events: &[Event], is_over: bool, turn: &mut Turn) {
        let Some(traces) = self.config.traces.clone() else {
            return;
        };
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let Some(trail) = &mut resident.trail else {
            return;
        };
        trail.extend(events.iter().map(without_values));
        if !is_over {
            return;
        }
        let row = &resident.orchestration.row;
        let (Some(history), Some(trace)) = (resident.trail.take(), resident.orchestration.trace.clone())
        else {
            return;
        };
        let ended = EndedExecution {
            instance: id.clone(),
            key: row.key,
            trace,
            created: row.created,
            elsewhere: record::decode_extra(&row.extra).unwrap_or_default().span,
            history,
        };
        let tell = Effect::Answer(Box::new(move || traces.ended(ended)));
        turn.effects.push(tell);
    }

    /// Code that runs elsewhere tells of its spans itself, under this one.
    pub(super) fn note_span(&mut self, id: &InstanceId, span: Option<SpanElsewhere>) {
        let Some(resident) = self.slots.get_mut(id).and_then(Slot::resident_mut) else {
            return;
        };
        let Some(span) = span else { return };
        let row = &mut resident.orchestration.row;
        let mut extra = record::decode_extra(&row.extra).unwrap_or_default();
        if extra.span.replace(span) != Some(span) {
            row.extra = record::encode_extra(&extra);
            resident.is_extra_changed = true;
            resident.orchestration.spans = Spans::ToldElsewhere(span.id);
        }
    }
}

/// What a row holds for the next execution: its creation was told of, and its code has yet to say
/// whether it tells of its spans.
pub(super) fn for_next_execution(extra: &[u8]) -> Vec<u8> {
    if extra.is_empty() {
        return Vec::new();
    }
    let mut read = record::decode_extra(extra).unwrap_or_default();
    let is_noted =
        !read.awaited_events.is_empty() || read.failed_activity.is_some() || read.unconsumed.count > 0;
    let has_creation = |trace: &TraceContext| trace.creation().is_some();
    if !is_noted && read.span.is_none() && !read.trace.as_ref().is_some_and(has_creation) {
        return extra.to_vec();
    }
    read.awaited_events.clear();
    read.failed_activity = None;
    read.unconsumed = Default::default();
    read.span = None;
    read.trace = read.trace.map(|trace| trace.with_creation(None));
    record::encode_extra(&read)
}
