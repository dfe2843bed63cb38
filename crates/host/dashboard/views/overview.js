// The overview: how many are in which state, what began lately, what is stuck; or how to begin.

import { get, server } from '../api.js';
import { Command, counts, Crumbs, href, html, hub, Loaded, may, route, setQuery, Since, Status, useLoad, When } from '../ui.js';
import { count } from '../model/format.js';
import { rateText } from '../model/commands.js';
import { kindText } from '../model/explain.js';
import { STATUSES } from '../model/filter.js';
import { startDialog } from './actions.js';
import { Chart } from './chart.js';

/** More of what is stuck is left to `dalsegno stuck`. */
const STUCK_SHOWN = 50;
const SPANS = { '10m': 6e5, '1h': 36e5, '6h': 216e5, '1d': 864e5 };

export default function Overview() {
  const all = counts.value && Object.values(counts.value).reduce((sum, one) => sum + one, 0);
  if (all === undefined) return html`<p class="loading" role="status">Loading…</p>`;
  return html`<${Crumbs} parts=${[['Overview']]} />
    <div class="head"><h1>Overview</h1><div class="push">${may('start') && html`<button class="main" onClick=${() => startDialog()}>Start…</button>`}</div></div>
    ${hub.value?.readOnly && html`<p class="only-note" role="note"><b>Read-only.</b> This host only shows: over HTTP and gRPC it refuses whatever would change the hub. Workers and the app’s own routes go on.</p>`}
    ${all === 0 ? html`<${Begin} />` : html`<${Counts} /><${Lately} />`}
    ${all === 0 && html`<div class="grid"><${Workers} /><${Limiters} /></div>`}`;
}

function Counts() {
  return html`<div class="cards">${STATUSES.map((status) => html`<a key=${status} href=${href(['instances'], { status })}>
    <b>${count(counts.value?.[status] ?? 0)}</b><span class=${`s-${status}`}>${status}</span></a>`)}</div>`;
}

function Lately() {
  const asked = route.value.query.get('span') ?? '';
  const span = Object.hasOwn(SPANS, asked) ? asked : '1h';
  const state = useLoad((abort) => {
    const to = new Date();
    return get(`overview?from=${new Date(to.getTime() - SPANS[span]).toISOString()}&to=${to.toISOString()}&buckets=60`, abort);
  }, [span], 10_000);
  return html`<section class="panel" aria-label="Starts over time"><h2>Starts, and which of them failed
      <small>${Object.keys(SPANS).map((one) => html`<button type="button" class="plain" aria-pressed=${one === span} onClick=${() => setQuery({ span: one })}>${one === span ? html`<b>${one}</b>` : one}</button>`)}</small></h2>
    <div class="body"><${Loaded} state=${state} isNone=${() => false}>${(value) => html`<${Chart} ...${value} />`}<//></div></section>
    <div class="grid"><${Stuck} /><section class="panel" aria-label="Oldest unfinished"><h2>Oldest unfinished ${state.value?.oldestPartial && html`<small>of the newest 20,000</small>`}</h2>
      <${Loaded} state=${state} isNone=${(value) => value.oldest.length === 0} none="Nothing is unfinished.">${(value) => html`<div class="scroll"><table><thead><tr><th>Instance</th><th>Orchestrator</th><th>Status</th><th>Age</th></tr></thead>
        <tbody>${value.oldest.map((row) => html`<tr><td class="mono"><a href=${href(['instances', row.id])}>${row.id}</a></td><td>${row.name}</td><td><${Status} status=${row.status} more=${row.parked ? 'parked' : ''} /></td><td><${Since} from=${row.created} /></td></tr>`)}</tbody></table></div>`}<//></section><${Workers} /><${Limiters} /></div>`;
}

function Stuck() {
  const state = useLoad((abort) => get(`stuck?top=${STUCK_SHOWN}`, abort), [], 5000);
  return html`<section class="panel" aria-label="Stuck"><h2>Parked and stuck</h2>
    <${Loaded} state=${state} isNone=${(value) => value.rows.length === 0} none="Nothing is stuck.">${(value) => html`<ul class="reasons">${value.rows.map((row) => html`<li>
      <a class="mono" href=${href(['instances', row.id], { tab: 'explain' })}>${row.id}</a> <span class="badge">${row.reasons[0] ? kindText(row.reasons[0].kind) : row.status}</span><div>${row.summary}</div>${row.since && html`<small>moved last <${When} at=${row.since} /></small>`}</li>`)}
      ${value.more && html`<li>There are more: <code>dalsegno stuck</code></li>`}</ul>`}<//></section>`;
}

