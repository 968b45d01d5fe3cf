from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from tests.spec.strategies import functions as any_function

from fastgshare.domain.deployments import Deployment, DeploymentStatus
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.functions import Function, Replicas
from fastgshare.domain.instances import InstanceState, InstanceStatus
from fastgshare.domain.rects import Placement, Rect
from fastgshare.domain.shares import Share
from fastgshare.spec import openfaas

ANNOTATIONS = {
    "fastgshare/gpu_sm_partition": "50",
    "fastgshare/gpu_quota_request": "0.3",
    "fastgshare/gpu_quota_limit": "0.6",
    "fastgshare/gpu_mem": "512Mi",
}


def deployment(**fields: Any) -> dict[str, Any]:
    return {"service": "ocr", "image": "/m.onnx", "annotations": ANNOTATIONS, **fields}


@given(any_function())
def test_a_deployment_is_loaded_again_to_the_last_bit(function: Function) -> None:
    text = json.dumps(openfaas.dump_deployment(function), allow_nan=False)
    assert openfaas.load_deployment(json.loads(text)) == function


@given(any_function())
def test_all_keys_of_a_deployment_are_text(function: Function) -> None:
    document: dict[str, Any] = openfaas.dump_deployment(function)
    for field in ("labels", "annotations", "envVars"):
        assert all(isinstance(value, str) for value in document[field].values())


def test_annotations_carry_the_share() -> None:
    assert openfaas.load_deployment(deployment()).share == Share(50, 0.3, 0.6, 512 * 2**20)


def test_labels_carry_the_replica_bounds_and_others_are_kept() -> None:
    labels = {"com.openfaas.scale.min": "2", "com.openfaas.scale.max": "4", "com.openfaas.scale.factor": "20"}
    function = openfaas.load_deployment(deployment(labels=labels))
    assert function.replicas == Replicas(2, 4)
    assert function.labels == {"com.openfaas.scale.factor": "20"}


def test_openfaas_memory_limit_is_the_cap_unless_ours_is_there() -> None:
    limits = {"memory": "128Mi", "cpu": "100m", "nvidia.com/gpu": "1"}
    assert openfaas.load_deployment(deployment(limits=limits)).share.mem_bytes == 512 * 2**20
    annotations = {key: value for key, value in ANNOTATIONS.items() if key != "fastgshare/gpu_mem"}
    function = openfaas.load_deployment(deployment(limits=limits, annotations=annotations))
    assert function.share.mem_bytes == 128 * 2**20
    with pytest.raises(InvalidValue, match=r"limits.memory: '1Mi' is not allowed; .* at least 64Mi"):
        openfaas.load_deployment(deployment(limits={"memory": "1Mi"}, annotations=annotations))


def test_env_process_becomes_fprocess_as_in_openfaas() -> None:
    function = openfaas.load_deployment(deployment(envProcess="cat", envVars={"A": "b"}))
    assert function.env == {"fprocess": "cat", "A": "b"}


def test_unknown_fields_and_nulls_of_other_tools_are_ignored() -> None:
    nulls = {"labels": None, "envVars": None, "secrets": None, "constraints": None, "limits": None, "namespace": ""}
    function = openfaas.load_deployment(deployment(**nulls, readOnlyRootFilesystem=True, new_thing={"x": 1}))
    assert function.namespace == "fastgshare-fn"


def test_a_handler_alone_needs_no_image() -> None:
    annotations = {**ANNOTATIONS, "fastgshare/handler": "package.module:Handler"}
    for image in ("none", ""):
        assert openfaas.load_deployment(deployment(image=image, annotations=annotations)).model is None


