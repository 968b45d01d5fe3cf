"""Says what kind of file something is, from its content alone: Google's Magika.

In: any file. Out: ``{"type", "description", "group", "mime_type", "score"}``; type is ``txt`` or ``unknown`` where the
network is not sure enough.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastgshare.runtime.handlers import Context, Request, Result

CONFIG: Final = "magika:models/standard_v3_3/config.min.json"
KINDS: Final = "magika:config/content_types_kb.min.json"
SAMPLE: Final = Path(__file__).parent / "data" / "unnamed"


@dataclass(frozen=True, slots=True)
class Config:
    """How the network wants to be used, as its makers wrote it down beside it."""

    beg_size: int
    end_size: int
    block_size: int
    padding_token: int
    min_file_size_for_dl: int
    medium_confidence_threshold: float
    thresholds: dict[str, float]
    overwrite_map: dict[str, str]
    target_labels_space: tuple[str, ...]


class FileType:
    """Batches of files in one run."""

    def __init__(self, context: Context) -> None:
        assert context.model is not None, "functions.yaml names the network"
        self._model = context.model
        document = json.loads(context.resource(CONFIG).read_text())
        self._config = Config(**{name: document[name] for name in Config.__dataclass_fields__})
        self._kinds = json.loads(context.resource(KINDS).read_text())

    def sample(self) -> bytes:
        """The file without a name beside this one."""
        return SAMPLE.read_bytes()

    def handle(self, requests: Sequence[Request]) -> list[Result]:
        """The type of every file."""
        answers: list[Result] = [None] * len(requests)
        rows: list[NDArray[np.int32]] = []
        positions: list[int] = []
        for position, request in enumerate(requests):
            row = features(request.body, self._config)
            if row is None:
                answers[position] = self._answer(few_bytes(request.body), 1.0)
            else:
                rows.append(row)
                positions.append(position)
        if rows:
            (scores,) = self._model.run({"bytes": np.stack(rows)})
            for position, label, score in zip(positions, scores.argmax(axis=1), scores.max(axis=1), strict=True):
                answers[position] = self._judge(self._config.target_labels_space[label], float(score))
        return answers

    def _judge(self, label: str, score: float) -> Result:
        """The network's label if it is sure enough, else no more than text or not."""
        named = self._config.overwrite_map.get(label, label)
        sure = score >= self._config.thresholds.get(label, self._config.medium_confidence_threshold)
        return self._answer(named if sure else "txt" if self._kinds[named]["is_text"] else "unknown", score)

    def _answer(self, label: str, score: float) -> Result:
        kind = self._kinds[label]
        return {
            "type": label,
            "description": kind["description"],
            "group": kind["group"],
            "mime_type": kind["mime_type"],
            "score": round(score, 3),
        }


def features(content: bytes, config: Config) -> NDArray[np.int32] | None:
    """What the network sees of a file: the bytes of its begin and its end, without the white space around.

    None if there are too few to judge.
    """
    begin = content[: config.block_size].lstrip()[: config.beg_size]
    end = content[-config.block_size :].rstrip()[-config.end_size :]
    if len(content) < config.min_file_size_for_dl or len(begin) < config.min_file_size_for_dl:
        return None
    row = np.full(config.beg_size + config.end_size, config.padding_token, dtype=np.int32)
    row[: len(begin)] = np.frombuffer(begin, dtype=np.uint8)
    if end:
        row[-len(end) :] = np.frombuffer(end, dtype=np.uint8)
    return row


def few_bytes(content: bytes) -> str:
    """The type of a file that is too short for the network."""
    if not content:
        return "empty"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "unknown"
    return "txt"
