"""What a user of the Python SDK relies on, against a real server.

python patterns.py [NAME ...]    with the binary's path in DALSEGNO
"""

import json
import logging
import sys
import time
import uuid
from datetime import datetime, timedelta, timezone

import functions
from durabletask import entities
from durabletask.client import OrchestrationQuery, OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from server import Server

WAIT = 30
CONFIGURATION = """
[limiter.one]
concurrency = 1
activities = ["limited"]
"""
tests = []


def test(function):
    tests.append(function)
    return function


def finish(client, instance):
    return client.wait_for_orchestration_completion(instance, timeout=WAIT)


def run(client, orchestrator, argument=None, **options):
    instance = client.schedule_new_orchestration(orchestrator, input=argument, **options)
    return finish(client, instance)


def output(state):
    assert state.runtime_status == OrchestrationStatus.COMPLETED, state
    return json.loads(state.serialized_output)


def waiting(client, orchestrator, argument=None):
    instance = client.schedule_new_orchestration(orchestrator, input=argument)
    client.wait_for_orchestration_start(instance, timeout=WAIT)
    return instance


def check(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


@test
def a_sequence(client):
    state = run(client, functions.sequence, "Tokyo")
    check(output(state), ["Hello Tokyo!", "Hello Hello Tokyo!!"])
    check(json.loads(state.serialized_input), "Tokyo")


@test
def a_fan_out_of_1000(client):
    check(output(run(client, functions.fan_out, 1000)), 500500)


@test
def a_timer_is_never_early(client):
    slept = output(run(client, functions.sleeper, 1))
    assert 1 <= slept < 2, slept


@test
def events_are_buffered_and_their_case_does_not_count(client):
    instance = client.schedule_new_orchestration(functions.two_events)
    client.raise_orchestration_event(instance, "b", data=2)
    client.raise_orchestration_event(instance, "a", data=1)
    check(output(finish(client, instance)), [1, 2])


@test
def an_approval_or_a_timeout(client):
    instance = waiting(client, functions.approval, 60)
    client.raise_orchestration_event(instance, "approve")
    check(output(finish(client, instance)), "approved")
    check(output(run(client, functions.approval, 0.2)), "timed out")


@test
def sub_orchestrations(client):
    check(output(run(client, functions.parent, 5)), [1, 2, 3, 4, 5])


@test
def a_failure_comes_up_through_a_child(client):
    message = output(run(client, functions.forgiving_parent))
    assert "boom" in message, message


@test
def a_failure_has_its_kind_and_stack(client):
    state = run(client, functions.failing)
    check(state.runtime_status, OrchestrationStatus.FAILED)
    assert "boom" in state.failure_details.message, state
    assert state.failure_details.stack_trace, state


@test
def retries_with_a_policy(client):
    check(output(run(client, functions.retrying, str(uuid.uuid4()))), 3)


@test
def continue_as_new_keeps_events(client):
    instance = client.schedule_new_orchestration(functions.eternal, input=0)
    for _ in range(5):
        client.raise_orchestration_event(instance, "go")
    check(output(finish(client, instance)), 5)


@test
def custom_status_suspend_and_resume(client):
    instance = waiting(client, functions.with_status)
    check(json.loads(client.get_orchestration_state(instance).serialized_custom_status), {"step": 1})
    client.suspend_orchestration(instance)
    check(client.get_orchestration_state(instance).runtime_status, OrchestrationStatus.SUSPENDED)
    client.suspend_orchestration(instance)
    client.raise_orchestration_event(instance, "go")
    check(client.get_orchestration_state(instance).runtime_status, OrchestrationStatus.SUSPENDED)
    client.resume_orchestration(instance)
    check(output(finish(client, instance)), "done")


@test
def terminate_gives_its_output(client):
    instance = waiting(client, functions.two_events)
    client.terminate_orchestration(instance, output={"why": "so"})
    state = finish(client, instance)
    check(state.runtime_status, OrchestrationStatus.TERMINATED)
    check(json.loads(state.serialized_output), {"why": "so"})
    client.terminate_orchestration(instance)
    client.terminate_orchestration("nobody-" + str(uuid.uuid4()))


@test
def purge_and_what_is_not_there(client):
    state = run(client, functions.sequence, "x")
    check(client.purge_orchestration(state.instance_id).deleted_instance_count, 1)
    check(client.get_orchestration_state(state.instance_id), None)
    check(client.purge_orchestration(state.instance_id).deleted_instance_count, 0)


@test
def restart_with_the_same_and_with_a_new_id(client):
    state = run(client, functions.sequence, "x")
    same = client.restart_orchestration(state.instance_id)
    check(same, state.instance_id)
    check(len(output(finish(client, same))), 2)
    other = client.restart_orchestration(state.instance_id, restart_with_new_instance_id=True)
    assert other != same
    check(len(output(finish(client, other))), 2)


@test
def rewind_after_the_cause_is_mended(client):
    key = str(uuid.uuid4())
    state = run(client, functions.mendable, key)
    check(state.runtime_status, OrchestrationStatus.FAILED)
    functions.attempts[key] = 1
    client.rewind_orchestration(state.instance_id, reason="mended")
    check(output(finish(client, state.instance_id)), "mended")


@test
def entities_are_called_signalled_and_read(client):
    key = str(uuid.uuid4())
    entity = entities.EntityInstanceId("counter", key)
    check(client.get_entity(entity), None)
    check(output(run(client, functions.with_entity, key)), 7)
    check(json.loads(client.get_entity(entity).get_state()), 7)
    client.signal_entity(entity, "add", 3)
    until = time.time() + WAIT
    while json.loads(client.get_entity(entity).get_state()) != 10:
        assert time.time() < until, "the signal has no effect"
        time.sleep(0.05)
    assert "burn" in output(run(client, functions.with_failing_operation, key))
    check(json.loads(client.get_entity(entity).get_state()), 10)


@test
def a_critical_section(client):
    key = str(uuid.uuid4())
    check(output(run(client, functions.with_lock, key)), 0)
    check(output(run(client, functions.with_lock, key)), 1)
    entity = client.get_entity(entities.EntityInstanceId("counter", key))
    check(json.loads(entity.get_state()), 3)


@test
def an_id_is_used_once(client):
    instance = waiting(client, functions.two_events)
    try:
        client.schedule_new_orchestration(functions.two_events, instance_id=instance)
        raise AssertionError("started twice")
    except Exception as error:
        assert "already exists" in str(error), error
    client.terminate_orchestration(instance)
    finish(client, instance)
    client.schedule_new_orchestration(functions.sequence, input="y", instance_id=instance)
    check(len(output(finish(client, instance))), 2)


@test
def a_scheduled_start(client):
    at = datetime.now(timezone.utc) + timedelta(seconds=1)
    instance = client.schedule_new_orchestration(functions.sequence, input="x", start_at=at)
    check(client.get_orchestration_state(instance).runtime_status, OrchestrationStatus.PENDING)
    check(len(output(finish(client, instance))), 2)


@test
def queries_page_through_all(client):
    prefix = str(uuid.uuid4())
    for number in range(7):
        run(client, functions.child, number, instance_id=f"{prefix}-{number}")
    query = OrchestrationQuery(max_instance_count=3, fetch_inputs_and_outputs=True)
    found = client.get_all_orchestration_states(query)
    own = [state for state in found if state.instance_id.startswith(prefix)]
    check(sorted(json.loads(state.serialized_output) for state in own), list(range(1, 8)))


@test
def a_version_is_kept_and_reaches_the_code(client):
    check(output(run(client, functions.versioned)), [None])
    state = run(client, functions.versioned, version="2.1")
    check(output(state), ["2.1"])
    again = client.restart_orchestration(state.instance_id, restart_with_new_instance_id=True)
    check(output(finish(client, again)), ["2.1"])


@test
def history_is_read(client):
    state = run(client, functions.sequence, "x")
    events = [type(event).__name__ for event in client.get_orchestration_history(state.instance_id)]
    tasks = [name for name in events if name.startswith("Task")]
    check(tasks, ["TaskScheduledEvent", "TaskCompletedEvent"] * 2)
    check(events[-1], "ExecutionCompletedEvent")


@test
def a_limiter_holds_by_configuration_and_by_tag(client):
    check(output(run(client, functions.most_at_once, "limited")), 1)
    check(output(run(client, functions.most_at_once, "tagged")), 1)


def main(names):
    logging.getLogger("durabletask").setLevel(logging.ERROR)
    server = Server(CONFIGURATION)
    failed = 0
    try:
        quiet = logging.getLogger("durabletask")
        with TaskHubGrpcWorker(host_address=server.address, logger=quiet) as worker:
            functions.register(worker).start()
            client = TaskHubGrpcClient(host_address=server.address, logger=quiet)
            for function in tests:
                if names and function.__name__ not in names:
                    continue
                begin = time.time()
                try:
                    function(client)
                    print(f"ok    {function.__name__} ({time.time() - begin:.2f} s)", flush=True)
                except Exception as error:
                    failed += 1
                    print(f"FAIL  {function.__name__}: {type(error).__name__}: {error}", flush=True)
        wrong = server.verify()
        if wrong:
            failed += 1
            print(f"FAIL  what is left is sound: {wrong}", flush=True)
    finally:
        server.end()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
