"""Recall and NDCG against the dislikes that users are shown: one fit, many strengths of dislike aversion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.stats import picture
from recbole_signed.table import Header, Section, Table, text_lines

AVERSIONS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
METRICS = ("Recall", "NDCG", "DislikeRecall", "DislikeShare", "SignAUC")
FIXED = ("metrics", "topk")
DIGITS = 4


def parse_aversions(text: str) -> tuple[float, ...]:
    """Parse ``0,0.25,0.5`` into ascending numbers, each once.

    Raises:
        UsageError: it is not a list of numbers of 0 or more.
    """
    try:
        values = sorted({float(word) for word in text.split(",") if word.strip()})
    except ValueError as error:
        raise UsageError(f"--g is '{text}'; write numbers with commas, like 0,0.25,0.5.") from error
    if not values or not all(0 <= value < float("inf") for value in values):
        raise UsageError(f"--g is '{text}'; it must be one or more finite numbers, each 0 or more.")
    return tuple(values)


def tradeoff(
    model: str,
    dataset: str,
    aversions: Sequence[float] = AVERSIONS,
    k: int = 20,
    config_files: Sequence[str | Path] = (),
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Fit a model once and evaluate it on the test part with each ``dislike_aversion``.

    Args:
        model: class name of a training-free model with a ``dislike_aversion``, such as SSF.
        dataset: name of a data set.
        aversions: the values of g.
        k: length of the ranking.
        config_files: RecBole yaml files, later ones win.
        overrides: configuration keys above the files, but not :data:`FIXED`.
        seed: RecBole's ``seed``.

    Returns:
        ``model``, ``dataset``, ``seed``, ``k``, ``chosen`` (the g that the model chose or was given), ``settings``
        (all parameters in force with it, where the model tells them) and ``points``: for each g its
        ``dislike_aversion`` and the test metrics in RecBole's spelling, None where not defined.

    Raises:
        UsageError: something asked for does not exist or does not fit, or the split leaves no test part.
    """
    from recbole_signed.compat import own_arguments_hidden
    from recbole_signed.experiments.analysis.fitted import fit_once
    from recbole_signed.experiments.runs import plain_result

    given = dict(overrides or {})
    for key in given:
        if key in FIXED:
            raise UsageError(f"'{key}' can't be set here: a trade-off always has {', '.join(METRICS)} at --k.")
    measured = {"metrics": list(METRICS), "topk": [k]}
    given = {"metric_decimal_place": 6, "valid_metric": f"NDCG@{k}", **given, **measured}
    fitted = fit_once(model, dataset, "dislike_aversion", config_files, given, seed)
    config = fitted.config
    chosen = float(fitted.model.dislike_aversion)
    points = []
    with own_arguments_hidden():
        for value in _progress(aversions):
            fitted.model.dislike_aversion = value
            found = fitted.trainer.evaluate(fitted.test_data, load_best_model=False, show_progress=False)
            if not found:
                raise UsageError(f"the split leaves nothing of '{dataset}' for the test; look at eval_args.split.")
            points.append({"dislike_aversion": value, **plain_result(found)})
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": int(config["seed"]),
        "k": k,
        "chosen": chosen,
        "settings": {**getattr(fitted.model, "chosen", {}), "dislike_aversion": chosen},
        "points": points,
    }


def _progress(values: Sequence[float]) -> Any:
    from rich.console import Console
    from rich.progress import track

    return track(values, "evaluating", console=Console(stderr=True), transient=True)


def tradeoff_table(found: Mapping[str, Any]) -> Table:
    """Return the points as a table."""
    names = columns(found)
    rows = [
        (
            f"{point['dislike_aversion']:g}{'*' if point['dislike_aversion'] == found['chosen'] else ''}",
            *("-" if point[name] is None else f"{point[name]:.{DIGITS}f}" for name in names),
        )
        for point in found["points"]
    ]
    return Table(
        f"{found['model']} on {found['dataset']}, seed {found['seed']}, test part",
        tuple(Header(name, name.startswith("dislike")) for name in names),
        (Section("", text_lines(rows)),),
        (f"*: the model chose g = {found['chosen']:g} on validation, or was given it; ↓: smaller is better.",),
        head=(Header("g"),),
    )


def columns(found: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics of a trade-off."""
    return [name for name in found["points"][0] if name != "dislike_aversion"]


def draw_tradeoff(found: Mapping[str, Any], path: Path) -> None:
    """Draw Recall and NDCG against the share of held-out dislikes that are shown, as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    k, points = found["k"], found["points"]
    with picture(path, 10, 4.2) as page:
        page.suptitle(f"{found['model']} on {found['dataset']}: dislike aversion g")
        across_name = f"dislikerecall@{k}"
        for cell, title in zip(page.subplots(1, 2), (f"Recall@{k}", f"NDCG@{k}"), strict=True):
            name = title.lower()
            drawn = [point for point in points if point[across_name] is not None and point[name] is not None]
            across, up = ([point[each] for point in drawn] for each in (across_name, name))
            cell.plot(across, up, marker="o", color="#1b7837")
            for x, y, point in zip(across, up, drawn, strict=True):
                cell.annotate(f"{point['dislike_aversion']:g}", (x, y), textcoords="offset points", xytext=(5, -10))
            cell.set(xlabel=f"DislikeRecall@{k} (lower is better)", ylabel=title)
            cell.grid(alpha=0.3)
