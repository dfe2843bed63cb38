"use strict";
// What a user of the JavaScript SDK relies on, against a real server.
//
// node patterns.js [NAME ...]    with the binary's path in DALSEGNO

const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const {
  EntityInstanceId,
  NoOpLogger,
  OrchestrationStatus,
  RetryPolicy,
  TaskEntity,
  TaskHubGrpcClient,
  TaskHubGrpcWorker,
  whenAll,
  whenAny,
} = require("@microsoft/durabletask-js");
const server = require("./server");

const WAIT = 30;
const CONFIGURATION = `
[limiter.one]
concurrency = 1
activities = ["limited"]
`;
const attempts = new Map();

const sayHello = async (_, name) => `Hello ${name}!`;
const increment = async (_, number) => number + 1;
const flaky = async (_, key) => {
  attempts.set(key, (attempts.get(key) ?? 0) + 1);
  if (attempts.get(key) < 3) throw new Error(`attempt ${attempts.get(key)}`);
  return attempts.get(key);
};
const brokenUntilMended = async (_, key) => {
  if (!attempts.has(key)) throw new Error("not mended yet");
  return "mended";
};
// How many run at once, of those that pass through it together.
let inside = 0;
const passThrough = async () => {
  inside += 1;
  const seen = inside;
  // Time for all others that may run to come in.
  await new Promise((resolve) => setTimeout(resolve, 20));
  inside -= 1;
  return seen;
};
const fail = async () => {
  throw new Error("boom");
};

const sequence = async function* (ctx, name) {
  const first = yield ctx.callActivity(sayHello, name);
  return [first, yield ctx.callActivity(sayHello, first)];
};
const mostAtOnce = async function* (ctx, name) {
  const tags = name === "tagged" ? { "dalsegno.limiter": "one", "dalsegno.limiter.key": "k" } : undefined;
  const tasks = Array.from({ length: 5 }, () => ctx.callActivity(name, undefined, { tags }));
  return Math.max(...(yield whenAll(tasks)));
};
const fanOut = async function* (ctx, count) {
  const tasks = Array.from({ length: count }, (_, n) => ctx.callActivity(increment, n));
  return (yield whenAll(tasks)).reduce((sum, n) => sum + n, 0);
};
const sleeper = async function* (ctx, seconds) {
  const begin = ctx.currentUtcDateTime;
  yield ctx.createTimer(seconds);
  return ctx.currentUtcDateTime - begin;
};
const twoEvents = async function* (ctx) {
  const first = yield ctx.waitForExternalEvent("A");
  return [first, yield ctx.waitForExternalEvent("b")];
};
const versioned = async function* (ctx) {
  yield ctx.callActivity(increment, 1);
  return [ctx.version, ctx.compareVersionTo("1.10.0") < 0];
};
const cancellable = async function* (ctx) {
  return `told: ${yield ctx.waitForExternalEvent("dalsegno.cancel")}`;
};
const parentOf = async function* (ctx) {
  return yield ctx.callSubOrchestrator("tellsItsParent");
};
const tellsItsParent = async function* (ctx) {
  return [ctx.parent?.name, ctx.parent?.instanceId];
};
const approval = async function* (ctx, seconds) {
  const approved = ctx.waitForExternalEvent("approve");
  const winner = yield whenAny([approved, ctx.createTimer(seconds)]);
  return winner === approved ? "approved" : "timed out";
};
const child = async function* (ctx, number) {
  return yield ctx.callActivity(increment, number);
};
const parent = async function* (ctx, count) {
  const tasks = Array.from({ length: count }, (_, n) => ctx.callSubOrchestrator(child, n));
  return yield whenAll(tasks);
};
const failing = async function* (ctx) {
  yield ctx.callActivity(fail);
};
const forgivingParent = async function* (ctx) {
  try {
    yield ctx.callSubOrchestrator(failing);
  } catch (error) {
    return error.message;
  }
  return "nothing failed";
};
const retrying = async function* (ctx, key) {
  const retry = new RetryPolicy({ maxNumberOfAttempts: 5, firstRetryIntervalInMilliseconds: 100 });
  return yield ctx.callActivity(flaky, key, { retry });
};
const mendable = async function* (ctx, key) {
  yield ctx.callActivity(increment, 1);
  return yield ctx.callActivity(brokenUntilMended, key);
};
const eternal = async function* (ctx, count) {
  if (count === 5) return count;
  ctx.setCustomStatus({ count });
  yield ctx.waitForExternalEvent("go");
  ctx.continueAsNew(count + 1, true);
};
const withStatus = async function* (ctx) {
  ctx.setCustomStatus({ step: 1 });
  yield ctx.waitForExternalEvent("go");
  return "done";
};

