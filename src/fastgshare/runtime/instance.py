"""An instance: from HELLO to its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from fastgshare.dispatch.frames import Batch, Failed, Ready, Result
from fastgshare.domain.errors import FastGShareError, InstanceFailed, WireError
from fastgshare.domain.requests import Reply, Request
from fastgshare.runtime.connection import Connection
from fastgshare.runtime.loading import Handler
from fastgshare.runtime.process import cap_memory, set_environment
from fastgshare.runtime.replies import describe, problem
from fastgshare.runtime.start import Start, build, open_gate, parse_start
from fastgshare.runtime.turns import Gate
from fastgshare.runtime.warmup import warm_up
from fastgshare.runtime.worker import Worker

_LOGGER = logging.getLogger(__name__)


def run(connection: Connection) -> int:
    """Start as HELLO says, answer batches until STOP. The exit status: 0, or 1 if it could not start or go on."""
    hello = connection.greet()
    try:
        worker, gate, ready = _start(parse_start(hello.document))
    except FastGShareError as error:
        return _fail(connection, str(error))
    except MemoryError as error:
        return _fail(connection, f"the share's mem is too small to start: {describe(error)}")
    except Exception as error:
        _LOGGER.exception("the instance cannot start")
        return _fail(connection, f"the instance cannot start: {describe(error)}")
    connection.send(ready)
    status = _serve(connection, worker)
    connection.flush()
    if gate is not None:
        gate.close()
    return status


def _fail(connection: Connection, reason: str) -> int:
    _LOGGER.error("%s", reason)
    connection.send(Failed(reason))
    connection.flush()
    return 1


def _start(start: Start) -> tuple[Worker, Gate | None, Ready]:
    """An instance's worker, warmed up; its gate; what it says of itself: its longest burst (0: not known)."""
    set_environment(start.function.env, start.threads)
    cap_memory(start.mem_bytes)
    gate = open_gate(start)
    logger = logging.getLogger(start.function.name)
    handler, turn = build(start, logger)
    worker = Worker(handler, turn, time.monotonic, logger)
    if handler.sample is not None:
        warm_up(worker, handler.sample, _sizes(handler, start), turn.bursts)
    burst_s = turn.bursts.news() or 0.0
    turn.attach(gate)  # not before: how long its bursts are, and so when they may start, is known only now
    _LOGGER.info("instance %s is ready, longest burst %.1f ms", start.instance_id, burst_s * 1e3)
    return worker, gate, Ready(burst_s, handler.sample if start.wants_sample else None)


def _sizes(handler: Handler, start: Start) -> Sequence[int]:
    """The batch sizes to warm up with: one request, and a full batch if the handler takes batches as such."""
    largest = start.function.batch.max_size
    return (1,) if handler.batchwise is None or largest == 1 else (1, largest)


def _serve(connection: Connection, worker: Worker) -> int:
    while (batch := connection.next_batch()) is not None:
        try:
            replies = worker.work(batch.requests, connection.more)
        except InstanceFailed as error:
            _LOGGER.error("%s", error)
            return 1  # without replies: the cluster sends the batch elsewhere
        _send(connection, batch, replies)
    return 0


def _send(connection: Connection, batch: Batch, replies: tuple[Reply, ...]) -> None:
    try:
        connection.send(Result(batch.batch_id, replies))
    except WireError as error:
        connection.send(Result(batch.batch_id, tuple(_too_large(request, error) for request in batch.requests)))


def _too_large(request: Request, error: WireError) -> Reply:
    return problem(request, 500, f"the answer is too large: {error}")
