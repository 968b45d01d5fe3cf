"""``fastgshare demo``: the main job, end to end, and what sharing in space and time brings over time alone."""

from fastgshare.cli.demo.verb import demo

__all__ = ["demo"]
