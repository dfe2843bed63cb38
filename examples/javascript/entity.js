"use strict";
// Entities: two accounts, and a transfer that nobody sees half done.

const { EntityInstanceId, TaskEntity } = require("@microsoft/durabletask-js");
const { run, result } = require("./app");

class Account extends TaskEntity {
  initializeState() {
    return 0;
  }
  deposit(amount) {
    this.state += amount;
    return this.state;
  }
  withdraw(amount) {
    if (this.state < amount) throw new Error(`${this.state} there, ${amount} wanted`);
    this.state -= amount;
    return this.state;
  }
}

const transfer = async function* (ctx, amount) {
  const giver = new EntityInstanceId("savings", "ada");
  const taker = new EntityInstanceId("savings", "bob");
  yield ctx.entities.callEntity(giver, "deposit", amount);
  const lock = yield ctx.entities.lockEntities(giver, taker);
  try {
    const ada = yield ctx.entities.callEntity(giver, "withdraw", amount);
    const bob = yield ctx.entities.callEntity(taker, "deposit", amount);
    return { ada, bob };
  } finally {
    lock.release();
  }
};

run(
  (worker) => {
    worker.addOrchestrator(transfer);
    worker.addNamedEntity("savings", () => new Account());
  },
  async (client) => {
    const instance = await client.scheduleNewOrchestration(transfer, 100);
    console.log(await result(client, instance));
  },
);
