// Much of everything: 100,000 instances, a history of 20,000 events, a fan-out of thousands.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeBrowser, page, shop, until } from './world.mjs';

const MANY = Number(process.env.DASHBOARD_MANY ?? 100_000);
const CALLS = 10_000;
/** Rows of a list that may be in the page, however long it is. */
const ROWS_MAX = 120;

let server;
before(async () => { server = await shop('--empty', '--long', String(CALLS), '--fill', String(MANY)); }, { timeout: 300_000 });
after(async () => { await closeBrowser(); await server.end(); });

test(`a list of ${MANY} instances is scrolled through, filtered, and stays small`, async () => {
  await until(async () => (await server.api('GET', 'counts')).body.find((one) => one.status === 'Completed').count === MANY + 1, 'not all are done');
  const tab = await page(server.address);
  await tab.to('#/instances', '.list .row a');
  await tab.page.locator('.pager', { hasText: `of ${(MANY + 1).toLocaleString('en-US')} shown` }).waitFor();
  const list = tab.page.locator('.list');
  const loaded = async () => Number((await tab.page.locator('.pager span').first().textContent()).split(' ')[0].replaceAll(',', ''));
  let seen = await loaded();
  for (let round = 0; round < 40; round += 1) {
    await list.evaluate((element) => { element.scrollTop = element.scrollHeight; });
    await until(async () => (await loaded()) > seen, `no more rows came after ${seen}`);
    seen = await loaded();
    const rows = await tab.page.locator('.list .row').count();
    assert.ok(rows <= ROWS_MAX, `${rows} rows are in the page`);
  }
  assert.ok(seen >= 8_000, `${seen} rows were loaded`);
  const ids = await tab.page.locator('.list .row a').allTextContents();
  assert.equal(new Set(ids).size, ids.length);
  // A frame is drawn while the list is long: nothing blocks the page.
  await tab.page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); }));
  await tab.page.keyboard.press('/');
  await tab.page.keyboard.type('many-000007');
  await tab.page.keyboard.press('Enter');
  await until(async () => (await tab.page.locator('.list .row a').count()) === 1, 'one is found');
  await tab.page.locator('.pager', { hasText: '1 shown' }).waitFor();
  await tab.close();
});

test('the overview of so many answers, and says what it left out', async () => {
  const tab = await page(server.address);
  await tab.to('#/', '.cards a');
  await tab.page.locator('.cards b', { hasText: (MANY + 1).toLocaleString('en-US') }).waitFor();
  await tab.page.locator('.legend', { hasText: MANY > 20_000 ? 'the newest 20,000' : 'starts,' }).waitFor();
  await tab.close();
});

test(`a history of ${2 * CALLS} events: table by pages, search, timeline by what is in sight`, async () => {
  const events = (await server.instance('long-1')).events;
  assert.ok(events >= 2 * CALLS, `${events} events`);
  const tab = await page(server.address);
  await tab.to('#/instances/long-1?tab=history', '.events tbody tr');
  const said = events.toLocaleString('en-US');
  await tab.page.locator('.tools', { hasText: `${said} events` }).waitFor();
  assert.equal(await tab.page.locator('.events tbody tr').count(), 200);
  await tab.page.getByRole('button', { name: 'Last' }).click();
  await tab.page.locator('.events td', { hasText: 'ExecutionCompleted' }).waitFor();
  await tab.page.locator('.events td.num', { hasText: new RegExp(`^${events}$`) }).waitFor();
  await tab.page.getByLabel('Search the history').fill('"task":9999,');
  await until(async () => (await tab.page.locator('.events tbody tr').count()) === 2, 'the two events of task 9999');
  await tab.page.getByRole('tab', { name: 'Timeline' }).click();
  await tab.page.locator('.tl .line', { hasText: 'count_one × 100' }).first().waitFor();
  // From below, since what is unfolded pushes the rest out of sight.
  for (let at = 3; at >= 0; at -= 1) await tab.page.locator('.tl .fold').nth(at).click();
  await until(async () => (await tab.page.locator('.tl [role="table"], .tl[role="table"]').getAttribute('aria-rowcount')) === '501', 'four hundred parts are unfolded');
  const rows = await tab.page.locator('.tl .line').count();
  assert.ok(rows <= ROWS_MAX, `${rows} rows are in the page`);
  await tab.close();
});
