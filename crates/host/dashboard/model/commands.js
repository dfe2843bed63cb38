// What can be done, how it is asked of the API, and the same as curl and as dalsegno commands.

/** @typedef {{name: string, label: string, kind?: 'text' | 'json' | 'check' | 'select' | 'number', hint?: string, required?: boolean, options?: string[], value?: any, list?: string[]}} Field */

const enc = encodeURIComponent;
const reason = { name: 'reason', label: 'Reason', hint: 'shown in the history' };
const recursive = { name: 'recursive', label: 'Its children too', kind: 'check' };

/** A word as a POSIX shell takes it. @param {string} text */
export function quote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Words that are no flags. One that begins with a dash would be taken for one. */
function words(...all) {
  const text = all.map((one) => quote(one) || "''").join(' ');
  return all.some((one) => one.startsWith('-')) ? `-- ${text}` : text;
}

function flags(pairs) {
  return pairs.filter(([, value]) => value !== undefined && value !== '' && value !== false)
    .map(([name, value]) => (value === true ? ` ${name}` : ` ${name}${between(name, String(value))}${quote(String(value))}`)).join('');
}

function between(name, value) {
  return name.length === 2 && !value.startsWith('-') ? ' ' : '=';
}

function reasoned(values, more = {}) {
  const query = new URLSearchParams();
  if (values.reason) query.set('reason', values.reason);
  for (const [name, value] of Object.entries(more)) if (value) query.set(name, String(value));
  const text = query.toString();
  return text ? `?${text}` : '';
}

const command = (verb) => (id, values) => ({ method: 'POST', path: `instances/${enc(id)}/${verb}${reasoned(values)}` });

/** Each verb for one instance. `statuses`: those it is offered for. */
export const VERBS = {
  raise: {
    label: 'Raise event', scope: 'signal', statuses: ['Pending', 'Running', 'Suspended'],
    effect: 'The instance gets the event. One that nobody waits for is kept until somebody does.',
    fields: [{ name: 'event', label: 'Event', required: true }, { name: 'data', label: 'Data', kind: 'json', hint: 'JSON, or nothing' }],
    request: (id, values) => ({ method: 'POST', path: `instances/${enc(id)}/events/${enc(values.event)}`, body: values.data || undefined }),
    cli: (id, values) => `dalsegno raise${flags([['-d', values.data]])} ${words(id, values.event ?? '')}`,
  },
  suspend: {
    label: 'Suspend', scope: 'control', statuses: ['Pending', 'Running'],
    effect: 'It takes no messages until it is resumed. Activities that run go on; their results are kept.',
    fields: [reason], request: command('suspend'), cli: (id, values) => `dalsegno suspend${flags([['--reason', values.reason]])} ${words(id)}`,
  },
  resume: {
    label: 'Resume', scope: 'control', statuses: ['Suspended'],
    effect: 'It takes messages again, those that came meanwhile first.',
    fields: [reason], request: command('resume'), cli: (id, values) => `dalsegno resume${flags([['--reason', values.reason]])} ${words(id)}`,
  },
  cancel: {
    label: 'Cancel', scope: 'control', statuses: ['Pending', 'Running', 'Suspended'],
    effect: 'Its code is told once and ends by itself: compensations run, then it is Canceled.',
    fields: [reason], request: command('cancel'), cli: (id, values) => `dalsegno cancel${flags([['--reason', values.reason]])} ${words(id)}`,
  },
  terminate: {
    label: 'Terminate', scope: 'control', statuses: ['Pending', 'Running', 'Suspended'], isDestructive: true,
    effect: 'It ends at once, without running its code again: no compensation, no output.',
    fields: [reason, recursive],
    request: (id, values) => ({ method: 'POST', path: `instances/${enc(id)}/terminate${reasoned(values, { recursive: values.recursive })}` }),
    cli: (id, values) => `dalsegno terminate${flags([['--reason', values.reason], ['--recursive', values.recursive]])} ${words(id)}`,
  },
  rewind: {
    label: 'Rewind', scope: 'control', statuses: ['Failed'], isForParked: true,
    effect: 'Failed and parked instances only: what failed is forgotten and runs again, what succeeded stays.',
    fields: [reason], request: command('rewind'), cli: (id, values) => `dalsegno rewind${flags([['--reason', values.reason]])} ${words(id)}`,
  },
  'retry-now': {
    label: 'Retry now', scope: 'control', statuses: [],
    effect: 'The next attempt begins at once. It counts like any other.',
    fields: [{ name: 'task', label: 'Task', kind: 'number', hint: 'all that wait when empty' }],
    request: (id, values) => ({ method: 'POST', path: `instances/${enc(id)}/retry-now${values.task === undefined || values.task === '' ? '' : `?task=${enc(values.task)}`}` }),
    cli: (id, values) => `dalsegno retry-now ${words(id, ...(values.task === undefined || values.task === '' ? [] : [String(values.task)]))}`,
  },
  restart: {
    label: 'Restart', scope: 'control', statuses: ['Completed', 'Failed', 'Terminated', 'Canceled'],
    effect: 'A new instance with the same name and input. With the same id it replaces this one and its history.',
    fields: [{ name: 'same', label: 'Under the same id', kind: 'check' }],
    request: (id, values) => ({ method: 'POST', path: `instances/${enc(id)}/restart?newId=${!values.same}` }),
    cli: (id, values) => `dalsegno restart${flags([['--same-id', values.same]])} ${words(id)}`,
  },
  purge: {
    label: 'Purge', scope: 'purge', statuses: ['Completed', 'Failed', 'Terminated', 'Canceled'], isDestructive: true,
    effect: 'Its status, history and values are deleted for good.',
    fields: [recursive],
    request: (id, values) => ({ method: 'DELETE', path: `instances/${enc(id)}?recursive=${Boolean(values.recursive)}` }),
    cli: (id, values) => `dalsegno purge${flags([['--recursive', values.recursive]])} ${words(id)}`,
  },
};

