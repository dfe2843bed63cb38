// Every page, in light and dark: what it shows, what axe says of it, and how much it takes.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { axe, closeBrowser, drone, page, shop, until } from './world.mjs';

/** What the first page may take. */
const BYTES_MAX = 150 * 1024;
const REQUESTS_MAX = 30;

let server;
before(async () => {
  server = await shop();
  await server.until('refund-2', (row) => row.status === 'Failed');
  await server.until('tour-5', (row) => row.status === 'Completed');
  await server.until('order-1006', (row) => row.status === 'Completed');
  await server.until('greedy-1', (row) => row.parked);
  await server.until('approval-8', (row) => row.status === 'Suspended');
});
after(async () => { await closeBrowser(); await server.end(); });

const PAGES = [
  ['#/', 'section[aria-label="Oldest unfinished"] tbody tr'],
  ['#/instances', '.list .row a'],
  ['#/instances?status=Failed', '.list .row a'],
  ['#/instances/order-1001', '.tl .line'],
  ['#/instances/order-1001?tab=history', '.events tr'],
  ['#/instances/order-1001?tab=sequence', 'svg .tip'],
  ['#/instances/order-1001?tab=state', '.values .json'],
  ['#/instances/tour-5?tab=children', 'td a'],
  ['#/instances/greedy-1?tab=explain', '.reasons li'],
  ['#/instances/refund-2', '.alert'],
  ['#/instances/nobody', '.problem'],
  ['#/entities', 'td a'],
  ['#/entities/counter/orders', 'pre.json'],
  ['#/schedules', 'td button'],
  ['#/workers', 'section[aria-label="Functions"] .tag'],
  ['#/limiters', 'td button'],
  ['#/hub', '.kv'],
  ['#/file', 'input[type="file"]'],
  ['#/nothing-here', '.empty'],
];

for (const scheme of ['light', 'dark']) {
  test(`axe finds nothing on any page, ${scheme}`, async () => {
    const tab = await page(server.address, { scheme });
    const found = [];
    const look = async (where) => {
      for (const one of await axe(tab)) found.push(`${where} ${one}`);
    };
    for (const [hash, sign] of PAGES) {
      await tab.to(hash, sign);
      await look(hash);
    }
    await tab.to('#/instances', '.list .row a');
    await tab.page.getByRole('button', { name: 'Start…' }).click();
    await tab.page.waitForSelector('dialog[open] form');
    await look('the start dialog');
    await tab.page.keyboard.press('Escape');
    await tab.page.locator('dialog[open]').waitFor({ state: 'detached' });
    await tab.page.keyboard.press('Control+k');
    await tab.page.keyboard.type('order-');
    await tab.page.locator('#jump-list [role="option"]').first().waitFor();
    await look('go to');
    await tab.page.keyboard.press('Escape');
    await tab.page.locator('dialog[open]').waitFor({ state: 'detached' });
    await tab.page.getByRole('button', { name: 'times: UTC' }).click();
    await tab.page.getByRole('button', { name: 'times: local' }).waitFor();
    await tab.page.waitForSelector('.list .row a');
    await look('local times');
    assert.deepEqual(found, []);
    await tab.close();
  });
}

test('every page is free of breaches of the policy and of errors', async () => {
  const tab = await page(server.address);
  for (const [hash, sign] of PAGES) {
    await tab.to(hash, sign);
    assert.equal(await tab.page.locator('main').count(), 1, hash);
  }
  await tab.close();
});

test('narrow pages do not scroll sideways', async () => {
  const tab = await page(server.address, { width: 420, height: 800 });
  for (const [hash, sign] of PAGES) {
    await tab.to(hash, sign);
    const over = await tab.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(over <= 0, `${hash} is ${over} px too wide`);
  }
  await tab.close();
});

