// Dialogs: what is to be done, with its effect, its fields, and the same as curl and as a command.

import { addressed, chosenHub, get, key, origin, send, server } from '../api.js';
import { Command, dialog, go, href, html, hub, tell, useEffect, useMemo, useState } from '../ui.js';
import { batch, batchCli, curl, isOffered, jsonProblem, limiter, limiterCli, located, rateOf, rateText, signal, signalCli, start, startCli, VERBS, unlock, unlockCli } from '../model/commands.js';
import { count } from '../model/format.js';

function close() {
  dialog.value = undefined;
}

/** One input of a form. */
function Input({ field, values, set, isFirst }) {
  const value = values[field.name];
  const change = (event) => set({ ...values, [field.name]: field.kind === 'check' ? event.target.checked : event.target.value });
  if (field.kind === 'check') return html`<label class="line"><input type="checkbox" checked=${Boolean(value)} onChange=${change} />${field.label}</label>`;
  const problem = field.kind === 'json' ? jsonProblem(value) : undefined;
  const id = `field-${field.name}`;
  const common = { id, name: field.name, value: value ?? '', onInput: change, autofocus: isFirst, required: field.required, 'aria-invalid': problem ? 'true' : undefined, 'aria-describedby': `${id}-hint` };
  const list = field.list?.length ? `${id}-list` : undefined;
  return html`<label>${field.label}
    ${field.kind === 'json' ? html`<textarea ...${common} spellcheck=${false}></textarea>`
    : field.kind === 'select' ? html`<select ...${common}>${field.options.map((option) => html`<option value=${option}>${option || '–'}</option>`)}</select>`
    : html`<input ...${common} type=${field.kind === 'number' ? 'number' : 'text'} min=${field.kind === 'number' ? 1 : undefined} list=${list} autocomplete="off" spellcheck=${false} />`}
    ${list && html`<datalist id=${list}>${field.list.map((one) => html`<option value=${one}></option>`)}</datalist>`}
    <small id=${`${id}-hint`}>${problem ? html`<span class="error" role="alert">not JSON: ${problem}</span>` : field.hint ?? ''}</small>
  </label>`;
}

/** A form in a dialog.
 * @param {{title: string, effect: any, fields: any[], initial?: any, request: (values: any) => any, cli: (values: any) => string, label: string, confirm?: string, isDestructive?: boolean, onDone: (answer: any, values: any) => void, problemOf?: (values: any) => string | undefined}} props */
export function ActionForm(props) {
  const [values, set] = useState(props.initial ?? {});
  const [typed, setTyped] = useState('');
  const [state, setState] = useState(/** @type {any} */ ({}));
  const request = props.request(values);
  const isWhole = props.fields.every((field) => (!field.required || values[field.name]) && (field.kind !== 'json' || !jsonProblem(values[field.name])))
    && (!props.confirm || typed === props.confirm) && !props.problemOf?.(values);
  const submit = async (event) => {
    event.preventDefault();
    if (!isWhole || state.isBusy) return;
    setState({ isBusy: true });
    try {
      const answer = await send(request);
      close();
      props.onDone(answer, values);
    } catch (problem) {
      setState({ problem });
    }
  };
  return html`<form onSubmit=${submit} novalidate>
    <h2>${props.title}</h2>
    <div class="body">
      <p>${props.effect}</p>
      ${props.fields.map((field, index) => html`<${Input} key=${field.name} field=${field} values=${values} set=${set} isFirst=${index === 0} />`)}
      ${props.problemOf?.(values) && html`<p class="error">${props.problemOf(values)}</p>`}
      ${props.confirm && html`<label><span>Type <code>${props.confirm}</code> to go on</span><input name="confirm" value=${typed} autocomplete="off" spellcheck=${false} onInput=${(event) => setTyped(event.target.value)} /></label>`}
      <${Forms} request=${request} cli=${props.cli(values)} />
      ${state.problem && html`<p class="error" role="alert">${state.problem.code ? `${state.problem.code}: ` : ''}${state.problem.message}</p>`}
    </div>
    <footer><button type="button" onClick=${close}>Close</button>
      <button class=${`main ${props.isDestructive ? 'danger' : ''}`} disabled=${!isWhole || state.isBusy}>${props.label}</button></footer>
  </form>`;
}

function Forms({ request, cli }) {
  return html`<details open><summary>The same in a terminal</summary>
    <${Command} text=${here(cli)} what="the command" /><${Command} text=${curl({ ...request, path: addressed(request.path) }, origin, Boolean(key()))} what="the curl command" /></details>`;
}

/** A command as it is typed for what is looked at. @param {string} cli */
export const here = (cli) => located(cli, server, chosenHub);

