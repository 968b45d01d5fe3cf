"""Tests that need torch.

torch is optional (``pip install fastgshare[torch]``) and large, so that not everybody who works on this has it. Where
it is not installed, this folder is not collected; CI installs it, so that everything runs there.
"""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
collect_ignore = [] if find_spec("transformers") else ["test_gpucheck_worker.py"]
