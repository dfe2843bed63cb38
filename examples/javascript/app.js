"use strict";
// What the examples share: a worker and a client in one process, until the work is done.

const { NoOpLogger, TaskHubGrpcClient, TaskHubGrpcWorker } = require("@microsoft/durabletask-js");

const options = {
  hostAddress: process.env.ADDRESS ?? "localhost:4001",
  logger: new NoOpLogger(), // leave it out to see every event
};

/** Runs `work` with a client while a worker offers what `register` adds to it. */
async function run(register, work) {
  const worker = new TaskHubGrpcWorker(options);
  register(worker);
  await worker.start();
  const client = new TaskHubGrpcClient(options);
  try {
    await work(client);
  } finally {
    await client.stop();
    await worker.stop();
  }
}

/** The output of an instance, once it is completed. */
async function result(client, instance, seconds = 60) {
  const state = await client.waitForOrchestrationCompletion(instance, true, seconds);
  state.raiseIfFailed();
  return state.serializedOutput;
}

module.exports = { run, result };