for (const hash of ['#/', '#/instances', '#/instances/order-1001']) {
  test(`the first page ${hash} keeps its budget`, async () => {
    const tab = await page(server.address);
    const session = await tab.page.context().newCDPSession(tab.page);
    await session.send('Network.enable');
    let [bytes, requests] = [0, 0];
    const own = new Set();
    session.on('Network.requestWillBeSent', ({ requestId }) => { own.add(requestId); requests = own.size; });
    session.on('Network.dataReceived', ({ encodedDataLength }) => { bytes += encodedDataLength; });
    session.on('Network.responseReceived', ({ response }) => { bytes += response.encodedDataLength; });
    await tab.to(hash, PAGES.find(([one]) => one === hash)[1]);
    await tab.page.waitForFunction(() => performance.getEntriesByType('resource').some((entry) => entry.name.includes('/counts')));
    assert.ok(requests > 5 && requests <= REQUESTS_MAX, `${requests} requests`);
    assert.ok(bytes > 10_000 && bytes <= BYTES_MAX, `${bytes} bytes`);
    console.log(`# ${hash}: ${requests} requests, ${bytes} bytes`);
    await tab.close();
  });
}

test('files are guarded, packed, and asked for once', async () => {
  const get = (path, headers) => fetch(`${server.address}${path}`, { headers, redirect: 'manual' });
  for (const path of ['/', '/dashboard']) {
    const lead = await get(path);
    assert.deepEqual([lead.status, lead.headers.get('location')], [302, '/dashboard/']);
  }
  for (const name of ['', 'index.html', 'app.js', 'css/page.css', 'icon.svg', 'lib/preact.js']) {
    const answer = await get(`/dashboard/${name}`, { 'accept-encoding': 'gzip' });
    assert.equal(answer.status, 200, name);
    assert.match(answer.headers.get('content-security-policy'), /^default-src 'self';.*frame-ancestors 'none'/);
    assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
    const tag = answer.headers.get('etag');
    assert.match(tag, /^"[0-9a-f]{64}"$/);
    assert.equal((await get(`/dashboard/${name}`, { 'if-none-match': tag })).status, 304);
    assert.equal((await get(`/dashboard/${name}`, { 'if-none-match': '"other"' })).status, 200);
  }
  assert.equal((await get('/dashboard/app.js', { 'accept-encoding': 'gzip' })).headers.get('content-encoding'), 'gzip');
  assert.equal((await get('/dashboard/app.js', { 'accept-encoding': 'identity' })).headers.get('content-encoding'), null);
  for (const path of ['/dashboard/nothing.js', '/dashboard/../Cargo.toml', '/dashboard/%2e%2e/Cargo.toml', '/dashboard//etc/passwd']) assert.equal((await get(path)).status >= 300, true, path);
  assert.equal((await fetch(`${server.address}/dashboard/`, { method: 'POST' })).status, 405);
});

test('the overview counts, leads to the list, and shows what is stuck', async () => {
  const tab = await page(server.address);
  await tab.to('#/', '.cards a');
  const card = tab.page.locator('.cards a', { hasText: 'Failed' });
  await card.locator('b', { hasText: '1' }).waitFor();
  await tab.page.locator('section[aria-label="Stuck"] a', { hasText: 'greedy-1' }).waitFor();
  await tab.page.locator('section[aria-label="Limiters"]', { hasText: 'catalogue' }).waitFor();
  await tab.page.locator('svg.chart rect.started').first().waitFor();
  await card.click();
  await tab.page.locator('.list .row a', { hasText: 'refund-2' }).waitFor();
  assert.equal(await tab.page.locator('.list .row a').count(), 1);
  await tab.close();
});