/** Opens the dialog of a verb for one instance. @param {string} verb @param {any} row @param {any} [initial] */
export function command(verb, row, initial) {
  const rule = VERBS[verb];
  dialog.value = () => html`<${ActionForm} title=${`${rule.label}: ${row.id}`} effect=${rule.effect} fields=${rule.fields} initial=${initial} label=${rule.label}
    isDestructive=${rule.isDestructive} confirm=${rule.isDestructive ? row.id : undefined}
    request=${(values) => rule.request(row.id, values)} cli=${(values) => rule.cli(row.id, values)}
    onDone=${(answer, values) => done(verb, row, answer, values)} />`;
}

function done(verb, row, answer, values) {
  if (verb === 'purge') {
    tell(`${row.id} is deleted`);
    go('#/instances');
  } else if (verb === 'restart' && answer?.id && !values.same) tell('Started again as', href(['instances', answer.id]), answer.id);
  else tell(`${VERBS[verb].label}: ${row.id} took it`);
}

/** The verbs that fit, of those the caller may use. */
export function offered(row, may) {
  return Object.entries(VERBS).filter(([, rule]) => may(rule.scope) && isOffered(rule, row)).map(([verb]) => verb);
}

/** @param {string} [name] */
export function startDialog(name) {
  const names = hub.value?.orchestrators ?? [];
  const fields = [
    { name: 'name', label: 'Orchestrator', required: true, list: names, hint: names.length ? `registered: ${names.slice(0, 6).join(', ')}${names.length > 6 ? ', …' : ''}` : 'no worker has registered any yet' },
    { name: 'input', label: 'Input', kind: 'json', hint: 'JSON, or nothing' },
    { name: 'id', label: 'Id', hint: 'made up when empty' },
    { name: 'version', label: 'Version', hint: 'the highest when empty' },
    { name: 'tags', label: 'Tags', hint: 'team=blue shop=7' },
    { name: 'scheduledStart', label: 'Not before', hint: '2026-03-01T09:30:00Z' },
  ];
  dialog.value = () => html`<${ActionForm} title="Start an orchestration" effect="A new instance begins, or waits for a worker that has its code." fields=${fields}
    initial=${{ name: name ?? (names.length === 1 ? names[0] : '') }} label="Start" request=${start} cli=${startCli}
    onDone=${(answer) => { tell('Started', href(['instances', answer.id]), answer.id); go(href(['instances', answer.id])); }} />`;
}

export function signalDialog(entity, onDone) {
  const fields = [{ name: 'operation', label: 'Operation', required: true }, { name: 'input', label: 'Input', kind: 'json', hint: 'JSON, or nothing' }];
  dialog.value = () => html`<${ActionForm} title=${`Signal @${entity.name}@${entity.key}`} effect="The operation runs after those that wait before it. Nobody is told its result." fields=${fields}
    label="Signal" request=${(values) => signal(entity, values)} cli=${(values) => signalCli(entity, values)} onDone=${() => { tell('Signal sent'); onDone?.(); }} />`;
}

/** Frees an entity whose holder is gone. */
export function unlockDialog(entity, onDone) {
  const fields = [{ name: 'force', label: 'From a holder that lives, too: it goes on as if it had the lock', kind: 'check' }];
  dialog.value = () => html`<${ActionForm} title=${`Unlock @${entity.name}@${entity.key}`} effect=${`Takes the lock from ${entity.lockHolder}, which is refused while that lives. Other entities of the same lock stay locked.`} fields=${fields}
    label="Unlock" isDestructive=${true} request=${(values) => unlock(entity, values)} cli=${(values) => unlockCli(entity, values)} onDone=${() => { tell('Unlocked'); onDone?.(); }} />`;
}

export function limiterDialog(bucket, onDone) {
  const fields = [
    { name: 'rate', label: 'Rate', hint: 'like 5000/1h; none when empty' }, { name: 'burst', label: 'Burst', kind: 'number', hint: 'starts that may be saved up' },
    { name: 'concurrency', label: 'At once', kind: 'number', hint: 'no bound when empty' },
  ];
  const problemOf = (values) => {
    if (values.rate && !rateOf(values.rate)) return 'a rate is written 5000/1h';
    return !values.rate && !values.concurrency ? 'say a rate, a number at once, or both' : undefined;
  };
  dialog.value = () => html`<${ActionForm} title=${`Limiter ${bucket.name}`} effect="Holds at once, for all who use it, and over restarts." fields=${fields}
    initial=${{ rate: rateText(bucket.rate), burst: bucket.rate ? String(bucket.burst) : '', concurrency: bucket.concurrency ? String(bucket.concurrency) : '' }}
    label="Set" problemOf=${problemOf} request=${(values) => limiter(bucket.name, values)} cli=${(values) => limiterCli(bucket.name, values)} onDone=${() => { tell(`${bucket.name} is set`); onDone?.(); }} />`;
}

/** A question with a yes. */
export function confirmDialog({ title, effect, label, request, cli, confirm, isDestructive, onDone }) {
  dialog.value = () => html`<${ActionForm} title=${title} effect=${effect} fields=${[]} label=${label} confirm=${confirm} isDestructive=${isDestructive} request=${() => request} cli=${() => cli} onDone=${onDone} />`;
}

