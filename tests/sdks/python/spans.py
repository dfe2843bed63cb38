"""One trace of an orchestration, told of by the SDK and the server together, against a real receiver.

python spans.py [NAME ...]    with the binary's path in DALSEGNO
"""

import http.server
import logging
import subprocess
import sys
import threading
from collections import Counter

import functions
from durabletask.client import TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from server import Server

WAIT = 30
KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


class Receiver:
    """Keeps the spans it gets, as (service, span)."""

    def __init__(self):
        self.spans = []
        spans = self.spans

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
                for of_resource in request.resource_spans:
                    attributes = {a.key: a.value.string_value for a in of_resource.resource.attributes}
                    for scope in of_resource.scope_spans:
                        spans.extend((attributes["service.name"], span) for span in scope.spans)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}"

    def shown(self):
        return sorted((service, span.name, KINDS[span.kind]) for service, span in self.spans)

    def end(self):
        self.http.shutdown()


def run(receiver):
    """An orchestration of two activities; the server sends what waits when it ends."""
    server = Server(f'grpc.workers = "this-hub"\ntraces.endpoint = "{receiver.url}"')
    worker = TaskHubGrpcWorker(host_address=server.address)
    worker.add_activity(functions.say_hello)
    worker.add_orchestrator(functions.sequence)
    worker.start()
    client = TaskHubGrpcClient(host_address=server.address)
    instance = client.schedule_new_orchestration(functions.sequence, input="Tokyo")
    client.wait_for_orchestration_completion(instance, timeout=WAIT)
    worker.stop()
    server.end()


def check(actual, expected):
    assert actual == expected, f"{actual!r} instead of {expected!r}"


def below(receiver):
    """Names by which each span is below which other; the trace is one."""
    check(len({span.trace_id for _, span in receiver.spans}), 1)
    check(max(Counter(span.span_id for _, span in receiver.spans).values()), 1)
    by_id = {span.span_id: f"{span.name} {KINDS[span.kind]}" for _, span in receiver.spans}
    parent = lambda span: by_id[span.parent_span_id] if span.parent_span_id else None
    return {(by_id[span.span_id], parent(span)) for _, span in receiver.spans}


def the_server_tells_of_all_where_the_sdk_does_not(receiver):
    run(receiver)
    own = [("activity:say_hello", "client")] * 2
    own += [("create_orchestration:sequence", "producer"), ("orchestration:sequence", "server")]
    check(receiver.shown(), sorted(("dalsegno", *one) for one in own))
    creation, orchestration = "create_orchestration:sequence producer", "orchestration:sequence server"
    wanted = {(creation, None), (orchestration, creation), ("activity:say_hello client", orchestration)}
    check(below(receiver), wanted)


def no_span_is_told_of_twice_where_the_sdk_tells(receiver):
    provider = TracerProvider(resource=Resource.create({"service.name": "worker"}))
    exporter = OTLPSpanExporter(endpoint=f"{receiver.url}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    run(receiver)
    provider.shutdown()
    shown = receiver.shown()
    check([one for one in shown if one[0] == "dalsegno"], [("dalsegno", "activity_queue:say_hello", "internal")] * 2)
    theirs = Counter(one[1:] for one in shown if one[0] == "worker")
    check(theirs["orchestration:sequence", "server"], 1)
    check(theirs["create_orchestration:sequence", "producer"], 1)
    check(theirs["activity:say_hello", "server"], 2)
    for child, parent in below(receiver):
        assert parent or child.startswith("create_orchestration:"), f"{child} is below nothing"


TESTS = [the_server_tells_of_all_where_the_sdk_does_not, no_span_is_told_of_twice_where_the_sdk_tells]


def main():
    logging.disable(logging.CRITICAL)
    wanted = sys.argv[1:]
    if not wanted:
        # A process has one provider, so each has a process of its own.
        for test in TESTS:
            subprocess.run([sys.executable, __file__, test.__name__], check=True)
        return
    for test in TESTS:
        if test.__name__ in wanted:
            receiver = Receiver()
            test(receiver)
            receiver.end()
            print(f"ok {test.__name__}")


if __name__ == "__main__":
    main()
