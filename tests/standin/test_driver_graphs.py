"""The stand-in's driver: captures, graphs, and what is not allowed during the one and with the other."""

from __future__ import annotations

import pytest
from tests.standin.programs import on_driver

START = """
context = start()
kernel = function(b"spin")
one, other = stream(1), stream(1)
def begin(line=one, mode=0):
    return call("cuStreamBeginCapture_v2", line, mode)
def end(line=one):
    graph = c_void_p()
    result = call("cuStreamEndCapture", line, byref(graph))
    return graph if result == "SUCCESS" else result
def captured(work):
    begin()
    work()
    return end()
def ready(graph, flags=0):
    return new(c_void_p, "cuGraphInstantiateWithFlags", graph, c_uint64(flags))
def nodes(graph):
    count = c_size_t()
    must("cuGraphGetNodes", graph, None, byref(count))
    found = (c_void_p * count.value)()
    must("cuGraphGetNodes", graph, found, byref(count))
    return [c_void_p(node) for node in found]
def kinds(graph):
    return [new_kind(node) for node in nodes(graph)]
def new_kind(node):
    kind = c_int()
    must("cuGraphNodeGetType", node, byref(kind))
    return kind.value
def edges(graph):
    count = c_size_t()
    must("cuGraphGetEdges_v2", graph, None, None, None, byref(count))
    return count.value
def took(execution, line=one):
    spin(kernel, 5, line)
    before = recorded(line)
    must("cuGraphLaunch", execution, line)
    after = recorded(line)
    must("cuStreamSynchronize", line)
    return round(elapsed_ms(before, after), 3)
def status(line):
    found = c_int()
    must("cuStreamIsCapturing", line, byref(found))
    return found.value
"""


def on_graphs(source: str, settings: str = "") -> list[str]:
    return on_driver(START + source, settings)


def test_a_capture_becomes_a_graph_that_takes_the_time_of_its_nodes() -> None:
    assert on_graphs(
        """
place = alloc(100)
def work():
    spin(kernel, 2, one)
    must("cuMemsetD8Async", address(place), 5, c_size_t(100), one)
    spin(kernel, 3, one)
print(begin(), status(one), begin())
work()
print(bytes_at_all := call("cuStreamIsCapturing", one, byref(c_int())))
graph = end()
print(kinds(graph), edges(graph), status(one), call("cuStreamQuery", one))
execution = ready(graph)
must("cuGraphDestroy", graph)
print(bytes_at(place, 1), took(execution) == 5.001, bytes_at(place, 1))
must("cuGraphExecDestroy", execution)
print(call("cuGraphLaunch", execution, one), call("cuGraphDestroy", graph))
"""
    ) == [
        "SUCCESS 1 ILLEGAL_STATE",
        "SUCCESS",
        "[0, 2, 0] 2 0 SUCCESS",
        "b'\\x00' True b'\\x05'",
        "INVALID_VALUE INVALID_VALUE",
    ]


def test_arguments_are_kept_from_the_time_of_the_capture() -> None:
    assert on_graphs(
        """
duration = c_uint64(2_000_000)
graph = captured(lambda: launch(kernel, duration, stream=one))
duration.value = 9
params = KernelNode()
must("cuGraphKernelNodeGetParams_v2", nodes(graph)[0], byref(params))
print(params.function == kernel.value, *params.grid, *params.block)
print(took(ready(graph)))
"""
    ) == ["True 1 1 1 32 1 1", "2.0"]


def test_a_capture_forks_and_joins_through_events() -> None:
    assert on_graphs(
        """
begin()
spin(kernel, 1, one)
fork, join = event(2), event(2)
must("cuEventRecord", fork, one)
must("cuStreamWaitEvent", other, fork, 0)
print(status(other))
spin(kernel, 1, other)
spin(kernel, 1, one)
must("cuEventRecord", join, other)
must("cuStreamWaitEvent", one, join, 0)
spin(kernel, 1, one)
graph = end()
print(len(nodes(graph)), edges(graph), status(other), took(ready(graph)))
"""
    ) == ["1", "4 4 0 4.0"]


