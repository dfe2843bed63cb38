// The timeline: the journal and time on one row each.

import { get } from '../api.js';
import { href, html, now, route, useEffect, useMemo, useRef, useState, Windowed } from '../ui.js';
import { axis, place, ticks, timeline } from '../model/timeline.js';
import { chip, duration, failureLine, summary } from '../model/format.js';
import { payloadDialog } from './payload.js';

/** Beyond so many rows only those in sight are in the page. */
const ROWS_PLAIN_MAX = 300;
const ROW_HEIGHT = 37;
const CHILD_MS = 3000;

export function Timeline({ id, row, history, explained }) {
  const isOver = Boolean(row.completed);
  const at = isOver ? 0 : now.value;
  const length = history.length;
  const story = useMemo(() => timeline(history, { now: at, reasons: explained?.reasons }), [history, length, at, explained]);
  const [open, setOpen] = useState(/** @type {Record<string, boolean>} */ ({}));
  const children = useChildren(open, story);
  const [zoom, setZoom] = useState(/** @type {any} */ (undefined));
  const rows = useMemo(() => flatten(story.rows, open, children, { now: at }), [story, open, children]);
  const span = zoom ?? story;
  const scale = useMemo(() => axis(rows.map((one) => one.row), span), [rows, span]);
  if (!story.rows.length && !length) return html`<div class="empty"><p>${row.scheduledStart ? 'It waits for its start.' : 'It has not begun.'}</p></div>`;
  const marks = ticks(scale);
  const toggle = (key) => setOpen({ ...open, [key]: !open[key] });
  const wanted = route.value.query.get('task');
  const draw = (index) => html`<${Line} key=${rows[index].key} line=${rows[index]} scale=${scale} marks=${marks} span=${span} toggle=${toggle} id=${id}
    isAt=${wanted !== null && wanted !== '' && String(rows[index].row.task) === wanted && rows[index].depth === 0} />`;
  const head = html`<${Head} story=${story} scale=${scale} marks=${marks} zoom=${zoom} setZoom=${setZoom} id=${id} />`;
  const end = story.outcome && html`<${Outcome} outcome=${story.outcome} row=${row} />`;
  if (rows.length > ROWS_PLAIN_MAX) return html`<div class="tl"><${Windowed} count=${rows.length} height=${ROW_HEIGHT} label="Timeline" head=${head} render=${draw}>${end}<//></div>`;
  return html`<div class="tl" role="table" aria-label="Timeline" aria-rowcount=${rows.length + 1}>${head}${rows.map((_, index) => draw(index))}${end}</div>`;
}

/** Rows, and below what is unfolded the parts of a fan-out or the rows of a child. */
function flatten(rows, open, children, context, depth = 0, prefix = '') {
  return rows.flatMap((row, index) => {
    const key = `${prefix}${row.task ?? `n${index}`}${row.kind}`;
    const line = { key, row, depth, isOpen: Boolean(open[key]), canOpen: Boolean(row.parts) || Boolean(row.child && row.kind === 'child') };
    if (!line.isOpen) return [line];
    if (row.parts) return [line, ...flatten(row.parts.map((part, at) => ({ ...part, number: at + 1, isPart: true })), open, children, context, depth + 1, `${key}/`)];
    const told = children[row.child];
    if (!told) return [line];
    return [line, ...flatten(timeline(told.history, { now: context.now }).rows, open, children, context, depth + 1, `${key}/`)];
  });
}

/** Histories of the children that are unfolded; of those that run, again and again. */
function useChildren(open, story) {
  const [children, setChildren] = useState(/** @type {Record<string, any>} */ (Object.create(null)));
  const ids = openChildren(story.rows, open, children);
  useEffect(() => {
    const abort = new AbortController();
    let timer = 0;
    const once = async () => {
      for (const id of ids) {
        if (children[id]?.isOver) continue;
        try {
          const history = await get(`instances/${encodeURIComponent(id)}/history?largeValues=false`, abort.signal);
          const isOver = history.some((event) => /^Execution(Completed|Failed|Terminated|Canceled)$/.test(event.kind));
          setChildren((old) => Object.assign(Object.create(null), old, { [id]: { history, isOver } }));
        } catch (problem) {
          if (!abort.signal.aborted) setChildren((old) => Object.assign(Object.create(null), old, { [id]: { history: [], isOver: true, problem } }));
        }
      }
      if (ids.length) timer = setTimeout(once, CHILD_MS);
    };
    once();
    return () => { abort.abort(); clearTimeout(timer); };
  }, [ids.join('\n')]);
  return children;
}

function openChildren(rows, open, children, prefix = '') {
  return rows.flatMap((row, index) => {
    const key = `${prefix}${row.task ?? `n${index}`}${row.kind}`;
    if (!open[key]) return [];
    if (row.parts) return openChildren(row.parts, open, children, `${key}/`);
    if (row.kind !== 'child') return [];
    const below = children[row.child] ? openChildren(timeline(children[row.child].history, { now: 0 }).rows, open, children, `${key}/`) : [];
    return [row.child, ...below];
  });
}

