from __future__ import annotations

import pytest
from hypothesis import given

from fastgshare.domain.errors import InvalidValue
from fastgshare.domain.shares import Share
from fastgshare.spec.shares import change_share, parse_share, write_share
from fastgshare.testing.strategies import shares


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("sm=30,request=0.3", Share(30, 0.3, 0.3)),
        ("sm=30,request=0.3,limit=0.8,mem=2GiB", Share(30, 0.3, 0.8, 2 * 2**30)),
        (" mem = 1024 , limit=1,request=.5,sm=1e1 ", Share(10, 0.5, 1.0, 1024)),
        ("sm=12.5,request=1,mem=9007199254740993", Share(12.5, 1, 1, 9007199254740993)),
    ],
)
def test_shares_as_people_write_them(text: str, share: Share) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize(
    ("text", "part", "value"),
    [
        ("", "part", ""),
        ("30", "part", "30"),
        ("sm=30,request=0.3,", "part", ""),
        ("sm=30,request=0.3,sm=40", "part", "sm=40"),
        ("sms=30,request=0.3", "part", "sms=30"),
        ("request=0.3", "sm", None),
        ("sm=30", "request", None),
        ("sm=x,request=0.3", "sm", "x"),
        ("sm=nan,request=0.3", "sm", "nan"),
        ("sm=0,request=0.3", "sm", 0),
        ("sm=101,request=0.3", "sm", 101),
        ("sm=30,request=30%", "request", "30%"),
        ("sm=30,request=0.5,limit=0.4", "limit", 0.4),
        ("sm=30,request=0.5,mem=much", "mem", "much"),
        ("sm=30,request=0.5,mem=-1", "mem", "-1"),
    ],
)
def test_what_is_wrong_is_named(text: str, part: str, value: object) -> None:
    with pytest.raises(InvalidValue) as raised:
        parse_share(text)
    assert raised.value.field == f"{part} of share {text}"
    assert raised.value.value == value
    assert "quota_" not in str(raised.value)


def test_a_change_leaves_what_it_does_not_name() -> None:
    share = Share(30, 0.3, 0.8, 1024)
    assert change_share(share, "request=0.5") == Share(30, 0.5, 0.8, 1024)
    assert change_share(share, "limit=1,mem=0") == Share(30, 0.3, 1.0, 0)
    with pytest.raises(InvalidValue, match=r"limit of share request=0\.9"):
        change_share(share, "request=0.9")


@given(shares())
def test_a_share_is_read_as_it_was_written(share: Share) -> None:
    read = parse_share(write_share(share))
    assert (read.sm_partition, read.mem_bytes) == (share.sm_partition, share.mem_bytes)
    assert abs(read.quota_request - share.quota_request) < 1e-5
