"""The GPUs of this machine, as `cluster` has them: see `manager.gpus`."""

from __future__ import annotations

from fastgshare.manager.gpus import Gpu as Gpu
from fastgshare.manager.gpus import NoGpu as NoGpu
from fastgshare.manager.gpus import find_gpus as find_gpus
from fastgshare.manager.mps_programs import mps_runs as mps_runs
