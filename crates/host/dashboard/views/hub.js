// The hub: what it is, what it has registered, deliveries and batch jobs.

import { get, send, server } from '../api.js';
import { Crumbs, href, html, Loaded, may, Status, useLoad, When } from '../ui.js';
import { deleteHub, deleteHubCli, rateText } from '../model/commands.js';
import { count, size } from '../model/format.js';
import { Functions } from './workers.js';
import { confirmDialog, here, Progress } from './actions.js';
import { Audit } from './audit.js';

export default function Hub() {
  const info = useLoad((abort) => get('hub', abort), [], 5000);
  const deliveries = useLoad((abort) => get('webhooks', abort), [], 5000);
  const jobs = useLoad((abort) => get('operations', abort), [], 2000);
  const stats = useLoad((abort) => get('hub', abort).then((own) => get(`hubs/${encodeURIComponent(own.name)}/stats`, abort)), [], 60_000);
  return html`<${Crumbs} parts=${[['Hub']]} /><div class="head"><h1>Hub</h1></div>
    <section class="panel" aria-label="This hub"><h2>This hub</h2><div class="body"><${Loaded} state=${info} isNone=${() => false}>${(value) => html`<dl class="kv"><dt>Name</dt><dd class="mono">${value.name}</dd><dt>Version</dt><dd class="mono">${value.version}</dd><dt>Address</dt><dd class="mono">${server}</dd>
      <dt>Mode</dt><dd>${value.readOnly ? 'read-only: whatever would change it is refused' : 'read and write'}</dd><dt>Your key allows</dt><dd>${(value.scopes ?? []).map((scope) => html`<span class="tag">${scope}</span> `)}</dd></dl><br /><${Functions} info=${value} />`}<//></div></section>
    <section class="panel" aria-label="Size"><h2>Size</h2><div class="body"><${Loaded} state=${stats} isNone=${() => false}>${(value) => html`<${Size} stats=${value} />`}<//></div></section>
    <section class="panel" aria-label="Batch jobs"><h2>Batch jobs <small>that run, and the last that ran; they go on after a restart of the host</small></h2><${Loaded} state=${jobs} none="None.">${(rows) => html`<ul class="reasons">${rows.slice(0, 20).map((job) => html`<li key=${job.id}><b>${job.verb}</b>${job.dryRun && html` <span class="badge">dry run</span>`}${job.rate && html` <span class="badge">${rateText(job.rate)}</span>`} <code>${JSON.stringify(job.where)}</code> <small><${When} at=${job.started} /></small>
      <${Progress} job=${job} />${job.state === 'running' && html`<button class="danger" onClick=${() => send({ method: 'DELETE', path: `operations/${job.id}` }).then(jobs.reload)}>Stop it</button>`}</li>`)}</ul>`}<//></section>
    <section class="panel" aria-label="Webhooks"><h2>Deliveries to webhooks <small>that wait or were given up</small></h2><${Loaded} state=${deliveries} none="None waits.">${(rows) => html`<div class="scroll"><table><thead><tr><th>Instance</th><th>Status</th><th>To</th><th>State</th><th class="num">Failed</th><th>Next</th><th>Last failure</th></tr></thead>
      <tbody>${rows.slice(0, 200).map((row) => html`<tr key=${`${row.id}${row.to}`}><td class="mono"><a href=${href(['instances', row.instanceId])}>${row.instanceId}</a></td><td><${Status} status=${row.status} /></td><td class="mono">${row.to}</td><td>${row.state}</td><td class="num">${row.failedAttempts}</td><td><${When} at=${row.nextAttempt} /></td><td>${row.lastFailure ?? ''}</td></tr>`)}</tbody></table></div>`}<//></section>
    <${Audit} />`;
}

/** What the hub takes on its disk, and what can be done about it. */
function Size({ stats }) {
  const all = stats.instances.reduce((sum, one) => sum + one.count, 0);
  const there = stats.instances.filter((one) => one.count > 0);
  return html`<dl class="kv"><dt>On disk</dt><dd>${size(stats.diskBytes)}: log ${size(stats.logBytes)}, tables ${size(stats.databaseBytes)}${stats.payloads > 0 ? `, of these ${size(stats.payloadBytes)} in ${count(stats.payloads)} large values` : ''}</dd>
    ${stats.freeBytes !== undefined && html`<dt>Free</dt><dd>${size(stats.freeBytes)}</dd>`}
    <dt>Instances</dt><dd>${count(all)}${there.length > 0 ? ': ' : ''}${there.map((one) => html`<${Status} status=${one.status} /> ${count(one.count)} `)}</dd><dt>History events</dt><dd>${count(stats.historyEvents)}</dd>
    <dt>Within a day</dt><dd>${count(stats.createdLastDay)} created, some ${size(stats.growthBytesPerDay)}</dd>
    ${may('admin') && stats.diskBytes > 0 && html`<dt>Backup</dt><dd><code>${here(`dalsegno backup --to ${stats.name}.backup`)}</code></dd>`}</dl>
    ${may('admin') && !stats.own && html`<p><button class="danger" onClick=${() => remove(stats.name, all)}>Delete this hub…</button></p>`}`;
}

/** Asks for the name; then the page is the host's own hub again. */
function remove(name, instances) {
  confirmDialog({
    title: `Delete the task hub ${name}`, effect: `Its ${count(instances)} instances, their histories and its entities go for good. Workers that go on may make it again, empty.`, label: 'Delete', isDestructive: true, confirm: name,
    request: deleteHub(name), cli: deleteHubCli(name), onDone: () => location.assign(`${location.pathname}#/`),
  });
}