def test_what_spoils_a_capture_says_so() -> None:
    assert on_graphs(
        """
def spoiled(what):
    begin()
    spin(kernel, 1, one)
    print(what(), status(one), launch(kernel, c_uint64(1), stream=one), end())
spoiled(lambda: call("cuStreamSynchronize", one))
spoiled(lambda: call("cuCtxSynchronize"))
spoiled(lambda: call("cuMemAlloc_v2", byref(c_uint64()), c_size_t(1)))
spoiled(lambda: call("cuEventQuery", event()))
spoiled(lambda: call("cuMemcpyDtoH_v2", ctypes.create_string_buffer(1), address(1), c_size_t(1)))
outside = recorded(other)
spoiled(lambda: call("cuStreamWaitEvent", one, outside, 0))
inside = event(2)
def query():
    must("cuEventRecord", inside, one)
    must("cuThreadExchangeStreamCaptureMode", byref(c_int(2)))
    result = call("cuEventQuery", inside)
    must("cuThreadExchangeStreamCaptureMode", byref(c_int(0)))
    return result
spoiled(query)
"""
    ) == [
        "STREAM_CAPTURE_UNSUPPORTED 2 STREAM_CAPTURE_INVALIDATED STREAM_CAPTURE_INVALIDATED",
        "STREAM_CAPTURE_UNSUPPORTED 2 STREAM_CAPTURE_INVALIDATED STREAM_CAPTURE_INVALIDATED",
        "STREAM_CAPTURE_UNSUPPORTED 2 STREAM_CAPTURE_INVALIDATED STREAM_CAPTURE_INVALIDATED",
        "STREAM_CAPTURE_UNSUPPORTED 2 STREAM_CAPTURE_INVALIDATED STREAM_CAPTURE_INVALIDATED",
        "STREAM_CAPTURE_UNSUPPORTED 2 STREAM_CAPTURE_INVALIDATED STREAM_CAPTURE_INVALIDATED",
        "STREAM_CAPTURE_ISOLATION 2 STREAM_CAPTURE_INVALIDATED STREAM_CAPTURE_INVALIDATED",
        "CAPTURED_EVENT 2 STREAM_CAPTURE_INVALIDATED STREAM_CAPTURE_INVALIDATED",
    ]


def test_captures_end_where_they_began_and_joined() -> None:
    assert on_graphs(
        """
print(end(), begin(None), call("cuStreamBeginCapture_v2", c_void_p(1), 0))
begin()
mark = event(2)
must("cuEventRecord", mark, one)
must("cuStreamWaitEvent", other, mark, 0)
spin(kernel, 1, other)
print(end(other), end(one), status(other))
begin(one)
begin(other)
must("cuEventRecord", mark, one)
print(call("cuStreamWaitEvent", other, mark, 0), end(one), end(other))
"""
    ) == [
        "ILLEGAL_STATE STREAM_CAPTURE_UNSUPPORTED STREAM_CAPTURE_UNSUPPORTED",
        "STREAM_CAPTURE_UNMATCHED STREAM_CAPTURE_UNJOINED 0",
        "STREAM_CAPTURE_MERGE STREAM_CAPTURE_INVALIDATED STREAM_CAPTURE_INVALIDATED",
    ]


def test_the_legacy_stream_cannot_be_used_beside_the_capture_of_a_blocking_one() -> None:
    assert on_graphs(
        """
blocking = stream()
begin()
print(launch(kernel, c_uint64(1)), end() is not None)
begin(blocking)
print(launch(kernel, c_uint64(1)), status(blocking), end(blocking))
begin(blocking)
print(launch(kernel, c_uint64(1), form="_ptsz"), call("cuStreamQuery", None), end(blocking))
"""
    ) == [
        "SUCCESS True",
        "STREAM_CAPTURE_IMPLICIT 2 STREAM_CAPTURE_INVALIDATED",
        "SUCCESS STREAM_CAPTURE_IMPLICIT STREAM_CAPTURE_INVALIDATED",
    ]


