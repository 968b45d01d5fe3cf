from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run, ScriptedGateway

from fastgshare.cli import waiting

FUNCTIONS = """functions:
  - name: ocr
    model: ocr.onnx
    share: {sm: 50, request: 0.3, limit: 0.6, mem: 512Mi}
  - name: topic
    model: topic.onnx
    share: {sm: 100, request: 0.5}
    replicas: {min: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    for name in ("ocr.onnx", "ocr2.onnx", "ocr3.onnx", "topic.onnx"):
        (tmp_path / name).write_bytes(b"\x08\x07")  # as an ONNX file begins
    path = tmp_path / "functions.yaml"
    path.write_text(FUNCTIONS)
    return str(path)


@pytest.fixture
def deployed(gateway: ScriptedGateway, run: Run, file: str) -> ScriptedGateway:
    assert run("deploy", "-f", file).exit_code == 0
    gateway.requests.clear()
    return gateway


# --- deploy ----------------------------------------------------------------------------------------------------------


def test_deploy_creates_functions_and_waits_until_they_are_ready(gateway: ScriptedGateway, run: Run, file: str) -> None:
    result = run("deploy", "-f", file)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ocr ready (1/1)\ntopic ready (2/2)\n", "")
    assert set(gateway.deployments) == {"ocr", "topic"}
    changes = [(method, path) for method, path, _, _ in gateway.requests if path == "/system/functions"]
    assert changes == [(method, "/system/functions") for method in ("PUT", "POST") * 2]


def test_deploy_replaces_and_waits_for_the_new_instances(deployed: ScriptedGateway, run: Run, file: str) -> None:
    Path(file).write_text(FUNCTIONS.replace("ocr.onnx", "ocr2.onnx"))
    assert run("deploy", "-f", file).exit_code == 0
    Path(file).write_text(FUNCTIONS.replace("ocr.onnx", "ocr3.onnx"))
    deployed.stubborn.add("ocr")
    result = run("deploy", "-f", file, "--timeout", "0.3")
    assert result.exit_code == 1
    assert result.stderr == "error: ocr: 0 of 1 replicas are ready after 0.3 s\n"
    assert result.stdout == "topic ready (2/2)\n"


def test_one_function_that_is_refused_does_not_keep_the_others(gateway: ScriptedGateway, run: Run, file: str) -> None:
    gateway.refused["ocr"] = 400, "sm_partition: 30 is not allowed"
    result = run("deploy", "-f", file)
    assert (result.exit_code, result.stdout) == (2, "topic ready (2/2)\n")
    assert result.stderr == f"error: {file}: ocr: sm_partition: 30 is not allowed\n"
    gateway.problems["topic"] = "gave up"
    assert run("deploy", "-f", file).exit_code == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("model: none.onnx", "there is no file"),
        ("model: no_such_package:m.onnx", "package no_such_package is not installed"),
        ("handler: none.py:Handler", "there is no file"),
    ],
)
def test_what_a_file_names_must_be_there(gateway: ScriptedGateway, run: Run, file: str, line: str, reason: str) -> None:
    Path(file).write_text(FUNCTIONS.replace("model: topic.onnx", line))
    result = run("deploy", "-f", file)
    assert (result.exit_code, result.stdout, gateway.requests) == (2, "", [])
    field = line.partition(":")[0]
    assert result.stderr.startswith(f"error: {file}, line 6: functions[1].{field} of topic: ")
    assert reason in result.stderr


def test_one_function_that_has_a_problem_does_not_keep_the_others(
    gateway: ScriptedGateway, run: Run, file: str
) -> None:
    gateway.problems["ocr"] = "instance ocr-1 failed: the model\nis corrupt"
    result = run("deploy", "-f", file)
    assert (result.exit_code, result.stdout) == (1, "topic ready (2/2)\n")
    assert result.stderr == "error: ocr: instance ocr-1 failed: the model is corrupt\n"


def test_a_problem_from_before_is_not_blamed_on_the_change(deployed: ScriptedGateway) -> None:
    old = waiting.Before(problem="gave up")
    same, other = waiting.Readiness("ocr", 0, 1, "gave up"), waiting.Readiness("ocr", 0, 1, "no place")
    assert [waiting._decided(same, old, s) for s in (0.0, 99.0)] == [False, True]
    assert waiting._decided(other, old, 0.0)


def test_instances_that_keep_their_old_quota_are_not_ready(deployed: ScriptedGateway) -> None:
    status = deployed.status("ocr")
    assert waiting.Readiness.of(status, waiting.Before()).ready
    status["annotations"]["fastgshare/gpu_quota_request"] = "0.5"
    assert not waiting.Readiness.of(status, waiting.Before()).ready


def test_deploy_without_waiting(gateway: ScriptedGateway, run: Run, file: str) -> None:
    gateway.problems["ocr"] = "not yet"
    result = run("deploy", "-f", file, "--no-wait")
    assert (result.exit_code, result.stdout) == (0, "ocr accepted\ntopic accepted\n")


def test_deploy_as_json(gateway: ScriptedGateway, run: Run, file: str) -> None:
    gateway.refused["topic"] = 500, "the disk is full"
    result = run("deploy", "-f", file, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [
        {"name": "ocr", "accepted": True, "ready": True, "available": 1, "replicas": 1, "problem": ""},
        {
            "name": "topic",
            "accepted": False,
            "ready": None,
            "available": None,
            "replicas": None,
            "problem": "the disk is full",
        },
    ]


def test_a_wrong_file_is_asked_wrongly_and_deploys_nothing(gateway: ScriptedGateway, run: Run, file: str) -> None:
    Path(file).write_text(FUNCTIONS.replace("sm: 100", "sm: lots"))
    result = run("deploy", "-f", file)
    assert result.exit_code == 2
    assert "functions.yaml, line 7: functions[1].share.sm of topic: 'lots' is not allowed" in result.stderr
    assert not gateway.requests


def test_a_gateway_that_is_not_there_is_one_clear_error(run: Run, file: str) -> None:
    for arguments in (["deploy", "-f", file], ["ls"], ["invoke", "ocr", "-d", "x"], ["rm", "ocr"], ["logs", "ocr"]):
        result = run(*arguments, "-g", "http://127.0.0.1:1")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: no gateway listens at http://127.0.0.1:1")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "0"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "--timeout"),
        ("scale", "ocr", "1", "--timeout"),
        ("invoke", "ocr", "--timeout"),
        ("bench", "tokens", "--instance", "sm=50,request=0.5", "--seconds"),
        ("demo", "--round-seconds"),
    ],
)
def test_numbers_that_are_none_are_asked_wrongly(run: Run, arguments: tuple[str, ...], number: str) -> None:
    result = run(*arguments, number)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: Invalid value for '{arguments[-1]}'")


# --- ls, scale, rm ---------------------------------------------------------------------------------------------------


def test_ls_shows_shares_and_problems(deployed: ScriptedGateway, run: Run) -> None:
    deployed.problems["topic"] = "2 of 2 instances have [no] place"
    lines = run("ls").stdout.splitlines()
    assert lines[0].split() == ["NAME", "READY", "SHARE", "OF", "EACH", "INVOCATIONS"]
    assert lines[1].split("  ")[0] == "ocr"
    assert "1/1" in lines[1]
    assert "50% SMs x 30-60% time, 512 MiB" in lines[1]
    assert "100% SMs x 50% time" in lines[2]
    assert lines[3:] == ["", "topic: 2 of 2 instances have [no] place"]


def test_ls_shortens_long_problems_to_a_line_each(deployed: ScriptedGateway, run: Run) -> None:
    deployed.problems = {"ocr": "it\nfailed", "topic": "word " * 100}
    lines = run("ls").stdout.splitlines()
    assert lines[4] == "ocr: it failed"
    assert lines[5].startswith("topic: word word")
    assert lines[5].endswith("...")
    assert max(map(len, lines)) <= len("topic: ") + 160
    problems = [status["fastgshare"]["problem"] for status in json.loads(run("ls", "--json").stdout)]
    assert problems == ["it\nfailed", "word " * 100]


def test_ls_as_json_is_what_the_gateway_says(deployed: ScriptedGateway, run: Run) -> None:
    assert [status["name"] for status in json.loads(run("ls", "--json").stdout)] == ["ocr", "topic"]


def test_ls_without_functions_says_what_to_do(gateway: ScriptedGateway, run: Run) -> None:
    result = run("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "fastgshare deploy" in result.stderr
    assert json.loads(run("ls", "--json").stdout) == []


def test_ls_of_functions_that_are_not_ours(gateway: ScriptedGateway, run: Run) -> None:
    gateway.answers["/system/functions"] = 200, b'[{"name": "nodeinfo", "image": "ghcr.io/nodeinfo:latest"}]'
    assert "nodeinfo  0/0" in run("ls").stdout


def test_scale_waits_and_says_how_many(deployed: ScriptedGateway, run: Run) -> None:
    result = run("scale", "ocr", "3")
    assert (result.exit_code, result.stdout) == (0, "ocr ready (3/3)\n")
    assert deployed.deployments["ocr"].replicas == 3
    assert json.loads(run("scale", "ocr", "0", "--json").stdout) == {
        "name": "ocr",
        "replicas": 0,
        "available": 0,
        "problem": "",
    }


def test_scale_that_does_not_fit_fails_with_the_reason(
    deployed: ScriptedGateway, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_OLD_NEWS_S", 0.0)
    deployed.problems["ocr"] = "3 of 4 instances have no place"
    result = run("scale", "ocr", "4", "--timeout", "9")
    assert (result.exit_code, result.stderr) == (1, "error: ocr: 3 of 4 instances have no place\n")


def test_scale_of_nothing(gateway: ScriptedGateway, run: Run) -> None:
    result = run("scale", "none", "1")
    assert (result.exit_code, result.stderr) == (1, "error: function 'none' does not exist\n")


def test_rm_removes_what_is_there_and_names_what_is_not(deployed: ScriptedGateway, run: Run) -> None:
    result = run("rm", "none", "ocr", "ocr")
    assert (result.exit_code, result.stdout) == (1, "removed ocr\n")
    assert result.stderr == "error: function 'none' does not exist\n"
    assert set(deployed.deployments) == {"topic"}
    result = run("rm", "topic", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"removed": ["topic"], "not_found": []})


# --- invoke ----------------------------------------------------------------------------------------------------------


def test_invoke_takes_text_a_file_or_stdin_and_prints_what_comes_back(
    deployed: ScriptedGateway, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "body").write_bytes(b"\xff\x00\n")
    assert run("invoke", "ocr", "-d", "abc").stdout_bytes == b"cba"
    assert run("invoke", "ocr", "--file", str(tmp_path / "body")).stdout_bytes == b"\n\x00\xff"
    assert run("invoke", "ocr", input=b"\xfe\xff").stdout_bytes == b"\xff\xfe"
    assert run("invoke", "ocr", "--file", "-", input=b"xy").stdout_bytes == b"yx"


def test_invoke_sends_headers(deployed: ScriptedGateway, run: Run) -> None:
    run("invoke", "ocr", "-d", "x", "-H", "Content-Type: text/x", "-H", "X-A:1:2")
    headers = deployed.requests[-1][2]
    assert (headers["Content-Type"], headers["X-A"]) == ("text/x", "1:2")


@pytest.mark.parametrize("header", ["nonsense", ": x", "a: b\nc"])
def test_a_header_that_is_none_is_asked_wrongly(deployed: ScriptedGateway, run: Run, header: str) -> None:
    assert run("invoke", "ocr", "-d", "x", "-H", header).exit_code == 2


def test_data_and_file_exclude_each_other(deployed: ScriptedGateway, run: Run, file: str) -> None:
    assert run("invoke", "ocr", "-d", "x", "--file", file).exit_code == 2


def test_a_function_that_fails_is_an_error_with_its_words(deployed: ScriptedGateway, run: Run) -> None:
    deployed.answers["/function/ocr"] = 422, b"this is\nno image"
    result = run("invoke", "ocr", "-d", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: ocr answered 422: this is no image\n"
    document = json.loads(run("invoke", "ocr", "-d", "x", "--json").stdout)
    assert (document["status"], document["body"], document["encoding"]) == (422, "this is\nno image", "utf-8")


def test_invoke_of_nothing_and_of_a_function_that_itself_answers_404(deployed: ScriptedGateway, run: Run) -> None:
    result = run("invoke", "none", "-d", "x")
    assert (result.exit_code, result.stderr) == (1, "error: function 'none' does not exist\n")
    deployed.answers["/function/ocr"] = 404, b"no such page"
    assert run("invoke", "ocr", "-d", "x").stderr == "error: ocr answered 404: no such page\n"


def test_an_answer_that_is_not_text_is_base64_in_json(deployed: ScriptedGateway, run: Run) -> None:
    document = json.loads(run("invoke", "ocr", "--json", input=b"\xff").stdout)
    assert (document["body"], document["encoding"]) == ("/w==", "base64")


# --- logs ------------------------------------------------------------------------------------------------------------


def test_logs_prints_lines(deployed: ScriptedGateway, run: Run) -> None:
    line = {"name": "ocr", "namespace": "", "instance": "ocr-1", "timestamp": "2026-01-01T00:00:00Z", "text": "hello"}
    deployed.answers["/system/logs"] = 200, (json.dumps(line) + "\n").encode() * 2
    assert run("logs", "ocr", "--tail", "2").stdout == "2026-01-01T00:00:00Z ocr-1 hello\n" * 2
    assert deployed.requests[-1][1] == "/system/logs?name=ocr&tail=2&follow=false"
    assert [json.loads(text) for text in run("logs", "ocr", "--json", "-f").stdout.splitlines()] == [line, line]


def test_logs_of_nothing(gateway: ScriptedGateway, run: Run) -> None:
    result = run("logs", "none")
    assert (result.exit_code, result.stderr) == (1, "error: function 'none' does not exist\n")


# --- gateways that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"<html>", b'{"a": 1}', b""])
def test_what_is_no_gateway_is_said(gateway: ScriptedGateway, run: Run, body: bytes) -> None:
    gateway.answers["/system/functions"] = 200, body
    result = run("ls")
    assert result.exit_code == 1
    assert "not JSON" in result.stderr or "not a JSON list" in result.stderr


def test_a_gateways_own_error_is_passed_on(gateway: ScriptedGateway, run: Run) -> None:
    gateway.answers["/system/functions"] = 500, b"state in /x: the disk is full"
    result = run("ls")
    assert (result.exit_code, result.stderr) == (1, "error: state in /x: the disk is full\n")
    gateway.answers["/system/functions"] = 503, b""
    assert run("ls").stderr == "error: the gateway answered with status 503\n"


def test_the_url_may_carry_a_path_and_credentials(gateway: ScriptedGateway, run: Run, monkeypatch: pytest.MonkeyPatch):
    import os

    url = os.environ["FASTGSHARE_GATEWAY"].replace("http://", "http://me:s%40cret@") + "/base/"
    monkeypatch.delenv("FASTGSHARE_GATEWAY")
    monkeypatch.setenv("OPENFAAS_URL", url)
    gateway.answers["/base/system/functions"] = 200, b"[]"
    assert run("ls").exit_code == 0
    assert gateway.requests[-1][2]["Authorization"] == "Basic bWU6c0BjcmV0"
