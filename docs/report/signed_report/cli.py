"""The commands of ``python docs/report``: figures, the PDF, and their result files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_signed.cli.output import Json, print_json, stdout_for_result
from recbole_signed.errors import UsageError

report = typer.Typer(
    name="report",
    pretty_exceptions_enable=False,
    help="Figures and report from committed result files.",
)

Root = Annotated[Path, typer.Option("--root", help="A clone of the repository.")]


@report.command()
def figures(
    root: Root = Path(),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for PNG and PDF.")] = Path("runs/report"),
    as_json: Json = False,
) -> None:
    """Draw every figure whose result files are there, as PNG and PDF."""
    with stdout_for_result():
        from signed_report.figures import draw_all
        from signed_report.results import read_results

        written = draw_all(read_results(root), output)
    _say(written, as_json)


@report.command()
def build(
    root: Root = Path(),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report.pdf and figures.")] = Path(
        "runs/report"
    ),
    as_json: Json = False,
) -> None:
    """Build the report as a PDF from docs/report and the committed results."""
    with stdout_for_result():
        from signed_report.build import build_report

        written = build_report(root, output)
    _say([written], as_json)


@report.command()
def measure(
    datasets: Annotated[list[str] | None, typer.Argument(metavar="[DATASET]...", help="Names of data sets.")] = None,
    tradeoff: Annotated[
        str | None, typer.Option("--tradeoff", help="Model whose trade-off curve is measured, instead of statistics.")
    ] = None,
    verdicts: Annotated[
        bool, typer.Option("--verdicts", help="Measure what a personal verdict adds, instead of statistics.")
    ] = False,
    kuairand: Annotated[Path | None, typer.Option(help="Folder with the raw log of KuaiRand-Pure.")] = None,
    data_path: Annotated[Path, typer.Option("--data-path", help="Folder of data sets.")] = Path("atomic_files"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the result files.")] = Path(
        "docs/report/results"
    ),
    as_json: Json = False,
) -> None:
    """Make the report's small result files: statistics, trade-off curves, verdicts, KuaiRand's raw signals."""
    if not datasets and kuairand is None:
        raise UsageError("measure needs a data set, or --kuairand FOLDER.")
    if verdicts and tradeoff is not None:
        raise UsageError("measure takes --verdicts or --tradeoff, not both.")
    with stdout_for_result():
        from signed_report.measure import measure_kuairand, measure_statistics, measure_tradeoff, measure_verdicts

        written = []
        for dataset in datasets or []:
            if verdicts:
                written.append(measure_verdicts(dataset, data_path, output))
            elif tradeoff is None:
                written.append(measure_statistics(dataset, data_path, output))
            else:
                written.append(measure_tradeoff(dataset, data_path, output, tradeoff))
        if kuairand is not None:
            written.append(measure_kuairand(kuairand, output))
    _say(written, as_json)


def _say(written: list[Path], as_json: bool) -> None:
    if as_json:
        print_json({"files": [str(path) for path in written]})
    else:
        typer.echo(f"written: {', '.join(map(str, written))}")