@pytest.mark.parametrize(
    ("fields", "field", "value", "allowed"),
    [
        ({"service": 3}, "service", 3, "letters"),
        ({"service": ""}, "service", "", "letters"),
        ({"image": "m.onnx"}, "image", "m.onnx", "absolute path"),
        ({"image": "ghcr.io/a/b:latest"}, "image", "ghcr.io/a/b:latest", "absolute path"),
        ({"image": "none"}, "image", "none", "fastgshare/handler"),
        ({"annotations": {}}, 'annotations["fastgshare/gpu_sm_partition"]', None, "percent"),
        ({"labels": {"com.openfaas.scale.min": "x"}}, 'labels["com.openfaas.scale.min"]', "x", "whole number"),
        ({"labels": {"a": 1}}, "labels.a", 1, "text"),
        ({"envVars": {"a": 1}}, "envVars.a", 1, "text"),
        ({"limits": {"memory": 3}}, "limits.memory", 3, "512Mi"),
    ],
)
def test_bad_fields_are_named_as_openfaas_names_them(
    fields: dict[str, Any], field: str, value: object, allowed: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        openfaas.load_deployment(deployment(**fields))
    assert (caught.value.field, caught.value.value) == (field, value)
    assert allowed in caught.value.allowed


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("fastgshare/gpu_sm_partition", "150", "up to 100"),
        ("fastgshare/gpu_quota_limit", "0.1", "from fastgshare/gpu_quota_request (0.3)"),
        ("fastgshare/gpu_mem", "1Ki", "at least 64Mi"),
        ("fastgshare/gpu_sm_partitoin", "50", "nearest: fastgshare/gpu_sm_partition"),
        ("fastgshare/slo_percentile", "99", "milliseconds"),
        ("fastgshare/timeout_ms", "1h", "milliseconds"),
        ("fastgshare/handler", "relative.py:Handler", "/absolute/path.py:attribute"),
    ],
)
def test_bad_annotations_are_named(key: str, value: str, allowed: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        openfaas.load_deployment(deployment(annotations={**ANNOTATIONS, key: value}))
    assert caught.value.field.startswith("annotations[")
    assert allowed in caught.value.allowed


@pytest.mark.parametrize("document", [None, 3, "x", [], {}])
def test_what_is_no_deployment_is_refused(document: object) -> None:
    with pytest.raises(InvalidValue):
        openfaas.load_deployment(document)


def test_a_status_says_what_runs_where() -> None:
    function = openfaas.load_deployment(deployment())
    instances = (
        InstanceStatus("ocr-1", "ocr", InstanceState.READY, _place("ocr-1", 0.0), 41, 0.004),
        InstanceStatus("ocr-2", "ocr", InstanceState.FAILED, _place("ocr-2", 0.5), 0, 0.0, "model is corrupt"),
    )
    status = DeploymentStatus(Deployment(function, 3, 1_700_000_000.25), instances, "no place for a third")
    document: dict[str, Any] = openfaas.dump_status(status, 7)
    assert json.loads(json.dumps(document)) == document
    assert (document["name"], document["replicas"], document["availableReplicas"]) == ("ocr", 3, 1)
    assert document["invocationCount"] == 7
    assert document["createdAt"] == "2023-11-14T22:13:20.250Z"
    assert document["fastgshare"]["problem"] == "no place for a third"
    first, second = document["fastgshare"]["instances"]
    assert first == {
        "id": "ocr-1",
        "state": "ready",
        "pid": 41,
        "device": "cpu",
        "sm": 50.0,
        "quota": 0.3,
        "sm_offset": 0.0,
        "quota_offset": 0.0,
        "burst_ms": 4.0,
        "reason": "",
    }
    assert second["reason"] == "model is corrupt"


def test_a_status_can_be_deployed_again() -> None:
    function = openfaas.load_deployment(deployment())
    document = openfaas.dump_status(DeploymentStatus(Deployment(function, 1, 0.0), ()), 0)
    assert openfaas.load_deployment({**document, "service": document["name"]}) == function


def _place(instance_id: str, offset: float) -> Placement:
    return Placement(instance_id, "cpu", Rect(offset * 100, 0.0, 50.0, 0.3))


def test_scale_and_removal_requests_are_read() -> None:
    assert openfaas.load_scale({"serviceName": "ocr", "replicas": 3, "namespace": ""}) == 3
    assert openfaas.load_removal({"functionName": "ocr"}) == "ocr"


@pytest.mark.parametrize("replicas", [-1, 1001, "3", 1.5, None, True])
def test_replicas_out_of_bounds_are_refused(replicas: object) -> None:
    with pytest.raises(InvalidValue, match="replicas"):
        openfaas.load_scale({"replicas": replicas})


@pytest.mark.parametrize("document", [{}, {"functionName": ""}, {"functionName": 3}, None])
def test_a_removal_without_a_name_is_refused(document: object) -> None:
    with pytest.raises(InvalidValue):
        openfaas.load_removal(document)
