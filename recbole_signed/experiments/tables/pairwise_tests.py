"""Is a table's model better than the others? Every data set, metric and other model, by three paired tests over users.

The statistics are in :mod:`recbole_signed.evaluation.significance`; here the values per user of a table's runs are
found and paired, and the p-values corrected for the number of comparisons.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_signed.errors import UsageError, nearest
from recbole_signed.experiments.runs import (
    FloatArray,
    RowStore,
    RunRow,
    SectionValues,
    best_of,
    is_there,
    kept_metrics,
    pooled_sections,
    read_section,
    smaller_is_better,
)
from recbole_signed.experiments.tables.building import Result, was_cut_short
from recbole_signed.experiments.tables.kept_tests import keep, kept_file, kept_outcome, values_digest
from recbole_signed.experiments.tables.marks import places_of
from recbole_signed.experiments.tables.spec import RunSpec, TableSpec
from recbole_signed.plugin import OWN, facts_of

if TYPE_CHECKING:
    from recbole_signed.evaluation import ConfidenceInterval, PValues

DEFAULT_METRICS = ("recall@20", "ndcg@20")
_SHOWN_RUNS = 4
_DIGITS = 8
_DEFAULT = (0.05, 10_000, 0)
"""Level, resamples and their seed."""

Places = Mapping[str, Mapping[str, Sequence[RunRow]]]
"""Section -> label -> its rows."""
Progress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is, from 0 to 1."""


