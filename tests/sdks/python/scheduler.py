"""The flavour of the SDK that is made for the Durable Task Scheduler: hubs by name.

python scheduler.py [NAME ...]    with the binary's path in DALSEGNO
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
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

    def __init__(self, token="any-token"):
        self.token = token

    def get_token(self, *scopes, **_):
        return AccessToken(self.token, int(time.time()) + 3600)


@test
def a_credential_does_no_harm_on_loopback(server):
    client = DurableTaskSchedulerClient(**at(server, "default", Credential()))
    check(client.get_orchestration_state("nobody"), None)


def key_with(scopes, name, file):
    flags = [flag for scope in scopes for flag in ("--scope", scope)]
    command = [os.environ["DALSEGNO"], "key", "create", name, "--file", file, *flags, "--json"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(made)["secret"]


def refusal(action):
    try:
        action()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("it was not refused")


@test
def a_credential_gives_a_key_and_scopes_hold(_server):
    with tempfile.TemporaryDirectory() as folder:
        keys = os.path.join(folder, "keys.json")
        all_of_it = key_with(["worker", "start", "read"], "app", keys)
        reader = key_with(["read"], "reader", keys)
        server = Server(f'[auth]\nrequired = "always"\nkeys_file = "{keys}"')
        try:
            with DurableTaskSchedulerWorker(**at(server, "default", Credential(all_of_it))) as worker:
                functions.register(worker).start()
                client = DurableTaskSchedulerClient(**at(server, "default", Credential(all_of_it)))
                instance = client.schedule_new_orchestration(functions.sequence, input="x")
                state = client.wait_for_orchestration_completion(instance, timeout=WAIT)
                check(len(output(state)), 2)
            bare = DurableTaskSchedulerClient(**at(server, "default"))
            code, text = refusal(lambda: bare.get_orchestration_state(instance))
            check(code, grpc.StatusCode.UNAUTHENTICATED)
            assert "needs a key" in text, text
            reading = DurableTaskSchedulerClient(**at(server, "default", Credential(reader)))
            check(reading.get_orchestration_state(instance).instance_id, instance)
            code, text = refusal(lambda: reading.schedule_new_orchestration(functions.sequence))
            check(code, grpc.StatusCode.PERMISSION_DENIED)
            assert "start" in text, text
        finally:
            server.end()


@test
def a_hub_that_serve_does_not_have_is_not_found(_server):
    server = Server('hub.name = "orders"')
    try:
        for hub in ("orders", "default"):
            client = DurableTaskSchedulerClient(**at(server, hub))
            check(client.get_orchestration_state("nobody"), None)
        other = DurableTaskSchedulerClient(**at(server, "invoices"))
        code, text = refusal(lambda: other.get_orchestration_state("nobody"))
        check(code, grpc.StatusCode.NOT_FOUND)
        assert 'no task hub "invoices"' in text, text
    finally:
        server.end()


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
