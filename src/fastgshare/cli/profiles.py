"""``fastgshare profiles``: what trials have measured, shown, written to files and read from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastgshare.cli import options
from fastgshare.cli.output import print_json
from fastgshare.domain.errors import NotFound
from fastgshare.domain.profiles import Subject, Trial

if TYPE_CHECKING:
    from fastgshare.state.profiles import ProfileStore

_device_type = click.option(
    "--device-type", metavar="TEXT", help="Only profiles of device types that have this in them."
)
_model = click.option("--model", metavar="DIGEST", help="Only profiles of the model whose digest begins so.")


@click.group()
def profiles() -> None:
    """What shares of devices were measured to be worth to functions; `fastgshare profile` measures it."""


@profiles.command()
@options.state
@options.as_json
def ls(directory: Path, as_json: bool) -> None:
    """List the profiles: of which function, device type and model, how many trials, and the best that was measured.

    RPR is requests a second per device that is paid for: rps / (SM x quota), both as fractions.
    """
    from fastgshare.cli.profile_words import entry, tell_all

    found = [entry(subject, trials) for subject, trials in _all(directory)]
    if as_json:
        print_json(found)
    elif found:
        tell_all(found)
    else:
        click.echo(f"no profiles yet in {directory}; make one with: fastgshare profile FUNCTION", err=True)


@profiles.command()
@click.argument("function")
@click.option(
    "--picture",
    "files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw it, as .html (one page with everything), .png or .svg; may be given several times.",
)
@click.option(
    "--slo-ms",
    type=options.FiniteRange(min=0),
    metavar="MS",
    help="Within which 99% shall be answered, 0 for no bound; that of the latest trial unless said otherwise.",
)
@_device_type
@_model
@options.state
@options.as_json
def show(
    function: str,
    files: Sequence[Path],
    slo_ms: float | None,
    device_type: str | None,
    model: str | None,
    directory: Path,
    as_json: bool,
) -> None:
    """Show the profiles of FUNCTION: what was measured, and what is predicted from it, with intervals.

    ~ and intervals are predictions, ? those beyond all trials. Models and device types are never mixed.
    """
    from fastgshare.cli.profile_files import check, draw
    from fastgshare.cli.profile_views import view
    from fastgshare.cli.profile_words import document, tell

    for file in files:
        check(file)
    found = _of(directory, function, device_type, model)
    slo_s = None if slo_ms is None else slo_ms / 1000
    views = [view(subject, trials, slo_s, thorough=bool(files) or as_json) for subject, trials in found]
    for file in files:
        draw(file, views)
    if as_json:
        print_json([document(one) for one in views])
    else:
        for one in views:
            tell(one)


@profiles.command()
@click.argument("function", required=False)
@click.option("--all", "everything", is_flag=True, help="Profiles of all functions.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "csv"]),
    help="What to write; by the name of the file unless said otherwise, else json.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Where; stdout otherwise."
)
@_device_type
@_model
@options.state
@click.option("--json", "as_json", is_flag=True, help="As --format json.")
def export(
    function: str | None,
    everything: bool,
    form: str | None,
    output: Path | None,
    device_type: str | None,
    model: str | None,
    directory: Path,
    as_json: bool,
) -> None:
    """Write all trials of FUNCTION, or of all functions, with everything that is known of them.

    `import` reads both formats back, here or elsewhere.
    """
    from fastgshare.cli.profile_files import write
    from fastgshare.cli.profile_words import count
    from fastgshare.spec.profiles import to_csv, to_json

    if (function is None) is not everything:
        raise click.UsageError("name a function, or give --all")
    if as_json and form == "csv":
        raise click.UsageError("--json and --format csv contradict each other")
    found = _of(directory, function, device_type, model)
    trials = [trial for _, some in found for trial in some]
    csv = form == "csv" or (not form and not as_json and output is not None and output.suffix.lower() == ".csv")
    text = to_csv(trials) if csv else to_json(trials)
    if output is None:
        click.echo(text, nl=False)
    else:
        write(output, text.encode())
        click.echo(f"{count(len(trials), 'trial')} in {output}", err=True)


@profiles.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@options.state
@options.as_json
def import_(file: Path, directory: Path, as_json: bool) -> None:
    """Read trials from FILE: JSON or CSV as `export` writes them, or a CSV with gpuName, model, quota, sm and qps.

    All of them, or none if anything in the file is wrong. What is here already is not taken twice.
    """
    from fastgshare.cli.profile_words import count
    from fastgshare.spec.profiles import load_file

    trials = load_file(file)
    with _store(directory) as store:
        new = store.add_new(trials)
    if as_json:
        print_json({"file": str(file), "trials": len(trials), "new": new, "known": len(trials) - new})
    else:
        known = f", {len(trials) - new} were here already" if new < len(trials) else ""
        subjects = count(len({trial.subject for trial in trials}), "profile")
        click.echo(f"{count(new, 'new trial')} from {file}, of {subjects}{known}")


def _store(directory: Path) -> ProfileStore:
    from fastgshare.state.profiles import FILE, ProfileStore

    return ProfileStore(directory / FILE)


def _all(directory: Path) -> list[tuple[Subject, Sequence[Trial]]]:
    """All subjects with their trials; none where there is no store: looking at it does not make one."""
    from fastgshare.state.profiles import FILE

    if not (directory / FILE).exists():
        return []
    with _store(directory) as store:
        return [(subject, store.trials(subject)) for subject in store.subjects()]


def _of(
    directory: Path, function: str | None, device_type: str | None, model: str | None
) -> list[tuple[Subject, Sequence[Trial]]]:
    """Those that were asked for. Raises `NotFound` if there is none."""
    everything = _all(directory)
    found = [
        (subject, trials)
        for subject, trials in everything
        if function in (None, subject.function)
        and (device_type is None or device_type.casefold() in subject.device_type.casefold())
        and (model is None or subject.model_digest.startswith(model))
    ]
    if found or (function, device_type, model) == (None, None, None):
        return found
    words = [function or "of any function"]
    words += [f"on {device_type}"] if device_type is not None else []
    words += [f"of model {model}"] if model is not None else []
    raise NotFound("profile", " ".join(words))