test('filters are in the address, as chips, and can be taken away', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances', '.list .row a');
  await tab.page.keyboard.press('/');
  await tab.page.keyboard.type('name:ProcessOrder tag:team=strings order-100');
  await tab.page.keyboard.press('Enter');
  await tab.page.waitForFunction(() => location.hash.includes('name=ProcessOrder') && location.hash.includes('prefix=order-100'));
  await until(async () => (await tab.page.locator('.list .row a').count()) === 6, 'six orders are shown');
  await tab.page.getByRole('button', { name: 'Remove prefix: order-100' }).click();
  await tab.page.locator('.list .row a', { hasText: 'order-3001' }).waitFor();
  await tab.page.getByRole('button', { name: /^Completed/ }).click();
  await tab.page.locator('.list .row a', { hasText: 'order-3001' }).waitFor({ state: 'detached' });
  await tab.page.keyboard.press('/');
  await tab.page.keyboard.type('status:Lost');
  await tab.page.keyboard.press('Enter');
  await tab.page.locator('#filter-problem', { hasText: 'Lost is no status' }).waitFor();
  await tab.page.getByRole('button', { name: 'Columns' }).click();
  await tab.page.getByLabel('Custom status').check();
  await tab.page.locator('.headrow span', { hasText: 'Custom status' }).waitFor();
  await tab.close();
});

test('the list is live: what starts, changes and goes is seen without asking', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances', '.list .row a');
  await tab.page.locator('.badge', { hasText: 'live' }).waitFor();
  await server.start('AskForApproval', 'live-1', 'a drum');
  const row = tab.page.locator('.list .row', { hasText: 'live-1' });
  await row.locator('.s-Running').waitFor();
  await server.api('POST', 'instances/live-1/events/approved', 'eve');
  await row.locator('.s-Completed').waitFor();
  await server.api('DELETE', 'instances/live-1');
  await row.waitFor({ state: 'detached' });
  await tab.close();
});

test('keys go through the list and open an instance', async () => {
  const tab = await page(server.address);
  await tab.to('#/', '.cards a');
  await tab.page.keyboard.press('g');
  await tab.page.keyboard.press('o');
  await tab.page.waitForSelector('.list .row a');
  await tab.page.keyboard.press('j');
  await tab.page.keyboard.press('j');
  await tab.page.keyboard.press('k');
  const id = await tab.page.locator('.row.at a').first().textContent();
  await tab.page.keyboard.press('Enter');
  await tab.page.locator('h1', { hasText: id }).waitFor();
  await tab.page.keyboard.press('?');
  await tab.page.locator('dialog[open] h2', { hasText: 'Keys' }).waitFor();
  await tab.page.keyboard.press('Escape');
  await tab.page.locator('dialog[open]').waitFor({ state: 'detached' });
  for (const [key, title] of [['e', 'Entities'], ['w', 'Workers'], ['h', 'Overview']]) {
    await tab.page.keyboard.press('g');
    await tab.page.keyboard.press(key);
    await tab.page.locator('h1', { hasText: title }).waitFor();
  }
  await tab.close();
});

test('the timeline groups retries, folds fan-outs, unfolds children and cuts silence', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances/order-1001', '.tl .line');
  const charge = tab.page.locator('.tl .line', { hasText: 'charge_card' });
  await charge.locator('.tick').nth(1).waitFor();
  await charge.getByText('3 attempts').waitFor();
  await tab.page.locator('.tl .line', { hasText: 'timer' }).locator('.bar.waits').waitFor();
  await tab.page.locator('.tl .line', { hasText: '"approved"' }).waitFor();
  await charge.locator('.chip').first().click();
  await tab.page.locator('dialog[open] pre', { hasText: '4900' }).waitFor();
  await tab.page.keyboard.press('Escape');
  await tab.to('#/instances/tour-5', '.tl .line');
  const halls = tab.page.locator('.tl .line', { hasText: 'book_hall × 12' });
  await halls.locator('.chip', { hasText: '12 of 12' }).waitFor();
  await halls.locator('.fold').click();
  await tab.page.locator('.tl .line', { hasText: 'city 11' }).waitFor();
  await tab.page.locator('.tl .line', { hasText: 'City' }).locator('.fold').click();
  await tab.page.locator('.tl .line', { hasText: 'city: "Paris"' }).or(tab.page.locator('.tl .line', { hasText: 'Paris",seats' })).first().waitFor();
  await tab.close();
});

