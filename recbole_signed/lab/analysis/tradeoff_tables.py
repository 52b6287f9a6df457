"""Tables of trade-off curves: their points, the best of them on validation, the Pareto front, and equal Recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from statistics import fmean
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.lab.analysis.tradeoff_curve import (
    ACROSS,
    BEST,
    FRONT,
    UP,
    VALID,
    chosen_points,
    of_each_gamma,
)
from recbole_signed.plugin.facts import display_name
from recbole_signed.table import Header, Section, Table, text_lines

DIGITS = 4


def tradeoff_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    """Return the points of one model or several, a section each."""
    names = columns(curves[0])
    sections = []
    for curve in curves:
        rows = [
            (
                f"{point['dislike_aversion']:g}{'*' if point['dislike_aversion'] == curve['chosen'] else ''}",
                *("-" if point[name] is None else f"{point[name]:.{DIGITS}f}" for name in names),
                ", ".join(point[FRONT]),
            )
            for point in curve["points"]
        ]
        shown = any(point["dislike_aversion"] == curve["chosen"] for point in curve["points"])
        start, end = ("*: the", "") if shown else ("The", f"; --g {curve['chosen']:g} shows it")
        chosen = f"{start} model chose g = {curve['chosen']:g} on validation, or was given it{end}."
        sections.append(Section(display_name(curve["model"]) if len(curves) > 1 else "", text_lines(rows), chosen))
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
    """Return what each model has on the test part at the g that is best on validation, for each gamma."""
    names = of_each_gamma(curves[0][BEST])
    lines = []
    for curve in curves:
        points = {name: point for name, point in chosen_points(curve).items() if name in names}
        cells = [(f"{at['dislike_aversion']:g}", f"{at[name]:.{DIGITS}f}") for name, at in points.items()]
        lines.append((display_name(curve["model"]), *(word for cell in cells for word in cell)))
    return Table(
        f"SignedNDCG on {curves[0]['dataset']} with the g that is best by it on validation",
        tuple(header for name in names for header in (Header("g"), Header(name))),
        (Section("", text_lines(lines)),),
        (f"g is one of {len(curves[0]['points'])} values for every model.",),
        head=(Header("Model", left=True),),
    )


def matched(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how many dislikes the first model shows at the Recall of each other model, chosen on validation."""
    first, k = curves[0], curves[0]["k"]
    names = f"{UP[0]}@{k}", f"{ACROSS}@{k}"
    matches = []
    for curve in curves[1:]:
        theirs = max(_measured(curve, *names), key=lambda at: (at.valid, at.g), default=None)
        ours = None if theirs is None else _with_valid(_measured(first, *names), theirs.valid)
        matches.append(
            {
                "model": curve["model"],
                "theirs": None if theirs is None else theirs.named(*names),
                "ours": None if ours is None else ours.named(*names),
                "difference": ours.across / theirs.across - 1 if ours and theirs and theirs.across else None,
            }
        )
    return matches


