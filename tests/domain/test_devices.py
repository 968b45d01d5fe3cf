import pytest

from fastgshare.domain.devices import Device, DeviceKind
from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.shares import Share


@pytest.mark.parametrize(
    ("cores", "asked", "nearest"),
    [(2, 30, "50 and 100"), (2, 60, "50 and 100"), (4, 30, "25 and 50"), (4, 99, "75 and 100"), (8, 1, "12.5 and 25")],
)
def test_a_share_off_the_grid_is_refused_naming_the_two_nearest(cores: int, asked: float, nearest: str) -> None:
    device = Device("cpu", DeviceKind.CPU, cores, 0, tuple(range(cores)))
    with pytest.raises(InvalidValue, match=rf"sm_partition: {asked}.*; nearest: {nearest}$"):
        device.check(Share(asked, 0.5, 0.5))


@pytest.mark.parametrize("cores", [1, 2, 3, 7, 16])
def test_shares_on_the_grid_are_taken(cores: int) -> None:
    device = Device("cpu", DeviceKind.CPU, cores, 0, tuple(range(cores)))
    for sms in range(1, cores + 1):
        share = Share(100 * sms / cores, 0.5, 0.5)
        device.check(share)
        assert len(device.sms_of(0, share.sm_partition)) == sms


@pytest.mark.parametrize("kind", [DeviceKind.GPU, DeviceKind.STANDIN])
@pytest.mark.parametrize("sms", [8, 80, 132])
def test_shares_of_a_gpu_go_by_the_percent(kind: DeviceKind, sms: int) -> None:
    device = Device("cuda:0", kind, sms, 2**30)
    for percent in range(1, 101):
        device.check(Share(percent, 0.5, 0.5))
        assert device.sms_of(0, percent)[-1] < sms
    assert device.sms_of(50, 50) == tuple(range(sms // 2, sms))
    with pytest.raises(InvalidValue, match=rf"sm_partition: 12.5 .*\({sms} SMs\); nearest: 12 and 13$"):
        device.check(Share(12.5, 0.5, 0.5))
    with pytest.raises(InvalidValue, match="mem_bytes: 1073741825"):
        device.check(Share(10, 0.5, 0.5, 2**30 + 1))


def test_where_nothing_divides_a_device_only_the_whole_is_allowed() -> None:
    device = Device("standin", DeviceKind.STANDIN, 132, 80 * 2**30, steps=1)
    with pytest.raises(InvalidValue, match=r"allowed: 100: nothing divides the SMs of device standin \(no MPS: see"):
        device.check(Share(50, 0.5, 0.5))
    with pytest.raises(InvalidValue, match=r"nearest: 100$"):
        Device("cpu", DeviceKind.CPU, 1).check(Share(50, 0.5, 0.5))
    with pytest.raises(InvalidValue, match=r"at most 80Gi, which is what device standin has"):
        device.check(Share(100, 0.5, 0.5, 100 * 2**30))
