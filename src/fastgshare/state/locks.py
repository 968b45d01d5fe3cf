"""A lock on a state directory: one platform at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from fastgshare.state.errors import StateUnavailable


class StateLock:
    """Holds a state directory, making it if need be, until closed or until the process ends, however it ends.

    Children do not inherit it. Raises `StateUnavailable` if another process holds it or it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateUnavailable(directory, f"it cannot be used as a directory ({error.strerror})") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise StateUnavailable(
                directory, f"in use by another platform (process {holder}); stop it or choose another directory"
            ) from None
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)
        except OSError as error:
            os.close(self._file)
            raise StateUnavailable(directory, f"it cannot be written ({error.strerror})") from None

    def close(self) -> None:
        """Give the directory up. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._file)

    def __enter__(self) -> StateLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