def significance(
    path: Path,
    metrics: Sequence[str] = (),
    against: str | None = None,
    *,
    alpha: float = _DEFAULT[0],
    only: Sequence[str] = (),
    datasets: Sequence[str] = (),
    output: Path | None = None,
    resamples: int = _DEFAULT[1],
    seed: int = _DEFAULT[2],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare one model of a finished table with every other, on each data set and metric.

    What is found for a whole table by the default metrics, level and resamples is kept beside its rows. It answers the
    same question where the data or the values per user are not there, as long as the table shows the rows that it comes
    from.

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
        other's mean, how many ``users_better`` and ``users_worse``, ``tests`` (for each test ``p_better`` and
        ``p_two_sided``, and both after Holm's correction), and ``better`` and ``worse``: the tests that say so.
        All p-values of "better" are for the model being better, whichever way the metric points.

    Raises:
        UsageError: something asked for does not exist, or the values per user of a run are not there.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha is {alpha:g}; it must be between 0 and 1, such as 0.05.")
    if resamples < 1:
        raise UsageError(f"--resamples is {resamples}; it must be 1 or more.")
    spec = TableSpec.read(path).only(only, datasets)
    if against is not None and against not in spec.models:
        raise UsageError(f"--against is '{against}', which the table does not have{nearest(against, spec.models)}")
    rows_file = (path.parent if output is None else output) / f"{path.stem}.jsonl"
    whole = not (metrics or only or datasets) and (alpha, resamples, seed) == _DEFAULT
    try:
        requests = list(spec.requests())
        results, missing = _finished(requests, rows_file)
        if missing:
            raise UsageError(_missing_message(path, spec, missing, len(requests), output))
    except UsageError:
        before = kept_outcome(path, rows_file, against) if whole else None
        if before is None:
            raise
        note = f"Read from {kept_file(rows_file).name}: the values per user of these rows are not here."
        return {**before, "notes": [*before["notes"], note]}
    notes = [*_failures(results), *_stopped_notes(places_of(results))]
    places = _finished_only(places_of(results))
    chosen = _metrics(metrics, spec, places, rows_file)
    found: list[dict[str, Any]] = []
    pools = {name: [each for each in sections if each in places] for name, sections in spec.pools().items()}
    for number, (section, members) in enumerate(pools.items()):
        splits = [read_section(each, places[each], rows_file, chosen) for each in members]
        if not splits:
            continue
        values = splits[0] if members == [section] else pooled_sections(section, splits)
        model = _reference(spec, values, against)
        if model is None:
            notes.append(f"{section}: there are not two models to compare that were trained to their end.")
            continue

        def report(share: float, section: str = section, number: int = number) -> None:
            if progress is not None:
                progress(section, (number + share) / len(pools))

        found += _compared(values, model, alpha, resamples, seed, report)
        notes += _seed_notes(values, model)
    if not found:
        raise UsageError(f"{path}: there is nothing to compare; it takes two models with finished runs on a data set.")
    n_comparisons = _correct(found, alpha)
    outcome = {
        "title": spec.title,
        "alpha": alpha,
        "resamples": resamples,
        "seed": seed,
        "n_comparisons": n_comparisons,
        "comparisons": found,
        "notes": list(dict.fromkeys([*notes, *_floor_note(found, n_comparisons, resamples, alpha)])),
    }
    if whole:
        keep(rows_file, against, values_digest(spec, results), outcome)
    return outcome


def _finished(requests: Sequence[RunSpec], rows_file: Path) -> tuple[list[Result], list[RunSpec]]:
    """Return the rows, and the requests that have none, or not their values per user; failed ones need no values."""
    store = RowStore(rows_file)
    rows = [(request, store.find(request.key)) for request in requests]
    missing = [request for request, row in rows if row is None or (row.ok and not is_there(row, rows_file))]
    return [(request.section, request.label, row) for request, row in rows if row is not None], missing


def _missing_message(path: Path, spec: TableSpec, missing: Sequence[RunSpec], n: int, output: Path | None) -> str:
    shown = "; ".join(request.title for request in missing[:_SHOWN_RUNS])
    shown += f"; and {len(missing) - _SHOWN_RUNS} more" if len(missing) > _SHOWN_RUNS else ""
    labels = list(dict.fromkeys(request.label for request in missing))
    only = ["--only", ",".join(labels)] if len(labels) < len(spec.models) else []
    folder = ["--output", str(output)] if output is not None else []
    command = shlex.join(["recbole-signed", "compare", str(path), "--per-user", *only, *folder])
    switch = "" if spec.per_user else f"take 'per_user: false' out of {path} and "
    return (
        f"the values per user of {len(missing)} of {n} runs are not there ({shown}); to make them, {switch}run "
        f"'{command}', which repeats just these runs, or compare fewer models with --only."
    )


def _failures(results: Iterable[Result]) -> list[str]:
    failed = [f"{label} on {section} (seed {row.seed})" for section, label, row in results if not row.ok]
    return [f"Left out, because a run of theirs failed: {', '.join(failed)}."] if failed else []


def _stopped_notes(places: Places) -> list[str]:
    stopped = [
        f"{label} on {section}"
        for section, labels in places.items()
        for label in labels
        if was_cut_short(labels[label])
    ]
    return [f"Left out, because their training budget stopped them (†): {', '.join(stopped)}."] if stopped else []


def _finished_only(places: Places) -> Places:
    """Return the places without the models of which a budget stopped a training: their numbers are lower bounds."""
    return {
        section: {label: rows for label, rows in labels.items() if not was_cut_short(rows)}
        for section, labels in places.items()
    }


def _metrics(asked: Sequence[str], spec: TableSpec, places: Places, rows_file: Path) -> tuple[str, ...]:
    rows = [row for labels in places.values() for of_label in labels.values() for row in of_label]
    kept = kept_metrics(rows, rows_file)
    chosen = [metric.lower() for metric in asked]
    for metric in chosen:
        if metric not in kept and any(metric in row.test for row in rows):
            raise UsageError(f"--metric is '{metric}', which is not a mean over users, so users can't be paired in it.")
        if metric not in kept:
            raise UsageError(f"--metric is '{metric}', which no run of the table evaluated{nearest(metric, kept)}")
    columns = [metric for metric in spec.columns if metric in kept]
    default = [metric for metric in DEFAULT_METRICS if metric in columns] or columns
    return tuple(dict.fromkeys(chosen or default))


def _reference(spec: TableSpec, values: SectionValues, against: str | None) -> str | None:
    """Return the label that the others are compared with; None where it or every other one has failed."""
    if len(values.runs) < 2:
        return None
    if against is not None:
        return against if against in values.runs else None
    own = [label for label in values.runs if facts_of(spec.models[label].get("model", label)).source == OWN]
    if own:
        return own[0]
    return best_of(values.means(0), values.metrics[0])


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
    between: ConfidenceInterval,
    tests: Mapping[str, PValues],
    column: int,
) -> dict[str, Any]:
    from recbole_signed.evaluation import DECIMALS

    counted = ~np.isnan(ahead)
    n_users = int(counted.sum())
    rounded = ahead[counted].round(DECIMALS)
    my_mean, their_mean = (float(each[counted].mean()) if n_users else np.nan for each in (mine, theirs))
    difference = my_mean - their_mean
    return {
        "n_users": n_users,
        "mean": _plain(my_mean),
        "other_mean": _plain(their_mean),
        "difference": _plain(difference),
        "low": _plain(between.low[column]),
        "high": _plain(between.high[column]),
        "relative": _plain(difference / their_mean) if their_mean else None,
        "users_better": int((rounded > 0).sum()),
        "users_worse": int((rounded < 0).sum()),
        "tests": {
            name: {"p_better": float(each.better[column]), "p_two_sided": float(each.two_sided[column])}
            for name, each in tests.items()
        },
    }


