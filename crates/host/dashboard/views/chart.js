// Starts over time, and which of them failed.

import { html, useRef, useState } from '../ui.js';
import { clock, count, dayTime, millis, stretch, zoneText } from '../model/format.js';

/** A piece shorter than this share of the width is a click, not a choice. */
const CHOSEN_SHARE_MIN = 0.01;

/** @param {{from: string, to: string, buckets: any[], partial: boolean, children?: any, onChoose?: (from: string, to: string) => void}} props with `onChoose`, a stretch can be drawn over */
export function Chart({ from, to, buckets, partial, children, onChoose }) {
  const [width, height] = [1000, 110];
  const most = Math.max(1, ...buckets.map((bucket) => bucket.started));
  const step = width / buckets.length;
  const length = (millis(to) - millis(from)) / buckets.length;
  const all = buckets.reduce((sum, bucket) => [sum[0] + bucket.started, sum[1] + bucket.failed], [0, 0]);
  const text = `${count(all[0])} starts since ${clock(from)}, ${count(all[1])} of them failed`;
  const label = (offset) => dayTime(millis(from) + offset * length);
  const choice = useChoice((left, right) => onChoose?.(...[left, right].map((share) => new Date(millis(from) + share * (millis(to) - millis(from))).toISOString())));
  return html`<div class="chart-box" ref=${choice.box} ...${onChoose ? choice.handlers : {}} title=${onChoose ? 'drag to look at a stretch of time' : undefined}><svg class="chart" viewBox="0 0 1000 112" preserveAspectRatio="none" role="img" aria-label=${text}>
      ${[0, 0.5, 1].map((share) => html`<line class="grid-line" x1="0" x2=${width} y1=${height - share * (height - 8)} y2=${height - share * (height - 8)} vector-effect="non-scaling-stroke" />`)}
      ${buckets.map((bucket, index) => bucket.started > 0 && html`<g><title>${`${label(index)} ${zoneText(millis(from))}: ${bucket.started} started, ${bucket.failed} failed`}</title>
        <rect class="started" x=${index * step + 1} width=${step - 2} y=${height - (bucket.started / most) * (height - 8)} height=${(bucket.started / most) * (height - 8)} rx="1" />
        <rect class="failed" x=${index * step + 1} width=${step - 2} y=${height - (bucket.failed / most) * (height - 8)} height=${(bucket.failed / most) * (height - 8)} /></g>`)}
      ${choice.drawn && html`<rect class="chosen" x=${choice.drawn[0] * width} width=${(choice.drawn[1] - choice.drawn[0]) * width} y="0" height="112" />`}
    </svg></div>
    <p class="legend"><span>${stretch(millis(from), millis(to))}</span><span><i class="a"></i>started, at most ${count(most)}</span><span><i class="b"></i>of which failed</span><span>${count(all[0])} starts, ${count(all[1])} of them failed${partial ? ' (the newest 20,000)' : ''}</span>${children}</p>`;
}

/** What is drawn over with the pointer, as shares of the width. */
function useChoice(choose) {
  const box = useRef(/** @type {any} */ (null));
  const [drag, setDrag] = useState(/** @type {number[] | undefined} */ (undefined));
  const share = (event) => {
    const place = box.current.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - place.left) / place.width));
  };
  const drawn = drag && [Math.min(...drag), Math.max(...drag)];
  const handlers = {
    onPointerDown: (event) => { if (event.button === 0) { event.currentTarget.setPointerCapture(event.pointerId); setDrag([share(event), share(event)]); } },
    onPointerMove: (event) => { if (drag) setDrag([drag[0], share(event)]); },
    onPointerUp: () => { setDrag(undefined); if (drawn && drawn[1] - drawn[0] > CHOSEN_SHARE_MIN) choose(drawn[0], drawn[1]); },
  };
  return { box, drawn, handlers };
}
