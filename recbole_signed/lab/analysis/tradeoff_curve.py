"""Recall and NDCG against the dislikes shown: one fit of each model, many strengths of dislike aversion."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from recbole_signed.errors import UsageError, argument
from recbole_signed.files import picture
from recbole_signed.plugin.facts import FAMILY_COLOURS, OURS, OWN, class_names, display_name, family

AVERSIONS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
METRICS = ("Recall", "NDCG", "DislikeRecall", "DislikeShare", "SignAUC", "SignedNDCG")
FIXED = ("metrics", "topk")
ACROSS, UP = "dislikerecall", ("recall", "ndcg")
VALID, BEST = "valid", "best_on_validation"
FRONT = "front"  # key of a point: the metrics of `UP` with which it is on the Pareto front against the dislikes shown


def parse_aversions(text: str) -> tuple[float, ...]:
    """Parse ``0,0.25,0.5`` into ascending numbers, each once."""
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
    *,
    values: Mapping[str, Any] | None = None,
    choose: bool = False,
) -> dict[str, Any]:
    """Fit a model once and evaluate it on the test part with each ``dislike_aversion``.

    Args:
        model: class name of any model that RecBole finds.
        dataset: name of a data set.
        aversions: the values of g.
        k: length of the ranking.
        config_files: RecBole yaml files, later ones win.
        overrides: configuration keys above the files, but not :data:`FIXED`.
        seed: RecBole's ``seed``.
        values: configuration keys below the files, such as :func:`~.asked.asked_models` gives.
        choose: evaluate the validation part too, as ``valid`` of each point, and say as ``best_on_validation`` which g
            is best there by SignedNDCG, at each gamma: a choice among as many values for every model.

    Returns:
        ``model``, ``dataset``, ``seed``, ``k``, ``chosen`` (the g that the model chose or was given), ``settings``
        (all parameters in force with it, where the model tells them, else those given), what the numbers come from,
        and ``points``: for each g its ``dislike_aversion`` and the test metrics in RecBole's spelling, None where not
        defined.

    Raises:
        UsageError: something asked for does not exist or does not fit, or the split leaves no test part, or none to
            choose on.
    """
    from recbole.utils import get_model

    from recbole_signed.runs.fitted import fit_to_measure, measured, origin_of

    (model,) = class_names(model)
    for key in overrides or {}:
        if key in FIXED:
            raise UsageError(
                f"'{key}' can't be set here: a trade-off always has {', '.join(METRICS)} at {argument('k')}."
            )
    below = {} if hasattr(get_model(model), "dislike_aversion") else {"dislike_aversion": 0.0}
    values = {**below, **(values or {})}
    fitted = fit_to_measure(model, dataset, METRICS, k, config_files, overrides, seed, values)
    chosen = float(fitted.model.dislike_aversion)
    points = []
    for value in _progress(aversions):
        fitted.model.dislike_aversion = value
        metrics = measured(fitted, fitted.test_data, METRICS, k)
        if not metrics:
            raise UsageError(f"the split leaves nothing of '{dataset}' for the test; look at eval_args.split.")
        points.append({"dislike_aversion": value, **metrics})
        if choose:
            points[-1][VALID] = measured(fitted, fitted.valid_data, METRICS, k)
            if not points[-1][VALID]:
                raise UsageError(
                    f"the split leaves nothing of '{dataset}' to choose g on; give the validation part a share "
                    f"(eval_args.split), or leave out {argument('choose')}."
                )
    origin = origin_of(fitted)
    return {
        **origin,
        "k": k,
        "chosen": chosen,
        "settings": {**origin["settings"], "dislike_aversion": chosen},
        **({BEST: _best_on_validation(points)} if choose else {}),
        "points": points,
    }


def _best_on_validation(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return result -> the g whose SignedNDCG is the highest on validation; the smallest of equal ones."""
    names = [name for name in points[0][VALID] if name.startswith("signedndcg")]
    best = {name: max(points, key=lambda point: point[VALID][name]) for name in names}
    return {name: point["dislike_aversion"] for name, point in best.items()}


