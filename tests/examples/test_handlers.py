"""What the examples do before and after their networks."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from fastgshare.domain.requests import Request
from fastgshare.runtime.handlers import BadRequest
from fastgshare.runtime.start import Start, build
from fastgshare.runtime.worker import Worker
from fastgshare.spec.functions import load_file

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import filetype  # noqa: E402  # the examples are no package
import ocr  # noqa: E402
import speech  # noqa: E402

_WORKERS: dict[str, Worker] = {}


def answers(name: str, bodies: Sequence[bytes]) -> list[Any]:
    """What an example answers, in this process."""
    if name not in _WORKERS:
        function = next(f for f in load_file(EXAMPLES / "functions.yaml") if f.name == name)
        logger = logging.getLogger(name)
        handler, turn = build(Start(name, function, 1, False, None, 0), logger)
        _WORKERS[name] = Worker(handler, turn, time.monotonic, logger)
    requests = [Request(number, name, body, 0.0, math.inf) for number, body in enumerate(bodies)]
    replies = _WORKERS[name].work(requests, lambda: False)
    assert all(reply.status == 200 for reply in replies), [reply.body for reply in replies]
    return [json.loads(reply.body) for reply in replies]


def drawing(size: tuple[int, int], texts: Sequence[tuple[tuple[int, int], str, int]], mode: str = "RGB") -> bytes:
    image = Image.new("RGB", size, (245, 245, 245))
    draw = ImageDraw.Draw(image)
    for at, text, height in texts:
        draw.text(at, text, font=ImageFont.load_default(height), fill=(20, 20, 20))
    file = io.BytesIO()
    image.convert(mode).save(file, "PNG")
    return file.getvalue()


def read_by_ocr(body: bytes) -> list[str]:
    return [line["text"] for line in answers("ocr", [body])[0]["lines"]]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_ocr_reads_images_of_every_mode(mode: str) -> None:
    assert read_by_ocr(drawing((400, 96), [((24, 24), "Window 42", 40)], mode)) == ["Window 42"]


def test_ocr_reads_columns_from_left_to_right_and_rows_from_the_top() -> None:
    texts = [((30, 30), "North", 44), ((420, 34), "East", 44), ((34, 160), "South", 44), ((424, 156), "West", 44)]
    assert read_by_ocr(drawing((640, 256), texts)) == ["North", "East", "South", "West"]


def test_ocr_reads_a_large_picture() -> None:
    assert read_by_ocr(drawing((2400, 1200), [((300, 400), "Large letters", 200)])) == ["Large letters"]


def test_ocr_finds_nothing_where_nothing_is() -> None:
    assert read_by_ocr(drawing((200, 100), [])) == []
    assert read_by_ocr(drawing((1, 1), [])) == []


masks = st.integers(1, 12).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=12)
)


@given(masks)
def test_components_are_the_boxes_that_flooding_finds(rows: list[list[bool]]) -> None:
    left = {(y, x) for y, row in enumerate(rows) for x, there in enumerate(row) if there}
    flooded = []
    while left:
        area, edge = set(), {min(left)}
        while edge:
            area |= edge
            left -= edge
            edge = {(y + dy, x + dx) for y, x in edge for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))} & left
        ys, xs = zip(*area, strict=True)
        flooded.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1))
    assert sorted(ocr.components(np.array(rows))) == sorted(flooded)


@pytest.mark.parametrize(
    ("sentence", "topic"),
    [
        ("The goalkeeper saved a penalty in the last minute of the cup final.", "sport"),
        ("Add two eggs and a pinch of salt, then bake for twenty minutes.", "food"),
        ("Heavy snow is expected in the mountains tonight.", "weather"),
        ("The compiler now reports the line on which the error occurred.", "technology"),
        ("The doctor prescribed antibiotics for the infection.", "health"),
        ("The orchestra played the symphony twice.", "music"),
    ],
)
def test_topics_are_sensible(sentence: str, topic: str) -> None:
    assert answers("topic", [sentence.encode()])[0]["topic"] == topic


def test_a_topic_hardly_depends_on_the_company() -> None:
    sentences = [b"Heavy snow is expected.", b"The orchestra played the symphony twice, and then the whole hall sang."]
    together = answers("topic", sentences)
    for sentence, answer in zip(sentences, together, strict=True):
        (alone,) = answers("topic", [sentence])
        assert alone["topic"] == answer["topic"]
        assert alone["scores"] == pytest.approx(answer["scores"], abs=0.05)  # int8 is scaled by the whole batch


FILES = {
    "png": (EXAMPLES / "data" / "sign.png").read_bytes(),
    "wav": (EXAMPLES / "data" / "speech.wav").read_bytes(),
    "python": (EXAMPLES / "ocr.py").read_bytes(),
    "yaml": (EXAMPLES / "functions.yaml").read_bytes(),
    "txt": b"short",
    "unknown": b"\xff\xfe\x00",
    "empty": b"",
}


def test_types_of_a_batch_of_files() -> None:
    assert [answer["type"] for answer in answers("filetype", list(FILES.values()))] == list(FILES)


@given(st.binary(max_size=9000))
def test_features_are_begin_and_end_without_the_white_space(content: bytes) -> None:
    config = filetype.Config(1024, 1024, 4096, 256, 8, 0.5, {}, {}, ())
    row = filetype.features(content, config)
    if row is None:
        assert len(content[:4096].lstrip()) < 8
        return
    begin, end = [value for value in row[:1024] if value < 256], [value for value in row[1024:] if value < 256]
    assert bytes(begin) == content[:4096].lstrip()[:1024]
    assert bytes(end) == content[-4096:].rstrip()[-1024:]


def wav(audio: np.ndarray, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(channels)
        recording.setsampwidth(width)
        recording.setframerate(rate)
        recording.writeframes(audio.tobytes())
    return file.getvalue()


def spoken() -> np.ndarray:
    with wave.open(str(EXAMPLES / "data" / "speech.wav")) as recording:
        return np.frombuffer(recording.readframes(recording.getnframes()), dtype="<i2")


def test_other_forms_of_the_same_recording_hold_the_same_speech() -> None:
    audio = spoken()
    forms = [
        wav(audio),
        wav(np.repeat(audio, 2), channels=2),
        wav(np.repeat(audio, 3), rate=48_000),
        wav(audio.astype("<i4") << 16, width=4),
    ]
    first, *others = answers("speech", forms)
    assert len(first["speech"]) == 2
    assert all(other == first for other in others)


def test_a_long_recording_is_judged_in_pieces() -> None:
    (answer,) = answers("speech", [wav(np.tile(spoken(), 4))])

    def speech_at(when_s: float) -> bool:
        return any(span["start_s"] <= when_s <= span["end_s"] for span in answer["speech"])

    for begin_s in np.arange(4) * spoken().size / 16_000:
        assert [speech_at(begin_s + when_s) for when_s in (0.3, 1.3, 2.9, 4.2, 5.5)] == [
            False,
            True,
            False,
            True,
            False,
        ]


def test_silence_holds_no_speech() -> None:
    (answer,) = answers("speech", [wav(np.zeros(16_000, dtype="<i2"))])
    assert answer == {"speech": [], "speech_share": 0.0, "duration_s": 1.0}
    (nothing,) = answers("speech", [wav(np.zeros(0, dtype="<i2"))])
    assert nothing == {"speech": [], "speech_share": 0.0, "duration_s": 0.0}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is no WAV file that can be read (it ends too early)"),
        (b"RIFF....WAVEjunk", "the body is no WAV file"),
        (wav(np.zeros(8, dtype="<i2"), rate=44_100), "sample rate: 44100 is not allowed; allowed: multiples of 16000"),
        (wav(np.zeros(9, dtype="u1"), width=3), "sample width: 24 bit is not allowed"),
    ],
)
def test_recordings_that_cannot_be_judged_are_named(body: bytes, words: str) -> None:
    with pytest.raises(BadRequest) as error:
        speech.samples(body)
    assert words in str(error.value)


@given(st.lists(st.floats(0, 1), max_size=60).map(np.array))
def test_spans_lie_apart_within_the_recording(probabilities: np.ndarray) -> None:
    duration_s = len(probabilities) * speech.FRAME / speech.RATE
    spans = speech.with_margin(speech.spoken(probabilities, duration_s), duration_s)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert all(0 <= edge <= duration_s for edge in edges)
