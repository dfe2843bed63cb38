"use strict";
// Fan-out, fan-in: counts the words of many texts at once, and adds the counts up.
//
// Kill it in the middle, with `kill -9` if you like, and run it again: it goes on with the counts
// that are recorded.

const { OrchestrationStatus, whenAll } = require("@microsoft/durabletask-js");
const { setTimeout: sleep } = require("node:timers/promises");
const { run, result } = require("./app");

const TEXTS = Array.from({ length: 50 }, (_, number) => `this is text number ${number}`);

const countWords = async (_ctx, text) => {
  const words = text.split(" ");
  await sleep(100 * Number(words.at(-1))); // later texts take longer, the last one five seconds
  return words.length;
};

const countAllWords = async function* (ctx, texts) {
  const counts = yield whenAll(texts.map((text) => ctx.callActivity(countWords, text)));
  return counts.reduce((sum, count) => sum + count, 0);
};

const UNFINISHED = [OrchestrationStatus.PENDING, OrchestrationStatus.RUNNING];

async function findOrStart(client, instance) {
  const state = await client.getOrchestrationState(instance, false);
  if (state && UNFINISHED.includes(state.runtimeStatus)) {
    console.log("going on with the one that was cut off");
  } else {
    await client.scheduleNewOrchestration(countAllWords, TEXTS, instance);
  }
}

run(
  (worker) => {
    worker.addOrchestrator(countAllWords);
    worker.addActivity(countWords);
  },
  async (client) => {
    await findOrStart(client, "count-all-words");
    console.log(`${await result(client, "count-all-words")} words in ${TEXTS.length} texts`);
  },
);
