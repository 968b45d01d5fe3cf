"""The stand-in's driver: streams, events, functions on the host, values in memory, and how they wait for each other."""

from __future__ import annotations

import pytest
from tests.standin.programs import on_driver


def test_work_of_a_stream_is_in_order_and_streams_run_beside_each_other() -> None:
    lines = on_driver(
        """
        start()
        kernel = function(b"spin")
        one, other = stream(1), stream(1)
        spin(kernel, 60, one)
        first = recorded(one)
        spin(kernel, 60, one)
        second = recorded(one)
        spin(kernel, 60, other)
        third = recorded(other)
        print(call("cuStreamQuery", one), call("cuEventQuery", first))
        wait()
        print(call("cuStreamQuery", one), call("cuEventQuery", second))
        print(elapsed_ms(first, second), elapsed_ms(third, second) > 0)
        """
    )
    assert lines[:2] == ["NOT_READY NOT_READY", "SUCCESS SUCCESS"]
    took, beside = lines[2].split()
    assert float(took) == pytest.approx(60, abs=1e-3)
    assert beside == "True"


@pytest.mark.parametrize(("flags", "waits"), [(0, True), (1, False)])
def test_the_legacy_stream_waits_for_blocking_streams_and_they_for_it(flags: int, waits: bool) -> None:
    assert on_driver(
        f"""
        start()
        kernel = function(b"spin")
        line = stream({flags})
        spin(kernel, 100, line)
        legacy = recorded()
        spin(kernel, 200)
        after = recorded(line)
        print(call("cuStreamQuery", None), call("cuStreamQuery", c_void_p(1)))
        must("cuEventSynchronize", legacy)
        print(call("cuStreamQuery", line) == "NOT_READY", flush=True)
        must("cuEventSynchronize", after)
        print(call("cuStreamQuery", None))
        """
    ) == (["NOT_READY NOT_READY", "True", "SUCCESS"] if waits else ["NOT_READY NOT_READY", "True", "NOT_READY"])


def test_each_thread_has_a_default_stream_of_its_own() -> None:
    assert on_driver(
        """
        import threading
        context = start()
        kernel = function(b"spin")
        identities = []
        def use():
            must("cuCtxSetCurrent", context)
            spin(kernel, 1, form="_ptsz")
            identities.append(new_id("_ptsz", None))
        def new_id(form, handle):
            value = c_uint64()
            must(f"cuStreamGetId{form}", handle, byref(value))
            return value.value
        for _ in range(2):
            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
        use()
        print(len(set(identities)), new_id("", c_void_p(2)) == identities[-1], new_id("", None) not in identities)
        line = stream()
        spin(kernel, 100, form="_ptsz")
        print(call("cuStreamQuery_ptsz", None), call("cuStreamQuery", c_void_p(2)), call("cuStreamQuery", line))
        """
    ) == ["3 True True", "NOT_READY NOT_READY SUCCESS"]


def test_streams_wait_for_events() -> None:
    assert on_driver(
        """
        start()
        kernel = function(b"spin")
        one, other = stream(1), stream(1)
        spin(kernel, 100, one)
        mark = recorded(one)
        must("cuStreamWaitEvent", other, mark, 0)
        # Nothing else is in it, yet who waits for the stream waits for the event.
        print(call("cuStreamQuery", other))
        must("cuStreamSynchronize", other)
        print(call("cuEventQuery", mark), call("cuStreamWaitEvent", other, event(), 0), call("cuStreamQuery", other))
        print(call("cuStreamWaitEvent", other, mark, 2), call("cuStreamWaitEvent", other, None, 0))
        """
    ) == ["NOT_READY", "SUCCESS SUCCESS SUCCESS", "INVALID_VALUE INVALID_HANDLE"]


