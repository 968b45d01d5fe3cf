"""Batches, worked on in turn: requests to replies, whatever the handler does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fastgshare.domain.errors import InstanceFailed
from fastgshare.domain.requests import Reply, Request
from fastgshare.runtime.handlers import BadRequest, Result
from fastgshare.runtime.loading import Handler
from fastgshare.runtime.replies import describe, failure, problem, reply
from fastgshare.runtime.turns import Turn


class Worker:
    """Calls the handler, under the token, for requests that have time left.

    now: monotonic seconds, the clock of the requests' deadlines.
    """

    def __init__(self, handler: Handler, turn: Turn, now: Callable[[], float], logger: logging.Logger) -> None:
        self._handler = handler
        self._turn = turn
        self._now = now
        self._logger = logger

    def work(self, requests: Sequence[Request], more: Callable[[], bool]) -> tuple[Reply, ...]:
        """One reply per request, in order. more: whether further work waits when this is done.

        Raises `InstanceFailed` if this instance may not use the device any more.
        """
        replies: dict[int, Reply] = {}
        if self._in_time(requests, replies):
            self._turn.begin(len(requests) - len(replies))
            try:
                self._under_token(requests, replies)
            finally:
                self._turn.end(more=more())
        return tuple(replies[position] for position in range(len(requests)))

    def _under_token(self, requests: Sequence[Request], replies: dict[int, Reply]) -> None:
        waiting = self._in_time(requests, replies)  # the token may have been long in coming
        if not waiting:
            return
        batch = [requests[position] for position in waiting]
        replies.update(zip(waiting, self._call(batch), strict=True))

    def _in_time(self, requests: Sequence[Request], replies: dict[int, Reply]) -> list[int]:
        """Positions still to be worked on; those too late get their reply here."""
        now_s = self._now()
        for position, request in enumerate(requests):
            if position not in replies and request.deadline_s <= now_s:
                replies[position] = _late(request)
        return [position for position in range(len(requests)) if position not in replies]

    def _call(self, batch: Sequence[Request]) -> list[Reply]:
        batchwise = self._handler.batchwise
        if batchwise is None:
            return self._one_by_one(batch)
        try:
            results = _as_many(batchwise(batch), batch)
        except InstanceFailed:
            raise
        except (Exception, SystemExit) as error:
            if len(batch) == 1:
                return [self._failed(batch[0], error)]
            self._logger.warning("the handler failed on %d requests, each is tried alone: %s", len(batch), error)
            return self._one_by_one(batch)
        return [self._reply(request, result) for request, result in zip(batch, results, strict=True)]

    def _one_by_one(self, batch: Sequence[Request]) -> list[Reply]:
        replies = []
        for position, request in enumerate(batch):
            if position:
                self._turn.next_request()
            late = request.deadline_s <= self._now()
            replies.append(_late(request) if late else self._single(request))
        return replies

    def _single(self, request: Request) -> Reply:
        try:
            result = self._result(request)
        except InstanceFailed:
            raise
        except (Exception, SystemExit) as error:
            return self._failed(request, error)
        return self._reply(request, result)

    def _result(self, request: Request) -> Result:
        if self._handler.single is not None:
            return self._handler.single(request)
        assert self._handler.batchwise is not None
        return _as_many(self._handler.batchwise([request]), [request])[0]

    def _reply(self, request: Request, result: Result) -> Reply:
        if isinstance(result, Exception):
            return self._failed(request, result)
        try:
            return reply(request, result)
        except (TypeError, ValueError, RecursionError, MemoryError) as error:
            return self._failed(request, error)

    def _failed(self, request: Request, error: BaseException) -> Reply:
        if isinstance(error, MemoryError):
            self._logger.error("out of memory: %s", describe(error))
            return problem(request, 500, f"out of memory, the share's mem is too small: {describe(error)}")
        if not isinstance(error, BadRequest):
            self._logger.error("the handler failed on request %d", request.id, exc_info=error)
        return failure(request, error)


def _late(request: Request) -> Reply:
    return problem(request, 504, "the deadline had passed before the work could start")


def _as_many(results: Sequence[Result], batch: Sequence[Request]) -> Sequence[Result]:
    results = list(results)
    if len(results) != len(batch):
        raise ValueError(f"handle returned {len(results)} results for {len(batch)} requests")
    return results
