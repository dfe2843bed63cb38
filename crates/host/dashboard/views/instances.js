// The list of orchestrations: filters in the address, rows as they are scrolled to, live.

import { get, stream } from '../api.js';
import { counts, Crumbs, go, href, html, Loaded, may, now, route, Since, Status, useEffect, useRef, useLoad, useState, When, Windowed } from '../ui.js';
import { addressOf, chips, filterOf, fits, isOfLists, queryOf, spanOf, STATUSES, typed, whereOf } from '../model/filter.js';
import { chip, count } from '../model/format.js';
import { batchDialog, startDialog } from './actions.js';
import { Chart } from './chart.js';

const PAGE = 200;
/** What comes by the stream is shown at most so often. */
const FLUSH_MS = 200;
/** A list that no row tells of is read again at most so often. */
const RELOAD_MS = 2_000;
/** Starts are asked for so often, unless they are so many that it costs. */
const STARTS_MS = 15_000;
const COLUMNS = {
  id: ['Id', 'minmax(220px, 2fr)'], name: ['Orchestrator', 'minmax(130px, 1fr)'], status: ['Status', '150px'], created: ['Started', '100px'], updated: ['Last moved', '100px'],
  elapsed: ['Took', '90px'], version: ['Version', '80px'], events: ['Events', '70px'], tags: ['Tags', 'minmax(120px, 1fr)'], custom: ['Custom status', 'minmax(120px, 1fr)'],
};
const SHOWN = ['id', 'name', 'status', 'created', 'elapsed', 'tags', 'events'];
const COLUMNS_KEY = 'dalsegno.columns';

function readColumns() {
  const kept = (localStorage.getItem(COLUMNS_KEY) ?? '').split(',').filter((name) => Object.hasOwn(COLUMNS, name));
  return kept.length ? kept : SHOWN;
}

/** The rows of a filter: pages behind one another, newest first, and what the stream tells. */
function useRows(filter, address) {
  const [state, setState] = useState(/** @type {any} */ ({ rows: [], isLoading: true }));
  const self = useRef(/** @type {any} */ (null));
  useEffect(() => {
    const abort = new AbortController();
    const me = { rows: [], byId: new Map(), next: undefined, isBusy: false, isWhole: false, isLive: false, problem: undefined, waiting: new Map(), timer: 0, abort };
    self.current = me;
    const base = queryOf(filter, Date.now());
    const show = () => { if (self.current === me) setState({ rows: me.rows, isLoading: me.isBusy && me.rows.length === 0, isWhole: me.isWhole, isLive: me.isLive, problem: me.problem }); };
    me.load = async (isReset) => {
      if (me.isBusy || (me.isWhole && !isReset)) return;
      me.isBusy = true;
      show();
      try {
        const query = new URLSearchParams(base);
        query.set('top', String(PAGE));
        query.set('largeValues', 'false');
        if (!isReset && me.next) query.set('after', me.next);
        const page = await get(`instances?${query}`, abort.signal);
        if (isReset) { me.rows = []; me.byId.clear(); }
        const fresh = page.rows.filter((row) => !me.byId.has(row.id));
        for (const row of fresh) me.byId.set(row.id, row);
        me.rows = me.rows.concat(fresh);
        me.next = page.next;
        me.isWhole = !page.next;
        me.problem = undefined;
      } catch (problem) {
        if (!abort.signal.aborted) me.problem = problem;
      }
      me.isBusy = false;
      show();
    };
    me.take = (id, row) => {
      me.waiting.set(id, row);
      me.timer ||= setTimeout(() => {
        me.timer = 0;
        if (isOfLists(filter)) { me.waiting.clear(); me.load(true); return; }
        merge(me, filter);
        show();
      }, isOfLists(filter) ? RELOAD_MS : FLUSH_MS);
    };
    const streamed = new URLSearchParams(base);
    streamed.delete('status');
    streamed.delete('waitingFor');
    streamed.delete('failedActivity');
    streamed.delete('top');
    me.load(true);
    let isFirst = true;
    stream(`stream?${streamed}`, {
      abort: abort.signal,
      onOpen: (isOpen) => { me.isLive = isOpen; show(); },
      onEvent: (name, data) => {
        if (name === 'reset') { if (!isFirst) me.load(true); isFirst = false; }
        if (name === 'instance') me.take(data.id, data);
        if (name === 'removed') me.take(data.id, null);
      },
    });
    return () => { abort.abort(); clearTimeout(me.timer); };
  }, [address]);
  return { ...state, more: () => { if (!self.current?.problem) self.current?.load(false); }, again: () => self.current?.load(self.current.rows.length === 0) };
}