def test_events_are_timed_where_they_may_be() -> None:
    assert on_driver(
        """
        start()
        kernel = function(b"spin")
        value = ctypes.c_float()
        def elapsed(one, other):
            return call("cuEventElapsedTime", byref(value), one, other)
        never, silent = event(), event(2)
        must("cuEventRecord", silent, None)
        first = recorded()
        spin(kernel, 100)
        last = recorded()
        print(elapsed(first, last), elapsed(first, never), elapsed(first, silent), call("cuEventQuery", never))
        must("cuEventSynchronize", last)
        print(elapsed(first, last), value.value >= 100, elapsed(last, first), value.value <= -100)
        must("cuEventDestroy_v2", last)
        print(elapsed(first, last), call("cuEventQuery", last))
        print(*[call("cuEventCreate", byref(c_void_p()), flags) for flags in (4, 8)])
        """
    ) == [
        "NOT_READY INVALID_HANDLE INVALID_HANDLE SUCCESS",
        "SUCCESS True SUCCESS True",
        "INVALID_HANDLE INVALID_HANDLE",
        "INVALID_VALUE INVALID_VALUE",
    ]


def test_times_of_events_outlive_very_much_work() -> None:
    (took,) = on_driver(
        """
        start()
        kernel = function(b"spin")
        spin(kernel, 5)
        first = recorded()
        spin(kernel, 3)
        last = recorded()
        for _ in range(6000):
            spin(kernel, 0)
        wait()
        print(elapsed_ms(first, last))
        """
    )
    assert float(took) == pytest.approx(3, abs=1e-3)


def test_a_launch_waits_while_very_much_is_pending() -> None:
    assert on_driver(
        """
        start()
        kernel = function(b"spin")
        for _ in range(3000):
            spin(kernel, 0.01)
        spin(kernel, 100)
        print(call("cuStreamQuery", None))
        wait()
        print(call("cuStreamQuery", None))
        """
    ) == ["NOT_READY", "SUCCESS"]


def test_a_stream_may_go_before_its_work_is_done() -> None:
    assert on_driver(
        """
        start()
        kernel = function(b"spin")
        line = stream()
        spin(kernel, 100, line)
        mark = recorded(line)
        must("cuStreamDestroy_v2", line)
        print(call("cuEventQuery", mark), call("cuStreamQuery", line))
        wait()
        print(call("cuEventQuery", mark), call("cuStreamDestroy_v2", line), call("cuStreamDestroy_v2", None))
        """
    ) == ["NOT_READY INVALID_HANDLE", "SUCCESS INVALID_HANDLE INVALID_HANDLE"]


def test_more_streams_than_queues_share_them() -> None:
    assert on_driver(
        """
        start()
        kernel = function(b"spin")
        lines = [stream(1) for _ in range(200)]
        for line in lines:
            spin(kernel, 0.1, line)
        wait()
        print({call("cuStreamQuery", line) for line in lines})
        """
    ) == ["{'SUCCESS'}"]


def test_streams_know_what_they_were_made_with() -> None:
    assert on_driver(
        """
        context = start()
        least, greatest = c_int(), c_int()
        must("cuCtxGetStreamPriorityRange", byref(least), byref(greatest))
        line = new(c_void_p, "cuStreamCreateWithPriority", 1, -100)
        priority, flags, owner, device = c_int(), c_uint(), c_void_p(), c_int(7)
        must("cuStreamGetPriority", line, byref(priority))
        must("cuStreamGetFlags", line, byref(flags))
        must("cuStreamGetCtx", line, byref(owner))
        must("cuStreamGetDevice", line, byref(device))
        print(least.value, greatest.value, priority.value, flags.value, owner.value == context.value, device.value)
        value = ctypes.create_string_buffer(64)
        value[0] = 4
        must("cuStreamSetAttribute", line, 3, value)
        other = stream()
        must("cuStreamCopyAttributes", other, line)
        got = ctypes.create_string_buffer(64)
        must("cuStreamGetAttribute", other, 3, got)
        print(got[0][0], call("cuStreamCreate", byref(c_void_p()), 2), call("cuStreamGetAttribute", line, 2, got))
        """
    ) == ["0 -5 -5 1 True 0", "4 INVALID_VALUE INVALID_VALUE"]


HOST = """
import threading
Function = ctypes.CFUNCTYPE(None, c_void_p)
kept = []
def on_host(body):
    kept.append(Function(lambda _: body()))
    return kept[-1]
start()
kernel = function(b"spin")
"""


