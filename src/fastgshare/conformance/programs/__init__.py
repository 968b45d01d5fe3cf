"""Probe programs in Python: what people write with cuda-bindings and with numba-cuda. Started, never imported."""
