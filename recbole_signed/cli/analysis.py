"""The commands on a fitted model: ``recommend``, ``tradeoff``, ``respond`` and ``segments``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from recbole_signed.cli.output import (
    MODEL,
    Dataset,
    Files,
    Json,
    Seed,
    Settings,
    names_in,
    note_of_missing_extra,
    show,
    stdout_for_result,
)
from recbole_signed.errors import UsageError, counted
from recbole_signed.progress import report_progress
from recbole_signed.table import to_text

Model = Annotated[str, MODEL]
Models = Annotated[str, typer.Option("--model", "--models", "-m", help="Models, as in A,B,C; all: all others.")]
Table = Annotated[
    Path | None, typer.Option(help="Take models and settings as this table has them on the data set, tuned ones, too.")
]
Tuned = Annotated[
    list[str] | None, typer.Option("--tuned", help="Folders of yaml/model with what 'tune' chose; the first counts.")
]
Figures = Annotated[bool, typer.Option(help="Draw the figure.")]


def tradeoff(
    dataset: Dataset,
    settings: Settings = None,
    model: Models = "SSF",
    g: Annotated[str, typer.Option("--g", help="Dislike aversions.")] = "0,0.25,0.5,0.75,1,1.5,2",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Length of the ranking.")] = 20,
    config: Files = None,
    seed: Seed = None,
    table: Table = None,
    tuned: Tuned = None,
    choose: Annotated[bool, typer.Option("--choose", help="Say which g is best on validation, too.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of results.")] = Path("runs/tradeoff"),
    figures: Figures = True,
    as_json: Json = False,
) -> None:
    """Print and plot Recall and NDCG against the dislikes shown: a fit per model, several dislike aversions g.

    Curves of several models share a figure, with their Pareto front, and a file of rows.

    With several data sets, as in A,B, or a pool of the table, it says how far the first model is ahead on all.
    """
    from recbole_signed.lab.analysis.tradeoff_curve import can_trade_off, mark_front, parse_aversions, tradeoffs
    from recbole_signed.lab.analysis.tradeoff_tables import over_splits, splits_table
    from recbole_signed.plugin.assignments import layered, parse_assignments
    from recbole_signed.runs.spec import asked_models, table_datasets

    overrides = parse_assignments(settings or [])
    data_path = layered(None, names_in(config), overrides).get("data_path")
    named = names_in([dataset])
    question = {
        "aversions": parse_aversions(g),
        "k": k,
        "config_files": names_in(config),
        "overrides": overrides,
        "seed": seed,
    }
    with stdout_for_result():
        parts_of = ((table_datasets(table, name) if table else [name]) for name in named)
        datasets = list(dict.fromkeys(name for parts in parts_of for name in parts))
        if not datasets:
            raise UsageError("--dataset names no data set; give one or more, as in A,B.")
        question["choose"] = choose = choose or len(datasets) > 1
        curves_of: dict[str, Any] = {}
        for data_name in datasets:
            models = asked_models(names_in([model]), data_name, can_trade_off, table, names_in(tuned), data_path)
            curves_of[data_name] = []
            for number, (name, values) in enumerate(models.items(), 1):
                with report_progress(f"trade-off of {name} on {data_name} ({number} of {len(models)})"):
                    curves_of[data_name] += tradeoffs({name: values}, data_name, output, **question)
            mark_front(curves_of[data_name])
        parts = [_keep_curves(curves, data_name, output, figures, choose) for data_name, curves in curves_of.items()]
        result, written, note = parts[0]
        if len(parts) > 1:
            result = over_splits("+".join(named), curves_of)
            own, _ = _keep(result, output / result["name"], None)
            text, written = to_text(splits_table(result)), [*(file for part in parts for file in part[1]), *own]
        else:
            text = _text_of_curves(curves_of[datasets[0]], choose)
    _print(result, text, written, note, as_json)


def respond(
    dataset: Dataset,
    settings: Settings = None,
    model: Models = "SSF",
    users: Annotated[int, typer.Option("--users", min=1, help="Users that are probed.")] = 100,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Length of the list.")] = 20,
    feature: Annotated[
        str | None, typer.Option("--feature", help="Column of the items' features, to ask for less and more of.")
    ] = None,
    config: Files = None,
    seed: Seed = None,
    table: Table = None,
    tuned: Tuned = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of results.")] = Path("runs/respond"),
    figures: Figures = True,
    as_json: Json = False,
) -> None:
    """Audit what a dislike does to a list, how long it lasts, what else is lost, and what taking it back restores.

    Each event goes through the live learner, as in a service; 'all' are the models that have one.
    """
    from recbole_signed.files import replace_text
    from recbole_signed.live.respond.responsiveness import has_learner, respond_all
    from recbole_signed.live.respond.responsiveness_table import (
        draw_responses,
        respond_rows,
        respond_table,
        wishes_table,
    )
    from recbole_signed.plugin.assignments import layered, parse_assignments
    from recbole_signed.runs.spec import asked_models

    overrides = parse_assignments(settings or [])
    data_path = layered(None, names_in(config), overrides).get("data_path")
    with stdout_for_result(), report_progress(f"audit of {model} on {dataset}"):
        audits = respond_all(
            asked_models(names_in([model]), dataset, has_learner, table, names_in(tuned), data_path),
            dataset,
            output,
            config_files=names_in(config),
            overrides=overrides,
            seed=seed,
            n_users=users,
            k=k,
            **({} if feature is None else {"feature": feature}),
        )
        rows = output / f"{dataset}.jsonl"
        replace_text(rows, respond_rows(audits))
        figure = output / f"respond-{dataset}.png"
        note = note_of_missing_extra(lambda: draw_responses(audits, figure)) if figures else None
    result: dict[str, Any] = {"dataset": dataset, "k": k, "audits": audits}
    written = [rows, *([figure] if figures and not note else [])]
    text = "\n\n".join(to_text(shown) for shown in (respond_table(audits), wishes_table(audits)) if shown)
    _print(result, text, written, note, as_json)


def segments(
    dataset: Dataset,
    settings: Settings = None,
    users: Annotated[int, typer.Option("--users", help="Segments of users.")] = 8,
    items: Annotated[int, typer.Option("--items", help="Segments of items.")] = 8,
    model: Model = "SSF",
    config: Files = None,
    seed: Seed = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of results.")] = Path("runs/segments"),
    figures: Figures = True,
    as_json: Json = False,
) -> None:
    """Cut users and items into segments by a fitted model, and show the like rate of each for each."""
    from recbole_signed.lab.analysis import segments as cut
    from recbole_signed.lab.analysis.user_segments import draw_segments, segments_table, write_assigned
    from recbole_signed.plugin.assignments import parse_assignments

    overrides = parse_assignments(settings or [])
    with stdout_for_result(), report_progress(f"segments of {dataset}"):
        result = cut(dataset, users, items, model, names_in(config), overrides, seed)
        tables = write_assigned(result, output)
        del result["assigned"]  # in the two files: as long as there are users
        stem = output / f"{result['model']}-{result['dataset']}"
        written, note = _keep(result, stem, draw_segments if figures else None)
    _print(result, to_text(segments_table(result)), [*written, *tables], note, as_json)


def _keep_curves(
    curves: list[dict[str, Any]], dataset: str, output: Path, figures: bool, choose: bool
) -> tuple[dict[str, Any], list[Path], str | None]:
    """Write the files of a data set's curves; return the document, the files, and the note of a figure."""
    from recbole_signed.files import replace_text
    from recbole_signed.lab.analysis import matched
    from recbole_signed.lab.analysis.tradeoff_curve import draw_tradeoff, tradeoff_rows

    result, stem = curves[0], output / f"{curves[0]['model']}-{dataset}"
    if len(curves) > 1:
        result, stem = {"dataset": dataset, "k": curves[0]["k"], "curves": curves}, output / dataset
        if choose:
            result["at_same_recall"] = matched(curves)
    written, note = _keep(result, stem, (lambda _, path: draw_tradeoff(curves, path)) if figures else None)
    if len(curves) > 1:
        written.append(stem.with_name(f"{stem.name}.jsonl"))
        replace_text(written[-1], tradeoff_rows(curves))
    return result, written, note


