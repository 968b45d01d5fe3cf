"""The documentation says what is there, all of it, and nothing that is not."""

from __future__ import annotations

import ast
import logging
import math
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml
from pydantic import BaseModel

from fastgshare.cli import main
from fastgshare.domain.requests import Request
from fastgshare.gateway import headers
from fastgshare.gateway.figures import Figures
from fastgshare.gateway.metrics import expose
from fastgshare.manager.books import COLUMNS
from fastgshare.runtime.start import Start, build
from fastgshare.spec import functions
from fastgshare.spec.documents import FunctionDocument
from fastgshare.spec.names import ANNOTATIONS, LABELS

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    page: Path
    language: str
    content: str


def blocks(*languages: str) -> list[Any]:
    found = [Block(page, *match.groups()) for page in PAGES for match in BLOCK.finditer(page.read_text())]
    chosen = [block for block in found if block.language in languages]
    return [pytest.param(b, id=f"{b.page.name}:{b.content.splitlines()[0][:40]}") for b in chosen]


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page.name} links to {target}"
        assert ROOT in [found, *found.parents], f"{page.name} links outside of the project"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


# --- verbs -----------------------------------------------------------------------------------------------------------


def verbs(group: click.Group = main, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, (*prefix, name))
        else:
            yield (*prefix, name), command


def switches(command: click.Command) -> set[str]:
    options = [p for p in command.params if isinstance(p, click.Option)]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)} | {"--help"}


@pytest.mark.parametrize(("verb", "command"), [pytest.param(*both, id=" ".join(both[0])) for both in verbs()])
def test_every_verb_and_all_its_options_are_in_the_reference(verb: tuple[str, ...], command: click.Command) -> None:
    reference = (ROOT / "docs" / "cli.md").read_text()

    assert f"fastgshare {' '.join(verb)}" in reference
    for option in switches(command) - {"--help"}:
        assert f"`{option}`" in reference, f"{' '.join(verb)} {option}"
    assert f"`{' '.join(verb)}" in (ROOT / "README.md").read_text()


def command_lines() -> list[Any]:
    lines = [
        (block.values[0].page.name, line.removeprefix("$ "))
        for block in blocks("sh", "console", "bash")
        for line in re.sub(r"\\\n\s*", " ", block.values[0].content).splitlines()
        if line.removeprefix("$ ").startswith(("fastgshare ", ".venv/bin/fastgshare ", "make "))
    ]
    return [pytest.param(line, id=f"{page}: {line}") for page, line in lines]


@pytest.mark.parametrize("line", command_lines())
def test_every_command_shown_exists_with_its_options(line: str) -> None:
    program, *arguments = shlex.split(line, comments=True)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        variables = re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert all(a in targets or a.partition("=")[0] in variables for a in arguments), line
        return
    command: click.Command = main
    while isinstance(command, click.Group) and arguments and arguments[0] in command.commands:
        command = command.commands[arguments.pop(0)]
    assert command is not main or arguments[0].startswith("-"), f"{line}: no such verb"
    for argument in takewhile(lambda argument: argument != "--", arguments):  # what follows is another program's
        if argument.startswith("-") and argument != "-":
            assert argument.partition("=")[0] in switches(command), f"{line}: {argument}"


# --- functions -------------------------------------------------------------------------------------------------------


