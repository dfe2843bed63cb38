// One form for what holds an instance: the answer of `explain`, or what the instance itself tells.

/** @param {any} explained of GET explain, if there is such a route @param {any} row */
export function explanation(explained, row) {
  if (explained) return explained;
  const reasons = (row.waitsFor ?? []).map((text) => ({ kind: guess(text), text, ...details(text) }));
  if (row.parked) reasons.unshift({ kind: 'parked', text: `parked: ${row.parked.message}` });
  if (row.status === 'Suspended' && !reasons.some((one) => one.kind === 'suspended')) reasons.unshift({ kind: 'suspended', text: 'suspended: it takes no messages until it is resumed' });
  return { id: row.id, name: row.name, status: row.status, summary: '', reasons, next: [] };
}

function guess(text) {
  if (/^parked/.test(text)) return 'parked';
  if (/event "/.test(text)) return 'event';
  if (/worker/.test(text)) return 'noWorker';
  if (/timer/.test(text)) return 'timer';
  if (/limiter/.test(text)) return 'limiter';
  if (/lock/.test(text)) return 'lock';
  if (/attempt/.test(text)) return 'retry';
  if (/suspended/.test(text)) return 'suspended';
  return 'more';
}

/** What the sentence of an activity that is tried again says. */
const RETRY = /^task (\d+): \w+ "([^"]*)", (\d+) attempts? failed, the last with (.*?)(?:; the next attempt is due in (\d+) s)?$/s;

function details(text) {
  const retry = RETRY.exec(text);
  if (retry) {
    const [, task, name, failed, lastFailure, seconds] = retry;
    return { kind: 'retry', task: Number(task), name, attempt: Number(failed) + 1, lastFailure, due: seconds && new Date(Date.now() + Number(seconds) * 1000).toISOString() };
  }
  const event = /event "((?:[^"\\]|\\.)*)"/.exec(text);
  return event ? { name: event[1] } : {};
}

/** What the alert box is for: something that a person may have to mend.
 * @param {any} explained @returns {any | undefined} */
export function alarm(explained) {
  const reasons = explained?.reasons ?? [];
  return ['parked', 'noWorker', 'code', 'retry'].map((kind) => reasons.find((one) => one.kind === kind && (kind !== 'retry' || one.lastFailure || one.attempt > 1))).find(Boolean);
}

/** The word behind the status in the pill. */
export function qualifier(explained, row) {
  if (row.parked) return 'parked';
  const kinds = new Set((explained?.reasons ?? []).map((one) => one.kind));
  if (kinds.has('retry')) return 'retrying';
  if (kinds.has('noWorker')) return 'no worker';
  if (kinds.has('event') || kinds.has('timer') || kinds.has('lock') || kinds.has('lockHeld')) return row.status === 'Running' ? 'waiting' : '';
  return '';
}
