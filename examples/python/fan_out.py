"""Fan-out, fan-in: counts the words of many texts at once, and adds the counts up.

Kill it in the middle, with `kill -9` if you like, and run it again: it goes on with the counts that
are recorded.
"""

import os
import time

from durabletask import client, task, worker

ADDRESS = os.getenv("ADDRESS", "localhost:4001")
TEXTS = [f"this is text number {number}" for number in range(50)]


def count_words(ctx: task.ActivityContext, text: str) -> int:
    time.sleep(float(os.getenv("SECONDS_PER_TEXT", "0.5")))
    return len(text.split())


def count_all(ctx: task.OrchestrationContext, texts: list[str]):
    counts = yield task.when_all([ctx.call_activity(count_words, input=text) for text in texts])
    return sum(counts)


def find_or_start(c: client.TaskHubGrpcClient, instance: str) -> None:
    state = c.get_orchestration_state(instance)
    if state and state.runtime_status in (
        client.OrchestrationStatus.PENDING,
        client.OrchestrationStatus.RUNNING,
    ):
        print("going on with the one that was cut off")
    else:
        c.schedule_new_orchestration(count_all, input=TEXTS, instance_id=instance)


if __name__ == "__main__":
    few = worker.ConcurrencyOptions(maximum_concurrent_activity_work_items=5)
    with worker.TaskHubGrpcWorker(host_address=ADDRESS, concurrency_options=few) as w:
        w.add_orchestrator(count_all)
        w.add_activity(count_words)
        w.start()
        c = client.TaskHubGrpcClient(host_address=ADDRESS)
        find_or_start(c, "count-all")
        state = c.wait_for_orchestration_completion("count-all", timeout=60)
        state.raise_if_failed()
        print(f"{state.serialized_output} words in {len(TEXTS)} texts")
