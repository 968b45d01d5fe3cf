"""Reads the text in an image: PP-OCRv4 finds the lines, its recogniser reads them.

In: an image file (PNG, JPEG, WebP ... whatever Pillow opens). Out: ``{"lines": [{"text", "confidence", "box"}]}`` in
reading order; a box is left, top, right, bottom in pixels. Text is expected to stand upright.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastgshare.runtime.handlers import BadRequest, Context, Request, Result

RECOGNISER: Final = "rapidocr_onnxruntime:models/ch_PP-OCRv4_rec_infer.onnx"
SAMPLE: Final = Path(__file__).parent / "data" / "sign.png"

LONGEST_SIDE: Final = 960
GRID: Final = 32
"""The detector halves its input five times."""
TEXT: Final = 0.3
"""Probability from which a pixel belongs to text."""
SURE: Final = 0.5
"""Mean probability from which an area is text."""
GROWTH: Final = 1.6
"""The detector marks the core of a line; a line is larger by this times area / perimeter on every side."""
LINE_HEIGHT: Final = 48

Box = tuple[int, int, int, int]
"""Left, top, right, bottom; right and bottom lie outside."""
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Ocr:
    """One image a request."""

    def __init__(self, context: Context) -> None:
        assert context.model is not None, "functions.yaml names the detector as the model"
        self._detector = context.model
        self._recogniser = context.open_model(RECOGNISER)
        self._alphabet = ["", *self._recogniser.metadata["character"].splitlines(), " "]

    def sample(self) -> bytes:
        """The sign beside this file."""
        return SAMPLE.read_bytes()

    def __call__(self, request: Request) -> Result:
        """The lines of one image."""
        image = open_image(request.body)
        lines = []
        for box in reading_order(self._find(image)):
            text, confidence = self._read(image.crop(box))
            if text:
                lines.append({"text": text, "confidence": round(confidence, 3), "box": box})
        return {"lines": lines}

    def _find(self, image: Image.Image) -> list[Box]:
        """Where lines of text are, in pixels of the image."""
        scale = min(1.0, LONGEST_SIDE / max(image.size))
        width, height = (max(GRID, round(side * scale / GRID) * GRID) for side in image.size)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        (probabilities,) = self._detector.run({self._detector.inputs[0].name: normalised(resized)})
        x_scale, y_scale = image.width / width, image.height / height
        return [
            (round(left * x_scale), round(top * y_scale), round(right * x_scale), round(bottom * y_scale))
            for left, top, right, bottom in text_boxes(probabilities[0, 0])
        ]

    def _read(self, line: Image.Image) -> tuple[str, float]:
        """Text and mean confidence of a line. Lines are read one by one: short bursts share a device best."""
        size = (max(LINE_HEIGHT // 2, round(line.width * LINE_HEIGHT / line.height)), LINE_HEIGHT)
        scaled = line.resize(size, Image.Resampling.BILINEAR)
        (characters,) = self._recogniser.run({self._recogniser.inputs[0].name: normalised(scaled)})
        return self._decode(characters[0])

    def _decode(self, characters: Floats) -> tuple[str, float]:
        """Greedy CTC: the likeliest character of every step, repetitions and blanks dropped."""
        best = characters.argmax(axis=1)
        keep = best != 0
        keep[1:] &= best[1:] != best[:-1]
        text = "".join(self._alphabet[index] for index in best[keep])
        return text, float(characters.max(axis=1)[keep].mean()) if text else 0.0


def open_image(body: bytes) -> Image.Image:
    """The image in a request, in RGB. Raises `BadRequest`."""
    try:
        image = Image.open(io.BytesIO(body))
        return image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadRequest(f"the body is no image that can be read ({error})") from error


def normalised(image: Image.Image) -> Floats:
    """An image as the networks take it: [1, channel in BGR, row, column], from -1 to 1."""
    pixels: Pixels = np.asarray(image)
    channels = np.multiply(pixels[:, :, ::-1].transpose(2, 0, 1), 2 / 255, dtype=np.float32)
    channels -= 1
    return np.ascontiguousarray(channels)[None]


def text_boxes(probabilities: Floats) -> list[Box]:
    """Boxes of the areas that are text, grown to the size of their lines, in pixels of the map."""
    height, width = probabilities.shape
    boxes = []
    for left, top, right, bottom in components(probabilities > TEXT):
        area = (right - left) * (bottom - top)
        if min(right - left, bottom - top) < 3 or probabilities[top:bottom, left:right].mean() < SURE:
            continue
        grow = round(area * GROWTH / (2 * (right - left + bottom - top)))
        boxes.append((max(0, left - grow), max(0, top - grow), min(width, right + grow), min(height, bottom + grow)))
    return boxes


def components(mask: NDArray[np.bool_]) -> list[Box]:
    """Boxes of the connected areas of a mask: runs of every row, joined with those they touch in the row above."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = (indices.tolist() for indices in np.nonzero(edges == 1))
    ends = np.nonzero(edges == -1)[1].tolist()
    areas = Areas(len(rows))
    above: list[int] = []
    for row, group in groupby(range(len(rows)), rows.__getitem__):
        current = list(group)
        if above and rows[above[0]] == row - 1:
            for run, upper in product(current, above):
                if starts[run] < ends[upper] and starts[upper] < ends[run]:
                    areas.join(run, upper)
        above = current
    return [
        (min(starts[run] for run in runs), rows[runs[0]], max(ends[run] for run in runs), rows[runs[-1]] + 1)
        for runs in areas.members()
    ]


class Areas:
    """Which runs belong together (union-find)."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def join(self, one: int, other: int) -> None:
        """Both belong to one area, with all that belongs to either."""
        self._parents[self._root(one)] = self._root(other)

    def members(self) -> list[list[int]]:
        """The runs of every area, in order."""
        members: dict[int, list[int]] = {}
        for run in range(len(self._parents)):
            members.setdefault(self._root(run), []).append(run)
        return list(members.values())

    def _root(self, run: int) -> int:
        while self._parents[run] != run:
            self._parents[run] = self._parents[self._parents[run]]
            run = self._parents[run]
        return run


def reading_order(boxes: Sequence[Box]) -> list[Box]:
    """Boxes from top to bottom, those of one row from left to right."""
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box[1] + box[3]):
        middle = (box[1] + box[3]) / 2
        if rows and rows[-1][0][1] < middle < rows[-1][0][3]:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row)]
