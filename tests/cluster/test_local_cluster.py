from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastgshare.cluster import local
from fastgshare.cluster.local import LocalCluster
from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import (
    DaemonUnavailable,
    InstanceFailed,
    InstanceLost,
    InvalidValue,
    NotFound,
    PartitionerUnavailable,
)
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import Instance, InstanceState, InstanceStatus
from fastgshare.domain.partitions import Guarantee, Partitioning
from fastgshare.domain.ports import Cluster
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.requests import Request
from fastgshare.domain.shares import Share
from fastgshare.manager.conduct import FAULT

CORES = tuple(sorted(os.sched_getaffinity(0)))
DEVICE = Device("cpu", DeviceKind.CPU, len(CORES), 2**40, CORES)
COMMAND = (sys.executable, str(Path(__file__).with_name("scripted_instance.py")))
S = InstanceState


def instance(id: str = "f-1", do: str = "", *, sm: float = DEVICE.sm_step, **fields: Any) -> Instance:
    function = Function("f", Share(sm, 0.5, 0.6), handler="m:h", env={"do": do}, **fields)
    return Instance(id, function, Placement(id, "cpu", Rect(0.0, 0.0, sm, 0.5)))


def request(id: int = 1, body: bytes = b"body", *, deadline_s: float | None = None) -> Request:
    now_s = time.monotonic()
    return Request(id, "f", body, now_s, now_s + 60 if deadline_s is None else deadline_s, headers=(("a", "b"),))


class Daemon:
    """Remembers what it was told."""

    socket_path = Path("/nowhere/daemon.sock")

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.admitted: list[tuple[Any, ...]] = []
        self.verdicts: dict[str, str] = {}
        self.answers = True

    async def verdict(self, instance_id: str) -> str:
        return self.verdicts.get(instance_id, "")

    async def admit(
        self,
        instance_id: str,
        pid: int,
        share: Share,
        rect: Rect | None,
        burst_s: float,
        *,
        declared: bool = False,
        device_id: str = "",
        group: str = "",
        fatal_faults: bool = False,
    ) -> None:
        self._tell("admit", instance_id, pid, share, rect, burst_s)
        self.admitted.append(("admit", instance_id, (device_id, group, fatal_faults)))

    async def place(self, changes: Mapping[str, tuple[Share, Rect]]) -> None:
        self._tell("place", dict(changes))

    async def set_burst(self, instance_id: str, burst_s: float) -> None:
        self._tell("set_burst", instance_id, burst_s)

    async def remove(self, instance_id: str) -> None:
        self._tell("remove", instance_id)

    def _tell(self, *words: Any) -> None:
        if not self.answers:
            raise DaemonUnavailable("the node daemon does not answer")
        self.told.append(words)


