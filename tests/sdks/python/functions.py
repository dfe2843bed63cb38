"""Orchestrators, activities and an entity as a user of the Python SDK writes them."""

import threading
import time
from datetime import timedelta

from durabletask import entities, task

attempts = {}


def say_hello(ctx, name):
    return f"Hello {name}!"


def increment(ctx, number):
    return number + 1


def flaky(ctx, key):
    attempts[key] = attempts.get(key, 0) + 1
    if attempts[key] < 3:
        raise ValueError(f"attempt {attempts[key]}")
    return attempts[key]


def broken_until_mended(ctx, key):
    if key not in attempts:
        raise RuntimeError("not mended yet")
    return "mended"


def fail(ctx, _):
    raise RuntimeError("boom")


class Crowd:
    """How many are in an activity at once, at most."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0

    def pass_through(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self.lock:
            self.now -= 1
        return self.most


crowd = Crowd()


def limited(ctx, _):
    return crowd.pass_through()


def tagged(ctx, _):
    return crowd.pass_through()


def most_at_once(ctx, name):
    tags = {"dalsegno.limiter": "one", "dalsegno.limiter.key": "k"} if name == "tagged" else None
    most = yield task.when_all([ctx.call_activity(name, input=None, tags=tags) for _ in range(5)])
    return max(most)


def sequence(ctx, name):
    first = yield ctx.call_activity(say_hello, input=name)
    second = yield ctx.call_activity(say_hello, input=first)
    return [first, second]


def fan_out(ctx, count):
    results = yield task.when_all([ctx.call_activity(increment, input=n) for n in range(count)])
    return sum(results)


def large_value(ctx, _):
    return "x" * 600_000


def hoarder(ctx, count):
    values = yield task.when_all([ctx.call_activity(large_value) for _ in range(count)])
    yield ctx.wait_for_external_event("never")
    return len(values)


def sleeper(ctx, seconds):
    begin = ctx.current_utc_datetime
    yield ctx.create_timer(timedelta(seconds=seconds))
    return (ctx.current_utc_datetime - begin).total_seconds()


def two_events(ctx, _):
    first = yield ctx.wait_for_external_event("A")
    second = yield ctx.wait_for_external_event("b")
    return [first, second]


def approval(ctx, seconds):
    approved = ctx.wait_for_external_event("approve")
    timeout = ctx.create_timer(timedelta(seconds=seconds))
    winner = yield task.when_any([approved, timeout])
    return "approved" if winner == approved else "timed out"


def child(ctx, number):
    return (yield ctx.call_activity(increment, input=number))


def parent(ctx, count):
    return (yield task.when_all([ctx.call_sub_orchestrator(child, input=n) for n in range(count)]))


def failing(ctx, _):
    yield ctx.call_activity(fail)


def forgiving_parent(ctx, _):
    try:
        yield ctx.call_sub_orchestrator(failing)
    except task.TaskFailedError as error:
        return error.details.message
    return "nothing failed"


def retrying(ctx, key):
    policy = task.RetryPolicy(
        first_retry_interval=timedelta(milliseconds=100), max_number_of_attempts=5
    )
    return (yield ctx.call_activity(flaky, input=key, retry_policy=policy))


def mendable(ctx, key):
    yield ctx.call_activity(increment, input=1)
    return (yield ctx.call_activity(broken_until_mended, input=key))


def eternal(ctx, count):
    if count == 5:
        return count
    ctx.set_custom_status({"count": count})
    yield ctx.wait_for_external_event("go")
    ctx.continue_as_new(count + 1, save_events=True)


def with_status(ctx, _):
    ctx.set_custom_status({"step": 1})
    yield ctx.wait_for_external_event("go")
    return "done"


def versioned(ctx, _):
    return [ctx.version]


def counter(ctx, amount):
    total = ctx.get_state(int, 0)
    if ctx.operation == "add":
        ctx.set_state(total + amount)
        return total + amount
    if ctx.operation == "get":
        return total
    raise ValueError(f"no operation {ctx.operation}")


def with_entity(ctx, key):
    entity = entities.EntityInstanceId("counter", key)
    ctx.signal_entity(entity, "add", 5)
    return (yield ctx.call_entity(entity, "add", 2))


def with_failing_operation(ctx, key):
    try:
        yield ctx.call_entity(entities.EntityInstanceId("counter", key), "burn", None)
    except Exception as error:
        return str(error)
    return "nothing failed"


def with_lock(ctx, key):
    one = entities.EntityInstanceId("counter", key)
    two = entities.EntityInstanceId("counter", key + "-two")
    with (yield ctx.lock_entities([one, two])):
        total = yield ctx.call_entity(one, "get", None)
        yield ctx.call_entity(two, "add", 1)
        yield ctx.call_entity(one, "add", total + 1)
    return total


ORCHESTRATORS = [
    most_at_once,
    hoarder, sequence, fan_out, sleeper, two_events, approval, child, parent, failing, forgiving_parent,
    retrying, mendable, eternal, with_status, with_entity, with_failing_operation, with_lock,
    versioned,
]
ACTIVITIES = [limited, tagged, large_value, say_hello, increment, flaky, broken_until_mended, fail]


def register(worker):
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
    for activity in ACTIVITIES:
        worker.add_activity(activity)
    worker.add_entity(counter)
    return worker