@pytest.mark.parametrize(
    ("mode", "here", "elsewhere", "relaxed"),
    [
        (0, "UNSUPPORTED", "UNSUPPORTED", "SUCCESS"),
        (1, "UNSUPPORTED", "SUCCESS", "SUCCESS"),
        (2, "SUCCESS", "SUCCESS", "SUCCESS"),
    ],
)
def test_the_mode_says_what_other_threads_may_do(mode: int, here: str, elsewhere: str, relaxed: str) -> None:
    assert on_graphs(
        f"""
import threading
def ask():
    return call("cuEventQuery", mark).removeprefix("STREAM_CAPTURE_")
def in_thread(exchange):
    answers = []
    def use():
        must("cuCtxSetCurrent", context)
        if exchange:
            before = c_int(2)
            must("cuThreadExchangeStreamCaptureMode", byref(before))
            assert before.value == 0
        answers.append(ask())
        if exchange:
            answers.append(end() if not begin else "")
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    return answers[0]
mark = event()
answers = []
for ask_somebody in ask, lambda: in_thread(False), lambda: in_thread(True):
    begin(one, {mode})
    answers.append(ask_somebody())
    end()
print(*answers)
begin(one, {mode})
wrong = []
thread = threading.Thread(target=lambda: wrong.append(end()))
thread.start()
thread.join()
print(wrong[0] if isinstance(wrong[0], str) else "SUCCESS")
"""
    ) == [f"{here} {elsewhere} {relaxed}", "SUCCESS" if mode == 2 else "STREAM_CAPTURE_WRONG_THREAD"]


def test_a_capture_can_be_looked_at_and_led() -> None:
    assert on_graphs(
        """
state, identity, graph, tips, count = c_int(), c_uint64(), c_void_p(), ctypes.POINTER(c_void_p)(), c_size_t()
def look():
    must("cuStreamGetCaptureInfo_v2", one, byref(state), byref(identity), byref(graph), byref(tips), byref(count))
    return state.value, identity.value > 0, count.value
print(look())
begin()
spin(kernel, 1, one)
print(look())
first = c_void_p(tips[0])
spin(kernel, 1, one)
must("cuStreamUpdateCaptureDependencies", one, byref(first), c_size_t(1), 1)
spin(kernel, 1, one)
added = new(c_void_p, "cuGraphAddEmptyNode", graph, byref(first), c_size_t(1))
must("cuStreamUpdateCaptureDependencies", one, byref(added), c_size_t(1), 0)
print(look(), edges(end()))
made = new(c_void_p, "cuGraphCreate", 0)
must("cuStreamBeginCaptureToGraph", one, made, None, None, c_size_t(0), 0)
spin(kernel, 1, one)
print(end().value == made.value, len(nodes(made)))
"""
    ) == ["(0, False, 0)", "(1, True, 1)", "(1, True, 2) 3", "True 1"]


def test_graphs_are_built_by_hand() -> None:
    assert on_graphs(
        """
graph = new(c_void_p, "cuGraphCreate", 0)
duration = c_uint64(2_000_000)
given = arguments(duration)
params = KernelNode(function=kernel, grid=(1, 1, 1), block=(32, 1, 1), params=ctypes.addressof(given))
first = new(c_void_p, "cuGraphAddKernelNode_v2", graph, None, c_size_t(0), byref(params))
second = new(c_void_p, "cuGraphAddKernelNode_v2", graph, byref(first), c_size_t(1), byref(params))
mark = event()
record = new(c_void_p, "cuGraphAddEventRecordNode", graph, byref(second), c_size_t(1), mark)
empty = new(c_void_p, "cuGraphAddEmptyNode", graph, None, c_size_t(0))
def depend():
    return call("cuGraphAddDependencies", graph, byref(empty), byref(record), c_size_t(1))
print(kinds(graph), edges(graph), depend(), edges(graph))
print(depend(), call("cuGraphAddKernelNode_v2", byref(c_void_p()), graph, None, c_size_t(0), None))
execution = ready(graph)
print(took(execution), call("cuEventQuery", mark))
duration.value = 500_000
must("cuGraphExecKernelNodeSetParams_v2", execution, second, byref(params))
print(took(execution))
must("cuGraphNodeSetEnabled", execution, first, 0)
print(took(execution))
must("cuGraphDestroyNode", second)
print(kinds(graph), edges(graph), took(ready(graph)))
loop = new(c_void_p, "cuGraphCreate", 0)
pair = [new(c_void_p, "cuGraphAddEmptyNode", loop, None, c_size_t(0)) for _ in range(2)]
for a, b in (0, 1), (1, 0):
    must("cuGraphAddDependencies", loop, byref(pair[a]), byref(pair[b]), c_size_t(1))
print(call("cuGraphInstantiateWithFlags", byref(c_void_p()), loop, c_uint64(0)))
"""
    ) == [
        "[0, 0, 7, 5] 2 SUCCESS 3",
        "INVALID_VALUE INVALID_VALUE",
        "4.0 SUCCESS",
        "2.5",
        "0.5",
        "[0, 7, 5] 1 2.0",
        "INVALID_VALUE",
    ]


