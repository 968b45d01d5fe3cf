"""YAML with its lines, so that an error can say where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fastgshare.domain.errors import InvalidValue
from fastgshare.spec import problems


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping: plain YAML would keep the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node. Raises `yaml.MarkedYAMLError` for a key that stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name} stands here twice", key.start_mark)
            seen.add(name)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


@dataclass(frozen=True, slots=True)
class LocatedDocument:
    """A YAML document beside the nodes that it was built from."""

    path: Path
    document: object
    root: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> LocatedDocument:
        """Raises `InvalidValue` naming the file, and the line if it is not YAML."""
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise InvalidValue("file", str(path), f"a file that can be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise InvalidValue("file", str(path), "YAML in UTF-8") from None
        try:
            loader = _Loader(text)
            root = loader.get_single_node()
            return cls(path, None if root is None else loader.construct_document(root), root)
        except yaml.YAMLError as error:
            raise _not_yaml(path, text, error) from None

    def locate(self, problem: problems.Problem) -> InvalidValue:
        """The same problem with its file, its function, and the line of the deepest part of its path that is there."""
        node, line = self.root, 1
        for part in problem.path:
            found = _child(node, part)
            if found is None:
                break
            node, line = found[1], found[0].start_mark.line + 1
        return InvalidValue(
            f"{self.path}, line {line}: {problem.field}{self._owner(problem)}", problem.value, problem.allowed
        )

    def _owner(self, problem: problems.Problem) -> str:
        name = problems.value_at(self.document, (*problem.path[:2], "name"))
        return f" of {name}" if isinstance(name, str) and problem.path[2:] not in ((), ("name",)) else ""


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The node where a child begins (its key, if it has one) and the child itself."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _not_yaml(path: Path, text: str, error: yaml.YAMLError) -> InvalidValue:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or "it has characters that YAML does not allow"
    if mark is None:
        return InvalidValue("file", str(path), f"YAML: {reason}")
    lines = text.splitlines()
    value = lines[mark.line].strip() if mark.line < len(lines) else ""
    return InvalidValue(f"{path}, line {mark.line + 1}", value, f"YAML: {reason}")
