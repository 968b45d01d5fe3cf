"""Functions as documents: what functions.yaml holds, and what travels to instances and into the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Batching, Function, Replicas, Slo
from fastgshare.domain.shares import Share
from fastgshare.spec import problems, references
from fastgshare.spec.documents import FunctionDocument, ReplicasDocument, ShareDocument, SloDocument
from fastgshare.spec.lines import LocatedDocument
from fastgshare.spec.names import ANNOTATIONS, LABELS, PREFIX
from fastgshare.spec.numbers import plain, scaled, written
from fastgshare.spec.problems import Problem

_PATHS: Final[dict[str, problems.Path]] = {
    "sm_partition": ("share", "sm"),
    "quota_request": ("share", "request"),
    "quota_limit": ("share", "limit"),
    "mem_bytes": ("share", "mem"),
    "slo.latency_s": ("slo", "latency_ms"),
    "slo.fraction": ("slo", "percentile"),
    "batch.max_size": ("batch", "max_size"),
    "batch.max_wait_s": ("batch", "max_wait_ms"),
    "replicas.min": ("replicas", "min"),
    "replicas.max": ("replicas", "max"),
    "timeout_s": ("timeout_ms",),
    "burst_s": ("burst_ms",),
}
"""Field of the domain -> where its value stands in a document."""
MIN_MEM_BYTES: Final = 64 * 2**20
"""An instance with a smaller cap has no room to start in."""
_OF_A_SHARE: Final = ("CUDA_MPS_", "CUDA_VISIBLE_DEVICES", "FASTGSHARE_", "LD_PRELOAD")
_OTHER_UNITS: Final = {"slo.latency_s", "slo.fraction", "batch.max_wait_s", "timeout_s", "burst_s"}


def load(document: Mapping[str, object], *, base: Path | None = None) -> Function:
    """A function from a mapping of the shape that functions.yaml has.

    Relative paths in `model` and `handler` are resolved against `base`, or kept if there is none.
    Raises `InvalidValue` naming the field, its value and what is allowed.
    """
    parsed = problems.parse(FunctionDocument, document)
    _check_reserved("labels", parsed.labels, LABELS)
    _check_reserved("annotations", parsed.annotations, ANNOTATIONS)
    _check_env(parsed.env)
    try:
        return _function(parsed, base)
    except InvalidValue as error:
        raise _in_document_words(error, document) from None


def load_wanted(document: Mapping[str, object], *, base: Path | None = None) -> Function:
    """As `load`, for a function that somebody asks for now: its memory cap must also leave room to start in."""
    function = load(document, base=base)
    if 0 < function.share.mem_bytes < MIN_MEM_BYTES:
        path = _PATHS["mem_bytes"]
        allowed = "0 (no cap) or at least 64Mi, which an instance needs to start"
        raise Problem(path, problems.value_at(document, path), allowed)
    return function


def dump(function: Function) -> dict[str, object]:
    """A function as JSON values. `load` gives back an equal one."""
    return {
        "name": function.name,
        "model": function.model,
        "handler": function.handler,
        "namespace": function.namespace,
        "share": _dump_share(function.share),
        "slo": None if function.slo is None else _dump_slo(function.slo),
        "batch": {"max_size": function.batch.max_size, "max_wait_ms": _ms(function.batch.max_wait_s)},
        "replicas": {"min": function.replicas.minimum, "max": function.replicas.maximum},
        "queue_size": function.queue_size,
        "timeout_ms": _ms(function.timeout_s),
        "burst_ms": _ms(function.burst_s),
        "trust_group": function.trust_group,
        "env": dict(function.env),
        "labels": dict(function.labels),
        "annotations": dict(function.annotations),
        "secrets": list(function.secrets),
        "constraints": list(function.constraints),
    }


def load_file(path: Path, *, check: Callable[[Function], None] | None = None) -> list[Function]:
    """The functions of a functions.yaml; their relative paths are relative to its folder.

    check: what else must hold for every function, such as `references.check`; raises `InvalidValue` if it does not.
    Raises `InvalidValue` naming file, line, field, function, value and what is allowed.
    """
    located = LocatedDocument.read(path)
    functions: list[Function] = []
    try:
        listed = _listed(located.document)
        for index, item in enumerate(listed):
            functions.append(_load_item(index, item, path.absolute().parent, functions, check))
    except Problem as problem:
        raise located.locate(problem) from None
    return functions


def _listed(document: object) -> list[object]:
    if not isinstance(document, Mapping):
        raise Problem((), document, "a mapping with one field, functions")
    for key in document:
        if key != "functions":
            raise Problem((str(key),), document[key], "the field functions")
    listed = document.get("functions")
    if not isinstance(listed, list) or not listed:
        raise Problem(("functions",), listed, "a list of functions, at least one")
    return listed


def _load_item(
    index: int, item: object, base: Path, before: list[Function], check: Callable[[Function], None] | None
) -> Function:
    prefix = ("functions", index)
    if not isinstance(item, Mapping):
        raise Problem(prefix, item, FunctionDocument.__doc__ or "")
    try:
        function = load_wanted(item, base=base)
        if check is not None:
            check(function)
    except InvalidValue as error:
        raise _in_document_words(error, item).within(prefix) from None
    if any(function.name == other.name for other in before):
        raise Problem((*prefix, "name"), function.name, "a name that no other function in the file has")
    return function


def _in_document_words(error: InvalidValue, document: Mapping[str, object]) -> Problem:
    """What is wrong with a value of the domain, as the document has it: its names, its units, its values."""
    if isinstance(error, Problem):
        return error
    path = _PATHS.get(error.field, (error.field,))
    allowed = problems.allowed(FunctionDocument, path) if error.field in _OTHER_UNITS else error.allowed
    if error.field == "quota_limit":
        allowed = allowed.replace("quota_request", problems.field_name(_PATHS["quota_request"]))
    return Problem(path, problems.value_at(document, path), allowed)


def _function(parsed: FunctionDocument, base: Path | None) -> Function:
    return Function(
        name=parsed.name,
        model=None if parsed.model is None else references.resolve_model(parsed.model, base),
        handler=None if parsed.handler is None else references.resolve_handler(parsed.handler, base),
        namespace=parsed.namespace,
        share=_share(parsed.share),
        slo=None if parsed.slo is None else _slo(parsed.slo),
        batch=Batching(parsed.batch.max_size, scaled(parsed.batch.max_wait_ms, -3)),
        replicas=_replicas(parsed.replicas),
        queue_size=parsed.queue_size,
        timeout_s=scaled(parsed.timeout_ms, -3),
        burst_s=scaled(parsed.burst_ms, -3),
        trust_group=parsed.trust_group,
        env=parsed.env,
        labels=parsed.labels,
        annotations=parsed.annotations,
        secrets=tuple(parsed.secrets),
        constraints=tuple(parsed.constraints),
    )


def _share(parsed: ShareDocument) -> Share:
    limit = parsed.request if parsed.limit is None else parsed.limit
    return Share(float(parsed.sm), float(parsed.request), float(limit), parsed.mem)


def _slo(parsed: SloDocument) -> Slo:
    return Slo(scaled(parsed.latency_ms, -3), scaled(parsed.percentile, -2))


def _replicas(parsed: ReplicasDocument) -> Replicas:
    """Bounds; a minimum above the usual maximum raises the latter where none was asked for."""
    maximum = max(Replicas().maximum, parsed.minimum) if parsed.maximum is None else parsed.maximum
    return Replicas(parsed.minimum, maximum)


def _check_reserved(field: str, given: Mapping[str, str], reserved: Mapping[str, problems.Path]) -> None:
    """Refuse keys that stand for fields: which of the two should hold would be a guess."""
    for key, value in given.items():
        if key in reserved:
            raise Problem((field, key), value, f"the field {problems.field_name(reserved[key])} instead")
        if key.startswith(PREFIX):
            raise Problem((field, key), value, f"keys that do not begin with {PREFIX}")


def _check_env(given: Mapping[str, str]) -> None:
    """Refuse variables by which a process would say itself what share it is on."""
    for name, value in given.items():
        if name.startswith(_OF_A_SHARE):
            allowed = f"names that do not begin with {', '.join(_OF_A_SHARE)}: the share says them"
            raise Problem(("env", name), value, allowed)


def _dump_share(share: Share) -> dict[str, object]:
    return {
        "sm": share.sm_partition,
        "request": share.quota_request,
        "limit": share.quota_limit,
        "mem": share.mem_bytes,
    }


def _dump_slo(slo: Slo) -> dict[str, object]:
    return {"latency_ms": _ms(slo.latency_s), "percentile": plain(written(slo.fraction, 2))}


def _ms(duration_s: float) -> int | float | str:
    return plain(written(duration_s, 3))
