"""Is a table's model better than the others? By data set, metric and other model, three paired tests over users."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_signed.errors import UsageError, argument, ending
from recbole_signed.files import path_of
from recbole_signed.lab.significance.pairwise_lines import (
    Pair,
    keep,
    kept_comparisons,
    kept_file,
    kept_outcome,
    values_digest,
)
from recbole_signed.lab.significance.split_pool import SplitPool
from recbole_signed.runs import RowStore, RunRow
from recbole_signed.runs.building import Places, places_of, was_cut_short
from recbole_signed.runs.metric_columns import smaller_is_better
from recbole_signed.runs.rows import Key
from recbole_signed.runs.spec import RunSpec, TableSpec
from recbole_signed.runs.stored import whole_places
from recbole_signed.runs.table_file import rows_file_of
from recbole_signed.runs.user_values import FloatArray, SectionValues, has_none, is_there, kept_metrics

if TYPE_CHECKING:
    from recbole_signed.evaluation.significance import PValues

DEFAULT_METRICS = ("recall@20", "ndcg@20")
_SHOWN_RUNS = 4
_DIGITS = 8
_DEFAULT = (0.05, 10_000, 0)  # level, resamples and their seed

_READ = "Read from {}: the values per user of {} are not here."

Progress = Callable[[str, float], None]  # called with what is being done and the share of it that is, from 0 to 1


def significance(
    path: Path | str,
    metrics: Sequence[str] = (),
    against: str | None = None,
    *,
    alpha: float = _DEFAULT[0],
    only: Sequence[str] = (),
    datasets: Sequence[str] = (),
    output: Path | str | None = None,
    resamples: int = _DEFAULT[1],
    seed: int = _DEFAULT[2],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare one model of a finished table with every other, on each data set and metric.

    What is found for a whole table by the default metrics, level and resamples is kept beside its rows. It answers the
    same question where the data are not there, as long as the table shows the rows that it comes from; and where the
    values per user of some models are not there, as far as their own rows are those of then: for one more model in a
    table it takes the values of that one and of the model that all are compared with.

    Args:
        path: the table's yaml file.
        metrics: in RecBole's spelling; :data:`DEFAULT_METRICS` as far as the table has them, else its columns.
        against: label of the model that all others are compared with; the first whose ``source`` is this package, or
            the best of each data set by the first metric.
        alpha: level of the claims, and 1 - alpha that of the intervals.
        only: labels of the models to compare; all if empty.
        datasets: names of the data sets, or of pools of them, to compare on; all if empty.
        output: folder of the rows, if it is not that of the yaml.
        resamples: of the permutation test and of the bootstrap.
        seed: of both.
        progress: called now and then.

    Returns:
        ``title``, ``alpha``, ``resamples``, ``seed``, ``n_comparisons`` (the family of Holm's correction), ``notes``
        and ``comparisons``, each with ``section``, ``metric``, ``model``, ``other``, ``n_users``, their two means over
        these users, the mean ``difference`` with its bootstrap interval ``low``, ``high``, the same ``relative`` to the
        other's mean where that is above 0, how many ``users_better`` and ``users_worse``, ``values`` (a digest of those
        of both models), ``tests`` (for each test ``p_better`` and ``p_two_sided``, and both after Holm's correction),
        and ``better`` and ``worse``: the tests that say so. All p-values of "better" are for the model being better,
        whichever way the metric points.

    Raises:
        UsageError: something asked for does not exist, or the values per user of a run are not there.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"{argument('alpha')} is {alpha:g}; it must be between 0 and 1, such as 0.05.")
    if resamples < 1:
        raise UsageError(f"{argument('resamples')} is {resamples}; it must be 1 or more.")
    if seed < 0:
        raise UsageError(f"{argument('seed')} is {seed}; it must be 0 or more.")
    path = path_of(path, "path")
    spec = TableSpec.read(path).only(only, datasets)
    if against is not None and against not in spec.models:
        raise UsageError(
            f"{argument('against')} is '{against}', which the table does not have{ending(against, spec.models)}"
        )
    output = None if output is None else path_of(output, "output")
    rows_file = rows_file_of(path) if output is None else output / f"{path.stem}.jsonl"
    whole = not (metrics or only or datasets) and (alpha, resamples, seed) == _DEFAULT
    try:
        requests = list(spec.requests())
        shown, missing, unkept = _finished(requests, rows_file)
        if missing or (unkept and not whole):
            raise UsageError(_missing_message(path, spec, missing + unkept, len(requests), output))
    except UsageError:
        before = kept_outcome(path, rows_file, against) if whole else None
        if before is None:
            raise
        return {**before, "notes": [*before["notes"], _READ.format(kept_file(rows_file).name, "these rows")]}
    there = whole_places(shown)
    # without models that a budget stopped, whose numbers are lower bounds
    places = {
        section: {label: rows for label, rows in labels.items() if not (was_cut_short(rows) or _have_no_pairs(rows))}
        for section, labels in there.items()
    }
    failed = ", ".join(
        f"{label} on {section} (seed {row.seed})"
        for section, labels in shown.items()
        for label, rows in labels.items()
        for row in rows
        if not row.ok
    )
    stopped, unpaired = _named(there, was_cut_short), _named(there, _have_no_pairs)
    notes = [f"Left out, because a run of theirs failed: {failed}."] * bool(failed)
    notes += [f"Left out, because their training budget stopped them (†): {stopped}."] * bool(stopped)
    notes += [f"Left out, because no metric of theirs is a mean over users, each ranked once: {unpaired}."] * bool(
        unpaired
    )
    kept = kept_comparisons(rows_file) if whole else {}
    gone = {request.key for request in unkept}
    chosen = _metrics(metrics, spec, places, gone, rows_file, kept)
    nothing = f"{path}: there is nothing to compare; it takes two models with finished runs on a data set."
    if unpaired:
        nothing = (
            f"{unpaired} have no values per user, so that users can't be paired: no metric of theirs is a mean over "
            "users, each ranked once. It takes two models that have one among 'metrics'."
        )
    if not chosen:
        raise UsageError(_missing_message(path, spec, unkept, len(requests), output) if unkept else nothing)
    tests = _Tests(chosen, alpha, resamples, seed, rows_file, gone, kept)
    pools = SplitPool.all_of(spec, places)
    for number, pool in enumerate(pools):
        model = pool.reference(spec, chosen[0], against)
        if model is None:
            notes.append(f"{pool.name}: there are not two models to compare that were trained to their end.")
            continue

        def report(share: float, section: str = pool.name, number: int = number) -> None:
            if progress is not None:
                progress(section, (number + share) / len(pools))

        tests.compare(pool, model, report)
        notes += [*pool.reference_notes(spec, model, against), *pool.seed_notes(model)]
    lacking = [request for request in unkept if request.key in tests.lacking]
    if lacking:
        raise UsageError(_missing_message(path, spec, lacking, len(requests), output))
    comparisons = tests.comparisons
    if not comparisons:
        raise UsageError(nothing)
    n_comparisons = _correct(comparisons, alpha)
    outcome: dict[str, Any] = {
        "title": spec.title,
        "alpha": alpha,
        "resamples": resamples,
        "seed": seed,
        "n_comparisons": n_comparisons,
        "comparisons": comparisons,
        "notes": list(dict.fromkeys([*notes, *_floor_note(n_comparisons, resamples, alpha)])),
    }
    if whole:
        keep(rows_file, against, values_digest(spec, shown), outcome, {pair for pool in pools for pair in pool.pairs})
    if tests.read:
        outcome["notes"] = [*outcome["notes"], _READ.format(kept_file(rows_file).name, ", ".join(tests.read))]
    return outcome


def _finished(requests: Sequence[RunSpec], rows_file: Path) -> tuple[Places, list[RunSpec], list[RunSpec]]:
    """Return the rows, the requests that have none, and those without their values; failed ones need no values."""
    store = RowStore(rows_file)
    # of equal rows in several tables, the one whose values are here
    rows = [(request, store.find(request.key, partial(is_there, rows_file=rows_file))) for request in requests]
    missing = [request for request, row in rows if row is None]
    unkept = [
        request
        for request, row in rows
        if row is not None and row.ok and not has_none(row) and not is_there(row, rows_file)
    ]
    shown = places_of((request.section, request.label, row) for request, row in rows if row is not None)
    return shown, missing, unkept


def _missing_message(path: Path, spec: TableSpec, missing: Sequence[RunSpec], n: int, output: Path | None) -> str:
    labels = list(dict.fromkeys(request.label for request in missing))
    only = ["--only", ",".join(labels)] if len(labels) < len(spec.models) else []
    folder = ["--output", str(output)] if output is not None else []
    command = shlex.join(["recbole-signed", "compare", str(path), "--per-user", *only, *folder])
    elsewhere = f", or name the folder that its rows are in by {argument('output')}" if len(missing) == n else ""
    switch = "" if spec.per_user else f"take 'per_user: false' out of {path} and "
    return (
        f"the values per user of {len(missing)} of {n} runs are not there ({_listed(missing)}); to make them, {switch}"
        f"run '{command}', which repeats just these runs, or compare fewer models with {argument('only')}{elsewhere}."
    )


def _listed(requests: Sequence[RunSpec]) -> str:
    shown = "; ".join(request.title for request in requests[:_SHOWN_RUNS])
    return shown + (f"; and {len(requests) - _SHOWN_RUNS} more" if len(requests) > _SHOWN_RUNS else "")


def _named(places: Places, holds: Callable[[Sequence[RunRow]], bool]) -> str:
    """Name the models of whose rows something holds."""
    every = ((section, label, rows) for section, labels in places.items() for label, rows in labels.items())
    return ", ".join(f"{label} on {section}" for section, label, rows in every if holds(rows))


def _have_no_pairs(rows: Sequence[RunRow]) -> bool:
    """Whether there are no values per user, as of sequential models that rank a user for each held-out like."""
    return any(map(has_none, rows))


def _metrics(
    asked: Sequence[str],
    spec: TableSpec,
    places: Places,
    gone: Collection[Key],
    rows_file: Path,
    compared: Iterable[Pair],
) -> tuple[str, ...]:
    rows = [row for labels in places.values() for of_label in labels.values() for row in of_label]
    there = kept_metrics([row for row in rows if row.key not in gone], rows_file)
    kept = list(dict.fromkeys([*there, *(pair[1] for pair in compared)]))
    chosen, named = [metric.lower() for metric in asked], argument("metrics", option="--metric")
    for metric in chosen:
        if metric not in kept and any(metric in row.test for row in rows):
            raise UsageError(f"{named} is '{metric}', which is not a mean over users, so users can't be paired in it.")
        if metric not in kept:
            raise UsageError(f"{named} is '{metric}', which no run of the table evaluated{ending(metric, kept)}")
    columns = [metric for metric in spec.columns if metric in kept]
    default = [metric for metric in DEFAULT_METRICS if metric in columns] or columns
    if kept and not (chosen or default):
        raise UsageError(f"no column of the table is a mean over users; name one of {', '.join(kept)} with --metric.")
    return tuple(dict.fromkeys(chosen or default))


@dataclass
class _Tests:
    """The comparisons of a question, one pool of splits after the other: computed, or as they were kept."""

    metrics: tuple[str, ...]
    alpha: float
    resamples: int
    seed: int
    rows_file: Path
    gone: Collection[Key]
    kept: Mapping[Pair, dict[str, Any]]
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    read: dict[str, None] = field(default_factory=dict)  # models whose comparison was kept, in some pool
    lacking: set[Key] = field(default_factory=set)  # rows without which something can be neither computed nor read

    def compare(self, pool: SplitPool, model: str, progress: Callable[[float], None]) -> None:
        """Compare a model with all others of some splits."""
        others = [label for label in pool.labels if label != model]
        digests = {other: pool.pair_digest(model, other) for other in others}
        computed = [other for other in others if not self._gone(pool, model) | self._gone(pool, other)]
        numbers: dict[tuple[str, str], dict[str, Any]] = {}
        if computed:
            values = pool.values([model, *computed], self.metrics, self.rows_file)
            compared = _compared(values, model, self.alpha, self.resamples, self.seed, progress)
            numbers = {(row["metric"], row["other"]): row for row in compared}
        for other in others:
            if other in computed:
                continue
            before = [self.kept.get((pool.name, metric, model, other, digests[other])) for metric in self.metrics]
            if None in before:
                self.lacking |= self._gone(pool, model) | self._gone(pool, other)
                continue
            self.read[other] = None
            numbers |= {(row["metric"], other): _uncorrected(row) for row in before if row is not None}
        for metric in self.metrics:
            ordered = (numbers[metric, other] for other in others if (metric, other) in numbers)
            self.comparisons += [{**row, "values": digests[row["other"]]} for row in ordered]

    def _gone(self, pool: SplitPool, label: str) -> set[Key]:
        return {row.key for row in pool.rows(label) if row.key in self.gone}


def _uncorrected(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison as it is before :func:`_correct`."""
    kinds = ("p_better", "p_two_sided")
    tests = {
        name: {kind: np.nan if p[kind] is None else p[kind] for kind in kinds}
        for name, p in comparison["tests"].items()
    }
    return {**comparison, "tests": tests}