function Head({ story, scale, marks, zoom, setZoom, id }) {
  const bar = useRef(/** @type {any} */ (null));
  const [drag, setDrag] = useState(/** @type {any} */ (undefined));
  const share = (event) => {
    const box = bar.current.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  const up = (event) => {
    if (!drag) return;
    const [left, right] = [Math.min(drag.from, share(event)), Math.max(drag.from, share(event))];
    setDrag(undefined);
    if (right - left > 0.01) setZoom({ begin: timeAt(scale, left), end: timeAt(scale, right) });
  };
  return html`<div class="line top" role="row">
    <div class="what" role="columnheader"><b>${story.name}</b><span class="par">(</span>${story.input !== undefined && html`<${Chip} value=${story.input} title="Input" id=${id} />`}<span class="par">)</span>
      ${zoom && html`<button class="plain" onClick=${() => setZoom(undefined)}>whole time</button>`}</div>
    <div class="time axis" role="columnheader" aria-label="Time since the start" title="drag to zoom, double click for all" onPointerDown=${(event) => { if (event.button === 0) { event.currentTarget.setPointerCapture(event.pointerId); setDrag({ from: share(event), to: share(event) }); } }}
      onPointerMove=${(event) => { if (drag) setDrag({ ...drag, to: share(event) }); }} onPointerUp=${up} onDblClick=${() => setZoom(undefined)}>
      <div class="inner" ref=${bar}><${Grid} scale=${scale} marks=${marks} />
        ${spread(marks, scale).map((mark) => html`<span class=${`label ${mark.left < 0.02 ? 'first' : mark.left > 0.97 ? 'last' : ''}`} style=${{ left: pct(mark.left) }}>${mark.offset === 0 ? '0s' : shortOffset(mark.offset)}</span>`)}
        ${scale.cuts.map((cut) => html`<span class="label gap" style=${{ left: pct(cut.left + cut.width / 2) }} title="nothing began or ended here">${duration(cut.length)}</span>`)}
        ${drag && html`<span class="zoom" style=${{ left: pct(Math.min(drag.from, drag.to)), width: pct(Math.abs(drag.to - drag.from)) }}></span>`}
      </div></div></div>`;
}

function timeAt(scale, share) {
  const piece = scale.pieces.find((one) => share <= one.left + one.width) ?? scale.pieces.at(-1);
  if (share < piece.left) return piece.from;
  return piece.from + ((share - piece.left) / (piece.width || 1)) * (piece.to - piece.from);
}

/** Labels that would stand on one another are left out. */
function spread(marks, scale) {
  const kept = [];
  for (const mark of marks) {
    const last = kept.at(-1);
    const isAtCut = scale.cuts.some((cut) => Math.abs(mark.left - cut.left) < 0.02);
    if ((!last || mark.left - last.left > 0.075) && (!isAtCut || mark.offset === 0)) kept.push(mark);
  }
  const end = scale.pieces.at(-1);
  const last = kept.at(-1);
  if (end.width > 0.1 && (!last || 1 - last.left > 0.12)) kept.push({ left: 1, offset: end.to - scale.begin });
  return kept;
}

function shortOffset(offset) {
  return duration(offset).replace(/\.0s$/, 's');
}

const pct = (share) => `${(share * 100).toFixed(3)}%`;

function Grid({ scale, marks }) {
  return html`${marks.map((mark) => html`<i class="mark" style=${{ left: pct(mark.left) }}></i>`)}${scale.cuts.map((cut) => html`<i class="cut" style=${{ left: pct(cut.left), width: pct(cut.width) }}></i>`)}`;
}

function Line({ line, scale, marks, span, toggle, isAt, id }) {
  const { row, depth, key, isOpen, canOpen } = line;
  const element = useRef(/** @type {any} */ (null));
  useEffect(() => { if (isAt) element.current?.scrollIntoView({ block: 'center' }); }, [isAt]);
  const isFailing = row.retrying || (row.status === 'failed' && depth === 0);
  return html`<div class=${`line ${isFailing ? 'failing' : ''} ${isAt ? 'at' : ''}`} role="row" ref=${element}>
    <div class="what" role="cell" style=${depth ? { paddingLeft: `${10 + depth * 22}px` } : undefined}>
      <span class="n">${row.number}</span>
      ${canOpen && html`<button type="button" class="fold" aria-expanded=${isOpen} aria-label=${`${isOpen ? 'Fold' : 'Unfold'} ${row.name}`} onClick=${() => toggle(key)}>${isOpen ? '▾' : '▸'}</button>`}
      <b>${row.kind}</b><${Name} row=${row} />
      ${row.isPart && row.hasInput ? html`<${Chip} value=${row.input} text=${summary(row.input)} title="Input" event=${row.event} id=${id} />` : HAS_CALL.has(row.kind) && html`<span class="par">(</span>${row.hasInput && html`<${Chip} value=${row.input} title="Input" event=${row.event} id=${id} />`}<span class="par">)</span>`}
      <${Result} row=${row} id=${id} />
    </div>
    <div class="time" role="cell"><div class="inner"><${Grid} scale=${scale} marks=${marks} /><${Bar} row=${row} scale=${scale} span=${span} /></div></div></div>`;
}

const HAS_CALL = new Set(['call', 'undo', 'child', 'start', 'entity', 'signal', 'send']);

function Name({ row }) {
  if (row.kind === 'timer') return html`<span class="name">${duration(row.due - row.start)}</span>`;
  if (row.kind === 'event') return html`<span class="name" title=${row.name}>"${row.name}"</span>`;
  if (row.kind === 'map') return html`<span class="name">${row.name} × ${row.parts.length}</span>`;
  if (row.child) return html`<span class="name" title=${`${row.name} ${row.child}`}><a href=${href(['instances', row.child])}>${row.name}</a></span>`;
  return html`<span class="name" title=${row.name}>${row.name}</span>`;
}

function Result({ row, id }) {
  if (row.failure) return html`<span class="par">→</span><${Chip} isBad value=${row.failure} text=${`⚠ ${failureLine(row.failure)}`} title="Failure" id=${id} />`;
  if (row.outputText) return html`<span class="par">→</span><span class="chip">${row.outputText}</span>`;
  if (row.hasOutput) return html`<span class="par">→</span><${Chip} value=${row.output} title="Result" event=${row.closed} id=${id} />`;
  if (row.closed?.leftOut) return html`<span class="par">→</span><${Chip} value=${undefined} title="Result" event=${row.closed} id=${id} />`;
  return null;
}

/** A value, cut; opens the whole of it. */
function Chip({ value, text, title, isBad, event, id }) {
  const shown = event?.leftOut ? `${event.leftOut.bytes} bytes` : text ?? chip(value);
  return html`<button type="button" class=${`chip ${isBad ? 'bad' : ''}`} title=${`${title}: open`} onClick=${() => payloadDialog(title, value, event, id)}>${shown}</button>`;
}

function Bar({ row, scale, span }) {
  if (row.end < span.begin || row.start > span.end) return null;
  const left = place(scale, Math.max(row.start, span.begin));
  const right = place(scale, Math.min(row.end, span.end));
  const started = row.attemptStarted && row.attempts.length ? place(scale, Math.max(span.begin, row.attemptStarted)) : undefined;
  const isPoint = row.start === row.end;
  const parts = [];
  const bar = (kind, from, to) => parts.push(html`<i class=${`bar ${kind}`} style=${{ left: pct(from), width: pct(Math.max(0, to - from)) }}></i>`);
  if (isPoint) bar('point', left, left);
  else if (row.kind === 'timer' || row.kind === 'event' || row.kind === 'lock') bar(row.status === 'dropped' ? 'idle' : 'waits', left, right);
  else if (row.retrying || (row.status === 'failed' && row.kind !== 'map')) bar('failed', left, right);
  else if (row.status === 'failed') bar('hurt', left, right);
  else if (started !== undefined && row.status === 'done') { bar('failed', left, started); bar('done', started, right); }
  else bar({ done: 'done', live: 'live', unanswered: 'idle' }[row.status] ?? 'live', left, right);
  const text = label(row);
  const isBefore = right > 0.78;
  return html`${parts}${(row.attempts ?? []).map((attempt) => attempt.at >= span.begin && attempt.at <= span.end && html`<i class="tick" title=${attempt.message} style=${{ left: pct(place(scale, attempt.at)) }}></i>`)}
    <span class=${`after ${isBefore ? 'before' : ''}`} style=${{ left: isBefore ? pct(left) : `calc(${pct(right)} + ${isPoint ? 6 : 0}px)` }}><i>${text}</i></span>`;
}

function label(row) {
  const length = duration(row.end - row.start);
  if (row.retrying) return `attempt ${row.attemptCount}${row.attemptsMax ? ` of ${row.attemptsMax}` : ''}${row.due ? `, next ${row.due > now.value ? `in ${duration(row.due - now.value)}` : 'now'}` : ''}`;
  if (row.start === row.end) return '';
  if (row.attemptCount > 1) return `${row.attemptCount} attempts · ${length}`;
  if (row.kind === 'event') return row.isOpen ? `waits for ${length}` : `waited ${length}`;
  if (row.status === 'waits' && row.kind === 'timer') return row.due > now.value ? `fires in ${duration(row.due - now.value)}` : 'due';
  return length;
}

function Outcome({ outcome, row }) {
  const failure = outcome.failure ?? row.failure;
  return html`<div class="line" role="row"><div class="what" role="cell"><span class="n"></span><b class=${`s-${outcome.status}`}>${outcome.status}</b>
    ${failure ? html`<${Chip} isBad value=${failure} text=${`⚠ ${failureLine(failure)}`} title="Failure" />` : outcome.output !== undefined ? html`<span class="par">→</span><${Chip} value=${outcome.output} title="Output" />` : outcome.reason ? html`<span class="name">${outcome.reason}</span>` : ''}</div><div class="time" role="cell"></div></div>`;
}
