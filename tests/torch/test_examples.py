"""The example of torch, with a small network in the place of the real one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertModel

import torch
from fastgshare.runtime.models import Session
from fastgshare.runtime.torch_backend import TorchBackend
from fastgshare.spec.functions import load_file
from fastgshare.spec.references import split_handler

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import export_topic  # noqa: E402  # the examples are no package


@pytest.fixture(scope="module")
def network() -> BertModel:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertModel(BertConfig(vocab_size=50, max_position_embeddings=128, **sizes)).eval()


@pytest.fixture(scope="module")
def session(network: BertModel, tmp_path_factory: pytest.TempPathFactory) -> Session:
    path = tmp_path_factory.mktemp("example") / "topic.pt2"
    export_topic.export(network, path)
    return TorchBackend("cpu").open(path, threads=1, spin=False)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 12), (3, 128)])
def test_the_program_gives_what_the_network_gives(network: BertModel, session: Session, rows: int, tokens: int) -> None:
    given = {name: np.ones((rows, tokens), dtype=np.int64) for name in export_topic.INPUTS}
    (states,) = session.run(given, ["last_hidden_state"])
    with torch.inference_mode():
        expected = network(*(torch.ones(rows, tokens, dtype=torch.int64) for _ in given)).last_hidden_state
    np.testing.assert_allclose(states, expected.numpy(), atol=1e-5)


def test_the_functions_of_the_example_are_valid_and_use_what_is_written() -> None:
    (function,) = load_file(EXAMPLES / "topic_torch.yaml")
    assert function.model == str(export_topic.TARGET)
    assert function.handler is not None
    assert Path(split_handler(function.handler)[0]).is_file()
