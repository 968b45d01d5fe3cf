"""Finds where somebody speaks in a recording: Silero VAD over the whole recording in one run.

In: a WAV file, PCM of 8, 16 or 32 bit, any number of channels, at a multiple of 16 kHz. Out: ``{"speech": [{"start_s",
"end_s"}], "speech_share", "duration_s"}``.
"""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastgshare.runtime.handlers import BadRequest, Context, Request, Result

SAMPLE: Final = Path(__file__).parent / "data" / "speech.wav"

RATE: Final = 16_000
FRAME: Final = 512
"""Samples that the network judges at a time: 32 ms."""
BEFORE: Final = 64
"""Samples of the frame before that it sees too."""
MOST_FRAMES: Final = 512
"""Frames a run: about 16 s."""
BEGIN: Final = 0.5
END: Final = 0.35
"""Probabilities at which speech begins and below which it ends (the makers' own values, as are those below)."""
PAUSE: Final = 4
"""A pause of so many frames ends speech: the first number to last 0.1 s."""
SHORTEST_SPEECH_S: Final = 0.25
MARGIN_S: Final = 0.03

Floats = NDArray[np.float32]
Span = tuple[float, float]
"""Begin and end in seconds."""


class Speech:
    """One recording a request."""

    def __init__(self, context: Context) -> None:
        assert context.model is not None, "functions.yaml names the network"
        self._model = context.model

    def sample(self) -> bytes:
        """The recording beside this file."""
        return SAMPLE.read_bytes()

    def __call__(self, request: Request) -> Result:
        """Where one recording holds speech."""
        audio = samples(request.body)
        duration_s = audio.size / RATE
        spans = with_margin(spoken(self._probabilities(audio), duration_s), duration_s)
        return {
            "speech": [{"start_s": round(begin_s, 2), "end_s": round(end_s, 2)} for begin_s, end_s in spans],
            "speech_share": round(sum(end_s - begin_s for begin_s, end_s in spans) / max(duration_s, 1 / RATE), 3),
            "duration_s": round(duration_s, 3),
        }

    def _probabilities(self, audio: Floats) -> Floats:
        """How likely every frame holds speech; the network's state goes from run to run."""
        hidden, cell = np.zeros((2, 1, 1, 128), dtype=np.float32)
        parts = [np.zeros(0, dtype=np.float32)]
        rows = frames(audio)
        for first in range(0, len(rows), MOST_FRAMES):
            block = rows[first : first + MOST_FRAMES]
            part, hidden, cell = self._model.run({"input": block, "h": hidden, "c": cell}, ["speech_probs", "hn", "cn"])
            parts.append(part)
        return np.concatenate(parts)


def samples(body: bytes) -> Floats:
    """A WAV file's sound at 16 kHz, one channel, from -1 to 1. Raises `BadRequest`."""
    try:
        with wave.open(io.BytesIO(body)) as recording:
            channels, width, rate, *_ = recording.getparams()
            data = recording.readframes(recording.getnframes())
    except (wave.Error, EOFError) as error:
        raise BadRequest(f"the body is no WAV file that can be read ({str(error) or 'it ends too early'})") from error
    if width not in (1, 2, 4):
        raise BadRequest(f"sample width: {8 * width} bit is not allowed; allowed: 8, 16 and 32 bit")
    if rate % RATE:
        raise BadRequest(f"sample rate: {rate} is not allowed; allowed: multiples of {RATE} Hz")
    whole = len(data) - len(data) % (width * channels)
    levels = np.frombuffer(data[:whole], dtype=f"<i{width}" if width > 1 else "u1").astype(np.float32)
    if width == 1:
        levels -= 128
    mono = levels.reshape(-1, channels).mean(axis=1) if channels > 1 else levels
    return mono[:: rate // RATE] / np.float32(2 ** (8 * width - 1))


def frames(audio: Floats) -> Floats:
    """Sound as the network takes it: a row a frame, each led by the end of the one before."""
    count = -(-audio.size // FRAME)
    padded = np.zeros(BEFORE + count * FRAME, dtype=np.float32)
    padded[BEFORE : BEFORE + audio.size] = audio
    rows = np.empty((count, BEFORE + FRAME), dtype=np.float32)
    rows[:, :BEFORE] = padded[: count * FRAME].reshape(count, FRAME)[:, :BEFORE]
    rows[:, BEFORE:] = padded[BEFORE:].reshape(count, FRAME)
    return rows


def spoken(probabilities: Floats, duration_s: float) -> list[Span]:
    """Spans of speech: begun at a high probability, ended by a pause at low ones or by the recording's end."""
    spans: list[Span] = []
    begin: int | None = None
    quiet: int | None = None
    for frame, probability in enumerate(probabilities.tolist()):
        if probability >= BEGIN:
            begin = frame if begin is None else begin
            quiet = None
        elif begin is not None and (quiet is not None or probability < END):
            quiet = frame if quiet is None else quiet
            if probability < END and frame - quiet >= PAUSE:
                spans.append((begin * FRAME / RATE, quiet * FRAME / RATE))
                begin = quiet = None
    if begin is not None:
        spans.append((begin * FRAME / RATE, duration_s))
    return [(begin_s, end_s) for begin_s, end_s in spans if end_s - begin_s > SHORTEST_SPEECH_S]


def with_margin(spans: list[Span], duration_s: float) -> list[Span]:
    """Spans with a little of what is around them, within the recording and without touching each other."""
    ends = [0.0, *(end_s for _, end_s in spans)]
    begins = [*(begin_s for begin_s, _ in spans), duration_s]
    return [
        (
            max(begin_s - MARGIN_S, (ends[i] + begin_s) / 2 if i else 0.0),
            min(end_s + MARGIN_S, (end_s + begins[i + 1]) / 2 if i + 1 < len(spans) else duration_s),
        )
        for i, (begin_s, end_s) in enumerate(spans)
    ]
