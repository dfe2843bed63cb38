// One instance: what it is, what holds it, what it did.

import { get, stream, text } from '../api.js';
import { Copy, Crumbs, href, html, hub, may, now, route, setQuery, Status, tell, useEffect, useRef, useState } from '../ui.js';
import { alarm, qualifier } from '../model/explain.js';
import { clock, count, duration, failureLine, millis, relative, size } from '../model/format.js';
import { isFinal } from '../model/filter.js';
import { VERBS } from '../model/commands.js';
import { command, offered } from './actions.js';
import { Divergence, save } from './payload.js';
import { Timeline } from './timeline.js';

/** What comes by the stream is shown at most so often. */
const FLUSH_MS = 80;
const EXPLAIN_MS = 2000;
const TABS = [['timeline', 'Timeline'], ['history', 'History'], ['sequence', 'Sequence'], ['state', 'State'], ['children', 'Children'], ['explain', 'Explain']];

/** The instance and its history, as the stream tells them. */
function useInstance(id) {
  const [state, setState] = useState(/** @type {any} */ ({}));
  const [again, setAgain] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    const me = { row: undefined, history: [], bytes: 0, isLive: false, timer: 0, problem: undefined };
    setState({});
    const show = () => { me.timer = 0; if (!abort.signal.aborted) setState({ row: me.row, history: me.history, bytes: me.bytes, isLive: me.isLive, problem: me.problem }); };
    const soon = () => { me.timer ||= setTimeout(show, FLUSH_MS); };
    const take = (name, data) => {
      if (name === 'execution') { me.history = []; me.bytes = 0; }
      if (name === 'history') { me.history = pushed(me, data); me.bytes += sizeOf(data); }
      if (name === 'problem') { me.problem = new Error(data.detail ?? data.code); me.isGone = data.code === 'not_found'; }
      if (name === 'execution' || name === 'status' || name === 'end') me.row = { ...data, input: undefined };
      soon();
    };
    const begin = async () => {
      try {
        me.row = await get(`instances/${encodeURIComponent(id)}`, abort.signal);
        show();
      } catch (problem) {
        me.problem = problem;
        show();
        return;
      }
      stream(`instances/${encodeURIComponent(id)}/stream?largeValues=false`, { abort: abort.signal, onEvent: take, onOpen: (isOpen) => { me.isLive = isOpen; soon(); } });
    };
    begin();
    return () => { abort.abort(); clearTimeout(me.timer); };
  }, [id, again]);
  return { ...state, reload: () => setAgain((one) => one + 1) };
}

/** The same list grows; a new wrapper tells that it did. */
function pushed(me, event) {
  me.history.push(event);
  return me.history;
}

function sizeOf(event) {
  return JSON.stringify(event).length;
}

/** The answer of `explain`, as long as the instance is not finished. */
function useExplained(id, row) {
  const [told, setTold] = useState(/** @type {any} */ ({}));
  const isOver = !row || isFinal(row.status);
  useEffect(() => {
    if (!row) return undefined;
    const abort = new AbortController();
    let timer = 0;
    const once = async () => {
      try {
        const explained = await get(`instances/${encodeURIComponent(id)}/explain`, abort.signal);
        if (!abort.signal.aborted) setTold({ id, explained });
      } catch (problem) {
        if (!abort.signal.aborted) setTold((old) => ({ ...old, problem }));
      }
      if (!isOver && !abort.signal.aborted) timer = setTimeout(once, EXPLAIN_MS);
    };
    once();
    return () => { abort.abort(); clearTimeout(timer); };
  }, [id, isOver, row?.status, row?.updated, row?.parked?.message]);
  return told.id === id ? told : { problem: told.problem };
}

