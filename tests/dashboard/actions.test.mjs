// Every action of the dashboard, each checked by what the API says afterwards.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeBrowser, page, shop, until } from './world.mjs';

let server;
let tab;
before(async () => {
  server = await shop();
  tab = await page(server.address);
});
after(async () => {
  await tab.close();
  await closeBrowser();
  await server.end();
});

const dialog = () => tab.page.locator('dialog[open]');
const field = (name) => dialog().locator(`[name="${name}"]`);
const closed = () => dialog().waitFor({ state: 'detached' });
const submit = () => dialog().locator('footer button.main').click();

/** Opens a page of its own, fresh, and a verb's dialog. */
async function ask(id, verb) {
  await tab.to(`#/instances/${encodeURIComponent(id)}`, '.head .push button');
  const front = tab.page.locator('.head .push > button', { hasText: verb });
  await tab.page.locator('.head .push button').first().waitFor();
  if (!(await front.count())) {
    await tab.page.getByRole('button', { name: 'More' }).click();
    await tab.page.locator('.menu li button', { hasText: verb }).click();
  } else await front.click();
  await dialog().locator('form').waitFor();
}

async function waiting(id) {
  await server.start('AskForApproval', id, 'a flute');
  await server.until(id, (row) => row.status === 'Running');
}

test('start: the form checks JSON, shows both commands, and starts', async () => {
  await tab.to('#/instances', '.head button.main');
  await tab.page.getByRole('button', { name: 'Start…' }).click();
  await field('name').fill('AskForApproval');
  await field('input').fill('{"a": ');
  await dialog().locator('.error', { hasText: 'not JSON' }).waitFor();
  assert.ok(await dialog().locator('footer button.main').isDisabled());
  await field('input').fill('"a harp"');
  await field('id').fill('by-form');
  await field('tags').fill('team=blue shop=7');
  const text = await dialog().textContent();
  assert.ok(text.includes(`dalsegno --server=${server.address} start -i '"a harp"' --id=by-form --tag=team=blue --tag=shop=7 AskForApproval`), text);
  assert.ok(text.includes('curl -X POST') && text.includes('/runtime/dalsegno/v1/orchestrators/AskForApproval'), text);
  await submit();
  await closed();
  const row = await server.until('by-form', (found) => found?.status === 'Running');
  assert.deepEqual([row.name, row.input, row.tags], ['AskForApproval', 'a harp', { shop: '7', team: 'blue' }]);
  await tab.page.locator('h1', { hasText: 'by-form' }).waitFor();
});

test('a refusal is told where it was asked', async () => {
  await waiting('taken');
  await tab.to('#/instances', '.head button.main');
  await tab.page.getByRole('button', { name: 'Start…' }).click();
  await field('name').fill('AskForApproval');
  await field('id').fill('taken');
  await submit();
  await dialog().locator('.error', { hasText: 'instance_exists' }).waitFor();
  await tab.page.keyboard.press('Escape');
  await closed();
});

test('raise an event: its name is there already', async () => {
  await waiting('to-raise');
  await ask('to-raise', 'Raise event');
  assert.equal(await field('event').inputValue(), 'approved');
  await field('data').fill('"by hand"');
  await submit();
  await closed();
  const row = await server.until('to-raise', (found) => found.status === 'Completed');
  assert.equal(row.output, 'a flute, approved by by hand');
  await tab.page.locator('.pill', { hasText: 'Completed' }).waitFor();
});

test('suspend and resume', async () => {
  await waiting('to-suspend');
  await ask('to-suspend', 'Suspend');
  await field('reason').fill('lunch');
  await submit();
  await server.until('to-suspend', (row) => row.status === 'Suspended');
  await tab.page.locator('.pill', { hasText: 'Suspended' }).waitFor();
  await closed();
  await ask('to-suspend', 'Resume');
  await submit();
  await server.until('to-suspend', (row) => row.status === 'Running');
  const history = (await server.api('GET', 'instances/to-suspend/history')).body;
  assert.equal(history.find((event) => event.kind === 'ExecutionSuspended').reason, 'lunch');
});

test('cancel', async () => {
  await waiting('to-cancel');
  await ask('to-cancel', 'Cancel');
  await field('reason').fill('no need');
  await submit();
  await server.until('to-cancel', (row) => row.status === 'Canceled');
});

test('terminate wants the id', async () => {
  await waiting('to-terminate');
  await ask('to-terminate', 'Terminate');
  assert.ok(await dialog().locator('footer button.main').isDisabled());
  await field('confirm').fill('to-terminat');
  assert.ok(await dialog().locator('footer button.main').isDisabled());
  await field('confirm').fill('to-terminate');
  await field('reason').fill('too late');
  await submit();
  await server.until('to-terminate', (row) => row.status === 'Terminated');
});

