// Whatever a user can fill with text is shown as text.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeBrowser, page, shop, until } from './world.mjs';

/** Each sets `window.hurt` when it is anything but text. */
const HURT = 'window.hurt=1';
const HOSTILE = [
  `<script>${HURT}</script>`, `</script><script>${HURT}</script>`, `<img src=x onerror=${HURT}>`, `"><img src=x onerror=${HURT}>`, `'><img src=x onerror=${HURT}>`, `<svg onload=${HURT}>`, `<svg><script>${HURT}</script></svg>`,
  `<iframe srcdoc="<script>parent.hurt=1</script>">`, `<body onload=${HURT}>`, `<details open ontoggle=${HURT}>x</details>`, `<a href="javascript:${HURT}">x</a>`, `javascript:${HURT}`, `" onmouseover="${HURT}" x="`, `' onfocus='${HURT}' autofocus='`,
  `\` onclick=${HURT} \``, `\${${HURT}}`, `{{constructor.constructor('${HURT}')()}}`, `<style>*{display:none}</style>`, `<link rel=stylesheet href=data:text/css,*{display:none}>`, `<meta http-equiv=refresh content=0;url=javascript:${HURT}>`, `<base href=https://evil.invalid/>`,
  `<form action=javascript:${HURT}><button>x</button></form>`, `<object data=javascript:${HURT}>`, `<math><mtext><img src=x onerror=${HURT}></mtext></math>`, `<template><script>${HURT}</script></template>`, `<!--><img src=x onerror=${HURT}>-->`, `]]><script>${HURT}</script>`, `<video><source onerror=${HURT}></video>`, `<input autofocus onfocus=${HURT}>`, `<marquee onstart=${HURT}>x</marquee>`,
  `\u202Egnp.exe<img src=x onerror=${HURT}>`, `\u202Egnp.exe`, `a\u2067b\u2069c`, `d\u200Be\u061Cf\uFEFFg`, `__proto__`, `constructor`, `%3Cscript%3E${HURT}%3C/script%3E`, `&lt;img src=x onerror=${HURT}&gt;`, `\\"><img src=x onerror=${HURT}>`, `data:text/html,<script>${HURT}</script>`, `<noscript><img src=x onerror=${HURT}></noscript>`,
];

let server;
before(async () => { server = await shop('--empty'); });
after(async () => { await closeBrowser(); await server.end(); });

const enc = encodeURIComponent;

/** The signs that something was more than text. */
const unharmed = (tab) => tab.page.evaluate(() => ({
  hurt: window.hurt, base: document.querySelectorAll('base, iframe, object, marquee, video, meta[http-equiv]').length, handlers: document.querySelectorAll('[onerror], [onload], [onfocus], [onmouseover], [ontoggle], [onstart]').length,
  images: document.images.length, scripts: document.scripts.length, links: [...document.links].filter((link) => link.protocol === 'javascript:' || link.protocol === 'data:').length, hidden: getComputedStyle(document.querySelector('main')).display,
}));
const SOUND = { hurt: undefined, base: 0, handlers: 0, images: 0, scripts: 1, links: 0, hidden: 'block' };

/** What reorders other characters, or is not seen. */
const HIDDEN = /[\u061C\u200B-\u200F\u202A-\u202E\u2066-\u2069\uFEFF]/gu;

/** Spaces as one; U+FEFF is one to JavaScript. */
const oneSpace = (text) => text.replaceAll(/[ \t\r\n\u00A0]+/g, ' ');

async function shows(tab, text, where) {
  const wanted = oneSpace(text);
  const ask = async () => {
    const [read, edited] = await tab.page.evaluate(() => {
      const all = (selector, of) => [...document.querySelectorAll(selector)].map(of).join(' ');
      return [[document.body.innerText, document.title, all('[title]', (one) => one.title), all('[aria-label]', (one) => one.getAttribute('aria-label'))].join(' '), all('input, textarea', (one) => one.value)];
    });
    return { read: oneSpace(read), edited: oneSpace(edited) };
  };
  // Values are shown as JSON; what is read is shown without characters that hide or reorder others.
  const forms = [wanted, JSON.stringify(wanted).slice(1, -1)];
  const written = forms.map((form) => form.replaceAll(HIDDEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`));
  let seen = { read: '', edited: '' };
  try {
    await until(async () => { seen = await ask(); return written.some((form) => seen.read.includes(form)) || forms.some((form) => seen.edited.includes(form)); }, '');
  } catch {
    assert.fail(`${where} does not show ${text}: ${seen.read.slice(0, 600)}`);
  }
  assert.deepEqual(seen.read.match(HIDDEN), null, `${where} with ${JSON.stringify(text)}`);
  assert.deepEqual(await unharmed(tab), SOUND, `${where} with ${text}`);
}

test(`there are ${HOSTILE.length} of them`, () => assert.ok(HOSTILE.length >= 30));

test('inputs, custom states, tags, reasons, events, outputs', async () => {
  const tab = await page(server.address);
  for (const [number, text] of HOSTILE.entries()) {
    const id = `value-${number}`;
    await server.start('AskForApproval', id, text, { tags: { [text]: text } });
    await server.until(id, (row) => row.status === 'Running');
    await server.api('POST', `instances/${id}/events/${enc(text)}`, { [text]: [text] });
    await server.api('POST', `instances/${id}/suspend?reason=${enc(text)}`);
    await server.until(id, (row) => row.status === 'Suspended');
    await tab.to(`#/instances/${id}?tab=state`, '.values .json');
    await shows(tab, text, 'state');
    await tab.to(`#/instances/${id}?tab=history`, '.events tbody tr');
    await shows(tab, text, 'history');
    for (const one of ['timeline', 'sequence', 'explain']) {
      await tab.to(`#/instances/${id}?tab=${one}`, '#tab-panel');
      assert.deepEqual(await unharmed(tab), SOUND, `${one} with ${text}`);
    }
    await server.api('POST', `instances/${id}/resume`);
    await server.api('POST', `instances/${id}/events/approved`, text);
    await server.until(id, (row) => row.status === 'Completed');
    await tab.to(`#/instances/${id}`, '.tl .line');
    await shows(tab, text, 'timeline');
  }
  await tab.close();
});

