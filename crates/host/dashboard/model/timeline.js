// From a history to the rows of the timeline: what was asked for, when, what came of it.
//
// A row: { number, kind, name, input, output, failure, status, start, end, attempts, task, event, child, group }
// `status` is 'done', 'failed', 'live' or 'waits'; times are milliseconds since 1970.

import { millis } from './format.js';

/** Calls of one name that are asked for in one turn are folded into one row when they are so many. */
export const FAN_OUT_MIN = 4;
/** A timer that backs off begins this soon after the failure, and its call this soon after it fired. */
const RETRY_NEAR_MS = 1000;
/** A stretch of time without begin or end is left out when it is this share of what is left. */
const CUT_SHARE = 0.35;
/** and this share of all. */
const CUT_LEAST = 0.1;
const CUTS_MAX = 8;

const NEVER = new Set(['OrchestratorStarted', 'OrchestratorCompleted']);

/** @param {any[]} history @param {{ now: number, reasons?: any[] }} context */
export function timeline(history, context) {
  const told = history.filter((event) => !NEVER.has(event.kind));
  const started = told.find((event) => event.kind === 'ExecutionStarted');
  const begin = started ? millis(started.at) : told.length ? millis(told[0].at) : context.now;
  const ended = told.findLast?.((event) => END[event.kind]);
  const last = told.reduce((latest, event) => Math.max(latest, millis(event.at)), begin);
  const end = ended ? last : Math.max(context.now, last);
  const rows = collect(told, { begin, end, isOver: Boolean(ended) });
  const shown = foldFanOuts(groupRetries(rows));
  if (!ended) addReasons(shown, context.reasons ?? [], { begin, end });
  shown.forEach((row, index) => { row.number = index + 1; });
  return {
    name: started?.name ?? '',
    input: started?.input,
    begin,
    end,
    isOver: Boolean(ended),
    outcome: ended ? outcome(ended) : undefined,
    rows: shown,
  };
}

const END = { ExecutionCompleted: 'Completed', ExecutionFailed: 'Failed', ExecutionTerminated: 'Terminated', ExecutionCanceled: 'Canceled' };

function outcome(event) {
  return { status: END[event.kind], output: event.result, failure: event.failure, reason: event.reason };
}

function collect(told, span) {
  const rows = [];
  const open = new Map();
  let last = span.begin;
  const add = (row) => {
    const whole = { attempts: [], status: 'live', end: span.end, ...row };
    rows.push(whole);
    if (whole.task !== undefined) open.set(whole.task, whole);
    return whole;
  };
  const close = (event, change) => {
    const row = open.get(event.task);
    if (!row) return;
    Object.assign(row, { end: millis(event.at), status: 'done', closed: event }, change);
  };
  told.forEach((event, index) => {
    const at = millis(event.at);
    const take = TAKES[event.kind];
    if (take) take({ event, at, index, add, close, last });
    last = at;
  });
  for (const row of rows) {
    if (span.isOver && !row.closed && (row.status === 'live' || row.status === 'waits')) row.status = row.kind === 'timer' ? 'dropped' : 'unanswered';
  }
  return rows;
}

function attemptsOf(event, row) {
  const failures = (event.failedAttempts ?? []).map((one) => ({ at: millis(one.at), kind: one.kind, message: one.message }));
  return { attempts: failures, attemptCount: event.attempts ?? 1, attemptStarted: event.attemptStarted ? millis(event.attemptStarted) : undefined, worker: event.worker, ...row };
}

