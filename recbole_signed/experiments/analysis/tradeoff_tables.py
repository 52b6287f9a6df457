"""Tables of trade-off curves: their points, the best of them on validation, the Pareto front, and equal Recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recbole_signed.experiments.analysis.tradeoff_curve import ACROSS, BEST, FRONT, UP, VALID
from recbole_signed.table import Header, Section, Table, text_lines

DIGITS = 4


def tradeoff_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    """Return the points of one model or several, a section each."""
    names = columns(curves[0])
    sections = []
    for each in curves:
        rows = [
            (
                f"{point['dislike_aversion']:g}{'*' if point['dislike_aversion'] == each['chosen'] else ''}",
                *("-" if point[name] is None else f"{point[name]:.{DIGITS}f}" for name in names),
                ", ".join(point[FRONT]),
            )
            for point in each["points"]
        ]
        chosen = f"*: the model chose g = {each['chosen']:g} on validation, or was given it."
        sections.append(Section(each["model"] if len(curves) > 1 else "", text_lines(rows), chosen))
    first = curves[0]
    what = first["model"] if len(curves) == 1 else "Trade-off"
    return Table(
        f"{what} on {first['dataset']}, seed {first['seed']}, test part",
        (*(Header(name, name.startswith("dislike")) for name in names), Header("on the front", left=True)),
        tuple(sections),
        ("↓: smaller is better; on the front: no point of any model is better by it and shows fewer dislikes.",),
        head=(Header("g"),),
    )


def chosen_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    """Return what each model has on the test part at the g that is best on validation, for each gamma.

    Every model has its choice among the same values, and none of it is decided on the test part.
    """
    several = [name for name in curves[0][BEST] if "[" in name]
    names = several or list(curves[0][BEST])
    lines = []
    for each in curves:
        at = {point["dislike_aversion"]: point for point in each["points"]}
        cells = [(f"{g:g}", f"{at[g][name]:.{DIGITS}f}") for name, g in each[BEST].items() if name in names]
        lines.append((each["model"], *(word for cell in cells for word in cell)))
    return Table(
        f"SignedNDCG on {curves[0]['dataset']} with the g that is best by it on validation",
        tuple(header for name in names for header in (Header("g"), Header(name))),
        (Section("", text_lines(lines)),),
        (f"g is one of {len(curves[0]['points'])} values for every model.",),
        head=(Header("Model", left=True),),
    )


def matched_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    """Return how many dislikes the first model shows where it finds as many likes as each other model.

    Every other model has the g with its best Recall on validation, the first one the largest g with which its Recall
    there is not below that. Nothing is decided on the test part.

    Args:
        curves: of two models or more, with their validation part.
    """
    first, k = curves[0], curves[0]["k"]
    up, across = names = f"{UP[0]}@{k}", f"{ACROSS}@{k}"
    lines = []
    for each in curves[1:]:
        theirs = max(_measured(each, names), key=lambda at: (at[VALID][up], at["dislike_aversion"]), default=None)
        enough = [at for at in _measured(first, names) if theirs and at[VALID][up] >= theirs[VALID][up]]
        ours = max(enough, key=lambda at: at["dislike_aversion"], default=None)
        fewer = f"{ours[across] / theirs[across] - 1:+.1%}" if ours and theirs and theirs[across] else "-"
        lines.append((each["model"], *_cells(theirs, names), *_cells(ours, names), fewer))
    headers = (Header("g"), Header(up), Header(across, smaller=True))
    return Table(
        f"Dislikes shown by {first['model']} on {first['dataset']} with at least the Recall of each other model",
        (
            *headers,
            *(replace(each, header=f"{first['model']}: {each.header}") for each in headers),
            Header("difference", smaller=True),
        ),
        (Section("", text_lines(lines)),),
        (f"g: with the best {up} on validation; of {first['model']} the largest with at least that.",),
        head=(Header("Model", left=True),),
    )


def _measured(curve: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the points of a curve at which metrics are defined, on the validation part too."""
    return [
        point
        for point in curve["points"]
        if all(part[name] is not None for part in (point, point[VALID]) for name in names)
    ]


def _cells(point: Mapping[str, Any] | None, names: Sequence[str]) -> list[str]:
    if point is None:
        return ["-"] * (1 + len(names))
    return [f"{point['dislike_aversion']:g}", *(f"{point[name]:.{DIGITS}f}" for name in names)]


def front_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    """Return the Pareto front of Recall against the dislikes that are shown: its points, the fewest dislikes first."""
    k = curves[0]["k"]
    names = (f"{ACROSS}@{k}", f"{UP[0]}@{k}")
    points = [(each["model"], point) for each in curves for point in each["points"] if UP[0] in point[FRONT]]
    points.sort(key=lambda each: (each[1][names[0]], each[1][names[1]]))
    lines = [
        (model, f"{point['dislike_aversion']:g}", *(f"{point[name]:.{DIGITS}f}" for name in names))
        for model, point in points
    ]
    return Table(
        f"Pareto front on {curves[0]['dataset']}, {len(curves)} models",
        (Header("g"), Header(names[0], smaller=True), Header(names[1])),
        (Section("", text_lines(lines)),),
        head=(Header("Model", left=True),),
    )


def columns(found: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics of a trade-off."""
    return [name for name in found["points"][0] if name not in ("dislike_aversion", FRONT, VALID)]
