from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.standin.compilers import compile_cuda, toolkit
from tests.standin.programs import GIB, environment, run, run_python

from fastgshare.native import library

SOURCE = Path(__file__).parent / "probe.cu"

FINDINGS = {
    "device": "1 Stand-in GPU (not real)",
    "sms": "20 capability 9.0 warp 32",
    "versions": "13000 13000",
    "memory": str(8 * GIB),
    "streams": "3 1",
    "pools": "5",
    "captured": "3 0",
    "graph": "33",
    "built": "4 4",
    "variables": "3 4 2 16 7",
    "beyond": "cudaErrorInvalidValue",
    "launches": "4 1",
    "rows": "abcdef ---efg defghi pitch 1",
    "arrays": "32 5 3 6 14 0",
    "volumes": "yyxxx xxxxx xxxxx",
    "threads": "160 0",
    "shared": "mine theirs 0",
    "too much": "cudaErrorMemoryAllocation",
    "last": "cudaErrorMemoryAllocation",
    "taken": "cudaErrorMemoryAllocation",
    "after": "cudaSuccess",
    "no blocks": "cudaErrorInvalidConfiguration",
    "no device": "cudaErrorInvalidDevice",
    "no kernel": "cudaErrorInvalidDeviceFunction",
    "occupancy": "8 threads 1024",
    "entry": "0 1",
    "pointers": "1 1",
    "done": "",
}


@pytest.fixture(scope="module", params=["legacy", "per-thread"])
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp(request.param) / "probe"
    return compile_cuda(SOURCE, target, "--default-stream", request.param)


def findings(output: str) -> dict[str, str]:
    return {
        key: line.removeprefix(key).strip() for line in output.splitlines() for key in FINDINGS if line.startswith(key)
    }


@pytest.mark.parametrize("preload", ["", "libm.so.6", str(library("libfasthook.so"))], ids=["", "libm", "hook"])
def test_a_program_of_nvcc_runs_and_computes(probe: Path, tmp_path: Path, preload: str) -> None:
    settings = f"sms=20,mem={8 * GIB},state={tmp_path / 'device'}"
    assert findings(run([probe], settings, {"LD_PRELOAD": preload})) == FINDINGS


def test_devices_that_are_not_visible_are_not_there(probe: Path) -> None:
    done = subprocess.run(
        [probe],
        env=environment("", {"CUDA_VISIBLE_DEVICES": ""}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "cudaErrorNoDevice" in done.stdout


def test_every_function_that_the_header_declares_is_there() -> None:
    header = (toolkit() / "include" / "cuda_runtime_api.h").read_text()
    names = set(re.findall(r"CUDARTAPI\s+(cuda\w+)\(", header))
    assert len(names) > 280
    source = f"""
        import ctypes
        runtime = ctypes.CDLL("libcudart.so.13")
        print(*[name for name in {sorted(names)} if not hasattr(runtime, name)])
        not_supported = 801
        print(runtime.cudaGetExportTable(None, None) == runtime.cudaGetLastError() == not_supported)
        """
    assert run_python(source, "") == ["", "True"]
