// The frame of the dashboard: navigation, keys, login, and which view an address is.

import { chosenHub, connection, get, key, needsKey, setKey } from './api.js';
import { counts, dialog, go, html, hub, render, route, toast, turnZone, useEffect, useLayoutEffect, useLoad, useRef, useState, zone } from './ui.js';
import { count, visible } from './model/format.js';
import { Jump } from './views/jump.js';

const PAGES = [
  ['overview', 'Overview'], ['instances', 'Orchestrations'], ['entities', 'Entities'], ['schedules', 'Schedules'],
  ['workers', 'Workers'], ['limiters', 'Limiters'], ['hub', 'Hub'],
];

/** Views are loaded when they are first shown. */
const VIEWS = {
  overview: () => import('./views/overview.js'),
  instances: () => import('./views/instances.js'),
  instance: () => import('./views/instance.js'),
  entities: () => import('./views/entities.js'),
  entity: () => import('./views/entities.js'),
  schedules: () => import('./views/schedules.js'),
  workers: () => import('./views/workers.js'),
  limiters: () => import('./views/limiters.js'),
  hub: () => import('./views/hub.js'),
  file: () => import('./views/file.js'),
};

function viewOf({ parts }) {
  const [first = 'overview', second] = parts;
  if (first === 'instances' && second !== undefined) return 'instance';
  if (first === 'entities' && second !== undefined) return 'entity';
  return Object.hasOwn(VIEWS, first) ? first : 'missing';
}

async function refresh() {
  const list = await get('counts');
  counts.value = Object.fromEntries(list.map(({ status, count: number }) => [status, number]));
}

function useHub() {
  const [problem, setProblem] = useState(/** @type {any} */ (undefined));
  const isLost = connection.value === 'lost';
  useEffect(() => {
    let timer = 0;
    let isOver = false;
    const once = async () => {
      try {
        if (!hub.value) hub.value = await get('hub');
        await refresh();
        setProblem(undefined);
      } catch (error) {
        setProblem(error);
      }
      if (!isOver) timer = setTimeout(once, connection.value === 'lost' ? 1000 : 5000);
    };
    if (!needsKey.value) once();
    return () => { isOver = true; clearTimeout(timer); };
  }, [needsKey.value, isLost]);
  return problem;
}

function Nav() {
  const [current = 'overview'] = route.value.parts;
  const all = counts.value && Object.values(counts.value).reduce((sum, one) => sum + one, 0);
  const number = { instances: all };
  const info = hub.value;
  const theme = document.documentElement.dataset.theme;
  const [, setTheme] = useState(theme);
  const turn = () => {
    const isDark = theme ? theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    document.documentElement.dataset.theme = isDark ? 'light' : 'dark';
    localStorage.setItem('dalsegno.theme', isDark ? 'light' : 'dark');
    setTheme(isDark ? 'light' : 'dark');
  };
  return html`<header class="nav">
    <a class="brand" href="#/">dalsegno</a>
    <nav aria-label="Pages"><ul>
      ${PAGES.map(([page, label]) => html`<li key=${page}><a href=${page === 'overview' ? '#/' : `#/${page}`} aria-current=${page === current ? 'page' : undefined}>
        <span>${label}</span>${number[page] !== undefined && html`<span>${count(number[page])}</span>`}</a></li>`)}
    </ul></nav>
    <p class="small">TASK HUB</p>
    <${Hubs} name=${info?.name ?? '…'} />
    <button class="jump" type="button" onClick=${openJump}>Go to… <kbd>Ctrl K</kbd></button>
    <div class="foot">
      ${info?.readOnly && html`<span class="badge only">read-only</span>`}
      <span>${info ? `dalsegno ${info.version}` : ''}</span>
      <span><button class="plain" type="button" title="Times in UTC, or as clocks are here" onClick=${turnZone}>times: ${zone.value === 'utc' ? 'UTC' : 'local'}</button></span>
      <span><button class="plain" type="button" onClick=${turn}>light / dark</button>${key() && html`<button class="plain" type="button" onClick=${() => { setKey(null); hub.value = undefined; needsKey.value = true; }}>forget key</button>`}</span>
    </div>
  </header>`;
}

/** The hub that is looked at; the others of the host to choose from, if there are any. */
function Hubs({ name }) {
  const names = useLoad((abort) => get('hubs', abort), [], 15_000).value ?? [];
  if (names.length < 2) return html`<p class="hub">${name}</p>`;
  const choose = (event) => { location.assign(`${location.pathname}${event.target.value === names[0] ? '' : `?hub=${encodeURIComponent(event.target.value)}`}#/`); };
  return html`<p class="hub"><select aria-label="Task hub" value=${chosenHub || names[0]} onChange=${choose}>${names.map((one) => html`<option key=${one} value=${one} selected=${one === (chosenHub || names[0])}>${one}</option>`)}</select></p>`;
}

function openJump() {
  dialog.value = () => html`<${Jump} pages=${PAGES} />`;
}

function Login() {
  const [secret, setSecret] = useState('');
  const [problem, setProblem] = useState(key() ? 'the server does not know this key' : '');
  const submit = async (event) => {
    event.preventDefault();
    setKey(secret.trim());
    try {
      hub.value = await get('hub');
    } catch (error) {
      const text = error.status === 401 ? 'the server does not know this key' : error.message;
      setProblem(text);
      needsKey.value = true;
    }
  };
  return html`<main class="login panel"><form onSubmit=${submit}>
    <h1>dalsegno</h1>
    <p>This hub asks for a key. It stays in this tab and goes to this server only.</p>
    <label>Key<input type="password" autocomplete="off" autofocus value=${secret} onInput=${(event) => setSecret(event.target.value)} /></label>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <button class="main" disabled=${!secret.trim()}>Look</button>
    <p class="mono">dalsegno key create NAME --scope read</p>
  </form></main>`;
}