test('rewind a failed one: it goes on and completes', async () => {
  await server.start('Refund', 'to-rewind', 100);
  await server.until('to-rewind', (row) => row.status === 'Failed');
  await ask('to-rewind', 'Rewind');
  await submit();
  const row = await server.until('to-rewind', (found) => found.status === 'Completed');
  assert.equal(row.output, '100 cents are back');
  await closed();
  await tab.page.locator('.pill', { hasText: 'Completed' }).waitFor();
});

test('rewind is offered for what is parked', async () => {
  await server.until('greedy-1', (row) => row.parked);
  await ask('greedy-1', 'Rewind');
  await tab.page.keyboard.press('Escape');
  await closed();
});

test('restart, under a new id and under its own', async () => {
  await server.start('Idle', 'to-restart', 5);
  const first = await server.until('to-restart', (row) => row.status === 'Completed');
  await ask('to-restart', 'Restart');
  await field('same').count();
  await submit();
  const link = tab.page.locator('.toast a');
  await link.waitFor();
  const id = await link.textContent();
  assert.notEqual(id, 'to-restart');
  assert.equal((await server.until(id, (row) => row?.status === 'Completed')).output, 5);
  await ask('to-restart', 'Restart');
  await dialog().getByLabel('Under the same id').check();
  await submit();
  await server.until('to-restart', (row) => row.executionId !== first.executionId && row.status === 'Completed');
});

test('purge wants the id', async () => {
  await server.start('Idle', 'to-purge', 5);
  await server.until('to-purge', (row) => row.status === 'Completed');
  await ask('to-purge', 'Purge');
  await field('confirm').fill('to-purge');
  await submit();
  await until(async () => (await server.api('GET', 'instances/to-purge')).status === 404, 'it is still there');
  await tab.page.locator('h1', { hasText: 'Orchestrations' }).waitFor();
});

