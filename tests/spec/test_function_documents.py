from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.spec.strategies import functions as any_function

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Batching, Function, Replicas, Slo
from fastgshare.domain.shares import Share
from fastgshare.spec import functions, references

SHARE = {"sm": 50, "request": 0.3}


def document(**fields: Any) -> dict[str, Any]:
    return {"name": "ocr", "model": "/m.onnx", "share": SHARE, **fields}


def refusal(text: str, tmp_path: Path) -> InvalidValue:
    path = tmp_path / "functions.yaml"
    path.write_text(text)
    with pytest.raises(InvalidValue) as caught:
        functions.load_file(path)
    return caught.value


@given(any_function())
def test_what_is_dumped_is_loaded_again_to_the_last_bit(function: Function) -> None:
    text = json.dumps(functions.dump(function), allow_nan=False)
    assert functions.load(json.loads(text)) == function


def test_every_field_arrives(tmp_path: Path) -> None:
    path = tmp_path / "functions.yaml"
    path.write_text(
        """
functions:
  - name: ocr
    model: models/m.onnx
    handler: ocr.py:Handler
    share: {sm: 50, request: 0.3, limit: 0.6, mem: 512Mi}
    slo: {latency_ms: 33.3, percentile: 99.9}
    batch: {max_size: 8, max_wait_ms: 5}
    replicas: {min: 0, max: 3}
    queue_size: 7
    timeout_ms: 1500
    burst_ms: 12.5
    env: {A: "1"}
    labels: {team: x}
    annotations: {note: y}
"""
    )
    assert functions.load_file(path) == [
        Function(
            name="ocr",
            share=Share(50, 0.3, 0.6, 512 * 2**20),
            model=str(tmp_path / "models" / "m.onnx"),
            handler=f"{tmp_path}/ocr.py:Handler",
            slo=Slo(0.0333, 0.999),
            batch=Batching(8, 0.005),
            replicas=Replicas(0, 3),
            queue_size=7,
            timeout_s=1.5,
            burst_s=0.0125,
            env={"A": "1"},
            labels={"team": "x"},
            annotations={"note": "y"},
        )
    ]


def test_what_is_left_out_has_the_values_of_the_domain() -> None:
    function = functions.load(document())
    assert function == Function(name="ocr", model="/m.onnx", share=Share(50, 0.3, 0.3))


def test_a_minimum_above_the_usual_maximum_raises_it() -> None:
    assert functions.load(document(replicas={"min": 8})).replicas == Replicas(8, 8)


def test_packages_and_modules_are_not_paths() -> None:
    function = functions.load(document(model="magika:a/m.onnx", handler="a.b:Handler"), base=Path("/base"))
    assert (function.model, function.handler) == ("magika:a/m.onnx", "a.b:Handler")


