"""Keys of labels and annotations that stand for fields of a function."""

from __future__ import annotations

from typing import Final

from fastgshare.spec.problems import Path

PREFIX: Final = "fastgshare/"

ANNOTATIONS: Final[dict[str, Path]] = {
    "fastgshare/gpu_sm_partition": ("share", "sm"),
    "fastgshare/gpu_quota_request": ("share", "request"),
    "fastgshare/gpu_quota_limit": ("share", "limit"),
    "fastgshare/gpu_mem": ("share", "mem"),
    "fastgshare/handler": ("handler",),
    "fastgshare/slo_latency_ms": ("slo", "latency_ms"),
    "fastgshare/slo_percentile": ("slo", "percentile"),
    "fastgshare/batch_max_size": ("batch", "max_size"),
    "fastgshare/batch_max_wait_ms": ("batch", "max_wait_ms"),
    "fastgshare/queue_size": ("queue_size",),
    "fastgshare/timeout_ms": ("timeout_ms",),
    "fastgshare/burst_ms": ("burst_ms",),
    "fastgshare/trust_group": ("trust_group",),
}
"""Annotation -> where its value stands in a function of functions.yaml."""

LABELS: Final[dict[str, Path]] = {
    "com.openfaas.scale.min": ("replicas", "min"),
    "com.openfaas.scale.max": ("replicas", "max"),
}
"""Label -> where its value stands in a function of functions.yaml."""
