// A new user: an empty folder, the first command, and the browser alone to find out why nothing moves.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, test } from 'node:test';
import { client, closeBrowser, drone, folder, page, program } from './world.mjs';

after(closeBrowser);

test('an empty folder, the first command, why it waits, and the way out', async () => {
  const home = folder();
  const host = await program(process.env.DALSEGNO, ['dev', '--port', '0', '--no-compat-ports'], { signal: 'SIGTERM', cwd: home });
  const api = client(host.address);
  const tab = await page(host.address);
  // The address of the banner leads to the dashboard, which says how to begin.
  await tab.page.goto(host.address);
  await tab.page.waitForURL('**/dashboard/**');
  const begin = tab.page.locator('[aria-label="Getting started"]');
  await begin.waitFor();
  // The line that it gives is typed, with the name of code that is not there yet.
  const shown = (await begin.locator('.command code', { hasText: 'dalsegno --server' }).first().textContent()).trim();
  assert.ok(shown.includes(host.address), shown);
  const line = shown.replace(' --wait', ' --id=first').replace('start hello', 'start ShipByDrone');
  const path = process.env.DALSEGNO.replace(/\/[^/]*$/, '');
  execFileSync('sh', ['-c', line], { cwd: home, env: { ...process.env, PATH: `${path}:${process.env.PATH}` } });
  // The page of an empty hub becomes that of one with an instance, which is stuck.
  await tab.page.locator('.cards a').first().waitFor();
  await tab.page.locator('section[aria-label="Stuck"]').getByRole('link', { name: 'first' }).click();
  await tab.page.locator('h1', { hasText: 'first' }).waitFor();
  await tab.page.locator('.pill', { hasText: 'no worker' }).waitFor();
  await tab.page.locator('.reasons li', { hasText: 'ShipByDrone' }).waitFor();
  const step = tab.page.locator('section[aria-label="What to do"] .step', { hasText: 'offers "ShipByDrone"' });
  await step.waitFor();
  await step.getByRole('link', { name: 'Workers' }).click();
  await tab.page.locator('.alert', { hasText: 'Nobody runs code here' }).waitFor();
  // What it asks for is done.
  const worker = await drone(host.address);
  await tab.page.locator('section[aria-label="Connected workers"] tbody tr').first().waitFor();
  await tab.page.keyboard.press('Control+k');
  await tab.page.keyboard.type('fir');
  await tab.page.locator('#jump-list [role="option"]', { hasText: 'first' }).waitFor();
  await tab.page.keyboard.press('Enter');
  await tab.page.locator('.pill', { hasText: 'Completed' }).waitFor();
  assert.equal((await api.until('first', (row) => row.status === 'Completed')).output, 'Ada flies');
  await worker.kill();
  await tab.close();
  await host.end();
});