test('failures: their kinds, their texts', async () => {
  const tab = await page(server.address);
  for (const [number, text] of HOSTILE.entries()) {
    const id = `failure-${number}`;
    await server.start('FailWith', id, text);
    await server.until(id, (row) => row.status === 'Failed');
    await tab.to(`#/instances/${id}?tab=state`, '.chain li');
    await shows(tab, text, 'the chain of causes');
    await tab.to(`#/instances/${id}`, '.alert');
    await shows(tab, text, 'the alert');
  }
  await tab.close();
});

test('names of orchestrators, ids of instances, and the list of them', async () => {
  const tab = await page(server.address);
  let ids = 0;
  for (const [number, text] of HOSTILE.entries()) {
    const started = await server.api('POST', `orchestrators/${enc(text)}`, { id: `name-${number}`, tags: { [text]: text } });
    assert.equal(started.status, 202, JSON.stringify(started.body));
    await tab.to(`#/instances/name-${number}`, '.crumbs');
    await shows(tab, text, 'a name');
    await tab.to(`#/instances?name=${enc(text)}&tag=${enc(`${text}=${text}`)}`, '.chips');
    await shows(tab, text, 'the list');
    const named = await server.api('POST', 'orchestrators/AskForApproval', { id: text, input: 'x' });
    if (named.status !== 202) continue;
    ids += 1;
    await server.until(text, (row) => row?.status === 'Running');
    await tab.to(`#/instances/${enc(text)}`, 'h1.mono');
    await shows(tab, text, 'an id');
    await tab.page.getByRole('button', { name: 'Terminate' }).click();
    await tab.page.waitForSelector('dialog[open] form');
    await shows(tab, text, 'a dialog');
    await tab.page.keyboard.press('Escape');
  }
  assert.ok(ids >= 10, `${ids} of them are ids`);
  await tab.to('#/', '.cards a');
  assert.deepEqual(await unharmed(tab), SOUND, 'the overview');
  await tab.close();
});

test('entities: keys and states; filters and addresses', async () => {
  const tab = await page(server.address);
  let keys = 0;
  for (const text of HOSTILE) {
    const path = `entities/counter/${enc(text)}`;
    const signal = await server.api('POST', `${path}/signal`, { operation: 'note', input: text });
    if (signal.status === 202) {
      keys += 1;
      await until(async () => (await server.api('GET', path)).body?.state, 'the entity has no state');
      await tab.to(`#/entities/counter/${enc(text)}`, 'pre.json');
      await shows(tab, text, 'an entity');
    }
    for (const hash of [`#/${text}`, `#/instances/${enc(text)}-none`, `#/?span=${enc(text)}`, `#/instances?prefix=${enc(text)}`, `#/entities?name=${enc(text)}`, `#/instances/value-1?tab=${enc(text)}&task=${enc(text)}&q=${enc(text)}&page=${enc(text)}`]) {
      await tab.to(hash, 'main');
      assert.deepEqual(await unharmed(tab), SOUND, hash);
    }
  }
  assert.ok(keys >= 10, `${keys} of them are keys`);
  await tab.to('#/entities', 'td a');
  assert.deepEqual(await unharmed(tab), SOUND, 'the entities');
  await tab.close();
});

/** Batch jobs that the page of the hub tells of. */
const JOBS_SHOWN = 20;

test('batches, who changed what, the box to go to, explanations', async () => {
  const tab = await page(server.address);
  for (let first = 0; first < HOSTILE.length; first += JOBS_SHOWN) {
    const some = HOSTILE.slice(first, first + JOBS_SHOWN);
    for (const text of some) {
      const begun = await server.api('POST', 'operations', { verb: 'terminate', where: { name: text, prefix: text.slice(0, 40), tags: { [text]: text } }, reason: text });
      assert.equal(begun.status, 202, JSON.stringify(begun.body));
      await until(async () => (await server.api('GET', `operations/${begun.body.id}`)).body.state === 'done', 'the job goes on');
    }
    await tab.to('#/hub', '[aria-label="Batch jobs"] li');
    for (const text of some) await shows(tab, text, 'a batch job');
  }
  await tab.page.keyboard.press('Control+k');
  const box = tab.page.getByRole('combobox', { name: 'Page, or the beginning of an id' });
  for (const text of HOSTILE) {
    await box.fill(text);
    await tab.page.locator('dialog[open] [role="status"]', { hasText: 'No page' }).or(tab.page.locator('#jump-list [role="option"]').first()).first().waitFor();
    await shows(tab, text, 'the box');
  }
  await tab.page.keyboard.press('Escape');
  for (const [number, text] of HOSTILE.entries()) await server.api('POST', `instances/name-${number}/events/${enc(text)}`, text);
  await tab.to('#/hub', '[aria-label="Changes by people"] tbody tr');
  assert.deepEqual(await unharmed(tab), SOUND, 'who changed what');
  for (const number of HOSTILE.keys()) {
    await tab.to(`#/instances/name-${number}?tab=explain`, '.reasons li');
    assert.deepEqual(await unharmed(tab), SOUND, 'an explanation');
  }
  await tab.close();
});