test('an instance that retries says so, and where the failure is', async () => {
  await server.api('POST', 'instances/order-3001/events/approved', 'bob');
  await server.until('order-3001', (row) => row.customStatus === 'approved by bob');
  const tab = await page(server.address);
  await tab.to('#/instances/order-3001', '.tl .line');
  await tab.page.locator('.tl .line', { hasText: 'warehouse_pick' }).waitFor();
  await tab.page.locator('.tabs .live', { hasText: 'LIVE' }).waitFor();
  await tab.page.getByRole('tab', { name: 'Explain' }).click();
  await tab.page.locator('.reasons li', { hasText: 'warehouse' }).first().waitFor();
  await tab.close();
});

test('Ctrl-K goes to a page, an instance or an entity, by keys alone', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances', '.list .row a');
  const options = tab.page.locator('#jump-list [role="option"]');
  const box = tab.page.getByRole('combobox', { name: 'Page, or the beginning of an id' });
  const open = async (text) => {
    await tab.page.keyboard.press('Control+k');
    await box.waitFor();
    assert.equal(await box.evaluate((element) => element === document.activeElement), true, 'the box has no focus');
    await tab.page.keyboard.type(text);
  };
  // Also while a filter is typed.
  await tab.page.keyboard.press('/');
  await open('work');
  await until(async () => (await options.count()) === 1, 'one page is called so');
  await tab.page.keyboard.press('Enter');
  await tab.page.locator('h1', { hasText: 'Workers' }).waitFor();
  await open('order-100');
  await until(async () => (await options.count()) === 6, 'six orders are found');
  await tab.page.keyboard.press('ArrowDown');
  await tab.page.keyboard.press('ArrowDown');
  await tab.page.keyboard.press('ArrowUp');
  const chosen = tab.page.locator('#jump-list [aria-selected="true"]');
  assert.equal(await chosen.getAttribute('id'), await box.getAttribute('aria-activedescendant'));
  const id = await chosen.locator('.mono').textContent();
  assert.equal(id, await options.nth(1).locator('.mono').textContent());
  await tab.page.keyboard.press('Enter');
  await tab.page.locator('h1', { hasText: id }).waitFor();
  await open('@counter@orders');
  await options.filter({ hasText: 'entity' }).waitFor();
  await tab.page.keyboard.press('Enter');
  await tab.page.locator('h1', { hasText: '@counter@orders' }).waitFor();
  await open('nothing-is-called-so');
  await tab.page.getByText('No page is called so, and no id begins with it.').waitFor();
  await tab.page.keyboard.press('Escape');
  await box.waitFor({ state: 'detached' });
  await tab.page.getByRole('button', { name: /Go to…/ }).click();
  await box.fill('approval-7');
  await options.filter({ hasText: 'approval-7' }).click();
  await tab.page.locator('h1', { hasText: 'approval-7' }).waitFor();
  await tab.close();
});

test('what is typed at once after Ctrl-K goes into it, also while another dialog is being closed', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances', '.list .row a');
  // The browser tells of a dialog that was closed later than it takes the next key.
  const hasFocus = () => tab.page.evaluate(async () => {
    document.querySelector('dialog[open]')?.close();
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'k', ctrlKey: true, bubbles: true, cancelable: true }));
    for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
    return document.activeElement?.matches('dialog[open] [role="combobox"]') ?? false;
  });
  for (let round = 0; round < 3; round += 1) assert.ok(await hasFocus(), `round ${round}: the keys would have gone elsewhere`);
  await tab.page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => setTimeout(resolve)); }));
  assert.ok(await tab.page.locator('dialog[open] [role="combobox"]').isVisible(), 'the end of the first closed the second');
  await tab.close();
});