def fields(shape: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for attribute, field in shape.model_fields.items():
        name = prefix + (field.alias or attribute)
        yield name, field
        inner = [t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(t, type)]
        for type_ in inner:
            if issubclass(type_, BaseModel):
                yield from fields(type_, f"{name}.")


def rows(page: Path) -> dict[str, list[str]]:
    """Rows of all tables of a page by their first cell, which is a name between backquotes."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {cell[0].strip("`"): cell[1:] for cell in cells}


def test_every_field_of_a_function_is_documented_and_no_other() -> None:
    documented = rows(ROOT / "docs" / "functions.md")
    known = {name for name, _ in fields(FunctionDocument)}

    assert known - set(documented) == set()
    assert set(documented) - known - set(ANNOTATIONS) - set(LABELS) == set()


@pytest.mark.parametrize(("name", "field"), list(fields(FunctionDocument)), ids=lambda value: str(value)[:30])
def test_the_documented_default_is_the_one_that_holds(name: str, field: Any) -> None:
    said = rows(ROOT / "docs" / "functions.md")[name][0]

    if field.is_required():
        assert said.startswith("required")
    elif isinstance(field.default, (int, str)) or hasattr(field.default, "is_finite"):
        assert said.strip("`").split(":")[0] == str(field.default)
    else:
        assert not said.startswith("required")


def test_annotations_and_labels_are_documented_with_the_field_they_stand_for() -> None:
    documented = rows(ROOT / "docs" / "functions.md")

    for key, path in {**ANNOTATIONS, **LABELS}.items():
        assert documented[key][0].startswith(f"`{'.'.join(map(str, path))}`"), key


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_functions_yaml_shown_is_accepted(block: Block) -> None:
    document = yaml.safe_load(block.content)

    if "functions" in document:
        assert [functions.load(item, base=ROOT) for item in document["functions"]]


@pytest.mark.parametrize("block", blocks("python"))
def test_python_shown_is_python(block: Block) -> None:
    ast.parse(block.content)


def test_the_readme_s_function_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # loading a handler adds its folder
    (code,) = [block.values[0].content for block in blocks("python") if block.values[0].page.name == "README.md"]
    (document,) = [block.values[0].content for block in blocks("yaml") if block.values[0].page.name == "README.md"]
    (tmp_path / "file_kind.py").write_text(code)
    (tmp_path / "functions.yaml").write_text(document)
    (function,) = functions.load_file(tmp_path / "functions.yaml")

    handler, _ = build(Start("file-kind-1", function, 1, False, None, 0), logging.getLogger(__name__))

    assert handler.single is not None
    request = Request(1, function.name, (ROOT / "Makefile").read_bytes(), 0.0, math.inf)
    assert handler.single(request) == "makefile (100%)\n"
    assert "makefile (100%)" in (ROOT / "README.md").read_text()


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_every_metric_is_documented_with_its_type_and_no_other() -> None:
    exposed = expose(Figures(), {}, [], []).decode()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", exposed, re.MULTILINE))
    ours = {name: type_ for name, type_ in types.items() if not name.startswith("process_")}
    page = (ROOT / "docs" / "metrics.md").read_text()

    assert dict(re.findall(r"^\| `(\w+)` \| (histogram|counter|gauge|untyped) \|", page, re.MULTILINE)) == ours


def test_every_column_of_the_ledger_and_every_header_is_documented() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    named = {value for name, value in vars(headers).items() if name.isupper() and isinstance(value, str)}

    assert named
    for name in {*COLUMNS, *named}:
        assert f"`{name}`" in page, name


def test_every_environment_variable_is_documented() -> None:
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    pages = "".join(page.read_text() for page in PAGES)

    for name in set(re.findall(r"\b(?:FASTGSHARE|OPENFAAS)_[A-Z_]+\b", code)):
        assert name in pages, name


# --- the project -----------------------------------------------------------------------------------------------------


def test_every_dependency_is_documented_with_its_licence_and_its_reason() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = document["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(r for extra in extras.values() for r in extra)]
    wanted += document["build-system"]["requires"]
    lines = (ROOT / "examples" / "requirements.txt").read_text().splitlines()
    wanted += [line for line in lines if line and not line.startswith("#")]
    names = {re.split(r"[^A-Za-z0-9_-]", requirement)[0] for requirement in wanted}
    page = (ROOT / "docs" / "dependencies.md").read_text()
    table = [[c.strip() for c in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]

    documented = {cells[0]: cells for cells in table if cells[0] != "package"}
    assert set(documented) == names
    assert all(licence and reason for _, licence, reason, *_ in documented.values())


def test_only_declared_packages_are_imported() -> None:
    imported = {name.partition(".")[0] for path in (ROOT / "src").rglob("*.py") for name in imports_of(path)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # What models need, and profiles, is imported only where somebody has such models, or profiles.
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["models"], *extras["profile"]]
    declared = {plain(re.split(r"[^A-Za-z0-9_-]", requirement)[0]) for requirement in requirements}
    # Tests of others may use fastgshare.testing, which may import what a test needs.
    declared |= {"hypothesis", "pytest"}
    owners = packages_distributions()

    foreign = imported - set(sys.stdlib_module_names) - {"fastgshare"}
    assert {name for name in foreign if declared.isdisjoint(map(plain, owners.get(name, [name])))} == set()


def plain(name: str) -> str:
    return name.lower().replace("_", "-")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_decisions_are_numbered_without_a_gap_fit_on_a_page_and_are_listed() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    listed = (ROOT / "docs" / "architecture.md").read_text()

    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        assert len(page.read_text().splitlines()) <= 60, f"{page.name} is longer than a page"
        assert f"(decisions/{page.name})" in listed, page.name


def test_the_tests_that_promises_name_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = re.findall(r"^\| ([MSA]\d) \| .* \| (.*) \|$", page, re.MULTILINE)

    assert len(table) == len({promise for promise, _ in table}) == 15
    for promise, where in table:
        names = re.findall(r"`(tests/[\w/.]+)`", where)
        assert names or where == "planned", f"{promise} is tested nowhere"
        for name in names:
            assert (ROOT / name).is_file(), f"{promise}: {name}"


def test_the_rooms_that_the_architecture_names_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE))
    there = {path.parent.name for path in (ROOT / "src" / "fastgshare").glob("*/__init__.py")}

    assert named == there