/** May a verb be offered for an instance? @param {any} verb @param {any} row */
export function isOffered(verb, row) {
  return verb.statuses.includes(row.status) || Boolean(verb.isForParked && row.parked);
}

/** @param {string} name */
export function start(values) {
  const body = {};
  for (const name of ['id', 'version', 'scheduledStart']) if (values[name]) body[name] = values[name];
  if (values.input?.trim()) body.input = raw(values.input);
  const tags = tagsOf(values.tags ?? '');
  if (Object.keys(tags).length) body.tags = tags;
  return { method: 'POST', path: `orchestrators/${enc(values.name)}`, body: encode(body) };
}

export function startCli(values) {
  const tags = Object.entries(tagsOf(values.tags ?? '')).map(([name, value]) => ['--tag', `${name}=${value}`]);
  return `dalsegno start${flags([['-i', values.input?.trim()], ['--id', values.id], ['--version', values.version], ['--at', values.scheduledStart], ...tags])} ${words(values.name ?? '')}`;
}

/** `a=1 b=2` @param {string} text */
export function tagsOf(text) {
  return Object.fromEntries(text.split(/[\s,]+/).filter((part) => part.includes('=')).map((part) => [part.slice(0, part.indexOf('=')), part.slice(part.indexOf('=') + 1)]));
}

export function signal(entity, values) {
  const body = { operation: values.operation ?? '' };
  if (values.input?.trim()) body.input = raw(values.input);
  return { method: 'POST', path: `entities/${enc(entity.name)}/${enc(entity.key || '$')}/signal`, body: encode(body) };
}

export function signalCli(entity, values) {
  return `dalsegno entity signal${flags([['-d', values.input?.trim()]])} ${words(entity.name, entity.key, values.operation ?? '')}`;
}

export function deleteCli(entity) {
  return `dalsegno entity delete ${words(entity.name, entity.key)}`;
}

/** Gives a worker no more work. @param {string} name */
export function drain(name) {
  return { method: 'POST', path: `workers/${enc(name)}/drain` };
}

export function drainCli(name) {
  return `dalsegno worker drain ${words(name)}`;
}

export function unlock(entity, values) {
  const body = { holder: entity.lockHolder };
  if (values.force) body.force = true;
  return { method: 'POST', path: `entities/${enc(entity.name)}/${enc(entity.key || '$')}/unlock`, body: encode(body) };
}

export function unlockCli(entity, values) {
  return `dalsegno entity unlock${flags([['--holder', entity.lockHolder], ['--force', values.force]])} ${words(entity.name, entity.key)}`;
}

export function runCli(name) {
  return `dalsegno schedule run ${words(name)}`;
}

const PERIODS = [['d', 864e5], ['h', 36e5], ['m', 6e4], ['s', 1e3], ['ms', 1]];

/** Deletes a hub; the name once more is what confirms it. @param {string} name */
export function deleteHub(name) {
  const encoded = encodeURIComponent(name);
  return { method: 'DELETE', path: `hubs/${encoded}?confirm=${encoded}` };
}

/** @param {string} name */
export function deleteHubCli(name) {
  return `dalsegno hub delete ${quote(name)}`;
}

/** `5000/1h` of a rate. @param {{count: number, periodMs: number} | undefined} rate */
export function rateText(rate) {
  if (!rate) return '';
  const [unit, length] = PERIODS.find(([, one]) => rate.periodMs % one === 0) ?? ['ms', 1];
  return `${rate.count}/${rate.periodMs / length}${unit}`;
}