export default function Instance() {
  const id = route.value.parts[1];
  const { row, history = [], bytes, isLive, problem, reload } = useInstance(id);
  const { explained, problem: unexplained } = useExplained(id, row);
  const tab = TABS.some(([name]) => name === route.value.query.get('tab')) ? route.value.query.get('tab') : 'timeline';
  const wasFinal = useRef(false);
  useEffect(() => {
    // A finished one that goes again (rewound, restarted under its id) has a new stream.
    const isOver = Boolean(row && isFinal(row.status) && !isLive);
    if (!isOver) { wasFinal.current = false; return undefined; }
    const timer = setInterval(async () => {
      try {
        const next = await get(`instances/${encodeURIComponent(id)}`);
        if (next.executionId !== row.executionId || next.status !== row.status) reload();
      } catch (refusal) {
        if (refusal.status === 404) reload();
      }
    }, 3000);
    return () => clearInterval(timer);
  }, [row, isLive]);
  if (!row && problem) {
    return html`<${Crumbs} parts=${[['Orchestrations', '#/instances'], [id]]} /><h1>Not here</h1><p class="problem" role="alert">${problem.message}</p>
      <p><a href=${href(['instances'], { prefix: id.slice(0, 8) })}>Instances whose id begins with ${id.slice(0, 8)}</a></p>`;
  }
  if (!row) return html`<${Crumbs} parts=${[['Orchestrations', '#/instances'], [id]]} /><p class="loading" role="status">Loading…</p>`;
  const children = history.filter((event) => event.kind === 'SubOrchestrationInstanceCreated');
  const numbers = { history: row.events || history.length, children: children.length };
  const context = { id, row, history, explained, unexplained, children };
  return html`<${Crumbs} parts=${[['Orchestrations', '#/instances'], [row.name, href(['instances'], { name: row.name })]]} />
    <div class="head"><h1 class="mono">${row.id}</h1><${Copy} text=${row.id} what="the id" /><${Status} status=${row.status} more=${qualifier(explained, row)} pill />
      <${Buttons} row=${row} history=${history} /></div>
    ${problem && html`<p class="notice" role="alert">${problem.message}</p>`}
    <${Facts} row=${row} history=${history} bytes=${bytes} />
    <${Alert} row=${row} explained=${explained} history=${history} />
    <div class="tabs"><div role="tablist" aria-label="About this instance" onKeyDown=${(event) => step(event, tab)}>
      ${TABS.map(([name, label]) => html`<button key=${name} id=${`tab-${name}`} type="button" role="tab" aria-selected=${name === tab} aria-controls="tab-panel" tabindex=${name === tab ? 0 : -1} onClick=${() => setQuery({ tab: name })}>
        ${label}${numbers[name] ? html` <small>${count(numbers[name])}</small>` : ''}</button>`)}</div>
      <span class=${`live ${isLive ? '' : 'off'}`} role="status">${isLive ? '● LIVE' : isFinal(row.status) ? 'finished' : 'not live'}</span></div>
    <div id="tab-panel" role="tabpanel" aria-labelledby=${`tab-${tab}`} class="panel tabbed" tabindex="0">
      ${tab === 'timeline' && html`<${Timeline} ...${context} />`}
      ${tab !== 'timeline' && html`<${Other} tab=${tab} context=${context} />`}
    </div>`;
}

/** The tabs that are not shown first are loaded when they are asked for. */
const OTHERS = {
  history: async () => (await import('./history.js')).History,
  sequence: async () => (await import('./instance_tabs.js')).Sequence,
  state: async () => (await import('./instance_tabs.js')).State,
  children: async () => (await import('./instance_tabs.js')).Children,
  explain: async () => (await import('./instance_tabs.js')).Explain,
};

function Other({ tab, context }) {
  const [loaded, setLoaded] = useState(/** @type {any} */ ({}));
  useEffect(() => {
    let isOver = false;
    OTHERS[tab]().then((shown) => { if (!isOver) setLoaded({ tab, shown }); }, (problem) => { if (!isOver) setLoaded({ tab, problem }); });
    return () => { isOver = true; };
  }, [tab]);
  if (loaded.tab !== tab) return html`<p class="loading" role="status">Loading…</p>`;
  if (loaded.problem) return html`<p class="problem" role="alert">${loaded.problem.message}</p>`;
  return html`<${loaded.shown} ...${context} />`;
}

function step(event, tab) {
  const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!move) return;
  const at = TABS.findIndex(([name]) => name === tab);
  const next = TABS[(at + move + TABS.length) % TABS.length][0];
  setQuery({ tab: next });
  requestAnimationFrame(() => document.getElementById(`tab-${next}`)?.focus());
}

const UP_FRONT = ['raise', 'suspend', 'resume', 'rewind', 'terminate'];

function Buttons({ row, history }) {
  const [isOpen, setOpen] = useState(false);
  const menu = useRef(/** @type {any} */ (null));
  useEffect(() => {
    if (!isOpen) return undefined;
    const away = (event) => { if (event.type === 'keydown' ? event.key === 'Escape' : !menu.current?.contains(event.target)) setOpen(false); };
    addEventListener('pointerdown', away);
    addEventListener('keydown', away);
    return () => { removeEventListener('pointerdown', away); removeEventListener('keydown', away); };
  }, [isOpen]);
  const verbs = offered(row, may);
  const later = verbs.filter((verb) => !UP_FRONT.includes(verb));
  const act = (verb) => { setOpen(false); command(verb, row, verb === 'raise' ? { event: waited(row) } : undefined); };
  return html`<div class="push">
    ${UP_FRONT.filter((verb) => verbs.includes(verb)).map((verb) => html`<button key=${verb} class=${verb === 'raise' ? 'main' : verb === 'terminate' ? 'danger' : ''} onClick=${() => act(verb)}>${VERBS[verb].label}${verb === 'rewind' ? '…' : ''}</button>`)}
    <div class="menu" ref=${menu}><button type="button" aria-label="More" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>⋯</button>
      ${isOpen && html`<ul>${later.map((verb) => html`<li key=${verb}><button class=${VERBS[verb].isDestructive ? 'danger' : ''} onClick=${() => act(verb)}>${VERBS[verb].label}…</button></li>`)}
        <li><button onClick=${() => { setOpen(false); download(row.id); }}>Download history</button></li></ul>`}</div></div>`;
}

