// The one way to the server: `/runtime/dalsegno/v1`, with the key of whoever looks.

import { signal } from './lib/signals.js';

const BASE = new URL('../runtime/dalsegno/v1/', import.meta.url);
const KEY = 'dalsegno.key';
const KEY_HEADER = 'x-functions-key';
/** A stream that breaks is opened again after so long, and each time twice as long. */
const RETRY_MS = 500;
const RETRY_MS_MAX = 8000;

/** The task hub that is looked at, of the address of the page; none: the host's own. */
export const chosenHub = new URLSearchParams(location.search).get('hub') ?? '';

/** A path of the API, for the hub that is looked at. @param {string} path */
export function addressed(path) {
  return chosenHub ? `${path}${path.includes('?') ? '&' : '?'}taskHub=${encodeURIComponent(chosenHub)}` : path;
}

/** 'ok' or 'lost': whether the last request reached the server. */
export const connection = signal('ok');
/** The server asks for a key. */
export const needsKey = signal(false);

/** @returns {string | null} */
export function key() {
  return sessionStorage.getItem(KEY);
}

/** @param {string | null} secret */
export function setKey(secret) {
  if (secret) sessionStorage.setItem(KEY, secret);
  else sessionStorage.removeItem(KEY);
  needsKey.value = false;
}

/** Where the API is, as commands say it. */
export const origin = BASE.href;
/** Where the server is. */
export const server = new URL('../../../', BASE).href.replace(/\/$/, '');

/** A refusal by the server. */
export class Refusal extends Error {
  /** @param {number} status @param {any} problem */
  constructor(status, problem) {
    super(problem?.detail ?? (status === 403 ? 'the key is not good for this' : `the server answered ${status}`));
    this.status = status;
    this.code = problem?.code ?? '';
  }
}

function headers(more = {}) {
  const secret = key();
  return secret ? { ...more, [KEY_HEADER]: secret } : more;
}

async function reach(path, options) {
  try {
    const response = await fetch(new URL(addressed(path), BASE), { cache: 'no-store', ...options });
    connection.value = 'ok';
    if (response.status === 401) needsKey.value = true;
    return response;
  } catch (error) {
    if (!(error instanceof DOMException && error.name === 'AbortError')) connection.value = 'lost';
    throw error;
  }
}

async function refusal(response) {
  const problem = await response.json().catch(() => undefined);
  return new Refusal(response.status, problem);
}

/** @param {{method: string, path: string, body?: string}} request @param {AbortSignal} [abort] */
export async function send(request, abort) {
  const options = { method: request.method, headers: headers(request.body === undefined ? {} : { 'content-type': 'application/json' }), body: request.body, signal: abort };
  const response = await reach(request.path, options);
  if (!response.ok) throw await refusal(response);
  const text = await response.text();
  return text ? JSON.parse(text) : undefined;
}

/** @param {string} path @param {AbortSignal} [abort] */
export const get = (path, abort) => send({ method: 'GET', path }, abort);

/** The text of an answer, as it came: digits stay. @param {string} path */
export async function text(path) {
  const response = await reach(path, { headers: headers() });
  if (!response.ok) throw await refusal(response);
  return response.text();
}

/** Reads a stream of server-sent events until it is over or aborted; connects again where it was.
 * By `fetch`, because `EventSource` cannot send a key as a header.
 * @param {string} path
 * @param {{onEvent: (name: string, data: any) => void, onOpen?: (isOpen: boolean) => void, abort: AbortSignal}} reader */
export async function stream(path, { onEvent, onOpen, abort }) {
  let last = '';
  let pause = RETRY_MS;
  while (!abort.aborted) {
    try {
      const response = await reach(path, { headers: headers(last ? { 'last-event-id': last } : {}), signal: abort });
      if (response.status === 204) { onOpen?.(false); return; }
      if (!response.ok) throw await refusal(response);
      onOpen?.(true);
      pause = RETRY_MS;
      await read(response.body, (name, data, id) => {
        if (id) last = id;
        onEvent(name, JSON.parse(data));
      });
    } catch (error) {
      if (abort.aborted) return;
      if (error instanceof Refusal && error.status < 500 && error.status !== 429) { onOpen?.(false); return; }
    }
    onOpen?.(false);
    await sleep(pause, abort);
    pause = Math.min(pause * 2, RETRY_MS_MAX);
  }
}

async function read(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end = rest.indexOf('\n\n');
    let from = 0;
    while (end >= 0) {
      event(rest.slice(from, end), take);
      from = end + 2;
      end = rest.indexOf('\n\n', from);
    }
    rest = rest.slice(from);
  }
}

function event(block, take) {
  let name = 'message';
  let id = '';
  const data = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('event: ')) name = line.slice(7);
    else if (line.startsWith('id: ')) id = line.slice(4);
    else if (line.startsWith('data: ')) data.push(line.slice(6));
  }
  if (data.length) take(name, data.join('\n'), id);
}

function sleep(ms, abort) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    abort.addEventListener('abort', () => { clearTimeout(timer); resolve(undefined); }, { once: true });
  });
}