class Watched:
    """A cluster and all that its listener was told."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.news: list[InstanceStatus] = []
        self.changed = asyncio.Event()
        cluster.watch(self._note)

    def _note(self, status: InstanceStatus) -> None:
        self.news.append(status)
        self.changed.set()

    def states(self, id: str = "f-1") -> list[InstanceState]:
        return [status.state for status in self.news if status.id == id]

    async def until(self, state: InstanceState, id: str = "f-1") -> InstanceStatus:
        async with asyncio.timeout(20):
            while state not in self.states(id):
                self.changed.clear()
                await self.changed.wait()
        return next(status for status in self.news if (status.id, status.state) == (id, state))

    async def until_line(self, text: str) -> str:
        async with asyncio.timeout(20):
            while True:
                for line in self.cluster.logs("f", 1000):
                    if text in line.text:
                        return line.text
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def a_cluster(**options: Any) -> AsyncIterator[Watched]:
    async with asyncio.timeout(60), LocalCluster([DEVICE], command=COMMAND, **options) as cluster:
        yield Watched(cluster)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_it_ended(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], 20)
    os.close(pidfd)
    assert ended


async def test_an_instance_starts_answers_and_stops() -> None:
    async with a_cluster() as watched:
        cluster: Cluster = watched.cluster
        await cluster.start(instance())
        (status,) = cluster.observe()
        assert (status.state, status.burst_s, status.function_name) == (S.READY, 0.004, "f")
        replies = await cluster.send("f-1", [request(5, b"one"), request(6, b"two")])
        assert [(r.id, r.status, r.body, r.headers) for r in replies] == [
            (5, 200, b"one", (("a", "b"),)),
            (6, 200, b"two", (("a", "b"),)),
        ]
        await cluster.stop("f-1", drain_s=10)
        assert watched.states() == [S.STARTING, S.READY, S.DRAINING, S.GONE]
        assert not cluster.observe()
        assert not runs(status.pid)


async def test_hello_says_what_it_is_and_cores_follow_the_rect() -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do="describe", sm=DEVICE.sm_step))
        (reply,) = await watched.cluster.send("f-1", [request()])
        hello = json.loads(reply.body)
        assert hello["instance_id"] == "f-1"
        assert hello["function"]["name"] == "f"
        assert (hello["threads"], hello["spin"], hello["daemon_socket"], hello["mem_bytes"]) == (1, False, None, 0)
        assert hello["cores"] == [CORES[0]]


async def test_the_daemon_is_told_in_order() -> None:
    daemon = Daemon()
    async with a_cluster(daemon=daemon) as watched:
        first = instance(do="describe", burst_s=0.001)
        await watched.cluster.start(first)
        (reply,) = await watched.cluster.send("f-1", [request()])
        assert json.loads(reply.body)["daemon_socket"] == "/nowhere/daemon.sock"
        (status,) = watched.cluster.observe()
        share, placement = Share(DEVICE.sm_step, 0.2, 0.3), Placement("f-1", "cpu", Rect(0, 0.5, DEVICE.sm_step, 0.2))
        await watched.cluster.resize({"f-1": (share, placement), "gone": (share, placement)})
        assert watched.cluster.observe()[0].placement == placement
        await watched.cluster.stop("f-1", drain_s=5)
    assert daemon.told == [
        ("admit", "f-1", status.pid, first.function.share, first.placement.rect, 0.001),
        ("set_burst", "f-1", 0.004),
        ("place", {"f-1": (share, placement.rect)}),
        ("remove", "f-1"),
    ]


async def test_an_instance_that_the_daemon_does_not_admit_fails() -> None:
    daemon = Daemon()
    daemon.answers = False
    async with a_cluster(daemon=daemon) as watched:
        with pytest.raises(InstanceFailed, match="the node daemon does not answer"):
            await watched.cluster.start(instance())
        assert watched.states() == [S.STARTING, S.FAILED]


async def test_a_resize_that_the_daemon_does_not_hear_changes_nothing() -> None:
    daemon = Daemon()
    async with a_cluster(daemon=daemon) as watched:
        await watched.cluster.start(instance())
        (before,) = watched.cluster.observe()
        daemon.answers = False
        change = (Share(DEVICE.sm_step, 0.2, 0.3), Placement("f-1", "cpu", Rect(0, 0.5, DEVICE.sm_step, 0.2)))
        with pytest.raises(DaemonUnavailable):
            await watched.cluster.resize({"f-1": change})
        assert watched.cluster.observe() == [before]


@pytest.mark.parametrize(
    ("share", "rect", "field"),
    [
        (Share(100, 0.5, 0.5), Rect(0, 0, 100, 0.5), "rect"),
        (Share(DEVICE.sm_step, 0.5, 0.5, 2**30), Rect(0, 0, DEVICE.sm_step, 0.5), "mem_bytes"),
    ],
)
async def test_sms_and_memory_of_a_running_instance_stay(share: Share, rect: Rect, field: str) -> None:
    if field == "rect" and len(CORES) == 1:
        pytest.skip("one core has one SM range")
    async with a_cluster() as watched:
        await watched.cluster.start(instance())
        with pytest.raises(InvalidValue) as caught:
            await watched.cluster.resize({"f-1": (share, Placement("f-1", "cpu", rect))})
        assert caught.value.field == field


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("refuse", "^instance f-1: the model is corrupt$"),
        ("die", "it ended with exit status 1; its last line: cannot find my feet$"),
        ("never ready", "it was not ready within 1 s; its last line: doing never ready$"),
    ],
)
async def test_an_instance_that_cannot_start_gives_its_last_words(do: str, reason: str) -> None:
    async with a_cluster(start_timeout_s=1 if do == "never ready" else 20) as watched:
        with pytest.raises(InstanceFailed, match=reason) as caught:
            await watched.cluster.start(instance(do=do))
        assert watched.states() == [S.STARTING, S.FAILED]
        assert watched.news[-1].reason == caught.value.reason
        assert not watched.cluster.observe()
        assert not runs(watched.news[0].pid)


async def test_a_command_that_cannot_be_started_is_a_failure() -> None:
    async with LocalCluster([DEVICE], command=("/no/such/python",)) as cluster:
        with pytest.raises(InstanceFailed, match="cannot be started"):
            await cluster.start(instance())
        assert not cluster.observe()


async def test_the_same_id_twice_is_refused_and_the_first_goes_on() -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance())
        with pytest.raises(InstanceFailed, match="here already"):
            await watched.cluster.start(instance())
        assert await watched.cluster.send("f-1", [request()])


async def test_a_killed_instance_fails_and_so_do_its_batches() -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do="hang"))
        await watched.cluster.start(instance("f-2"))
        pending = asyncio.create_task(watched.cluster.send("f-1", [request()]))
        await watched.until_line("batch")
        os.kill(watched.cluster.observe()[0].pid, signal.SIGKILL)
        with pytest.raises(InstanceLost, match="it was killed by SIGKILL"):
            await pending
        assert (await watched.until(S.FAILED)).reason.startswith("it was killed by SIGKILL")
        assert [status.id for status in watched.cluster.observe()] == ["f-2"]
        assert await watched.cluster.send("f-2", [request()])
        with pytest.raises(InstanceLost):
            await watched.cluster.send("f-1", [request()])


@pytest.mark.parametrize("do", ["garbage", "wrong replies", "unknown batch", "ready again"])
async def test_an_instance_that_breaks_the_protocol_is_killed_and_its_batches_fail(do: str) -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do=do))
        (status,) = watched.cluster.observe()
        with pytest.raises(InstanceLost, match="broke the protocol"):
            await watched.cluster.send("f-1", [request()])
        assert "broke the protocol" in (await watched.until(S.FAILED)).reason
        assert not runs(status.pid)


async def test_an_instance_that_lets_go_of_its_socket_is_killed() -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do="let go"))
        failed = await watched.until(S.FAILED)
        assert "closed its connection" in failed.reason
        assert not runs(watched.news[0].pid)


async def test_a_hung_instance_is_ended_after_the_deadline_of_its_batch() -> None:
    async with a_cluster(hang_s=0.2) as watched:
        await watched.cluster.start(instance(do="hang"))
        nobody_waits = asyncio.create_task(watched.cluster.send("f-1", [request(deadline_s=time.monotonic() + 0.1)]))
        await watched.until_line("batch")
        nobody_waits.cancel()
        assert "it hung" in (await watched.until(S.FAILED)).reason


async def test_a_cancelled_send_leaves_the_instance_working() -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do="slow"))
        impatient = asyncio.create_task(watched.cluster.send("f-1", [request()]))
        await watched.until_line("batch")
        impatient.cancel()
        (reply,) = await watched.cluster.send("f-1", [request(2, b"next")])
        assert reply.body == b"next"


async def test_draining_finishes_what_was_received_and_takes_nothing_more() -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do="slow"))
        pending = [asyncio.create_task(watched.cluster.send("f-1", [request(id)])) for id in (1, 2)]
        await watched.until_line("batch")
        await watched.cluster.stop("f-1", drain_s=30)
        assert [reply.id for task in pending for reply in await task] == [1, 2]
        assert watched.states() == [S.STARTING, S.READY, S.DRAINING, S.GONE]


async def test_what_does_not_drain_in_time_is_killed_and_its_batches_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgshare.cluster.members.GRACE_S", 0.1)
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do="deaf"))
        (status,) = watched.cluster.observe()
        pending = asyncio.create_task(watched.cluster.send("f-1", [request()]))
        await watched.until_line("batch")
        await watched.cluster.stop("f-1", drain_s=0.1)
        with pytest.raises(InstanceLost):
            await pending
        assert watched.states()[-1] is S.GONE
        assert not runs(status.pid)


async def test_a_stop_that_is_given_up_still_ends_the_instance() -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do="hang"))
        asyncio.create_task(watched.cluster.send("f-1", [request()])).add_done_callback(asyncio.Task.exception)
        await watched.until_line("batch")
        stop = asyncio.create_task(watched.cluster.stop("f-1", drain_s=0.2))
        await watched.until(S.DRAINING)
        stop.cancel()
        await watched.until(S.GONE)


async def test_a_second_shorter_stop_hastens_the_first() -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do="hang"))
        asyncio.create_task(watched.cluster.send("f-1", [request()])).add_done_callback(asyncio.Task.exception)
        await watched.until_line("batch")
        await asyncio.gather(*(watched.cluster.stop("f-1", drain_s=drain_s) for drain_s in (1000, 0)))
        assert watched.states().count(S.DRAINING) == 1


async def test_stopping_while_it_starts_ends_both() -> None:
    async with a_cluster() as watched:
        start = asyncio.create_task(watched.cluster.start(instance(do="never ready")))
        await watched.until_line("doing never ready")
        await watched.cluster.stop("f-1", drain_s=1000)
        with pytest.raises(InstanceFailed, match="stopped while it started"):
            await start
        assert watched.states() == [S.STARTING, S.DRAINING, S.GONE]


async def test_a_start_that_is_called_off_leaves_no_process() -> None:
    async with a_cluster() as watched:
        start = asyncio.create_task(watched.cluster.start(instance(do="never ready")))
        await watched.until_line("doing never ready")
        start.cancel()
        failed = await watched.until(S.FAILED)
        assert "called off" in failed.reason
        assert not runs(watched.news[0].pid)


async def test_what_an_instance_left_behind_ends_with_it() -> None:
    async with a_cluster() as watched:
        await watched.cluster.start(instance(do="leave a child"))
        child = int(watched.cluster.logs("f", 1)[-1].text)
        assert runs(child)
        os.kill(watched.cluster.observe()[0].pid, signal.SIGKILL)
        await watched.until(S.FAILED)
        await until_it_ended(child)


async def test_leaving_the_cluster_ends_everything() -> None:
    async with a_cluster() as watched:
        await asyncio.gather(*(watched.cluster.start(instance(f"f-{n}")) for n in (1, 2)))
        pids = [status.pid for status in watched.cluster.observe()]
    assert not any(runs(pid) for pid in pids)
    assert [watched.states(f"f-{n}")[-1] for n in (1, 2)] == [S.GONE, S.GONE]
    with pytest.raises(InstanceFailed, match="ending"):
        await watched.cluster.start(instance())


@pytest.mark.parametrize("way", ["lost", "left", "fault"])
async def test_a_process_that_the_kernel_cannot_end_holds_nothing_up(
    way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that waits in the driver for a device that is gone."""
    monkeypatch.setattr("fastgshare.cluster.processes._UNKILLABLE_S", 0.05)
    monkeypatch.setattr("fastgshare.cluster.members.GRACE_S", 0.05)
    pid = 0
    try:
        async with two_devices() as (watched, divider):
            await watched.cluster.start(member("a-1", do="hang"))
            pid = watched.cluster.observe()[0].pid
            answer = asyncio.create_task(watched.cluster.send("a-1", [request()]))
            await watched.until_line("batch")
            monkeypatch.setattr("fastgshare.cluster.processes.Process._signal", lambda process, number: None)
            if way == "lost":
                watched.cluster.lose("cpu", "it fell off the bus")
                failed = await watched.until(S.FAILED, "a-1")
                assert f"(process {pid} does not end and is left)" in failed.reason
            elif way == "fault":
                divider.ends.set()
                divider.fail("default")
                await watched.cluster.start(member("a-2"))
                assert ids(watched) == {"a-2"}
        with pytest.raises(InstanceLost):
            await answer
        assert runs(pid)
        assert f"process {pid} does not end though it was killed 0.05 s ago; it is left" in caplog.text
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            await until_it_ended(pid)


