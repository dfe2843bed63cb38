"""A program as the scheduler's samples are: endpoint and hub by ENDPOINT and TASKHUB."""

import os

from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker


def say(ctx, name):
    return f"Hello {name}!"


def greet(ctx, name):
    return (yield ctx.call_activity(say, input=name))


endpoint = os.getenv("ENDPOINT", "http://localhost:8080")
taskhub = os.getenv("TASKHUB", "default")
at = dict(
    host_address=endpoint,
    taskhub=taskhub,
    token_credential=None,
    secure_channel=not endpoint.startswith("http://"),
)

with DurableTaskSchedulerWorker(**at) as worker:
    worker.add_orchestrator(greet)
    worker.add_activity(say)
    worker.start()
    client = DurableTaskSchedulerClient(**at)
    instance = client.schedule_new_orchestration(greet, input="Tokyo")
    print(client.wait_for_orchestration_completion(instance, timeout=30).serialized_output)
