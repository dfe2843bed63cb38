"""Human interaction: a refund waits for a yes or a no, and is escalated when neither comes."""

import os
from datetime import timedelta

from durabletask import client, task, worker

ADDRESS = os.getenv("ADDRESS", "localhost:4001")


def pay_back(ctx: task.ActivityContext, amount: int) -> str:
    return f"{amount} paid back"


def escalate(ctx: task.ActivityContext, amount: int) -> str:
    return f"{amount} goes to the manager"


def refund(ctx: task.OrchestrationContext, amount: int):
    answer = ctx.wait_for_external_event("approval")
    late = ctx.create_timer(timedelta(minutes=1))
    if (yield task.when_any([answer, late])) == late:
        return (yield ctx.call_activity(escalate, input=amount))
    if not answer.get_result():
        return "refused"
    return (yield ctx.call_activity(pay_back, input=amount))


if __name__ == "__main__":
    with worker.TaskHubGrpcWorker(host_address=ADDRESS) as w:
        w.add_orchestrator(refund)
        w.add_activity(pay_back)
        w.add_activity(escalate)
        w.start()
        c = client.TaskHubGrpcClient(host_address=ADDRESS)
        instance = c.schedule_new_orchestration(refund, input=120)
        print(f"within a minute: dalsegno raise {instance} approval -d true", flush=True)
        state = c.wait_for_orchestration_completion(instance, timeout=120)
        state.raise_if_failed()
        print(state.serialized_output)
