// Who runs the code: this host, and workers that are connected.

import { get } from '../api.js';
import { Crumbs, html, hub, Loaded, may, useLoad } from '../ui.js';
import { drain, drainCli } from '../model/commands.js';
import { confirmDialog } from './actions.js';

export default function Workers() {
  const state = useLoad((abort) => get('workers', abort), [], 2000);
  const info = useLoad((abort) => get('hub', abort), [], 5000).value ?? hub.value;
  const isNobody = state.value?.length === 0 && info && info.orchestrators.length === 0;
  return html`<${Crumbs} parts=${[['Workers']]} /><div class="head"><h1>Workers</h1></div>
    ${isNobody && html`<div class="alert" role="alert"><b>Nobody runs code here.</b> No worker is connected and this host has no functions of its own: what is started waits.</div>`}
    <section class="panel" aria-label="Connected workers"><h2>Connected</h2><${Loaded} state=${state} none="No worker is connected over gRPC.">${(rows) => html`<div class="scroll"><table>
      <thead><tr><th>Worker</th><th class="num">Turns</th><th class="num">Activities</th><th class="num">Operations</th><th>State</th><th>Offers</th><th></th></tr></thead>
      <tbody>${rows.map((row, index) => html`<tr key=${`${row.name}${index}`}><td class="mono">${row.name}</td><td class="num">${row.turns}</td><td class="num">${row.activities}</td><td class="num">${row.operations}</td><td>${row.draining ? 'draining' : 'connected'}</td><td><${Offers} offers=${row.offers} /></td><td>${may('admin') && !row.draining && html`<button onClick=${() => drainDialog(row.name, state.reload)}>Drain…</button>`}</td></tr>`)}</tbody></table></div>`}<//></section>
    ${info && html`<section class="panel" aria-label="Functions"><h2>Functions of the host <small>workers bring their own</small></h2><div class="body"><${Functions} info=${info} /></div></section>`}`;
}

function drainDialog(name, onDone) {
  confirmDialog({ title: `Drain ${name}`, effect: 'It gets no more work and finishes what it has. It gets work again when it connects anew.', label: 'Drain', request: drain(name), cli: drainCli(name), onDone });
}

/** What a worker says it has. */
function Offers({ offers }) {
  if (!offers) return 'whatever there is';
  const all = [...offers.orchestrators, ...offers.activities, ...offers.entities.map((name) => `@${name}`)];
  return all.length ? all.map((name) => html`<span class="tag">${name}</span> `) : 'nothing';
}

/** The names that are registered. */
export function Functions({ info }) {
  const names = (list) => (list.length ? list.map((name) => html`<span class="tag">${name}</span> `) : 'none');
  return html`<dl class="kv"><dt>Orchestrators</dt><dd>${names(info.orchestrators)}</dd><dt>Activities</dt><dd>${names(info.activities)}</dd><dt>Entities</dt><dd>${names(info.entities)}</dd></dl>`;
}
