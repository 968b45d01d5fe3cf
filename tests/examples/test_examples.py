"""The examples as a user has them: functions.yaml, real weights, real processes, the inputs in examples/data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.running_instances import RunningInstance, running

from fastgshare.dispatch.frames import Hello, Ready, encode
from fastgshare.domain.functions import Function
from fastgshare.domain.requests import Reply
from fastgshare.spec.functions import dump, load_file

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data"
FUNCTIONS = {function.name: function for function in load_file(EXAMPLES / "functions.yaml")}


@pytest.fixture(scope="module")
def instances() -> Iterator[dict[str, RunningInstance]]:
    with ExitStack() as stack:
        started = {name: stack.enter_context(running()) for name in FUNCTIONS}
        for name, instance in started.items():
            instance.peer.sendall(encode(Hello(hello(FUNCTIONS[name]))))
        for instance in started.values():
            ready = instance.receive()
            assert isinstance(ready, Ready), ready
            assert ready.burst_s > 0
        yield started


def hello(function: Function) -> dict[str, object]:
    return {
        "instance_id": f"{function.name}-1",
        "function": dump(function),
        "threads": 1,
        "spin": False,
        "daemon_socket": None,
        "mem_bytes": function.share.mem_bytes,
    }


def parsed(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def test_ocr_reads_the_sign(instances: dict[str, RunningInstance]) -> None:
    answer = parsed(instances["ocr"].ask((DATA / "sign.png").read_bytes())[0])
    assert [line["text"] for line in answer["lines"]] == ["City Library", "Open 9 to 18"]
    assert all(line["confidence"] > 0.9 for line in answer["lines"])


def test_topic_knows_what_the_sentence_is_about(instances: dict[str, RunningInstance]) -> None:
    answer = parsed(instances["topic"].ask((DATA / "sentence.txt").read_bytes())[0])
    assert answer["topic"] == "economy"
    assert len(answer["scores"]) == 12


def test_filetype_names_the_language_of_a_file_without_a_name(instances: dict[str, RunningInstance]) -> None:
    answer = parsed(instances["filetype"].ask((DATA / "unnamed").read_bytes())[0])
    assert (answer["type"], answer["group"]) == ("rust", "code")
    assert answer["score"] > 0.9


def test_speech_finds_both_sentences_and_the_pauses(instances: dict[str, RunningInstance]) -> None:
    """The recording: 0.6 s nothing, 1.75 s speech, 1 s nothing, 1.67 s speech, 0.7 s nothing."""
    answer = parsed(instances["speech"].ask((DATA / "speech.wav").read_bytes())[0])
    first, second = answer["speech"]
    assert (first["start_s"], second["start_s"]) == pytest.approx((0.6, 3.35), abs=0.1)
    assert (first["end_s"], second["end_s"]) == pytest.approx((2.35, 5.02), abs=0.2)
    assert answer["speech_share"] == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize("name", ["ocr", "topic", "speech"])
def test_what_is_not_their_input_is_the_senders_fault(instances: dict[str, RunningInstance], name: str) -> None:
    bad, good = instances[name].ask(b"", (DATA / FIRST_INPUT[name]).read_bytes())
    assert bad.status == 400
    assert bad.body.startswith(b"the body ")
    assert good.status == 200


FIRST_INPUT = {"ocr": "sign.png", "topic": "sentence.txt", "speech": "speech.wav"}


def test_all_shares_fit_two_cores() -> None:
    assert all(function.share.sm_partition == 50 for function in FUNCTIONS.values())
    assert sum(function.share.area for function in FUNCTIONS.values()) <= 1


def test_hello_needs_no_model() -> None:
    (function,) = load_file(EXAMPLES / "hello.yaml")
    with running() as instance:
        instance.peer.sendall(encode(Hello(hello(function))))
        assert instance.receive() == Ready(0.0)
        named, unnamed, bad = instance.ask(b"Ada", b"", b"\xff")
    assert (named.body, unnamed.body, bad.status) == (b"Hello, Ada!\n", b"Hello, world!\n", 400)