def tradeoffs(
    models: Mapping[str, Mapping[str, Any]], dataset: str, folder: Path, **question: Any
) -> list[dict[str, Any]]:
    """Return the curve of each model, and keep each as ``MODEL-DATASET.json``; one that lies there is taken from it."""
    from recbole_signed.runs.fitted import kept_or_made

    curves = kept_or_made(models, dataset, folder, question, tradeoff)
    for point in (point for curve in curves for point in curve["points"]):
        point.pop(FRONT, None)  # of other company
    return curves


def can_trade_off(model: str) -> bool:
    """Return whether a model of that class name has a curve: all have but Random."""
    return model != "Random"


def mark_front(curves: Sequence[dict[str, Any]]) -> None:
    """Give each point of the curves, which are of one data set and k, its :data:`FRONT`."""
    k = curves[0]["k"]
    points = [point for curve in curves for point in curve["points"]]
    for point in points:
        point[FRONT] = [
            up for up in UP if not any(_is_better(other, point, f"{ACROSS}@{k}", f"{up}@{k}") for other in points)
        ]


def _is_better(one: Mapping[str, Any], other: Mapping[str, Any], across: str, up: str) -> bool:
    """Whether a point is at least as good in both, and better in one; what is not defined is worse than all."""
    if other[across] is None or other[up] is None:
        return True
    if one[across] is None or one[up] is None:
        return False
    level = one[across] <= other[across] and one[up] >= other[up]
    return bool(level and (one[across] < other[across] or one[up] > other[up]))


def tradeoff_rows(curves: Sequence[Mapping[str, Any]]) -> str:
    """Return the points as JSON lines, each with all that is known of its curve."""
    rows = [
        {**{key: value for key, value in curve.items() if key != "points"}, **point}
        for curve in curves
        for point in curve["points"]
    ]
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for row in rows)


def read_curves(path: Path) -> list[dict[str, Any]]:
    """Return the curves whose rows :func:`tradeoff_rows` gave."""
    curves: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        own = ("dislike_aversion", "signauc", VALID, FRONT)
        of_point = {key: row.pop(key) for key in list(row) if "@" in key or key in own}
        curves.setdefault(row["model"], {**row, "points": []})["points"].append(of_point)
    return list(curves.values())