def _compared(
    values: SectionValues, model: str, alpha: float, resamples: int, seed: int, progress: Callable[[float], None]
) -> list[dict[str, Any]]:
    from recbole_signed.evaluation import significance as statistics

    others = [label for label in values.runs if label != model]
    pairs = [values.pair(model, other) for other in others]
    # [n_users, n_metrics * n_others], metric by metric; positive: the model is better
    mine, theirs = (np.stack([pair[side] for pair in pairs], axis=2).reshape(values.n_users, -1) for side in (0, 1))
    toward = np.repeat([-1.0 if smaller_is_better(metric) else 1.0 for metric in values.metrics], len(others))
    ahead = (mine - theirs) * toward
    tests = {
        statistics.T: statistics.paired_t(ahead),
        statistics.WILCOXON: statistics.wilcoxon(ahead),
        statistics.PERMUTATION: statistics.sign_flip(ahead, resamples, seed, lambda share: progress(share / 2)),
    }
    between = statistics.bootstrap(mine - theirs, 1 - alpha, resamples, seed, lambda share: progress(0.5 + share / 2))
    places = [(metric, other) for metric in values.metrics for other in others]
    return [
        {"section": values.section, "metric": metric, "model": model, "other": other}
        | _numbers(mine[:, column], theirs[:, column], ahead[:, column], between, tests, column)
        for column, (metric, other) in enumerate(places)
    ]


