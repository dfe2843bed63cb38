// The filters of the list of orchestrations, as chips and as an address.

export const STATUSES = ['Pending', 'Running', 'Suspended', 'Completed', 'Failed', 'Terminated', 'Canceled'];
const FINAL = new Set(['Completed', 'Failed', 'Terminated', 'Canceled']);

// Filters of one value, as they stand in the address and as the API takes them, and how they are typed.
const VALUES = /** @type {const} */ ({ name: 'name', prefix: 'prefix', parent: 'parent', waitingFor: 'waiting-for', failedActivity: 'failed-activity' });
const KEYS = /** @type {(keyof typeof VALUES)[]} */ (Object.keys(VALUES));

/** @param {string} status */
export const isFinal = (status) => FINAL.has(status);

/** @typedef {{statuses: string[], name: string, prefix: string, tags: string[], parent: string, waitingFor: string, failedActivity: string, since: string, until: string}} Filter */

/** @param {URLSearchParams} query @returns {Filter} */
export function filterOf(query) {
  return {
    statuses: query.getAll('status').flatMap((text) => text.split(',')).filter((word) => STATUSES.includes(word)),
    name: query.get('name') ?? '',
    prefix: query.get('prefix') ?? '',
    tags: query.getAll('tag').filter((tag) => tag.includes('=')),
    parent: query.get('parent') ?? '',
    waitingFor: query.get('waitingFor') ?? '',
    failedActivity: query.get('failedActivity') ?? '',
    since: query.get('since') ?? '',
    until: query.get('until') ?? '',
  };
}

/** @param {Filter} filter @returns {URLSearchParams} as it stands in the address */
export function addressOf(filter) {
  const query = new URLSearchParams();
  for (const status of filter.statuses) query.append('status', status);
  for (const key of KEYS) if (filter[key]) query.set(key, filter[key]);
  for (const tag of filter.tags) query.append('tag', tag);
  if (filter.since) query.set('since', filter.since);
  if (filter.until) query.set('until', filter.until);
  return query;
}

/** As the API takes it. `since` may be a length of time back from now, as `2h`.
 * @param {Filter} filter @param {number} now */
export function queryOf(filter, now) {
  const query = new URLSearchParams();
  for (const status of filter.statuses) query.append('status', status);
  for (const key of KEYS) if (filter[key]) query.set(key, filter[key]);
  for (const tag of filter.tags) query.append('tag', tag);
  const from = timeOf(filter.since, now);
  const to = timeOf(filter.until, now);
  if (from) query.set('createdFrom', from);
  if (to) query.set('createdTo', to);
  return query;
}

/** The `where` of a batch. */
export function whereOf(filter, now) {
  const where = {};
  if (filter.statuses.length) where.statuses = filter.statuses;
  for (const key of KEYS) if (filter[key]) where[key] = filter[key];
  if (filter.tags.length) where.tags = Object.fromEntries(filter.tags.map(split));
  const from = timeOf(filter.since, now);
  const to = timeOf(filter.until, now);
  if (from) where.createdFrom = from;
  if (to) where.createdTo = to;
  if (!Object.keys(where).length) where.all = true;
  return where;
}

/** The stretch of time of which starts are shown: that of the filter, else a day.
 * @param {Filter} filter @param {number} now @returns {{from: string, to?: string}} */
export function spanOf(filter, now) {
  const to = timeOf(filter.until, now);
  const from = timeOf(filter.since, now) ?? new Date((to ? Date.parse(to) : now) - UNITS.d).toISOString();
  return { from, to };
}

function split(tag) {
  const at = tag.indexOf('=');
  return [tag.slice(0, at), tag.slice(at + 1)];
}

const UNITS = { s: 1e3, m: 6e4, h: 36e5, d: 864e5 };

/** @param {string} text a time, or a length of time before now @param {number} now @returns {string | undefined} */
export function timeOf(text, now) {
  const back = /^(\d+)\s*([smhd])$/.exec(text.trim());
  if (back) return new Date(now - Number(back[1]) * UNITS[back[2]]).toISOString();
  const at = Date.parse(text);
  return Number.isFinite(at) ? new Date(at).toISOString() : undefined;
}

/** What was typed into the filter box: `status:Failed name:ProcessOrder tag:team=blue order-`.
 * @param {string} text @param {Filter} filter @returns {{filter: Filter, problem?: string}} */
export function typed(text, filter) {
  const next = { ...filter, statuses: [...filter.statuses], tags: [...filter.tags] };
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    const [, key, value] = /^([a-z-]+):(.*)$/s.exec(word) ?? [undefined, 'prefix', word];
    if (!value) return { filter, problem: `${key}: needs a value` };
    if (key === 'status') {
      const known = STATUSES.find((status) => status.toLowerCase() === value.toLowerCase());
      if (!known) return { filter, problem: `${value} is no status: ${STATUSES.join(', ')}` };
      if (!next.statuses.includes(known)) next.statuses.push(known);
    } else if (key === 'tag') {
      if (!value.includes('=')) return { filter, problem: 'a tag is written name=value' };
      next.tags.push(value);
    } else if (key === 'since' || key === 'until') {
      if (!timeOf(value, 0)) return { filter, problem: `${value} is no time: write 2h, 3d or 2026-03-01T09:30:00Z` };
      next[key] = value;
    } else {
      const known = KEYS.find((known) => VALUES[known] === key);
      if (!known) return { filter, problem: `${key}: is no filter: status, ${Object.values(VALUES).join(', ')}, tag, since, until` };
      next[known] = value;
    }
  }
  return { filter: next };
}

/** The chips of a filter, each with what is left without it.
 * @param {Filter} filter @returns {{label: string, without: Filter}[]} */
export function chips(filter) {
  const found = filter.statuses.map((status) => ({ label: `status: ${status}`, without: { ...filter, statuses: filter.statuses.filter((one) => one !== status) } }));
  for (const [key, word] of Object.entries({ ...VALUES, since: 'since', until: 'until' })) {
    if (filter[key]) found.push({ label: `${word}: ${filter[key]}`, without: { ...filter, [key]: '' } });
  }
  filter.tags.forEach((tag, at) => found.push({ label: `tag: ${tag}`, without: { ...filter, tags: filter.tags.filter((_, index) => index !== at) } }));
  return found;
}

/** Does a filter ask for what no row tells, so that the list has to be read again when something changes?
 * @param {Filter} filter */
export const isOfLists = (filter) => Boolean(filter.waitingFor || filter.failedActivity);

/** Does a row that came by the stream belong into the list?
 * @param {any} row @param {Filter} filter @param {number} now */
export function fits(row, filter, now) {
  const from = timeOf(filter.since, now);
  const to = timeOf(filter.until, now);
  return (!filter.statuses.length || filter.statuses.includes(row.status))
    && (!filter.name || row.name === filter.name)
    && row.id.startsWith(filter.prefix)
    && (!filter.parent || row.parent?.instanceId === filter.parent)
    && filter.tags.map(split).every(([name, value]) => row.tags?.[name] === value)
    && (!from || row.created >= from)
    && (!to || row.created <= to);
}
