// Times, lengths of time, values and users' texts as people read them.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Milliseconds since 1970 of an RFC 3339 time; microseconds stay as a fraction.
 * @param {string | undefined} text @returns {number} */
export function millis(text) {
  if (!text) return NaN;
  const whole = Date.parse(text);
  const digits = /\.(\d{4,})/.exec(text);
  return digits ? whole + Number(`0.${digits[1].slice(3)}`) : whole;
}

/** A length of time in at most two units: `479ms`, `2.6s`, `3h 12m`.
 * @param {number} length in milliseconds @returns {string} */
export function duration(length) {
  if (!Number.isFinite(length)) return '–';
  const ms = Math.max(0, length);
  if (ms === 0) return '0ms';
  if (ms < 1) return `${Math.round(ms * 1000)}µs`;
  if (ms < 10) return `${Number(ms.toFixed(1))}ms`;
  if (ms < 999.5) return `${Math.round(ms)}ms`;
  if (ms < 10 * SECOND - 50) return `${(ms / SECOND).toFixed(1)}s`;
  if (ms < MINUTE - 500) return `${Math.round(ms / SECOND)}s`;
  if (ms < HOUR - 500) return pair(ms, MINUTE, 'm', SECOND, 's');
  if (ms < DAY - MINUTE / 2) return pair(ms, HOUR, 'h', MINUTE, 'm');
  return pair(ms, DAY, 'd', HOUR, 'h');
}

function pair(ms, large, largeUnit, small, smallUnit) {
  const rounded = Math.round(ms / small) * small;
  const rest = Math.round((rounded % large) / small);
  return `${Math.floor(rounded / large)}${largeUnit}${rest ? ` ${rest}${smallUnit}` : ''}`;
}

/** `3m ago`, `in 8s`, `now`.
 * @param {string} text @param {number} now @returns {string} */
export function relative(text, now) {
  const at = millis(text);
  if (!Number.isFinite(at)) return '–';
  const away = at - now;
  if (Math.abs(away) < SECOND) return 'now';
  const length = duration(Math.floor(Math.abs(away) / SECOND) * SECOND).replace(/\.\ds$/, 's');
  return away > 0 ? `in ${length}` : `${length} ago`;
}

/** Minutes that local clocks are ahead of UTC at a time; of whoever looks. @param {number} at */
const aheadHere = (at) => -new Date(at).getTimezoneOffset();

let aheadOf = (/** @type {number} */ _at) => 0;

/** Times are written in this zone from now on.
 * @param {'utc' | 'local'} zone @param {(at: number) => number} [ahead] minutes ahead of UTC */
export function setZone(zone, ahead = aheadHere) {
  aheadOf = zone === 'local' ? ahead : () => 0;
}

function written(at) {
  return new Date(at + aheadOf(at) * MINUTE).toISOString();
}

/** `UTC`, or what is added to it: `UTC+02:00`. @param {number} at */
export function zoneText(at) {
  const minutes = aheadOf(at);
  if (!minutes) return 'UTC';
  const two = (/** @type {number} */ number) => String(number).padStart(2, '0');
  return `UTC${minutes < 0 ? '−' : '+'}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
}

/** Hours and minutes. @param {number} at */
export function dayTime(at) {
  return written(at).slice(11, 16);
}

/** From a time to a time, in minutes; with the days when there are two. @param {number} from @param {number} to */
export function stretch(from, to) {
  const day = (/** @type {number} */ at) => written(at).slice(0, 10);
  const [first, last] = day(from) === day(to) ? ['', ''] : [`${day(from)} `, `${day(to)} `];
  return `${first}${dayTime(from)} – ${last}${dayTime(to)} ${zoneText(from)}`;
}

/** The time of day, with the date unless it is the day of `now`.
 * @param {string} text @param {number} [now] @returns {string} */
export function clock(text, now) {
  const at = millis(text);
  if (!Number.isFinite(at)) return '–';
  const iso = written(at);
  const short = `${iso.slice(11, 22)} ${zoneText(at)}`;
  const today = now !== undefined && written(now).slice(0, 10) === iso.slice(0, 10);
  return today ? short : `${iso.slice(0, 10)} ${short}`;
}

/** @param {number} bytes @returns {string} */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1000).toFixed(1)} KB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** @param {number} number @returns {string} */
export function count(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A value on one line, as short as it can be told: keys without quotes.
 * @param {unknown} value @param {number} [most] characters @returns {string} */
export function chip(value, most = 160) {
  const text = compact(value, most);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function compact(value, room) {
  if (value === undefined) return '';
  if (value === null || typeof value !== 'object') {
    return typeof value === 'string' && value.length > room ? JSON.stringify(value.slice(0, room)) : JSON.stringify(value);
  }
  let text = Array.isArray(value) ? '[' : '{';
  const end = Array.isArray(value) ? ']' : '}';
  let first = true;
  for (const key of Object.keys(value)) {
    if (!first) text += ',';
    first = false;
    if (text.length > room) return `${text}…`;
    if (!Array.isArray(value)) text += `${/^[\w$-]+$/.test(key) ? key : JSON.stringify(key)}:`;
    text += compact(value[key], room - text.length);
  }
  return text + end;
}

/** The first field of an input, to tell the parts of a fan-out apart.
 * @param {unknown} value @returns {string} */
export function summary(value) {
  if (value && typeof value === 'object' && !Array.isArray(value)) {
    const [key] = Object.keys(value);
    if (key !== undefined) return `${key}: ${chip(value[key], 40)}`;
  }
  return chip(value, 48);
}

/** A failure and what caused it, outermost first.
 * @param {any} failure @returns {{kind: string, message: string, stack?: string, permanent?: boolean}[]} */
export function causes(failure) {
  const chain = [];
  for (let one = failure; one && chain.length < 32; one = one.cause) chain.push(one);
  return chain;
}

/** @param {any} failure @returns {string} */
export function failureLine(failure) {
  if (!failure) return '';
  return failure.message ? (failure.kind && failure.kind !== 'Error' ? `${failure.kind}: ${failure.message}` : failure.message) : String(failure.kind ?? '');
}

/** Characters that act on what stands around them instead of being seen: controls but tabs and ends of
 * lines, and the format characters of Unicode that do not belong to a script. As the command line has it. */
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** A text with what JSON writes instead of each character that is not seen: an id with U+202E would read
 * backwards, and look like another.
 * @param {string} text @returns {string} */
export function visible(text) {
  return text.replace(HIDDEN, (found) => Array.from({ length: found.length }, (_, index) => `\\u${found.charCodeAt(index).toString(16).padStart(4, '0')}`).join(''));
}
