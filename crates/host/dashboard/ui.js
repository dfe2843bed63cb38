// What all views share: the address, the clock, small pieces of the page.

import { h, render, Fragment } from './lib/preact.js';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from './lib/hooks.js';
import { computed, signal } from './lib/signals.js';
import htm from './lib/htm.js';
import { clock, duration, millis, relative, setZone, visible } from './model/format.js';

/** Attributes that people read. */
const READ = ['title', 'aria-label', 'placeholder', 'alt', 'label'];

const shown = (/** @type {any} */ child) => {
  if (typeof child === 'string') return visible(child);
  return Array.isArray(child) ? child.map(shown) : child;
};

/** Draws an element. Every text of a page passes here, so no view can forget to make one visible. What
 * is copied, sent or edited stays as it is.
 * @param {any} type @param {any} props @param {any[]} children */
function draw(type, props, ...children) {
  let seen = props;
  for (const name of typeof type === 'string' && props ? READ : []) {
    if (typeof props[name] === 'string') seen = { ...seen, [name]: visible(props[name]) };
  }
  return h(type, seen, ...children.map(shown));
}

export const html = htm.bind(draw);
export { Fragment, render, computed, signal, useEffect, useLayoutEffect, useMemo, useRef, useState };

/** The time, a second at a time. */
export const now = signal(Date.now());
setInterval(() => { if (!document.hidden) now.value = Date.now(); }, 1000);

const ZONE_KEY = 'dalsegno.zone';

/** Whose clock times are written by: 'utc' or 'local'. */
export const zone = signal(localStorage.getItem(ZONE_KEY) === 'local' ? 'local' : 'utc');
setZone(zone.value);

export function turnZone() {
  const next = zone.value === 'utc' ? 'local' : 'utc';
  localStorage.setItem(ZONE_KEY, next);
  setZone(next);
  zone.value = next;
}

/** What the server is, and what whoever looks may do. */
export const hub = signal(/** @type {any} */ (undefined));
/** Counts by status. */
export const counts = signal(/** @type {Record<string, number> | undefined} */ (undefined));
export const toast = signal(/** @type {any} */ (undefined));
/** The dialog that is open: a function that draws it. */
export const dialog = signal(/** @type {any} */ (undefined));

/** @param {string} scope */
export function may(scope) {
  const info = hub.value;
  return Boolean(info && !info.readOnly && (info.scopes ?? []).includes(scope));
}

function readRoute() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const parts = path.split('/').filter(Boolean).map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { parts, query: new URLSearchParams(query) };
}

export const route = signal(readRoute());
addEventListener('hashchange', () => { route.value = readRoute(); });