function merge(me, filter) {
  const at = Date.now();
  let rows = me.rows;
  const gone = new Set();
  const fresh = [];
  for (const [id, row] of me.waiting) {
    const old = me.byId.get(id);
    if (!row || !fits(row, filter, at)) {
      if (old) { gone.add(id); me.byId.delete(id); }
    } else {
      me.byId.set(id, row);
      if (!old) {
        // What is older than the last row that was loaded comes with its page.
        const last = rows.at(-1);
        if (me.isWhole || !last || row.created >= last.created) fresh.push(row);
        else me.byId.delete(id);
      }
    }
  }
  rows = rows.filter((row) => !gone.has(row.id)).map((row) => me.byId.get(row.id) ?? row);
  if (fresh.length) rows = rows.concat(fresh).sort((a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : a.id < b.id ? -1 : 1));
  me.rows = rows;
  me.waiting.clear();
}

export default function Instances() {
  const filter = filterOf(route.value.query);
  const address = addressOf(filter).toString();
  const list = useRows(filter, address);
  const [text, setText] = useState('');
  const [problem, setProblem] = useState('');
  const [columns, setColumns] = useState(readColumns);
  const [isChoosing, setChoosing] = useState(false);
  const [at, setAt] = useState(-1);
  const to = (next) => go(href(['instances'], addressOf(next)));
  const submit = (event) => {
    event.preventDefault();
    const read = typed(text, filter);
    setProblem(read.problem ?? '');
    if (!read.problem) { setText(''); to(read.filter); }
  };
  useKeys(list.rows, at, setAt);
  useEffect(() => setAt(-1), [address]);
  const choose = (name) => {
    const next = Object.keys(COLUMNS).filter((one) => (one === name ? !columns.includes(one) : columns.includes(one)));
    setColumns(next.length ? next : SHOWN);
    localStorage.setItem(COLUMNS_KEY, next.join(','));
  };
  const shape = { gridTemplateColumns: columns.map((name) => COLUMNS[name][1]).join(' ') };
  const total = expected(filter, list);
  return html`<${Crumbs} parts=${[['Orchestrations']]} />
    <div class="head"><h1>Orchestrations</h1><span class="badge">${list.isLive ? '● live' : 'not live'}</span>
      <div class="push">
        ${(may('control') || may('purge') || may('signal')) && html`<button onClick=${() => batchDialog(whereOf(filter, Date.now()), may, () => list.again())}>Batch…</button>`}
        ${may('start') && html`<button class="main" onClick=${() => startDialog(filter.name)}>Start…</button>`}
      </div></div>
    <div class="filters"><form onSubmit=${submit} role="search"><label class="hidden" for="filter">Filter</label>
      <input id="filter" data-search type="search" placeholder="order-  ·  status:Failed  name:ProcessOrder  tag:team=blue  waiting-for:approved  since:2h" value=${text} onInput=${(event) => setText(event.target.value)} aria-describedby="filter-problem" /></form>
      <div class="menu"><button type="button" aria-expanded=${isChoosing} onClick=${() => setChoosing(!isChoosing)}>Columns</button>
        ${isChoosing && html`<ul>${Object.entries(COLUMNS).map(([name, [label]]) => html`<li><label class="line"><input type="checkbox" checked=${columns.includes(name)} disabled=${name === 'id'} onChange=${() => choose(name)} /> ${label}</label></li>`)}</ul>`}</div></div>
    <div class="chips" role="group" aria-label="Filters">
      ${STATUSES.map((status) => html`<button type="button" key=${status} aria-pressed=${filter.statuses.includes(status)} onClick=${() => to({ ...filter, statuses: filter.statuses.includes(status) ? filter.statuses.filter((one) => one !== status) : [...filter.statuses, status] })}>${status} ${counts.value ? count(counts.value[status] ?? 0) : ''}</button>`)}
      ${chips(filter).filter((one) => !one.label.startsWith('status: ')).map((one) => html`<button type="button" key=${one.label} aria-pressed="true" aria-label=${`Remove ${one.label}`} onClick=${() => to(one.without)}>${one.label} ✕</button>`)}
      <span id="filter-problem" role="alert" class="problem" hidden=${!problem}>${problem}</span>
    </div>
    <${Starts} filter=${filter} to=${to} />
    <section class="panel" aria-label="Orchestrations">
      ${list.problem && list.rows.length === 0 ? html`<p class="problem" role="alert">${list.problem.message}</p>`
    : list.isLoading ? html`<p class="loading" role="status">Loading…</p>`
    : list.rows.length === 0 ? html`<div class="empty"><p>${address ? 'Nothing fits the filter.' : 'There is no instance yet.'}</p>${address && html`<p><a href="#/instances">Without filter</a></p>`}</div>`
    : html`<${Windowed} count=${list.rows.length} height=${36} label="Orchestrations" onEnd=${list.more} at=${at}
        head=${html`<div class="row headrow" role="row" style=${shape}>${columns.map((name) => html`<span role="columnheader">${COLUMNS[name][0]}</span>`)}</div>`}
        render=${(index) => html`<${Row} key=${list.rows[index].id} row=${list.rows[index]} index=${index} columns=${columns} shape=${shape} isAt=${index === at} />`} />`}
      <div class="pager"><span role="status">${count(list.rows.length)}${total ? ` of ${total}` : ''} shown${list.isWhole ? '' : ', more as you scroll'}</span>${list.problem && html`<span class="problem">${list.problem.message}</span><button onClick=${list.again}>Again</button>`}</div>
    </section>`;
}