def _plain(value: Any) -> float | None:
    return round(float(value), _DIGITS) if np.isfinite(value) else None


def _correct(found: list[dict[str, Any]], alpha: float) -> int:
    """Add Holm's corrections over all comparisons, test by test, and what follows from them; return their number."""
    from recbole_signed.evaluation import TESTS, holm

    for each in found:
        each["better"], each["worse"] = [], []
    for test in TESTS:
        for kind in ("p_better", "p_two_sided"):
            corrected = holm([each["tests"][test][kind] for each in found])
            for each, p in zip(found, corrected, strict=True):
                each["tests"][test][f"{kind}_holm"] = float(p)
        for each in found:
            p = each["tests"][test]
            if p["p_better_holm"] < alpha:
                each["better"].append(test)
            # below 1/2 the one-sided p speaks for the model, above it for the other
            elif p["p_two_sided_holm"] < alpha and p["p_better"] > 0.5:
                each["worse"].append(test)
    n_comparisons = sum(not np.isnan(each["tests"][TESTS[0]]["p_better"]) for each in found)
    for each in found:
        each["tests"] = {
            name: {kind: None if np.isnan(p) else p for kind, p in values.items()}
            for name, values in each["tests"].items()
        }
    return n_comparisons


def _seed_notes(values: SectionValues, model: str) -> list[str]:
    """Say over which seeds a user's values were averaged, and which models have nothing to be paired by."""
    notes = []
    used: dict[str, list[int]] = {}
    for other in values.runs:
        if other == model:
            continue
        mine, theirs = values.seeds_of(model, other)
        if not mine:
            notes.append(
                f"{values.section}: {model} and {other} have no {'split' if values.pooled else 'seed'} in common, "
                "so that they were not tested on the same items and are not compared."
            )
        used.setdefault(model, mine)
        used[other] = theirs
    several = {label: seeds for label, seeds in used.items() if len(seeds) > 1}
    if several:
        kinds = {tuple(seeds) for seeds in used.values()}
        listed = "; ".join(
            f"{', '.join(map(str, seeds))}"
            + (f" ({', '.join(label for label in used if tuple(used[label]) == seeds)})" if len(kinds) > 1 else "")
            for seeds in sorted(kinds)
        )
        over, units = ("splits", "splits") if values.pooled else ("seeds", "trainings")
        notes.append(
            f"{values.section}: each user's value is the mean over the {over} {listed}, taken before the tests: "
            f"users are the units, not {units}."
        )
    return notes


def _floor_note(found: Sequence[Mapping[str, Any]], n_comparisons: int, resamples: int, alpha: float) -> list[str]:
    if not n_comparisons or n_comparisons / (resamples + 1) < alpha:
        return []
    enough = int(np.ceil(n_comparisons / alpha))
    return [
        f"With {resamples} resamples the permutation test can't claim anything: its smallest p, times the "
        f"{n_comparisons} comparisons, is not below {alpha:g}; it takes --resamples {enough} or more."
    ]
