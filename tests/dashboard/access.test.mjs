// Who may look and who may act: keys, scopes, read-only, switched off.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { client, closeBrowser, folder, page, serve, shop } from './world.mjs';

after(closeBrowser);

function makeKey(file, name, ...scopes) {
  const args = ['key', 'create', name, '--file', file, ...scopes.flatMap((scope) => ['--scope', scope])];
  const told = execFileSync(process.env.DALSEGNO, args, { encoding: 'utf8' });
  return /dsk_[\w-]+/.exec(told)[0];
}

test('with keys: the page asks, keeps it in the tab, and sends it as a header', async () => {
  const file = join(folder(), 'keys.json');
  const reader = makeKey(file, 'reader', 'read');
  const all = makeKey(file, 'starter', 'read', 'start');
  const server = await serve(`[auth]\nrequired = "always"\nkeys_file = "${file}"`);
  const tab = await page(server.address);
  const addresses = [];
  tab.page.on('request', (request) => addresses.push(request.url()));
  await tab.to('', '.login');
  await tab.page.getByLabel('Key').fill('dsk_nonsense');
  await tab.page.getByRole('button', { name: 'Look' }).click();
  await tab.page.locator('.problem', { hasText: 'does not know this key' }).waitFor();
  await tab.page.getByLabel('Key').fill(reader);
  await tab.page.getByRole('button', { name: 'Look' }).click();
  await tab.page.locator('h1', { hasText: 'Overview' }).waitFor();
  assert.equal(await tab.page.getByRole('button', { name: 'Start…' }).count(), 0, 'a reader is offered a start');
  await tab.to('#/instances');
  await tab.page.locator('.badge', { hasText: '● live' }).waitFor();
  assert.equal(await tab.page.getByRole('button', { name: 'Batch…' }).count(), 0);
  assert.equal(await tab.page.evaluate(() => sessionStorage.getItem('dalsegno.key')), reader);
  await tab.page.getByRole('button', { name: 'forget key' }).click();
  await tab.page.locator('.login').waitFor();
  assert.equal(await tab.page.evaluate(() => sessionStorage.length), 0);
  await tab.page.getByLabel('Key').fill(all);
  await tab.page.getByRole('button', { name: 'Look' }).click();
  await tab.page.getByRole('button', { name: 'Start…' }).waitFor();
  assert.ok(addresses.every((address) => !address.includes('dsk_')), 'a key is in an address');
  const own = client(server.address, reader);
  assert.equal((await own.api('POST', 'operations', { verb: 'terminate', where: { all: true } })).status, 403);
  assert.equal((await own.api('POST', 'operations', { verb: 'terminate', where: { all: true }, dryRun: true })).status, 202);
  assert.equal((await own.api('POST', 'schedules/x/run')).status, 403);
  assert.equal((await client(server.address).api('GET', 'overview')).status, 401);
  await tab.close();
  await server.end();
});

test('read-only: the server refuses, the page says so and offers nothing', async () => {
  const first = await shop();
  await first.until('refund-2', (row) => row.status === 'Failed');
  await first.end();
  const server = await serve('read_only = true\n[grpc]\nworkers = "this-hub"', first.path);
  const tab = await page(server.address);
  await tab.to('#/', '.cards a');
  await tab.page.locator('.badge.only', { hasText: 'read-only' }).waitFor();
  await tab.page.locator('[role="note"]', { hasText: 'over HTTP and gRPC it refuses' }).waitFor();
  for (const hash of ['#/', '#/instances', '#/instances/refund-2', '#/instances/approval-7', '#/entities/counter/orders', '#/schedules', '#/limiters', '#/hub']) {
    await tab.to(hash);
    for (const name of ['Start…', 'Batch…', 'Raise event', 'Suspend', 'Rewind…', 'Terminate', 'Signal…', 'Delete…', 'Edit…', 'Run now…']) assert.equal(await tab.page.getByRole('button', { name, exact: true }).count(), 0, `${hash} offers ${name}`);
  }
  const before = (await server.api('GET', 'instances?top=1000')).body.rows.map((row) => [row.id, row.status, row.executionId]);
  for (const [method, path, body] of [
    ['POST', 'orchestrators/Idle', {}], ['POST', 'instances/approval-7/events/approved', 'x'], ['POST', 'instances/approval-7/suspend'], ['POST', 'instances/approval-8/resume'], ['POST', 'instances/approval-7/cancel'], ['POST', 'instances/approval-7/terminate'],
    ['POST', 'instances/refund-2/rewind'], ['POST', 'instances/refund-2/restart'], ['DELETE', 'instances/refund-2'], ['POST', 'purge', { createdFrom: '2000-01-01T00:00:00Z' }], ['POST', 'entities/counter/orders/signal', { operation: 'add', input: 1 }], ['DELETE', 'entities/counter/orders'],
    ['PUT', 'limiters/catalogue', { concurrency: 1 }], ['POST', 'operations', { verb: 'purge', where: { all: true } }], ['POST', 'schedules/nightly_report/run'],
  ]) {
    const answer = await server.api(method, path, body);
    assert.deepEqual([answer.status, answer.body?.code], [403, 'read_only'], `${method} ${path}`);
  }
  for (const [method, path] of [['POST', 'orchestrators/Idle'], ['POST', 'instances/approval-7/terminate?reason=x'], ['POST', 'instances/approval-7/raiseEvent/approved'], ['DELETE', 'instances/refund-2']]) {
    const answer = await fetch(`${server.address}/runtime/webhooks/durabletask/${path}`, { method, headers: { 'content-type': 'application/json' }, body: method === 'POST' ? '{}' : undefined });
    assert.deepEqual([answer.status, (await answer.json()).code], [403, 'read_only'], path);
  }
  const after = (await server.api('GET', 'instances?top=1000')).body.rows.map((row) => [row.id, row.status, row.executionId]);
  assert.deepEqual(after, before);
  await tab.close();
  await server.end();
});

