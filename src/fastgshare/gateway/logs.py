"""Logs: lines of instances as OpenFaaS's ndjson, so far and as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.logs import LogLine
from fastgshare.domain.ports import Clock

_DEFAULT_TAIL: Final = 100
_MAX_TAIL: Final = 100_000
_LOOK_S: Final = 0.25
_LOOK_BACK: Final = 1000


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines are asked for. since_unix_s: none that are older. instance_id: empty for those of all instances."""

    name: str
    tail: int = _DEFAULT_TAIL
    follow: bool = False
    since_unix_s: float = 0.0
    instance_id: str = ""

    def wants(self, line: LogLine) -> bool:
        """Whether a line of this function is asked for."""
        return line.unix_s >= self.since_unix_s and self.instance_id in ("", line.instance_id)


def read_query(query: Mapping[str, str]) -> LogQuery:
    """What a query string asks for. Raises `InvalidValue` naming the parameter."""
    name = query.get("name", "")
    if not name:
        raise InvalidValue("name", name, "the name of a function")
    tail = query.get("tail", "")
    if tail and not (tail.isascii() and tail.isdigit() and int(tail) <= _MAX_TAIL):
        raise InvalidValue("tail", tail, f"0 to {_MAX_TAIL}")
    return LogQuery(
        name=name,
        tail=int(tail) if tail else _DEFAULT_TAIL,
        follow=_read_flag("follow", query.get("follow", "")),
        since_unix_s=_read_time("since", query.get("since", "")),
        instance_id=query.get("instance", ""),
    )


def dump_line(line: LogLine, namespace: str) -> bytes:
    """A line as OpenFaaS writes it, with its newline."""
    written = datetime.fromtimestamp(line.unix_s, UTC).isoformat(timespec="microseconds")
    document = {
        "name": line.function_name,
        "namespace": namespace,
        "instance": line.instance_id,
        "timestamp": written.replace("+00:00", "Z"),
        "text": line.text,
    }
    return json.dumps(document).encode() + b"\n"


async def follow(
    read: Callable[[str, int], Sequence[LogLine]], query: LogQuery, clock: Clock
) -> AsyncIterator[Sequence[LogLine]]:
    """The lines asked for that are there, then those that come, for ever; raises what `read` raises.

    More than 1000 lines within a quarter of a second are cut to the last 1000.
    """
    seen = read(query.name, _LOOK_BACK)
    wanted = [line for line in read(query.name, max(query.tail, 1)) if query.wants(line)]
    yield wanted[-query.tail :] if query.tail else ()
    while True:
        await clock.sleep_until(clock.now() + _LOOK_S)
        lines = read(query.name, _LOOK_BACK)
        yield [line for line in _behind(seen, lines) if query.wants(line)]
        seen = lines


def _behind(seen: Sequence[LogLine], lines: Sequence[LogLine]) -> Sequence[LogLine]:
    """Those of `lines` that come behind the last of `seen`."""
    if not seen:
        return lines
    for end in range(len(lines), 0, -1):
        if lines[end - 1] == seen[-1]:
            return lines[end:]
    return lines


def _read_flag(field: str, text: str) -> bool:
    if text not in ("", "0", "1", "true", "false"):
        raise InvalidValue(field, text, "true, false, 1 or 0")
    return text in ("1", "true")


def _read_time(field: str, text: str) -> float:
    if not text:
        return 0.0
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(field, text, "a time as in RFC 3339, such as 2026-01-31T12:00:00Z") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
