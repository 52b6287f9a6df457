"""The command that chooses hyper-parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recbole_signed.cli.output import DATASET, MODEL, Files, Json, names_in, print_json, stdout_for_result
from recbole_signed.errors import UsageError
from recbole_signed.plugin.assignments import RUNS, TUNED

if TYPE_CHECKING:
    from recbole_signed.lab.tuning import Plan
    from recbole_signed.lab.tuning.result import Tuning


def add_to(app: typer.Typer) -> None:
    """Add the command ``tune`` to ``app``."""

    @app.command()
    def tune(
        model: Annotated[str | None, MODEL] = None,
        dataset: Annotated[str | None, DATASET] = None,
        settings: Annotated[
            list[str] | None, typer.Argument(metavar="KEY=VALUE", help="RecBole keys; what is given is not tuned.")
        ] = None,
        table: Annotated[
            Path | None, typer.Option(help="Tune what this table wants tuned; -m A,B and -d A,B: these alone.")
        ] = None,
        trials: Annotated[int, typer.Option("--trials", "-n", help="Trials in all, earlier calls included.")] = 50,
        jobs: Annotated[int, typer.Option("--jobs", "-j", help="Trials at a time.")] = 1,
        budget: Annotated[float | None, typer.Option(help="CPU seconds of training for each trial.")] = None,
        prune_after: Annotated[
            int, typer.Option(help="Optimiser steps before which no trial is given up (successive halving).")
        ] = 1500,
        timeout: Annotated[float | None, typer.Option(help="Seconds after which no trial begins.")] = None,
        start: Annotated[
            list[str] | None, typer.Option(metavar="KEY=VALUE", help="What the second trial tries.")
        ] = None,
        config: Files = None,
        seed: Annotated[int | None, typer.Option(help="RecBole's seed, and that of the choice of trials.")] = None,
        space: Annotated[
            Path | None, typer.Option(help="What is tuned; else yaml/tune/ here, or the package's.")
        ] = None,
        name: Annotated[str | None, typer.Option(help="Folder of the result; else the data set's name.")] = None,
        output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path(TUNED),
        storage: Annotated[Path, typer.Option(help="Folder of the trials and logs.")] = Path(RUNS) / "tune",
        as_json: Json = False,
    ) -> None:
        """Choose a model's parameters on validation, beginning with its defaults; the same command goes on later."""
        from recbole_signed.plugin.assignments import parse_assignments

        given, begin = parse_assignments(settings or []), parse_assignments(start or [])
        files = names_in(config)
        if table is None and (model is None or dataset is None):
            raise UsageError("say what to tune: a model (-m) on a data set (-d), or a table (--table).")
        alone = {"KEY=VALUE": given, "--start": begin, "--config": files, "--space": space, "--name": name}
        for option in [each for each, value in alone.items() if value] if table is not None else []:
            raise UsageError(f"{option} cannot be combined with --table; write it into the table.")
        documents = []
        with stdout_for_result():
            from recbole_signed.lab.tuning import Plan

        plan = Plan(trials, jobs, budget, prune_after, timeout, space, name, output, storage)
        if table is None:
            tunings = _one(model or "", dataset or "", files, given, seed, plan, begin)
        else:
            tunings = _of_table(table, plan, names_in([model or ""]), names_in([dataset or ""]), seed)
        while True:
            with stdout_for_result():
                tuning = next(tunings, None)
            if tuning is None:
                break
            if as_json:
                documents.append(tuning.as_dict())
            else:
                typer.echo(str(tuning), nl=False)
        if as_json:
            print_json(documents if table is not None else documents[0])


def _one(
    model: str,
    dataset: str,
    files: list[str],
    given: dict[str, Any],
    seed: int | None,
    plan: Plan,
    start: dict[str, Any],
) -> Iterator[Tuning]:
    from recbole_signed.lab.tuning.search import tune

    yield tune(model, dataset, files, given, seed, plan, start=start)


def _of_table(table: Path, plan: Plan, *given: Any) -> Iterator[Tuning]:
    from recbole_signed.lab.tuning import tune_table

    yield from tune_table(table, plan, *given)
