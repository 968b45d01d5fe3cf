"""What the environment says, and what happens if it says it wrongly: a sentence, and no silent way past the share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hook.children import HOOK, Ended, run_python
from tests.hook.drivers import CALLED, OWN, build_hollow_driver

NOT_PERMITTED = 800
ALLOCATED = OWN + [row.name for row in CALLED].index("cuMemAlloc_v2")
GOOD = {"FASTGSHARE_SOCKET": "/nowhere/daemon.sock", "FASTGSHARE_INSTANCE": "one"}
WRONG = {
    "an empty socket": {"FASTGSHARE_SOCKET": ""},
    "a socket too long": {"FASTGSHARE_SOCKET": "/" + 107 * "s"},
    "an empty id": {"FASTGSHARE_INSTANCE": ""},
    "an id too long": {"FASTGSHARE_INSTANCE": 112 * "i"},
    "a choice unknown": {"FASTGSHARE_IF_UNENFORCED": "Pass"},
}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_hollow_driver(tmp_path_factory.mktemp("driver"))


def _allocate(driver: Path, env: dict[str, str]) -> Ended:
    code = """
driver = ctypes.CDLL("libcuda.so.1")
out = c_uint64()
tell(result=driver.cuMemAlloc_v2(byref(out), c_size_t(1)), again=driver.cuMemAlloc_v2(byref(out), c_size_t(1)))
"""
    return run_python(code, {"LD_PRELOAD": str(HOOK), "LD_LIBRARY_PATH": str(driver.parent), **env})


def test_without_a_socket_everything_passes_and_nothing_is_said(driver: Path) -> None:
    ended = _allocate(driver, {"FASTGSHARE_INSTANCE": "", "FASTGSHARE_IF_UNENFORCED": "nonsense"})

    assert ended.facts == {"result": ALLOCATED, "again": ALLOCATED}
    assert ended.stderr == ""


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_setting_refuses_with_one_sentence_that_names_it(driver: Path, wrong: str) -> None:
    ((name, value),) = WRONG[wrong].items()
    ended = _allocate(driver, GOOD | WRONG[wrong])

    assert ended.facts == {"result": NOT_PERMITTED, "again": NOT_PERMITTED}
    (line,) = ended.stderr.splitlines()
    assert line.startswith("fastgshare: ")
    assert f"{name} is '{value[:100]}" in line
    assert "it must be" in line


@pytest.mark.parametrize("wrong", ["an empty socket", "an id too long"])
def test_a_wrong_setting_passes_where_that_was_chosen_and_says_so(driver: Path, wrong: str) -> None:
    ended = _allocate(driver, GOOD | WRONG[wrong] | {"FASTGSHARE_IF_UNENFORCED": "pass"})

    assert ended.facts == {"result": ALLOCATED, "again": ALLOCATED}
    (line,) = ended.stderr.splitlines()
    assert "NOT ENFORCED" in line and "it must be" in line


def test_a_missing_id_is_a_wrong_setting(driver: Path) -> None:
    ended = _allocate(driver, {"FASTGSHARE_SOCKET": "/nowhere"})

    assert ended["result"] == NOT_PERMITTED
    assert "FASTGSHARE_INSTANCE is ''" in ended.stderr


TEXT = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=300)


@settings(max_examples=25)
@given(instance=TEXT, choice=TEXT)
def test_no_text_whatever_harms_the_process(driver: Path, instance: str, choice: str) -> None:
    env = {"FASTGSHARE_SOCKET": "", "FASTGSHARE_INSTANCE": instance, "FASTGSHARE_IF_UNENFORCED": choice}
    ended = _allocate(driver, env)

    assert ended["result"] == (ALLOCATED if choice == "pass" else NOT_PERMITTED)
