from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from tests.standin.programs import GIB, run_python

BINDINGS = '''
import ctypes
import numpy
from cuda.bindings import driver as cuda
from tests.standin.bodies import register

def must(answer):
    error, *values = answer
    assert error == cuda.CUresult.CUDA_SUCCESS, error
    return values[0] if len(values) == 1 else values

PTX = b"""
.version 8.0
.target sm_90
.address_size 64
//.standin full_ns=35000 blocks_per_sm=2 bandwidth=400
.visible .entry raise(.param .u64 values, .param .f32 what, .param .u32 count)
{ ret; }
"""

def body(launch):
    values = launch.floats(0, launch.number(2, ctypes.c_uint32))
    for i in range(len(values)):
        values[i] += launch.number(1, ctypes.c_float)

register("raise", body)
must(cuda.cuInit(0))
device = must(cuda.cuDeviceGet(0))
context = must(cuda.cuDevicePrimaryCtxRetain(device))
must(cuda.cuCtxSetCurrent(context))
stream = must(cuda.cuStreamCreate(0))
kernel = must(cuda.cuModuleGetFunction(must(cuda.cuModuleLoadData(PTX)), b"raise"))
host = numpy.arange(8, dtype=numpy.float32)
memory = must(cuda.cuMemAlloc(host.nbytes))
must(cuda.cuMemcpyHtoD(memory, host.ctypes.data, host.nbytes))

def launch():
    arguments = ((memory, 1.0, host.size), (None, ctypes.c_float, ctypes.c_uint32))
    must(cuda.cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, stream, arguments, 0))

def fetch():
    must(cuda.cuStreamSynchronize(stream))
    must(cuda.cuMemcpyDtoH(host.ctypes.data, memory, host.nbytes))
    print(*host.astype(int))
'''


def on_bindings(source: str, settings: str = "") -> list[str]:
    """Runs it behind what every program of the driver's API begins with."""
    return run_python(BINDINGS + textwrap.dedent(source), settings)


def test_the_bindings_launch_kernels() -> None:
    lines = on_bindings(
        """
        print(must(cuda.cuDeviceGetName(64, device)).rstrip(b"\\0").decode())
        before, after = must(cuda.cuEventCreate(0)), must(cuda.cuEventCreate(0))
        must(cuda.cuEventRecord(before, stream))
        launch()
        must(cuda.cuEventRecord(after, stream))
        fetch()
        print(must(cuda.cuEventElapsedTime(before, after)) >= 0.035)
        free, total = must(cuda.cuMemGetInfo())
        print(total, total - free >= host.nbytes)
        """,
        f"mem={2 * GIB}",
    )
    assert lines == ["Stand-in GPU (not real)", "1 2 3 4 5 6 7 8", "True", f"{2 * GIB} True"]


def test_the_bindings_capture_graphs() -> None:
    lines = on_bindings(
        """
        must(cuda.cuStreamBeginCapture(stream, cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
        launch()
        launch()
        graph = must(cuda.cuStreamEndCapture(stream))
        fetch()
        exec = must(cuda.cuGraphInstantiate(graph, 0))
        for _ in range(3):
            must(cuda.cuGraphLaunch(exec, stream))
        fetch()
        """
    )
    assert lines == ["0 1 2 3 4 5 6 7", "6 7 8 9 10 11 12 13"]


def test_the_bindings_launch_with_attributes_and_on_memory_of_pools() -> None:
    lines = on_bindings(
        """
        memory = must(cuda.cuMemAllocAsync(host.nbytes, stream))
        must(cuda.cuMemcpyHtoDAsync(memory, host.ctypes.data, host.nbytes, stream))
        config = cuda.CUlaunchConfig()
        config.gridDimX = config.gridDimY = config.gridDimZ = config.blockDimX = config.blockDimY = config.blockDimZ = 1
        config.hStream = stream
        arguments = ((memory, 2.0, host.size), (None, ctypes.c_float, ctypes.c_uint32))
        must(cuda.cuLaunchKernelEx(config, kernel, arguments, 0))
        fetch()
        must(cuda.cuMemFreeAsync(memory, stream))
        must(cuda.cuStreamSynchronize(stream))
        """
    )
    assert lines == ["2 3 4 5 6 7 8 9"]


def test_memory_that_is_not_there_is_an_error_and_the_program_goes_on() -> None:
    lines = on_bindings(
        f"""
        print(cuda.cuMemAlloc({3 * GIB})[0].name)
        print(cuda.cuMemAlloc({1 * GIB})[0].name)
        """,
        f"mem={2 * GIB}",
    )
    assert lines == ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_SUCCESS"]


NUMBA = """
import ctypes
import re
import numpy
from numba import cuda
from tests.standin.bodies import register

@cuda.jit("void(float32[::1], float32)")
def scale(values, factor):
    i = cuda.grid(1)
    if i < values.size:
        values[i] *= factor

# An array is passed as (meminfo, parent, items, bytes of an item, data, shape, strides).
def body(launch):
    values = launch.floats(4, launch.number(2, ctypes.c_uint64))
    for i in range(len(values)):
        values[i] *= launch.number(7, ctypes.c_float)

(ptx,) = scale.inspect_asm().values()
register(re.search(r"\\.entry (\\w+)", ptx)[1], body)
"""


def on_numba(source: str, settings: str = "") -> list[str]:
    """Runs it behind a kernel that numba has compiled."""
    # It warns of small grids, and that it links with the driver instead of nvJitLink.
    return run_python(NUMBA + textwrap.dedent(source), settings, {"PYTHONWARNINGS": "ignore"})


def test_numba_compiles_and_launches() -> None:
    lines = on_numba(
        """
        print(cuda.get_current_device().name, cuda.get_current_device().MULTIPROCESSOR_COUNT)
        values = cuda.to_device(numpy.arange(6, dtype=numpy.float32))
        scale[1, 32](values, 3.0)
        stream = cuda.stream()
        scale[1, 32, stream](values, 2.0)
        stream.synchronize()
        print(*values.copy_to_host().astype(int))
        start, end = cuda.event(), cuda.event()
        start.record()
        scale[1, 32](values, 1.0)
        end.record()
        end.synchronize()
        print(cuda.event_elapsed_time(start, end) > 0)
        print(cuda.current_context().get_memory_info().total)
        """,
        f"sms=12,mem={4 * GIB}",
    )
    assert lines == ["Stand-in GPU (not real) 12", "0 6 12 18 24 30", "True", str(4 * GIB)]


@pytest.mark.parametrize("library", ["libm.so.6", "libpthread.so.0"])
def test_a_preloaded_library_is_no_matter(library: str) -> None:
    source = "from numba import cuda; print(cuda.get_current_device().name)"
    assert run_python(source, "", {"LD_PRELOAD": library}) == ["Stand-in GPU (not real)"]


def test_processes_on_one_device_see_each_others_memory(tmp_path: Path) -> None:
    source = f"""
        import subprocess, sys
        from numba import cuda
        block = cuda.device_array({GIB}, dtype="uint8")
        free = "from numba import cuda; print(cuda.current_context().get_memory_info().free)"
        print(subprocess.run([sys.executable, "-c", free], capture_output=True, text=True, check=True).stdout.strip())
        """
    (free,) = run_python(source, f"state={tmp_path / 'device'},mem={4 * GIB}")
    assert int(free) <= 3 * GIB
