"""Loads: MLPerf's LoadGen drives an instance.

LoadGen's Python binding calls back from threads of its own, which wait for no event loop: queries are handed over to
the loop, and what has been answered is told to LoadGen from there. A test runs in a thread, as it returns when all is
answered. What LoadGen has measured stands in its log alone, so it gets a folder for each test and that is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

from fastgshare.cluster.feeds import Answer, Heard
from fastgshare.domain.errors import FastGShareError, InvalidValue
from fastgshare.domain.functions import Slo

EXTRA: Final = "profile"
_DETAIL: Final = "mlperf_log_detail.txt"
_PREFIX: Final = ":::MLLOG "
_MAX_SEED: Final = 2**31 - 1
_SLACK: Final = 1.1
"""LoadGen has this much more ready for Offline than the expected rate would take."""


class LoadFailed(FastGShareError):
    """LoadGen did not measure what it was to."""


class Target(Protocol):
    """Takes requests and answers each once, by id, whatever happens."""

    def offer(self, ids: Sequence[int]) -> None:
        """Ask once for every id."""

    def close(self, problem: str) -> None:
        """Answer all that waits, and whatever is offered from now on, at once."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a test gave: answers in the order in which they came, and LoadGen's own figures by their names."""

    answers: tuple[Answer, ...]
    results: dict[str, float]

    @property
    def problems(self) -> list[str]:
        """Of all requests that had no good answer."""
        return [answer.problem for answer in self.answers if answer.problem]

    @property
    def rps(self) -> float:
        """Answers a second, as LoadGen counts them."""
        names = ("result_samples_per_second", "result_completed_samples_per_sec")
        return next((self.results[name] for name in names if name in self.results), 0.0)

    @property
    def offered_rps(self) -> float:
        """Requests a second that were due, which chance makes more or fewer than asked for; 0 without a schedule."""
        return self.results.get("result_scheduled_samples_per_sec", 0.0)

    def percentile_s(self, percent: int) -> float | None:
        """A percentile of the latencies, from when a request was due."""
        found = self.results.get(f"result_{percent:.2f}_percentile_latency_ns")
        return None if found is None else found / 1e9

    def within(self, slo: Slo) -> bool:
        """Whether so many requests as wanted were answered, and within the bound."""
        late = self.results.get("result_overlatency_query_count", len(self.answers))
        count = self.results.get("result_query_count", len(self.answers))
        return not self.problems and count > 0 and late <= (1 - slo.fraction) * count


def load_generator() -> ModuleType:
    """LoadGen. Raises `InvalidValue` where it is not installed."""
    try:
        import mlperf_loadgen
    except ImportError as error:
        allowed = f"mlcommons-loadgen, installed: pip install 'fastgshare[{EXTRA}]' ({error})"
        raise InvalidValue("load generator", "mlperf_loadgen", allowed) from None
    module: ModuleType = mlperf_loadgen
    return module


@dataclass(slots=True, eq=False)
class Load:
    """One test of LoadGen. Give `hear` to what answers, then `offline` or `server`, once."""

    seed: int
    _answers: list[Answer] = field(default_factory=list)
    _loadgen: ModuleType = field(default_factory=load_generator)

    @property
    def hear(self) -> Heard:
        """To be told of answers, on the event loop."""
        return self._hear

    async def offline(self, target: Target, *, expected_rps: float, seconds: float) -> Measured:
        """As much as the target can take: all requests at once, so many as take about that long at that rate.

        Raises `LoadFailed`.
        """
        settings = self._settings("Offline", seconds)
        settings.offline_expected_qps = max(expected_rps, 1 / seconds) / _SLACK
        return await self._drive(target, settings)

    async def server(self, target: Target, *, offered_rps: float, seconds: float, slo: Slo) -> Measured:
        """Requests at random times, independent of each other and of the answers, for so long.

        Raises `LoadFailed`.
        """
        settings = self._settings("Server", seconds)
        settings.server_target_qps = offered_rps
        settings.server_target_latency_ns = round(slo.latency_s * 1e9)
        settings.server_target_latency_percentile = slo.fraction
        return await self._drive(target, settings)

    def _settings(self, scenario: str, seconds: float) -> Any:
        settings = self._loadgen.TestSettings()
        settings.mode = self._loadgen.TestMode.PerformanceOnly
        settings.scenario = getattr(self._loadgen.TestScenario, scenario)
        settings.min_duration_ms = max(1, round(seconds * 1000))
        settings.max_duration_ms = 0
        settings.min_query_count = 1
        settings.schedule_rng_seed = 1 + self.seed % _MAX_SEED
        settings.sample_index_rng_seed = settings.qsl_rng_seed = settings.schedule_rng_seed
        return settings

    def _hear(self, answers: Sequence[Answer]) -> None:
        self._answers += answers
        response = self._loadgen.QuerySampleResponse
        self._loadgen.QuerySamplesComplete([response(answer.id, 0, 0) for answer in answers])

    async def _drive(self, target: Target, settings: Any) -> Measured:
        with tempfile.TemporaryDirectory(prefix="fastgshare-loadgen-") as folder:
            test = asyncio.ensure_future(
                asyncio.to_thread(self._test, asyncio.get_running_loop(), target, settings, folder)
            )
            try:
                await asyncio.shield(test)
            except asyncio.CancelledError:
                target.close("the test was called off")  # LoadGen cannot be: it ends once all is answered
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((test,))
                raise
            return Measured(tuple(self._answers), _results(Path(folder) / _DETAIL))

    def _test(self, loop: asyncio.AbstractEventLoop, target: Target, settings: Any, folder: str) -> None:
        """In a thread: LoadGen calls `issue` from here or from its own ones, and returns when all is answered."""
        loadgen = self._loadgen

        def issue(samples: Sequence[Any]) -> None:
            loop.call_soon_threadsafe(target.offer, [sample.id for sample in samples])

        sut = loadgen.ConstructSUT(issue, _nothing)
        library = loadgen.ConstructQSL(1, 1, _nothing, _nothing)
        try:
            loadgen.StartTestWithLogSettings(sut, library, settings, self._logs(folder), "")
        finally:
            loadgen.DestroyQSL(library)
            loadgen.DestroySUT(sut)

    def _logs(self, folder: str) -> Any:
        output = self._loadgen.LogOutputSettings()
        output.outdir = folder
        output.copy_summary_to_stdout = False
        logs = self._loadgen.LogSettings()
        logs.log_output = output
        logs.enable_trace = False
        return logs


def _nothing(*_: object) -> None:
    """There is one sample, and it is loaded already."""


def _results(path: Path) -> dict[str, float]:
    """LoadGen's figures from its log. Raises `LoadFailed` where there are none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
        entries = [json.loads(line.removeprefix(_PREFIX)) for line in lines if line.startswith(_PREFIX)]
    except (OSError, ValueError) as error:
        raise LoadFailed(f"LoadGen left no log that can be read: {error}") from None
    found = {
        entry["key"]: float(entry["value"])
        for entry in entries
        if str(entry["key"]).startswith("result_") and isinstance(entry["value"], int | float)
    }
    errors = [str(entry["value"]) for entry in entries if entry["key"].startswith("error_")]
    if not found:
        raise LoadFailed(f"LoadGen measured nothing{': ' if errors else ''}{'; '.join(errors)}")
    return found