const TAKES = {
  TaskScheduled: ({ event, at, add }) => add({ kind: event.undo ? 'undo' : 'call', name: event.name, input: event.input, hasInput: 'input' in event, task: event.task, start: at, event }),
  TaskCompleted: ({ event, close }) => close(event, attemptsOf(event, { output: event.result, hasOutput: 'result' in event })),
  TaskFailed: ({ event, close }) => close(event, attemptsOf(event, { status: 'failed', failure: event.failure })),
  TimerCreated: ({ event, at, add }) => add({ kind: 'timer', name: '', task: event.task, start: at, due: millis(event.fireAt), status: 'waits', event }),
  TimerFired: ({ event, close }) => close(event, { outputText: 'fired' }),
  SubOrchestrationInstanceCreated: ({ event, at, add }) => add({ kind: event.detached ? 'start' : 'child', name: event.name, child: event.instanceId, input: event.input, hasInput: 'input' in event, task: event.task, start: at, ...(event.detached ? { end: at, status: 'done', closed: event } : {}), event }),
  SubOrchestrationInstanceCompleted: ({ event, close }) => close(event, { output: event.result, hasOutput: 'result' in event }),
  SubOrchestrationInstanceFailed: ({ event, close }) => close(event, { status: 'failed', failure: event.failure }),
  EntityOperationCalled: ({ event, at, add }) => add({ kind: 'entity', name: `${event.entity}.${event.operation}`, entity: event.entity, input: event.input, hasInput: 'input' in event, task: event.task, start: at, event }),
  EntityOperationCompleted: ({ event, close }) => close(event, { output: event.result, hasOutput: 'result' in event }),
  EntityOperationFailed: ({ event, close }) => close(event, { status: 'failed', failure: event.failure }),
  EntityOperationSignaled: ({ event, at, add }) => add({ kind: 'signal', name: `${event.entity}.${event.operation}`, entity: event.entity, input: event.input, hasInput: 'input' in event, start: at, end: at, status: 'done', closed: event, event }),
  EntityLockRequested: ({ event, at, add }) => add({ kind: 'lock', name: (event.entities ?? []).join(', '), task: event.task, start: at, status: 'waits', event }),
  EntityLockGranted: ({ event, close }) => close(event, { outputText: 'granted' }),
  EntityUnlockSent: ({ event, at, add }) => add({ kind: 'unlock', name: '', start: at, end: at, status: 'done', closed: event, event }),
  EventSent: ({ event, at, add }) => add({ kind: 'send', name: `${event.name} → ${event.instanceId}`, input: event.input, hasInput: 'input' in event, start: at, end: at, status: 'done', closed: event, event }),
  EventRaised: ({ event, at, add, last }) => add({ kind: 'event', name: event.name, output: event.input, hasOutput: 'input' in event, start: last, end: at, status: 'done', wasWaited: true, closed: event, event }),
  ExecutionSuspended: ({ event, at, add }) => add({ kind: 'suspend', name: event.reason ?? '', start: at, end: at, status: 'done', closed: event, event }),
  ExecutionResumed: ({ event, at, add }) => add({ kind: 'resume', name: event.reason ?? '', start: at, end: at, status: 'done', closed: event, event }),
  ExecutionRewound: ({ event, at, add }) => add({ kind: 'rewind', name: event.reason ?? '', start: at, end: at, status: 'done', closed: event, event }),
  CancelRequested: ({ event, at, add }) => add({ kind: 'cancel', name: event.reason ?? '', start: at, end: at, status: 'done', closed: event, event }),
};

/** In portable SDKs a retry is code: a failure, a timer, the same call again. Such a chain is one row. */
export function groupRetries(rows) {
  const result = [];
  const taken = new Set();
  const byStart = [...rows];
  for (const row of rows) {
    if (taken.has(row)) continue;
    result.push(row);
    if (row.kind !== 'call' && row.kind !== 'child') continue;
    const key = JSON.stringify(row.input ?? null);
    const attempts = [];
    let last = row;
    for (;;) {
      const failedAt = last.end;
      if (last.status !== 'failed') break;
      const timer = byStart.find((one) => one.kind === 'timer' && !taken.has(one) && one.start >= failedAt && one.start - failedAt <= RETRY_NEAR_MS);
      if (!timer) break;
      const next = timer.closed && byStart.find((one) => one !== last && !taken.has(one) && one.kind === row.kind && one.name === row.name && one.start >= timer.end && one.start - timer.end <= RETRY_NEAR_MS && JSON.stringify(one.input ?? null) === key);
      if (timer.closed && !next) break;
      // A timer that still runs may be about anything: it is a back-off only after a retry before it.
      if (!timer.closed && attempts.length === 0) break;
      attempts.push({ at: failedAt, kind: last.failure?.kind, message: last.failure?.message });
      taken.add(timer);
      if (!next) { Object.assign(last, { status: 'live', end: timer.end, due: timer.due }); break; }
      taken.add(next);
      last = next;
    }
    if (last !== row || attempts.length) {
      Object.assign(row, {
        end: last.end, status: last.status, closed: last.closed, output: last.output, hasOutput: last.hasOutput, failure: last.failure,
        attempts: [...row.attempts, ...attempts], attemptCount: attempts.length + 1, attemptStarted: last.start, due: last.due ?? row.due, retriedByCode: true,
      });
    }
  }
  return result.filter((row) => !taken.has(row));
}

/** Many calls of one name in one turn are one row that unfolds. */
export function foldFanOuts(rows) {
  const result = [];
  for (let at = 0; at < rows.length;) {
    const first = rows[at];
    let end = at + 1;
    while (end < rows.length && rows[end].kind === first.kind && rows[end].name === first.name && rows[end].start === first.start) end += 1;
    const parts = rows.slice(at, end);
    if (parts.length >= FAN_OUT_MIN && (first.kind === 'call' || first.kind === 'child')) result.push(fold(parts));
    else result.push(...parts);
    at = end;
  }
  return result;
}

function fold(parts) {
  const [first] = parts;
  const counts = { done: 0, failed: 0, live: 0 };
  for (const part of parts) counts[part.status in counts ? part.status : 'live'] += 1;
  const status = counts.live ? 'live' : counts.failed ? 'failed' : 'done';
  return {
    kind: 'map', name: first.name, parts, start: first.start, end: Math.max(...parts.map((part) => part.end)), status, counts, attempts: [], event: first.event,
    outputText: `${counts.done} of ${parts.length}${counts.failed ? `, ${counts.failed} failed` : ''}`,
  };
}

