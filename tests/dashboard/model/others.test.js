// Formats, filters, commands, sequence, explain: `node --test`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { causes, chip, clock, count, duration, millis, relative, size, summary } from '../../../crates/host/dashboard/model/format.js';
import { addressOf, chips, filterOf, fits, queryOf, timeOf, typed, whereOf } from '../../../crates/host/dashboard/model/filter.js';
import { batch, curl, jsonProblem, limiter, quote, rateOf, rateText, signal, start, startCli, VERBS } from '../../../crates/host/dashboard/model/commands.js';
import { ARROWS_MAX, sequence } from '../../../crates/host/dashboard/model/sequence.js';
import { alarm, explanation, qualifier } from '../../../crates/host/dashboard/model/explain.js';

test('lengths of time in at most two units', () => {
  for (const [ms, wanted] of [[0.25, '250µs'], [3.14, '3.1ms'], [479, '479ms'], [2600, '2.6s'], [9990, '10s'], [59_400, '59s'], [59_600, '1m'], [61_000, '1m 1s'], [11_520_000, '3h 12m'], [3_599_900, '1h'], [90_000_000, '1d 1h'], [NaN, '–']]) assert.equal(duration(ms), wanted);
});

test('times', () => {
  const now = Date.parse('2026-03-01T12:00:00Z');
  assert.equal(relative('2026-03-01T11:57:00Z', now), '3m ago');
  assert.equal(relative('2026-03-01T12:00:08Z', now), 'in 8s');
  assert.equal(relative('2026-03-01T12:00:00.5Z', now), 'now');
  assert.equal(clock('2026-03-01T01:23:57.67Z', now), '01:23:57.67 UTC');
  assert.equal(clock('2026-02-01T01:23:57.67Z', now), '2026-02-01 01:23:57.67 UTC');
  assert.ok(Math.abs(millis('2026-03-01T12:00:00.000250Z') - now - 0.25) < 1e-3);
});

test('values on one line, cut where they are long', () => {
  assert.equal(chip({ sku: 'harp', qty: 1, 'a b': [true, null] }), '{sku:"harp",qty:1,"a b":[true,null]}');
  assert.ok(chip('x'.repeat(1e6)).length <= 160);
  assert.ok(chip(Array.from({ length: 1e5 }, (_, index) => index)).length <= 160);
  assert.equal(summary({ city: 'Paris', n: 1 }), 'city: "Paris"');
  assert.deepEqual([count(1234567), count(12), size(3100), size(5)], ['1,234,567', '12', '3.1 KB', '5 B']);
  assert.equal(causes({ message: 'a', cause: { message: 'b' } }).length, 2);
});

test('a filter is the same in the address, the API and a batch', () => {
  const { filter } = typed('status:failed name:ProcessOrder tag:team=a=b since:2h order-', filterOf(new URLSearchParams()));
  assert.deepEqual(filterOf(addressOf(filter)), filter);
  const now = Date.parse('2026-03-01T12:00:00Z');
  assert.equal(queryOf(filter, now).toString(), 'status=Failed&name=ProcessOrder&prefix=order-&tag=team%3Da%3Db&createdFrom=2026-03-01T10%3A00%3A00.000Z');
  assert.deepEqual(whereOf(filter, now), { statuses: ['Failed'], name: 'ProcessOrder', prefix: 'order-', tags: { team: 'a=b' }, createdFrom: '2026-03-01T10:00:00.000Z' });
  assert.deepEqual(whereOf(filterOf(new URLSearchParams()), now), { all: true });
  assert.equal(chips(filter).length, 5);
  for (const chip of chips(filter)) assert.equal(chips(chip.without).length, 4);
  const row = { id: 'order-9', name: 'ProcessOrder', status: 'Failed', tags: { team: 'a=b' }, created: '2026-03-01T11:00:00Z' };
  assert.ok(fits(row, filter, now));
  for (const change of [{ id: 'x' }, { name: 'y' }, { status: 'Running' }, { tags: {} }, { created: '2026-03-01T09:00:00Z' }]) assert.ok(!fits({ ...row, ...change }, filter, now));
});

test('what is no filter is told', () => {
  const none = filterOf(new URLSearchParams());
  for (const text of ['status:Finished', 'tag:x', 'since:tomorrow', 'color:red', 'name:']) assert.ok(typed(text, none).problem, text);
  assert.equal(timeOf('nonsense', 0), undefined);
});

