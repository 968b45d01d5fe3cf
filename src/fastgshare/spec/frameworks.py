"""Frameworks: what opens a model file, by how its name ends, and whether that is installed. None is imported here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final
from zipfile import BadZipFile, ZipFile

from fastgshare.domain.devices import DeviceKind
from fastgshare.spec.problems import Problem

CUDA_PROVIDER: Final = Path("capi", "libonnxruntime_providers_cuda.so")
"""What onnxruntime-gpu has in its package and onnxruntime has not."""
_WITHOUT_CUDA: Final = re.compile(r"^cuda\b[^=]*=\s*None", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of model file. suffix: how its name ends. module: what opens it. words: what a valid one is called."""

    suffix: str
    module: str
    words: str


ONNX: Final = Format(".onnx", "onnxruntime", "ONNX model")
EXPORTED: Final = Format(".pt2", "torch", "program of torch.export")
SCRIPTED: Final = Format(".pt", "torch", "TorchScript model")
FORMATS: Final = (ONNX, EXPORTED, SCRIPTED)
_WORDS: Final = {EXPORTED.suffix: f"a {EXPORTED.words}", SCRIPTED.suffix: f"a {SCRIPTED.words}"}
_CHECKPOINT: Final = "a checkpoint (state_dict or pickled module)"
_ONNX_TAGS: Final = tuple(
    bytes.fromhex(tag) for tag in ("08", "12", "1a", "22", "28", "32", "3a", "42", "72", "a201", "ca01")
)
"""What a model of ONNX can begin with: the tags of its fields in protobuf."""


def format_of(model: str) -> Format:
    """What kind of file a model reference names. Raises `InvalidValue` if the name ends in nothing known."""
    suffix = PurePosixPath(model).suffix.lower()
    for known in FORMATS:
        if known.suffix == suffix:
            return known
    listed = ", ".join(f"{known.suffix} ({known.words})" for known in FORMATS)
    raise Problem(("model",), model, f"a file whose name ends in one of {listed}")


def check_content(model: str, path: Path) -> None:
    """Raise `InvalidValue` for a file that its first bytes or its members show not to be what its name says."""
    suffix = PurePosixPath(model).suffix.lower()
    try:
        if suffix == ONNX.suffix and not _first_bytes(path).startswith(_ONNX_TAGS):
            raise Problem(("model",), model, "an ONNX model, which this file is not")
        if suffix in (EXPORTED.suffix, SCRIPTED.suffix):
            _check_archive(model, path, suffix)
    except OSError:
        return  # whoever opens it says why


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def _check_archive(model: str, path: Path, suffix: str) -> None:
    """Programs of torch are zips: TorchScript has its code in one, torch.export a description in JSON."""
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except BadZipFile:
        allowed = f"{_WORDS[suffix]}, which is a zip, and this file is none: export it with torch.export (.pt2)"
        raise Problem(("model",), model, allowed) from None
    scripted = any("/code/" in name for name in names) and any(name.endswith("/constants.pkl") for name in names)
    exported = any(name.endswith(".json") for name in names)
    if scripted or (suffix == EXPORTED.suffix and exported) or not any(n.endswith("/data.pkl") for n in names):
        return
    allowed = f"{_WORDS[suffix]}; this is {_CHECKPOINT}, not a program: export it with torch.export (.pt2)"
    raise Problem(("model",), model, allowed)


def check_framework(model: str, kind: DeviceKind, where: str) -> Format:
    """What kind of file a model is, if what opens it on such a device is installed here. where: the device, in words.

    Raises `InvalidValue` that says what to install.
    """
    form = format_of(model)
    folders = _folders(form.module)
    on_gpu = kind is DeviceKind.GPU
    if form is ONNX and on_gpu and not any((folder / CUDA_PROVIDER).is_file() for folder in folders):
        advice = "onnxruntime-gpu (in place of onnxruntime), or export the model for torch (.pt2)"
        raise Problem(("model",), model, f".onnx on {where} where onnxruntime-gpu is installed; install {advice}")
    if not folders:
        allowed = f"{form.suffix} where {form.module} is installed; install it: pip install {form.module}"
        raise Problem(("model",), model, allowed)
    if form.module == EXPORTED.module and on_gpu and any(map(_lacks_cuda, folders)):
        raise Problem(
            ("model",), model, f"{form.suffix} on {where} where torch is built for CUDA; install such a build"
        )
    return form


def _lacks_cuda(torch: Path) -> bool:
    """Whether the torch in that folder says itself that it is built without CUDA."""
    try:
        return _WITHOUT_CUDA.search((torch / "version.py").read_text()) is not None
    except OSError:
        return False


def _folders(module: str) -> list[Path]:
    """Where a top-level package lies; nowhere if it is not installed."""
    try:
        spec = find_spec(module)
    except ValueError:  # something of that name is loaded that says nothing of where it is from
        return []
    return [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