/** What `explain` knows and no history does: attempts so far, and events that nobody has raised. */
function addReasons(rows, reasons, span) {
  const flat = rows.flatMap((row) => row.parts ?? [row]);
  const last = rows.reduce((latest, row) => (row.closed ? Math.max(latest, row.end) : latest), span.begin);
  for (const reason of reasons) {
    const row = reason.task === undefined ? undefined : flat.find((one) => one.task === reason.task);
    if (row && (reason.kind === 'retry' || reason.kind === 'activity') && (reason.attempt > 1 || reason.lastFailure)) {
      row.retrying = reason.kind === 'retry' || Boolean(reason.lastFailure);
      row.attemptCount = reason.attempt;
      row.attemptsMax = reason.attemptsMax;
      row.due = reason.due ? millis(reason.due) : row.due;
      row.failure ??= typeof reason.lastFailure === 'string' ? { kind: '', message: reason.lastFailure } : reason.lastFailure;
    }
    if (reason.kind === 'event') rows.push({ kind: 'event', name: reason.name ?? '', start: last, end: span.end, status: 'waits', attempts: [], isOpen: true });
  }
}

/** Where on the axis a time is: pieces with a scale each, and the stretches that are left out.
 * @param {{start: number, end: number, attempts?: any[], parts?: any[]}[]} rows
 * @param {{begin: number, end: number}} span
 * @param {number} cutWidth share of the width that a cut takes */
export function axis(rows, span, cutWidth = 0.025) {
  const points = new Set([span.begin, span.end]);
  for (const row of rows.flatMap((one) => [one, ...(one.parts ?? [])])) {
    for (const at of [row.start, row.end, row.attemptStarted, ...(row.attempts ?? []).map((one) => one.at)]) {
      if (at >= span.begin && at <= span.end) points.add(at);
    }
  }
  const sorted = [...points].sort((a, b) => a - b);
  const cuts = findCuts(sorted, span);
  const pieces = [];
  let from = span.begin;
  for (const cut of cuts) {
    pieces.push({ from, to: cut.from });
    from = cut.to;
  }
  pieces.push({ from, to: span.end });
  const room = 1 - cuts.length * cutWidth;
  const weights = pieces.map((piece) => 1 + sorted.filter((at) => at >= piece.from && at <= piece.to).length);
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  let left = 0;
  pieces.forEach((piece, index) => {
    piece.left = left;
    piece.width = (room * weights[index]) / all;
    left += piece.width;
    if (index < cuts.length) {
      cuts[index].left = left;
      cuts[index].width = cutWidth;
      left += cutWidth;
    }
  });
  return { pieces, cuts, begin: span.begin };
}

function findCuts(sorted, span) {
  const gaps = sorted.slice(1).map((to, index) => ({ from: sorted[index], to, length: to - sorted[index] }));
  gaps.sort((a, b) => b.length - a.length);
  const cuts = [];
  let remaining = span.end - span.begin;
  for (const gap of gaps) {
    if (cuts.length >= CUTS_MAX || gap.length < 1000 || gap.length <= remaining * CUT_SHARE || gap.length <= (span.end - span.begin) * CUT_LEAST || gaps.length < 4) break;
    const margin = Math.min(gap.length * 0.05, (remaining - gap.length) * 0.1);
    cuts.push({ from: gap.from + margin, to: gap.to - margin, length: gap.length });
    remaining -= gap.length - 2 * margin;
  }
  return cuts.sort((a, b) => a.from - b.from);
}

/** The place of a time on the axis, from 0 to 1. */
export function place(scale, at) {
  for (const [index, piece] of scale.pieces.entries()) {
    if (at <= piece.to) {
      if (at < piece.from) return piece.left;
      const share = piece.to > piece.from ? (at - piece.from) / (piece.to - piece.from) : 0;
      return piece.left + share * piece.width;
    }
    const cut = scale.cuts[index];
    if (cut && at < cut.to) return cut.left;
  }
  return 1;
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5, 432e5, 864e5, 1728e5, 6048e5, 2592e6, 31536e6];

/** Where the axis is labelled: at most one label for each tenth of the width.
 * @returns {{at: number, left: number, offset: number}[]} */
export function ticks(scale, most = 11) {
  const found = [];
  for (const piece of scale.pieces) {
    const length = piece.to - piece.from;
    const room = Math.max(1, Math.floor(most * piece.width));
    const step = STEPS.find((one) => length / one <= room) ?? STEPS.at(-1);
    const first = Math.ceil((piece.from - scale.begin) / step) * step;
    for (let offset = first; offset <= piece.to - scale.begin && found.length < 200; offset += step) {
      found.push({ at: scale.begin + offset, left: place(scale, scale.begin + offset), offset });
    }
  }
  return found;
}
