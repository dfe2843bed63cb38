// What holds an instance, as the page tells it: what alarms, and what a button can do about it.

/** What the alert box is for: something that a person may have to mend.
 * @param {any} explained @returns {any | undefined} */
export function alarm(explained) {
  const reasons = explained?.reasons ?? [];
  return ['parked', 'noWorker', 'code', 'retry'].map((kind) => reasons.find((one) => one.kind === kind && (kind !== 'retry' || one.lastFailure || one.attempt > 1))).find(Boolean);
}

/** The word behind the status in the pill. */
export function qualifier(explained, row) {
  const kinds = new Set((explained?.reasons ?? []).map((one) => one.kind));
  if (kinds.has('noWorker')) return 'no worker';
  if (row.parked) return 'parked';
  if (kinds.has('retry')) return 'retrying';
  if (['event', 'timer', 'lock', 'limiter'].some((kind) => kinds.has(kind))) return row.status === 'Running' ? 'waiting' : '';
  return '';
}

const KINDS = { noWorker: 'no worker', scheduledStart: 'delayed start', cancelRequested: 'asked to end', lockHeld: 'holds a lock' };

/** A kind of reason in words. @param {string} kind */
export const kindText = (kind) => (Object.hasOwn(KINDS, kind) ? KINDS[kind] : kind);

const BASE = '/runtime/dalsegno/v1/';

/** What a step of an explanation is here: a verb for an instance, or a page to look at.
 * @param {{path?: string}} step @returns {{verb?: string, id?: string, values?: any, page?: string} | undefined} */
export function stepOf(step) {
  if (!step.path?.startsWith(BASE)) return undefined;
  const [path, query] = step.path.slice(BASE.length).split('?');
  const [kind, id, verb, event] = path.split('/').map(decodeURIComponent);
  if (kind !== 'instances') return { page: kind };
  if (verb === 'explain') return { page: 'instances', id };
  if (verb === 'events') return { verb: 'raise', id, values: { event } };
  return { verb, id, values: query ? Object.fromEntries(new URLSearchParams(query)) : undefined };
}