const BATCH_VERBS = ['terminate', 'cancel', 'suspend', 'resume', 'rewind', 'restart', 'purge', 'raise'];

/** One verb for all that a filter finds: first a dry run, then the job with its progress. */
export function batchDialog(where, may, onDone) {
  const verbs = BATCH_VERBS.filter((verb) => may(VERBS[verb].scope));
  dialog.value = () => html`<${Batch} where=${where} verbs=${verbs} onDone=${onDone} />`;
}

function Batch({ where, verbs, onDone }) {
  const [values, set] = useState({ verb: verbs[0] });
  const [dry, setDry] = useState(/** @type {any} */ (undefined));
  const [job, setJob] = useState(/** @type {any} */ (undefined));
  const [problem, setProblem] = useState(/** @type {any} */ (undefined));
  const [typed, setTyped] = useState('');
  const rule = VERBS[values.verb];
  const fields = [{ name: 'verb', label: 'What', kind: 'select', options: verbs }, ...rule.fields.filter((field) => field.name !== 'same'), { name: 'rate', label: 'At most', hint: '50/1s, or nothing: as fast as it goes' }];
  const change = (next) => { set(next); setDry(undefined); };
  const shown = useMemo(() => batch(values.verb, where, values, false), [values]);
  const begin = async (isDry) => {
    setProblem(undefined);
    try {
      const begun = await send(batch(values.verb, where, values, isDry));
      (isDry ? setDry : setJob)(begun);
    } catch (refusal) {
      setProblem(refusal);
    }
  };
  useProgress(dry, setDry);
  useProgress(job, (next) => { setJob(next); if (next.state !== 'running') onDone?.(); });
  const isReady = dry && dry.state === 'done' && dry.matched > 0 && (!rule.isDestructive || typed === values.verb);
  return html`<form onSubmit=${(event) => { event.preventDefault(); begin(!isReady); }} novalidate>
    <h2>Batch by filter</h2>
    <div class="body">
      <p>A job of the server, for all that fit ${html`<code>${JSON.stringify(where)}</code>`} and are in a state the command is for. It goes on when this page is closed.</p>
      ${!job && fields.map((field) => html`<${Input} key=${field.name} field=${field} values=${values} set=${change} />`)}
      ${!job && dry && html`<div role="status"><p><b>${count(dry.matched)}</b> ${dry.state === 'running' ? 'found so far…' : 'instances would be told.'}</p>
        ${dry.examples.length > 0 && html`<p>For example ${dry.examples.map((id, index) => html`${index ? ', ' : ''}<code>${id}</code>`)}</p>`}</div>`}
      ${!job && dry?.matched > 0 && rule.isDestructive && html`<label><span>Type <code>${values.verb}</code> to go on</span><input name="confirm" value=${typed} autocomplete="off" onInput=${(event) => setTyped(event.target.value)} /></label>`}
      ${job && html`<${Progress} job=${job} />`}
      <${Forms} request=${shown} cli=${batchCli(values.verb, where, values)} />
      ${problem && html`<p class="error" role="alert">${problem.code}: ${problem.message}</p>`}
    </div>
    <footer><button type="button" onClick=${close}>Close</button>
      ${job?.state === 'running' && html`<button type="button" class="danger" onClick=${() => send({ method: 'DELETE', path: `operations/${job.id}` })}>Stop it</button>`}
      ${!job && html`<button type="submit" class=${isReady ? `main ${rule.isDestructive ? 'danger' : ''}` : ''}>${isReady ? `${rule.label} ${count(dry.matched)}` : 'Dry run'}</button>`}
    </footer>
  </form>`;
}

/** A job's numbers. */
export function Progress({ job }) {
  const over = job.applied + job.skipped + job.failed;
  return html`<div role="status">
    <progress max=${Math.max(job.matched, 1)} value=${job.state === 'done' ? Math.max(job.matched, 1) : over} aria-label="Progress"></progress>
    <p><b data-state=${job.state}>${job.state}</b>: ${count(job.applied)} of ${count(job.matched)} took it${job.skipped ? `, ${count(job.skipped)} were in another state` : ''}${job.failed ? `, ${count(job.failed)} refused` : ''}</p>
    ${job.problem && html`<p class="error">${job.problem}</p>`}
    ${job.refusals.length > 0 && html`<ul>${job.refusals.slice(0, 5).map((one) => html`<li class="error">${one.id}: ${one.detail}</li>`)}</ul>`}
  </div>`;
}

function useProgress(job, set) {
  useEffect(() => {
    if (job?.state !== 'running') return undefined;
    const timer = setTimeout(async () => {
      try { set(await get(`operations/${job.id}`)); } catch (problem) { set({ ...job, state: 'failed', problem: problem.message }); }
    }, 250);
    return () => clearTimeout(timer);
  }, [job]);
}
