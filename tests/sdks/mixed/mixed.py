"""One hub, three languages: a Rust host, a Python worker and a JavaScript worker.

python mixed.py [NAME ...]    with the path of examples/mixed's binary in MIXED; node finds
@microsoft/durabletask-js from this folder upwards, or by NODE_PATH
"""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid

import grpc
from durabletask import entities, task
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker

WAIT = 30
HERE = os.path.dirname(os.path.abspath(__file__))
QUIET = logging.getLogger("quiet")
QUIET.setLevel(logging.CRITICAL)
tests = []


def test(function):
    tests.append(function)
    return function


class Host:
    """The Rust host, which can be killed and started again on the same folder."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"localhost:{self.port}"
        self.folder = tempfile.mkdtemp(prefix="dalsegno-mixed-")
        self.start()

    def start(self):
        command = [os.environ["MIXED"], str(self.port), self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert "workers connect" in line, f"the host did not start: {line!r}"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, path, body=None, headers=()):
        url = f"http://127.0.0.1:{self.port}{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers=dict(headers))
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            return json.loads(answer.read() or "null")


def javascript_worker(address):
    process = subprocess.Popen(
        ["node", os.path.join(HERE, "worker.js"), address], stdout=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    assert line.strip() == "ready", f"the JavaScript worker did not start: {line!r}"
    return process


class TracedWorker(TaskHubGrpcWorker):
    """Shows the trace that each activity is given; the SDK itself keeps it for OpenTelemetry."""

    traces = {}

    def _on_activity_execution_started(self, req):
        self.traces[req.orchestrationInstance.instanceId] = req.parentTraceContext.traceParent


def print_label(ctx, order):
    return f"{order['item']} for {order['id']}"


def trace_in_python(ctx, _):
    return TracedWorker.traces.get(ctx.orchestration_id)


def ledger(ctx, amount):
    if ctx.operation != "add":
        raise ValueError(f"no operation {ctx.operation}")
    total = ctx.get_state(int, 0) + amount
    ctx.set_state(total)
    return total


def checkout(ctx, order):
    """Python, which asks Rust for a price and JavaScript for the rest; that asks Rust and Python."""
    price = yield ctx.call_activity("Price", input=order["item"])
    delivered = yield ctx.call_sub_orchestrator("Deliver", input=order)
    return {"price": price, **delivered}


def price_or_failure(ctx, by_javascript):
    try:
        if by_javascript:
            return (yield ctx.call_sub_orchestrator("PriceInRust", input="gold"))
        return (yield ctx.call_activity("Price", input="gold"))
    except task.TaskFailedError as error:
        return [error.details.error_type, error.details.message]


def stock(ctx, request):
    operation, item, count = request
    return (yield ctx.call_entity(entities.EntityInstanceId("stock", item), operation, count))


def stock_failure(ctx, item):
    try:
        yield ctx.call_entity(entities.EntityInstanceId("stock", item), "take", 10**6)
    except Exception as error:
        return str(error)
    return "nothing failed"


def book_by_rust(ctx, order):
    """Python → JavaScript → Rust → JavaScript and Python, and back."""
    return (yield ctx.call_sub_orchestrator("BookInRust", input=order))


def stops_when_asked(ctx, _):
    cancelled = ctx.wait_for_external_event("dalsegno.cancel")
    finished = ctx.wait_for_external_event("finished")
    if (yield task.when_any([cancelled, finished])) == cancelled:
        return f"stopped: {cancelled.get_result()}"
    return "finished"


def traces(ctx, _):
    names = ["TraceInRust", "trace_in_python", "TraceInJavaScript"]
    return (yield task.when_all([ctx.call_activity(name) for name in names]))


ORCHESTRATORS = [
    checkout, price_or_failure, stock, stock_failure, book_by_rust, stops_when_asked, traces,
]


def python_worker(address):
    worker = TracedWorker(host_address=address, logger=QUIET)
    for orchestrator in ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
    worker.add_activity(print_label)
    worker.add_activity(trace_in_python)
    worker.add_entity(ledger)
    worker.use_work_item_filters()
    worker.start()
    return worker


def run(client, orchestrator, argument=None):
    instance = client.schedule_new_orchestration(orchestrator, input=argument)
    return output(client.wait_for_orchestration_completion(instance, timeout=WAIT))


def finished(client, instance):
    """Waits; a channel whose server was away refuses calls until its own back-off is over."""
    until = time.time() + 4 * WAIT
    while True:
        try:
            return client.wait_for_orchestration_completion(instance, timeout=4 * WAIT)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.time() > until:
                raise
            time.sleep(0.2)


def output(state):
    assert state.runtime_status == OrchestrationStatus.COMPLETED, state
    return json.loads(state.serialized_output)


def check(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def order(item="tea", id=None):
    return {"id": id or str(uuid.uuid4()), "item": item}


@test
def python_rust_javascript_and_back(host, client):
    bought = order()
    check(run(client, stock, ["add", "tea", 5]), 5)
    label = f"tea for {bought['id']}"
    expected = {"price": 450, "left": 4, "shipped": [label, f"tracking {label}"]}
    check(run(client, checkout, bought), expected)


@test
def a_failure_in_rust_reaches_python(host, client):
    kind, message = run(client, price_or_failure, False)
    check(kind, "UnknownItem")
    assert "is not sold here" in message, message


@test
def a_failure_in_rust_reaches_python_through_javascript(host, client):
    _, message = run(client, price_or_failure, True)
    assert "is not sold here" in message, message


@test
def a_failure_in_javascript_reaches_rust_with_kind_message_and_stack(host, client):
    refused = run(client, book_by_rust, order(id=f"fraud-{uuid.uuid4()}"))["Err"]
    check(refused["kind"], "FraudSuspected")
    assert "looks odd" in refused["message"], refused
    assert "worker.js" in refused["stack"], refused


@test
def an_entity_in_rust_is_called_from_python(host, client):
    check(run(client, stock, ["add", "cup", 3]), 3)
    check(run(client, stock, ["take", "cup", 2]), 1)
    assert "1000000 wanted, 1 left" in run(client, stock_failure, "cup")
    state = client.get_entity(entities.EntityInstanceId("stock", "cup"))
    check(json.loads(state.get_state()), {"level": 1})


@test
def an_entity_in_python_is_called_from_rust(host, client):
    bought = order()
    check(run(client, book_by_rust, bought), {"Ok": 450})
    check(run(client, book_by_rust, bought), {"Ok": 900})


@test
def a_request_to_cancel_reaches_python_as_an_event(host, client):
    instance = client.schedule_new_orchestration(stops_when_asked)
    client.wait_for_orchestration_start(instance, timeout=WAIT)
    host.call("POST", f"/runtime/dalsegno/v1/instances/{instance}/cancel?reason=sold%20out")
    state = client.wait_for_orchestration_completion(instance, timeout=WAIT)
    check(json.loads(state.serialized_output), "stopped: sold out")


@test
def a_trace_reaches_the_activities_of_all_three(host, client):
    trace = uuid.uuid4().hex
    started = host.call(
        "POST",
        "/runtime/dalsegno/v1/orchestrators/traces",
        {},
        {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
    )
    found = output(client.wait_for_orchestration_completion(started["id"], timeout=WAIT))
    check([header.split("-")[1] for header in found], [trace] * 3)


@test
def the_host_is_killed_and_all_come_back(host, client):
    instances = []
    run(client, stock, ["add", "tea", 100])
    for _ in range(20):
        instances.append(client.schedule_new_orchestration(checkout, input=order()))
    host.kill()
    host.start()
    for instance in instances:
        check(output(finished(client, instance))["price"], 450)


def main(names):
    host = Host()
    failed = 0
    javascript = javascript_worker(host.address)
    try:
        with python_worker(host.address):
            client = TaskHubGrpcClient(host_address=host.address, logger=QUIET)
            for function in tests:
                if names and function.__name__ not in names:
                    continue
                begin = time.time()
                try:
                    function(host, client)
                    print(f"ok    {function.__name__} ({time.time() - begin:.2f} s)", flush=True)
                except Exception as error:
                    failed += 1
                    print(f"FAIL  {function.__name__}: {type(error).__name__}: {error}", flush=True)
    finally:
        javascript.kill()
        host.end()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
