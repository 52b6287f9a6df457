"""The figure of trade-off curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from recbole_signed.lab.analysis.tradeoff_curve import ACROSS, FRONT
from recbole_signed.pictures import picture
from recbole_signed.plugin.facts import FAMILY_COLOURS, OURS, OWN, display_name, family

MANY = 10
"""More curves have the colours of their families, and those without a point on a front are drawn paler."""
LINE = 0.175
"""Inches that a line of the legend takes; the figure is as high as they need."""


def draw_tradeoff(curves: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw Recall and NDCG against the share of held-out dislikes that are shown, as PNG, with the Pareto front.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
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
                each, style = curves[place], styles[place]
                drawn = [point for point in each["points"] if point[across] is not None and point[up] is not None]
                xs, ys = ([point[name] for point in drawn] for name in (across, up))
                ours = style.family == OURS
                behind = many and not any(point[FRONT] for point in each["points"])
                shade = {"color": style.colour, "alpha": 0.35 if behind else 1.0, "zorder": 2 - behind + ours}
                width = 1.8 if ours else 1.0
                cell.plot(xs, ys, marker=style.marker, ms=4, lw=width, label=display_name(each["model"]), **shade)
                if ring:
                    cell.plot(xs[:1], ys[:1], marker="o", ms=9, mfc="none", **shade)
                for x, y, point in zip(xs, ys, drawn, strict=True) if len(curves) == 1 else ():
                    cell.annotate(f"{point['dislike_aversion']:g}", (x, y), textcoords="offset points", xytext=(5, -10))
            front = [point for each in curves for point in each["points"] if up.partition("@")[0] in point[FRONT]]
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
    family: str = ""
    """That the colour is of; empty where it is of the model."""


def _of_families(curves: Sequence[Mapping[str, Any]]) -> list[_Style]:
    """Return a style for each curve: the colour of its family, and a marker that tells it from the family's others."""
    found, counts = [], dict.fromkeys(FAMILY_COLOURS, 0)
    for each in curves:
        kind = family(each["model"])
        marker = _MARKERS[counts[kind] % len(_MARKERS)]
        found.append(_Style(FAMILY_COLOURS[kind], marker, kind))
        counts[kind] += 1
    return found


_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
_STYLES = tuple(
    _Style(colour, marker)
    for marker in ("o", "s", "^")
    for colour in (
        "#1b7837",
        "#762a83",
        "#2166ac",
        "#e08214",
        "#b2182b",
        "#4d9221",
        "#35978f",
        "#8c510a",
        "#636363",
        "#c51b7d",
    )
)
"""Colour and marker of each curve, in the order in which models are named."""


def _leave_out_what_is_far_below(cell: Any, curves: Sequence[Mapping[str, Any]], up: str) -> None:
    """Begin the axis above the models whose best value is less than half of the best, and name them."""
    best = {each["model"]: max(point[up] or 0.0 for point in each["points"]) for each in curves}
    far = [model for model, value in best.items() if value < max(best.values()) / 2]
    near = [point[up] for each in curves if each["model"] not in far for point in each["points"] if point[up]]
    low, high = min(near, default=0.0), max(near, default=0.0)
    bottom = low - 0.1 * (high - low)
    hidden = [f"{display_name(model)} (at most {best[model]:.3f})" for model in far if best[model] < bottom]
    if hidden and low < high:
        cell.set_ylim(bottom, high + 0.05 * (high - low))
        cell.text(0.98, 0.02, f"below: {', '.join(hidden)}", transform=cell.transAxes, ha="right", fontsize=8)


def _span(found: Mapping[str, Any]) -> str:
    values = [point["dislike_aversion"] for point in found["points"]]
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