def chosen_points(curve: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return, for the name of each SignedNDCG, the point of a curve at the g that is best by it on validation."""
    at = {point["dislike_aversion"]: point for point in curve["points"]}
    return {name: at[g] for name, g in curve[BEST].items()}


def of_each_gamma(names: Iterable[str]) -> list[str]:
    """Return the names of the SignedNDCG of single gammas; where there is one gamma, its name is without it."""
    listed = list(names)
    return [name for name in listed if "[" in name] or listed


def gamma_in(name: str) -> str:
    """Return the gamma that the name of a result has, as in ``signedndcg@20[gamma 0.5]``; empty for none."""
    return name.partition("[gamma ")[2].removesuffix("]")


def _progress(values: Sequence[float]) -> Any:
    from rich.console import Console
    from rich.progress import track

    return track(values, "evaluating", console=Console(stderr=True), transient=True)


MANY = 10  # more curves have the colours of their families, and those without a point on a front are drawn paler
LINE = 0.175  # inches that a line of the legend takes; the figure is as high as they need


def draw_tradeoff(curves: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw Recall and NDCG against the share of held-out dislikes that are shown, as PNG, with the Pareto front."""
    first, k = curves[0], curves[0]["k"]
    name = f"{display_name(first['model'])} on {first['dataset']}" if len(curves) == 1 else str(first["dataset"])
    across = f"{ACROSS}@{k}"
    many = len(curves) > MANY
    styles = _of_families(curves) if many else list(islice(cycle(_STYLES), len(curves)))
    # of a legend by families, which has a line for each of these and for the front
    order = sorted(range(len(curves)), key=lambda place: [*FAMILY_COLOURS, ""].index(styles[place].family))
    n_lines = len(curves) + 1 + many * len({style.family for style in styles})
    with picture(path, 10 + many, max(4.6, LINE * (n_lines + 1))) as page:
        ring = "" if len(curves) == 1 else f" (ring: {first['points'][0]['dislike_aversion']:g})"
        page.suptitle(f"{name}: one fit each, dislike aversion g = {_span(first)}{ring}")
        cells = page.subplots(1, 2)
        for cell, title in zip(cells, (f"Recall@{k}", f"NDCG@{k}"), strict=True):
            up = title.lower()
            for place in order:
                curve, style = curves[place], styles[place]
                drawn = [point for point in curve["points"] if point[across] is not None and point[up] is not None]
                xs, ys = ([point[name] for point in drawn] for name in (across, up))
                ours = style.family == OURS
                behind = many and not any(point[FRONT] for point in curve["points"])
                shade = {"color": style.colour, "alpha": 0.35 if behind else 1.0, "zorder": 2 - behind + ours}
                width = 1.8 if ours else 1.0
                cell.plot(xs, ys, marker=style.marker, ms=4, lw=width, label=display_name(curve["model"]), **shade)
                if ring:
                    cell.plot(xs[:1], ys[:1], marker="o", ms=9, mfc="none", **shade)
                for x, y, point in zip(xs, ys, drawn, strict=True) if len(curves) == 1 else ():
                    cell.annotate(f"{point['dislike_aversion']:g}", (x, y), textcoords="offset points", xytext=(5, -10))
            front = [point for curve in curves for point in curve["points"] if up.partition("@")[0] in point[FRONT]]
            front.sort(key=lambda point: point[across])
            if len(curves) > 1:
                xs, ys = ([point[name] for point in front] for name in (across, up))
                cell.plot(xs, ys, color="black", lw=6, alpha=0.12, zorder=0, label="Pareto front")
                _leave_out_what_is_far_below(cell, curves, up)
            cell.set(xlabel=f"DislikeRecall@{k} (lower is better)", ylabel=title)
            cell.grid(alpha=0.3)
        if len(curves) > 1:
            handles, labels = cells[0].get_legend_handles_labels()
            kinds = [styles[place].family for place in order] if many else []
            heads = [place for place, kind in enumerate(kinds) if kind not in kinds[:place]]
            for place in reversed(heads):
                handles.insert(place, cells[0].plot([], [], " ")[0])
                labels.insert(place, OWN if kinds[place] == OURS else kinds[place])
            legend = page.legend(handles, labels, loc="outside right upper", fontsize=8)
            for number, place in enumerate(heads):
                legend.get_texts()[place + number].set_weight("bold")


class _Style(NamedTuple):
    colour: str
    marker: str
    family: str = ""  # that the colour is of; empty where it is of the model


def _of_families(curves: Sequence[Mapping[str, Any]]) -> list[_Style]:
    """Return a style for each curve: the colour of its family, and a marker that tells it from the family's others."""
    styles, counts = [], dict.fromkeys(FAMILY_COLOURS, 0)
    for curve in curves:
        kind = family(curve["model"])
        marker = _MARKERS[counts[kind] % len(_MARKERS)]
        styles.append(_Style(FAMILY_COLOURS[kind], marker, kind))
        counts[kind] += 1
    return styles


_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
_COLOURS = "#1b7837 #762a83 #2166ac #e08214 #b2182b #4d9221 #35978f #8c510a #636363 #c51b7d"
_STYLES = tuple(_Style(colour, marker) for marker in ("o", "s", "^") for colour in _COLOURS.split(" "))
"""Colour and marker of each curve, in the order in which models are named."""


def _leave_out_what_is_far_below(cell: Any, curves: Sequence[Mapping[str, Any]], up: str) -> None:
    """Begin the axis above the models whose best value is less than half of the best, and name them."""
    best = {curve["model"]: max(point[up] or 0.0 for point in curve["points"]) for curve in curves}
    far = [model for model, value in best.items() if value < max(best.values()) / 2]
    near = [point[up] for curve in curves if curve["model"] not in far for point in curve["points"] if point[up]]
    low, high = min(near, default=0.0), max(near, default=0.0)
    bottom = low - 0.1 * (high - low)
    hidden = [f"{display_name(model)} (at most {best[model]:.3f})" for model in far if best[model] < bottom]
    if hidden and low < high:
        cell.set_ylim(bottom, high + 0.05 * (high - low))
        cell.text(0.98, 0.02, f"below: {', '.join(hidden)}", transform=cell.transAxes, ha="right", fontsize=8)


def _span(curve: Mapping[str, Any]) -> str:
    values = [point["dislike_aversion"] for point in curve["points"]]
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