def test_a_path_with_a_colon_can_be_written() -> None:
    assert functions.load(document(model="./a:m.onnx"), base=Path("/base")).model == "/base/a:m.onnx"


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"share": {"sm": "half", "request": 0.3}}, "share.sm", "percent"),
        ({"share": {"sm": True, "request": 0.3}}, "share.sm", "percent"),
        ({"share": {"sm": float("nan"), "request": 0.3}}, "share.sm", "percent"),
        ({"share": {"sm": 120, "request": 0.3}}, "share.sm", "up to 100"),
        ({"share": {"sm": 50}}, "share.request", "fraction"),
        ({"share": {"sm": 50, "request": 0.3, "limit": 0.2}}, "share.limit", "from share.request (0.3)"),
        ({"share": {"sm": 50, "request": 0.3, "mem": "lots"}}, "share.mem", "512Mi"),
        ({"share": {"sm": 50, "request": 0.3, "mem": -1}}, "share.mem", "0 (no cap)"),
        ({"share": 3}, "share", "a mapping with sm"),
        ({"slo": {"latency_ms": 0}}, "slo.latency_ms", "milliseconds, above 0"),
        ({"slo": {"latency_ms": 5, "percentile": 100}}, "slo.percentile", "below 100"),
        ({"batch": {"max_size": 1.5}}, "batch.max_size", "whole number"),
        ({"batch": {"max_wait_ms": 99999}}, "batch.max_wait_ms", "milliseconds, 0 to 10000"),
        ({"replicas": {"min": 3, "max": 2}}, "replicas.max", "3 (replicas.min"),
        ({"timeout_ms": 0}, "timeout_ms", "milliseconds, above 0"),
        ({"burst_ms": -1}, "burst_ms", "milliseconds, 0"),
        ({"queue_size": 0}, "queue_size", "1 to 1000000"),
        ({"name": "-x"}, "name", "letters"),
        ({"name": None}, "name", "letters"),
        ({"model": None}, "model", "a model, a handler, or both"),
        ({"model": " "}, "model", "package:resource"),
        ({"handler": "handler.py"}, "handler", "path.py:attribute"),
        ({"handler": "hand ler:x"}, "handler", "path.py:attribute"),
        ({"env": {"N": 2}}, "env.N", "in quotes"),
        ({"env": {3: "x"}}, "env.3", "in quotes"),
        (
            {"env": {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "100"}},
            "env.CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
            "the share says them",
        ),
        ({"labels": {"com.openfaas.scale.min": "2"}}, 'labels["com.openfaas.scale.min"]', "the field replicas.min"),
        ({"annotations": {"fastgshare/gpu_mem": "1"}}, 'annotations["fastgshare/gpu_mem"]', "the field share.mem"),
        ({"annotations": {"fastgshare/x": "1"}}, 'annotations["fastgshare/x"]', "do not begin with"),
        ({"modle": "x"}, "modle", "nearest: model"),
        ({"replicas": {"mix": 2}}, "replicas.mix", "nearest: min"),
    ],
)
def test_bad_values_are_named(fields: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        functions.load(document(**fields))
    assert caught.value.field.replace("[3]", ".3") == field
    assert allowed in caught.value.allowed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_any_value_anywhere_is_taken_or_refused(data: st.DataObject) -> None:
    given_function = functions.dump(data.draw(any_function()))
    field = data.draw(st.sampled_from(sorted(given_function)))
    given_function[field] = data.draw(json_values)
    try:
        functions.load(given_function)
    except InvalidValue as error:
        assert field in error.field or error.field in ("model", "handler")


GOOD = """functions:
  - name: a
    model: m.onnx
    share:
      sm: 50
      request: 0.5
"""


def test_an_error_names_file_line_field_and_value(tmp_path: Path) -> None:
    error = refusal(GOOD + GOOD.replace("functions:\n", "").replace("50", "500"), tmp_path)
    assert error.field == f"{tmp_path}/functions.yaml, line 10: functions[1].share.sm of a"
    assert error.value == 500


def test_a_cap_too_small_to_start_in_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    error = refusal(GOOD + "      mem: 1Ki\n", tmp_path)
    assert str(error) == (
        f"{tmp_path}/functions.yaml, line 7: functions[0].share.mem of a: '1Ki' is not allowed; "
        "allowed: 0 (no cap) or at least 64Mi, which an instance needs to start"
    )
    kept = functions.load(document(share={**SHARE, "mem": 1024}))
    assert kept.share.mem_bytes == 1024
    assert functions.load_wanted(document(share={**SHARE, "mem": "64Mi"})).share.mem_bytes == 2**26


def test_what_else_must_hold_is_checked_in_the_words_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "functions.yaml"
    path.write_text(GOOD.replace("50", "30"))
    device = Device("cpu", DeviceKind.CPU, 2)
    with pytest.raises(InvalidValue, match=r"line 5: functions.0..share.sm of a: 30 is not .*50"):
        functions.load_file(path, check=lambda function: device.check(function.share))
    with pytest.raises(InvalidValue, match=r"line 3: functions.0..model of a: .*m.onnx' is not .*there is no file"):
        functions.load_file(path, check=references.check)


def test_yaml_that_is_none_names_its_line(tmp_path: Path) -> None:
    error = refusal("functions:\n  - name: a\n    model: [\n    share: {}\n", tmp_path)
    assert "functions.yaml, line" in error.field
    assert "YAML" in error.allowed


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (GOOD + "    model: n.onnx\n", "line 7"),
        (GOOD + GOOD.replace("functions:\n", ""), "line 7: functions[1].name"),
        (GOOD + "more: 1\n", "line 7: more"),
        ("", "line 1: document"),
        ("- 1\n", "line 1: document"),
        ("functions: 3\n", "line 1: functions"),
        ("functions: []\n", "line 1: functions"),
        ("functions: [3]\n", "line 1: functions[0]"),
        ("functions:\n- ? [a, b]\n  : 1\n", "line 2"),
        ("functions: !!python/object:os.system {}\n", "line 1"),
        ("a: \x01\n", "file"),
    ],
)
def test_files_that_are_wrong_as_a_whole_are_refused(text: str, field: str, tmp_path: Path) -> None:
    assert field in refusal(text, tmp_path).field


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="No such file"):
        functions.load_file(tmp_path / "none.yaml")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InvalidValue, match="UTF-8"):
        functions.load_file(path)
