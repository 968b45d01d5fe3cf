from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path
from zipfile import ZipFile

import pytest

from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.spec import frameworks
from fastgshare.spec.frameworks import (
    CUDA_PROVIDER,
    EXPORTED,
    ONNX,
    SCRIPTED,
    Format,
    check_content,
    check_framework,
    format_of,
)


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("/models/net.onnx", ONNX),
        ("package.inner:models/net.v2.onnx", ONNX),
        ("NET.ONNX", ONNX),
        ("/models/net.pt2", EXPORTED),
        ("/models/net.pt", SCRIPTED),
    ],
)
def test_the_end_of_a_name_says_what_opens_a_model(model: str, form: Format) -> None:
    assert format_of(model) is form


@pytest.mark.parametrize("model", ["/models/net", "/models.onnx/net", "package:net.safetensors", "/models/net.pth"])
def test_what_nothing_opens_is_refused_with_all_that_something_does(model: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        format_of(model)
    listed = ".onnx (ONNX model), .pt2 (program of torch.export), .pt (TorchScript model)"
    assert str(raised.value) == f"model: {model!r} is not allowed; allowed: a file whose name ends in one of {listed}"


def installed(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    """Every framework lies in that folder, or is nowhere."""
    spec = None if folder is None else ModuleSpec("framework", None, is_package=True)
    if spec is not None and spec.submodule_search_locations is not None:
        spec.submodule_search_locations.append(str(folder))
    monkeypatch.setattr(frameworks, "find_spec", lambda name: spec)


@pytest.mark.parametrize("kind", [DeviceKind.CPU, DeviceKind.GPU, DeviceKind.STANDIN])
def test_a_missing_framework_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch, kind: DeviceKind) -> None:
    installed(monkeypatch, None)
    with pytest.raises(InvalidValue) as raised:
        check_framework("net.pt2", kind, "device X")
    assert str(raised.value).endswith("allowed: .pt2 where torch is installed; install it: pip install torch")


def test_onnx_on_a_gpu_needs_the_cuda_provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, tmp_path)
    with pytest.raises(InvalidValue) as raised:
        check_framework("net.onnx", DeviceKind.GPU, "device GPU-1")
    advice = "install onnxruntime-gpu (in place of onnxruntime), or export the model for torch (.pt2)"
    assert str(raised.value).endswith(f".onnx on device GPU-1 where onnxruntime-gpu is installed; {advice}")
    assert check_framework("net.onnx", DeviceKind.STANDIN, "device standin") is ONNX
    (tmp_path / CUDA_PROVIDER).parent.mkdir()
    (tmp_path / CUDA_PROVIDER).touch()
    assert check_framework("net.onnx", DeviceKind.GPU, "device GPU-1") is ONNX


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n", True),
        ("cuda = None\n", True),
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", False),
        (None, False),
    ],
)
def test_torch_on_a_gpu_must_not_be_built_without_cuda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str | None, refused: bool
) -> None:
    installed(monkeypatch, tmp_path)
    if said is not None:
        (tmp_path / "version.py").write_text(said)
    assert check_framework("net.pt2", DeviceKind.CPU, "device cpu") is EXPORTED
    if not refused:
        assert check_framework("net.pt2", DeviceKind.GPU, "device GPU-1") is EXPORTED
        return
    with pytest.raises(
        InvalidValue, match=r"\.pt2 on device GPU-1 where torch is built for CUDA; install such a build"
    ):
        check_framework("net.pt2", DeviceKind.GPU, "device GPU-1")


def test_a_framework_that_says_nothing_of_where_it_is_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ValueError("__spec__ is None")

    monkeypatch.setattr(frameworks, "find_spec", broken)
    with pytest.raises(InvalidValue, match="where torch is installed"):
        check_framework("net.pt", DeviceKind.CPU, "device cpu")


def archive(path: Path, *members: str) -> Path:
    with ZipFile(path, "w") as file:
        for member in members:
            file.writestr(f"{path.stem}/{member}", b"")
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_checkpoint_is_no_program(tmp_path: Path, suffix: str) -> None:
    path = archive(tmp_path / f"sd{suffix}", "data.pkl", "data/0", "version")
    advice = r"this is a checkpoint .*, not a program: export it with torch\.export \(\.pt2\)"
    with pytest.raises(InvalidValue, match=advice):
        check_content(str(path), path)


@pytest.mark.parametrize("name", ["net.pt", "net.pt2", "net.onnx"])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"<html>not a model")
    with pytest.raises(InvalidValue, match=r"^model: .*(is a zip, and this file is none|which this file is not)"):
        check_content(str(path), path)


def test_programs_are_what_they_say(tmp_path: Path) -> None:
    scripted = archive(tmp_path / "s.pt", "data.pkl", "constants.pkl", "code/__torch__.py")
    exported = archive(tmp_path / "e.pt2", "models/model.json", "data/weights/weight_0")
    network = tmp_path / "n.onnx"
    network.write_bytes(b"\x08\x07")
    for path in (scripted, exported, network, tmp_path / "gone.onnx"):
        check_content(str(path), path)
