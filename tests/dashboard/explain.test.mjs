// Why an instance does not move, told by the browser, and the way out of it from the browser alone.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, closeBrowser, drone, page, shop, until } from './world.mjs';

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

const reasons = () => tab.page.locator('.reasons li');
const steps = () => tab.page.locator('section[aria-label="What to do"] .step');
const dialog = () => tab.page.locator('dialog[open]');

/** Opens the panel, once it tells of what is wanted. */
async function explained(id, kind, text) {
  await tab.to(`#/instances/${encodeURIComponent(id)}?tab=explain`, '#tab-panel');
  const reason = reasons().filter({ has: tab.page.locator('.badge', { hasText: new RegExp(`^${kind}$`) }) }).filter({ hasText: text });
  await reason.first().waitFor();
  return reason.first();
}

/** Does what a step offers. */
async function take(label, fill = {}) {
  await steps().getByRole('button', { name: label }).click();
  for (const [name, value] of Object.entries(fill)) await dialog().locator(`[name="${name}"]`).fill(value);
  await dialog().locator('footer button.main').click();
  await dialog().waitFor({ state: 'detached' });
}

/** Is it on the list of the overview? */
async function isStuck(id, isThere = true) {
  await tab.to('#/', 'section[aria-label="Stuck"]');
  const row = tab.page.locator('section[aria-label="Stuck"] li').filter({ has: tab.page.getByRole('link', { name: id, exact: true }) });
  await row.waitFor({ state: isThere ? 'visible' : 'detached' });
  return row;
}

test('an event: it is raised from the panel', async () => {
  await server.start('AskForApproval', 'waits-for-event', 'a fife');
  await isStuck('waits-for-event', false);
  await explained('waits-for-event', 'event', 'approved');
  await take('Raise event', { data: '"the page"' });
  await tab.page.locator('.pill', { hasText: 'Completed' }).waitFor();
  assert.equal((await server.instance('waits-for-event')).output, 'a fife, approved by the page');
  await tab.page.getByText('It is finished: Completed.').waitFor();
});

test('suspended: it is resumed from the panel', async () => {
  await isStuck('approval-8');
  await explained('approval-8', 'suspended', 'suspended');
  await take('Resume');
  await server.until('approval-8', (row) => row.status === 'Running');
  await explained('approval-8', 'event', 'approved');
  await isStuck('approval-8', false);
});

test('a lock that another has: the page leads there, and the event that frees it is raised', async () => {
  const holders = await until(async () => {
    const { body } = await server.api('GET', 'entities/till/front');
    return body?.lockHolder && body.waiting === 1 ? body : undefined;
  }, 'nobody waits for the till');
  const waiter = holders.lockHolder === 'till-day' ? 'till-night' : 'till-day';
  assert.deepEqual(holders.queue, [{ kind: 'lock', caller: waiter, running: false }]);
  await server.api('POST', 'entities/till/front/signal', { operation: 'open' });
  await tab.to('#/entities/till/front', 'section[aria-label="Queue"] tbody tr');
  await tab.page.locator('section[aria-label="Queue"] tr', { hasText: 'open' }).getByText('nobody: a signal').waitFor();
  await tab.page.locator('section[aria-label="Queue"] tr', { hasText: 'lock' }).getByRole('link', { name: waiter }).click();
  await tab.page.locator('h1', { hasText: waiter }).waitFor();
  await (await isStuck(waiter)).getByRole('link').click();
  const reason = await explained(waiter, 'lock', `@till@front is locked by ${holders.lockHolder}`);
  await reason.getByRole('link', { name: '@till@front' }).waitFor();
  await steps().getByRole('link', { name: holders.lockHolder }).click();
  await tab.page.locator('h1', { hasText: holders.lockHolder }).waitFor();
  await explained(holders.lockHolder, 'holds a lock', 'till');
  await take('Raise event', { data: '"noon"' });
  await server.until(holders.lockHolder, (row) => row.status === 'Completed');
  await explained(waiter, 'event', 'approved');
  await take('Raise event', { data: '"midnight"' });
  await server.until(waiter, (row) => row.status === 'Completed');
  await tab.to('#/entities/till/front', '.facts');
  await tab.page.locator('.facts', { hasText: 'free' }).waitFor();
  await tab.page.locator('.facts', { hasText: 'empty' }).waitFor();
  assert.equal((await server.api('GET', 'entities/till/front')).body.state.uses, 3);
  await isStuck(waiter, false);
});

test('a limiter: who waits is listed, and more is allowed', async () => {
  const { body: [bucket] } = await server.api('GET', 'limiters');
  const last = bucket.waiters.at(-1).instanceId;
  await explained(last, 'limiter', 'catalogue');
  await tab.page.locator('.reasons').getByRole('link', { name: 'catalogue' }).first().waitFor();
  await isStuck(last);
  await explained(last, 'limiter', 'catalogue');
  await steps().getByRole('link', { name: 'Limiters' }).click();
  await tab.page.locator('td details summary').click();
  await tab.page.locator('.waiters').getByRole('link', { name: last }).first().waitFor();
  await tab.page.getByRole('button', { name: 'Edit…' }).first().click();
  await dialog().locator('[name="rate"]').fill('1000/1s');
  await dialog().locator('[name="burst"]').fill('1000');
  await dialog().locator('[name="concurrency"]').fill('50');
  await dialog().locator('footer button.main').click();
  await tab.page.locator('td', { hasText: '50' }).waitFor();
  await until(async () => (await server.api('GET', 'limiters')).body[0].waiting === 0, 'they wait still');
  await explained(last, 'activity', 'is at work');
});

