"""The analysis of a data set: as one dictionary that JSON can hold, and for a reader at a terminal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recbole_signed.arrays import distinct, first_rows
from recbole_signed.convert.manifest import iso_date
from recbole_signed.errors import counted
from recbole_signed.table import Header, Section, Table, text_lines

if TYPE_CHECKING:
    from recbole_signed.atomic.inter_file import RawRows

_TOP = 0.01


def analyse(rows: RawRows, *, dated: bool = True) -> dict[str, Any]:
    """Describe rows, repetitions, degrees, like rates, popularity and drift."""
    return describe_pairs(rows) | describe_nodes(rows) | {"time": describe_time(rows, dated=dated)}


def describe_nodes(rows: RawRows) -> dict[str, Any]:
    """Describe users and items: ``user`` and ``item`` with degrees, like rates and correlations."""
    return {
        "user": _describe(rows.users, rows.n_users, rows.signs),
        "item": _describe(rows.items, rows.n_items, rows.signs),
    }


def sign_degrees(ids: np.ndarray, count: int, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RawRows, likes and dislikes of each id; int64 ``[count]`` each."""
    return (
        np.bincount(ids, minlength=count),
        np.bincount(ids[signs > 0], minlength=count),
        np.bincount(ids[signs < 0], minlength=count),
    )


def _describe(ids: np.ndarray, count: int, signs: np.ndarray) -> dict[str, Any]:
    rows, likes, dislikes = sign_degrees(ids, count, signs)
    verdicts = likes + dislikes
    judged = verdicts > 0
    rate = likes[judged] / verdicts[judged]
    busiest = np.partition(rows, count - max(1, round(_TOP * count)))[-max(1, round(_TOP * count)) :]
    return {
        "degree": {"all": quantiles(rows), "like": quantiles(likes), "dislike": quantiles(dislikes)},
        "log_degree_sd": float(np.log(rows[rows > 0]).std()),
        "like_rate": quantiles(rate),
        "intraclass": intraclass(likes, verdicts),
        "without_likes": float((likes == 0).mean()),
        "without_dislikes": float((dislikes == 0).mean()),
        "likes_to_dislikes": spearman(likes, dislikes),
        "degree_to_like_rate": spearman(verdicts[judged], rate),
        "gini": {"all": gini(rows), "like": gini(likes), "dislike": gini(dislikes)},
        "share_of_top_percent": float(busiest.sum() / rows.sum()),
    }


_DEGREES = ("mean", "min", "p10", "p25", "median", "p75", "p90", "p99", "max")


def statistics_table(name: str, report: Mapping[str, Any]) -> Table:
    """Return the analysis as tables, with what is wrong with the data first."""
    rows = report["rows"]
    title = (
        f"{name}: {counted(rows['total'], 'row')}, {counted(report['users'], 'user')}, "
        f"{counted(report['items'], 'item')}, {counted(report['pairs'], 'pair')} ({report['density']:.2%} of all)"
    )
    intro = [f"! {finding}" for finding in findings(report)] or ["no repeated rows, no contradicting pairs"]
    sections = [_rows_table(report), _degree_table(report), _sign_table(report)]
    if report["time"] is not None:
        sections.append(_drift_table(report["time"]))
    sections += [_feature_table(side, features) for side, features in report.get("features", {}).items()]
    return Table(title, (), tuple(sections), intro=tuple(intro))


def findings(report: Mapping[str, Any]) -> list[str]:
    """Return sentences about what a user of the data should know."""
    sentences = []
    for part, counts in (report["parts"] or {"": report}).items():
        where = f"{part}: " if part else ""
        if counts["repeated_rows"]:
            rows, pairs = counted(counts["repeated_rows"], "repeated row"), counted(counts["repeated_pairs"], "pair")
            sentences.append(f"{where}{rows} (of {pairs})")
        if counts["contradicting_pairs"]:
            sentences.append(f"{where}{counted(counts['contradicting_pairs'], 'pair')} with both signs")
        for other, count in counts.get("pairs_also_in", {}).items():
            if count:
                opposite = counts["contradicted_by"][other]
                shared = counted(count, f"{part} pair is", f"{part} pairs are")
                sentences.append(f"{shared} also in {other}, {opposite:,} of them with the opposite sign")
    if report["rows"]["dislike"] == 0:
        sentences.append("no dislikes: signed models have nothing to learn from beyond the likes")
    return sentences


