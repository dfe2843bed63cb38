// The pictures of the docs, when they are asked for: `cargo xtask dashboard --pictures`.

import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { closeBrowser, drone, page, PICTURES, shop } from './world.mjs';

/** Bytes of one picture, so that the docs stay small. */
const BYTES_MAX = 150 * 1024;

let server;
let worker;
before(async () => {
  if (!PICTURES) return;
  mkdirSync(PICTURES, { recursive: true });
  server = await shop();
  worker = await drone(server.address);
  await server.until('order-1006', (row) => row.status === 'Completed');
  await server.until('tour-5', (row) => row.status === 'Completed');
  await server.until('greedy-1', (row) => row.parked);
}, { timeout: 60_000 });
after(async () => {
  await closeBrowser();
  await worker?.kill();
  await server?.end();
});

const skip = !PICTURES && 'cargo xtask dashboard --pictures';

async function picture(tab, name) {
  const bytes = await tab.page.screenshot();
  assert.ok(bytes.length <= BYTES_MAX, `${name} has ${bytes.length} bytes`);
  writeFileSync(join(PICTURES, `${name}.png`), bytes);
  assert.ok(statSync(join(PICTURES, `${name}.png`)).size > 5_000);
}

test('an order that waited and now retries', { skip }, async () => {
  const tab = await page(server.address, { height: 640 });
  await tab.to('#/instances/order-3001', '.tl .line');
  // It waits for its approval until there is a silence that is worth a cut.
  await tab.page.waitForFunction(() => Number(/waits for (\d+)s/.exec(document.body.innerText)?.[1]) >= 14, undefined, { timeout: 40_000 });
  await server.api('POST', 'instances/order-3001/events/approved', 'bob');
  await tab.page.locator('.tl .line', { hasText: 'warehouse_pick' }).waitFor();
  await tab.page.locator('.facts dd', { hasText: /^2\ds$/ }).waitFor();
  await tab.close();
});

for (const scheme of ['light', 'dark']) {
  test(`the pages, ${scheme}`, { skip }, async () => {
    const tab = await page(server.address, { scheme, height: 640 });
    const pages = [['instance', '#/instances/order-3001', '.tl .line'], ['overview', '#/?span=10m', 'svg.chart rect.started'], ['orchestrations', '#/instances', '.list .row a'], ['fan-out', '#/instances/tour-5', '.tl .line'], ['explain', '#/instances/till-night?tab=explain', '.reasons li']];
    for (const [name, hash, sign] of pages) {
      await tab.to(hash, sign);
      if (name === 'instance') await tab.page.locator('.tabs .live', { hasText: 'LIVE' }).waitFor();
      if (name === 'orchestrations') await tab.page.locator('.badge', { hasText: '● live' }).waitFor();
      if (name === 'fan-out') await tab.page.locator('.tl .fold').first().click();
      await picture(tab, `dashboard-${name}-${scheme}`);
    }
    await tab.to('#/instances', '.head button.main');
    await tab.page.getByRole('button', { name: 'Batch…' }).click();
    await tab.page.getByRole('button', { name: 'Dry run' }).click();
    await tab.page.getByText('instances would be told.').waitFor();
    await picture(tab, `dashboard-batch-${scheme}`);
    await tab.close();
  });
}