/** When they began, to draw over. Statuses do not count here: what failed is a part of each bar. */
function Starts({ filter, to }) {
  const [isMuch, setMuch] = useState(false);
  const state = useLoad(async (abort) => {
    const query = queryOf({ ...filter, statuses: [], since: '', until: '' }, Date.now());
    const { from, to: end } = spanOf(filter, Date.now());
    query.set('from', from);
    query.set('to', end ?? new Date().toISOString());
    const value = await get(`overview?${query}&buckets=60`, abort);
    setMuch(value.partial);
    return value;
  }, [filter.name, filter.prefix, filter.tags, filter.parent, filter.waitingFor, filter.failedActivity, filter.since, filter.until], isMuch ? undefined : STARTS_MS);
  const wider = { ...filter, since: '', until: '' };
  const back = filter.since || filter.until ? html`<button type="button" class="plain" onClick=${() => to(wider)}>the last day</button>` : '';
  return html`<section class="panel starts" aria-label="Starts"><div class="body">
    <${Loaded} state=${state} isNone=${() => false}>${(value) => html`<${Chart} ...${value} onChoose=${(since, until) => to({ ...filter, since, until })}>${back}<//>`}<//></div></section>`;
}

/** How many the filter finds, where the counts tell. */
function expected(filter, list) {
  if (list.isWhole) return '';
  const isPlain = !filter.name && !filter.prefix && !filter.tags.length && !filter.parent && !isOfLists(filter) && !filter.since && !filter.until;
  if (!isPlain || !counts.value) return '';
  const words = filter.statuses.length ? filter.statuses : STATUSES;
  return count(words.reduce((sum, word) => sum + (counts.value?.[word] ?? 0), 0));
}

const CELLS = {
  id: (row) => html`<a class="mono" href=${href(['instances', row.id])} title=${row.id}>${row.id}</a>`,
  name: (row) => html`<span title=${row.name}>${row.name}</span>`,
  status: (row) => html`<${Status} status=${row.status} more=${row.parked ? 'parked' : ''} />`,
  created: (row) => html`<${When} at=${row.created} />`,
  updated: (row) => html`<${When} at=${row.updated} />`,
  elapsed: (row) => html`<${Since} from=${row.created} to=${row.completed} />`,
  version: (row) => row.version ?? '–',
  events: (row) => count(row.events),
  tags: (row) => Object.entries(row.tags ?? {}).map(([name, value]) => html`<span class="tag">${name}=${value}</span>`),
  custom: (row) => (row.customStatus === undefined ? '' : html`<span class="mono">${chip(row.customStatus, 60)}</span>`),
};

function Row({ row, index, columns, shape, isAt }) {
  return html`<div class=${`row ${isAt ? 'at' : ''}`} role="row" aria-rowindex=${index + 2} style=${shape}>${columns.map((name) => html`<span role="cell" key=${name}>${CELLS[name](row)}</span>`)}</div>`;
}

function useKeys(rows, at, setAt) {
  // Keys may come faster than the page is drawn.
  const self = useRef({ rows, at });
  self.current.rows = rows;
  self.current.at = at;
  useEffect(() => {
    const to = (next) => { self.current.at = next; setAt(next); };
    const onKey = (event) => {
      if (event.target.closest?.('input, textarea, select, dialog') || event.ctrlKey || event.metaKey) return;
      const now = self.current;
      if (event.key === 'j') to(Math.min(now.at + 1, now.rows.length - 1));
      if (event.key === 'k') to(Math.max(now.at - 1, 0));
      if (event.key === 'Enter' && now.rows[now.at] && !event.target.closest?.('a, button')) go(href(['instances', now.rows[now.at].id]));
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
}