test('times are told in UTC, or as clocks are here, and so they stay', async () => {
  const tab = await page(server.address, { timezone: 'Asia/Kolkata' });
  const started = () => tab.page.locator('.facts dd').first().textContent();
  await tab.to('#/instances/order-1001', '.tl .line');
  const created = new Date((await server.instance('order-1001')).created);
  const local = (minutes) => new Date(created.getTime() + minutes * 60_000).toISOString().slice(11, 22);
  assert.equal(await started(), `${local(0)} UTC`);
  const turn = tab.page.getByRole('button', { name: /^times: / });
  await turn.focus();
  await tab.page.keyboard.press('Enter');
  await tab.page.locator('.facts dd', { hasText: 'UTC+05:30' }).waitFor();
  assert.ok((await started()).endsWith(`${local(330)} UTC+05:30`), await started());
  await tab.page.reload();
  await tab.page.locator('.facts dd', { hasText: 'UTC+05:30' }).waitFor();
  await tab.to('#/', '.legend');
  await tab.page.locator('.legend', { hasText: 'UTC+05:30' }).waitFor();
  await tab.to('#/schedules', 'td ol');
  await tab.page.locator('td ol small', { hasText: 'UTC+05:30' }).first().waitFor();
  await turn.click();
  await tab.page.locator('td ol small', { hasText: /UTC$/ }).first().waitFor();
  await tab.close();
});

test('a stretch of the histogram becomes a filter', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances?name=ProcessOrder', '.starts rect.started');
  // The list below moves what is above it no more.
  await tab.page.locator('.list .row a').first().waitFor();
  await tab.page.evaluate(() => new Promise(requestAnimationFrame));
  const box = await tab.page.locator('.starts .chart-box').boundingBox();
  await tab.page.mouse.move(box.x + box.width * 0.5, box.y + 10);
  await tab.page.mouse.down();
  await tab.page.mouse.move(box.x + box.width * 0.7, box.y + 12);
  await tab.page.locator('.starts rect.chosen').waitFor();
  await tab.page.mouse.move(box.x + box.width - 1, box.y + 12);
  await tab.page.mouse.up();
  await tab.page.waitForFunction(() => /name=ProcessOrder&since=20.*&until=20/.test(location.hash));
  const since = await tab.page.evaluate(() => new URLSearchParams(location.hash.split('?')[1]).get('since'));
  assert.ok(Math.abs(Date.now() - Date.parse(since) - 12 * 3600_000) < 1800_000, since);
  await tab.page.getByRole('button', { name: 'the last day' }).click();
  await tab.page.waitForFunction(() => !location.hash.includes('since'));
  await tab.close();
});

test('the sequence is a file of its own, and an id is copied', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances/order-1001?tab=sequence', 'svg .tip');
  const [download] = await Promise.all([tab.page.waitForEvent('download'), tab.page.getByRole('button', { name: 'Download SVG' }).click()]);
  assert.equal(download.suggestedFilename(), 'order-1001.sequence.svg');
  const { readFile } = await import('node:fs/promises');
  const drawing = await readFile(await download.path(), 'utf8');
  assert.match(drawing, /^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  assert.match(drawing, /reserve_stock/);
  assert.match(drawing, /stroke="rgb/);
  await tab.page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await tab.page.getByRole('button', { name: 'Copy the id' }).click();
  await until(async () => (await tab.page.evaluate(() => navigator.clipboard.readText())) === 'order-1001', 'it is not copied');
  await tab.close();
});

test('who changed what is told, of all and of one', async () => {
  await server.start('AskForApproval', 'audited', 'a gong');
  await server.api('POST', 'instances/audited/suspend');
  await server.api('PUT', 'limiters/catalogue', { rate: { count: 60, periodMs: 60_000 }, concurrency: 1 });
  const tab = await page(server.address);
  const rows = tab.page.locator('section[aria-label="Changes by people"] tbody tr');
  await tab.to('#/instances/audited?tab=state', 'section[aria-label="Changes by people"] tbody tr');
  await rows.filter({ hasText: 'suspend' }).filter({ hasText: 'local' }).filter({ hasText: '202' }).waitFor();
  assert.equal(await rows.count(), 2);
  await tab.to('#/hub', 'section[aria-label="Changes by people"] tbody tr');
  await rows.filter({ hasText: 'limiters/set' }).filter({ hasText: 'catalogue' }).first().waitFor();
  await rows.filter({ hasText: 'suspend' }).getByRole('link', { name: 'audited' }).click();
  await tab.page.locator('h1', { hasText: 'audited' }).waitFor();
  await tab.close();
});

test('failures are shown with what caused them', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances/refund-2?tab=state', '.chain li');
  const chain = await tab.page.locator('.chain').first().textContent();
  assert.match(chain, /500 Internal Server Error/);
  assert.match(chain, /caused by.*status 503/);
  await tab.close();
});

