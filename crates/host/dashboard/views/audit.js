// Who changed what: the last records of the host, for who may see them.

import { get } from '../api.js';
import { href, html, hub, Loaded, useLoad, When } from '../ui.js';

const SHOWN = 100;
/** What these are about has no page of its own. */
const NO_PAGE = /^(limiters|schedules|operations)\//;

/** @param {{subject?: string}} props of one instance, or of all */
export function Audit({ subject }) {
  const isAllowed = (hub.value?.scopes ?? []).includes('admin');
  const state = useLoad((abort) => (isAllowed ? get(`audit?top=${SHOWN}${subject === undefined ? '' : `&subject=${encodeURIComponent(subject)}`}`, abort) : Promise.resolve([])), [subject, isAllowed], 5000);
  if (!isAllowed) return null;
  return html`<section class="panel" aria-label="Changes by people"><h2>Who changed what <small>the last ${SHOWN} since this host started</small></h2>
    <${Loaded} state=${state} none="Nobody changed anything.">${(rows) => html`<div class="scroll"><table><thead><tr><th>When</th><th>Who</th><th>From</th><th>What</th>${subject === undefined && html`<th>To</th>`}<th>Answer</th></tr></thead>
      <tbody>${rows.map((row, index) => html`<tr key=${`${row.at}${index}`}><td><${When} at=${row.at} /></td><td>${row.caller}</td><td class="mono">${row.address}</td><td class="mono">${row.action}</td>${subject === undefined && html`<td class="mono">${row.subject && (NO_PAGE.test(row.action) ? row.subject : html`<a href=${href(row.subject.startsWith('@') ? ['entities', ...entity(row.subject)] : ['instances', row.subject])}>${row.subject}</a>`)}</td>`}<td>${row.grpc ? `gRPC ${row.result}` : row.result}</td></tr>`)}</tbody></table></div>`}<//></section>`;
}

/** `@name@key` in two. @param {string} text */
function entity(text) {
  const at = text.indexOf('@', 1);
  return at < 0 ? [text.slice(1), '$'] : [text.slice(1, at), text.slice(at + 1) || '$'];
}