class Counter extends TaskEntity {
  add(amount) {
    this.state += amount;
    return this.state;
  }
  get() {
    return this.state;
  }
  burn() {
    throw new Error("burnt");
  }
  initializeState() {
    return 0;
  }
}

const withEntity = async function* (ctx, key) {
  const entity = new EntityInstanceId("counter", key);
  ctx.entities.signalEntity(entity, "add", 5);
  return yield ctx.entities.callEntity(entity, "add", 2);
};
const withFailingOperation = async function* (ctx, key) {
  try {
    yield ctx.entities.callEntity(new EntityInstanceId("counter", key), "burn");
  } catch (error) {
    return error.message;
  }
  return "nothing failed";
};
const withLock = async function* (ctx, key) {
  const one = new EntityInstanceId("counter", key);
  const two = new EntityInstanceId("counter", `${key}-two`);
  const lock = yield ctx.entities.lockEntities(one, two);
  try {
    const total = yield ctx.entities.callEntity(one, "get");
    yield ctx.entities.callEntity(two, "add", 1);
    yield ctx.entities.callEntity(one, "add", total + 1);
    return total;
  } finally {
    lock.release();
  }
};

const orchestrators = {
  sequence, fanOut, sleeper, twoEvents, approval, child, parent, failing, forgivingParent,
  retrying, mendable, eternal, withStatus, withEntity, withFailingOperation, withLock,
  versioned, parentOf, tellsItsParent, cancellable, mostAtOnce,
};
const activities = {
  sayHello, increment, flaky, brokenUntilMended, fail,
  limited: passThrough, tagged: passThrough, free: passThrough,
};

