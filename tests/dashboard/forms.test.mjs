// What a dialog shows as a command and as curl is run as it stands, by a shell, and does what the dialog does.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { closeBrowser, page, shop, until } from './world.mjs';

const PATH = `${process.env.DALSEGNO.replace(/\/[^/]*$/, '')}:${process.env.PATH}`;

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

/** The lines of the open dialog, which is closed without being sent. */
async function lines() {
  await dialog().locator('details .command code').nth(1).waitFor();
  const [cli, curl] = await dialog().locator('details .command code').allTextContents();
  assert.ok(cli.startsWith(`dalsegno --server=${server.address} `), cli);
  assert.ok(curl.startsWith('curl -X '), curl);
  await tab.page.keyboard.press('Escape');
  await dialog().waitFor({ state: 'detached' });
  return { cli, curl };
}

/** Runs a line; it may end well only. */
async function shell(line, more = '') {
  const environment = { PATH, HOME: process.env.HOME ?? '/tmp' };
  try {
    // Without -f, curl ends well when it is refused.
    return (await promisify(execFile)('sh', ['-c', line.replace(/^curl /, 'curl --fail-with-body -sS ') + more], { env: environment, timeout: 60_000 })).stdout;
  } catch (error) {
    return assert.fail(`${line}: ${error.stderr}${error.stdout}`);
  }
}

/** Texts that a shell may trip over, and ids, which have no backslash. */
const odd = (word) => `it's "${word}" $(id) \\ -ü`;
const oddId = (word) => odd(word).replace('\\', '');

async function open(id, verb, fill) {
  await tab.to(`#/instances/${encodeURIComponent(id)}`, '.head .push button');
  const front = tab.page.locator('.head .push > button', { hasText: verb });
  await tab.page.locator('.head .push button').first().waitFor();
  if (!(await front.count())) {
    await tab.page.getByRole('button', { name: 'More' }).click();
    await tab.page.locator('.menu li button', { hasText: verb }).click();
  } else await front.click();
  await dialog().locator('form').waitFor();
  for (const [name, value] of Object.entries(fill)) {
    const field = dialog().locator(`[name="${name}"]`);
    if (typeof value === 'boolean') await dialog().locator('label.line input').setChecked(value);
    else await field.fill(value);
  }
  return lines();
}

/** A verb by both forms, each on an instance of its own. */
async function both(verb, { make, fill = {}, is }) {
  for (const form of ['cli', 'curl']) {
    const id = `${verb} ${form} ${oddId('x')}`;
    await make(id);
    const shown = await open(id, verb, fill);
    await shell(shown[form]);
    await until(async () => is(await server.instance(id), id), `${verb} by ${form} did nothing`);
  }
}

const waiting = async (id) => {
  await server.start('AskForApproval', id, 'a flute');
  await server.until(id, (row) => row.status === 'Running');
};
const finished = async (id) => {
  await server.start('Idle', id, 5);
  await server.until(id, (row) => row.status === 'Completed');
};

test('verbs of an instance', async () => {
  await both('Raise event', { make: waiting, fill: { event: 'approved', data: JSON.stringify(odd('by')) }, is: (row) => row.output === `a flute, approved by ${odd('by')}` });
  await both('Suspend', { make: waiting, fill: { reason: odd('why') }, is: (row) => row.status === 'Suspended' });
  await both('Resume', { make: async (id) => { await waiting(id); await server.api('POST', `instances/${encodeURIComponent(id)}/suspend`); await server.until(id, (row) => row.status === 'Suspended'); }, is: (row) => row.status === 'Running' });
  await both('Cancel', { make: waiting, fill: { reason: '-' }, is: (row) => row.status === 'Canceled' });
  await both('Terminate', { make: waiting, fill: { reason: '--reason', recursive: true }, is: (row) => row.status === 'Terminated' });
  await both('Rewind', { make: async (id) => { await server.start('Refund', id, 7); await server.until(id, (row) => row.status === 'Failed'); }, is: (row) => row.status === 'Completed' });
  let first = {};
  await both('Restart', { make: async (id) => { await finished(id); first = await server.instance(id); }, fill: { same: true }, is: (row) => row.executionId !== first.executionId && row.status === 'Completed' });
  await both('Purge', { make: finished, fill: { recursive: true }, is: (row) => row.code === 'not_found' });
});

test('a start', async () => {
  for (const form of ['cli', 'curl']) {
    await tab.to('#/instances', '.head button.main');
    await tab.page.getByRole('button', { name: 'Start…' }).click();
    const id = `start ${form} ${oddId('id')}`;
    for (const [name, value] of [['name', 'AskForApproval'], ['input', JSON.stringify(odd('input'))], ['id', id], ['tags', `team=blue note='"$x`]]) await dialog().locator(`[name="${name}"]`).fill(value);
    await shell((await lines())[form]);
    const row = await server.until(id, (found) => found.status === 'Running');
    assert.deepEqual([row.input, row.tags], [odd('input'), { note: `'"$x`, team: 'blue' }]);
  }
  await tab.page.getByRole('button', { name: 'Start…' }).click();
  for (const [name, value] of [['name', 'Refund'], ['input', '-5'], ['id', '-dash']]) await dialog().locator(`[name="${name}"]`).fill(value);
  await shell((await lines()).cli.replace('Refund', 'FailWith'));
  assert.equal((await server.instance('-dash')).input, -5);
});

