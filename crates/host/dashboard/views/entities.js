// Entities: the list, and one of them.

import { get } from '../api.js';
import { Copy, Crumbs, go, href, html, Loaded, may, route, setQuery, tell, useEffect, useLoad, useState, When } from '../ui.js';
import { chip, count } from '../model/format.js';
import { deleteCli } from '../model/commands.js';
import { confirmDialog, signalDialog, unlockDialog } from './actions.js';

const PAGE = 100;

export default function Entities() {
  const name = route.value.query.get('name') ?? '';
  const [text, setText] = useState(name);
  const [more, setMore] = useState(/** @type {any} */ ({ rows: [] }));
  const base = `entities?top=${PAGE}&largeValues=false${name ? `&name=${encodeURIComponent(name)}` : ''}`;
  const state = useLoad((abort) => get(base, abort), [base]);
  useEffect(() => setMore({ rows: [] }), [base]);
  const next = more.rows.length ? more.next : state.value?.next;
  const load = async () => {
    const page = await get(`${base}&after=${encodeURIComponent(next)}`);
    setMore({ rows: more.rows.concat(page.rows), next: page.next });
  };
  return html`<${Crumbs} parts=${[['Entities']]} /><div class="head"><h1>Entities</h1></div>
    <div class="filters"><form role="search" onSubmit=${(event) => { event.preventDefault(); setQuery({ name: text.trim() }); }}><label class="hidden" for="name">Name of the entity</label><input id="name" data-search type="search" placeholder="Name, like counter" value=${text} onInput=${(event) => setText(event.target.value)} /></form><button onClick=${state.reload}>Again</button></div>
    <section class="panel" aria-label="Entities"><${Loaded} state=${state} isNone=${(value) => value.rows.length === 0} none=${name ? `There is no entity ${name} with state.` : 'No entity has state.'}>${(value) => html`<div class="scroll"><table>
      <thead><tr><th>Entity</th><th>State</th><th>Lock or queue</th><th>Last operation</th></tr></thead>
      <tbody>${[...value.rows, ...more.rows].map((row) => html`<tr key=${`${row.name}@${row.key}`}><td class="mono"><a href=${href(['entities', row.name, row.key || '$'])}>@${row.name}@${row.key}</a></td>
        <td><span class="mono">${chip(row.state, 90)}</span></td><td>${row.lockHolder ? html`locked by <a class="mono" href=${href(['instances', row.lockHolder])}>${row.lockHolder}</a>` : row.busy ? 'busy' : '–'}</td><td><${When} at=${row.lastOperation} /></td></tr>`)}</tbody></table></div>`}<//>
      ${next && html`<p class="pager"><button onClick=${load}>More</button></p>`}</section>`;
}

export function Entity() {
  const [, name, raw = '$'] = route.value.parts;
  const key = raw === '$' ? '' : raw;
  const path = `entities/${encodeURIComponent(name)}/${encodeURIComponent(raw)}`;
  const state = useLoad((abort) => get(path, abort), [path], 2000);
  const text = state.value && state.value.state !== undefined ? JSON.stringify(state.value.state, null, 2) : '';
  const remove = () => confirmDialog({
    title: `Delete @${name}@${key}`, effect: 'Its state is deleted for good. A later operation begins with none.', label: 'Delete', confirm: `@${name}@${key}`, isDestructive: true,
    request: { method: 'DELETE', path }, cli: deleteCli({ name, key }),
    onDone: () => { tell('Deleted'); go('#/entities'); },
  });
  return html`<${Crumbs} parts=${[['Entities', '#/entities'], [name, href(['entities'], { name })]]} />
    <div class="head"><h1 class="mono">@${name}@${key}</h1><div class="push">${may('entity') && html`<button class="main" onClick=${() => signalDialog({ name, key }, state.reload)}>Signal…</button>${state.value?.lockHolder && html`<button onClick=${() => unlockDialog({ name, key, lockHolder: state.value.lockHolder }, state.reload)}>Unlock…</button>`}<button class="danger" onClick=${remove}>Delete…</button>`}</div></div>
    <${Loaded} state=${state} isNone=${() => false}>${(row) => html`
      <dl class="panel facts"><div><dt>Last operation</dt><dd>${row.lastOperation.startsWith('1970') ? 'none yet' : html`<${When} at=${row.lastOperation} />`}</dd></div><div><dt>Lock</dt><dd>${row.lockHolder ? html`<a href=${href(['instances', row.lockHolder])}>${row.lockHolder}</a>` : 'free'}</dd></div><div><dt>Queue</dt><dd>${row.waiting ? `${row.waiting} ${row.waiting === 1 ? 'stands' : 'stand'} there` : 'empty'}</dd></div><div><dt>Partition</dt><dd>${row.partition}</dd></div></dl>
      <${Queue} row=${row} />
      <section class="panel" aria-label="State"><h2>State ${text && html`<${Copy} text=${text} what="the state" />`}</h2>${text ? html`<pre class="json" tabindex="0">${text}</pre>` : html`<p class="empty">none</p>`}</section>`}<//>`;
}

/** Who stands before an entity, the first first. */
function Queue({ row }) {
  if (!row.waiting) return null;
  return html`<section class="panel" aria-label="Queue"><h2>Queue <small>${row.lockHolder ? 'what its holder does not ask for waits for the lock' : 'one after the other'}</small></h2><div class="scroll"><table>
    <thead><tr><th class="num">#</th><th>What</th><th>For</th><th>State</th></tr></thead>
    <tbody>${row.queue.map((one, index) => html`<tr key=${index}><td class="num">${index + 1}</td><td class="mono">${one.kind === 'lock' ? html`<i>lock</i>` : one.operation}</td>
      <td>${one.caller ? html`<a class="mono" href=${href(['instances', one.caller], { tab: 'explain' })}>${one.caller}</a>` : 'nobody: a signal'}</td><td>${one.running ? 'at work' : 'waits'}</td></tr>`)}</tbody></table></div>
    ${row.waiting > row.queue.length && html`<p class="pager">and ${count(row.waiting - row.queue.length)} more</p>`}</section>`;
}