test('signal an entity, and delete it', async () => {
  await tab.to('#/entities/counter/by-hand', '.problem');
  await tab.page.getByRole('button', { name: 'Signal…' }).click();
  await field('operation').fill('add');
  await field('input').fill('7');
  await submit();
  await until(async () => (await server.api('GET', 'entities/counter/by-hand')).body?.state?.count === 7, 'it did not count');
  await tab.page.locator('pre.json', { hasText: '"count": 7' }).waitFor();
  await tab.page.getByRole('button', { name: 'Delete…' }).click();
  await field('confirm').fill('@counter@by-hand');
  await submit();
  await until(async () => (await server.api('GET', 'entities/counter/by-hand')).status === 404, 'it is still there');
  // The page leaves by itself, and would take the next test along.
  await tab.page.waitForURL(/#\/entities$/);
});

test('a lock shows its holder', async () => {
  await until(async () => (await server.api('GET', 'entities/till/front')).body?.lockHolder, 'the till is free');
  await tab.to('#/entities/till/front', 'pre.json');
  await tab.page.locator('.facts a', { hasText: /^till-/ }).waitFor();
});

test('edit a limiter', async () => {
  await tab.to('#/limiters', 'td button');
  await tab.page.getByRole('button', { name: 'Edit…' }).first().click();
  await field('rate').fill('soon');
  await dialog().locator('.error', { hasText: '5000/1h' }).waitFor();
  await field('rate').fill('30/1m');
  await field('burst').fill('3');
  await field('concurrency').fill('2');
  assert.match(await dialog().textContent(), /dalsegno --server=\S+ limiter set --rate=30\/1m --burst=3 --concurrency=2 catalogue/);
  await submit();
  await until(async () => {
    const [bucket] = (await server.api('GET', 'limiters')).body;
    return bucket.concurrency === 2 && bucket.burst === 3 && bucket.rate.count === 30 && bucket.rate.periodMs === 60_000;
  }, 'the limiter is as it was');
  await tab.page.locator('td', { hasText: '30/1m' }).waitFor();
});

test('run a schedule now: what it does, and that it failed', async () => {
  const before = (await server.api('GET', 'schedules')).body;
  assert.deepEqual(before.map((one) => [one.name, one.schedule, one.timeZone, one.next.length]).sort(), [['broken_clock', '0 0 4 1 1 *', 'UTC', 5], ['nightly_report', '0 30 2 * * *', 'Europe/Berlin', 5]]);
  await tab.to('#/schedules', 'td button');
  const row = (name) => tab.page.locator('tbody tr', { hasText: name });
  await row('nightly_report').getByRole('button').click();
  await submit();
  await until(async () => (await server.api('GET', 'instances?prefix=report-')).body.rows.length === 1, 'no report was begun');
  await row('nightly_report').locator('.s-Completed').waitFor();
  await row('broken_clock').getByRole('button').click();
  await submit();
  await row('broken_clock').getByText('the clock has no hands').waitFor();
  assert.equal((await server.api('POST', 'schedules/nightly_rport/run')).body.detail, 'there is no timer trigger nightly_rport: did you mean nightly_report?');
});

test('a batch: dry run, confirmation, progress, result', async () => {
  const ids = Array.from({ length: 40 }, (_, number) => `crowd-${number}`);
  await Promise.all(ids.map((id) => server.start('AskForApproval', id, 'a flute', { tags: { crowd: 'yes' } })));
  await server.start('AskForApproval', 'bystander', 'a flute');
  await tab.to('#/instances?tag=crowd%3Dyes', '.list .row a');
  await tab.page.getByRole('button', { name: 'Batch…' }).click();
  await field('verb').selectOption('terminate');
  await field('reason').fill('all at once');
  await dialog().getByRole('button', { name: 'Dry run' }).click();
  await dialog().getByText('40', { exact: true }).waitFor();
  await field('confirm').fill('terminate');
  await dialog().getByRole('button', { name: 'Terminate 40' }).click();
  await dialog().locator('[data-state="done"]').waitFor();
  await dialog().getByText('40 of 40 took it').waitFor();
  for (const id of ids) assert.equal((await server.until(id, (row) => row.status === 'Terminated')).status, 'Terminated');
  assert.equal((await server.instance('bystander')).status, 'Running');
  await dialog().getByRole('button', { name: 'Close' }).click();
  await tab.to('#/hub', '[aria-label="Batch jobs"] li');
  await tab.page.locator('[aria-label="Batch jobs"] li', { hasText: '40 of 40 took it' }).waitFor();
});

test('a batch raises an event in all that wait', async () => {
  await Promise.all(['a', 'b', 'c'].map((id) => server.start('AskForApproval', `choir-${id}`, 'a song')));
  await tab.to('#/instances?prefix=choir-', '.list .row a');
  await tab.page.getByRole('button', { name: 'Batch…' }).click();
  await field('verb').selectOption('raise');
  await field('event').fill('approved');
  await field('data').fill('"all"');
  await dialog().getByRole('button', { name: 'Dry run' }).click();
  await dialog().getByRole('button', { name: 'Raise event 3' }).click();
  for (const id of ['a', 'b', 'c']) assert.equal((await server.until(`choir-${id}`, (row) => row.status === 'Completed')).output, 'a song, approved by all');
  await dialog().getByRole('button', { name: 'Close' }).click();
});

test('batches by the API: what is refused, what is left out, and an end to them', async () => {
  const batch = (body) => server.api('POST', 'operations', body);
  assert.equal((await batch({ verb: 'terminate', where: {} })).body.code, 'missing_parameter');
  assert.equal((await batch({ verb: 'terminate', where: { statuses: ['Completed'] } })).body.code, 'invalid_parameter');
  assert.equal((await batch({ verb: 'explode', where: { all: true } })).status, 400);
  assert.equal((await batch({ verb: 'raise', where: { all: true } })).body.code, 'missing_parameter');
  assert.equal((await batch({ verb: 'purge', where: { al: true } })).status, 400);
  assert.equal((await server.api('GET', 'operations/nobody')).status, 404);
  const over = async (body) => {
    const begun = await batch(body);
    assert.equal(begun.status, 202, JSON.stringify(begun.body));
    return until(async () => { const { body: job } = await server.api('GET', `operations/${begun.body.id}`); return job.state !== 'running' && job; }, 'the job goes on for ever');
  };
  await Promise.all(['x', 'y'].map((id) => server.start('Idle', `swept-${id}`, 1)));
  await Promise.all(['x', 'y'].map((id) => server.until(`swept-${id}`, (row) => row.status === 'Completed')));
  const dry = await over({ verb: 'purge', where: { prefix: 'swept-' }, dryRun: true });
  assert.deepEqual([dry.state, dry.matched, dry.applied, dry.examples.sort()], ['done', 2, 0, ['swept-x', 'swept-y']]);
  const twice = await over({ verb: 'restart', where: { prefix: 'swept-' } });
  assert.deepEqual([twice.matched, twice.applied], [2, 2]);
  const gone = await over({ verb: 'purge', where: { prefix: 'swept-' } });
  assert.deepEqual([gone.matched, gone.applied, gone.failed], [2, 2, 0]);
  for (const [verb, start, end] of [['suspend', 'AskForApproval', 'Suspended'], ['resume', null, 'Running'], ['cancel', null, 'Canceled']]) {
    if (start) await server.start(start, 'one', 'a flute').then((id) => server.until(id, (row) => row.status === 'Running'));
    assert.equal((await over({ verb, where: { prefix: 'one' } })).applied, 1, verb);
    await server.until('one', (row) => row.status === end);
  }
  await server.start('Refund', 'again-1', 3);
  await server.until('again-1', (row) => row.status === 'Failed');
  assert.equal((await over({ verb: 'rewind', where: { prefix: 'again-' } })).applied, 1);
  await server.until('again-1', (row) => row.status === 'Completed');
  const cancelled = await batch({ verb: 'suspend', where: { prefix: 'nobody-' } });
  assert.equal((await server.api('DELETE', `operations/${cancelled.body.id}`)).status, 202);
});
