"use strict";
// Human interaction: a refund waits for a yes or a no, and is escalated when neither comes.

const { whenAny } = require("@microsoft/durabletask-js");
const { run, result } = require("./app");

const payBack = async (_ctx, amount) => `${amount} paid back`;
const escalate = async (_ctx, amount) => `${amount} goes to the manager`;

const refund = async function* (ctx, amount) {
  const answer = ctx.waitForExternalEvent("approval");
  const late = ctx.createTimer(60);
  if ((yield whenAny([answer, late])) === late) return yield ctx.callActivity(escalate, amount);
  if (!answer.getResult()) return "refused";
  return yield ctx.callActivity(payBack, amount);
};

run(
  (worker) => {
    worker.addOrchestrator(refund);
    worker.addActivity(payBack);
    worker.addActivity(escalate);
  },
  async (client) => {
    const instance = await client.scheduleNewOrchestration(refund, 120);
    console.log(`within a minute: dalsegno raise ${instance} approval -d true`);
    console.log(await result(client, instance, 120));
  },
);