def _rows_table(report: Mapping[str, Any]) -> Section:
    table = []
    for part, of_part in {"all": report, **report["parts"]}.items():
        rows = of_part["rows"]
        verdicts = rows["like"] + rows["dislike"]
        counts = [rows["total"], rows["like"], rows["dislike"], rows["neutral"]]
        rate = f"{rows['like'] / verdicts:.1%}" if verdicts else "-"
        more = [of_part["users"], of_part["items"], of_part["repeated_rows"], of_part["contradicting_pairs"]]
        table.append([part, *_counts(counts), rate, *_counts(more)])
    header = ["rows", "total", "likes", "dislikes", "neutral", "like rate", "users", "items", "repeated", "both signs"]
    return _table(header, table)


def _degree_table(report: Mapping[str, Any]) -> Section:
    table = []
    for side in ("user", "item"):
        for sign, degree in report[side]["degree"].items():
            label = f"per {side}, {'all rows' if sign == 'all' else sign + 's'}"
            table.append([label, *(f"{degree[name]:,.{int(name == 'mean')}f}" for name in _DEGREES)])
    return _table(["degrees", *_DEGREES], table)


def _sign_table(report: Mapping[str, Any]) -> Section:
    user, item = report["user"], report["item"]
    measures = [
        ("like rate: median", *(_share((side["like_rate"] or {}).get("median")) for side in (user, item))),
        (
            "like rate: 10% to 90%",
            *(" to ".join(_share((side["like_rate"] or {}).get(q)) for q in ("p10", "p90")) for side in (user, item)),
        ),
        ("sign explained by who / what (intraclass)", *(_number(side["intraclass"]) for side in (user, item))),
        ("without any dislike", *(_share(side["without_dislikes"]) for side in (user, item))),
        ("without any like", *(_share(side["without_likes"]) for side in (user, item))),
        ("Spearman: likes to dislikes", *(_number(side["likes_to_dislikes"]) for side in (user, item))),
        ("Spearman: degree to like rate", *(_number(side["degree_to_like_rate"]) for side in (user, item))),
        ("Gini of degrees", *(_number(side["gini"]["all"]) for side in (user, item))),
        ("rows of the top 1%", *(_share(side["share_of_top_percent"]) for side in (user, item))),
    ]
    return _table(["signs and popularity", "users", "items"], measures)


def _drift_table(time: Mapping[str, Any]) -> Section:
    rows = [
        [
            str(span["first"] or span["first_raw"]),
            *_counts([span["rows"], span["new_users"], span["new_items"]]),
            _share(span["like_rate"]),
            _number(span["rank_correlation"]),
            _number(span["similarity"]),
        ]
        for span in time["bins"]
    ]
    header = ["bin from", "rows", "new users", "new items", "like rate", "rank correlation", "similarity"]
    lines = [
        "popularity of items, to the bin before: rank correlation (Spearman), similarity (cosine without the noise of "
        "small counts; 1: no change, by chance more)",
        f"time: {time['first'] or time['first_raw']} to {time['last'] or time['last_raw']}; "
        f"{time['moments']:,} moments, {time['tied_rows_share']:.1%} of the rows share theirs",
    ]
    last = time["last_fifth"]
    if last is not None:
        lines.append(
            f"last 20% of the rows: like rate {_share(last['like_rate'])} (before: {_share(last['like_rate_before'])}),"
            f" {last['rows_of_new_users']:.1%} by new users, {last['rows_on_new_items']:.1%} on new items; "
            f"popularity, last bin to first: similarity {_number(time['first_to_last_similarity'])}"
        )
    return _table(header, rows, "\n".join(lines))


def _feature_table(side: str, features: Mapping[str, Any]) -> Section:
    rows = [
        [name, column["kind"], f"{column['distinct']:,}", _share(column["missing"])]
        for name, column in features["columns"].items()
    ]
    line = f"{features['covered']:.1%} of the {side}s have a row"
    if features["unknown_ids"]:
        line += f"; {counted(features['unknown_ids'], 'row is', 'rows are')} of {side}s without interactions"
    return _table([f"features of {side}s", "kind", "values", "missing"], rows, line)


