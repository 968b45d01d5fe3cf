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