async def test_a_listener_that_raises_does_not_deafen_the_others() -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    async with LocalCluster([DEVICE], command=COMMAND) as cluster:
        cluster.watch(lambda _: 1 / 0)
        watched = Watched(cluster)
        await cluster.start(instance())
        assert watched.states() == [S.STARTING, S.READY]
    assert len(problems) == 4


async def test_a_batch_too_large_for_a_frame_is_answered_and_the_instance_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fastgshare.dispatch import frames

    async with a_cluster() as watched:
        await watched.cluster.start(instance())
        monkeypatch.setattr("fastgshare.cluster.links.encode", lambda frame: frames.encode(frame, max_bytes=1000))
        (reply,) = await watched.cluster.send("f-1", [request(3, b"x" * 2000)])
        assert (reply.id, reply.status) == (3, 413)
        assert await watched.cluster.send("f-1", [request()])


PARENT = """
import asyncio, sys
from fastgshare.cluster.local import LocalCluster
from tests.cluster.test_local_cluster import COMMAND, DEVICE, instance

async def main():
    async with LocalCluster([DEVICE], command=COMMAND) as cluster:
        await cluster.start(instance())
        print(cluster.observe()[0].pid, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


async def test_kill_9_of_the_cluster_ends_its_instances() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert runs(pid)
    parent.kill()
    await parent.wait()
    await until_it_ended(pid)


# --- several devices, trust groups, faults ----------------------------------------------------------------------------

OTHER = Device("other", DeviceKind.CPU, len(CORES), 2**40, CORES)


class Divider:
    """A partitioner that does as it is told: `ends` lets recoveries end, `broken` lets them fail."""

    def __init__(self, name: str = "mps") -> None:
        self.partitioning = Partitioning(name, Guarantee.CAP, "1 to 100%", 0, False, True, "for tests")
        self.told: list[tuple[str, str]] = []
        self.ends = asyncio.Event()
        self.broken = False
        self.ill = ""
        self._listeners: list[Callable[[str, str], None]] = []

    async def start(self) -> None:
        self.told.append(("start", ""))

    async def open(self, group: str) -> None:
        self.told.append(("open", group))
        if self.ill:
            self.fail(group, self.ill)
            raise PartitionerUnavailable(self.ill)

    def environment(self, group: str, base: Mapping[str, str]) -> dict[str, str]:
        return {**base, "GROUP": group}

    def watch(self, listener: Callable[[str, str], None]) -> None:
        self._listeners.append(listener)

    def fail(self, group: str, reason: str = "an illegal address") -> None:
        for listener in self._listeners:
            listener(group, reason)

    async def recover(self, group: str) -> None:
        self.told.append(("recover", group))
        await self.ends.wait()
        self.ill = ""
        if self.broken:
            raise PartitionerUnavailable("the server does not answer")

    async def stop(self) -> None:
        self.told.append(("stop", ""))


@contextlib.asynccontextmanager
async def two_devices(**options: Any) -> AsyncIterator[tuple[Watched, Divider]]:
    divider = Divider()
    cluster = LocalCluster([DEVICE, OTHER], command=COMMAND, partitioners={"cpu": divider}, **options)
    async with asyncio.timeout(60), cluster:
        yield Watched(cluster), divider


def member(id: str, group: str = "default", device_id: str = "cpu", do: str = "") -> Instance:
    made = instance(id, do, trust_group=group)
    return replace(made, placement=replace(made.placement, device_id=device_id))


def ids(watched: Watched) -> set[str]:
    return {status.id for status in watched.cluster.observe()}


async def test_a_fault_ends_its_trust_group_on_its_device_and_nobody_else() -> None:
    async with two_devices() as (watched, divider):
        for made in (member("a-1"), member("a-2"), member("b-1", "b"), member("a-3", device_id="other")):
            await watched.cluster.start(made)
        divider.fail("default")
        failed = await watched.until(S.FAILED, "a-1")
        assert failed.reason.startswith("the work of trust group default on device cpu has failed: an illegal address")
        await watched.until(S.FAILED, "a-2")
        assert ids(watched) == {"b-1", "a-3"}
        assert [r.status for r in await watched.cluster.send("b-1", [request()])] == [200]


async def test_starts_of_a_faulty_group_wait_until_it_has_recovered_and_those_of_others_do_not() -> None:
    async with two_devices() as (watched, divider):
        await watched.cluster.start(member("a-1"))
        divider.fail("default")
        divider.fail("default", "and again")  # is the same one
        waiting = asyncio.create_task(watched.cluster.start(member("a-2")))
        await watched.cluster.start(member("b-1", "b"))
        await watched.until(S.FAILED, "a-1")
        assert not waiting.done()
        assert "a-2" not in ids(watched)
        divider.ends.set()
        await waiting
        assert ids(watched) == {"a-2", "b-1"}
        assert divider.told == [("open", "default"), ("open", "b"), ("recover", "default"), ("open", "default")]


async def test_a_start_that_is_called_off_while_its_group_recovers_leaves_nothing() -> None:
    async with two_devices() as (watched, divider):
        await watched.cluster.start(member("a-1"))
        divider.fail("default")
        waiting = asyncio.create_task(watched.cluster.start(member("a-2")))
        await watched.until(S.FAILED, "a-1")
        waiting.cancel()
        await asyncio.wait([waiting])
        assert watched.states("a-2") == []


async def test_a_group_that_does_not_recover_is_tried_again_with_the_next_start_and_blames_nobody() -> None:
    async with two_devices(start_timeout_s=20) as (watched, divider):
        await watched.cluster.start(member("a-1"))
        divider.ends.set()
        divider.broken = True
        divider.fail("default")
        for id in ("a-2", "a-2"):
            with pytest.raises(InstanceFailed, match="trust group default on device cpu has not recovered") as failed:
                await watched.cluster.start(member(id))
            assert (failed.value.blameless, failed.value.patience_s) == (True, 5.0)
        divider.broken = False
        await watched.cluster.start(member("a-3"))
        assert ids(watched) == {"a-3"}


async def test_who_had_nothing_to_do_has_no_part_in_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_devices() as (watched, divider):
        for made in (member("idle-1"), member("busy-1", do="hang")):
            await watched.cluster.start(made)
        monkeypatch.setattr("fastgshare.cluster.members._SUSPECT_S", 0.0)
        lost = asyncio.create_task(watched.cluster.send("busy-1", [request()]))
        await watched.until_line("batch")
        divider.fail("default")
        assert not (await watched.until(S.FAILED, "busy-1")).blameless
        assert (await watched.until(S.FAILED, "idle-1")).blameless
        with pytest.raises(InstanceLost):
            await lost


async def test_with_nobody_to_suspect_all_are_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_devices() as (watched, divider):
        await watched.cluster.start(member("a-1"))
        monkeypatch.setattr("fastgshare.cluster.members._SUSPECT_S", 0.0)
        divider.fail("default")
        assert not (await watched.until(S.FAILED, "a-1")).blameless


async def test_the_daemons_verdict_on_a_fault_is_that_of_the_group() -> None:
    daemon = Daemon()
    divider = Divider()
    cluster = LocalCluster([DEVICE], command=COMMAND, daemon=daemon, partitioners={"cpu": divider})
    async with asyncio.timeout(60), cluster:
        watched = Watched(cluster)
        for made in (member("a-1"), member("a-2", do="hang"), member("b-1", "b")):
            await cluster.start(made)
        working = asyncio.create_task(cluster.send("a-2", [request()]))
        await watched.until_line("batch")
        daemon.verdicts["a-1"] = f"{FAULT} 700"
        os.kill(next(s.pid for s in cluster.observe() if s.id == "a-1"), signal.SIGKILL)
        for id in ("a-1", "a-2"):
            failed = await watched.until(S.FAILED, id)
            assert ("driver's error 700" in failed.reason, failed.blameless) == (True, id == "a-2")
        with pytest.raises(InstanceLost):
            await working
        assert ids(watched) == {"b-1"}
        assert [(who, where) for _, who, where in daemon.admitted] == [
            ("a-1", ("cpu", "default", False)),
            ("a-2", ("cpu", "default", False)),
            ("b-1", ("cpu", "b", False)),
        ]


async def test_who_is_hit_first_is_not_blamed_where_the_daemon_knows_whose_fault_it_was() -> None:
    daemon = Daemon()
    cluster = LocalCluster([DEVICE], command=COMMAND, daemon=daemon, partitioners={"cpu": Divider()})
    async with asyncio.timeout(60), cluster:
        watched = Watched(cluster)
        for made in (member("a-1"), member("a-2", do="hang"), member("b-1", "b")):
            await cluster.start(made)
        working = asyncio.create_task(cluster.send("a-2", [request()]))
        await watched.until_line("batch")
        daemon.verdicts |= {"a-1": f"{FAULT} 700", "a-2": f"{FAULT} 719"}
        os.kill(next(s.pid for s in cluster.observe() if s.id == "a-2"), signal.SIGKILL)
        assert not (await watched.until(S.FAILED, "a-1")).blameless
        with pytest.raises(InstanceLost):
            await working
        assert (await watched.until(S.FAILED, "a-2")).blameless
        assert ids(watched) == {"b-1"}


async def test_a_lost_device_ends_what_is_on_it_and_takes_nothing_more() -> None:
    async with two_devices() as (watched, divider):
        for made in (member("a-1", do="hang"), member("a-2", device_id="other")):
            await watched.cluster.start(made)
        lost = asyncio.create_task(watched.cluster.send("a-1", [request()]))
        await watched.until_line("batch")
        watched.cluster.lose("cpu", "it fell off the bus (XID 79)")
        assert [device.id for device in watched.cluster.devices()] == ["other"]
        with pytest.raises(InstanceLost) as refused:
            await watched.cluster.send("a-1", [request()])  # it has not ended yet, but is given nothing more
        assert not refused.value.begun
        failed = await watched.until(S.FAILED, "a-1")
        assert failed.blameless
        assert failed.reason.startswith("device cpu was lost: it fell off the bus (XID 79)")
        with pytest.raises(InstanceLost):
            await lost
        with pytest.raises(InstanceFailed, match="device cpu was lost") as late:
            await watched.cluster.start(member("a-3"))
        assert late.value.blameless
        divider.fail("default")
        assert ids(watched) == {"a-2"}


@pytest.mark.parametrize("happens", ["loss", "fault"])
async def test_what_happens_while_a_process_is_started_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    start_instance = local.start_instance
    async with two_devices() as (watched, divider):

        async def overtaken(*arguments: Any) -> Any:
            divider.fail("default") if happens == "fault" else watched.cluster.lose("cpu", "XID 79")
            return await start_instance(*arguments)

        monkeypatch.setattr(local, "start_instance", overtaken)
        with pytest.raises(InstanceFailed, match="while it started" if happens == "fault" else "device cpu was lost"):
            await watched.cluster.start(member("a-1"))
        assert (await watched.until(S.FAILED, "a-1")).blameless
        assert S.READY not in watched.states()


async def test_a_drained_device_keeps_what_is_on_it_and_takes_nothing_more() -> None:
    async with two_devices() as (watched, _):
        await watched.cluster.start(member("a-1"))
        heard = len(watched.news)
        closed: list[tuple[str, str, str]] = []
        watched.cluster.watch_devices(lambda *news: closed.append(news))
        watched.cluster.drain("cpu", "ECC errors")
        assert [status.state for status in watched.news[heard:]] == [S.READY]  # so that something is decided
        assert [device.id for device in watched.cluster.devices()] == ["other"]
        assert [r.status for r in await watched.cluster.send("a-1", [request()])] == [200]
        with pytest.raises(InstanceFailed, match="device cpu is being drained: ECC errors"):
            await watched.cluster.start(member("a-3"))
        watched.cluster.lose("cpu", "gone")
        watched.cluster.drain("cpu", "late news")
        assert "device cpu was lost: gone" in (await watched.until(S.FAILED, "a-1")).reason
        watched.cluster.lose("cpu", "gone, again")
        assert [(id, fate) for id, fate, _ in closed] == [("cpu", "drained"), ("cpu", "lost")]
        with pytest.raises(NotFound):
            watched.cluster.lose("none", "")


async def test_a_fault_on_a_drained_device_ends_its_group_for_good() -> None:
    async with two_devices() as (watched, divider):
        for made in (member("a-1"), member("b-1", "b")):
            await watched.cluster.start(made)
        watched.cluster.drain("cpu", "ECC errors")
        divider.fail("default")
        await watched.until(S.FAILED, "a-1")
        assert ids(watched) == {"b-1"}
        assert ("recover", "default") not in divider.told


async def test_a_device_that_is_not_here_is_refused() -> None:
    async with two_devices() as (watched, _):
        with pytest.raises(InstanceFailed, match="there is no device elsewhere here"):
            await watched.cluster.start(member("a-1", device_id="elsewhere"))


async def test_leaving_does_not_wait_for_a_recovery() -> None:
    async with two_devices() as (watched, divider):
        await watched.cluster.start(member("a-1"))
        divider.fail("default")
        await watched.until(S.FAILED, "a-1")


@pytest.mark.parametrize(("error", "is_lost"), [(719, True), (700, False), (0, False)])
async def test_a_failure_that_is_anothers_fault_is_not_the_answer(error: int, is_lost: bool) -> None:
    """Others' work on the device has failed, and with it this one's: the batch can be tried elsewhere."""
    daemon = Daemon()
    standin = Device("standin", DeviceKind.STANDIN, 100)
    cluster = LocalCluster([standin], command=COMMAND, daemon=daemon)
    async with asyncio.timeout(60), cluster:
        await cluster.start(member("a-1", device_id="standin", do="fail"))
        (status,) = cluster.observe()
        if error:
            daemon.verdicts["a-1"] = f"{FAULT} {error}"
            asyncio.get_running_loop().call_later(0.02, os.kill, status.pid, signal.SIGKILL)
        if is_lost:
            with pytest.raises(InstanceLost, match="driver's error 719"):
                await cluster.send("a-1", [request()])
        else:
            assert [r.status for r in await cluster.send("a-1", [request()])] == [500]


@pytest.mark.parametrize("is_lost", [True, False])
async def test_what_a_lost_device_may_answer_with_is_waited_for(is_lost: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that a device that is gone answers with: who watches it may be about to say so."""
    monkeypatch.setattr("fastgshare.cluster.quarantines._WATCHED_S", 60.0 if is_lost else 0.05)
    daemon = Daemon()
    standin = Device("standin", DeviceKind.STANDIN, 100)
    async with asyncio.timeout(60), LocalCluster([standin], command=COMMAND, daemon=daemon) as cluster:
        watched = Watched(cluster)
        await cluster.start(member("a-1", device_id="standin"))
        daemon.verdicts["a-1"] = f"{FAULT} 999"
        os.kill(cluster.observe()[0].pid, signal.SIGKILL)
        await watched.until(S.FAILED, "a-1")
        successor = asyncio.create_task(cluster.start(member("a-2", device_id="standin")))
        if is_lost:
            cluster.lose("standin", "it fell off the bus")
            with pytest.raises(InstanceFailed, match="it fell off the bus"):
                await successor
        else:
            await successor


async def test_a_group_that_is_found_to_have_failed_when_one_starts_is_waited_for() -> None:
    async with two_devices() as (watched, divider):
        await watched.cluster.start(member("a-1"))
        divider.ill = "the server has gone"
        divider.ends.set()
        await watched.cluster.start(member("a-2"))
        assert (await watched.until(S.FAILED, "a-1")).reason.startswith("the work of trust group default on device cpu")
        assert ids(watched) == {"a-2"}