test('entities, limiters and schedules', async () => {
  const key = oddId('key');
  for (const [index, form] of ['cli', 'curl'].entries()) {
    await tab.to(`#/entities/counter/${encodeURIComponent(key)}`);
    await tab.page.getByRole('button', { name: 'Signal…' }).click();
    await dialog().locator('[name="operation"]').fill('add');
    await dialog().locator('[name="input"]').fill('-7');
    await shell((await lines())[form]);
    const path = `entities/counter/${encodeURIComponent(key)}`;
    await until(async () => (await server.api('GET', path)).body?.state?.count === -7, `${form} did not count`);
    await tab.page.getByRole('button', { name: 'Delete…' }).click();
    await shell((await lines())[form]);
    await until(async () => (await server.api('GET', path)).status === 404, `${form} did not delete`);
    await tab.to('#/limiters', 'td button');
    await tab.page.getByRole('button', { name: 'Edit…' }).first().click();
    for (const [name, value] of [['rate', `${index + 11}/1m`], ['burst', '3'], ['concurrency', '2']]) await dialog().locator(`[name="${name}"]`).fill(value);
    await shell((await lines())[form]);
    await until(async () => (await server.api('GET', 'limiters')).body[0].rate.count === index + 11, `${form} did not set`);
    const reports = async () => (await server.api('GET', 'schedules')).body.find((one) => one.name === 'broken_clock').last?.started;
    const before = await reports();
    await tab.to('#/schedules', 'td button');
    await tab.page.locator('tbody tr', { hasText: 'broken_clock' }).getByRole('button').click();
    await shell((await lines())[form]);
    await until(async () => { const last = await reports(); return last && last !== before; }, `${form} did not run it`);
  }
});

test('batches, by the filter of the page', async () => {
  const tag = `a "b" \\c`;
  const hash = (name) => `#/instances?status=Running&name=AskForApproval&prefix=${encodeURIComponent(`many ${name}`)}&tag=${encodeURIComponent(`crowd=${tag}`)}&since=1d&until=2999-01-01T00:00:00Z`;
  for (const form of ['cli', 'curl']) {
    for (const [verb, fill, is] of [['terminate', { reason: odd('why') }, (row) => row.status === 'Terminated'], ['raise', { event: 'approved', data: '"all"' }, (row) => row.output === 'a drum, approved by all']]) {
      const ids = [1, 2, 3].map((number) => `many ${form} ${verb} ${number}`);
      for (const id of ids) await server.start('AskForApproval', id, 'a drum', { tags: { crowd: tag } });
      for (const id of ids) await server.until(id, (row) => row.status === 'Running');
      await tab.to(hash(`${form} ${verb}`), '.list .row a');
      await tab.page.getByRole('button', { name: 'Batch…' }).click();
      await dialog().locator('[name="verb"]').selectOption(verb);
      for (const [name, value] of Object.entries(fill)) await dialog().locator(`[name="${name}"]`).fill(value);
      const shown = await lines();
      if (form === 'cli') {
        assert.equal(JSON.parse(await shell(shown.cli, ' --dry-run --json')).matched, 3, shown.cli);
        assert.equal(JSON.parse(await shell(shown.cli, ' --yes --json')).applied, 3, shown.cli);
      } else await shell(shown.curl);
      for (const id of ids) await server.until(id, is);
    }
  }
  await tab.to('#/instances', '.list .row a');
  await tab.page.getByRole('button', { name: 'Batch…' }).click();
  for (const verb of ['terminate', 'cancel', 'suspend', 'resume', 'rewind', 'restart', 'purge']) {
    await dialog().locator('[name="verb"]').selectOption(verb);
    const [cli] = await dialog().locator('details .command code').allTextContents();
    assert.ok(Number.isInteger(JSON.parse(await shell(cli, ' --dry-run --json')).matched), cli);
  }
  await tab.page.keyboard.press('Escape');
});

test('a terminal tells of an entity what the page tells', async () => {
  await until(async () => (await server.api('GET', 'entities/till/front')).body?.waiting === 1, 'nobody waits for the till');
  const { body } = await server.api('GET', 'entities/till/front');
  const run = (words) => shell(`dalsegno --server=${server.address} ${words}`);
  const told = await run('entity get till front');
  assert.match(told, new RegExp(`^locked by +${body.lockHolder}$`, 'm'));
  assert.match(told, new RegExp(`^queue +lock for ${body.queue[0].caller}$`, 'm'));
  assert.deepEqual(JSON.parse(await run('entity get till front --json')), body);
  const rows = (await server.api('GET', 'entities')).body.rows;
  assert.deepEqual(JSON.parse(await run('entity list --json')), rows);
  assert.ok(rows.some((row) => row.lockHolder));
});

test('what an explanation says to type', async () => {
  await waiting('explained');
  await tab.to('#/instances/explained?tab=explain', '.step .command');
  const event = await tab.page.locator('.step .command code').first().textContent();
  await shell(event.replace(/ JSON$/, ` '"type"'`));
  await server.until('explained', (row) => row.output === 'a flute, approved by type');
  for (const id of ['approval-8', 'greedy-1', 'drone-1', 'stock-2', 'till-day', 'till-night']) {
    await server.until(id, (row) => row.status !== 'Pending' || row.waitsFor?.length);
    const { next } = (await server.api('GET', `instances/${id}/explain`)).body;
    for (const step of next.filter((one) => one.cli && !one.cli.includes('raise'))) await shell(`${step.cli} --server=${server.address}`);
  }
});