function View() {
  const name = viewOf(route.value);
  const [loaded, setLoaded] = useState(/** @type {any} */ ({}));
  useEffect(() => {
    let isOver = false;
    if (Object.hasOwn(VIEWS, name)) {
      VIEWS[name]().then((module) => { if (!isOver) setLoaded({ name, page: module[name === 'entity' ? 'Entity' : 'default'] }); })
        .catch((error) => { if (!isOver) setLoaded({ name, problem: error }); });
    }
    return () => { isOver = true; };
  }, [name]);
  if (name === 'missing') return html`<h1>No such page</h1><p class="empty">There is nothing at ${location.hash}. <a href="#/">Overview</a></p>`;
  if (loaded.name !== name) return html`<p class="loading" role="status">Loading…</p>`;
  if (loaded.problem) return html`<p class="problem" role="alert">This page could not be loaded: ${loaded.problem.message}</p>`;
  return html`<${loaded.page} key=${`${name} ${zone.value}`} />`;
}

function Keys() {
  return html`<h2>Keys</h2><div class="body"><dl class="kv">
    <dt><kbd>Ctrl</kbd> <kbd>K</kbd></dt><dd>go to a page or an instance</dd><dt><kbd>/</kbd></dt><dd>filter or search</dd>
    <dt><kbd>g</kbd> <kbd>o</kbd></dt><dd>orchestrations</dd><dt><kbd>g</kbd> <kbd>e</kbd></dt><dd>entities</dd><dt><kbd>g</kbd> <kbd>w</kbd></dt><dd>workers</dd><dt><kbd>g</kbd> <kbd>h</kbd></dt><dd>overview</dd>
    <dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>next and previous row</dd><dt><kbd>Enter</kbd></dt><dd>open it</dd><dt><kbd>Esc</kbd></dt><dd>close this</dd>
  </dl></div><footer><button autofocus onClick=${() => { dialog.value = undefined; }}>Close</button></footer>`;
}

let pending = '';
function onKey(event) {
  if (event.key === 'k' && (event.ctrlKey || event.metaKey) && !event.altKey && !needsKey.value) {
    event.preventDefault();
    // What is being closed still stands in `dialog` until the browser has told of it.
    if (!document.querySelector('dialog[open]')) openJump();
    return;
  }
  const isTyping = event.target.closest?.('input, textarea, select, [contenteditable], dialog');
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (pending === 'g') {
    const page = { o: '#/instances', e: '#/entities', w: '#/workers', h: '#/' }[event.key];
    pending = '';
    if (page) { go(page); event.preventDefault(); return; }
  }
  if (event.key === 'g') { pending = 'g'; return; }
  pending = '';
  if (event.key === '?') dialog.value = Keys;
  if (event.key === '/') {
    const box = document.querySelector('[data-search]');
    if (box) { box.focus(); event.preventDefault(); }
  }
}

function Dialog() {
  const element = useRef(/** @type {any} */ (null));
  const Inner = dialog.value;
  // Before the next key comes: what is typed at once after Ctrl-K belongs into the dialog.
  useLayoutEffect(() => {
    if (Inner && !element.current.open) element.current.showModal();
    if (!Inner && element.current?.open) element.current.close();
    element.current?.querySelector('[autofocus], input, textarea, select')?.focus();
  }, [Inner]);
  return html`<dialog ref=${element} aria-label="Dialog" onClose=${() => { if (!element.current.open) dialog.value = undefined; }}>${Inner && html`<${Inner} />`}</dialog>`;
}

function Toast() {
  const what = toast.value;
  useEffect(() => {
    if (!what) return undefined;
    // One that came meanwhile stays.
    const timer = setTimeout(() => { if (toast.value === what) toast.value = undefined; }, 6000);
    return () => clearTimeout(timer);
  }, [what]);
  return html`<div role="status" aria-live="polite">${what && html`<div class="toast">${what.text}${what.link && html`<a href=${what.link}>${what.label}</a>`}</div>`}</div>`;
}

function App() {
  const problem = useHub();
  const main = useRef(/** @type {any} */ (null));
  const page = route.value.parts.join('/');
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = visible([route.value.parts.at(-1), hub.value?.name, 'dalsegno'].filter(Boolean).join(' · '));
    if (!isFirst.current) { dialog.value = undefined; main.current?.focus(); scrollTo(0, 0); }
    isFirst.current = false;
  }, [page]);
  if (needsKey.value) return html`<${Login} />`;
  return html`<div class="frame">
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the page</a>
    <${Nav} />
    <main id="main" ref=${main} tabindex="-1">
      ${connection.value === 'lost' && html`<p class="notice" role="alert">The server does not answer. What you see is what it told last; trying again…</p>`}
      ${connection.value !== 'lost' && problem && html`<p class="notice" role="alert">${problem.message}</p>`}
      <${View} />
    </main>
    <${Dialog} /><${Toast} />
  </div>`;
}

const theme = localStorage.getItem('dalsegno.theme');
if (theme) document.documentElement.dataset.theme = theme;
addEventListener('keydown', onKey);
const root = document.getElementById('app');
root.replaceChildren();
render(html`<${App} />`, root);