def _numbers(
    mine: FloatArray,
    theirs: FloatArray,
    ahead: FloatArray,
    between: tuple[FloatArray, FloatArray],
    tests: Mapping[str, PValues],
    column: int,
) -> dict[str, Any]:
    from recbole_signed.evaluation.significance import DECIMALS

    counted = ~np.isnan(ahead)
    n_users = int(counted.sum())
    rounded = ahead[counted].round(DECIMALS)
    my_mean, their_mean = (float(values[counted].mean()) if n_users else np.nan for values in (mine, theirs))
    difference = my_mean - their_mean
    return {
        "n_users": n_users,
        "mean": _plain(my_mean),
        "other_mean": _plain(their_mean),
        "difference": _plain(difference),
        "low": _plain(between[0][column]),
        "high": _plain(between[1][column]),
        "relative": _plain(difference / their_mean) if their_mean > 0 else None,
        "users_better": int((rounded > 0).sum()),
        "users_worse": int((rounded < 0).sum()),
        "tests": {
            name: {"p_better": float(p_values.better[column]), "p_two_sided": float(p_values.two_sided[column])}
            for name, p_values in tests.items()
        },
    }


def _plain(value: Any) -> float | None:
    return round(float(value), _DIGITS) if np.isfinite(value) else None


def _correct(rows: list[dict[str, Any]], alpha: float) -> int:
    """Add Holm's corrections over all comparisons, test by test, and what follows from them; return their number."""
    from recbole_signed.evaluation.significance import TESTS, holm

    for row in rows:
        row["better"], row["worse"] = [], []
    for test in TESTS:
        for kind in ("p_better", "p_two_sided"):
            corrected = holm([row["tests"][test][kind] for row in rows])
            for row, p in zip(rows, corrected, strict=True):
                row["tests"][test][f"{kind}_holm"] = float(p)
        for row in rows:
            p = row["tests"][test]
            if p["p_better_holm"] < alpha:
                row["better"].append(test)
            # below 1/2 the one-sided p speaks for the model, above it for the other
            elif p["p_two_sided_holm"] < alpha and p["p_better"] > 0.5:
                row["worse"].append(test)
    n_comparisons = sum(not all(np.isnan(p["p_better"]) for p in row["tests"].values()) for row in rows)
    for row in rows:
        row["tests"] = {
            name: {kind: None if np.isnan(p) else p for kind, p in values.items()}
            for name, values in row["tests"].items()
        }
    return n_comparisons


def _floor_note(n_comparisons: int, resamples: int, alpha: float) -> list[str]:
    if not n_comparisons or n_comparisons / (resamples + 1) < alpha:
        return []
    enough = int(np.ceil(n_comparisons / alpha))
    return [
        f"With {resamples} resamples the permutation test can't claim anything: its smallest p, times the "
        f"{n_comparisons} comparisons, is not below {alpha:g}; it takes {enough} resamples or more."
    ]