def test_functions_on_the_host_run_in_the_order_of_the_stream() -> None:
    assert on_driver(
        HOST
        + """
order = []
one, other = stream(1), stream(1)
spin(kernel, 100, one)
mark = recorded(one)
must("cuLaunchHostFunc", one, on_host(lambda: order.append((1, call_inside(mark)))), None)
def call_inside(mark):
    return cuda.cuEventQuery(mark)
must("cuLaunchHostFunc", other, on_host(lambda: order.append((2, 0))), None)
spin(kernel, 1, one)
must("cuLaunchHostFunc", one, on_host(lambda: order.append((3, 0))), None)
must("cuStreamSynchronize", one)
print(order)
"""
    ) == ["[(2, 0), (1, 0), (3, 0)]"]


def test_what_comes_after_a_function_on_the_host_waits_for_it() -> None:
    assert on_driver(
        HOST
        + """
go = threading.Event()
buffer, seen = ctypes.create_string_buffer(b"old", 3), ctypes.create_string_buffer(3)
place = alloc(3)
one, other, third = stream(1), stream(1), stream(1)
def change():
    go.wait()
    buffer.raw = b"new"
must("cuLaunchHostFunc", one, on_host(change), None)
must("cuMemcpyHtoDAsync_v2", address(place), buffer, c_size_t(3), one)
mark = recorded(one)
must("cuStreamWaitEvent", other, mark, 0)
must("cuMemcpyDtoHAsync_v2", seen, address(place), c_size_t(3), other)
spin(kernel, 1, third)
must("cuStreamSynchronize", third)
print(call("cuStreamQuery", one), call("cuEventQuery", mark), call("cuStreamQuery", other), seen.raw)
go.set()
must("cuStreamSynchronize", other)
print(seen.raw, call("cuStreamQuery", one))
"""
    ) == ["NOT_READY NOT_READY NOT_READY b'\\x00\\x00\\x00'", "b'new' SUCCESS"]


def test_callbacks_are_told_their_stream() -> None:
    assert on_driver(
        HOST
        + """
told = []
Callback = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_void_p)
callback = Callback(lambda stream, status, data: told.append((stream, status, data)))
line = stream()
must("cuStreamAddCallback", line, callback, c_void_p(5), 0)
must("cuStreamSynchronize", line)
print(told == [(line.value, 0, 5)], call("cuStreamAddCallback", line, callback, None, 1))
"""
    ) == ["True INVALID_VALUE"]


def test_streams_wait_for_values_and_write_them() -> None:
    assert on_driver(
        HOST
        + """
place, pinned = alloc(64), new(c_void_p, "cuMemAllocHost_v2", c_size_t(64))
number = c_uint.from_address(pinned.value)
one, other = stream(1), stream(1)
must("cuStreamWaitValue32_v2", one, address(pinned.value), 5, 0)
must("cuStreamWriteValue64_v2", one, address(place), c_uint64(77), 0)
must("cuStreamWaitValue64_v2", other, address(place), c_uint64(77), 1)
print(call("cuStreamQuery", one), call("cuStreamQuery", other), bytes_at(place, 1))
number.value = 6
must("cuStreamSynchronize", other)
print(call("cuStreamQuery", one), bytes_at(place, 1), call("cuStreamWaitValue32_v2", one, address(place + 2), 5, 0))
"""
    ) == ["NOT_READY NOT_READY b'\\x00'", "SUCCESS b'M' INVALID_VALUE"]


def test_threads_use_streams_at_the_same_time() -> None:
    assert on_driver(
        HOST
        + """
context = new(c_void_p, "cuCtxGetCurrent")
wrong = []
def use():
    try:
        must("cuCtxSetCurrent", context)
        line = stream(1)
        for i in range(100):
            place = alloc(4096)
            must("cuMemsetD8Async", address(place), i, c_size_t(4096), line)
            spin(kernel, 0.01, line)
            mark = recorded(line)
            must("cuEventSynchronize", mark)
            assert bytes_at(place, 1)[0] == i
            must("cuMemFree_v2", address(place))
            must("cuEventDestroy_v2", mark)
        must("cuStreamDestroy_v2", line)
    except BaseException as error:
        wrong.append(error)
threads = [threading.Thread(target=use) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(wrong, taken())
"""
    ) == ["[] 0"]


def test_waiting_burns_no_core() -> None:
    (share,) = on_driver(
        """
        import time
        start()
        kernel = function(b"spin")
        spin(kernel, 300)
        spent = time.process_time()
        wait()
        print((time.process_time() - spent) / 0.3)
        """
    )
    assert float(share) < 0.1
