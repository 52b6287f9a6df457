"""The report's figures of data sets, from the committed statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signed_report.drawing import DISLIKE, ITEM, KINDS, LIKE, NAMES, NEUTRAL, USER, page, save
from signed_report.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDER = (
    "sigformer-amazon-music",
    "sigformer-kuairand",
    "sigformer-epinions",
    "sigformer-kuairec",
    "kuairand-stream",
    "ml-100k-signed",
    "ml-latest-small",
    "movietweetings",
)
_QUANTILES = ("p1", "p10", "p25", "median", "p75", "p90", "p99")


def draw_datasets(results: Results, folder: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Draw signs, degrees, and what the sign depends on, of every data set with statistics."""
    statistics = {name: results.statistics[name] for name in ORDER if name in results.statistics}
    if not statistics:
        return []
    names = [NAMES.get(name, name) for name in statistics]
    places = np.arange(len(statistics))[::-1]
    with page(2.5) as figure:
        signs, degrees, rates, signal = figure.subplots(1, 4, sharey=True)
        _signs(signs, places, list(statistics.values()))
        for side, colour, shift in (("user", USER, 0.17), ("item", ITEM, -0.17)):
            spans = [of_set[side]["degree"]["all"] for of_set in statistics.values()]
            _spans(degrees, places + shift, spans, colour, f"per {side}")
            shares = [of_set[side]["like_rate"] for of_set in statistics.values()]
            _spans(rates, places + shift, shares, colour, f"per {side}")
            for key, marker in (("intraclass", "o"), ("likes_to_dislikes", "D")):
                values = [np.nan if of_set[side][key] is None else of_set[side][key] for of_set in statistics.values()]
                signal.plot(values, places + shift, marker, color=colour)
        degrees.set_xscale("log")
        signal.axvline(0, color="black", linewidth=0.5)
        for cell, title in (
            (signs, "share of rows"),
            (degrees, "rows"),
            (rates, "like rate"),
            (signal, "● intraclass, ◆ Spearman"),
        ):
            cell.set_title(title, fontsize=7)
        signs.set_yticks(places, names)
        for cell in (signs, degrees, rates, signal):
            cell.tick_params(axis="y", length=0)
        handles, labels = degrees.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=2)
        signs.grid(visible=False)
        return save(figure, folder, "datasets", kinds)


def _signs(cell: Axes, places: np.ndarray, statistics: Sequence[Mapping[str, Any]]) -> None:
    left = np.zeros(len(statistics))
    for sign, colour, text in (
        ("like", LIKE, "likes"),
        ("dislike", DISLIKE, "dislikes"),
        ("neutral", NEUTRAL, "neutral"),
    ):
        share = np.array([of_set["rows"][sign] / of_set["rows"]["total"] for of_set in statistics])
        cell.barh(places, share, 0.62, left=left, color=colour, hatch="///" if sign == "dislike" else None, alpha=0.85)
        widest = int(share.argmax())
        if share[widest] > 0:  # on white: letters on a hatched bar can't be read
            label = cell.text(
                left[widest] + share[widest] / 2, places[widest], text, ha="center", va="center", fontsize=6
            )
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        left += share
    cell.set_xlim(0, 1)


def _spans(
    cell: Axes, places: np.ndarray, spans: Sequence[Mapping[str, float] | None], colour: str, label: str
) -> None:
    """Draw each distribution as a thin line from its 1st to its 99th percentile, a thick one from 10th to 90th."""
    for number, (y, span) in enumerate(zip(places, spans, strict=True)):
        if span is None:
            continue
        q = {key: span[key] for key in _QUANTILES}
        cell.plot([q["p1"], q["p99"]], [y, y], color=colour, linewidth=0.7)
        cell.plot([q["p10"], q["p90"]], [y, y], color=colour, linewidth=2.6, solid_capstyle="butt")
        cell.plot(
            [q["median"]],
            [y],
            "o",
            color="white",
            markeredgecolor=colour,
            markersize=3.2,
            label=label if number == 0 else None,
        )


def draw_kuairand(results: Results, folder: Path, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Draw KuaiRand's log: its days, its signals, and how a view depends on the video's length."""
    log = results.kuairand
    if not log:
        return []
    with page(2.15) as figure:
        days, signals, lengths = figure.subplots(1, 3, width_ratios=(1.25, 1.15, 1))
        _days(days, log["days"])
        _signals(signals, log["signals"])
        _lengths(lengths, log["lengths"])
        return save(figure, folder, "kuairand", kinds)


def _days(cell: Axes, days: Sequence[Mapping[str, Any]]) -> None:
    whole = [day for day in days if day["rows"] > 1000]  # the first evening has an hour of another day
    at = np.arange(len(whole))
    cell.bar(at, [day["rows"] / 1000 for day in whole], color=NEUTRAL, width=0.75)
    cell.set_ylabel("exposures (thousands)")
    cell.set_xticks(at[::3], [day["day"][5:] for day in whole][::3])
    cell.set_title("days: exposures, rates, new users")
    share = cell.twinx()
    share.grid(visible=False)
    share.spines["right"].set_visible(True)
    for key, colour, dash, label in (
        ("is_click", USER, "-", "clicks"),
        ("long_view", LIKE, "--", "long views"),
        ("rows_of_new_users", DISLIKE, ":", "by new users"),
    ):
        share.plot(at, [day[key] for day in whole], dash, color=colour, label=label)
    share.set_ylim(0, 1.35)
    share.set_yticks([0, 0.25, 0.5, 0.75, 1])
    share.legend(loc="upper right", fontsize=6, labelspacing=0.2)
    cell.set_ylim(top=30)


def _signals(cell: Axes, signals: Mapping[str, Mapping[str, Any]]) -> None:
    ordered = sorted(signals.items(), key=lambda item: item[1]["share"])
    at = np.arange(len(ordered))
    colours = [DISLIKE if name == "is_hate" else LIKE for name, _ in ordered]
    cell.barh(at, [signal["share"] for _, signal in ordered], color=colours)
    cell.set_xscale("log")
    cell.set_yticks(at, [name.removeprefix("is_").replace("_", " ") for name, _ in ordered])
    for y, (_, signal) in enumerate(ordered):
        cell.text(signal["share"] * 1.15, y, f"{signal['long_view']:.0%}", va="center", fontsize=6)
    cell.set_xlim(right=4)
    cell.set_title("signals: share of exposures\n(beside: of these, long views)")


def _lengths(cell: Axes, lengths: Sequence[Mapping[str, Any]]) -> None:
    at = np.arange(len(lengths))
    for shift, key, colour, label in ((-0.2, "is_click", USER, "click"), (0.2, "long_view", LIKE, "long view")):
        cell.bar(at + shift, [length[key] for length in lengths], 0.38, color=colour, label=label)
    cell.set_xticks(at, [f"{length['up_to']:g}" if length["up_to"] else "more" for length in lengths])
    cell.set_xlabel("length of the video, up to (s)")
    cell.set_title("rates by length")
    cell.set_ylim(top=0.62)
    cell.legend(loc="upper center", fontsize=6, ncols=2)
