"""Comparisons of models as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_signed.runs.metric_columns import metric_column
from recbole_signed.table import Header, Section, Table, text_lines

_TESTS = {"t": "t", "wilcoxon": "Wilcoxon", "permutation": "permutation"}
_SMALLEST_P = 0.0001


def pairwise_table(found: Mapping[str, Any]) -> Table:
    """Return what :func:`recbole_signed.lab.significance.significance` found as a table."""
    level = 100 * (1 - found["alpha"])
    names = ["Users", "Model", "Other", "Difference", f"{level:g} % interval", "Relative"]
    names += ["Users better", "worse", *(f"p {name}" for name in _TESTS.values())]
    parts: dict[str, list[list[str]]] = {}
    for each in found["comparisons"]:
        column = metric_column(each["metric"])
        place = f"{each['section']}, {column.header}{' ↓' if column.smaller else ''}: {each['model']} against"
        parts.setdefault(place, []).append(_line(each, column.decimals))
    return Table(
        f"{found['title']}: significance",
        (*map(Header, names), Header("Model is", left=True)),
        tuple(Section(place, text_lines(lines)) for place, lines in parts.items()),
        (*_explanation(found), *found["notes"]),
        head=(Header("Other model", left=True),),
    )


def _line(each: Mapping[str, Any], decimals: int) -> list[str]:
    if not each["n_users"]:
        return [each["other"], "0", *(["n/a"] * (7 + len(_TESTS))), verdict(each)]
    relative = "n/a" if each["relative"] is None else f"{100 * each['relative']:+.1f} %"
    interval = "n/a" if each["low"] is None else f"[{each['low']:+.{decimals}f}, {each['high']:+.{decimals}f}]"
    p = [p_text(each["tests"][test]["p_better_holm"]) for test in _TESTS]
    return [
        each["other"],
        f"{each['n_users']:,}",
        f"{each['mean']:.{decimals}f}",
        f"{each['other_mean']:.{decimals}f}",
        f"{each['difference']:+.{decimals}f}",
        interval,
        relative,
        f"{each['users_better']:,}",
        f"{each['users_worse']:,}",
        *p,
        verdict(each),
    ]


def p_text(p: float | None) -> str:
    """Return a p-value as tables print it."""
    if p is None:
        return "n/a"
    return f"<{_SMALLEST_P:.4f}" if p < _SMALLEST_P else f"{p:.4f}"


def verdict(each: Mapping[str, Any]) -> str:
    """Return ``better``, ``worse``, ``not told apart``, or which of the tests say better or worse if not all do."""
    said = [
        what if len(each[what]) == len(_TESTS) else f"{what} ({', '.join(_TESTS[test] for test in each[what])})"
        for what in ("better", "worse")
        if each[what]
    ]
    return "; ".join(said) or "not told apart"


def _explanation(found: Mapping[str, Any]) -> list[str]:
    m, alpha, resamples = found["n_comparisons"], found["alpha"], f"{found['resamples']:,}"
    return [
        "p: chance of such differences if the model were no better (one-sided, paired over users), Holm-corrected over "
        f"the {m} comparisons, test by test; permutation: {resamples} random sign patterns, seed {found['seed']}. "
        f"Better: all tests at {alpha:g}, or those named; worse: the two-sided tests, in the other direction.",
        f"Interval: of the difference of the means, by itself (not corrected), from {resamples} bootstrap samples of "
        "users; both means are over the users who count for both models.",
    ]
