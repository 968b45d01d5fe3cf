"""OpenFaaS's JSON: deployments in, statuses out.

A function's share and whatever OpenFaaS has no field for travel in annotations that begin with ``fastgshare/``; its
replica bounds in OpenFaaS's own labels. `image` is the model reference, ``none`` for a handler alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fastgshare.domain.deployments import DeploymentStatus
from fastgshare.domain.functions import Function
from fastgshare.domain.instances import InstanceStatus
from fastgshare.spec import functions, problems, references
from fastgshare.spec.names import ANNOTATIONS, LABELS, PREFIX
from fastgshare.spec.numbers import written
from fastgshare.spec.problems import Problem

NO_MODEL: Final = "none"
HANDLER: Final = "fastgshare/handler"
REQUEST: Final = "fastgshare/gpu_quota_request"
MEM: Final = "fastgshare/gpu_mem"
_RENAMED: Final[dict[str | int, str]] = {"name": "service", "env": "envVars"}
_T = TypeVar("_T")
_TEXTS: Final = "a mapping of names to text"

OrEmpty = Annotated[_T, BeforeValidator(lambda value: {} if value is None else value)]
"""A mapping that OpenFaaS's tools may also send as null."""
OrNothing = Annotated[_T, BeforeValidator(lambda value: [] if value is None else value)]
"""A list that OpenFaaS's tools may also send as null."""