/** The event that it waits for, so that nobody has to type its name. */
function waited(row) {
  const found = (row.waitsFor ?? []).map((line) => /event "((?:[^"\\]|\\.)*)"/.exec(line)).find(Boolean);
  return found ? found[1] : '';
}

/** The history as the API has it. @param {string} id */
export async function download(id) {
  try {
    const whole = await text(`instances/${encodeURIComponent(id)}/history`);
    save(whole, 'application/json', `${id.replace(/[^\w.-]+/g, '_')}.history.json`);
  } catch (problem) {
    tell(problem.message);
  }
}

function Facts({ row, history, bytes }) {
  const worker = history.findLast?.((event) => event.worker)?.worker;
  const trace = row.trace?.parent?.split('-')[1];
  const isToday = clock(row.created, now.value);
  const took = row.completed ? millis(row.completed) - millis(row.created) : Math.max(0, now.value - millis(row.created));
  return html`<dl class="panel facts">
    <div><dt>Started</dt><dd title=${row.created}>${isToday}</dd></div>
    <div><dt>Elapsed</dt><dd>${duration(took >= 1000 && !row.completed ? Math.floor(took / 1000) * 1000 : took).replace(/\.0s$/, 's')}</dd></div>
    <div><dt>History</dt><dd>${count(row.events || history.length)} events${bytes ? ` · ${size(bytes)}` : ''}</dd></div>
    <div><dt>Worker</dt><dd>${worker ?? '–'}</dd></div>
    <div><dt>Version</dt><dd>${row.version ?? '–'}</dd></div>
    ${trace ? html`<div><dt>Trace</dt><dd title=${row.trace.parent}>${trace.slice(0, 8)}…${trace.slice(-4)}</dd></div>` : html`<div><dt>Hub</dt><dd>${hub.value?.name ?? '–'}</dd></div>`}
  </dl>`;
}

function Alert({ row, explained, history }) {
  const found = row.status === 'Failed' ? undefined : alarm(explained);
  if (row.status === 'Failed' && row.failure) {
    return html`<div class="alert" role="alert"><b>${row.name}</b> failed: ${failureLine(row.failure)}
      <div class="more"><a href=${href(['instances', row.id], { tab: 'state' })}>the failure and its causes</a>${may('control') && html`<button class="plain" onClick=${() => command('rewind', row)}>rewind</button>`}</div></div>`;
  }
  if (!found) return null;
  const name = found.name ?? history.find((event) => event.task === found.task && event.name)?.name;
  const go_to = href(['instances', row.id], { tab: 'timeline', task: String(found.task ?? '') });
  const failure = typeof found.lastFailure === 'string' ? found.lastFailure : failureLine(found.lastFailure);
  if (found.kind === 'retry') {
    const times = Math.max(1, found.attempt - 1 || 1);
    return html`<div class="alert" role="alert"><b>${name}</b> has failed ${times === 1 ? 'once' : `${times} times`}${found.due ? html` — next attempt <b>${relative(found.due, now.value)}</b>` : ''}${found.attemptsMax ? ` (${found.attempt} of ${found.attemptsMax})` : ''} · <a href=${go_to}>go to the task</a>${may('control') && html` · <button class="plain" onClick=${() => command('retry-now', row, { task: String(found.task) })}>retry now</button>`}
      ${failure && html`<pre>${failure}</pre>`}</div>`;
  }
  if (row.parked?.divergence) {
    return html`<div class="alert" role="alert"><b>Parked</b> — the code does not fit what history records
      <${Divergence} divergence=${row.parked.divergence} /><${ParkedSteps} row=${row} /></div>`;
  }
  return html`<div class="alert" role="alert"><b>${{ parked: 'Parked', noWorker: 'No worker', code: 'Code does not fit' }[found.kind] ?? found.kind}</b> — ${found.text}
    ${row.parked?.message && !found.text.includes(row.parked.message) && html`<pre>${row.parked.message}</pre>`}
    <${ParkedSteps} row=${row} /></div>`;
}

function ParkedSteps({ row }) {
  return html`<div class="more"><a href=${href(['instances', row.id], { tab: 'explain' })}>what to do</a>${row.parked && may('control') && html`<button class="plain" onClick=${() => command('rewind', row)}>rewind</button>`}</div>`;
}

