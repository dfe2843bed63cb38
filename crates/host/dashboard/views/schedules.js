// Timer triggers of the app: when they run next, how the last run ended, and a run now.

import { get } from '../api.js';
import { Crumbs, html, Loaded, may, tell, useLoad, When } from '../ui.js';
import { runCli } from '../model/commands.js';
import { clock } from '../model/format.js';
import { confirmDialog } from './actions.js';

export default function Schedules() {
  const state = useLoad((abort) => get('schedules', abort), [], 3000);
  const run = (row) => confirmDialog({
    title: `Run ${row.name} now`, effect: 'The function runs once, beside its calendar: no occurrence is recorded, none is left out.', label: 'Run now',
    request: { method: 'POST', path: `schedules/${encodeURIComponent(row.name)}/run` }, cli: runCli(row.name), onDone: () => { tell(`${row.name} runs`); state.reload(); },
  });
  return html`<${Crumbs} parts=${[['Schedules']]} /><div class="head"><h1>Schedules</h1></div>
    <section class="panel" aria-label="Schedules"><${Loaded} state=${state} none=${html`<p>The app has no timer triggers.</p><p>An orchestration that shall run by the calendar is started by one: <code>#[timer_trigger(schedule = "0 0 7 * * *")]</code></p>`}>${(rows) => html`<div class="scroll"><table>
      <thead><tr><th>Function</th><th>Schedule</th><th>Next</th><th>Last run</th><th><span class="hidden">Actions</span></th></tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${row.name}><td class="mono">${row.name}</td><td><span class="mono">${row.schedule}</span><br /><small>${row.timeZone}${row.runOnStartup ? ', and at the start of the host' : ''}</small></td>
        <td><ol>${row.next.slice(0, 3).map((at) => html`<li><${When} at=${at} /> <small>${clock(at)}</small></li>`)}</ol>${row.next.length === 0 && 'never again'}</td>
        <td>${row.last ? html`<${Last} last=${row.last} />` : 'none since the host started'}</td><td>${may('control') && html`<button onClick=${() => run(row)}>Run now…</button>`}</td></tr>`)}</tbody></table></div>`}<//></section>`;
}

function Last({ last }) {
  const how = last.failure ? html`<span class="s-Failed status">failed</span>: ${last.failure}` : last.ended ? html`<span class="s-Completed status">done</span>` : html`<span class="s-Running status">runs</span>`;
  return html`${how} <small><${When} at=${last.started} />${last.byHand ? ', by hand' : ''}</small>`;
}
