from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.runtime.running_instances import SHARE, Starter, running

from fastgshare.dispatch.frames import Decoder, Failed, Hello, Ready, Result, encode
from fastgshare.domain.functions import Function
from fastgshare.spec.functions import dump

HandlerFile = Callable[[str], Path]

ECHO = """
from fastgshare.runtime.handlers import BadRequest

def echo(request):
    if request.body == b"raise":
        raise KeyError("colour")
    if request.body == b"bad":
        raise BadRequest("bodies are never bad")
    if request.body == b"exit":
        raise SystemExit(3)
    return request.body
"""


def test_a_plain_function_answers(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file(ECHO)}:echo")
    (reply,) = instance.ask(b"hello")
    assert (reply.status, reply.body, reply.headers) == (200, b"hello", (("Content-Type", "application/octet-stream"),))


def test_a_handler_that_raises_fails_its_request_and_nothing_else(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file(ECHO)}:echo", batch=8)
    raised, fine, bad, left = instance.ask(b"raise", b"fine", b"bad", b"exit")
    assert (raised.status, raised.body) == (500, b"the handler failed: KeyError: 'colour'\n")
    assert (fine.status, fine.body) == (200, b"fine")
    assert (bad.status, bad.body) == (400, b"bodies are never bad\n")
    assert (left.status, left.body) == (500, b"the handler failed: SystemExit: 3\n")
    assert instance.ask(b"on")[0].status == 200
    instance.stop()
    assert 'raise KeyError("colour")' in instance.log()


BATCHES = """
from fastgshare.runtime.handlers import BadRequest

class Lengths:
    def __init__(self, context):
        self.context = context
        self.sizes = []

    def handle(self, requests):
        self.sizes.append(len(requests))
        if any(r.body == b"poison" for r in requests):
            raise ValueError("poison")
        return [BadRequest("empty") if not r.body else {"length": len(r.body), "calls": self.sizes} for r in requests]
"""


def test_a_class_gets_whole_batches(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file(BATCHES)}:Lengths", batch=4)
    replies = instance.ask(b"a", b"", b"ccc")
    assert [r.status for r in replies] == [200, 400, 200]
    assert json.loads(replies[2].body) == {"length": 3, "calls": [3]}


def test_a_batch_that_fails_is_tried_one_by_one(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file(BATCHES)}:Lengths", batch=4)
    replies = instance.ask(b"a", b"poison", b"ccc")
    assert [r.status for r in replies] == [200, 500, 200]
    assert replies[1].body == b"the handler failed: ValueError: poison\n"
    assert json.loads(replies[2].body)["calls"] == [3, 1, 1, 1]


RESULTS = """
import os
import sys

from fastgshare.runtime.handlers import Response

def answer(request):
    match request.body:
        case b"text": return "text ä"
        case b"list": return [1, "a", None]
        case b"none": return None
        case b"response": return Response(201, "made", headers={"X-Made": "yes"})
        case b"teapot": return Response(418, b"", "image/png")
        case b"status": return Response(42, b"")
        case b"header": return Response(headers={"X": "a\\r\\nb: c"})
        case b"object": return object()
        case b"nan": return {"x": float("nan")}
        case b"env": return {k: os.environ.get(k) for k in ("OMP_NUM_THREADS", "COLOUR")}
        case b"numpy":
            import numpy
            return {"x": numpy.float32(1.5), "y": numpy.arange(3)}
"""


@pytest.mark.parametrize(
    ("body", "status", "answer", "content_type"),
    [
        (b"text", 200, "text ä".encode(), "text/plain; charset=utf-8"),
        (b"list", 200, b'[1,"a",null]', "application/json"),
        (b"none", 200, b"null", "application/json"),
        (b"response", 201, b"made", "text/plain; charset=utf-8"),
        (b"teapot", 418, b"", "image/png"),
        (b"numpy", 200, b'{"x":1.5,"y":[0,1,2]}', "application/json"),
        (b"env", 200, b'{"OMP_NUM_THREADS":"3","COLOUR":"red"}', "application/json"),
        (b"status", 500, b"the handler failed: ValueError: status 42", "text/plain; charset=utf-8"),
        (b"header", 500, b"the handler failed: ValueError: header 'X'", "text/plain; charset=utf-8"),
        (b"object", 500, b"the handler failed: TypeError: a result of type object", "text/plain; charset=utf-8"),
        (b"nan", 500, b"the handler failed: ValueError", "text/plain; charset=utf-8"),
    ],
)
def test_results_become_replies(
    results_instance: Callable[[bytes], object], body: bytes, status: int, answer: bytes, content_type: str
) -> None:
    reply = results_instance(body)
    assert (reply.status, reply.headers[0]) == (status, ("Content-Type", content_type))
    assert reply.body.startswith(answer)
    if body == b"response":
        assert reply.headers[1] == ("X-Made", "yes")


