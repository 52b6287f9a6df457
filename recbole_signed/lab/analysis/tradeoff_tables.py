"""Tables of trade-off curves: their points, the best of them on validation, the Pareto front, and equal Recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from recbole_signed.lab.analysis.tradeoff_curve import ACROSS, BEST, FRONT, UP, VALID, chosen_points, of_each_gamma
from recbole_signed.plugin.facts import display_name
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
        sections.append(Section(display_name(each["model"]) if len(curves) > 1 else "", text_lines(rows), chosen))
    first = curves[0]
    what = display_name(first["model"]) if len(curves) == 1 else "Trade-off"
    return Table(
        f"{what} on {first['dataset']}, seed {first['seed']}, test part",
        (*(Header(name, name.startswith("dislike")) for name in names), Header("on the front", left=True)),
        tuple(sections),
        (
            "↓: smaller is better; on the front: no point of any model is better in one of it and the dislikes shown, "
            "and at least as good in the other.",
        ),
        head=(Header("g"),),
    )


def chosen_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    """Return what each model has on the test part at the g that is best on validation, for each gamma.

    Every model has its choice among the same values, and none of it is decided on the test part.
    """
    names = of_each_gamma(curves[0][BEST])
    lines = []
    for each in curves:
        points = {name: point for name, point in chosen_points(each).items() if name in names}
        cells = [(f"{at['dislike_aversion']:g}", f"{at[name]:.{DIGITS}f}") for name, at in points.items()]
        lines.append((display_name(each["model"]), *(word for cell in cells for word in cell)))
    return Table(
        f"SignedNDCG on {curves[0]['dataset']} with the g that is best by it on validation",
        tuple(header for name in names for header in (Header("g"), Header(name))),
        (Section("", text_lines(lines)),),
        (f"g is one of {len(curves[0]['points'])} values for every model.",),
        head=(Header("Model", left=True),),
    )


def matched(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how many dislikes the first model shows where it finds as many likes as each other model.

    Every other model has the g with its best Recall on validation, the first one the largest g with the same Recall
    there, on the straight line between two of its points. Nothing is decided on the test part.

    Args:
        curves: of two models or more, with their validation part.

    Returns:
        For each other model: its name as ``model``; ``theirs`` and ``ours``, which are ``dislike_aversion``, Recall and
        DislikeRecall on the test part, or None where there is no such point; and ``difference``, the relative one of
        the two DislikeRecalls, or None.
    """
    first, k = curves[0], curves[0]["k"]
    names = f"{UP[0]}@{k}", f"{ACROSS}@{k}"
    found = []
    for each in curves[1:]:
        theirs = max(_measured(each, *names), key=lambda at: (at.valid, at.g), default=None)
        ours = None if theirs is None else _with_valid(_measured(first, *names), theirs.valid)
        found.append(
            {
                "model": each["model"],
                "theirs": None if theirs is None else theirs.named(*names),
                "ours": None if ours is None else ours.named(*names),
                "difference": ours.across / theirs.across - 1 if ours and theirs and theirs.across else None,
            }
        )
    return found


def matched_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    """Return what :func:`matched` finds as a table."""
    first, k = curves[0], curves[0]["k"]
    ours = display_name(first["model"])
    headers = (Header("g"), Header(f"{UP[0]}@{k}"), Header(f"{ACROSS}@{k}", smaller=True))
    lines = []
    for each in matched(curves):
        cells = [word for side in ("theirs", "ours") for word in _cells(each[side], len(headers))]
        fewer = "-" if each["difference"] is None else f"{each['difference']:+.1%}"
        lines.append((display_name(each["model"]), *cells, fewer))
    return Table(
        f"Dislikes shown by {ours} on {first['dataset']} with the Recall of each other model",
        (
            *headers,
            *(replace(each, header=f"{ours}: {each.header}") for each in headers),
            Header("difference", smaller=True),
        ),
        (Section("", text_lines(lines)),),
        (f"g: the best by Recall on validation; of {ours} the largest with the same Recall there.",),
        head=(Header("Model", left=True),),
    )


@dataclass(frozen=True)
class _Point:
    """A point of a curve, or one on the line between two: g, Recall on validation, both metrics on the test part."""

    g: float
    valid: float
    up: float
    across: float

    def named(self, up: str, across: str) -> dict[str, float]:
        """Return g and the metrics on the test part by their names."""
        return {"dislike_aversion": self.g, up: self.up, across: self.across}

    def towards(self, other: _Point, valid: float) -> _Point:
        """Return the point on the line to another one that has a Recall on validation between theirs."""
        share = (self.valid - valid) / (self.valid - other.valid)
        return _Point(*(a + share * (b - a) for a, b in zip(astuple(self), astuple(other), strict=True)))


def _measured(curve: Mapping[str, Any], up: str, across: str) -> list[_Point]:
    """Return the points of a curve at which the metrics are defined, by ascending g."""
    points = sorted(curve["points"], key=lambda each: each["dislike_aversion"])
    values = [(each["dislike_aversion"], each[VALID][up], each[up], each[across]) for each in points]
    return [_Point(*each) for each in values if None not in each]


def _with_valid(points: Sequence[_Point], valid: float) -> _Point | None:
    """Return the point of the largest g that has a Recall on validation; None where none has as much."""
    last = max((place for place, each in enumerate(points) if each.valid >= valid), default=None)
    if last is None or last + 1 == len(points):
        return None if last is None else points[last]
    return points[last].towards(points[last + 1], valid)


def _cells(point: Mapping[str, float] | None, n: int) -> list[str]:
    if point is None:
        return ["-"] * n
    g, *values = point.values()
    return [f"{g:.3g}", *(f"{value:.{DIGITS}f}" for value in values)]


def columns(found: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics of a trade-off."""
    return [name for name in found["points"][0] if name not in ("dislike_aversion", FRONT, VALID)]