def _counts(values: Iterable[int]) -> list[str]:
    return [f"{value:,}" for value in values]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], small_print: str = "") -> Section:
    first, *others = header
    columns = tuple(map(Header, others))
    return Section("", text_lines(list(rows)), small_print, columns, (Header(first, left=True),))


def describe_pairs(rows: RawRows) -> dict[str, Any]:
    """Count rows, repetitions and contradictions, in all and in each part, and pairs that an earlier part has too."""
    total = _Part(rows, slice(None))
    result = total.as_dict()
    del total
    described: dict[str, Any] = {}
    earlier: dict[str, _Part] = {}
    for name, where in rows.parts.items():
        part = _Part(rows, where)
        described[name] = part.as_dict() | {
            "pairs_also_in": {other: _common(part.pairs, pairs.pairs) for other, pairs in earlier.items()},
            "contradicted_by": {other: part.contradicted_by(pairs) for other, pairs in earlier.items()},
        }
        earlier[name] = part
    return result | {"density": result["pairs"] / (rows.n_users * rows.n_items), "parts": described}


class _Part:
    """Sorted keys of the distinct pairs of some rows: of all, of likes and of dislikes."""

    def __init__(self, rows: RawRows, where: slice) -> None:
        users, items, signs = rows.users[where], rows.items[where], rows.signs[where]
        keys = users.astype(np.int64) * rows.n_items + items
        self.liked, self.disliked = distinct(keys[signs > 0]), distinct(keys[signs < 0])
        self.pairs, times = np.unique(keys, return_counts=True)
        self._repeated_rows, self._repeated_pairs = len(keys) - len(self.pairs), int((times > 1).sum())
        self._counts: Mapping[str, Any] = {
            "rows": totals(signs),
            "users": len(np.unique(users)) if rows.parts else rows.n_users,
            "items": len(np.unique(items)) if rows.parts else rows.n_items,
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            **self._counts,
            "pairs": len(self.pairs),
            "repeated_rows": self._repeated_rows,
            "repeated_pairs": self._repeated_pairs,
            "contradicting_pairs": _common(self.liked, self.disliked),
        }

    def contradicted_by(self, other: _Part) -> int:
        return len(
            np.union1d(
                np.intersect1d(self.liked, other.disliked, assume_unique=True),
                np.intersect1d(self.disliked, other.liked, assume_unique=True),
            )
        )


def _common(a: np.ndarray, b: np.ndarray) -> int:
    return len(np.intersect1d(a, b, assume_unique=True))


# ---- single numbers, and drift over time ----

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
BINS = 20
_ROWS_OF_A_BIN = 100
_LAST = 0.2


def totals(signs: np.ndarray) -> dict[str, int]:
    """Numbers of rows by sign."""
    likes, dislikes = int((signs > 0).sum()), int((signs < 0).sum())
    return {"total": len(signs), "like": likes, "dislike": dislikes, "neutral": len(signs) - likes - dislikes}


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation of two arrays ``[n]``, ties at their mean rank; None where one of them is constant."""
    if len(a) < 2:
        return None
    # SciPy's ranks are the same; to import it takes longer than a small table
    x, y = (pl.Series(values).rank("average").to_numpy() - (len(values) + 1) / 2 for values in (a, b))
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else None


def gini(counts: np.ndarray) -> float | None:
    """Gini coefficient of counts ``[n]``: 0 where all are equal, near 1 where one has everything."""
    total, n = int(counts.sum()), len(counts)
    if total == 0:
        return None
    ascending = np.sort(counts).astype(np.float64)
    return float(2 * (np.arange(1, n + 1) @ ascending) / (n * total) - (n + 1) / n)


def intraclass(likes: np.ndarray, verdicts: np.ndarray) -> float | None:
    """Share of the sign's variance between users, or items: ANOVA estimator, Ridout et al. (Biometrics 1999), eq. 3."""
    some = verdicts > 0
    k, n = likes[some].astype(np.float64), verdicts[some].astype(np.float64)
    groups, total = len(n), float(n.sum())
    if groups < 2 or total <= groups:
        return None
    between = (float((k * k / n).sum()) - float(k.sum()) ** 2 / total) / (groups - 1)
    within = (float(k.sum()) - float((k * k / n).sum())) / (total - groups)
    size = (total - float((n * n).sum()) / total) / (groups - 1)
    spread = between + (size - 1) * within
    return (between - within) / spread if spread > 0 else None


