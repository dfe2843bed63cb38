// Who spoke to whom: lanes and arrows of the sequence view.

import { millis } from './format.js';

/** Arrows that are drawn; the rest is counted. */
export const ARROWS_MAX = 400;

/** @param {any[]} history @param {string} self */
export function sequence(history, self) {
  const lanes = [self];
  const lane = (name) => {
    if (!lanes.includes(name)) lanes.push(name);
    return lanes.indexOf(name);
  };
  const arrows = [];
  const where = new Map();
  let dropped = 0;
  const add = (from, to, label, event, style = 'call') => {
    if (arrows.length >= ARROWS_MAX) { dropped += 1; return; }
    arrows.push({ from, to, label, at: millis(event.at), style });
  };
  for (const event of history) {
    const there = event.task === undefined ? undefined : where.get(`${event.task}`);
    switch (event.kind) {
      case 'ExecutionStarted': add(lane(event.parent?.instanceId ?? 'client'), 0, `start ${event.name}`, event); break;
      case 'TaskScheduled': where.set(`${event.task}`, lane(event.name)); add(0, where.get(`${event.task}`), 'call', event); break;
      case 'SubOrchestrationInstanceCreated': where.set(`${event.task}`, lane(event.instanceId)); add(0, where.get(`${event.task}`), event.name, event); break;
      case 'EntityOperationCalled': where.set(`${event.task}`, lane(event.entity)); add(0, where.get(`${event.task}`), event.operation, event); break;
      case 'EntityOperationSignaled': add(0, lane(event.entity), `signal ${event.operation}`, event, 'signal'); break;
      case 'EntityLockRequested': where.set(`${event.task}`, lane(event.entities?.[0] ?? 'lock')); add(0, where.get(`${event.task}`), 'lock', event); break;
      case 'TimerCreated': where.set(`${event.task}`, lane('timer')); add(0, where.get(`${event.task}`), 'timer', event); break;
      case 'EventSent': add(0, lane(event.instanceId), `event ${event.name}`, event, 'signal'); break;
      case 'EventRaised': add(lane('client'), 0, `event ${event.name}`, event, 'signal'); break;
      case 'TaskCompleted': case 'SubOrchestrationInstanceCompleted': case 'EntityOperationCompleted':
        if (there !== undefined) add(there, 0, 'result', event, 'answer'); break;
      case 'EntityLockGranted': if (there !== undefined) add(there, 0, 'granted', event, 'answer'); break;
      case 'TimerFired': if (there !== undefined) add(there, 0, 'fired', event, 'answer'); break;
      case 'TaskFailed': case 'SubOrchestrationInstanceFailed': case 'EntityOperationFailed':
        if (there !== undefined) add(there, 0, event.failure?.message ?? 'failed', event, 'failure'); break;
      case 'ExecutionCompleted': case 'ExecutionFailed': case 'ExecutionTerminated': case 'ExecutionCanceled':
        add(0, 0, event.kind.slice('Execution'.length), event, event.kind === 'ExecutionCompleted' ? 'end' : 'failure'); break;
      default:
    }
  }
  return { lanes, arrows, dropped };
}

