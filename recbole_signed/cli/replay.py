"""The command that runs an experiment on a stream."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from recbole_signed.cli.output import Json, print_json, stdout_for_result
from recbole_signed.errors import MissingExtraError, UsageError


def add_to(app: typer.Typer) -> None:
    """Add the command ``replay``, and its old name ``online``, to ``app``."""

    @app.command()
    def replay(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="Yaml file of the experiment, under yaml/online/.")],
        output: Annotated[
            Path | None, typer.Option(help="Folder of the report; beside the yaml unless it is given.")
        ] = None,
        data_path: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("atomic_files"),
        as_json: Json = False,
    ) -> None:
        """Compare online updates with retraining on a stream: predict a window, then learn from it, and so on."""
        from recbole_signed.experiments.replay import StreamSpec

        spec = StreamSpec.read(file)
        with stdout_for_result():
            summary = _run(spec, _folder(spec, data_path))
            from recbole_signed.experiments.replay import markdown, plot, write

            written = write(spec, summary, output or file.parent)
            try:
                plot(summary, written[0].with_suffix(".png"))
            except MissingExtraError as error:  # the numbers are worth having without the curves
                sys.stderr.write(f"{error}\n")
        if as_json:
            print_json(summary)
        else:
            typer.echo(markdown(spec, summary), nl=False)

    @app.command("online", hidden=True, deprecated=True)
    def online(
        file: Annotated[Path, typer.Argument(metavar="FILE")],
        output: Annotated[Path | None, typer.Option()] = None,
        data_path: Annotated[Path, typer.Option()] = Path("atomic_files"),
        as_json: Json = False,
    ) -> None:
        """Do what 'replay' does."""
        replay(file, output, data_path, as_json)


def _folder(spec: Any, data_path: Path) -> Path:
    folder = data_path / spec.dataset
    if not folder.is_dir():
        from recbole_signed.convert import ensure_ml100k
        from recbole_signed.errors import nearest
        from recbole_signed.plugin import ML_100K_SIGNED, dataset_names

        if spec.dataset != ML_100K_SIGNED:
            hint = nearest(spec.dataset, dataset_names(data_path))
            raise UsageError(
                f"there is no data set '{spec.dataset}' in {data_path}{hint} ({spec.path} says how to make it)."
            )
        ensure_ml100k(data_path)
    return folder


def _run(spec: Any, folder: Path) -> dict[str, Any]:
    from recbole_signed.experiments.replay import run_stream, summarise
    from recbole_signed.experiments.runs import RUNS

    return summarise(run_stream(spec, folder, Path(RUNS) / "online"))
