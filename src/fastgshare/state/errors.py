"""What can go wrong with kept state."""

from __future__ import annotations

from pathlib import Path

from fastgshare.domain.errors import FastGShareError


class StateUnavailable(FastGShareError):
    """Kept state cannot be read or written; the text names the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"state in {path}: {reason}")
        self.path = path
        self.reason = reason