def test_graphs_hold_graphs_and_are_cloned() -> None:
    assert on_graphs(
        """
child = captured(lambda: spin(kernel, 2, one))
parent = new(c_void_p, "cuGraphCreate", 0)
node = new(c_void_p, "cuGraphAddChildGraphNode", parent, None, c_size_t(0), child)
twin = new(c_void_p, "cuGraphClone", parent)
must("cuGraphDestroy", parent)
print(kinds(twin), took(ready(twin)))
inner = c_void_p()
must("cuGraphChildGraphNodeGetGraph", nodes(twin)[0], byref(inner))
print(kinds(inner), call("cuGraphDestroy", inner))
execution = ready(child)
outer = captured(lambda: must("cuGraphLaunch", execution, one))
print(kinds(outer), took(ready(outer)))
found = c_void_p()
copy = new(c_void_p, "cuGraphClone", child)
must("cuGraphNodeFindInClone", byref(found), nodes(child)[0], copy)
print(found.value == nodes(copy)[0].value)
"""
    ) == ["[4] 2.0", "[0] INVALID_VALUE", "[4] 2.0", "True"]


def test_a_ready_graph_takes_over_another() -> None:
    assert on_graphs(
        """
execution = ready(captured(lambda: spin(kernel, 2, one)))
class Info(ctypes.Structure):
    _fields_ = (("result", c_int), ("node", c_void_p), ("source", c_void_p))
info = Info()
same = captured(lambda: spin(kernel, 1, one))
print(call("cuGraphExecUpdate_v2", execution, same, byref(info)), info.result, took(execution))
longer = captured(lambda: [spin(kernel, 1, one) for _ in range(2)])
print(call("cuGraphExecUpdate_v2", execution, longer, byref(info)), info.result)
place = alloc(8)
kind = captured(lambda: must("cuMemsetD8Async", address(place), 0, c_size_t(8), one))
print(call("cuGraphExecUpdate_v2", execution, kind, byref(info)), info.result)
print(info.node == nodes(kind)[0].value, took(execution))
"""
    ) == [
        "SUCCESS 0 1.0",
        "GRAPH_EXEC_UPDATE_FAILURE 2",
        "GRAPH_EXEC_UPDATE_FAILURE 3",
        "True 1.0",
    ]


def test_a_graph_runs_once_at_a_time() -> None:
    assert on_graphs(
        """
execution = ready(captured(lambda: spin(kernel, 10, one)))
before = recorded(one)
must("cuGraphLaunch", execution, one)
must("cuGraphLaunch", execution, other)
after = recorded(other)
must("cuEventSynchronize", after)
print(elapsed_ms(before, after) >= 20)
"""
    ) == ["True"]


def test_graphs_allocate_memory_and_free_it() -> None:
    assert on_graphs(
        """
size = c_size_t(64 << 20)
begin()
place = new(c_uint64, "cuMemAllocAsync", size, one)
must("cuMemsetD8Async", address(place), 3, c_size_t(16), one)
kept = end()
print(kinds(kept), taken())
execution = ready(kept)
must("cuGraphLaunch", execution, one)
print(taken() >> 20, bytes_at(place, 1), call("cuGraphLaunch", execution, one))
must("cuMemFreeAsync", address(place), one)
must("cuGraphLaunch", execution, one)
must("cuMemFree_v2", address(place))
must("cuDeviceGraphMemTrim", 0)
print(taken(), call("cuMemFree_v2", address(place)))
again = ready(kept, 1)
print(call("cuGraphLaunch", again, one), call("cuGraphLaunch", again, one), taken() >> 20)
used = c_uint64()
must("cuDeviceGetGraphMemAttribute", 0, 0, byref(used))
print(used.value >> 20)
begin()
place = new(c_uint64, "cuMemAllocAsync", size, one)
must("cuMemFreeAsync", address(place), one)
both = ready(end())
print(call("cuGraphLaunch", both, one), call("cuGraphLaunch", both, one), call("cuMemFree_v2", address(place)))
"""
    ) == [
        "[10, 2] 0",
        "64 b'\\x03' INVALID_VALUE",
        "0 INVALID_VALUE",
        "SUCCESS SUCCESS 64",
        "64",
        "SUCCESS SUCCESS INVALID_VALUE",
    ]


