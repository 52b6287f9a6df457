"""The command that chooses hyper-parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_signed.bench.defaults import RUNS, TUNED
from recbole_signed.cli_output import Json, print_json, stdout_for_result


def add_to(app: typer.Typer) -> None:
    """Add the command ``tune`` to ``app``."""

    @app.command()
    def tune(
        model: Annotated[str, typer.Option("--model", "-m", help="Model, by its class name.")],
        dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of a data set folder.")],
        settings: Annotated[
            list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="RecBole keys; what is given is not tuned.")
        ] = None,
        trials: Annotated[int, typer.Option("--trials", "-n", help="Trials in all, earlier calls included.")] = 50,
        jobs: Annotated[int, typer.Option("--jobs", "-j", help="Trials at a time.")] = 1,
        budget: Annotated[float | None, typer.Option(help="Seconds of training for each trial.")] = None,
        timeout: Annotated[float | None, typer.Option(help="Seconds after which no trial begins.")] = None,
        config: Annotated[
            list[str] | None, typer.Option("--config", "-c", help="RecBole yaml file; may be repeated.")
        ] = None,
        seed: Annotated[int | None, typer.Option(help="RecBole's seed, and that of the choice of trials.")] = None,
        space: Annotated[Path | None, typer.Option(help="What is tuned; else yaml/tune/MODEL.yaml.")] = None,
        name: Annotated[str | None, typer.Option(help="Folder of the result; else the data set's name.")] = None,
        output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path(TUNED),
        storage: Annotated[Path, typer.Option(help="Folder of the trials and logs.")] = Path(RUNS) / "tune",
        as_json: Json = False,
    ) -> None:
        """Choose a model's parameters on validation, beginning with its defaults; the same command goes on later."""
        from recbole_signed.bench.settings import parse_assignments

        given = parse_assignments(settings or [])
        files = [file for word in config or [] for file in word.split(",") if file]
        with stdout_for_result():
            from recbole_signed.tuning.plan import Plan
            from recbole_signed.tuning.tune import tune as tune_model

            plan = Plan(trials, jobs, budget, timeout, space, name, output, storage)
            tuning = tune_model(model, dataset, files, given, seed, plan)
        if as_json:
            print_json(tuning.as_dict())
        else:
            from recbole_signed.tuning.result import to_text

            typer.echo(to_text(tuning), nl=False)
