// Formats, filters, commands, sequence, explain: `node --test`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { causes, chip, clock, count, dayTime, duration, millis, relative, setZone, size, stretch, summary, visible, zoneText } from '../../../crates/host/dashboard/model/format.js';
import { addressOf, chips, filterOf, fits, isOfLists, queryOf, spanOf, timeOf, typed, whereOf } from '../../../crates/host/dashboard/model/filter.js';
import { batch, batchCli, curl, deleteCli, deleteHub, deleteHubCli, drain, drainCli, jsonProblem, limiter, located, quote, rateOf, rateText, runCli, signal, start, startCli, unlock, unlockCli, VERBS, whereText } from '../../../crates/host/dashboard/model/commands.js';
import { ARROWS_MAX, sequence } from '../../../crates/host/dashboard/model/sequence.js';
import { alarm, kindText, qualifier, stepOf } from '../../../crates/host/dashboard/model/explain.js';

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

test('characters that are not seen, and those that reorder others, are written out', () => {
  for (const [text, wanted] of [['plain ü 日本', 'plain ü 日本'], ['one\n\ttwo\r\n', 'one\n\ttwo\r\n'], ['ab\u202Edc', 'ab\\u202edc'], ['a\u200Bb\uFEFF', 'a\\u200bb\\ufeff'], ['\u2066x\u2069\u061C', '\\u2066x\\u2069\\u061c'], ['a\u001b[2J\u0007', 'a\\u001b[2J\\u0007'], ['\u{E0041}', '\\udb40\\udc41'], ['\u009b31m', '\\u009b31m']]) {
    assert.equal(visible(text), wanted);
    assert.equal(visible(wanted), wanted);
  }
  assert.equal(JSON.parse(visible(JSON.stringify({ id: 'ab\u202Edc' }))).id, 'ab\u202Edc');
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

test('filters that a hub looks at are typed, kept in the address, and sent', () => {
  const now = Date.parse('2026-03-01T00:00:00Z');
  const none = filterOf(new URLSearchParams());
  const { filter } = typed('parent:order-9 waiting-for:approved failed-activity:charge', none);
  assert.deepEqual(filterOf(addressOf(filter)), filter);
  assert.equal(queryOf(filter, now).toString(), 'parent=order-9&waitingFor=approved&failedActivity=charge');
  assert.deepEqual(whereOf(filter, now), { parent: 'order-9', waitingFor: 'approved', failedActivity: 'charge' });
  assert.deepEqual(chips(filter).map((one) => one.label), ['parent: order-9', 'waiting-for: approved', 'failed-activity: charge']);
  assert.equal(isOfLists(filter), true);
  assert.equal(isOfLists({ ...filter, waitingFor: '', failedActivity: '' }), false);
  const row = { id: 'a', status: 'Running', created: '2026-03-01T00:00:00Z' };
  assert.equal(fits({ ...row, parent: { instanceId: 'order-9' } }, filter, now), true);
  assert.equal(fits(row, filter, now), false);
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

test('what alarms, and the word behind the status', () => {
  const row = { id: 'i', name: 'P', status: 'Running' };
  const told = (...reasons) => ({ reasons });
  assert.equal(alarm(told({ kind: 'event' }, { kind: 'noWorker' })).kind, 'noWorker');
  assert.equal(alarm(told({ kind: 'timer' }, { kind: 'limiter' })), undefined);
  assert.equal(alarm(told({ kind: 'retry', attempt: 1 })), undefined);
  assert.equal(alarm(undefined), undefined);
  assert.equal(qualifier(told({ kind: 'retry', attempt: 2 }), row), 'retrying');
  assert.equal(qualifier(told({ kind: 'noWorker' }), { ...row, parked: { message: 'x' } }), 'no worker');
  assert.equal(qualifier(undefined, { ...row, parked: { message: 'x' } }), 'parked');
  assert.equal(qualifier(told({ kind: 'limiter' }), row), 'waiting');
  assert.deepEqual(['noWorker', 'lock', 'constructor'].map(kindText), ['no worker', 'lock', 'constructor']);
});

test('a step is a button, or a page', () => {
  const of = (path) => stepOf({ path: `/runtime/dalsegno/v1/${path}` });
  assert.deepEqual(of('instances/a%20b%2Fc/resume'), { verb: 'resume', id: 'a b/c', values: undefined });
  assert.deepEqual(of('instances/x/retry-now?task=6'), { verb: 'retry-now', id: 'x', values: { task: '6' } });
  assert.deepEqual(of('instances/x/events/go%2Fon'), { verb: 'raise', id: 'x', values: { event: 'go/on' } });
  assert.deepEqual(of('instances/y/explain'), { page: 'instances', id: 'y' });
  assert.deepEqual([of('workers'), of('limiters')], [{ page: 'workers' }, { page: 'limiters' }]);
  assert.deepEqual([stepOf({}), stepOf({ path: '/elsewhere' })], [undefined, undefined]);
});

test('a batch is typed as it is asked', () => {
  assert.equal(batch('purge', { all: true }, { rate: '50 / 1m' }, false).body, '{"verb":"purge","where":{"all":true},"dryRun":false,"rate":{"count":50,"periodMs":60000}}');
  assert.equal(batch('purge', { all: true }, { rate: 'slow' }, false).body, '{"verb":"purge","where":{"all":true},"dryRun":false,"rate":"slow"}');
  assert.equal(batchCli('purge', { all: true }, { rate: ' 50/1m ' }), 'dalsegno purge --where=all --rate=50/1m');
  assert.equal(drain('web 1/7').path, 'workers/web%201%2F7/drain');
  assert.equal(drainCli('web 1'), "dalsegno worker drain 'web 1'");
  assert.equal(unlock({ name: 'counter', key: '', lockHolder: 'order-9' }, { force: true }).path, 'entities/counter/%24/unlock');
  assert.equal(unlock({ name: 'counter', key: 'a', lockHolder: 'order-9' }, { force: true }).body, '{"holder":"order-9","force":true}');
  assert.equal(unlockCli({ name: 'counter', key: 'a', lockHolder: 'order-9' }, {}), 'dalsegno entity unlock --holder=order-9 counter a');
  assert.equal(batchCli('terminate', { all: true }, {}), 'dalsegno terminate --where=all');
  const where = { statuses: ['Failed', 'Running'], name: 'My Order', prefix: 'x', tags: { team: 'a"b\\c', n: '1' }, createdFrom: '2026-03-01T10:00:00.000Z' };
  assert.equal(whereText(where), 'status=Failed,Running name="My Order" prefix=x tag="team=a\\"b\\\\c" tag=n=1 since=2026-03-01T10:00:00.000Z');
  assert.equal(whereText({ parent: 'order-9', waitingFor: 'go on', failedActivity: 'charge' }), 'parent=order-9 waiting-for="go on" failed-activity=charge');
  assert.equal(batchCli('raise', { name: 'P' }, { event: '-go', data: '-1', reason: '' }), 'dalsegno raise --where=name=P -d=-1 -- -go');
  assert.equal(batchCli('purge', { prefix: "it's" }, { recursive: true, data: '1' }), `dalsegno purge --where='prefix=it'\\''s' --recursive`);
});

test('commands are typed for the server and hub that are looked at', () => {
  assert.equal(located('dalsegno stuck', 'http://127.0.0.1:8080', ''), 'dalsegno stuck');
  assert.equal(located('dalsegno stuck', 'https://orders.example', 'eu west'), "dalsegno --server=https://orders.example --hub='eu west' stuck");
  assert.equal(deleteCli({ name: 'counter', key: '' }), "dalsegno entity delete counter ''");
  assert.equal(deleteCli({ name: 'counter', key: '-k' }), 'dalsegno entity delete -- counter -k');
  assert.equal(deleteHubCli('orders'), 'dalsegno hub delete orders');
  assert.deepEqual(deleteHub('a b'), { method: 'DELETE', path: 'hubs/a%20b?confirm=a%20b' });
  assert.equal(runCli('nightly'), 'dalsegno schedule run nightly');
});

test('times are written in UTC, or as clocks are where they are read', () => {
  const now = Date.parse('2026-03-01T23:30:00Z');
  const text = '2026-03-01T23:10:00Z';
  assert.deepEqual([clock(text, now), zoneText(now), dayTime(now)], ['23:10:00.00 UTC', 'UTC', '23:30']);
  try {
    setZone('local', (at) => (at < Date.parse('2026-06-01T00:00:00Z') ? 60 : 120));
    assert.deepEqual([clock(text, now), clock(text), zoneText(now), dayTime(now)], ['00:10:00.00 UTC+01:00', '2026-03-02 00:10:00.00 UTC+01:00', 'UTC+01:00', '00:30']);
    assert.equal(zoneText(Date.parse('2026-07-01T00:00:00Z')), 'UTC+02:00');
    assert.equal(stretch(now - 3_600_000, now), '2026-03-01 23:30 – 2026-03-02 00:30 UTC+01:00');
    assert.equal(stretch(now, now + 60_000), '00:30 – 00:31 UTC+01:00');
    setZone('local', () => -210);
    assert.equal(zoneText(now), 'UTC−03:30');
  } finally {
    setZone('utc');
  }
});

test('starts are shown of the stretch of the filter, else of a day', () => {
  const now = Date.parse('2026-03-03T12:00:00Z');
  const of = (address) => spanOf(filterOf(new URLSearchParams(address)), now);
  assert.deepEqual(of(''), { from: '2026-03-02T12:00:00.000Z', to: undefined });
  assert.deepEqual(of('since=2h'), { from: '2026-03-03T10:00:00.000Z', to: undefined });
  assert.deepEqual(of('until=2026-03-01T00:00:00Z'), { from: '2026-02-28T00:00:00.000Z', to: '2026-03-01T00:00:00.000Z' });
});
