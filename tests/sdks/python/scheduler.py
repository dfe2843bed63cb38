"""The flavour of the SDK that is made for the Durable Task Scheduler: hubs by name.

python scheduler.py [NAME ...]    with the binary's path in DALSEGNO
"""

import json
import logging
import os
import subprocess
import sys
import time

import functions
import grpc
from azure.core.credentials import AccessToken
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.client import OrchestrationStatus
from server import Server

WAIT = 30
QUIET = logging.getLogger("quiet")
QUIET.setLevel(logging.CRITICAL)
tests = []


def test(function):
    tests.append(function)
    return function


def at(server, hub, credential=None):
    return dict(
        host_address=f"http://{server.address}",
        taskhub=hub,
        token_credential=credential,
        secure_channel=False,
        logger=QUIET,
    )


def output(state):
    assert state.runtime_status == OrchestrationStatus.COMPLETED, state
    return json.loads(state.serialized_output)


def check(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def program(server, hub):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "scheduler_program.py")
    surroundings = {**os.environ, "ENDPOINT": f"http://{server.address}", "TASKHUB": hub}
    command = [sys.executable, path]
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=60)


@test
def a_program_of_the_samples_runs_as_it_is(server):
    for hub in ("default", "orders"):
        ended = program(server, hub)
        check((ended.stdout, ended.returncode), ('"Hello Tokyo!"\n', 0))


@test
def hubs_do_not_see_each_other(server):
    clients = {hub: DurableTaskSchedulerClient(**at(server, hub)) for hub in ("north", "south")}
    with DurableTaskSchedulerWorker(**at(server, "north")) as worker:
        functions.register(worker).start()
        for client in clients.values():
            client.schedule_new_orchestration(functions.sequence, input="x", instance_id="same-id")
        state = clients["north"].wait_for_orchestration_completion("same-id", timeout=WAIT)
        check(len(output(state)), 2)
        only_north = clients["north"].schedule_new_orchestration(functions.sequence, input="y")
        clients["north"].wait_for_orchestration_completion(only_north, timeout=WAIT)
        check(clients["south"].get_orchestration_state(only_north), None)
        # The worker of the other hub took nothing of this one.
        waits = clients["south"].get_orchestration_state("same-id").runtime_status
        check(waits, OrchestrationStatus.PENDING)
        check([state.instance_id for state in clients["south"].get_all_orchestration_states()], ["same-id"])


@test
def a_hub_lives_on_over_a_restart(server):
    client = DurableTaskSchedulerClient(**at(server, "kept"))
    client.schedule_new_orchestration(functions.sequence, input="x", instance_id="kept")
    server.kill()
    server.start()
    with DurableTaskSchedulerWorker(**at(server, "kept")) as worker:
        functions.register(worker).start()
        until = time.time() + WAIT
        while True:
            try:
                state = client.wait_for_orchestration_completion("kept", timeout=WAIT)
                break
            except grpc.RpcError as error:
                # A channel whose server was away refuses calls until its own back-off is over.
                if error.code() != grpc.StatusCode.UNAVAILABLE or time.time() > until:
                    raise
                time.sleep(0.2)
        check(len(output(state)), 2)


@test
def a_name_that_is_none_of_a_hub_is_refused_and_says_why(server):
    for hub in ("../other", "a hub", "x" * 46):
        client = DurableTaskSchedulerClient(**at(server, hub))
        try:
            client.schedule_new_orchestration(functions.sequence, input="x")
            raise AssertionError(f"{hub} was taken")
        except grpc.RpcError as error:
            check(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
            assert "is no name of a task hub" in error.details(), error.details()
            assert "letters, digits" in error.details(), error.details()


class Credential:
    """Gives a token as the scheduler's credentials do."""

    def get_token(self, *scopes, **_):
        return AccessToken("any-token", int(time.time()) + 3600)


@test
def a_credential_does_no_harm_on_loopback(server):
    client = DurableTaskSchedulerClient(**at(server, "default", Credential()))
    check(client.get_orchestration_state("nobody"), None)


def main(names):
    server = Server()
    failed = 0
    try:
        for function in tests:
            if names and function.__name__ not in names:
                continue
            begin = time.time()
            try:
                function(server)
                print(f"ok    {function.__name__} ({time.time() - begin:.2f} s)", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAIL  {function.__name__}: {type(error).__name__}: {error}", flush=True)
    finally:
        server.end()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
