"""The worker on a GPU: networks of torch with random weights.

``python -m fastgshare.gpucheck.torch_worker --device D MODEL...``. Weights cost the same whatever they say, so none are
fetched: sizes come from the configurations of `transformers`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from fastgshare.gpucheck.loops import MonotonicClock, Task, play
from fastgshare.gpucheck.names import LAUNCHES, NETWORKS, SMALL_LAUNCHES
from fastgshare.gpucheck.workers import admitted, obey, say

BATCHES: Final = (1, 8)
_WARM_UP: Final = 3

Request = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the networks. image: pixels a side. tokens, words: of a sequence, of the vocabulary."""

    image: int = 224
    tokens: int = 128
    words: int = 30522
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    layers: int = 12
    hidden: int = 768
    heads: int = 12
    lstm_layers: int = 2
    lstm_hidden: int = 1024
    lstm_steps: int = 50


REAL: Final = Sizes()
"""ResNet-50, BERT-base, ViT-base with patches of 16, and an LSTM of two layers of 1024 over 50 steps."""

TINY: Final = Sizes(32, 8, 100, (1, 1), (16, 32), 1, 16, 2, 1, 16, 4)
"""For trying the worker itself."""


def _resnet50(sizes: Sizes) -> Any:
    transformers = import_module("transformers")
    width = sizes.widths[0] // 4
    config = transformers.ResNetConfig(
        embedding_size=width, hidden_sizes=list(sizes.widths), depths=list(sizes.depths), num_labels=1000
    )
    return transformers.ResNetForImageClassification(config)


def _bert(sizes: Sizes) -> Any:
    transformers = import_module("transformers")
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=sizes.words,
            hidden_size=sizes.hidden,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=4 * sizes.hidden,
        )
    )


def _lstm(sizes: Sizes) -> Any:
    return import_module("torch").nn.LSTM(sizes.lstm_hidden, sizes.lstm_hidden, sizes.lstm_layers, batch_first=True)


def _vit(sizes: Sizes) -> Any:
    transformers = import_module("transformers")
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=sizes.image,
            hidden_size=sizes.hidden,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=4 * sizes.hidden,
            num_labels=1000,
        )
    )


_NETWORKS: Final[Mapping[str, Callable[[Sizes], Any]]] = {
    "resnet50": _resnet50,
    "bert": _bert,
    "lstm": _lstm,
    "vit": _vit,
}


class Networks:
    """Networks on a device, as requests: input from the host, the network, its output back on the host.

    absent: those that could not be made, with the reason. Raises ImportError without torch.
    """

    def __init__(self, names: Sequence[str], device: str, sizes: Sizes = REAL) -> None:
        torch: Any = import_module("torch")
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.absent: dict[str, str] = {}
        self._torch = torch
        self._device = torch.device(device)
        self._sizes = sizes
        self._models: dict[str, Any] = {}
        self._requests: dict[tuple[str, int], Request] = {}
        for name in names:
            self._load(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that were made."""
        return tuple(self._models)

    def request(self, name: str, batch: int) -> Request:
        """A request of a network, warmed up when it is asked for first. Raises KeyError for one that is not there."""
        key = (name, 1 if name == LAUNCHES else batch)
        if key not in self._requests:
            made = self._small_kernels() if name == LAUNCHES else self._of_network(self._models[name], name, batch)
            for _ in range(_WARM_UP):
                made()
            self._requests[key] = made
        return self._requests[key]

    def parameters(self, name: str) -> int:
        """How many weights a network has. Raises KeyError for one that is not known."""
        return sum(each.numel() for each in self._made(name).parameters())

    def _made(self, name: str) -> Any:
        with self._device:  # weights are drawn where they stay
            return _NETWORKS[name](self._sizes).eval()

    def _load(self, name: str) -> None:
        try:
            self._models[name] = self._made(name)
            for batch in BATCHES:
                self.request(name, batch)
        except Exception as error:  # whatever a framework raises: the others can be measured all the same
            self._models.pop(name, None)
            self.absent[name] = f"{type(error).__name__}: {error}"[:300]

    def _input(self, name: str, batch: int) -> Any:
        torch, sizes = self._torch, self._sizes
        if name == "bert":
            given = torch.randint(0, sizes.words, (batch, sizes.tokens))
        elif name == "lstm":
            given = torch.randn(batch, sizes.lstm_steps, sizes.lstm_hidden)
        else:
            given = torch.randn(batch, 3, sizes.image, sizes.image)
        return given.pin_memory() if self._device.type == "cuda" else given

    def _of_network(self, model: Any, name: str, batch: int) -> Request:
        given = self._input(name, batch)

        def request() -> object:
            with self._torch.inference_mode():
                output = model(given.to(self._device, non_blocking=True))
                return (output[0] if isinstance(output, tuple) else next(iter(output.values()))).cpu()

        return request

    def _small_kernels(self) -> Request:
        value = self._torch.zeros(1, device=self._device)

        def request() -> object:
            with self._torch.inference_mode():
                for _ in range(SMALL_LAUNCHES):
                    value.add_(1)
                return value.cpu()

        return request


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", required=True, help="as torch names it")
    parser.add_argument("--tiny", action="store_true", help="networks that are small, and say nothing of real ones")
    parser.add_argument("models", nargs="*", choices=[*NETWORKS, []], help="that are loaded")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Load, say so, and obey until standard input ends. The exit status."""
    asked = _arguments(words)
    if not admitted():
        return 0
    began_s = time.monotonic()
    networks = Networks(asked.models, asked.device, TINY if asked.tiny else REAL)
    clock = MonotonicClock()

    def perform(task: Task) -> Mapping[str, object]:
        return play(task, networks.request(task.model, task.batch), clock).document()

    kind = "torch, random weights" + (", tiny networks" if asked.tiny else "")
    took_s = round(time.monotonic() - began_s, 1)
    say({"status": "ready", "models": networks.names, "absent": networks.absent, "kind": kind, "loaded_s": took_s})
    obey(perform)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