def similarity(a: np.ndarray, b: np.ndarray) -> float | None:
    """Cosine of two popularity vectors ``[n]`` without what Poisson noise takes from it; None where it is undefined."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = float(a @ (a - 1)) * float(b @ (b - 1))
    return float(a @ b) / math.sqrt(scale) if scale > 0 else None


def quantiles(values: np.ndarray) -> dict[str, float] | None:
    """Mean, extremes and quantiles of values ``[n]``; None where there are none."""
    if not len(values):
        return None
    inner = np.quantile(values, QUANTILES)
    named = {f"p{round(100 * q)}": float(value) for q, value in zip(QUANTILES, inner, strict=True)}
    named["median"] = named.pop("p50")
    return {"mean": float(values.mean()), "min": float(values.min()), **named, "max": float(values.max())}


def describe_time(rows: RawRows, *, dated: bool = True) -> dict[str, Any] | None:
    """Range and ties of the times, and the drift over them in bins of about equal rows; None without times."""
    if rows.times is None:
        return None
    order = np.argsort(rows.times, kind="stable")
    times, users, items, signs = (array[order] for array in (rows.times, rows.users, rows.items, rows.signs))
    tied = times[1:] == times[:-1]
    ties = np.concatenate([[False], tied]) | np.concatenate([tied, [False]])
    first_of = first_rows(users, rows.n_users), first_rows(items, rows.n_items)
    arrived = first_of[0][users], first_of[1][items]

    def span(begin: int, end: int) -> dict[str, Any]:
        """Describe rows; newcomers are those whose first row is not before ``begin``."""
        counts = totals(signs[begin:end])
        verdicts = counts["like"] + counts["dislike"]
        new = [int((arrival[begin:end] >= begin).sum()) / (end - begin) for arrival in arrived]
        return {
            "rows": end - begin,
            "like_rate": counts["like"] / verdicts if verdicts else None,
            "rows_of_new_users": new[0],
            "rows_on_new_items": new[1],
        }

    bins: list[dict[str, Any]] = []
    first: Any = None  # popularity in the first bin, and in that before
    previous: Any = None
    for begin, end in itertools.pairwise(_bounds(times, max(2, min(BINS, len(times) // _ROWS_OF_A_BIN))).tolist()):
        popularity, known = np.bincount(items[begin:end], minlength=rows.n_items), first_of[1] < end
        new_users, new_items = (int(((firsts >= begin) & (firsts < end)).sum()) for firsts in first_of)
        bins.append(
            {
                "first_raw": _plain_number(times[begin]),
                "first": _iso(times[begin]) if dated else None,
                "last": _iso(times[end - 1]) if dated else None,
                **span(begin, end),
                "new_users": new_users,
                "new_items": new_items,
                "rank_correlation": None if previous is None else spearman(previous[known], popularity[known]),
                "similarity": None if previous is None else similarity(previous, popularity),
            }
        )
        first, previous = popularity if first is None else first, popularity
    last = int(len(times) * (1 - _LAST))
    return {
        "first_raw": _plain_number(times[0]),
        "last_raw": _plain_number(times[-1]),
        "first": _iso(times[0]) if dated else None,
        "last": _iso(times[-1]) if dated else None,
        "moments": int(len(times) - tied.sum()),
        "tied_rows_share": float(ties.mean()),
        "first_to_last_similarity": None if first is previous else similarity(first, previous),
        "last_fifth": {"like_rate_before": span(0, last)["like_rate"], **span(last, len(times))} if last else None,
        "bins": bins,
    }


def _bounds(times: np.ndarray, bins: int) -> np.ndarray:
    """Places that cut the sorted times into at most ``bins`` bins, not through ties; ``[0, ..., n]``."""
    cuts = times[np.linspace(0, len(times), bins + 1)[1:-1].astype(np.int64)]
    return np.unique(np.concatenate([[0], np.searchsorted(times, cuts), [len(times)]]))


def _plain_number(time: Any) -> int | float:
    return int(time) if time == int(time) else float(time)


def _iso(seconds: Any) -> str | None:
    return iso_date(float(seconds), "seconds")
