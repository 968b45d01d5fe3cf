"""A device's counters, read through NVML: of a GPU, or of the stand-in for one. What it does not have is left out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import NotFound
from fastgshare.domain.readings import Reading, XidVerdict, judge_xid

_MILLIWATTS: Final = 1000
_PERCENT: Final = 100


class GpuLost(Exception):
    """NVML says that the device does not answer any more."""


class NvmlCounters:
    """The counters of one device. nvml: the module `pynvml`, initialised.

    Raises `NotFound` if NVML does not know the device; then no other call is worth trying.
    """

    def __init__(self, nvml: Any, device: Device) -> None:
        self._nvml = nvml
        self._lost = False
        self._problem = ""
        self._deaf = ""
        self._handle: Any = None
        self._events: Any = None
        self._samples: Any = None
        try:
            self._handle = self._find(device)
            self._events = self._listen()
            self._samples = GpmSamples.of(nvml, self._handle)
        except GpuLost:
            self._lost = True

    @property
    def is_lost(self) -> bool:
        """Whether the device does not answer any more."""
        return self._lost

    def read(self, at_s: float) -> Reading:
        """All that the device says now; of one that is lost, that alone."""
        self._problem = ""
        if not self._lost:
            try:
                return self._read(at_s)
            except GpuLost:
                self._lost = True
        return Reading(at_s, lost=True, problem="the device is lost")

    def wait_for_xid(self, timeout_s: float) -> int | None:
        """The number of the next XID; None if there is none in this time, or the device does not tell.

        One that means that the device is lost counts as its loss, whatever other calls answer.
        """
        if self._events is None or self._lost:
            time.sleep(timeout_s)
            return None
        try:
            number = self._wait(max(1, round(timeout_s * 1000)))
        except GpuLost:
            self._lost = True
            return None
        self._lost |= number is not None and judge_xid(number) is XidVerdict.LOST
        return number

    def _find(self, device: Device) -> Any:
        nvml = self._nvml
        try:
            if device.kind is DeviceKind.STANDIN:
                return nvml.nvmlDeviceGetHandleByIndex(0)
            return nvml.nvmlDeviceGetHandleByUUID(device.id)
        except nvml.NVMLError_GpuIsLost:
            raise GpuLost from None
        except nvml.NVMLError as error:
            raise NotFound("device (for NVML)", f"{device.id}: {error}") from None

    def _listen(self) -> Any:
        """The set of events that XIDs come to; None where the device does not tell them."""
        nvml = self._nvml
        wanted = nvml.nvmlEventTypeXidCriticalError
        if not (self._ask(nvml.nvmlDeviceGetSupportedEventTypes) or 0) & wanted:
            return None
        events = self._try(nvml.nvmlEventSetCreate)
        if events is None:
            return None
        try:
            nvml.nvmlDeviceRegisterEvents(self._handle, wanted, events)
        except nvml.NVMLError_GpuIsLost:
            raise GpuLost from None
        except nvml.NVMLError:
            nvml.nvmlEventSetFree(events)
            return None
        return events

    def _wait(self, timeout_ms: int) -> int | None:
        nvml = self._nvml
        try:
            event = nvml.nvmlEventSetWait_v2(self._events, timeout_ms)
        except nvml.NVMLError_Timeout:
            return None
        except nvml.NVMLError_GpuIsLost:
            raise GpuLost from None
        except nvml.NVMLError as error:
            self._deaf = f"XIDs cannot be waited for: {error}"
            self._events = None
            return None
        return int(event.eventData) if event.eventType & nvml.nvmlEventTypeXidCriticalError else None

    def _read(self, at_s: float) -> Reading:
        nvml = self._nvml
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo)
        power = self._ask(nvml.nvmlDeviceGetPowerUsage)
        gpm = self._gpm()
        return Reading(
            at_s,
            utilisation=None if rates is None else rates.gpu / _PERCENT,
            sm_utilisation=gpm.get("NVML_GPM_METRIC_SM_UTIL"),
            sm_occupancy=gpm.get("NVML_GPM_METRIC_SM_OCCUPANCY"),
            graphics_utilisation=gpm.get("NVML_GPM_METRIC_GRAPHICS_UTIL"),
            memory_utilisation=gpm.get("NVML_GPM_METRIC_DRAM_BW_UTIL"),
            mem_used_bytes=None if memory is None else int(memory.used),
            mem_total_bytes=None if memory is None else int(memory.total),
            power_w=None if power is None else power / _MILLIWATTS,
            temperature_c=self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            sm_clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            problem=self._problem or self._deaf,
        )

    def _gpm(self) -> dict[str, float]:
        if self._samples is None:
            return {}
        found: dict[str, float] | None = self._try(self._samples.read)
        return found or {}

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._try(lambda: function(self._handle, *arguments))

    def _try(self, ask: Callable[[], Any]) -> Any:
        """An answer; None for what the device, its driver or this user's rights do not have. Raises `GpuLost`."""
        nvml = self._nvml
        try:
            return ask()
        except nvml.NVMLError_GpuIsLost:
            raise GpuLost from None
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLError_FunctionNotFound):
            return None
        except nvml.NVMLError as error:
            self._problem = f"NVML: {error}"
            return None


class GpmSamples:
    """Pairs of samples of the GPU's performance monitors, from Hopper on: figures of the time between two reads."""

    METRICS: Final = (
        "NVML_GPM_METRIC_SM_UTIL",
        "NVML_GPM_METRIC_SM_OCCUPANCY",
        "NVML_GPM_METRIC_GRAPHICS_UTIL",
        "NVML_GPM_METRIC_DRAM_BW_UTIL",
    )

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._older = nvml.nvmlGpmSampleAlloc()
        self._newer = nvml.nvmlGpmSampleAlloc()
        nvml.nvmlGpmSampleGet(handle, self._older)

    @classmethod
    def of(cls, nvml: Any, handle: Any) -> GpmSamples | None:
        """Those of a device, begun now; None if it has no such monitors or does not let this user have them."""
        try:
            if nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                return cls(nvml, handle)
        except nvml.NVMLError_GpuIsLost:
            raise GpuLost from None
        except nvml.NVMLError:
            pass
        return None

    def read(self) -> dict[str, float]:
        """Fractions from 0 to 1 by metric, over the time since the last read; what failed is not among them."""
        nvml = self._nvml
        nvml.nvmlGpmSampleGet(self._handle, self._newer)
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version = nvml.NVML_GPM_METRICS_GET_VERSION
        asked.numMetrics = len(self.METRICS)
        asked.sample1, asked.sample2 = self._older, self._newer
        for place, name in enumerate(self.METRICS):
            asked.metrics[place].metricId = getattr(nvml, name)
        self._older, self._newer = self._newer, self._older
        nvml.nvmlGpmMetricsGet(asked)
        answers = zip(self.METRICS, asked.metrics[: len(self.METRICS)], strict=True)
        return {name: min(1.0, max(0.0, each.value / _PERCENT)) for name, each in answers if self._holds(each)}

    def _holds(self, answer: Any) -> bool:
        return answer.nvmlReturn == self._nvml.NVML_SUCCESS and math.isfinite(answer.value)
