"""The stand-in's green contexts: how a device is split, what a part's kernels take, what handles are good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.standin.programs import on_driver
from tests.standin.test_mps import mps_in

GREEN = """
import json


class Resource(ctypes.Structure):
    _fields_ = (
        ("type", c_int),
        ("padding", ctypes.c_uint8 * 92),
        ("sms", c_uint),
        ("least", c_uint),
        ("aligned", c_uint),
        ("rest", ctypes.c_uint8 * 36),
    )


SM, DEFAULT, NON_BLOCKING = 1, 1, 1


def whole():
    found = Resource()
    must("cuDeviceGetDevResource", 0, byref(found), SM)
    return found


def split(least, wanted=16, of=None, flags=0):
    parts, count, rest = (Resource * 16)(), c_uint(wanted), Resource()
    given = byref(whole() if of is None else of)
    result = call("cuDevSmResourceSplitByCount", parts, byref(count), given, byref(rest), flags, least)
    return result, list(parts[: count.value]) if result == "SUCCESS" else [], rest


def described(*resources):
    array = (Resource * len(resources))(*resources)
    return new(c_void_p, "cuDevResourceGenerateDesc", array, len(resources))


def green(resource):
    return new(c_void_p, "cuGreenCtxCreate", described(resource), 0, DEFAULT)


def told(kind, function, handle):
    # What a function writes to its second parameter.
    made = kind()
    must(function, handle, byref(made))
    return made.value


def green_stream(context, priority=0):
    return new(c_void_p, "cuGreenCtxStreamCreate", context, NON_BLOCKING, priority)


start()
"""

TIMED = """
kernel = function(b"spin")


def begun(streams, ms, blocks):
    # All of them wait for one event, so that what the host needs between calls does not count.
    gate = stream(NON_BLOCKING)
    spin(kernel, 3, gate, 132)
    opened = recorded(gate)
    ends = []
    for each in streams:
        must("cuStreamWaitEvent", each, opened, 0)
        spin(kernel, ms, each, blocks)
        ends.append(recorded(each))
    wait()
    for each in streams:
        must("cuStreamSynchronize", each)
    return [round(elapsed_ms(opened, end), 2) for end in ends]


def part_streams(sms, count):
    return [green_stream(green(part)) for part in split(sms)[1][:count]]
"""


def _said(source: str, settings: str = "", **more: Any) -> Any:
    """What a program says as JSON, in its last line."""
    return json.loads(on_driver(GREEN + source, settings, **more)[-1])


# --- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "parts", "each", "rest"),
    [(0, 16, 8, 4), (1, 16, 8, 4), (8, 16, 8, 4), (9, 8, 16, 4), (17, 5, 24, 12), (66, 1, 72, 60), (128, 1, 128, 4)],
)
def test_parts_are_whole_steps_of_eight(least: int, parts: int, each: int, rest: int) -> None:
    said = _said(f"_, parts, rest = split({least}); print(json.dumps([[part.sms for part in parts], rest.sms]))")
    assert said == [[each] * parts, rest]


def test_what_is_left_is_a_resource_too_and_nothing_is_none() -> None:
    said = _said(
        """
_, parts, rest = split(16, wanted=2)
_, more, none = split(40, of=rest)
_, all_of_it, nothing = split(16, of=parts[0])
print(json.dumps([len(parts), rest.sms, [part.sms for part in more], none.sms, nothing.type, parts[0].least]))
"""
    )
    assert said == [2, 100, [40, 40], 20, 0, 8]


def test_how_many_parts_there_would_be_can_be_asked_alone() -> None:
    said = _said(
        """
count = c_uint(0)
must("cuDevSmResourceSplitByCount", None, byref(count), byref(whole()), None, 0, 16)
print(json.dumps(count.value))
"""
    )
    assert said == 8


def test_what_cannot_be_split_is_refused() -> None:
    said = _said(
        """
