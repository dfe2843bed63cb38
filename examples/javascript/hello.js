"use strict";
// Function chaining: greets three cities, one after the other.

const { run, result } = require("./app");

const sayHello = async (_ctx, city) => `Hello ${city}!`;

const hello = async function* (ctx, cities) {
  const greetings = [];
  for (const city of cities) greetings.push(yield ctx.callActivity(sayHello, city));
  return greetings;
};

run(
  (worker) => {
    worker.addOrchestrator(hello);
    worker.addActivity(sayHello);
  },
  async (client) => {
    const instance = await client.scheduleNewOrchestration(hello, ["Tokyo", "Seattle", "London"]);
    console.log(await result(client, instance));
  },
);
