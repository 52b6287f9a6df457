"""The report's figures of models and streams, drawn from committed results alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_signed.live.replay.summary import REFERENCE as REFIT
from recbole_signed.live.replay.summary import TITLES
from recbole_signed.plugin.facts import OURS, REFERENCE, SIGNED_TRAINED, family
from signed_report.data_figures import draw_datasets, draw_kuairand
from signed_report.drawing import ARM_STYLE, FAMILY_STYLE, KINDS, NAMES, name_points, page, save, settle
from signed_report.results import MAIN, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UP = "recall@20"
LIMIT = 0.85
"""The part of retraining's quality that an online system must keep."""
STRONGEST = "SIGformer"
"""The published model that readers will look for: named wherever there is room."""
LOGARITHMIC = ("train", "own memory")
WIDE = 20
"""An axis is logarithmic where its largest value is more than this many times the median."""
OF_TIME = "-time"
"""Streams of models that know time, which have a table of their own."""
Curve = tuple[float, float, float]
"""x, y and the dislike aversion of a point of a trade-off curve."""


def draw_all(results: Results, folder: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Draw every figure whose results are there; return the files, one of each kind.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    drawers: tuple[Callable[[Results, Path, Sequence[str]], list[Path]], ...] = (
        draw_tradeoff,
        draw_cost,
        draw_retention,
        draw_datasets,
        draw_kuairand,
    )
    return [path for drawer in drawers for path in drawer(results, folder, kinds)]


def draw_tradeoff(results: Results, folder: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Draw Recall@20 against the share of held-out dislikes in the top 20, with SSF's curve over g."""
    across = "dislikerecall@20"
    curves = {
        section: [(point[across], point[UP], point["dislike_aversion"]) for point in tradeoff["points"]]
        for section, tradeoff in results.tradeoffs.items()
    }
    return _scatter(results, folder, "tradeoff", ((across, "DislikeRecall@20 (lower is better)"),), curves, kinds)


def draw_cost(results: Results, folder: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Draw Recall@20 against training time and against the memory that a run takes beyond the libraries'."""
    rows = (("train", "training (s)"), ("own memory", "own peak memory (MB)"))
    return _scatter(results, folder, "cost", rows, {}, kinds)


def _scatter(
    results: Results,
    folder: Path,
    name: str,
    rows: tuple[tuple[str, str], ...],
    curves: Mapping[str, list[Curve]],
    kinds: Sequence[str],
) -> list[Path]:
    """Draw a row of panels for each column of the table on the x axis, a panel for each data set."""
    table = results.tables.get(MAIN)
    if table is None:
        return []
    sections = {name: table["sections"][name]["lines"] for name in table["order"]}
    with page(0.5 + (2.7 if len(rows) == 1 else 2.15) * len(rows)) as figure:
        cells = figure.subplots(len(rows), len(sections), squeeze=False)
        for number, ((across, label), line) in enumerate(zip(rows, cells, strict=True)):
            for (section, lines), cell in zip(sections.items(), line, strict=True):
                _panel(cell, lines, across, curves.get(section, []))
                cell.set_xlabel(label)
                if number == 0:
                    cell.set_title(NAMES.get(section, section))
            line[0].set_ylabel("Recall@20")
        _legend(figure)
        settle(figure)
        for (across, _), line in zip(rows, cells, strict=True):
            for (section, lines), cell in zip(sections.items(), line, strict=True):
                name_points(cell, _named(lines, across, curves.get(section, [])))
        return save(figure, folder, name, kinds)


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="", markersize=7 if marker == "*" else 4, label=name)
        for name, (colour, marker) in FAMILY_STYLE.items()
    ]
    colour, marker = FAMILY_STYLE[SIGNED_TRAINED]
    stopped = Line2D([], [], marker=marker, color=colour, markerfacecolor="white", linestyle="", markersize=4)
    stopped.set_label("open: stopped by its budget (†)")
    figure.legend(handles=[*handles, stopped], loc="outside lower center", ncols=4, handletextpad=0.2)


def _panel(cell: Axes, lines: Mapping[str, Any], across: str, curve: list[Curve]) -> None:
    colour = FAMILY_STYLE[OURS][0]
    places = {label: place for label, line in lines.items() if (place := _place(line, across)) is not None}
    values = sorted(x for x, _ in places.values())
    if across in LOGARITHMIC or values[0] <= 0 or values[-1] > WIDE * values[len(values) // 2]:
        cell.set_xscale("log")
    if curve:
        cell.plot([x for x, _, _ in curve], [y for _, y, _ in curve], ".-", color=colour, markersize=4, zorder=2)
    for label, place in places.items():
        colour, marker = FAMILY_STYLE[family(lines[label]["model"])]
        if marker == "x":
            cell.scatter(*place, s=15, marker=marker, color=colour, linewidth=0.9, zorder=3)
            continue
        face = "white" if lines[label]["budget"] else colour
        size = 60 if marker == "*" else 15
        cell.scatter(*place, s=size, marker=marker, facecolor=face, edgecolor=colour, linewidth=0.9, zorder=3)
    cell.margins(x=0.12)  # room for names
    cell.set_ylim(0, cell.get_ylim()[1] * 1.04)
    if across == "own memory":
        _whole_ticks(cell)


def _whole_ticks(cell: Axes) -> None:
    """Label a logarithmic axis of less than a decade with whole numbers."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    low, high = cell.get_xlim()
    cell.xaxis.set_major_locator(FixedLocator([x for x in (100, 150, 200, 300, 400, 600, 800, 1600) if low < x < high]))
    cell.xaxis.set_minor_locator(NullLocator())
    cell.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))


def _place(line: Mapping[str, Any], across: str) -> tuple[float, float] | None:
    means = [line["values"].get(key, {}).get("mean") for key in (across, UP)]
    return None if None in means else (float(means[0]), float(means[1]))


def _named(lines: Mapping[str, Any], across: str, curve: list[Curve]) -> list[tuple[str, float, float, bool]]:
    """Return what has a name, the best models first; before all ours, the references and the strongest published."""
    points = [
        (label, *place, family(line["model"]) in (OURS, REFERENCE) or line["model"] == STRONGEST)
        for label, line in lines.items()
        if (place := _place(line, across)) is not None
    ]
    last = len(curve) - 1
    on_curve = [(f"g = {g:g}" if number in (0, last) else "", x, y, True) for number, (x, y, g) in enumerate(curve)]
    return sorted(points, key=lambda point: -point[2]) + on_curve


def draw_retention(results: Results, folder: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Draw how much of retraining's Recall@20 each arm keeps, window by window, one panel for each stream."""
    streams = {
        name: stream for name, stream in results.streams.items() if any(_arms(stream)) and not name.endswith(OF_TIME)
    }
    if not streams:
        return []
    panels = [
        (name, model) for name, stream in streams.items() for model in stream["order"] if _kept(stream, model, "none")
    ]
    n_rows = -(-len(panels) // 3)
    with page(0.4 + 1.9 * n_rows) as figure:
        cells = figure.subplots(n_rows, min(3, len(panels)), squeeze=False).ravel()
        for cell in cells[len(panels) :]:
            cell.set_visible(False)
        for (name, model), cell in zip(panels, cells, strict=False):
            for arm, (colour, dash, marker) in ARM_STYLE.items():
                places = _kept(streams[name], model, arm)
                cell.plot(*zip(*places, strict=True), dash, color=colour, marker=marker, label=TITLES[arm])
            cell.axhline(1, color="black", linewidth=0.6)
            cell.axhline(LIMIT, color="black", linewidth=0.6, linestyle=(0, (1, 2)))
            title = NAMES.get(streams[name]["dataset"], name)
            cell.set_title(title if model == "SSF" else f"{title}, {model.removeprefix('SSF, ')}")
            cell.set_xlabel("window")
            cell.xaxis.get_major_locator().set_params(integer=True)
        for number in range(0, len(panels), 3):
            cells[number].set_ylabel("Recall@20 / retrained")
        handles, labels = cells[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return save(figure, folder, "retention", kinds)


def _arms(stream: Mapping[str, Any]) -> list[str]:
    return [row["arm"] for row in stream["windows"] if row["arm"] in ARM_STYLE]


def _kept(stream: Mapping[str, Any], model: str, arm: str) -> list[tuple[int, float]]:
    by_arm: dict[str, dict[int, float]] = {}
    for row in stream["windows"]:
        if row["model"] == model and row[UP] is not None:
            by_arm.setdefault(row["arm"], {})[row["window"]] = row[UP]
    reference = by_arm.get(REFIT, {})
    return [(w + 1, v / reference[w]) for w, v in sorted(by_arm.get(arm, {}).items()) if reference.get(w)]
