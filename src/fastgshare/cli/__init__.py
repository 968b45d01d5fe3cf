"""The command line: one file a verb. The only room that wires objects together."""

from fastgshare.cli.group import main

__all__ = ["main"]
