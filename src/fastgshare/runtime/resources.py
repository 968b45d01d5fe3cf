"""Files named by reference: a path, or a resource inside an installed package."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastgshare.domain.errors import InvalidValue

_PACKAGE: Final = re.compile(r"([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*)*):(.+)")


def locate(field: str, ref: str) -> Path:
    """The file behind a path or ``package:resource``. The package is found, never imported.

    Raises `InvalidValue` naming `field` if the package is not installed or holds no such file.
    """
    if Path(ref).is_file():
        return Path(ref).absolute()
    match = _PACKAGE.fullmatch(ref)
    if match is None:
        raise InvalidValue(field, ref, "the path of a file that exists, or package:resource")
    package, inner, resource = match.groups()
    for folder in _folders(field, ref, package):
        path = folder.joinpath(*inner.split("."), resource)
        if path.is_file():
            return path
    raise InvalidValue(field, ref, f"a file inside the package {package}")


def _folders(field: str, ref: str, package: str) -> list[Path]:
    """Where the parts of a top-level package lie; asking for it executes none of its code."""
    try:
        spec = find_spec(package)
    except ValueError:
        spec = None
    if spec is None or spec.submodule_search_locations is None:
        raise InvalidValue(field, ref, f"a resource of an installed package ({package} is not installed)")
    return [Path(location) for location in spec.submodule_search_locations]