test('a host with several hubs: one is chosen, and stays in the address', async () => {
  const server = await serve('[grpc]\nworkers = "any-hub"');
  const tab = await page(server.address);
  await tab.to('#/', '[aria-label="Getting started"]');
  assert.equal(await tab.page.getByLabel('Task hub').count(), 0, 'there is nothing to choose');
  assert.equal((await server.api('PUT', 'hubs/second')).status, 201);
  await tab.page.locator('[aria-label="Getting started"]').getByRole('link', { name: 'second' }).click();
  await tab.page.waitForURL(/\?hub=second#\/$/);
  const choice = tab.page.getByLabel('Task hub');
  await choice.waitFor();
  assert.equal(await choice.inputValue(), 'second');
  await tab.page.getByRole('button', { name: 'Start…' }).click();
  const dialog = tab.page.locator('dialog[open]');
  await dialog.locator('[name="name"]').fill('Elsewhere');
  await dialog.locator('[name="id"]').fill('one');
  const text = await dialog.textContent();
  assert.ok(text.includes(`dalsegno --server=${server.address} --hub=second start --id=one Elsewhere`), text);
  assert.ok(text.includes('/orchestrators/Elsewhere?taskHub=second'), text);
  await dialog.locator('footer button.main').click();
  await tab.page.locator('h1', { hasText: 'one' }).waitFor();
  assert.equal((await server.api('GET', 'instances/one')).status, 404, 'it is in the hub of the host');
  assert.equal((await server.api('GET', 'instances/one?taskHub=second')).status, 200);
  await tab.page.locator('.tabs .live', { hasText: 'LIVE' }).waitFor();
  await tab.page.reload();
  await tab.page.locator('h1', { hasText: 'one' }).waitFor();
  await choice.selectOption((await server.api('GET', 'hub')).body.name);
  await tab.page.locator('[aria-label="Getting started"]').waitFor();
  assert.equal(new URL(tab.page.url()).search, '');
  // Its own hub is not deleted, another one by its name.
  await tab.to('#/hub', '[aria-label="Size"] .kv');
  assert.equal(await tab.page.getByRole('button', { name: 'Delete this hub…' }).count(), 0);
  await tab.page.goto(`${server.address}/dashboard/?hub=second#/hub`);
  await tab.page.locator('[aria-label="Size"]', { hasText: '1: Pending 1' }).waitFor();
  await tab.page.getByRole('button', { name: 'Delete this hub…' }).click();
  const remove = dialog.locator('footer button.main');
  assert.ok(await remove.isDisabled());
  await dialog.locator('[name="confirm"]').fill('second');
  assert.ok((await dialog.textContent()).includes('hub delete second'));
  await remove.click();
  await tab.page.waitForURL(/\/dashboard\/#\/$/);
  assert.equal((await server.api('GET', 'hubs')).body.includes('second'), false);
  await tab.close();
  await server.end();
});

test('a host without dashboard has none', async () => {
  const server = await serve('[dashboard]\nenabled = false');
  for (const path of ['/dashboard', '/dashboard/', '/dashboard/app.js', '/']) assert.equal((await fetch(server.address + path, { redirect: 'manual' })).status, 404, path);
  await server.end();
});
