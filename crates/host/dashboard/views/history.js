// The history as it was recorded: searched, page by page.

import { html, route, setQuery, useMemo, useState } from '../ui.js';
import { chip, clock, count, duration, failureLine, millis } from '../model/format.js';
import { payloadDialog } from './payload.js';
import { download } from './instance.js';

const PAGE = 200;

/** The text of an event that is searched; kept, since a history only grows. */
const texts = new WeakMap();

function textOf(event) {
  let found = texts.get(event);
  if (found === undefined) {
    found = JSON.stringify(event).toLowerCase();
    texts.set(event, found);
  }
  return found;
}

export function History({ id, history }) {
  const query = route.value.query.get('q') ?? '';
  const [text, setText] = useState(query);
  const length = history.length;
  const found = useMemo(() => {
    const wanted = query.trim().toLowerCase();
    const all = history.map((event, index) => ({ event, index }));
    return wanted ? all.filter(({ event }) => textOf(event).includes(wanted)) : all;
  }, [history, length, query]);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const page = Math.min(pages, Math.max(1, Number(route.value.query.get('page')) || 1));
  const begin = length ? millis(history[0].at) : 0;
  const search = (event) => { setText(event.target.value); setQuery({ q: event.target.value, page: undefined }); };
  const to = (next) => setQuery({ page: next === 1 ? undefined : String(next) });
  return html`<div class="tools"><label class="hidden" for="search">Search the history</label><input id="search" data-search type="search" placeholder="Search: kind, name, value" value=${text} onInput=${search} />
      <span role="status">${query ? `${count(found.length)} of ${count(length)} events` : `${count(length)} events`}</span>
      ${id !== undefined && html`<span class="push"><a class="button" href="#/file">Open a file…</a> <button onClick=${() => download(id)}>Download JSON</button></span>`}</div>
    ${found.length === 0 ? html`<div class="empty">${query ? 'No event fits.' : 'No event yet.'}</div>` : html`<div class="scroll"><table class="events"><thead><tr><th class="num">#</th><th>Time</th><th>Event</th><th class="num">Task</th><th>What</th><th><span class="hidden">Actions</span></th></tr></thead>
      <tbody>${found.slice((page - 1) * PAGE, page * PAGE).map(({ event, index }) => html`<tr key=${index}><td class="num">${index + 1}</td><td title=${clock(event.at)}>+${duration(millis(event.at) - begin)}</td><td class="kind">${event.kind}</td><td class="num">${event.task ?? ''}</td><td>${detail(event)}</td>
        <td><button class="plain" aria-label=${`Event ${index + 1} as JSON`} onClick=${() => payloadDialog(`Event ${index + 1}`, event)}>{ }</button></td></tr>`)}</tbody></table></div>`}
    ${pages > 1 && html`<nav class="pager" aria-label="Pages of the history"><button disabled=${page === 1} onClick=${() => to(1)}>First</button><button disabled=${page === 1} onClick=${() => to(page - 1)}>Back</button>
      <span>page ${count(page)} of ${count(pages)}</span><button disabled=${page === pages} onClick=${() => to(page + 1)}>Next</button><button disabled=${page === pages} onClick=${() => to(pages)}>Last</button></nav>`}`;
}

function detail(event) {
  const words = [event.name, event.instanceId, event.entity && `${event.entity}.${event.operation}`, event.entities?.join(', '), event.fireAt && `fires ${clock(event.fireAt)}`, event.attempts > 1 && `${event.attempts} attempts`, event.worker && `on ${event.worker}`, event.reason].filter(Boolean);
  const value = 'input' in event ? event.input : 'result' in event ? event.result : undefined;
  return html`${words.join(' · ')} ${event.failure && html`<button class="chip bad" onClick=${() => payloadDialog('Failure', event.failure)}>⚠ ${failureLine(event.failure)}</button>`}${value !== undefined && html`<button class="chip" onClick=${() => payloadDialog(event.kind, value)}>${chip(value)}</button>`}${event.leftOut && html`<span class="badge">${count(event.leftOut.bytes)} bytes apart</span>`}`;
}