/** @param {string} text @returns {{count: number, periodMs: number} | undefined} */
export function rateOf(text) {
  const found = /^(\d+)\s*\/\s*(\d*)\s*(ms|s|m|h|d)$/.exec(text.trim());
  if (!found) return undefined;
  return { count: Number(found[1]), periodMs: Number(found[2] || 1) * Object.fromEntries(PERIODS)[found[3]] };
}

export function limiter(name, values) {
  const body = {};
  const rate = rateOf(values.rate ?? '');
  if (rate) body.rate = rate;
  if (rate && values.burst) body.burst = Number(values.burst);
  if (values.concurrency) body.concurrency = Number(values.concurrency);
  return { method: 'PUT', path: `limiters/${enc(name)}`, body: encode(body) };
}

export function limiterCli(name, values) {
  return `dalsegno limiter set${flags([['--rate', values.rate], ['--burst', values.rate && values.burst], ['--concurrency', values.concurrency]])} ${words(name)}`;
}

/** JSON text that stays as it was written: numbers keep their digits. */
export class Raw {
  /** @param {string} text */
  constructor(text) { this.text = text; }
}
const raw = (text) => new Raw(text.trim());

/** JSON of an object whose members may be raw text. @param {Record<string, any>} body */
export function encode(body) {
  const members = Object.entries(body).map(([name, value]) => `${JSON.stringify(name)}:${value instanceof Raw ? value.text : JSON.stringify(value)}`);
  return `{${members.join(',')}}`;
}

/** What is wrong with a text that is to be JSON; nothing is fine. @param {string | undefined} text */
export function jsonProblem(text) {
  if (!text?.trim()) return undefined;
  try {
    JSON.parse(text);
    return undefined;
  } catch (error) {
    return String(error instanceof Error ? error.message : error).replace(/^JSON\.parse: /, '');
  }
}

/** Where a command looks when it is not told. */
const SERVERS_BY_DEFAULT = ['http://127.0.0.1:8080', 'http://localhost:8080'];

/** A command as it is typed for this server and hub. @param {string} cli @param {string} server @param {string} hub */
export function located(cli, server, hub) {
  return cli.replace(/^dalsegno/, `dalsegno${flags([['--server', SERVERS_BY_DEFAULT.includes(server) ? '' : server], ['--hub', hub]])}`);
}

/** The request as a command line. @param {{method: string, path: string, body?: string}} request @param {string} origin @param {boolean} hasKey */
export function curl(request, origin, hasKey) {
  const key = hasKey ? ` -H "x-functions-key: $DALSEGNO_TOKEN"` : '';
  const body = request.body === undefined ? '' : ` -H 'content-type: application/json' -d ${quote(request.body)}`;
  return `curl -X ${request.method}${key}${body} ${quote(`${origin}${request.path}`)}`;
}

/** A batch. */
export function batch(verb, where, values, dryRun) {
  const body = { verb, where, dryRun };
  if (values.reason) body.reason = values.reason;
  if (verb === 'raise') {
    body.event = values.event ?? '';
    if (values.data?.trim()) body.input = raw(values.data);
  }
  if (values.recursive) body.recursive = true;
  // What is no rate goes as it is, and the server says so.
  if (values.rate?.trim()) body.rate = rateOf(values.rate) ?? values.rate;
  return { method: 'POST', path: 'operations', body: encode(body) };
}

/** The filter of a batch as `--where` takes it. @param {any} where */
export function whereText(where) {
  if (where.all) return 'all';
  const found = where.statuses?.length ? [`status=${where.statuses.join(',')}`] : [];
  for (const [key, value] of [['name', where.name], ['prefix', where.prefix], ...Object.entries(where.tags ?? {}).map((tag) => ['tag', tag.join('=')]), ['parent', where.parent], ['waiting-for', where.waitingFor], ['failed-activity', where.failedActivity], ['since', where.createdFrom], ['until', where.createdTo]]) {
    if (value) found.push(`${key}=${/[\s"\\]/.test(value) ? `"${value.replace(/["\\]/g, '\\$&')}"` : value}`);
  }
  return found.join(' ');
}

export function batchCli(verb, where, values) {
  const isRaise = verb === 'raise';
  const own = flags([['--where', whereText(where)], ['--reason', values.reason], ['--recursive', values.recursive], ['--rate', values.rate?.trim().replace(/\s+/g, '')], ['-d', isRaise && values.data?.trim()]]);
  return `dalsegno ${verb}${own}${isRaise ? ` ${words(values.event ?? '')}` : ''}`;
}