test('a retry: the attempt, what the last one said, and the alert', async () => {
  await server.api('POST', 'instances/order-3001/events/approved', 'bob');
  const reason = await explained('order-3001', 'retry', 'warehouse_pick');
  const text = await reason.textContent();
  assert.match(text, /Attempt\d+ of 10/);
  assert.match(text, /Last failure.*500 Internal Server Error/);
  await tab.page.locator('.alert', { hasText: 'warehouse_pick has failed' }).waitFor();
  await tab.page.locator('.pill', { hasText: 'retrying' }).waitFor();
  await isStuck('order-3001');
});

test('a retry that is far away: its next attempt begins from the panel, or from the alert', async () => {
  for (const from of ['panel', 'alert']) {
    const id = `tune-${from}`;
    await server.start('Tune', id, 'the harp');
    await explained(id, 'retry', 'a string broke');
    await tab.page.locator('.alert', { hasText: 'next attempt in 59m' }).waitFor();
    if (from === 'panel') await take('Retry now');
    else {
      await tab.page.locator('.alert').getByRole('button', { name: 'retry now' }).click();
      assert.equal(await dialog().locator('[name="task"]').inputValue(), '0');
      await dialog().locator('footer button.main').click();
    }
    assert.equal((await server.until(id, (row) => row.status === 'Completed')).output, 'the harp is in tune');
    await tab.page.locator('.pill', { hasText: 'Completed' }).waitFor();
  }
});

test('a timer, a child, a delayed start: what it waits for, and nothing alarms', async () => {
  const timer = await explained('maintain-3', 'timer', 'timer, due in 29 d');
  assert.match(await timer.textContent(), /functions\.rs:\d+/, 'it says where in the code');
  await server.start('Concert', 'concert-1', 'a suite');
  const child = await until(async () => (await server.instance('concert-1')) && (await server.api('GET', 'instances/concert-1/explain')).body.reasons.find((one) => one.kind === 'child'), 'it has no child');
  await explained('concert-1', 'child', 'event "approved"');
  assert.equal(await tab.page.locator('.alert').count(), 0);
  await steps().getByRole('link', { name: child.instance }).click();
  await tab.page.locator('h1', { hasText: child.instance }).waitFor();
  await take('Raise event', { data: '"the parent"' });
  assert.equal((await server.until('concert-1', (row) => row.status === 'Completed')).output, 'a suite, approved by the parent');
  await server.start('Idle', 'later-1', 1, { scheduledStart: '2100-01-01T00:00:00Z' });
  await explained('later-1', 'delayed start', 'its start is due');
});

test('no worker, for an orchestrator and for an activity: they go on when one comes', async () => {
  await server.start('Engrave', 'engrave-1', 'Ada');
  await isStuck('engrave-1');
  await explained('engrave-1', 'no worker', 'cut_letters');
  await tab.page.locator('.alert', { hasText: 'No worker' }).waitFor();
  await steps().filter({ hasText: 'Start a host or a worker that offers "cut_letters"' }).waitFor();
  await isStuck('drone-1');
  await explained('drone-1', 'no worker', 'ShipByDrone');
  await steps().getByRole('link', { name: 'Workers' }).click();
  await tab.page.getByText('No worker is connected over gRPC.').waitFor();
  const worker = await drone(server.address);
  await tab.page.locator('section[aria-label="Connected workers"] .tag', { hasText: 'cut_letters' }).waitFor();
  assert.equal((await server.until('engrave-1', (row) => row.status === 'Completed')).output, 'Ada is cut');
  await server.until('drone-1', (row) => row.status === 'Completed');
  await isStuck('engrave-1', false);
  await worker.kill();
});

test('parked by a fault: it is set going again from the panel, and goes on once the cause is gone', async () => {
  await server.until('greedy-1', (row) => row.parked);
  await isStuck('greedy-1');
  await explained('greedy-1', 'parked', 'turn_actions_max');
  assert.match(await steps().textContent(), /Correct the code, start it, then set the instance going again/);
  await take('Rewind', { reason: 'once more' });
  await tab.page.locator('.toast', { hasText: 'greedy-1 took it' }).waitFor();
  await server.until('greedy-1', (row) => row.parked);
  // The cause is gone after a start with another limit, which tries it by itself.
  await server.end();
  server = await shop('--empty', '--generous', '--folder', server.path);
  const own = await page(server.address);
  await own.to('#/instances/greedy-1?tab=explain', '#tab-panel');
  await own.page.getByText('It is finished: Completed.').waitFor();
  assert.equal((await server.instance('greedy-1')).output, 4_000);
  await own.close();
});

test('parked because the code was changed: both sides are shown, and the old code goes on', async () => {
  await server.start('Wrap', 'wrap-1', 'a harp');
  await server.until('wrap-1', (row) => row.status === 'Running' && row.events > 4);
  await server.end();
  server = await shop('--empty', '--rewritten', '--folder', server.path);
  await server.api('POST', 'instances/wrap-1/events/approved', 'bob');
  await server.until('wrap-1', (row) => row.parked);
  const own = await page(server.address);
  await own.to('#/instances/wrap-1', '.alert .divergence');
  const [recorded, asked] = await own.page.locator('.divergence > div').allTextContents();
  assert.match(recorded, /^History records.*wrap_in_paper/s);
  assert.match(asked, /^The code asked for.*wrap_in_foil.*functions\.rs:\d+:\d+/s);
  await own.to('#/instances/wrap-1?tab=state', 'section[aria-label="Fault"] .divergence');
  assert.deepEqual(await axe(own), []);
  await own.close();
  await server.end();
  server = await shop('--empty', '--folder', server.path);
  assert.equal((await server.until('wrap-1', (row) => row.status === 'Completed')).output, 'a harp in paper, approved by bob');
});
