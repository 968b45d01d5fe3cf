from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.domain.devices import DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.spec.devices import DeviceRequest, parse_device

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cpu", DeviceRequest(DeviceKind.CPU)),
        ("cuda", DeviceRequest(DeviceKind.GPU, 0)),
        ("cuda:3", DeviceRequest(DeviceKind.GPU, 3)),
        ("standin", DeviceRequest(DeviceKind.STANDIN, 0, 132, 80 * GIB)),
        ("standin:sms=80", DeviceRequest(DeviceKind.STANDIN, 0, 80, 80 * GIB)),
        ("standin:mem=16GiB,sms=24", DeviceRequest(DeviceKind.STANDIN, 0, 24, 16 * GIB)),
    ],
)
def test_devices_by_name(text: str, found: DeviceRequest) -> None:
    assert parse_device(text) == found


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("gpu", "device", "gpu"),
        ("cpu:0", "device", "cpu:0"),
        ("cuda:x", "device", "cuda:x"),
        ("cuda:-1", "device", "cuda:-1"),
        ("cuda:²", "device", "cuda:²"),
        ("standin:", "device", "standin:"),
        ("standin:cores=3", "device: part of standin", "cores=3"),
        ("standin:sms=3,sms=4", "device: part of standin", "sms=4"),
        ("standin:sms=0", "device: sms", "0"),
        ("standin:sms=many", "device: sms", "many"),
        ("standin:mem=1", "device: mem", "1"),
        ("standin:mem=lots", "device: mem", "lots"),
        ("", "device", ""),
    ],
)
def test_what_is_wrong_is_named(text: str, field: str, value: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        parse_device(text)
    assert (raised.value.field, raised.value.value) == (field, value)


requests = st.one_of(
    st.just(DeviceRequest(DeviceKind.CPU)),
    st.builds(DeviceRequest, st.just(DeviceKind.GPU), st.integers(0, 64)),
    st.builds(DeviceRequest, st.just(DeviceKind.STANDIN), st.just(0), st.integers(1, 1024), st.integers(2**20, 2**50)),
)


@given(requests)
def test_a_device_is_read_as_it_was_written(request: DeviceRequest) -> None:
    assert parse_device(str(request)) == request