def matched_table(curves: Sequence[Mapping[str, Any]]) -> Table:
    """Return what :func:`matched` finds as a table."""
    first, k = curves[0], curves[0]["k"]
    ours = display_name(first["model"])
    headers = (Header("g"), Header(f"{UP[0]}@{k}"), Header(f"{ACROSS}@{k}", smaller=True))
    lines = []
    for match in matched(curves):
        cells = [word for side in ("theirs", "ours") for word in _cells(match[side], len(headers))]
        fewer = "-" if match["difference"] is None else f"{match['difference']:+.1%}"
        lines.append((display_name(match["model"]), *cells, fewer))
    return Table(
        f"Dislikes shown by {ours} on {first['dataset']} with the Recall of each other model",
        (
            *headers,
            *(replace(header, header=f"{ours}: {header.header}") for header in headers),
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
    points = sorted(curve["points"], key=lambda point: point["dislike_aversion"])
    values = [(point["dislike_aversion"], point[VALID][up], point[up], point[across]) for point in points]
    return [_Point(*row) for row in values if None not in row]


def _with_valid(points: Sequence[_Point], valid: float) -> _Point | None:
    """Return the point of the largest g that has a Recall on validation; None where none has as much."""
    last = max((place for place, point in enumerate(points) if point.valid >= valid), default=None)
    if last is None or last + 1 == len(points):
        return None if last is None else points[last]
    return points[last].towards(points[last + 1], valid)


def _cells(point: Mapping[str, float] | None, n: int) -> list[str]:
    if point is None:
        return ["-"] * n
    g, *values = point.values()
    return [f"{g:.3g}", *(f"{value:.{DIGITS}f}" for value in values)]


def columns(curve: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics of a trade-off."""
    return [name for name in curve["points"][0] if name not in ("dislike_aversion", FRONT, VALID)]


_OF_SPLIT = ("dataset", "data_sha256", "config_hash", "chosen", "stopped_by")


def over_splits(name: str, curves_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return what the models have on each of several splits: best by validation, and at the first's Recall."""
    models: dict[str, list[dict[str, Any]]] = {}
    everywhere = [curve["model"] for curve in next(iter(curves_of.values()))]
    for dataset, curves in curves_of.items():
        if other := set(everywhere).symmetric_difference(curve["model"] for curve in curves):
            raise UsageError(
                f"{', '.join(sorted(other))}: on one of '{next(iter(curves_of))}' and '{dataset}' alone; give --model "
                "models that are on all of these data sets."
            )
        same_recall = {match.pop("model"): match for match in matched(curves)}
        for curve in curves:
            best = {
                name: {"dislike_aversion": point["dislike_aversion"], "value": point[name]}
                for name, point in chosen_points(curve).items()
            }
            split = {**{key: curve[key] for key in _OF_SPLIT}, "best": best}
            if curve["model"] in same_recall:
                split["at_same_recall"] = same_recall[curve["model"]]
            models.setdefault(curve["model"], []).append(split)
    first = next(iter(curves_of.values()))[0]
    return {
        "name": name,
        "datasets": list(curves_of),
        **{key: first[key] for key in ("k", "seed", "versions")},
        "aversions": [point["dislike_aversion"] for point in first["points"]],
        "models": [{"model": model, "splits": splits} for model, splits in models.items()],
    }


def splits_table(result: Mapping[str, Any]) -> Table:
    """Return the means of :func:`over_splits`, how far the first model is ahead, and on how many of the splits."""
    first, *others = result["models"]
    names = of_each_gamma(first["splits"][0]["best"])
    rows = []
    for model in (first, *others):
        cells = []
        for name in names:
            ours, theirs = (values_of(of, name) for of in (first, model))
            cells += [f"{fmean(theirs):.{DIGITS}f}", "" if model is first else _ahead(ours, theirs)]
        rows.append((display_name(model["model"]), *cells, "" if model is first else _fewer(model["splits"])))
    leader = display_name(first["model"])
    heads = (header for name in names for header in (Header(name), Header(f"{leader} ahead by")))
    n_splits, n_values = len(result["datasets"]), len(result["aversions"])
    return Table(
        f"SignedNDCG and dislikes on {result['name']}, {n_splits} splits",
        (*heads, Header(f"dislikes of {leader} at the same Recall", smaller=True)),
        (Section("", text_lines(rows)),),
        (
            f"Means over the splits, test part. g is one of {n_values} values for every model, the best on the "
            f"validation part of each split. In brackets: on how many splits {leader} is ahead; of dislikes, the "
            "smallest and the largest difference.",
        ),
        head=(Header("Model", left=True),),
    )


def values_of(model: Mapping[str, Any], name: str) -> list[float]:
    """Return what a model of :func:`over_splits` has on each split by one result."""
    return [split["best"][name]["value"] for split in model["splits"]]


def _ahead(ours: Sequence[float], theirs: Sequence[float]) -> str:
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return f"{fmean(differences):+.{DIGITS}f} ({sum(gap > 0 for gap in differences)} of {len(differences)})"


def _fewer(splits: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean difference of the dislikes that are shown, with its range; a dash where a split has none."""
    differences = [split["at_same_recall"]["difference"] for split in splits]
    if None in differences:
        return "-"
    return f"{fmean(differences):+.0%} ({min(differences):+.0%} to {max(differences):+.0%})"
