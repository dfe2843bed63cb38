// The smaller tabs of an instance: sequence, state, children, explain.

import { get } from '../api.js';
import { Command, Copy, href, html, Loaded, may, Status, useLoad, useMemo, useRef, When } from '../ui.js';
import { count, duration } from '../model/format.js';
import { isFinal } from '../model/filter.js';
import { VERBS } from '../model/commands.js';
import { kindText, stepOf } from '../model/explain.js';
import { sequence } from '../model/sequence.js';
import { command, here } from './actions.js';
import { save } from './payload.js';
import { Audit } from './audit.js';
import { Chain, Divergence } from './payload.js';

const LANE = 170;
const STEP = 30;

export function Sequence({ id, history }) {
  const story = useMemo(() => sequence(history, id), [history, history.length, id]);
  if (!story.arrows.length) return html`<div class="empty">Nothing was said yet.</div>`;
  const width = Math.max(640, story.lanes.length * LANE);
  const height = 56 + story.arrows.length * STEP + 16;
  const x = (lane) => LANE / 2 + lane * LANE;
  const begin = story.arrows[0].at;
  const drawing = useRef(/** @type {any} */ (null));
  return html`<div class="tools"><span>${count(story.arrows.length)} messages</span><button class="push" onClick=${() => downloadDrawing(drawing.current, id)}>Download SVG</button></div>
    <div class="scroll" tabindex="0" role="region" aria-label="Sequence"><svg ref=${drawing} width=${width} height=${height} role="img" aria-label=${`Sequence of ${story.arrows.length} messages between ${story.lanes.length} parties`}>
      ${story.lanes.map((lane, index) => html`<g key=${lane}><title>${lane}</title><text x=${x(index)} y="22" text-anchor="middle">${short(lane, 22)}</text><line class="lane" x1=${x(index)} x2=${x(index)} y1="32" y2=${height - 6} /></g>`)}
      ${story.arrows.map((arrow, index) => html`<${Arrow} key=${index} arrow=${arrow} y=${54 + index * STEP} x=${x} offset=${duration(arrow.at - begin)} />`)}
    </svg></div>${story.dropped > 0 && html`<p class="pager">${count(story.dropped)} more are in the history.</p>`}`;
}

const STYLES = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'font-size', 'font-family', 'text-anchor'];

/** The drawing as a file of its own: what the page's rules say of it is written into it. */
function downloadDrawing(drawing, id) {
  const copy = drawing.cloneNode(true);
  const [from, to] = [drawing, copy].map((root) => [root, ...root.querySelectorAll('*')]);
  from.forEach((element, index) => {
    const style = getComputedStyle(element);
    for (const name of STYLES) to[index].setAttribute(name, style.getPropertyValue(name));
    to[index].removeAttribute('class');
  });
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  save(new XMLSerializer().serializeToString(copy), 'image/svg+xml', `${id.replace(/[^\w.-]+/g, '_')}.sequence.svg`);
}

function Arrow({ arrow, y, x, offset }) {
  const [from, to] = [x(arrow.from), x(arrow.to)];
  if (arrow.from === arrow.to) return html`<g><title>${arrow.label}</title><circle cx=${from} cy=${y} r="4" class=${arrow.style === 'failure' ? 'failed' : 'started'} /><text x=${from + 10} y=${y + 4}>${short(arrow.label, 40)} <tspan class="dim">${offset}</tspan></text></g>`;
  const way = to > from ? 1 : -1;
  return html`<g><title>${`${arrow.label} at ${offset}`}</title><line class=${`arrow ${arrow.style}`} x1=${from} x2=${to - way * 7} y1=${y} y2=${y} /><path class="tip" d=${`M${to} ${y} l${-way * 8} -4 l0 8 z`} />
    <text x=${(from + to) / 2} y=${y - 5} text-anchor="middle">${short(arrow.label, 20 * Math.max(1, Math.abs(arrow.to - arrow.from)))}</text></g>`;
}

const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function Value({ label, value }) {
  const text = value === undefined ? '' : JSON.stringify(value, null, 2);
  return html`<section aria-label=${label}><h2>${label}${value !== undefined && html`<${Copy} text=${text} what=${label} />`}</h2>${value === undefined ? html`<p class="empty">none</p>` : html`<pre class="json" tabindex="0">${text}</pre>`}</section>`;
}

export function State({ id, row }) {
  const state = useLoad((abort) => get(`instances/${encodeURIComponent(id)}`, abort), [id, row.status, row.updated, row.executionId]);
  return html`<${Loaded} state=${state} isNone=${() => false}>${(whole) => html`
    ${whole.failure && html`<section class="panel" aria-label="Failure"><h2>Failure</h2><div class="body"><${Chain} failure=${whole.failure} /></div></section>`}
    ${whole.parked && html`<section class="panel" aria-label="Fault"><h2>Fault <small>${whole.parked.kind}</small></h2>${whole.parked.divergence && html`<div class="body"><${Divergence} divergence=${whole.parked.divergence} /></div>`}<pre class="json">${whole.parked.message}</pre></section>`}
    <div class="grid values"><${Value} label="Input" value=${whole.input} /><${Value} label="Output" value=${whole.output} /><${Value} label="Custom status" value=${whole.customStatus} />
    <section aria-label="About"><h2>About</h2><div class="body"><dl class="kv">
      <dt>Execution</dt><dd class="mono">${whole.executionId}</dd><dt>Partition</dt><dd>${whole.partition}</dd>
      <dt>Last moved</dt><dd><${When} at=${whole.updated} /></dd>
      ${whole.completed && html`<dt>Finished</dt><dd><${When} at=${whole.completed} /></dd>`}
      ${whole.scheduledStart && html`<dt>Not before</dt><dd><${When} at=${whole.scheduledStart} /></dd>`}
      ${whole.parent && html`<dt>Parent</dt><dd><a class="mono" href=${href(['instances', whole.parent.instanceId])}>${whole.parent.instanceId}</a></dd>`}
      ${whole.trace && html`<dt>Trace</dt><dd class="mono">${whole.trace.parent}</dd>`}
      <dt>Tags</dt><dd>${Object.keys(whole.tags ?? {}).length ? Object.entries(whole.tags).map(([name, value]) => html`<span class="tag">${name}=${value}</span>`) : 'none'}</dd>
    </dl></div></section></div>`}<//><${Audit} subject=${id} />`;
}

