"""What a table says of its models on one data set, for a command that looks into each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError, ending
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import STOCK, class_names
from recbole_signed.runs.spec import TableSpec
from recbole_signed.runs.table_file import POOL


def table_datasets(path: Path, name: str) -> list[str]:
    """Return the data sets of a table's pool, or the name itself where no pool has it."""
    parts = TableSpec.read(path).datasets.items()
    return [keys.get("dataset") or part for part, keys in parts if keys.get(POOL) == name] or [name]


def table_settings(
    path: Path, dataset: str, labels: Sequence[str] = (), data_path: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the RecBole keys, by class name, with which a table runs its models on a data set, tuned ones included."""
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


ALL = "all"


def asked_models(
    names: Sequence[str],
    dataset: str,
    suits: Callable[[str], bool],
    table: Path | None = None,
    tuned: Sequence[str] = (),
    data_path: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the models of ``-m A,B`` in that order, each with the RecBole keys that a table or a tuning gives it.

    :data:`ALL` stands for every other model that the table has (or the bundled tables) and that ``suits``; the first
    folder of ``tuned`` with a model's file gives the keys.
    """
    if not names:
        raise UsageError("--model names no model; give one or more, as in SSF,EASE, or all.")
    if table is not None and tuned:
        raise UsageError("--tuned cannot be combined with --table, which says what was tuned; leave one of them out.")
    named = [name for name in names if name != ALL]
    if table is None:  # before the first of them is trained; a table knows its labels
        named = class_names(*named)
    found = _with_keys(named, dataset, table, tuned, data_path) if named else {}
    if ALL in names:
        everything = _with_keys([], dataset, table, tuned, data_path)
        found |= {model: keys for model, keys in everything.items() if model not in found and suits(model)}
    return found


def _with_keys(
    names: Sequence[str], dataset: str, table: Path | None, tuned: Sequence[str], data_path: str | None
) -> dict[str, dict[str, Any]]:
    """Return the models, all for none, in the order of their names."""
    from recbole_signed.runs import table_settings
    from recbole_signed.runs.tuned import tuned_path
    from recbole_signed.yaml_spec import read_yaml

    if table is not None:
        return table_settings(table, dataset, names, data_path)
    for name in tuned:
        folder = tuned_path("", name).parent
        if not folder.is_dir():
            beside = [each.name for each in folder.parent.glob("*") if each.is_dir()]
            raise UsageError(f"--tuned names '{name}', but there is no folder {folder}{ending(name, beside)}")
    found = {}
    installed = {name for name, _ in registry.stock_models()}  # RecBole 1.2.0 has fewer
    for model in names or (*registry.models(), *(name for name in STOCK if name in installed)):
        files = [file for file in (tuned_path(model, name) for name in tuned) if file.is_file()]
        found[model] = read_yaml(files[0]) if files else {}
    return found