def test_graphs_call_the_host() -> None:
    assert on_graphs(
        """
calls = []
Function = ctypes.CFUNCTYPE(None, c_void_p)
function_on_host = Function(lambda data: calls.append(data))
graph = captured(lambda: must("cuLaunchHostFunc", one, function_on_host, c_void_p(7)))
execution = ready(graph)
for _ in range(3):
    must("cuGraphLaunch", execution, one)
must("cuStreamSynchronize", one)
print(kinds(graph), calls)
"""
    ) == ["[3] [7, 7, 7]"]


def test_objects_of_the_user_live_as_long_as_their_graphs() -> None:
    assert on_graphs(
        """
gone = []
Function = ctypes.CFUNCTYPE(None, c_void_p)
destroy = Function(lambda data: gone.append(data))
thing = new(c_void_p, "cuUserObjectCreate", c_void_p(9), destroy, 1, 1)
graph = new(c_void_p, "cuGraphCreate", 0)
must("cuGraphRetainUserObject", graph, thing, 1, 1)
execution = ready(graph)
must("cuGraphDestroy", graph)
print(gone)
must("cuGraphExecDestroy", execution)
print(gone)
"""
    ) == ["[]", "[9]"]


def test_nodes_of_every_kind_are_added_by_one_call() -> None:
    assert on_graphs(
        """
class Params(ctypes.Structure):
    _fields_ = (("type", c_int), ("reserved", c_int * 3), ("body", c_uint64 * 29), ("end", c_uint64))
graph = new(c_void_p, "cuGraphCreate", 0)
source, target = alloc(64), alloc(64)
mark, last = event(), None
def add(kind, *words):
    global last
    params = Params(type=kind)
    params.body[: len(words)] = words
    before = (byref(last), c_size_t(1)) if last else (None, c_size_t(0))
    last = new(c_void_p, "cuGraphAddNode_v2", graph, before[0], None, before[1], byref(params))
    return params
calls = []
on_host = ctypes.CFUNCTYPE(None, c_void_p)(lambda data: calls.append(data))
add(2, source, 0, 1 << 32 | 0x61626364, 8, 1, 0)  # memset: value and size of an element share a word
add(6, mark.value)
add(7, mark.value)
add(3, ctypes.cast(on_host, c_void_p).value, 5)
add(5)
inner = captured(lambda: must("cuMemcpyDtoDAsync_v2", address(target), address(source), c_size_t(8), one))
add(4, inner.value)
print(kinds(graph), edges(graph))
execution = ready(graph)
must("cuGraphLaunch", execution, one)
must("cuStreamSynchronize", one)
print(bytes_at(target, 8), calls, call("cuEventQuery", mark))
print(call("cuGraphAddNode_v2", byref(c_void_p()), graph, None, None, c_size_t(0), byref(Params(type=13))))
"""
    ) == ["[2, 6, 7, 3, 5, 4] 5", "b'dddddddd' [5] SUCCESS", "NOT_SUPPORTED"]


def test_values_are_written_by_graphs() -> None:
    assert on_graphs(
        """
place = alloc(8)
graph = captured(lambda: must("cuStreamWriteValue32_v2", one, address(place), 99, 0))
execution, twin = ready(graph), new(c_void_p, "cuGraphClone", graph)
must("cuGraphDestroy", graph)
print(kinds(twin), bytes_at(place, 1))
must("cuGraphLaunch", execution, one)
must("cuStreamSynchronize", one)
print(bytes_at(place, 1))
"""
    ) == ["[12] b'\\x00'", "b'c'"]