@pytest.fixture(scope="module")
def results_instance(tmp_path_factory: pytest.TempPathFactory) -> object:
    path = tmp_path_factory.mktemp("results") / "results.py"
    path.write_text(RESULTS)
    function = Function("f", SHARE, handler=f"{path}:answer", env={"COLOUR": "red"})
    document = {"instance_id": "f-1", "function": dump(function), "threads": 3, "spin": False}
    with running() as instance:
        instance.peer.sendall(encode(Hello({**document, "daemon_socket": None, "mem_bytes": 0})))
        assert instance.receive() == Ready(0.0)
        yield lambda body: instance.ask(body)[0]


def test_requests_past_their_deadline_are_not_computed(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file(BATCHES)}:Lengths", batch=4)
    (late,) = instance.ask(b"a", timeout_s=-1.0)
    assert (late.status, late.body) == (504, b"the deadline had passed before the work could start\n")
    (reply,) = instance.ask(b"b")
    assert json.loads(reply.body)["calls"] == [1]


def test_stop_finishes_what_was_received(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file(ECHO)}:echo")
    for n in range(20):
        instance.send(b"%d" % n)
    assert instance.stop() == 0
    results = [instance.receive() for _ in range(20)]
    assert [r.replies[0].body for r in results if isinstance(r, Result)] == [b"%d" % n for n in range(20)]


def test_an_instance_ends_when_its_cluster_goes(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file('import time' + chr(10) + 'def slow(request): time.sleep(60)')}:slow")
    instance.send(b"")
    instance.peer.close()
    assert instance.process.wait(timeout=20) == 1
    assert "the cluster has gone" in instance.log()


def test_an_instance_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    parent = (
        "import subprocess, sys, time; fd = int(sys.argv[1]);"
        "subprocess.Popen([sys.executable, '-m', 'fastgshare.runtime', '--fd', str(fd)], pass_fds=[fd]); time.sleep(60)"
    )
    handler = tmp_path / "h.py"
    handler.write_text("def f(request): return ''")
    function = dump(Function("f", SHARE, handler=f"{handler}:f"))
    document = {"instance_id": "f-1", "function": function, "threads": 1, "spin": False}
    with ours, theirs:
        process = subprocess.Popen([sys.executable, "-c", parent, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        ours.settimeout(30)
        ours.sendall(encode(Hello({**document, "daemon_socket": None, "mem_bytes": 0})))
        assert Decoder().feed(ours.recv(2**16)) == [Ready(0.0)]
        theirs.close()  # the instance alone holds it now, beside its parent
        process.kill()
        process.wait(timeout=20)
        assert ours.recv(2**16) == b""


def test_ctrl_c_is_left_to_the_parent(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file(ECHO)}:echo")
    instance.process.send_signal(signal.SIGINT)
    assert instance.ask(b"still here")[0].body == b"still here"


def test_garbage_from_the_cluster_ends_the_instance(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file(ECHO)}:echo")
    instance.peer.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert instance.process.wait(timeout=20) == 1
    assert "does not follow the protocol" in instance.log()


def test_a_first_frame_that_is_no_hello_ends_the_instance() -> None:
    with running() as instance:
        instance.peer.sendall(encode(Ready(0.0)))
        assert instance.process.wait(timeout=20) == 1
        assert "HELLO expected, Ready received" in instance.log()


def failing(start: Starter, *arguments: object, **fields: object) -> str:
    instance = start(*arguments, ready=False, **fields)
    frame = instance.receive()
    assert isinstance(frame, Failed), frame
    assert instance.process.wait(timeout=20) == 1
    assert "\n" not in frame.reason
    return frame.reason


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("/nowhere/x.onnx", "model: '/nowhere/x.onnx' is not allowed; allowed: the path of a file that exists, or"),
        ("nopackage_x:a.onnx", "a resource of an installed package (nopackage_x is not installed)"),
        ("numpy:a.onnx", "a file inside the package numpy"),
    ],
)
def test_a_missing_model_is_named(start: Starter, model: str, words: str) -> None:
    assert words in failing(start, model=model)


