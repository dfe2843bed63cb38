// Limiters: what they allow, who waits.

import { get } from '../api.js';
import { Crumbs, href, html, Loaded, may, useLoad, When } from '../ui.js';
import { rateText } from '../model/commands.js';
import { limiterDialog } from './actions.js';

export default function Limiters() {
  const state = useLoad((abort) => get('limiters', abort), [], 2000);
  return html`<${Crumbs} parts=${[['Limiters']]} /><div class="head"><h1>Limiters</h1></div>
    <section class="panel" aria-label="Limiters"><${Loaded} state=${state} none=${html`<p>No limiter is defined.</p><p>In <code>dalsegno.toml</code>: <code>[limiter.github] rate = "5000/1h"</code></p>`}>${(rows) => html`<div class="scroll"><table>
      <thead><tr><th>Limiter</th><th>Rate</th><th class="num">Burst</th><th class="num">Tokens</th><th class="num">Running</th><th class="num">Waiting</th><th>Next grant</th><th><span class="hidden">Actions</span></th></tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${`${row.name}/${row.key}`}><td class="mono">${row.name}${row.key && html` <span class="tag">${row.key}</span>`}</td><td class="mono">${rateText(row.rate) || 'no rate'}</td><td class="num">${row.rate ? row.burst : '–'}</td><td class="num">${row.rate ? Math.floor(row.tokens * 10) / 10 : '–'}</td>
        <td class="num">${row.running}${row.concurrency ? ` of ${row.concurrency}` : ''}</td><td class="num">${row.waiting > 0 ? html`<details><summary>${row.waiting}</summary><${Waiters} row=${row} /></details>` : 0}</td><td>${row.blockedUntil ? html`blocked: <${When} at=${row.blockedUntil} />` : row.nextGrant ? html`<${When} at=${row.nextGrant} />` : '–'}</td>
        <td>${may('admin') && html`<button onClick=${() => limiterDialog(row, state.reload)}>Edit…</button>`}</td></tr>`)}</tbody></table></div>`}<//></section>`;
}

/** The first of those that wait. */
function Waiters({ row }) {
  return html`<ol class="waiters">${row.waiters.map((one, index) => html`<li key=${index}><a class="mono" href=${href(['instances', one.instanceId], { tab: 'explain' })}>${one.instanceId}</a> <small>${one.activity}</small></li>`)}
    ${row.waiting > row.waiters.length && html`<li><small>and ${row.waiting - row.waiters.length} more</small></li>`}</ol>`;
}