count, other = c_uint(1), Resource(type=7)
print(json.dumps([
    split(129)[0],
    split(8, flags=4)[0],
    split(8, of=other)[0],
    call("cuDevSmResourceSplitByCount", None, None, byref(whole()), None, 0, 8),
    call("cuDeviceGetDevResource", 0, byref(other), 7),
    call("cuDeviceGetDevResource", 1, byref(other), SM),
]))
"""
    )
    assert said == [
        "INVALID_RESOURCE_CONFIGURATION",
        "INVALID_VALUE",
        "INVALID_RESOURCE_TYPE",
        "INVALID_VALUE",
        "INVALID_RESOURCE_TYPE",
        "INVALID_DEVICE",
    ]


def test_a_process_of_mps_splits_what_it_is_left(tmp_path: Path) -> None:
    source = "print(json.dumps([whole().sms, [part.sms for part in split(16)[1]]]))"
    with mps_in(tmp_path / "mps") as mps:
        env = mps.env | {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25"}
        assert _said(source, f"state={tmp_path / 'device'},mps=real", more=env) == [33, [16, 16]]


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sms", "waves"), [(8, 16), (16, 8), (64, 2), (128, 1)])
def test_a_kernel_takes_as_long_as_its_part_makes_it(sms: int, waves: int) -> None:
    said = _said(TIMED + f"print(json.dumps(begun(part_streams({sms}, 1), 0.5, 128)))")
    assert said == [pytest.approx(0.5 * waves, rel=0.1)]


@pytest.mark.parametrize("settings", ["", "mps=real"])
def test_parts_work_side_by_side(settings: str, tmp_path: Path) -> None:
    """Whatever MPS is, one process's parts are on the device at once."""
    more = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    said = _said(TIMED + "print(json.dumps(begun(part_streams(64, 2), 4, 64)))", settings, more=more)
    assert said == [pytest.approx(4, rel=0.1)] * 2


def test_a_part_of_several_resources_has_all_their_sms() -> None:
    said = _said(
        TIMED
        + """
_, parts, rest = split(16)
context = new(c_void_p, "cuGreenCtxCreate", described(parts[0], parts[1], rest), 0, DEFAULT)
found = Resource()
must("cuGreenCtxGetDevResource", context, byref(found), SM)
print(json.dumps([found.sms, *begun([green_stream(context)], 2, 36)]))
"""
    )
    assert said == [36, pytest.approx(2, rel=0.1)]


def test_an_event_of_a_part_comes_after_all_of_its_streams() -> None:
    said = _said(
        TIMED
        + """
one, other = (green(part) for part in split(16)[1][:2])
first, second, elsewhere = green_stream(one), green_stream(one), green_stream(other)
done, begun = event(), recorded(first)
spin(kernel, 20, first)
must("cuGreenCtxRecordEvent", one, done)
must("cuGreenCtxWaitEvent", other, done)
spin(kernel, 1, elsewhere)
end = recorded(elsewhere)
for each in (first, second, elsewhere):
    must("cuStreamSynchronize", each)
print(json.dumps([elapsed_ms(begun, done) >= 20, elapsed_ms(done, end) >= 1]))
"""
    )
    assert said == [True, True]


def test_events_are_of_the_primary_context_or_not_for_its_parts() -> None:
    said = _said(
        """
one = green(split(16)[1][0])
its = green_stream(one)
of_primary = event()
made = new(c_void_p, "cuCtxCreate_v2", 0, 0)
of_another = event()
print(json.dumps([
    call("cuEventRecord", of_primary, its),
    call("cuGreenCtxRecordEvent", one, of_primary),
    call("cuEventRecord", of_another, its),
    call("cuGreenCtxRecordEvent", one, of_another),
    call("cuGreenCtxWaitEvent", one, of_another),
]))
"""
    )
    assert said == ["SUCCESS", "SUCCESS", "INVALID_HANDLE", "INVALID_HANDLE", "SUCCESS"]


# --- handles ---------------------------------------------------------------------------------------------------------


def test_a_stream_tells_whose_it_is() -> None:
    said = _said(
        """
one, other = (green(part) for part in split(16)[1][:2])
its, plain = green_stream(one), stream(NON_BLOCKING)
context, back = new(c_void_p, "cuCtxFromGreenCtx", one), c_void_p()
both = c_void_p()
must("cuStreamGetCtx_v2", its, byref(both), byref(back))
print(json.dumps([
    told(c_void_p, "cuStreamGetGreenCtx", its) == one.value,
    told(c_void_p, "cuStreamGetGreenCtx", plain),
    (both.value, back.value) == (context.value, one.value),
    told(c_uint64, "cuGreenCtxGetId", one) != told(c_uint64, "cuGreenCtxGetId", other),
]))
"""
    )
    assert said == [True, None, True, True]


