"""Colours: one a function, the same in every picture, told apart by the colour-blind too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

PALETTE: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A700", "#7F5AA8")
"""After Okabe and Ito, "Color Universal Design" (2008); its yellow is darkened to show on white paper."""
_SEPARATORS: Final = ("", "-", ".", "/", ":", "#")


def colours(functions: Iterable[str]) -> dict[str, str]:
    """A colour for every function, by alphabetical order; beyond the palette they repeat."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(sorted(set(functions)))}


def text_class(fill: str) -> str:
    """The class of text that can be read on a colour such as ``#0072B2``."""
    red, green, blue = (int(fill[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "on-light" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "on-dark"


def function_of(instance_id: str, functions: Iterable[str]) -> str:
    """The function that an instance belongs to: the longest name that its id begins with, else the id itself."""
    owners = [n for n in functions if instance_id.startswith(n) and instance_id[len(n) :][:1] in _SEPARATORS]
    return max(owners, key=len, default=instance_id)


def labels_of(instance_ids: Iterable[str], functions: Iterable[str]) -> Mapping[str, str]:
    """The function of every instance."""
    names = tuple(functions)
    return {instance_id: function_of(instance_id, names) for instance_id in instance_ids}
