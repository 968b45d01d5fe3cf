from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgshare.report import svg

any_text = st.text(st.characters(exclude_categories=()), max_size=40)  # with control characters and lone surrogates


@given(any_text, any_text)
def test_whatever_the_text_the_picture_is_well_formed(content: str, hint: str) -> None:
    body = svg.text(1, 2, content) + svg.box(0, 0, 5, 5, fill=hint, hint=hint)

    root = ElementTree.fromstring(svg.picture(10, 10, body, title=content))

    assert root.tag == "{http://www.w3.org/2000/svg}svg"


@given(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=40))
def test_text_arrives_as_it_was(content: str) -> None:
    element = ElementTree.fromstring(svg.text(0, 0, content))

    assert element.text == svg.clean(content)


@given(st.text(max_size=60), st.floats(0, 500), st.floats(6, 30))
def test_fitted_text_is_a_beginning_and_never_wider_than_its_room(content: str, width: float, size: float) -> None:
    shown = svg.fitted(content, width, size)

    assert svg.width_of(shown, size) <= max(width, 0)
    assert content.startswith(shown.removesuffix("…"))


def test_the_first_wording_that_fits_is_taken() -> None:
    choices = ("a long wording", "short")

    assert svg.first_that_fits(choices, 500) == "a long wording"
    assert svg.first_that_fits(choices, svg.width_of("short")) == "short"
    assert svg.first_that_fits(choices, 3) == ""


@pytest.mark.parametrize(("value", "shown"), [(1.0, "1"), (0.3333, "0.33"), (-2.5, "-2.5"), (100.0, "100")])
def test_coordinates_are_short(value: float, shown: str) -> None:
    assert svg.number(value) == shown
