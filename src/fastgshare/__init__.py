"""FaST-GShare: spatio-temporal sharing of accelerators between deep-learning functions."""

__version__: str


def __getattr__(name: str) -> str:
    """The version, read when somebody asks: processes that must start quickly do not."""
    if name == "__version__":
        from importlib.metadata import version

        return version("fastgshare")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