test('commands are quoted for a shell', () => {
  assert.equal(quote("it's; rm -rf /"), `'it'\\''s; rm -rf /'`);
  assert.equal(quote('order-9'), 'order-9');
  const id = "a b/'$x";
  const request = VERBS.raise.request(id, { event: 'go/on', data: '{"a":1}' });
  assert.equal(request.path, "instances/a%20b%2F'%24x/events/go%2Fon");
  assert.equal(VERBS.raise.cli(id, { event: 'go', data: '{"a":1}' }), `dalsegno raise -d '{"a":1}' 'a b/'\\''$x' go`);
  assert.equal(VERBS.terminate.cli('-x', { reason: 'too late', recursive: true }), `dalsegno terminate --reason='too late' --recursive -- -x`);
  assert.match(curl(request, 'http://h/', true), /DALSEGNO_TOKEN.*-d '\{"a":1\}'/);
});

test('input goes as it was written: no digit is lost', () => {
  assert.equal(start({ name: 'A b', input: ' {"n": 12345678901234567890} ', id: 'i', tags: 'a=1, b=2' }).body, '{"id":"i","input":{"n": 12345678901234567890},"tags":{"a":"1","b":"2"}}');
  assert.equal(startCli({ name: 'Hello', input: '1', tags: 'a=1' }), 'dalsegno start -i 1 --tag=a=1 Hello');
  assert.deepEqual(signal({ name: 'counter', key: '' }, { operation: 'add', input: '1.10' }), { method: 'POST', path: 'entities/counter/%24/signal', body: '{"operation":"add","input":1.10}' });
  assert.equal(batch('raise', { all: true }, { event: 'go', data: '1' }, true).body, '{"verb":"raise","where":{"all":true},"dryRun":true,"event":"go","input":1}');
  assert.equal(jsonProblem('{"a":1}'), undefined);
  assert.equal(jsonProblem(''), undefined);
  assert.ok(jsonProblem('{a:1}'));
});

test('rates', () => {
  assert.deepEqual(rateOf('5000/1h'), { count: 5000, periodMs: 3_600_000 });
  assert.deepEqual(rateOf('3/s'), { count: 3, periodMs: 1000 });
  assert.equal(rateOf('fast'), undefined);
  for (const text of ['5000/1h', '1/500ms', '2/90s', '7/1d']) assert.equal(rateText(rateOf(text)), text);
  assert.equal(limiter('a', { rate: '2/1s', burst: '4', concurrency: '' }).body, '{"rate":{"count":2,"periodMs":1000},"burst":4}');
});

test('a sequence has lanes and arrows, and an end to them', () => {
  const at = '2026-03-01T09:00:00Z';
  const story = sequence([{ at, kind: 'ExecutionStarted', name: 'P' }, { at, kind: 'TaskScheduled', task: 0, name: 'a' }, { at, kind: 'TaskCompleted', task: 0 }, { at, kind: 'ExecutionCompleted' }], 'me');
  assert.deepEqual(story.lanes, ['me', 'client', 'a']);
  assert.deepEqual(story.arrows.map((arrow) => [arrow.from, arrow.to, arrow.style]), [[1, 0, 'call'], [0, 2, 'call'], [2, 0, 'answer'], [0, 0, 'end']]);
  const long = sequence(Array.from({ length: 1000 }, () => ({ at, kind: 'EventRaised', name: 'x' })), 'me');
  assert.deepEqual([long.arrows.length, long.dropped], [ARROWS_MAX, 1000 - ARROWS_MAX]);
});

test('explain has one form, with the route and without', () => {
  const row = { id: 'i', name: 'P', status: 'Running', waitsFor: ['event "approved"', 'a worker that offers orchestrator "P"'] };
  const own = explanation(undefined, row);
  assert.deepEqual(own.reasons.map((one) => [one.kind, one.name]), [['event', 'approved'], ['noWorker', undefined]]);
  const [retry] = explanation(undefined, { ...row, waitsFor: ['task 4: activity "pick", 3 attempts failed, the last with E: down; the next attempt is due in 3 s'] }).reasons;
  assert.deepEqual([retry.kind, retry.task, retry.name, retry.attempt, retry.lastFailure], ['retry', 4, 'pick', 4, 'E: down']);
  assert.equal(alarm(own).kind, 'noWorker');
  assert.equal(qualifier(explanation({ reasons: [{ kind: 'retry', attempt: 2 }] }, row), row), 'retrying');
  assert.equal(qualifier(undefined, { ...row, parked: { message: 'x' } }), 'parked');
  assert.equal(alarm(explanation({ reasons: [{ kind: 'timer', text: 'x' }] }, row)), undefined);
});