def test_a_thread_works_on_a_part_that_it_has_made_current() -> None:
    said = _said(
        """
one = green(split(32)[1][0])
must("cuCtxSetCurrent", new(c_void_p, "cuCtxFromGreenCtx", one))
found = Resource()
must("cuCtxGetDevResource", new(c_void_p, "cuCtxGetCurrent"), byref(found), SM)
made = stream(NON_BLOCKING)
place = alloc(64)
must("cuMemsetD8_v2", address(place), 5, c_size_t(64))
print(json.dumps([found.sms, told(c_void_p, "cuStreamGetGreenCtx", made) == one.value, bytes_at(place, 1).hex()]))
"""
    )
    assert said == [32, True, "05"]


@pytest.mark.parametrize(
    ("expected", "calls"),
    [
        (
            "INVALID_VALUE",
            """
    call("cuGreenCtxCreate", byref(out), nobody, 0, DEFAULT),
    call("cuGreenCtxCreate", byref(out), described(whole()), 0, 0),
    call("cuGreenCtxStreamCreate", byref(out), context, 0, 0),
    call("cuDevResourceGenerateDesc", byref(out), None, 0),
""",
        ),
        (
            "INVALID_CONTEXT",
            """
    call("cuGreenCtxDestroy", nobody),
    call("cuCtxFromGreenCtx", byref(out), nobody),
    call("cuGreenCtxStreamCreate", byref(out), nobody, NON_BLOCKING, 0),
    call("cuGreenCtxGetDevResource", nobody, byref(Resource()), SM),
    call("cuGreenCtxGetId", nobody, byref(c_uint64())),
    call("cuGreenCtxRecordEvent", nobody, event()),
    call("cuGreenCtxWaitEvent", nobody, event()),
""",
        ),
        (
            "INVALID_HANDLE",
            """
    call("cuStreamGetGreenCtx", nobody, byref(out)),
    call("cuGreenCtxRecordEvent", context, nobody),
    call("cuGreenCtxWaitEvent", context, nobody),
""",
        ),
        ("INVALID_DEVICE", 'call("cuGreenCtxCreate", byref(out), described(whole()), 1, DEFAULT),'),
        ("INVALID_RESOURCE_TYPE", 'call("cuDevResourceGenerateDesc", byref(out), byref(Resource()), 1),'),
    ],
)
def test_bad_handles_and_flags_are_refused(expected: str, calls: str) -> None:
    source = "nobody, out, context = c_void_p(64), c_void_p(), green(split(16)[1][0])\n"
    assert set(_said(f"{source}print(json.dumps([{calls}]))")) == {expected}


def test_what_was_destroyed_is_no_more_and_its_sms_and_the_device_go_on() -> None:
    said = _said(
        """
one, other = (green(part) for part in split(16)[1][:2])
for each in (one, other):
    must("cuStreamDestroy_v2", green_stream(each))
must("cuGreenCtxDestroy", one)
print(json.dumps([
    call("cuGreenCtxDestroy", one),
    call("cuGreenCtxStreamCreate", byref(c_void_p()), one, NON_BLOCKING, 0),
    call("cuGreenCtxGetId", other, byref(c_uint64())),
    call("cuStreamSynchronize", green_stream(other)),
    call("cuCtxSynchronize"),
]))
"""
    )
    assert said == ["INVALID_CONTEXT", "INVALID_CONTEXT", "SUCCESS", "SUCCESS", "SUCCESS"]


def test_parts_come_and_go_without_end() -> None:
    said = _said(
        """
for turn in range(300):
    context = green(split(16)[1][turn % 8])
    must("cuStreamDestroy_v2", green_stream(context))
    must("cuGreenCtxDestroy", context)
print(json.dumps([taken(), call("cuCtxSynchronize")]))
"""
    )
    assert said == [0, "SUCCESS"]
