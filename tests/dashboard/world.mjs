// Servers, a browser, and what tests ask of both. Nothing here waits for a time: only for what is to come.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after } from 'node:test';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const modules = createRequire(`${process.env.DASHBOARD_MODULES}/`);
const { chromium } = modules('playwright-core');
export const PICTURES = process.env.DASHBOARD_PICTURES;

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
/** Nothing that is waited for takes so long; a test that gets here has failed. */
export const PATIENCE_MS = 60_000;

/** The path of the browser: of the name or path in CHROMIUM, or of the first that is found. */
function chromiumPath() {
  const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : ['chromium', 'chromium-browser', 'google-chrome'];
  for (const name of names) {
    try {
      return execFileSync('sh', ['-c', 'command -v "$0"', name], { encoding: 'utf8' }).trim();
    } catch {
      // The next may be there.
    }
  }
  throw new Error(`no browser is found as ${names.join(', ')}: install chromium, or name it in CHROMIUM`);
}

const open = new Set();

/** A program that says its address, or that it is ready, and ends when it is told. */
export async function program(file, args, { says = /(http:\/\/[\w.]+:\d+)(?=[/\s])/, env = {}, signal, cwd } = {}) {
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env }, cwd });
  open.add(child);
  let told = '';
  const address = await new Promise((resolve, reject) => {
    const look = (chunk) => {
      told += chunk;
      const found = says?.exec(told);
      if (found) resolve(found[1]);
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('exit', (code) => reject(new Error(`${file} ended with ${code}: ${told}`)));
    if (!says) child.on('spawn', () => resolve(''));
  });
  const gone = new Promise((resolve) => { child.on('exit', () => { open.delete(child); resolve(undefined); }); });
  return {
    address,
    log: () => told,
    kill: () => { child.kill('SIGKILL'); return gone; },
    end: () => { if (signal) child.kill(signal); else child.stdin.end(); return gone; },
  };
}

/** Whatever a test that failed left behind, so that its file comes to an end. */
after(async () => {
  for (const child of open) child.kill('SIGKILL');
  await browser?.close();
});

const folders = [];
export function folder() {
  const made = mkdtempSync(join(tmpdir(), 'dalsegno-dashboard-'));
  folders.push(made);
  return made;
}
process.on('exit', () => { for (const made of folders) rmSync(made, { recursive: true, force: true }); });

/** The shop, with these flags. */
export async function shop(...flags) {
  const path = flags.includes('--folder') ? flags[flags.indexOf('--folder') + 1] : folder();
  const own = await program(process.env.HARP_SHOP, ['--folder', path, '--until-stdin-ends', ...flags]);
  return { ...own, path, ...client(own.address) };
}

/** The program of the drone, a worker. */
export const drone = (address) => program(process.env.HARP_SHOP, ['--drone', address], { says: null });

/** `dalsegno serve` with a configuration. */
export async function serve(configuration, path = folder()) {
  const file = join(folder(), 'dalsegno.toml');
  const keys = configuration.includes('[auth]') ? '' : 'auth.required = "never"\n';
  writeFileSync(file, `listen = "127.0.0.1:0"\n${keys}${configuration}\n[store]\npath = "${path}"\n`);
  const own = await program(process.env.DALSEGNO, ['serve', '--config', file], { signal: 'SIGTERM' });
  return { ...own, path, ...client(own.address) };
}

/** The API, as a test asks it. */
export function client(address, key) {
  const base = `${address}/runtime/dalsegno/v1/`;
  const headers = key ? { 'x-functions-key': key } : {};
  const api = async (method, path, body) => {
    const response = await fetch(base + path, { method, headers: { ...headers, 'content-type': 'application/json' }, body: body === undefined ? undefined : JSON.stringify(body) });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : undefined };
  };
  const instance = async (id) => (await api('GET', `instances/${encodeURIComponent(id)}`)).body;
  return {
    api,
    instance,
    start: async (name, id, input, more = {}) => {
      const answer = await api('POST', `orchestrators/${encodeURIComponent(name)}`, { id, input, ...more });
      assert.equal(answer.status, 202, JSON.stringify(answer.body));
      return answer.body.id;
    },
    until: (id, is) => until(async () => { const row = await instance(id); return is(row) ? row : undefined; }, `${id} is not as expected`),
  };
}

/** Asks until there is something. */
export async function until(ask, what) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await ask();
    if (found) return found;
    if (Date.now() > end) throw new Error(what);
    await new Promise((resolve) => { setTimeout(resolve, 25); });
  }
}

let browser;
let axeSource;

/** A page that fails the test when the policy is broken or a script throws. */
export async function page(address, { scheme = 'light', width = 1400, height = 900, timezone } = {}) {
  browser ??= await chromium.launch({ executablePath: chromiumPath(), args: FLAGS });
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, acceptDownloads: true, reducedMotion: 'reduce', timezoneId: timezone });
  context.setDefaultTimeout(PATIENCE_MS);
  const own = await context.newPage();
  const wrong = [];
  own.on('pageerror', (error) => wrong.push(`threw: ${error.message}`));
  own.on('dialog', (dialog) => { wrong.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  own.on('console', (message) => {
    if (/Content Security Policy|Content-Security-Policy/i.test(message.text())) wrong.push(message.text());
  });
  const to = async (hash, wait = 'main h1') => {
    await own.goto(`${address}/dashboard/${hash}`);
    await own.waitForSelector(wait);
  };
  return {
    page: own,
    to,
    wrong,
    close: async () => {
      await context.close();
      assert.deepEqual(wrong, []);
    },
  };
}

/** What axe finds wrong with a page, in words. The policy forbids scripts from elsewhere, so axe comes by the debugger. */
export async function axe(tab) {
  axeSource ??= readFileSync(modules.resolve('axe-core/axe.min.js'), 'utf8');
  await tab.page.evaluate(axeSource);
  const { violations } = await tab.page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const nodes = (one) => one.nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary?.split('\n')[1] ?? ''}`);
  return violations.map((one) => `${one.id}: ${nodes(one).join(' | ')}`);
}

export async function closeBrowser() {
  await browser?.close();
  browser = undefined;
}
