"""Function chaining: greets three cities, one after the other."""

import os

from durabletask import client, task, worker

ADDRESS = os.getenv("ADDRESS", "localhost:4001")


def say_hello(ctx: task.ActivityContext, city: str) -> str:
    return f"Hello {city}!"


def hello(ctx: task.OrchestrationContext, cities: list[str]):
    greetings = []
    for city in cities:
        greetings.append((yield ctx.call_activity(say_hello, input=city)))
    return greetings


if __name__ == "__main__":
    with worker.TaskHubGrpcWorker(host_address=ADDRESS) as w:
        w.add_orchestrator(hello)
        w.add_activity(say_hello)
        w.start()
        c = client.TaskHubGrpcClient(host_address=ADDRESS)
        instance = c.schedule_new_orchestration(hello, input=["Tokyo", "Seattle", "London"])
        state = c.wait_for_orchestration_completion(instance, timeout=60)
        state.raise_if_failed()
        print(state.serialized_output)