function Workers() {
  const state = useLoad((abort) => get('workers', abort), [], 5000);
  const own = hub.value?.orchestrators?.length ?? 0;
  return html`<section class="panel" aria-label="Workers"><h2><a href="#/workers">Workers</a></h2>
    <${Loaded} state=${state} none=${own ? 'All code runs in the host’s own process.' : 'No worker is connected.'}>${(rows) => html`<ul class="reasons">${rows.slice(0, 6).map((row) => html`<li><span class="mono">${row.name}</span> <small>${row.turns} turns, ${row.activities} activities, ${row.operations} operations</small></li>`)}</ul>`}<//></section>`;
}

function Limiters() {
  const state = useLoad((abort) => get('limiters', abort), [], 5000);
  return html`<section class="panel" aria-label="Limiters"><h2><a href="#/limiters">Limiters</a></h2>
    <${Loaded} state=${state} none="No limiter is defined.">${(rows) => html`<ul class="reasons">${rows.slice(0, 6).map((row) => html`<li><span class="mono">${row.name}${row.key && ` · ${row.key}`}</span> <small>${rateText(row.rate)} ${row.running} run, ${row.waiting} wait</small></li>`)}</ul>`}<//></section>`;
}

const RUST = `use dalsegno::{App, OrchestrationContext, Result, orchestrator};

#[orchestrator]
async fn hello(_ctx: &OrchestrationContext, name: String) -> Result<String> {
    Ok(format!("Hello, {name}!"))
}`;
const PYTHON = `from durabletask import client, worker

def hello(ctx, name):
    return f"Hello, {name}!"

with worker.TaskHubGrpcWorker(host_address="ADDRESS") as w:
    w.add_orchestrator(hello)
    w.start()
    input("the worker is connected; Enter ends it")`;
const JAVASCRIPT = `import { TaskHubGrpcWorker } from "@microsoft/durabletask-js";

const worker = new TaskHubGrpcWorker({ hostAddress: "ADDRESS" });
worker.addNamedOrchestrator("hello", async function* (ctx, name) {
  return \`Hello, \${name}!\`;
});
await worker.start();`;

function Begin() {
  const address = server.replace(/^https?:\/\//, '');
  const names = hub.value?.orchestrators ?? [];
  const hubs = useLoad((abort) => get('hubs', abort), [], 5000).value ?? [];
  const others = hubs.filter((one) => one !== hub.value?.name);
  const cards = [
    ['Rust', ['dalsegno init hello && cd hello', 'cargo run', `dalsegno --server ${server} start hello -i '"Ada"' --wait`], RUST],
    ['Python', ['pip install durabletask', 'python hello.py', `dalsegno --server ${server} start hello -i '"Ada"' --wait`], PYTHON.replace('ADDRESS', address)],
    ['JavaScript', ['npm install @microsoft/durabletask-js', 'node hello.mjs', `dalsegno --server ${server} start hello -i '"Ada"' --wait`], JAVASCRIPT.replace('ADDRESS', address)],
  ];
  return html`<section class="panel" aria-label="Getting started"><h2>Getting started <small>this hub is empty</small></h2><div class="body">
    <p>${names.length ? html`Registered here: ${names.map((name) => html`<button class="plain mono" onClick=${() => startDialog(name)}>${name}</button>`)}. Start one, or add more:` : 'Connect a worker and start an orchestration; it will be seen here.'}</p>
    ${others.length > 0 && html`<p>This host has other task hubs: ${others.map((one) => html`<a key=${one} class="mono" href=${`?hub=${encodeURIComponent(one)}#/`}>${one}</a> `)}</p>`}
    <div class="start-grid">${cards.map(([label, commands, code]) => html`<div><h3>${label}</h3>${commands.map((text) => html`<${Command} text=${text} what=${`the ${label} command`} />`)}<pre class="json">${code}</pre></div>`)}</div></div></section>`;
}