def test_a_corrupt_model_is_named(start: Starter, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a network at all")
    assert f"model: '{path}' is not allowed; allowed: a valid ONNX model (" in failing(start, model=str(path))


@pytest.mark.parametrize(
    ("source", "attribute", "words"),
    [
        ("x = 1", "f", "a class or function that"),
        ("x = 1", "x", "a class or function that"),
        ("def f(:", "f", "code that can be imported (SyntaxError: "),
        ("import nowhere_x", "f", "code that can be imported (ModuleNotFoundError: No module named 'nowhere_x')"),
        ("class F:\n def __init__(self, c): 1/0", "F", "a class that can be constructed (ZeroDivisionError: "),
        ("class F:\n def __init__(self, c): pass", "F", "handle(requests) or can be called with a request"),
        ("def f(r): return r.nope\nf.sample = b'x'", "f", "a sample that the handler can answer (the handler failed: "),
        ("def f(r): return ''\nf.sample = 'x'", "f", "a sample of bytes (str found)"),
    ],
)
def test_a_handler_that_cannot_be_is_named(
    start: Starter, handler_file: HandlerFile, source: str, attribute: str, words: str
) -> None:
    assert words in failing(start, f"{handler_file(source)}:{attribute}")


def test_a_missing_handler_file_is_named(start: Starter, tmp_path: Path) -> None:
    assert "a Python file that exists" in failing(start, f"{tmp_path}/none.py:f")


def test_a_start_without_its_fields_is_refused() -> None:
    with running() as instance:
        instance.peer.sendall(encode(Hello({"instance_id": "f-1"})))
        assert instance.receive() == Failed("threads: None is not allowed; allowed: a value of type int")


def test_the_longest_burst_is_measured_on_the_sample(start: Starter, handler_file: HandlerFile) -> None:
    source = "def f(r): return str(sum(range(300_000)))\nf.sample = b'x'"
    instance = start(f"{handler_file(source)}:f", ready=False)
    ready = instance.receive()
    assert isinstance(ready, Ready)
    assert ready.burst_s > 0


def test_a_burst_known_beforehand_is_a_floor(start: Starter, handler_file: HandlerFile) -> None:
    source = "def f(r): return ''\nf.sample = b'x'"
    instance = start(f"{handler_file(source)}:f", ready=False, burst_s=5.0)
    assert instance.receive() == Ready(5.0)


MODEL_USER = """
import numpy as np

class Doubler:
    def __init__(self, context):
        self.model = context.model
        self.again = context.open_model(context.model.ref)
        assert context.threads == 1
        assert self.model.metadata == {"maker": "tests"}

    def sample(self):
        return b"1 2 3"

    def __call__(self, request):
        x = np.array([request.body.split()], dtype=np.float32)
        (y,) = self.model.run({"x": x})
        (z,) = self.again.run({"x": y}, ["y"])
        return {"y": y[0], "z": z[0]}
"""


def test_a_handler_runs_its_models(start: Starter, handler_file: HandlerFile, doubling: Path) -> None:
    instance = start(f"{handler_file(MODEL_USER)}:Doubler", str(doubling))
    (reply,) = instance.ask(b"1 2 3")
    assert json.loads(reply.body) == {"y": [2, 4, 6], "z": [4, 8, 12]}


def tensor(*shape: int, data: list[object], name: str = "x", datatype: str = "FP32") -> bytes:
    return json.dumps({"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}]}).encode()


def test_more_memory_than_the_share_has_fails_the_request_only(start: Starter, hungry: Path) -> None:
    instance = start(model=str(hungry), mem_bytes=512 * 2**20)
    large, small = instance.ask(
        tensor(2, data=[2**14, 2**15], datatype="INT64"), tensor(2, data=[2, 3], datatype="INT64")
    )
    assert large.status == 500
    assert large.body.startswith(b"out of memory, the share's mem is too small: MemoryError: ")
    assert json.loads(small.body)["outputs"][0]["data"] == [12.0]


def test_memory_that_does_not_suffice_to_start_fails_the_start(start: Starter, doubling: Path) -> None:
    instance = start(model=str(doubling), mem_bytes=2**20, ready=False)
    try:
        frame = instance.receive()
    except (EOFError, ConnectionResetError):
        pass  # too little even to say so: the cluster sees it end
    else:
        assert isinstance(frame, Failed)
    assert instance.process.wait(timeout=20) != 0


CHATTY = """
def chatty(request):
    print("working on", request.body.decode())
    return bytes(2**20)
"""


def test_a_reader_that_is_slow_does_not_stop_the_work(start: Starter, handler_file: HandlerFile) -> None:
    instance = start(f"{handler_file(CHATTY)}:chatty")
    for n in range(20):
        instance.send(b"%d" % n)
    assert instance.process.stdout is not None
    assert any(line == "working on 19\n" for line in instance.process.stdout)  # though nothing was read so far
    results = [instance.receive() for _ in range(20)]
    assert [r.batch_id for r in results if isinstance(r, Result)] == list(range(1, 21))
