"""The commands of the lab: ``tune``, ``significance``, ``replay`` and ``upstream``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_signed.cli.output import (
    DATASET,
    MODEL,
    Files,
    Json,
    names_in,
    note_of_missing_extra,
    print_json,
    show,
    stdout_for_result,
    terminal_width,
)
from recbole_signed.errors import UsageError
from recbole_signed.plugin.assignments import TUNED
from recbole_signed.progress import report_progress
from recbole_signed.table import check_format, render, to_markdown


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
    start: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="What the second trial tries.")] = None,
    config: Files = None,
    seed: Annotated[int | None, typer.Option(help="RecBole's seed, and that of the choice of trials.")] = None,
    space: Annotated[Path | None, typer.Option(help="What is tuned; else yaml/tune/ here, or the package's.")] = None,
    name: Annotated[str | None, typer.Option(help="Folder of the result; else the data set's name.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path(TUNED),
    as_json: Json = False,
) -> None:
    """Choose a model's parameters on validation, beginning with its defaults; the same command goes on later."""
    from recbole_signed.plugin.assignments import parse_assignments

    given, begin = parse_assignments(settings or []), parse_assignments(start or [])
    files = names_in(config)
    if table is None and (model is None or dataset is None):
        raise UsageError("say what to tune: a model (-m) on a data set (-d), or a table (--table).")
    alone = {"KEY=VALUE": given, "--start": begin, "--config": files, "--space": space, "--name": name}
    for option in [key for key, value in alone.items() if value] if table is not None else []:
        raise UsageError(f"{option} cannot be combined with --table; write it into the table.")
    documents = []
    with stdout_for_result():
        from recbole_signed.lab.tuning import Plan, tune_table
        from recbole_signed.lab.tuning.search import tune as tune_one

        plan = Plan(trials, jobs, budget, prune_after, timeout, space, name, output)
        if table is None:
            tunings = iter([tune_one(model or "", dataset or "", files, given, seed, plan, begin)])
        else:
            tunings = tune_table(table, plan, names_in([model or ""]), names_in([dataset or ""]), seed)
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


Labels = Annotated[list[str] | None, typer.Option("--only", help="Compare these models alone (A,B).")]


def significance(
    table: Annotated[Path, typer.Argument(metavar="TABLE.yaml", help="A finished table; see 'compare'.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Metrics (recall@20,ndcg@20: the default).")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The model that the others are compared with; else SSF, or the best.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Level of the tests; 1 - alpha is that of the intervals.")] = 0.05,
    only: Labels = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Compare on these data sets alone, or pools of them.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the table's rows.")] = None,
    resamples: Annotated[int, typer.Option(help="Of the permutation test and of the bootstrap.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
    table_format: Annotated[str, typer.Option("--format", help="text, markdown or latex.")] = "text",
    as_json: Json = False,
) -> None:
    """Test whether a table's model is better than each other one: paired tests over users, Holm-corrected."""
    from recbole_signed.lab.significance import pairwise_table
    from recbole_signed.lab.significance import significance as compare_users

    check_format(table_format)
    with stdout_for_result(), report_progress("tests") as say:
        outcome = compare_users(
            table,
            names_in(metric),
            against,
            alpha=alpha,
            only=names_in(only),
            datasets=names_in(dataset),
            output=output,
            resamples=resamples,
            seed=seed,
            progress=lambda what, share: say(f"{what}, {share:.0%}"),
        )
    show(outcome, as_json, lambda: render(pairwise_table(outcome), table_format, terminal_width()))


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Yaml file of the replay, under yaml/online/.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the report; for yaml/online/ it is results/online/ unless given."
        ),
    ] = None,
    data_path: Annotated[Path, typer.Option(help="Folder of data sets.")] = Path("atomic_files"),
    as_json: Json = False,
) -> None:
    """Compare online updates with retraining on a stream: predict a window, then learn from it, and so on."""
    from recbole_signed.live.replay.stream_spec import StreamSpec

    spec = StreamSpec.read(file)
    with stdout_for_result():
        from recbole_signed.live.replay.stream_run import replay as replay_file
        from recbole_signed.live.replay.summary import plot, replay_table, write
        from recbole_signed.runs.table_file import rows_file_of

        summary = replay_file(file, data_path)

        written = write(spec, summary, output or rows_file_of(file).parent)
        note_of_missing_extra(lambda: plot(summary, written[0].with_suffix(".png")))
    show(summary, as_json, lambda: to_markdown(replay_table(spec, summary)))


def upstream(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model, by its class name.")],
    to: Annotated[Path, typer.Option("--to", help="A RecBole checkout, or a folder for the files.")],
    author: Annotated[str | None, typer.Option(help="For the head of the file; else git's user.name.")] = None,
    email: Annotated[str | None, typer.Option(help="For the head of the file; else git's user.email.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model file of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Write a model as one file for RecBole, with its yaml, test, pages and list entries."""
    with stdout_for_result():
        from recbole_signed.lab.upstream import upstream as export

        done = export(model, to, author=author, email=email, overwrite=overwrite)
    place = "into the checkout" if done.into_checkout else "to"
    first = f"{done.model}: {done.lines} lines of model, {len(done.files)} files {place} {done.folder}\n"
    show(vars(done), as_json, lambda: first + "".join(f"  {path}\n" for path in done.files))