const finish = (client, id) => client.waitForOrchestrationCompletion(id, true, WAIT);
const run = async (client, ...start) => finish(client, await client.scheduleNewOrchestration(...start));
const output = (state) => {
  assert.equal(state.runtimeStatus, OrchestrationStatus.COMPLETED, JSON.stringify(state));
  return JSON.parse(state.serializedOutput);
};
const waiting = async (client, ...start) => {
  const id = await client.scheduleNewOrchestration(...start);
  await client.waitForOrchestrationStart(id, false, WAIT);
  return id;
};
const eventually = async (isTrue, what) => {
  const until = Date.now() + WAIT * 1000;
  while (!(await isTrue())) {
    assert.ok(Date.now() < until, what);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

const tests = {
  async aSequence(client) {
    assert.deepEqual(output(await run(client, sequence, "Tokyo")), ["Hello Tokyo!", "Hello Hello Tokyo!!"]);
  },
  async aFanOutOf1000(client) {
    assert.equal(output(await run(client, fanOut, 1000)), 500500);
  },
  async aTimerIsNeverEarly(client) {
    const slept = output(await run(client, sleeper, 1));
    assert.ok(slept >= 1000 && slept < 2000, slept);
  },
  async eventsAreBuffered(client) {
    const id = await client.scheduleNewOrchestration(twoEvents);
    await client.raiseOrchestrationEvent(id, "b", 2);
    await client.raiseOrchestrationEvent(id, "a", 1);
    assert.deepEqual(output(await finish(client, id)), [1, 2]);
  },
  async anApprovalOrATimeout(client) {
    const id = await waiting(client, approval, 60);
    await client.raiseOrchestrationEvent(id, "approve");
    assert.equal(output(await finish(client, id)), "approved");
    assert.equal(output(await run(client, approval, 0.2)), "timed out");
  },
  async subOrchestrations(client) {
    assert.deepEqual(output(await run(client, parent, 5)), [1, 2, 3, 4, 5]);
  },
  async aFailureComesUpThroughAChild(client) {
    assert.match(output(await run(client, forgivingParent)), /boom/);
  },
  async aFailureHasItsMessage(client) {
    const state = await run(client, failing);
    assert.equal(state.runtimeStatus, OrchestrationStatus.FAILED);
    assert.match(state.failureDetails.message, /boom/);
  },
  async retriesWithAPolicy(client) {
    assert.equal(output(await run(client, retrying, randomUUID())), 3);
  },
  async continueAsNewKeepsEvents(client) {
    const id = await client.scheduleNewOrchestration(eternal, 0);
    for (let n = 0; n < 5; n++) await client.raiseOrchestrationEvent(id, "go");
    assert.equal(output(await finish(client, id)), 5);
  },
  async customStatusSuspendAndResume(client) {
    const id = await waiting(client, withStatus);
    const status = async () => (await client.getOrchestrationState(id)).runtimeStatus;
    const state = await client.getOrchestrationState(id, true);
    assert.deepEqual(JSON.parse(state.serializedCustomStatus), { step: 1 });
    await client.suspendOrchestration(id);
    assert.equal(await status(), OrchestrationStatus.SUSPENDED);
    await client.raiseOrchestrationEvent(id, "go");
    assert.equal(await status(), OrchestrationStatus.SUSPENDED);
    await client.resumeOrchestration(id);
    assert.equal(output(await finish(client, id)), "done");
  },
  async terminateGivesItsOutput(client) {
    const id = await waiting(client, twoEvents);
    await client.terminateOrchestration(id, { why: "so" });
    const state = await finish(client, id);
    assert.equal(state.runtimeStatus, OrchestrationStatus.TERMINATED);
    assert.deepEqual(JSON.parse(state.serializedOutput), { why: "so" });
  },
  async purgeAndWhatIsNotThere(client) {
    const { instanceId } = await run(client, sequence, "x");
    assert.equal((await client.purgeOrchestration(instanceId)).deletedInstanceCount, 1);
    assert.equal(await client.getOrchestrationState(instanceId), undefined);
  },
  async restartWithTheSameAndWithANewId(client) {
    const { instanceId } = await run(client, sequence, "x");
    assert.equal(await client.restartOrchestration(instanceId), instanceId);
    assert.equal(output(await finish(client, instanceId)).length, 2);
    const other = await client.restartOrchestration(instanceId, true);
    assert.notEqual(other, instanceId);
    assert.equal(output(await finish(client, other)).length, 2);
  },
  async rewindAfterTheCauseIsMended(client) {
    const key = randomUUID();
    const state = await run(client, mendable, key);
    assert.equal(state.runtimeStatus, OrchestrationStatus.FAILED);
    attempts.set(key, 1);
    await client.rewindInstance(state.instanceId, "mended");
    assert.equal(output(await finish(client, state.instanceId)), "mended");
  },
  async entitiesAreCalledSignalledAndRead(client) {
    const key = randomUUID();
    const entity = new EntityInstanceId("counter", key);
    assert.equal(await client.getEntity(entity), undefined);
    assert.equal(output(await run(client, withEntity, key)), 7);
    assert.equal((await client.getEntity(entity)).state, 7);
    await client.signalEntity(entity, "add", 3);
    await eventually(async () => (await client.getEntity(entity)).state === 10, "the signal has no effect");
    assert.match(output(await run(client, withFailingOperation, key)), /burn/);
    assert.equal((await client.getEntity(entity)).state, 10);
  },
  async aCriticalSection(client) {
    const key = randomUUID();
    assert.equal(output(await run(client, withLock, key)), 0);
    assert.equal(output(await run(client, withLock, key)), 1);
    assert.equal((await client.getEntity(new EntityInstanceId("counter", key))).state, 3);
  },
  async anIdIsUsedOnce(client) {
    const id = await waiting(client, twoEvents);
    await assert.rejects(client.scheduleNewOrchestration(twoEvents, undefined, id), /already exists/);
    await client.terminateOrchestration(id);
    await finish(client, id);
    assert.equal(output(await run(client, sequence, "y", id)).length, 2);
  },
  async aScheduledStart(client) {
    const id = await client.scheduleNewOrchestration(sequence, "x", { startAt: new Date(Date.now() + 1000) });
    assert.equal((await client.getOrchestrationState(id)).runtimeStatus, OrchestrationStatus.PENDING);
    assert.equal(output(await finish(client, id)).length, 2);
  },
  async queriesPageThroughAll(client) {
    const prefix = randomUUID();
    for (let n = 0; n < 7; n++) await run(client, child, n, `${prefix}-${n}`);
    const found = [];
    for await (const state of client.getAllInstances({ pageSize: 3, instanceIdPrefix: prefix })) {
      found.push(state.instanceId);
    }
    assert.equal(found.length, 7);
  },
  async aVersionIsKeptAndReachesTheCode(client) {
    const state = await run(client, versioned, undefined, { version: "1.9.0" });
    assert.deepEqual(output(state), ["1.9.0", true]);
  },
  async aChildKnowsItsParent(client) {
    const state = await run(client, parentOf);
    assert.deepEqual(output(state), ["parentOf", state.instanceId]);
  },
  async whatNobodyOffersWaitsAndGoesOn(client, options) {
    const id = await client.scheduleNewOrchestration("lateComer", "x");
    const late = new TaskHubGrpcWorker({ ...options, workItemFilters: "auto" });
    late.addNamedOrchestrator("lateComer", sequence);
    late.addNamedActivity("sayHello", sayHello);
    // The first worker takes everything and fails what it does not know, unless it says what it takes.
    assert.equal((await client.getOrchestrationState(id)).runtimeStatus, OrchestrationStatus.PENDING);
    await late.start();
    assert.equal(output(await finish(client, id)).length, 2);
    await late.stop();
  },
  async aRequestToCancelIsAnEvent(client, options) {
    const id = await waiting(client, cancellable);
    const url = `http://${options.hostAddress}/runtime/dalsegno/v1/instances/${id}/cancel?reason=enough`;
    assert.equal((await fetch(url, { method: "POST" })).status, 202);
    assert.match((await finish(client, id)).serializedOutput, /enough/);
  },
  async aLimiterHoldsByConfigurationAndByTag(client) {
    assert.equal(output(await run(client, mostAtOnce, "limited")), 1);
    assert.equal(output(await run(client, mostAtOnce, "tagged")), 1);
    assert.ok(output(await run(client, mostAtOnce, "free")) > 1, "others run at once");
  },
  async historyIsRead(client) {
    const { instanceId } = await run(client, sequence, "x");
    const events = await client.getOrchestrationHistory(instanceId);
    assert.ok(events.length >= 6, `${events.length} events`);
  },
};

async function main(names) {
  const at = await server.start(CONFIGURATION);
  const options = { hostAddress: at.address, logger: new NoOpLogger() };
  const worker = new TaskHubGrpcWorker({ ...options, workItemFilters: "auto" });
  for (const [name, run] of Object.entries(orchestrators)) worker.addNamedOrchestrator(name, run);
  for (const [name, run] of Object.entries(activities)) worker.addNamedActivity(name, run);
  worker.addNamedEntity("counter", () => new Counter());
  await worker.start();
  const client = new TaskHubGrpcClient(options);
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    if (names.length > 0 && !names.includes(name)) continue;
    const begin = Date.now();
    try {
      await test(client, options);
      console.log(`ok    ${name} (${((Date.now() - begin) / 1000).toFixed(2)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}: ${error.message}`);
    }
  }
  await client.stop();
  await worker.stop();
  await at.end();
  return failed;
}

main(process.argv.slice(2)).then((failed) => process.exit(failed));
