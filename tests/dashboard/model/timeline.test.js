// The timeline's model: `node --test`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { axis, place, ticks, timeline, FAN_OUT_MIN } from '../../../crates/host/dashboard/model/timeline.js';

const BEGIN = Date.parse('2026-03-01T09:00:00Z');
const at = (seconds) => new Date(BEGIN + seconds * 1000).toISOString();
const started = { at: at(0), kind: 'ExecutionStarted', name: 'ProcessOrder', input: { sku: 'harp' } };
const call = (seconds, task, name, input) => ({ at: at(seconds), kind: 'TaskScheduled', task, name, input });
const done = (seconds, task, more = {}) => ({ at: at(seconds), kind: 'TaskCompleted', task, result: 'ok', attempts: 1, ...more });
const failed = (seconds, task) => ({ at: at(seconds), kind: 'TaskFailed', task, attempts: 1, failure: { kind: 'Error', message: 'down' } });
const timer = (seconds, task) => ({ at: at(seconds), kind: 'TimerCreated', task, fireAt: at(seconds + 1) });
const fired = (seconds, task) => ({ at: at(seconds), kind: 'TimerFired', task });
const rows = (events, more = {}) => timeline([started, ...events], { now: BEGIN + 60_000, ...more }).rows;

test('a call and its result are one row', () => {
  const [row, ...others] = rows([call(1, 0, 'reserve', 1), done(3, 0)]);
  assert.equal(others.length, 0);
  assert.deepEqual([row.kind, row.name, row.output, row.status, row.end - row.start], ['call', 'reserve', 'ok', 'done', 2000]);
});

test('what is not answered lives until now, or is left unanswered', () => {
  assert.deepEqual(rows([call(1, 0, 'a')]).map((row) => [row.status, row.end]), [['live', BEGIN + 60_000]]);
  const end = { at: at(5), kind: 'ExecutionTerminated' };
  assert.equal(rows([call(1, 0, 'a'), timer(1, 1), end])[0].status, 'unanswered');
  assert.equal(rows([call(1, 0, 'a'), timer(1, 1), end])[1].status, 'dropped');
});

test('retries that the engine made are ticks of the row', () => {
  const [row] = rows([call(0, 0, 'charge'), done(4, 0, { attempts: 3, attemptStarted: at(3), worker: 'w', failedAttempts: [{ at: at(1), kind: 'E', message: 'a' }, { at: at(2), kind: 'E', message: 'b' }] })]);
  assert.deepEqual([row.attemptCount, row.attempts.length, row.attemptStarted], [3, 2, BEGIN + 3000]);
});

test('a retry that is code is one row: failure, timer, the same call', () => {
  const events = [call(0, 0, 'charge', 1), failed(1, 0), timer(1, 1), fired(2, 1), call(2, 2, 'charge', 1), failed(3, 2), timer(3, 3), fired(4, 3), call(4, 4, 'charge', 1), done(5, 4)];
  const [row, ...others] = rows(events);
  assert.equal(others.length, 0);
  assert.deepEqual([row.attemptCount, row.attempts.length, row.status, row.output, row.end], [3, 2, 'done', 'ok', BEGIN + 5000]);
});

test('another input, another name or a late timer is no retry', () => {
  for (const events of [
    [call(0, 0, 'charge', 1), failed(1, 0), timer(1, 1), fired(2, 1), call(2, 2, 'charge', 2), done(3, 2)],
    [call(0, 0, 'charge', 1), failed(1, 0), timer(1, 1), fired(2, 1), call(2, 2, 'refund', 1), done(3, 2)],
    [call(0, 0, 'charge', 1), failed(1, 0), timer(9, 1), fired(10, 1), call(10, 2, 'charge', 1), done(11, 2)],
  ]) assert.equal(rows(events).length, 3);
});

test('a retry that waits for its timer lives', () => {
  const [row] = rows([call(0, 0, 'charge', 1), failed(1, 0), timer(1, 1), fired(2, 1), call(2, 2, 'charge', 1), failed(3, 2), timer(3, 3)]);
  assert.deepEqual([row.status, row.attempts.length, row.due], ['live', 2, BEGIN + 4000]);
});