const CHILD_END = { SubOrchestrationInstanceCompleted: 'Completed', SubOrchestrationInstanceFailed: 'Failed' };

export function Children({ children, history }) {
  if (!children.length) return html`<div class="empty">It has started no other orchestration.</div>`;
  const ends = new Map(history.filter((event) => CHILD_END[event.kind]).map((event) => [event.task, event]));
  return html`<div class="scroll"><table><thead><tr><th>Instance</th><th>Orchestrator</th><th>Outcome</th><th>Started</th></tr></thead><tbody>
    ${children.slice(0, 500).map((child) => html`<tr key=${`${child.task}${child.instanceId}`}><td class="mono"><a href=${href(['instances', child.instanceId])}>${child.instanceId}</a></td><td>${child.name}</td>
      <td>${child.detached ? 'goes its own way' : html`<${Status} status=${CHILD_END[ends.get(child.task)?.kind] ?? 'Running'} />`}</td><td><${When} at=${child.at} /></td></tr>`)}</tbody></table></div>
    ${children.length > 500 && html`<p class="pager">${count(children.length - 500)} more are in the history.</p>`}`;
}

/** The page of `@name@key`. @param {string} entity */
function entityHref(entity) {
  const at = entity.indexOf('@', 1);
  return href(['entities', entity.slice(1, at), entity.slice(at + 1) || '$']);
}

/** A step as a button, or as a link to where it is seen. */
function Step({ step, row }) {
  const own = stepOf(step);
  const rule = own?.verb && VERBS[own.verb];
  const act = () => command(own.verb, own.id === row.id ? row : { id: own.id }, own.values);
  return html`<div class="step"><p>${step.text[0].toUpperCase()}${step.text.slice(1)}.</p>
    ${rule && may(rule.scope) && html`<button class="main" onClick=${act}>${rule.label}…</button>`}
    ${own?.page && html`<a class="button" href=${own.id === undefined ? href([own.page]) : href(['instances', own.id], { tab: 'explain' })}>${own.id ?? PAGES[own.page] ?? own.page}</a>`}
    ${step.cli && html`<${Command} text=${here(step.cli)} what="the command" />`}</div>`;
}

const PAGES = { workers: 'Workers', limiters: 'Limiters' };

export function Explain({ row, explained, unexplained }) {
  if (isFinal(row.status)) return html`<div class="empty"><p>It is finished: ${row.status}.</p>${row.failure && html`<p>${row.failure.message}</p>`}</div>`;
  if (!explained && unexplained) return html`<p class="problem" role="alert">${unexplained.message}</p>`;
  if (!explained) return html`<p class="loading" role="status">Asking…</p>`;
  const { reasons = [], next = [] } = explained;
  return html`${reasons.length > 1 && html`<p class="tools"><b>${explained.summary}</b></p>`}
    ${reasons.length === 0 ? html`<div class="empty">Nothing holds it: it is at work, or waits for its next turn.</div>` : html`<ul class="reasons">${reasons.map((reason, index) => html`<li key=${index}><span class="badge">${kindText(reason.kind)}</span>${reason.text}
      <dl>${reason.instance && html`<dt>Instance</dt><dd><a class="mono" href=${href(['instances', reason.instance])}>${reason.instance}</a></dd>`}
        ${reason.location && html`<dt>In the code</dt><dd class="mono">${reason.location}</dd>`}${reason.since && html`<dt>Since</dt><dd><${When} at=${reason.since} /></dd>`}
        ${reason.due && html`<dt>Next</dt><dd><${When} at=${reason.due} /></dd>`}
        ${reason.attempt && html`<dt>Attempt</dt><dd>${reason.attempt}${reason.attemptsMax ? ` of ${reason.attemptsMax}` : ''}</dd>`}
        ${reason.lastFailure && html`<dt>Last failure</dt><dd>${typeof reason.lastFailure === 'string' ? reason.lastFailure : reason.lastFailure.message}</dd>`}
        ${reason.owner && html`<dt>Held by</dt><dd class="mono">${reason.kind === 'lock' ? html`<a href=${href(['instances', reason.owner])}>${reason.owner}</a>` : reason.kind === 'limiter' ? html`<a href="#/limiters">${reason.owner}</a>` : reason.owner}</dd>`}
        ${reason.entities?.length > 0 && html`<dt>Entities</dt><dd class="mono">${reason.entities.map((entity) => html`<a href=${entityHref(entity)}>${entity}</a> `)}</dd>`}</dl></li>`)}</ul>`}
    ${next.length > 0 && html`<section aria-label="What to do"><h2 class="todo">What to do</h2><div class="body tools-body">${next.map((step) => html`<${Step} key=${step.text} step=${step} row=${row} />`)}</div></section>`}`;
}
