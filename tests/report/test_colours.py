from __future__ import annotations

import pytest

from fastgshare.report.colours import PALETTE, colours, function_of, labels_of, text_class


def test_a_function_has_the_same_colour_whatever_the_order() -> None:
    assert colours(["b", "a", "c"]) == colours(["c", "b", "a", "a"])


def test_functions_have_different_colours_as_far_as_the_palette_reaches() -> None:
    names = [f"f{i}" for i in range(len(PALETTE))]

    assert len(set(colours(names).values())) == len(PALETTE)
    assert len(colours([*names, "g"])) == len(PALETTE) + 1


@pytest.mark.parametrize(
    ("instance", "function"),
    [("ocr-1", "ocr"), ("ocr-det-1", "ocr-det"), ("ocr", "ocr"), ("ocrx-1", "ocrx-1"), ("ocr.2", "ocr")],
)
def test_an_instance_belongs_to_the_longest_function_name_it_begins_with(instance: str, function: str) -> None:
    assert function_of(instance, ["ocr", "ocr-det", "speech"]) == function


def test_every_instance_gets_a_label() -> None:
    assert labels_of(["a-1", "a-2", "zz"], ["a"]) == {"a-1": "a", "a-2": "a", "zz": "zz"}


def test_text_on_a_colour_can_be_read() -> None:
    assert text_class("#000000") == "on-dark"
    assert text_class("#ffffff") == "on-light"
