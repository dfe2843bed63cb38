// A history from a file: of another hub, or of an instance that is no more. Nothing of it goes to the server.

import { Crumbs, html, useState } from '../ui.js';
import { History } from './history.js';
import { Timeline } from './timeline.js';

export default function File() {
  const [told, setTold] = useState(/** @type {any} */ ({}));
  const open = async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    try {
      setTold({ name: file.name, history: read(await file.text()) });
    } catch (problem) {
      setTold({ name: file.name, problem });
    }
  };
  const { name, history, problem } = told;
  return html`<${Crumbs} parts=${[['Orchestrations', '#/instances'], ['A file']]} /><div class="head"><h1>${name ?? 'A history from a file'}</h1></div>
    <section class="panel" aria-label="File"><div class="body"><label>A file as “Download history” makes it, or <code>dalsegno history ID --json</code>
      <input type="file" accept="application/json,.json" onChange=${open} /></label><small>It stays in this page.</small>
      ${problem && html`<p class="problem" role="alert">${problem.message}</p>`}</div></section>
    ${history && html`<section class="panel" aria-label="Timeline of the file"><${Timeline} key=${`t ${name}`} id=${name} row=${{ completed: history.at(-1).at }} history=${history} /></section>
      <section class="panel" aria-label="Events of the file"><${History} key=${`h ${name}`} history=${history} /></section>`}`;
}

/** @param {string} text @returns {any[]} */
function read(text) {
  let history;
  try {
    history = JSON.parse(text);
  } catch (error) {
    throw new Error(`It is not JSON: ${error instanceof Error ? error.message : error}`);
  }
  const isEvent = (one) => typeof one?.kind === 'string' && Number.isFinite(Date.parse(one.at));
  if (!Array.isArray(history) || history.length === 0) throw new Error('It is no history: an array of events is.');
  const wrong = history.findIndex((one) => !isEvent(one));
  if (wrong >= 0) throw new Error(`It is no history: number ${wrong + 1} of its array is no event with kind and at.`);
  return history;
}
