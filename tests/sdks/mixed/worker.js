"use strict";
// The JavaScript part: takes only what it names.
//
// node worker.js ADDRESS

const { EntityInstanceId, NoOpLogger, TaskHubGrpcWorker } = require("@microsoft/durabletask-js");

class FraudSuspected extends Error {
  constructor(message) {
    super(message);
    this.name = "FraudSuspected";
  }
}

/** Shows the trace that each activity is given; the SDK itself keeps it for OpenTelemetry. */
class TracedWorker extends TaskHubGrpcWorker {
  traces = new Map();

  async _executeActivityInternal(request, ...rest) {
    const instance = request.getOrchestrationinstance()?.getInstanceid();
    this.traces.set(instance, request.getParenttracecontext()?.getTraceparent());
    return super._executeActivityInternal(request, ...rest);
  }
}

const worker = new TracedWorker({
  hostAddress: process.argv[2],
  workItemFilters: "auto",
  logger: new NoOpLogger(),
});

worker.addNamedActivity("CheckFraud", async (_, order) => {
  if (order.id.startsWith("fraud")) throw new FraudSuspected(`${order.id} looks odd`);
});
worker.addNamedActivity("TrackParcel", async (_, label) => `tracking ${label}`);
worker.addNamedActivity("TraceInJavaScript", async (ctx) => worker.traces.get(ctx.orchestrationId));

// JavaScript between Python and Rust: ships by a Rust sub-orchestration, takes from a Rust entity.
worker.addNamedOrchestrator("Deliver", async function* (ctx, order) {
  const left = yield ctx.entities.callEntity(new EntityInstanceId("stock", order.item), "take", 1);
  const shipped = yield ctx.callSubOrchestrator("Ship", order);
  return { left, shipped };
});
// Comes back to Python: the failure of a Rust activity goes up through JavaScript.
worker.addNamedOrchestrator("PriceInRust", async function* (ctx, item) {
  return yield ctx.callActivity("Price", item);
});
worker.addNamedOrchestrator("BookInRust", async function* (ctx, order) {
  return yield ctx.callSubOrchestrator("Book", order);
});

worker.start().then(() => console.log("ready"));
