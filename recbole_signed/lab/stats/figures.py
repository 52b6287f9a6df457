"""The analysis of a data set as one page of small figures, and how much its features cover."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recbole_signed.atomic.feature_file import FeatureTable, read_feature_file
from recbole_signed.atomic.inter_file import RawRows
from recbole_signed.atomic.signs import Settings
from recbole_signed.files import picture
from recbole_signed.lab.stats.report import sign_degrees

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Formatter

_LIKE, _DISLIKE, _NEUTRAL, _ALL = "#007a5a", "#c24a00", "#767676", "#333333"  # told apart without red and green
_USER, _ITEM = "#2166ac", "#e08214"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
_CURVE_POINTS = 400


def draw(name: str, rows: RawRows, report: Mapping[str, Any], path: Path) -> None:
    """Draw the page and write it as PNG."""
    timed = report["time"] is not None
    user = sign_degrees(rows.users, rows.n_users, rows.signs)
    item = sign_degrees(rows.items, rows.n_items, rows.signs)
    with picture(path, 12, 10.5 if timed else 7, _STYLE) as page:
        counts = report["rows"]
        page.suptitle(
            f"{name}: {counts['total']:,} rows, {report['users']:,} users, {report['items']:,} items", fontsize=12
        )
        cells = page.subplots(3 if timed else 2, 3).ravel()
        _degrees(cells[0], user, "user")
        _degrees(cells[1], item, "item")
        _parts(cells[2], report)
        _like_rates(cells[3], user, item)
        _likes_to_dislikes(cells[4], item, report["item"]["likes_to_dislikes"])
        _lorenz(cells[5], user[0], item[0], report)
        if timed:
            _drift(cells[6:], report["time"]["bins"])


def _degrees(cell: Axes, degrees: tuple[np.ndarray, ...], side: str) -> None:
    for values, label, color in zip(degrees, ("all rows", "likes", "dislikes"), (_ALL, _LIKE, _DISLIKE), strict=True):
        if not values.any():
            continue
        values, counts = np.unique(values[values > 0], return_counts=True)
        share = counts[::-1].cumsum()[::-1] / len(degrees[0])
        cell.plot(values, share, "--" if label == "dislikes" else "-", color=color, label=label, linewidth=1.6)
    cell.set(
        xscale="log", yscale="log", title=f"Rows per {side}", xlabel="k", ylabel=f"share of {side}s with k or more rows"
    )
    cell.legend()


def _parts(cell: Axes, report: Mapping[str, Any]) -> None:
    parts = report["parts"] or {"all": report}
    left = np.zeros(len(parts))
    for sign, color in (("like", _LIKE), ("dislike", _DISLIKE), ("neutral", _NEUTRAL)):
        width = np.array([part["rows"][sign] for part in parts.values()], dtype=float)
        if not width.any():
            continue
        bars = cell.barh(list(parts), width, left=left, color=color, label=f"{sign}s", height=0.6)
        shares = width / [part["rows"]["total"] for part in parts.values()]
        widest = max(part["rows"]["total"] for part in parts.values())
        fits = [f"{share:.0%}" if size > 0.09 * widest else "" for share, size in zip(shares, width, strict=True)]
        cell.bar_label(bars, fits, label_type="center", color="white", fontsize=8)
        left += width
    cell.invert_yaxis()
    cell.grid(visible=False, axis="y")
    cell.xaxis.set_major_formatter(_short)
    cell.set_ylim(len(parts) - 0.3, -1.1 if len(parts) > 1 else -1.0)
    cell.set(title="Rows per sign" + (" and part" if report["parts"] else ""), xlabel="rows")
    cell.legend(ncols=3, loc="upper right")


def _like_rates(cell: Axes, user: tuple[np.ndarray, ...], item: tuple[np.ndarray, ...]) -> None:
    edges = [place / 20 for place in range(21)]
    for (_, likes, dislikes), label, color in ((user, "users", _USER), (item, "items", _ITEM)):
        judged = likes + dislikes > 0
        rate = likes[judged] / (likes + dislikes)[judged]
        if not len(rate):
            continue
        cell.hist(rate, edges, weights=np.full(len(rate), 1 / len(rate)), color=color, alpha=0.45, label=label)
    cell.xaxis.set_major_formatter(_percent())
    cell.yaxis.set_major_formatter(_percent())
    cell.set(title="Like rate: likes / (likes + dislikes)", xlabel="like rate", ylabel="share of users, of items")
    if cell.patches:
        cell.legend()


def _likes_to_dislikes(cell: Axes, item: tuple[np.ndarray, ...], correlation: float | None) -> None:
    _, likes, dislikes = item
    grid = cell.hexbin(
        likes + 1, dislikes + 1, xscale="log", yscale="log", bins="log", gridsize=32, mincnt=1, cmap="viridis"
    )
    low, high = cell.get_ylim()
    cell.set_ylim(low, low * (high / low) ** 1.25)  # room for the bar above the points
    inside = cell.inset_axes((0.05, 0.93, 0.32, 0.03))  # beside the cell it would widen the gap of the whole column
    bar = cell.figure.colorbar(grid, cax=inside, orientation="horizontal")
    bar.set_label("items", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    label = "" if correlation is None else f" (Spearman {correlation:.2f})"
    cell.set(title=f"Items: likes and dislikes{label}", xlabel="likes + 1", ylabel="dislikes + 1")


def _lorenz(cell: Axes, user: np.ndarray, item: np.ndarray, report: Mapping[str, Any]) -> None:
    for degree, side, color in ((user, "user", _USER), (item, "item", _ITEM)):
        descending = np.sort(degree)[::-1]
        places = np.unique(np.linspace(0, len(descending), min(_CURVE_POINTS, len(descending)) + 1).astype(int))
        share = np.concatenate([[0], descending.cumsum()])[places] / max(int(descending.sum()), 1)
        gini = report[side]["gini"]["all"]
        cell.plot(places / len(descending), share, color=color, linewidth=1.6, label=f"{side}s (Gini {gini:.2f})")
    cell.plot([0, 1], [0, 1], color=_NEUTRAL, linewidth=0.8, linestyle="--")
    cell.xaxis.set_major_formatter(_percent())
    cell.yaxis.set_major_formatter(_percent())
    cell.set(title="Concentration", xlabel="the busiest ... of users, items", ylabel="have ... of the rows")
    cell.legend(loc="lower right")


def _drift(cells: np.ndarray, bins: list[Mapping[str, Any]]) -> None:
    place = np.array([span["first_raw"] for span in bins], dtype=float)
    dated = all(span["first"] is not None for span in bins)
    moments: Any = [datetime.fromtimestamp(moment, timezone.utc) for moment in place] if dated else place
    rates, newcomers, popularity = cells

    def line(cell: Axes, key: str, label: str, color: str) -> None:
        values = [np.nan if span[key] is None else span[key] for span in bins]
        cell.plot(moments, values, color=color, label=label, marker="o", markersize=3, linewidth=1.3)

    line(rates, "like_rate", "like rate", _LIKE)
    rates.set(title="Like rate over time", ylabel="like rate")
    line(newcomers, "rows_of_new_users", "by users first seen in the bin", _USER)
    line(newcomers, "rows_on_new_items", "on items first seen in the bin", _ITEM)
    newcomers.set(title="Newcomers over time", ylabel="share of the bin's rows", ylim=(0, None))
    line(popularity, "rank_correlation", "Spearman", _ITEM)
    line(popularity, "similarity", "cosine without noise", _ALL)
    popularity.set(title="Item popularity against the bin before", ylabel="correlation, similarity")
    for cell in cells:
        cell.set_xlabel(f"{len(bins)} bins of equal numbers of rows", loc="left")  # the year stands at the right
        if dated:
            _date_axis(cell)
    for cell in (rates, newcomers):
        cell.yaxis.set_major_formatter(_percent())
    newcomers.legend()
    popularity.legend()


def _date_axis(cell: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=6)
    cell.xaxis.set_major_locator(locator)
    cell.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _percent() -> Formatter:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0)


def _short(value: float, _: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


FILLED = "unknown"  # what converters write for a missing category
_SIDES = (("user", "USER_ID_FIELD"), ("item", "ITEM_ID_FIELD"))


def describe_features(folder: Path, rows: RawRows) -> dict[str, Any]:
    """Describe the ``.user`` and ``.item`` files of a data set."""
    settings, features = Settings.read(folder / f"{folder.name}.yaml"), {}
    for place, (side, key) in enumerate(_SIDES):
        path = folder / f"{folder.name}.{side}"
        if path.is_file() and rows.tokens is not None:
            separator, encoding = settings["field_separator"] or "\t", settings["encoding"] or "utf-8"
            table = read_feature_file(path, settings[key] or f"{side}_id", "all", separator, encoding)
            features[side] = _describe(table, rows.tokens[place])
    return features


def _describe(table: FeatureTable, ids: pl.Series) -> dict[str, Any]:
    places = table.rows_of(ids)
    known = places[places >= 0]
    columns = {}
    for name, kind in table.kinds.items():
        values = table.columns[name].gather(known)
        missing = values.is_null() | (values == FILLED)
        columns[name] = {
            "kind": kind,
            "distinct": values.filter(~missing).n_unique(),
            "missing": float(missing.mean() or 0.0) if len(values) else 1.0,  # type: ignore[arg-type]
        }
    return {"covered": len(known) / max(len(ids), 1), "unknown_ids": len(table.ids) - len(known), "columns": columns}