def _text_of_curves(curves: list[dict[str, Any]], choose: bool) -> str:
    from recbole_signed.lab.analysis.tradeoff_tables import chosen_table, matched_table, tradeoff_table

    tables = [tradeoff_table(curves), *([chosen_table(curves)] if choose else [])]
    if choose and len(curves) > 1:
        tables.append(matched_table(curves))
    return "\n".join(map(to_text, tables))


def _keep(
    result: dict[str, Any], stem: Path, draw: Callable[[dict[str, Any], Path], None] | None
) -> tuple[list[Path], str | None]:
    """Write ``STEM.json`` and ``STEM.png``; return the files, and a note where the figure could not be drawn."""
    from recbole_signed.files import replace_text

    numbers, picture = (stem.with_name(f"{stem.name}.{ending}") for ending in ("json", "png"))
    # of one model it is the file that the next call takes the curve from
    replace_text(numbers, json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    note = None if draw is None else note_of_missing_extra(lambda: draw(result, picture))
    return [numbers, *([] if draw is None or note else [picture])], note


def _print(result: dict[str, Any], text: str, written: list[Path], note: str | None, as_json: bool) -> None:
    document = {**result, "files": [str(path) for path in written], **({"note": note} if note else {})}
    show(document, as_json, lambda: f"{text}\nwritten: {', '.join(map(str, written))}\n")


def recommend(
    model: Annotated[
        Path,
        typer.Option(
            "--model", "-m", help="Saved model, or a checkpoint (.pth) of a run, whose held-out items count as seen."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .parquet or .csv.")],
    users: Annotated[
        Path | None,
        typer.Option(help="Raw ids: one a line (.txt), or a table with a column 'user' (.csv, .parquet, ...)."),
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Recommend to all users that the model knows.")] = False,
    k: Annotated[int, typer.Option("--k", "-k", help="Items for each user.")] = 20,
    dislike_aversion: Annotated[
        float | None, typer.Option(help="In place of the fitted value (SSF, SSFL, SSFT).")
    ] = None,
    dislike_strength: Annotated[
        float | None,
        typer.Option(help="How far what is near to a dislike falls, 0 to 1, in place of the fitted value."),
    ] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also items the user has an edge to.")] = False,
    data_path: Annotated[
        Path | None, typer.Option(help="Of a checkpoint: folder of data sets, if it is another one now.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where scores are computed, e.g. cuda:0.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Write the best items of many users to a file, with raw ids."""
    if (users is None) == (not everyone):
        raise UsageError("say to whom to recommend: --users FILE or --all, one of the two.")
    with stdout_for_result():
        from recbole_signed.api import load
        from recbole_signed.api.bulk import checked_format, read_users, write_recommendations

        checked_format(output)  # before a model of a gigabyte is read
        chosen = None if users is None else read_users(users)
        fitted = load(model, data_path=data_path, device=device)
        done = write_recommendations(
            fitted,
            output,
            chosen,
            k,
            include_seen=include_seen,
            dislike_aversion=dislike_aversion,
            dislike_strength=dislike_strength,
        )
    show(done, as_json, lambda: _text(done))


def _text(done: dict[str, Any]) -> str:
    unknown = done["unknown_users"]
    without = f" (without an edge in the model: {unknown:,}; column 'known')" if unknown else ""
    speed = done["users"] / max(done["seconds"], 1e-9)
    rows, users = counted(done["rows"], "recommendation"), counted(done["users"], "user")
    return f"{rows} for {users}{without} in {done['seconds']:.1f} s ({speed:,.0f} users/s)\nwritten: {done['output']}\n"
