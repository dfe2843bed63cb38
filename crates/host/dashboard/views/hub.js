// The hub: what it is, what it has registered, deliveries and batch jobs.

import { get, send, server } from '../api.js';
import { Crumbs, href, html, Loaded, Status, useLoad, When } from '../ui.js';
import { Functions } from './workers.js';
import { Progress } from './actions.js';
import { rateText } from '../model/commands.js';
import { Audit } from './audit.js';

export default function Hub() {
  const info = useLoad((abort) => get('hub', abort), [], 5000);
  const deliveries = useLoad((abort) => get('webhooks', abort), [], 5000);
  const jobs = useLoad((abort) => get('operations', abort), [], 2000);
  return html`<${Crumbs} parts=${[['Hub']]} /><div class="head"><h1>Hub</h1></div>
    <section class="panel" aria-label="This hub"><h2>This hub</h2><div class="body"><${Loaded} state=${info} isNone=${() => false}>${(value) => html`<dl class="kv"><dt>Name</dt><dd class="mono">${value.name}</dd><dt>Version</dt><dd class="mono">${value.version}</dd><dt>Address</dt><dd class="mono">${server}</dd>
      <dt>Mode</dt><dd>${value.readOnly ? 'read-only: whatever would change it is refused' : 'read and write'}</dd><dt>Your key allows</dt><dd>${(value.scopes ?? []).map((scope) => html`<span class="tag">${scope}</span> `)}</dd></dl><br /><${Functions} info=${value} />`}<//></div></section>
    <section class="panel" aria-label="Batch jobs"><h2>Batch jobs <small>that run, and the last that ran; they go on after a restart of the host</small></h2><${Loaded} state=${jobs} none="None.">${(rows) => html`<ul class="reasons">${rows.slice(0, 20).map((job) => html`<li key=${job.id}><b>${job.verb}</b>${job.dryRun && html` <span class="badge">dry run</span>`}${job.rate && html` <span class="badge">${rateText(job.rate)}</span>`} <code>${JSON.stringify(job.where)}</code> <small><${When} at=${job.started} /></small>
      <${Progress} job=${job} />${job.state === 'running' && html`<button class="danger" onClick=${() => send({ method: 'DELETE', path: `operations/${job.id}` }).then(jobs.reload)}>Stop it</button>`}</li>`)}</ul>`}<//></section>
    <section class="panel" aria-label="Webhooks"><h2>Deliveries to webhooks <small>that wait or were given up</small></h2><${Loaded} state=${deliveries} none="None waits.">${(rows) => html`<div class="scroll"><table><thead><tr><th>Instance</th><th>Status</th><th>To</th><th>State</th><th class="num">Failed</th><th>Next</th><th>Last failure</th></tr></thead>
      <tbody>${rows.slice(0, 200).map((row) => html`<tr key=${`${row.id}${row.to}`}><td class="mono"><a href=${href(['instances', row.instanceId])}>${row.instanceId}</a></td><td><${Status} status=${row.status} /></td><td class="mono">${row.to}</td><td>${row.state}</td><td class="num">${row.failedAttempts}</td><td><${When} at=${row.nextAttempt} /></td><td>${row.lastFailure ?? ''}</td></tr>`)}</tbody></table></div>`}<//></section>
    <${Audit} />`;
}
