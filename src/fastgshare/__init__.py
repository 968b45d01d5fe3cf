"""FaST-GShare: spatio-temporal sharing of accelerators between deep-learning functions."""

from importlib.metadata import version

__version__ = version("fastgshare")
