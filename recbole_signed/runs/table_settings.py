"""What a table says of its models on one data set, for a command that looks into each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.runs.spec import TableSpec
from recbole_signed.runs.table_file import POOL


def table_datasets(path: Path, name: str) -> list[str]:
    """Return the data sets of a table's pool, or the name itself where no pool has it.

    Raises:
        UsageError: as :meth:`TableSpec.read`.
    """
    parts = TableSpec.read(path).datasets.items()
    return [keys.get("dataset") or part for part, keys in parts if keys.get(POOL) == name] or [name]


def table_settings(
    path: Path, dataset: str, labels: Sequence[str] = (), data_path: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the RecBole keys with which a table runs its models on a data set, what ``tune`` chose among them.

    Args:
        path: the table's yaml file.
        dataset: name of a data set.
        labels: of models of the table; all for none.
        data_path: folder of the data sets; that of the table for None.

    Returns:
        class name -> keys, without seeds; in the order of the labels, or of the table.

    Raises:
        UsageError: the table has not one part on the data set, leaves one of the labels out there, or has two labels
            of one class, or as :meth:`TableSpec.read` and :meth:`TableSpec.requests`.
    """
    spec = TableSpec.read(path)
    named = {name: keys.get("dataset") or name for name, keys in spec.datasets.items()}
    parts = [name for name in named if named[name] == dataset]
    if not parts:
        has = ", ".join(dict.fromkeys(named.values()))
        raise UsageError(f"{path} has no part on '{dataset}', and one is needed; its data sets are {has}.")
    if len(parts) > 1:
        raise UsageError(
            f"{path} has {len(parts)} parts on '{dataset}', and one is needed; write a table that extends it and has "
            f"one of {', '.join(parts)} under 'datasets'."
        )
    if data_path is not None:
        spec = spec.model_copy(update={"common": {**spec.common, "data_path": data_path}})
    found_of: dict[str, tuple[str, dict[str, Any]]] = {}
    # a pool may have the name of the part, so it is not named to only()
    part = spec.only(labels).model_copy(update={"datasets": {parts[0]: spec.datasets[parts[0]]}})
    for each in part.requests():
        label, _ = found_of.setdefault(each.model, (each.label, each.settings))
        if label != each.label:
            raise UsageError(f"{path}: {label} and {each.label} are both {each.model}; name one of them with --model.")
    for label in labels:
        if label not in (name for name, _ in found_of.values()):
            raise UsageError(f"{path} leaves {label} out on '{dataset}'; take it from the list of --model.")
    order = sorted(found_of, key=lambda model: labels.index(found_of[model][0])) if labels else found_of
    return {model: found_of[model][1] for model in order}
