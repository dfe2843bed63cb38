"""Workers and servers that are killed in the middle: nothing is lost, nothing waits for ever.

python deaths.py    with the binary's path in DALSEGNO
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import uuid

import functions
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from server import Server

WAIT = 120
QUIET = logging.getLogger("quiet")
QUIET.setLevel(logging.CRITICAL)


def worker_process(address):
    """A worker that can be killed."""
    code = (
        "import sys, time, logging, functions\n"
        "from durabletask.worker import TaskHubGrpcWorker\n"
        "quiet = logging.getLogger('quiet')\n"
        "quiet.setLevel(logging.CRITICAL)\n"
        "worker = TaskHubGrpcWorker(host_address=sys.argv[1], logger=quiet)\n"
        "functions.register(worker).start()\n"
        "time.sleep(3600)\n"
    )
    folder = os.path.dirname(os.path.abspath(__file__))
    return subprocess.Popen([sys.executable, "-c", code, address], cwd=folder, stderr=subprocess.DEVNULL)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def output(client, instance):
    state = client.wait_for_orchestration_completion(instance, timeout=WAIT)
    assert state.runtime_status == OrchestrationStatus.COMPLETED, state
    return json.loads(state.serialized_output)


def a_killed_worker(server):
    """Killed in every phase of a fan-out; another takes its work over at once."""
    client = TaskHubGrpcClient(host_address=server.address, logger=QUIET)
    for delay in (0.05, 0.2, 0.5, 1.0):
        worker = worker_process(server.address)
        instances = [client.schedule_new_orchestration(functions.fan_out, input=300) for _ in range(3)]
        time.sleep(0.6 + delay)
        kill(worker)
        worker = worker_process(server.address)
        for instance in instances:
            assert output(client, instance) == 45150
        kill(worker)


def a_killed_server(server):
    """Killed under load; workers and clients come back by themselves."""
    worker = worker_process(server.address)
    client = TaskHubGrpcClient(host_address=server.address, logger=QUIET)
    prefix = str(uuid.uuid4())
    started = []
    for round in range(3):
        for number in range(10):
            instance = f"{prefix}-{round}-{number}"
            client.schedule_new_orchestration(functions.fan_out, input=50, instance_id=instance)
            started.append(instance)
        time.sleep(0.1 * round)
        server.kill()
        server.start()
        client = TaskHubGrpcClient(host_address=server.address, logger=QUIET)
    for instance in started:
        assert output(client, instance) == 1275
    kill(worker)


def nobody_is_there(server):
    """Without a worker an instance waits, says so, takes commands, and goes on when one comes."""
    client = TaskHubGrpcClient(host_address=server.address, logger=QUIET)
    instance = client.schedule_new_orchestration(functions.two_events)
    client.raise_orchestration_event(instance, "a", data=1)
    state = client.get_orchestration_state(instance)
    assert state.runtime_status == OrchestrationStatus.PENDING, state
    told = shown(server, instance)
    assert "waits for a worker" in told, told
    other = client.schedule_new_orchestration(functions.two_events)
    client.terminate_orchestration(other)
    ended = client.wait_for_orchestration_completion(other, timeout=WAIT)
    assert ended.runtime_status == OrchestrationStatus.TERMINATED, ended
    worker = worker_process(server.address)
    client.raise_orchestration_event(instance, "b", data=2)
    assert output(client, instance) == [1, 2]
    kill(worker)


def too_large_a_turn(server):
    """A history that the worker cannot receive parks its instance; others go on."""
    client = TaskHubGrpcClient(host_address=server.address, logger=QUIET)
    worker = worker_process(server.address)
    instance = client.schedule_new_orchestration(functions.hoarder, input=10)
    until = time.time() + WAIT
    while "Oversized" not in shown(server, instance):
        assert time.time() < until, shown(server, instance)
        time.sleep(0.2)
    other = client.schedule_new_orchestration(functions.fan_out, input=10)
    assert output(client, other) == 55
    kill(worker)


def shown(server, instance):
    """What `dalsegno get` says of an instance."""
    return subprocess.run(
        [os.environ["DALSEGNO"], "--server", f"http://{server.address}", "get", instance],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def main():
    failed = 0
    for test in (too_large_a_turn, nobody_is_there, a_killed_worker, a_killed_server):
        server = Server()
        begin = time.time()
        try:
            test(server)
            print(f"ok    {test.__name__} ({time.time() - begin:.2f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAIL  {test.__name__}: {type(error).__name__}: {error}", flush=True)
        finally:
            server.end()
    return failed


if __name__ == "__main__":
    sys.exit(main())