test('the history is searched, opened as JSON and downloaded', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances/order-1001?tab=history', '.events tbody tr');
  const all = (await server.api('GET', 'instances/order-1001/history')).body;
  assert.equal(await tab.page.locator('.events tbody tr').count(), all.length);
  await tab.page.getByLabel('Search the history').fill('charge_card');
  await until(async () => (await tab.page.locator('.events tbody tr').count()) === 1, 'one event is found');
  await tab.page.getByRole('button', { name: /as JSON/ }).click();
  await tab.page.locator('dialog[open] pre', { hasText: '"TaskScheduled"' }).waitFor();
  await tab.page.keyboard.press('Escape');
  const [download] = await Promise.all([tab.page.waitForEvent('download'), tab.page.getByRole('button', { name: 'Download JSON' }).click()]);
  assert.equal(download.suggestedFilename(), 'order-1001.history.json');
  const { readFile } = await import('node:fs/promises');
  assert.deepEqual(JSON.parse(await readFile(await download.path(), 'utf8')), all);
  // The file is looked at again, without the hub.
  await tab.page.getByRole('link', { name: 'Open a file…' }).click();
  const file = (name, text) => tab.page.setInputFiles('input[type="file"]', { name, mimeType: 'application/json', buffer: Buffer.from(text) });
  await tab.page.waitForSelector('input[type="file"]');
  for (const [text, told] of [['{', 'It is not JSON'], ['[]', 'It is no history'], ['[{"kind":"X"}]', 'number 1 of its array']]) {
    await file('wrong.json', text);
    await tab.page.locator('.problem', { hasText: told }).waitFor();
  }
  await file('order.json', JSON.stringify(all));
  await tab.page.locator('.tl .line', { hasText: 'charge_card' }).getByText('3 attempts').waitFor();
  assert.equal(await tab.page.locator('.events tbody tr').count(), all.length);
  await tab.close();
});

test('a worker that comes and is killed changes the page', async () => {
  const tab = await page(server.address);
  await tab.to('#/instances/drone-1');
  await tab.page.locator('.alert', { hasText: 'worker' }).waitFor();
  await tab.to('#/workers');
  await tab.page.getByText('No worker is connected over gRPC.').waitFor();
  const worker = await drone(server.address);
  const connected = tab.page.locator('section[aria-label="Connected workers"] tbody tr');
  await connected.first().waitFor();
  await server.until('drone-1', (row) => row.status === 'Completed');
  await worker.kill();
  await connected.first().waitFor({ state: 'detached' });
  await tab.page.getByText('No worker is connected over gRPC.').waitFor();
  await tab.close();
});

test('a server that is gone is told, and found again', async () => {
  const own = await shop('--empty');
  const tab = await page(own.address);
  await tab.to('#/', '[aria-label="Getting started"]');
  await own.kill();
  await tab.page.locator('.notice', { hasText: 'does not answer' }).waitFor();
  const port = new URL(own.address).port;
  const again = await shop('--empty', '--folder', own.path, '--port', port);
  await tab.page.locator('.notice').waitFor({ state: 'detached' });
  await tab.page.locator('[aria-label="Getting started"]').waitFor();
  await tab.close();
  await again.end();
});

test('an empty hub says how to begin, with its own address', async () => {
  const own = await shop('--empty');
  const tab = await page(own.address);
  await tab.to('#/', '[aria-label="Getting started"]');
  const text = await tab.page.locator('[aria-label="Getting started"]').textContent();
  for (const wanted of [own.address, 'pip install durabletask', 'dalsegno init hello', 'npm install', 'ProcessOrder']) assert.ok(text.includes(wanted), wanted);
  await own.start('Idle', 'first', 1);
  await tab.page.locator('.cards a').first().waitFor();
  await tab.close();
  await own.end();
});
