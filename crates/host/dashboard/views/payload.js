// A value, whole.

import { text } from '../api.js';
import { Copy, dialog, html, useEffect, useState } from '../ui.js';
import { causes, failureLine } from '../model/format.js';

/** Characters of a value that the page shows; the rest can be copied. */
const SHOWN_MAX = 200_000;

/** @param {string} title @param {any} value @param {any} [event] the event that left it out @param {string} [id] */
export function payloadDialog(title, value, event, id) {
  dialog.value = () => html`<${Payload} title=${title} value=${value} event=${event} id=${id} />`;
}

function Payload({ title, value, event, id }) {
  const [whole, setWhole] = useState(/** @type {any} */ (event?.leftOut ? undefined : { value }));
  useEffect(() => {
    if (!event?.leftOut) return;
    // Large values are not in what the page was told; the whole history has them.
    text(`instances/${encodeURIComponent(id)}/history`).then((told) => {
      const found = JSON.parse(told).find((one) => one.at === event.at && one.kind === event.kind && one.task === event.task);
      setWhole({ value: found?.input ?? found?.result });
    }).catch((problem) => setWhole({ problem }));
  }, []);
  const shown = whole && 'value' in whole ? JSON.stringify(whole.value, null, 2) ?? 'nothing' : '';
  return html`<h2>${title}</h2><div class="body">
    ${!whole && html`<p class="loading" role="status">Loading…</p>`}
    ${whole?.problem && html`<p class="error" role="alert">${whole.problem.message}</p>`}
    ${title === 'Failure' ? html`<${Chain} failure=${value} />` : whole && 'value' in whole && html`<pre class="json" tabindex="0">${shown.slice(0, SHOWN_MAX)}${shown.length > SHOWN_MAX ? '\n… copy it for the rest' : ''}</pre>`}
  </div><footer><${Copy} text=${shown} what="the value" /><button autofocus onClick=${() => { dialog.value = undefined; }}>Close</button></footer>`;
}

/** A failure and its causes. */
export function Chain({ failure }) {
  return html`<ol class="chain">${causes(failure).map((one, index) => html`<li key=${index}>${index > 0 && html`<small>caused by </small>`}<b class="mono">${one.kind}</b> ${failureLine({ message: one.message })}${one.permanent && html` <span class="badge">not retried</span>`}${one.stack && html`<pre>${one.stack}</pre>`}</li>`)}</ol>`;
}

/** What history records beside what the code asked for. @param {{divergence: {recorded?: string, asked?: string, location?: string}}} props */
export function Divergence({ divergence }) {
  const { recorded, asked, location } = divergence;
  return html`<dl class="divergence">
    <div><dt>History records</dt><dd class=${recorded ? 'mono' : ''}>${recorded ?? 'nothing more in this turn'}</dd></div>
    <div><dt>The code asked for</dt><dd class=${asked ? 'mono' : ''}>${asked ?? 'nothing more in this turn'}${location && html`<small>at ${location} <${Copy} text=${location} what="the place" /></small>`}</dd></div>
  </dl>`;
}

/** Gives a text to whoever looks, as a file. @param {string} content @param {string} type @param {string} name */
export function save(content, type, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
