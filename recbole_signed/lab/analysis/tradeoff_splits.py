"""Trade-off curves on several splits of the same data: what holds on all of them.

All that is chosen is chosen on the validation part of each split: the dislike aversion g of each model, and the points
that have the same Recall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.lab.analysis.tradeoff_curve import chosen_points, gamma_in, of_each_gamma
from recbole_signed.lab.analysis.tradeoff_tables import DIGITS, matched
from recbole_signed.plugin.facts import display_name
from recbole_signed.table import Header, Section, Table, text_lines

_OF_SPLIT = ("dataset", "data_sha256", "config_hash", "chosen", "stopped_by")


def over_splits(name: str, curves_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return what the models have on each of several splits.

    Args:
        name: of all splits together.
        curves_of: data set -> curves with their validation part, of the same models on each. The first model is the
            one that all others are compared with.

    Returns:
        ``name``, ``datasets``, ``k``, ``seed``, ``aversions``, ``versions`` and ``models``: for each its name as
        ``model`` and, in the order of the data sets, ``splits``: what the numbers come from, as in
        :func:`~recbole_signed.lab.analysis.tradeoff`; ``best``, for each SignedNDCG its ``value`` on the test
        part at the ``dislike_aversion`` that is best by it on validation; and, but for the first model,
        ``at_same_recall``, as :func:`~recbole_signed.lab.analysis.matched` gives it.

    Raises:
        UsageError: a data set has other models than the first one.
    """
    models: dict[str, list[dict[str, Any]]] = {}
    everywhere = [each["model"] for each in next(iter(curves_of.values()))]
    for dataset, curves in curves_of.items():
        if other := set(everywhere).symmetric_difference(each["model"] for each in curves):
            raise UsageError(
                f"{', '.join(sorted(other))}: on one of '{next(iter(curves_of))}' and '{dataset}' alone; give --model "
                "models that are on all of these data sets."
            )
        same_recall = {each.pop("model"): each for each in matched(curves)}
        for each in curves:
            best = {
                name: {"dislike_aversion": point["dislike_aversion"], "value": point[name]}
                for name, point in chosen_points(each).items()
            }
            split = {**{key: each[key] for key in _OF_SPLIT}, "best": best}
            if each["model"] in same_recall:
                split["at_same_recall"] = same_recall[each["model"]]
            models.setdefault(each["model"], []).append(split)
    first = next(iter(curves_of.values()))[0]
    return {
        "name": name,
        "datasets": list(curves_of),
        **{key: first[key] for key in ("k", "seed", "versions")},
        "aversions": [point["dislike_aversion"] for point in first["points"]],
        "models": [{"model": model, "splits": splits} for model, splits in models.items()],
    }


def splits_table(found: Mapping[str, Any]) -> Table:
    """Return the means of :func:`over_splits`, how far the first model is ahead, and on how many of the splits."""
    first, *others = found["models"]
    names = of_each_gamma(first["splits"][0]["best"])
    rows = []
    for each in (first, *others):
        cells = []
        for name in names:
            ours, theirs = (_values(of, name) for of in (first, each))
            cells += [f"{fmean(theirs):.{DIGITS}f}", "" if each is first else _ahead(ours, theirs)]
        rows.append((display_name(each["model"]), *cells, "" if each is first else _fewer(each["splits"])))
    leader = display_name(first["model"])
    heads = (header for name in names for header in (Header(name), Header(f"{leader} ahead by")))
    n_splits, n_values = len(found["datasets"]), len(found["aversions"])
    return Table(
        f"SignedNDCG and dislikes on {found['name']}, {n_splits} splits",
        (*heads, Header(f"dislikes of {leader} at the same Recall", smaller=True)),
        (Section("", text_lines(rows)),),
        (
            f"Means over the splits, test part. g is one of {n_values} values for every model, the best on the "
            f"validation part of each split. In brackets: on how many splits {leader} is ahead; of dislikes, the "
            "smallest and the largest difference.",
        ),
        head=(Header("Model", left=True),),
    )


def standings(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return which model is first by the mean of the splits of :func:`over_splits`.

    Returns:
        gamma, as in ``signedndcg@20[gamma 0.5]`` (empty for one gamma), -> ``model``, the first one; ``value``, its
        mean on the test part; ``second`` and ``second_value``; and ``splits``, on how many it is ahead of every other
        model. There must be two models or more.
    """
    standing = {}
    for name in of_each_gamma(found["models"][0]["splits"][0]["best"]):
        values = {each["model"]: _values(each, name) for each in found["models"]}
        first, second = sorted(values, key=lambda model: -fmean(values[model]))[:2]
        others = [each for model, each in values.items() if model != first]
        ahead = [value > max(theirs) for value, *theirs in zip(values[first], *others, strict=True)]
        standing[gamma_in(name)] = {
            "model": first,
            "value": fmean(values[first]),
            "second": second,
            "second_value": fmean(values[second]),
            "splits": sum(ahead),
        }
    return standing


def _values(model: Mapping[str, Any], name: str) -> list[float]:
    return [split["best"][name]["value"] for split in model["splits"]]


def _ahead(ours: Sequence[float], theirs: Sequence[float]) -> str:
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return f"{fmean(differences):+.{DIGITS}f} ({sum(each > 0 for each in differences)} of {len(differences)})"


def _fewer(splits: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean difference of the dislikes that are shown, with its range; a dash where a split has none."""
    differences = [split["at_same_recall"]["difference"] for split in splits]
    if None in differences:
        return "-"
    return f"{fmean(differences):+.0%} ({min(differences):+.0%} to {max(differences):+.0%})"
