"""Entities: two accounts, and a transfer that nobody sees half done."""

import os

from durabletask import client, entities, task, worker

ADDRESS = os.getenv("ADDRESS", "localhost:4001")


class Account(entities.DurableEntity):
    def deposit(self, amount: int) -> int:
        balance = self.get_state(int, 0) + amount
        self.set_state(balance)
        return balance

    def withdraw(self, amount: int) -> int:
        balance = self.get_state(int, 0)
        if balance < amount:
            raise ValueError(f"{balance} there, {amount} wanted")
        self.set_state(balance - amount)
        return balance - amount


def transfer(ctx: task.OrchestrationContext, amount: int):
    giver = entities.EntityInstanceId("Account", "ada")
    taker = entities.EntityInstanceId("Account", "bob")
    yield ctx.call_entity(giver, "deposit", amount)
    with (yield ctx.lock_entities([giver, taker])):
        left = yield ctx.call_entity(giver, "withdraw", amount)
        there = yield ctx.call_entity(taker, "deposit", amount)
    return {"ada": left, "bob": there}


if __name__ == "__main__":
    with worker.TaskHubGrpcWorker(host_address=ADDRESS) as w:
        w.add_orchestrator(transfer)
        w.add_entity(Account)
        w.start()
        c = client.TaskHubGrpcClient(host_address=ADDRESS)
        instance = c.schedule_new_orchestration(transfer, input=100)
        state = c.wait_for_orchestration_completion(instance, timeout=60)
        state.raise_if_failed()
        print(state.serialized_output)