/** An address within the dashboard. @param {string[]} parts @param {URLSearchParams | Record<string, string>} [query] */
export function href(parts, query) {
  const text = new URLSearchParams(query).toString();
  return `#/${parts.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

/** @param {string} address @param {boolean} [replace] */
export function go(address, replace) {
  if (replace) {
    history.replaceState(null, '', address);
    route.value = readRoute();
  } else location.hash = address;
}

/** Changes the query of this page. @param {Record<string, string | undefined>} change */
export function setQuery(change) {
  const query = new URLSearchParams(route.value.query);
  for (const [name, value] of Object.entries(change)) {
    if (value === undefined || value === '') query.delete(name);
    else query.set(name, value);
  }
  go(href(route.value.parts, query), true);
}

/** @param {string} text @param {string} [link] @param {string} [label] */
export function tell(text, link, label) {
  toast.value = { text, link, label };
}

/** Loads a value, and again every so often. `undefined` is loading, `problem` a refusal.
 * @param {(abort: AbortSignal) => Promise<any>} load @param {any[]} inputs @param {number} [everyMs] */
export function useLoad(load, inputs, everyMs) {
  const [state, setState] = useState({});
  const turn = useRef(0);
  const [again, setAgain] = useState(0);
  const known = useRef('');
  const key = JSON.stringify(inputs);
  useEffect(() => {
    const abort = new AbortController();
    const mine = ++turn.current;
    if (known.current !== key) setState({});
    known.current = key;
    let timer = 0;
    const once = async () => {
      try {
        const value = await load(abort.signal);
        if (mine === turn.current) setState({ value });
      } catch (problem) {
        if (mine === turn.current && !abort.signal.aborted) setState((old) => ({ ...old, problem }));
      }
      if (everyMs && !abort.signal.aborted) timer = setTimeout(once, everyMs);
    };
    once();
    return () => { abort.abort(); clearTimeout(timer); };
  }, [key, again]);
  return { ...state, reload: () => setAgain((count) => count + 1) };
}

/** Loading, refused, none: or what there is. */
export function Loaded({ state, none, isNone, children }) {
  if (state.value === undefined && state.problem) return html`<p class="problem" role="alert">${state.problem.message}</p>`;
  if (state.value === undefined) return html`<p class="loading" role="status">Loading…</p>`;
  if (isNone ? isNone(state.value) : state.value.length === 0) return html`<div class="empty">${none}</div>`;
  return children(state.value);
}

/** A time: relative, and as it is on hover. */
export function When({ at }) {
  if (!at) return '–';
  return html`<time datetime=${at} title=${`${clock(at)} · ${at}`}>${relative(at, now.value)}</time>`;
}

/** How long it has been. */
export function Since({ from, to }) {
  const length = (to ? millis(to) : now.value) - millis(from);
  return html`<span title=${clock(from)}>${to ? duration(length) : duration(Math.max(0, Math.floor(length / 1000)) * 1000).replace(/^0ms$/, '0s').replace('.0s', 's')}</span>`;
}

export function Status({ status, more, pill }) {
  const text = more ? `${status} · ${more}` : status;
  const kind = more && more !== 'waiting' ? 's-trouble' : `s-${status}`;
  return html`<span class=${`${pill ? 'pill' : 'status'} ${kind}`}>${text}</span>`;
}

export function Copy({ text, what }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await writeClipboard(typeof text === 'function' ? await text() : text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1200);
  };
  return html`<button type="button" class="icon" aria-label=${`Copy ${what}`} title=${`Copy ${what}`} onClick=${copy}>${isCopied ? '✓' : html`<svg width="13" height="13" viewBox="0 0 13 13" aria-hidden="true"><rect x="4.500" y="4.500" width="7.500" height="7.500" rx="1.500" /><path d="M8.500 2.500v-1h-7v7h1" /></svg>`}</button>`;
}

async function writeClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS there is no clipboard beyond loopback.
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
}

export function Command({ text, what }) {
  return html`<div class="command"><code>${text}</code><${Copy} text=${text} what=${what} /></div>`;
}

export function Crumbs({ parts }) {
  return html`<nav aria-label="Breadcrumb" class="crumbs"><ol>
    <li><a href="#/">${hub.value?.name ?? 'hub'}</a></li>
    ${parts.map(([label, link]) => html`<li>${link ? html`<a href=${link}>${label}</a>` : label}</li>`)}
  </ol></nav>`;
}

/** Rows of one height, of which those in sight are in the page.
 * @param {{count: number, height: number, render: (index: number) => any, head?: any, onEnd?: () => void, label: string, role?: string, at?: number, children?: any}} props */
export function Windowed({ count, height, render: draw, head, onEnd, label, at, children }) {
  const box = useRef(/** @type {any} */ (null));
  const [view, setView] = useState({ top: 0, room: 600 });
  const look = () => {
    const element = box.current;
    if (!element) return;
    setView({ top: element.scrollTop, room: element.clientHeight });
    if (onEnd && element.scrollTop + element.clientHeight * 3 > count * height) onEnd();
  };
  useLayoutEffect(look, [count]);
  useEffect(() => {
    addEventListener('resize', look);
    return () => removeEventListener('resize', look);
  }, [count]);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element || at === undefined || at < 0) return;
    const top = at * height;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + height * 3 > element.scrollTop + element.clientHeight) element.scrollTop = top + height * 3 - element.clientHeight;
  }, [at]);
  const first = Math.max(0, Math.floor(view.top / height) - 12);
  const last = Math.min(count, Math.ceil((view.top + view.room) / height) + 12);
  const rows = [];
  for (let index = first; index < last; index += 1) rows.push(draw(index));
  return html`<div class="list" ref=${box} onScroll=${look} tabindex="0" role="table" aria-label=${label} aria-rowcount=${count + 1}>
    ${head}
    <div role="presentation" style=${{ height: `${first * height}px` }}></div>
    ${rows}
    <div role="presentation" style=${{ height: `${(count - last) * height}px` }}></div>
    ${children}
  </div>`;
}