class _Document(BaseModel):
    """A JSON object. Unknown fields are ignored: OpenFaaS's tools may send more than is known here."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class ResourcesDocument(_Document):
    """A mapping with memory."""

    memory: str | None = Field(None, description="a size in bytes such as 512Mi")


class DeploymentDocument(_Document):
    """An OpenFaaS FunctionDeployment: a JSON object with service, image and annotations."""

    service: str = Field(description="1 to 63 letters, digits, '-' and '_', no '-' or '_' at its ends")
    image: str = Field("", description=f"absolute path of a model file, package:resource, or {NO_MODEL}")
    namespace: str | None = Field(None, description="text")
    env_process: str | None = Field(None, alias="envProcess", description="text")
    env: OrEmpty[dict[str, str]] = Field({}, alias="envVars", description=_TEXTS)
    labels: OrEmpty[dict[str, str]] = Field({}, description=_TEXTS)
    annotations: OrEmpty[dict[str, str]] = Field({}, description=_TEXTS)
    secrets: OrNothing[list[str]] = Field([], description="a list of names")
    constraints: OrNothing[list[str]] = Field([], description="a list of texts")
    limits: ResourcesDocument | None = Field(None, description="a mapping with memory")


class ScaleDocument(_Document):
    """An OpenFaaS ScaleServiceRequest: a JSON object with replicas."""

    replicas: int = Field(description="whole number from 0 to 1000", ge=0, le=1000)


class RemovalDocument(_Document):
    """An OpenFaaS DeleteFunctionRequest: a JSON object with functionName."""

    name: str = Field(alias="functionName", description="the name of a function", min_length=1)


def load_deployment(document: object) -> Function:
    """A function from an OpenFaaS FunctionDeployment.

    Without the annotation ``fastgshare/gpu_mem``, ``limits.memory`` is the memory cap; `envProcess` becomes the
    environment variable ``fprocess``, as OpenFaaS does it. Raises `InvalidValue` naming the field as OpenFaaS does.
    """
    parsed = problems.parse(DeploymentDocument, document)
    try:
        function = functions.load_wanted(_as_function(parsed))
    except Problem as problem:
        raise _in_openfaas_words(parsed, problem) from None
    _check_absolute(function)
    return function


def dump_deployment(function: Function) -> dict[str, object]:
    """A function as an OpenFaaS FunctionDeployment. `load_deployment` gives back an equal one."""
    return {"service": function.name, **_dump_common(function)}


def dump_status(status: DeploymentStatus, invocations: float) -> dict[str, object]:
    """A deployment as an OpenFaaS FunctionStatus, with a field of our own, ``fastgshare``.

    The latter holds ``instances`` (state, place on the device, last words) and ``problem`` (why wanted replicas are
    not there). invocations: how many requests the function has had.
    """
    deployment = status.deployment
    created = datetime.fromtimestamp(deployment.created_unix_s, UTC)
    return {
        "name": deployment.function.name,
        **_dump_common(deployment.function),
        "invocationCount": invocations,
        "replicas": deployment.replicas,
        "availableReplicas": status.available,
        "createdAt": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "fastgshare": {"instances": [_dump_instance(i) for i in status.instances], "problem": status.problem},
    }


def load_scale(document: object) -> int:
    """Replicas that a ScaleServiceRequest asks for. Raises `InvalidValue`."""
    return problems.parse(ScaleDocument, document).replicas


def load_removal(document: object) -> str:
    """Name of the function that a DeleteFunctionRequest is about. Raises `InvalidValue`."""
    return problems.parse(RemovalDocument, document).name


def _as_function(parsed: DeploymentDocument) -> dict[str, object]:
    """The deployment as a document of the shape that functions.yaml has."""
    document: dict[str, object] = {
        "name": parsed.service,
        "model": _load_model(parsed.image),
        "share": {},
        "env": {"fprocess": parsed.env_process, **parsed.env} if parsed.env_process else parsed.env,
        "labels": {key: value for key, value in parsed.labels.items() if key not in LABELS},
        "annotations": {key: value for key, value in parsed.annotations.items() if not key.startswith(PREFIX)},
        "secrets": parsed.secrets,
        "constraints": parsed.constraints,
    }
    if parsed.namespace:
        document["namespace"] = parsed.namespace
    if parsed.limits is not None and parsed.limits.memory:
        _set(document, ANNOTATIONS[MEM], parsed.limits.memory)
    for key, value in parsed.labels.items():
        if key in LABELS:
            _set(document, LABELS[key], value)
    for key, value in parsed.annotations.items():
        if key.startswith(PREFIX):
            _set(document, _known(key, value), value)
    return document


def _load_model(image: str) -> str | None:
    return None if image in ("", NO_MODEL) else image


def _check_absolute(function: Function) -> None:
    """A relative path would mean another file on this machine than where it was written."""
    if function.model is not None and not references.is_absolute(function.model):
        raise Problem(("image",), function.model, _image_forms())
    if function.handler is not None:
        source, _ = references.split_handler(function.handler)
        if source.endswith(".py") and not source.startswith("/"):
            raise Problem(("annotations", HANDLER), function.handler, "/absolute/path.py:attribute or module:attribute")


def _image_forms() -> str:
    return problems.allowed(DeploymentDocument, ("image",))


def _known(key: str, value: str) -> problems.Path:
    path = ANNOTATIONS.get(key)
    if path is None:
        near = get_close_matches(key, list(ANNOTATIONS), n=1, cutoff=0.5)
        hint = f"; nearest: {near[0]}" if near else ""
        raise Problem(("annotations", key), value, f"the keys {', '.join(ANNOTATIONS)}{hint}")
    return path


def _set(document: dict[str, object], path: problems.Path, value: object) -> None:
    *outer, last = (str(part) for part in path)
    inner: object = document
    for part in outer:
        assert isinstance(inner, dict)
        inner = inner.setdefault(part, {})
    assert isinstance(inner, dict)
    inner[last] = value


def _in_openfaas_words(parsed: DeploymentDocument, problem: Problem) -> Problem:
    """The problem of the function's document, named as the deployment has it."""
    if problem.path == ANNOTATIONS[MEM] and MEM not in parsed.annotations:
        return Problem(("limits", "memory"), problem.value, problem.allowed)
    for kind, keys in (("annotations", ANNOTATIONS), ("labels", LABELS)):
        for key, path in keys.items():
            if problem.path == path:
                return Problem((kind, key), problem.value, problem.allowed.replace("share.request", REQUEST))
    if problem.path == ("model",):
        return Problem(("image",), parsed.image, f"{_image_forms()}, with the annotation {HANDLER} beside it")
    if problem.path == ("share",):
        return Problem(("annotations",), None, f"the keys {', '.join(ANNOTATIONS)}")
    head, *rest = problem.path
    return Problem((_RENAMED.get(head, head), *rest), problem.value, problem.allowed)


def _dump_common(function: Function) -> dict[str, object]:
    return {
        "image": NO_MODEL if function.model is None else function.model,
        "namespace": function.namespace,
        "envVars": dict(function.env),
        "labels": {**function.labels, **_dump_keys(function, LABELS)},
        "annotations": {**function.annotations, **_dump_keys(function, ANNOTATIONS)},
        "secrets": list(function.secrets),
        "constraints": list(function.constraints),
    }


def _dump_keys(function: Function, keys: Mapping[str, problems.Path]) -> dict[str, str]:
    """Fields of a function as the texts of annotations or labels; what the function has not is left out."""
    document = functions.dump(function)
    found = {key: problems.value_at(document, path) for key, path in keys.items()}
    return {key: _text(value) for key, value in found.items() if value is not None}


def _text(value: object) -> str:
    return written(value, 0) if isinstance(value, float) else str(value)


def _dump_instance(instance: InstanceStatus) -> dict[str, object]:
    rect = instance.placement.rect
    return {
        "id": instance.id,
        "state": instance.state.value,
        "pid": instance.pid,
        "device": instance.placement.device_id,
        "sm": rect.sm,
        "quota": rect.quota,
        "sm_offset": rect.sm_offset,
        "quota_offset": rect.quota_offset,
        "burst_ms": instance.burst_s * 1000,
        "reason": instance.reason,
    }
