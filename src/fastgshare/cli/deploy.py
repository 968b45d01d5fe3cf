"""``fastgshare deploy``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from fastgshare.cli import options
from fastgshare.cli.gateways import Gateway, GatewayUnavailable
from fastgshare.cli.group import ASKED_WRONGLY, FAILED
from fastgshare.cli.output import print_json
from fastgshare.cli.waiting import Before, Readiness, status_or_none, wait_until_ready
from fastgshare.domain.errors import FastGShareError, InvalidValue
from fastgshare.domain.functions import Function
from fastgshare.spec import references
from fastgshare.spec.functions import load_file
from fastgshare.spec.openfaas import dump_deployment


@click.command()
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path),
    default=Path("functions.yaml"),
    show_default=True,
    help="The functions to deploy.",
)
@options.no_wait
@options.timeout_s
@options.gateway
@options.as_json
def deploy(file: Path, no_wait: bool, timeout_s: float, gateway: Gateway, as_json: bool) -> int:
    """Deploy the functions of a file, or replace those of the same names, and wait until they are ready.

    The file is checked as a whole, with the models and handlers that it names, before anything is deployed. A function
    that the platform refuses, or that does not become ready, is an error; the others go on.
    """
    functions = load_file(file, check=references.check)
    refused: dict[str, FastGShareError] = {}
    accepted = _deploy(gateway, functions, refused)
    wrong = {name for name, error in refused.items() if isinstance(error, InvalidValue)}
    problems = {name: str(error) for name, error in refused.items()}
    if no_wait:
        results = [Readiness(name, 0, 0) for name in accepted]
    else:
        results = wait_until_ready(gateway, accepted, timeout_s) if accepted else []
    problems |= {result.name: result.problem for result in results if result.problem}
    if as_json:
        print_json([_document(function, results, problems, no_wait) for function in functions])
    _report(results, {f"{file}: {n}" if n in wrong else n: text for n, text in problems.items()}, no_wait, as_json)
    if not problems:
        return 0
    return ASKED_WRONGLY if problems.keys() <= wrong else FAILED


def _deploy(gateway: Gateway, functions: Sequence[Function], refused: dict[str, FastGShareError]) -> dict[str, Before]:
    """Deploy one after the other; what was before, for those that were accepted; the others go into `refused`."""
    accepted = {}
    for function in functions:
        try:
            before = Before.of(status_or_none(gateway, function.name), function)
            gateway.deploy(dump_deployment(function))
            accepted[function.name] = before
        except GatewayUnavailable:
            raise
        except FastGShareError as error:
            refused[function.name] = error
    return accepted


def _document(
    function: Function, results: Sequence[Readiness], problems: dict[str, str], no_wait: bool
) -> dict[str, object]:
    found = next((r for r in results if r.name == function.name), None)
    counted = found is not None and not no_wait
    return {
        "name": function.name,
        "accepted": found is not None,
        "ready": found.ready if found is not None and counted else None,
        "available": found.available if found is not None and counted else None,
        "replicas": found.wanted if found is not None and counted else None,
        "problem": problems.get(function.name, ""),
    }


def _report(results: Sequence[Readiness], problems: dict[str, str], no_wait: bool, quiet: bool) -> None:
    for result in results:
        if result.name not in problems and not quiet:
            state = "accepted" if no_wait else f"ready ({result.available}/{result.wanted})"
            click.echo(f"{result.name} {state}")
    for name, problem in problems.items():
        click.echo(f"error: {name}: {' '.join(problem.split())}", err=True)
