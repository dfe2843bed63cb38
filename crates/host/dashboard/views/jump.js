// Ctrl-K: to a page by its name, to an instance by the beginning of its id.

import { get } from '../api.js';
import { dialog, go, href, html, Status, useEffect, useState } from '../ui.js';

/** Instances that are offered. */
const FOUND_MAX = 8;

/** @param {{pages: string[][]}} props names and labels */
export function Jump({ pages }) {
  const [text, setText] = useState('');
  const [found, setFound] = useState(/** @type {any} */ ({ text: '', rows: [] }));
  const [at, setAt] = useState(0);
  const wanted = text.trim();
  useEffect(() => {
    const abort = new AbortController();
    if (wanted) {
      get(`instances?prefix=${encodeURIComponent(wanted)}&top=${FOUND_MAX}&largeValues=false`, abort.signal)
        .then(({ rows }) => setFound({ text: wanted, rows }), (problem) => { if (!abort.signal.aborted) setFound({ text: wanted, rows: [], problem }); });
    }
    return () => abort.abort();
  }, [wanted]);
  const places = [
    ...pages.filter(([, label]) => label.toLowerCase().includes(wanted.toLowerCase())).map(([name, label]) => ({ to: name === 'overview' ? '#/' : `#/${name}`, label })),
    ...(wanted ? found.rows : []).map((row) => ({ to: href(['instances', row.id]), label: row.id, row })),
  ];
  const entity = /^@([^@]+)@(.*)$/s.exec(wanted);
  if (entity) places.push({ to: href(['entities', entity[1], entity[2] || '$']), label: wanted, what: 'entity' });
  const chosen = Math.min(at, places.length - 1);
  const leave = (place) => { dialog.value = undefined; go(place.to); };
  const onKey = (event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move && places.length) setAt((chosen + move + places.length) % places.length);
    else if (event.key === 'Enter' && places[chosen]) leave(places[chosen]);
    if (move || event.key === 'Enter') event.preventDefault();
  };
  return html`<h2>Go to</h2><div class="body">
    <input type="text" role="combobox" aria-label="Page, or the beginning of an id" aria-expanded=${places.length > 0} aria-controls="jump-list" aria-activedescendant=${places.length ? `jump-${chosen}` : undefined} aria-autocomplete="list"
      placeholder="a page, an id, or @entity@key" autocomplete="off" spellcheck=${false} autofocus value=${text} onInput=${(event) => { setText(event.target.value); setAt(0); }} onKeyDown=${onKey} />
    <ul id="jump-list" class="places" role="listbox" aria-label="Places">${places.map((place, index) => html`<li key=${place.to} id=${`jump-${index}`} role="option" aria-selected=${index === chosen} onClick=${() => leave(place)}>
      <span class=${place.row || place.what ? 'mono' : ''}>${place.label}</span>${place.row ? html`<small>${place.row.name} <${Status} status=${place.row.status} /></small>` : html`<small>${place.what ?? 'page'}</small>`}</li>`)}</ul>
    <p role="status" class="empty-small">${places.length ? '' : found.problem ? found.problem.message : found.text === wanted ? 'No page is called so, and no id begins with it.' : 'Looking…'}</p>
  </div>`;
}
