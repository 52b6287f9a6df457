"""Choosing the hyper-parameters of all models of a table that it wants tuned, each with the same number of trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError, ending
from recbole_signed.evaluation.sign_aware_metrics import gamma_of
from recbole_signed.files import path_of
from recbole_signed.lab.tuning.plan import Plan
from recbole_signed.lab.tuning.result import Tuning
from recbole_signed.lab.tuning.search import tune
from recbole_signed.plugin.assignments import space_file
from recbole_signed.runs import TableSpec
from recbole_signed.runs.spec import PlannedRow


def tune_table(
    path: Path | str, plan: Plan, labels: Sequence[str] = (), sections: Sequence[str] = (), seed: int | None = None
) -> Iterator[Tuning]:
    """Tune the models of a table on its data sets, one after the other; what was tuned already is not tuned again.

    Of rows whose parameters are kept in one file the first is tuned; a warning names those that have other keys.

    The keys that the table gives are those of the trials: what it says of a model is fixed, but for ``start``, with
    whose values the search begins after the defaults, and for the seeds and the training budget where the plan has one.

    Args:
        path: the table's yaml file.
        plan: how many trials, and so on; its ``name`` is the table's affair.
        labels: the models; all for none.
        sections: the data sets, by their names in the table; all for none.
        seed: RecBole's ``seed`` of each trial, and that of the sampler.

    Yields:
        the tuning of each model with a space for which the table says ``tuned: true``, or a name.

    Raises:
        UsageError: nothing of that is in the table, or as :func:`recbole_signed.lab.tuning.search.tune`.
    """
    path = path_of(path, "path")
    spec = TableSpec.read(path).only(labels)
    for section in sections:
        if section not in spec.datasets:
            raise UsageError(
                f"{path} has no data set '{section}'; it has {', '.join(spec.datasets)}{ending(section, spec.datasets)}"
            )
    wanted: dict[tuple[str, str], PlannedRow] = {}
    for section in sections or spec.datasets:
        for cell in spec.planned_rows(section):
            takes_over = isinstance(cell.tuned, Mapping)  # what was chosen on other data
            has_space = space_file(cell.model).is_file() or _is_sign_aware(cell)
            if cell.tuned and not takes_over and has_space:
                first = wanted.setdefault((_name(cell) or cell.dataset, cell.model), cell)
                if _fixed(first, plan) != _fixed(cell, plan):
                    getLogger().warning(
                        "'%s' on %s is not tuned: it takes what is chosen for '%s' on %s, as both are %s and have one "
                        "file; 'tuned: NAME' gives it one of its own.",
                        *(cell.label, cell.section, first.label, first.section, cell.model),
                    )
    if not wanted:
        raise UsageError(f"{path} wants none of these models tuned: write 'tuned: true' under 'common' or the models.")
    for cell in wanted.values():
        there = replace(plan, name=_name(cell))
        yield tune(cell.model, cell.dataset, overrides=_fixed(cell, plan), seed=seed, plan=there, start=cell.start)


def _fixed(cell: PlannedRow, plan: Plan) -> dict[str, Any]:
    """Return the keys of the trials of a model."""
    left_out = {"seeds", *plan.keys}
    return {key: value for key, value in cell.settings.items() if key not in left_out}


def _is_sign_aware(cell: PlannedRow) -> bool:
    """Whether the dislike aversion of any model is tuned, see :meth:`~.space.Space.of`."""
    return gamma_of(str(cell.settings.get("valid_metric")), cell.settings.get("signed_gamma")) > 0


def _name(cell: PlannedRow) -> str | None:
    return cell.tuned if isinstance(cell.tuned, str) else None