test('a fan-out is one row with parts, a few calls are not', () => {
  const many = (count) => Array.from({ length: count }, (_, task) => call(1, task, 'check', { n: task }));
  const [row, ...others] = rows([...many(FAN_OUT_MIN), done(2, 0), failed(3, 1)]);
  assert.equal(others.length, 0);
  assert.deepEqual([row.kind, row.parts.length, row.status, row.counts], ['map', FAN_OUT_MIN, 'live', { done: 1, failed: 1, live: FAN_OUT_MIN - 2 }]);
  assert.equal(rows(many(FAN_OUT_MIN - 1)).length, FAN_OUT_MIN - 1);
});

test('an event row begins where the instance began to wait', () => {
  const found = rows([call(0, 0, 'a'), done(2, 0), { at: at(50), kind: 'EventRaised', name: 'approved', input: 'bob' }]);
  assert.deepEqual([found[1].start, found[1].end, found[1].output], [BEGIN + 2000, BEGIN + 50_000, 'bob']);
});

test('explain adds attempts that no history has yet, and events nobody raised', () => {
  const found = rows([call(0, 0, 'pick')], { reasons: [{ kind: 'retry', task: 0, attempt: 6, attemptsMax: 10, due: at(68), lastFailure: 'HTTP 500' }, { kind: 'event', name: 'approved' }] });
  assert.deepEqual([found[0].retrying, found[0].attemptCount, found[0].failure.message], [true, 6, 'HTTP 500']);
  assert.deepEqual([found[1].kind, found[1].name, found[1].status], ['event', 'approved', 'waits']);
});

test('long silence is cut, and the scale keeps its order', () => {
  const story = timeline([started, call(0.1, 0, 'a'), done(2, 0), timer(2, 1), fired(5, 1), { at: at(11_000), kind: 'EventRaised', name: 'go' }, call(11_000, 2, 'b'), done(11_060, 2), { at: at(11_060), kind: 'ExecutionCompleted' }], { now: 0 });
  const scale = axis(story.rows, story);
  assert.equal(scale.cuts.length, 1);
  assert.ok(scale.cuts[0].length > 10_000_000);
  const places = [0, 2, 5, 6000, 11_000, 11_030, 11_060].map((seconds) => place(scale, BEGIN + seconds * 1000));
  for (let index = 1; index < places.length; index += 1) assert.ok(places[index] > places[index - 1] || index === 3, `${places}`);
  assert.ok(places.every((one) => one >= 0 && one <= 1.0001));
  assert.ok(ticks(scale).length >= 4);
});

test('even steps are not cut', () => {
  const events = [0, 1, 2, 3, 4].flatMap((one) => [call(one * 10, one, `step ${one}`), done(one * 10 + 10, one)]);
  const story = timeline([started, ...events, { at: at(50), kind: 'ExecutionCompleted' }], { now: 0 });
  assert.deepEqual(axis(story.rows, story).cuts, []);
});

test('any history gives rows and a scale: 2,000 random ones', () => {
  const kinds = ['TaskScheduled', 'TaskCompleted', 'TaskFailed', 'TimerCreated', 'TimerFired', 'EventRaised', 'SubOrchestrationInstanceCreated', 'SubOrchestrationInstanceFailed', 'EntityLockRequested', 'EntityLockGranted', 'ExecutionSuspended', 'ExecutionRewound', 'Unheard', 'ExecutionCompleted'];
  let state = 1;
  const random = (most) => { state = (state * 48271) % 2147483647; return state % most; };
  for (let round = 0; round < 2000; round += 1) {
    let seconds = 0;
    const events = Array.from({ length: random(30) }, () => {
      seconds += random(4) ? random(3) / 10 : random(100_000);
      return { at: at(seconds), kind: kinds[random(kinds.length)], task: random(6), name: `n${random(2)}`, fireAt: at(seconds + 1), failure: { kind: 'E', message: 'm' } };
    });
    const story = timeline(events, { now: BEGIN + 1e9 });
    const scale = axis(story.rows, story);
    for (const row of story.rows) {
      assert.ok(row.end >= row.start, `round ${round}`);
      const [left, right] = [place(scale, row.start), place(scale, row.end)];
      assert.ok(left >= 0 && right <= 1.0001 && right >= left - 1e-9, `round ${round}: ${left} ${right}`);
    }
    assert.ok(ticks(scale).length <= 200);
  }
});
