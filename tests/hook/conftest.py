"""Fixtures of the hook's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.hook.children import Holder, held


@pytest.fixture(scope="package")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holder]:
    """A node daemon of its own, for processes on shares of a stand-in."""
    with held(tmp_path_factory.mktemp("holder")) as holder:
        yield holder
