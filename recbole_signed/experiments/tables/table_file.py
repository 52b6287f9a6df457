"""The yaml file of a table, which may extend those of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError, nearest
from recbole_signed.experiments.runs import merged, read_yaml

EXTENDS = "extends"
NAMED = ("datasets", "models")
POOL = "pool"
"""Key of a data set: splits of the same data have one name here, and ``significance`` takes them together."""
IDENTITY = ("dataset", POOL)
"""Keys of a data set that say what it is, not how models run on it."""


def read_table_file(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the content of a table's file, with what it takes from the file, or files, that its ``extends`` names.

    Keys that the file does not have are those of the other. ``common`` is joined, the file's own keys above. Of
    ``datasets`` and ``models`` a file that lists any has those alone, in its order; each has the keys of the other
    table's one of that name, the file's own above. What is asked for in the same way in both is one request: its run is
    not repeated.

    Of several others, each model runs as the first one that has it says, on that table's data sets alone. All other
    keys (``title``, ``columns``, ``seeds``, ...) are those of the first.

    Args:
        path: the file.
        keys: the keys that a table may have.

    Raises:
        UsageError: there is no such file, it has an unknown key, it extends itself, or ``extends`` names no file.
    """
    return _read(path, keys, ())


def _read(path: Path, keys: tuple[str, ...], above: tuple[Path, ...]) -> dict[str, Any]:
    content = read_yaml(path)
    for key in content:
        if key not in keys:
            raise UsageError(f"{path}: unknown key '{key}'{nearest(key, keys)} (a table has {', '.join(keys)}).")
    for key in NAMED:
        if content.get(key):
            content[key] = _named(path, key, content[key])
    if EXTENDS not in content:
        return content
    names = content.pop(EXTENDS)
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
        raise UsageError(f"{path}: 'extends' must name a table's file or a list of them, but is {names!r}.")
    bases = []
    for other in (path.parent / name for name in names):
        if other.resolve() in (path.resolve(), *above):
            raise UsageError(f"{path}: 'extends' leads back to {other.name}; a table can't extend itself.")
        bases.append(_read(other, keys, (*above, path.resolve())))
    return _extended(bases[0] if len(bases) == 1 else _joined(bases), content)


def _joined(bases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a table in which each model has all that its own table says of its runs."""
    datasets: dict[str, Any] = {}
    for base in reversed(bases):
        known = {
            name: {key: keys[key] for key in IDENTITY if key in keys}
            for name, keys in (base.get("datasets") or {}).items()
        }
        datasets = {**known, **{name: merged(keys, known.get(name, {})) for name, keys in datasets.items()}}
    models: dict[str, Any] = {}
    for base in bases:
        known, common = base.get("datasets") or {}, base.get("common") or {}
        for label, settings in (base.get("models") or {}).items():
            if label in models:
                continue
            models[label] = {"model": settings.get("model", label), "per_dataset": (places := {})}
            for name in datasets:
                found = keys_on(name, common, known[name], settings) if name in known else None
                places[name] = False if found is None else _without(found, "model", *IDENTITY)
    return {**bases[0], "datasets": datasets, "models": models, "common": {}}


def keys_on(
    section: str, common: Mapping[str, Any], data_keys: Mapping[str, Any], model_keys: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return all that a table says of a model on one of its data sets; None where it leaves the model out.

    Later ones win: ``common``, the data set's keys, the model's, and those that its ``per_dataset`` has for the pool of
    the data set and for the data set.
    """
    places = model_keys.get("per_dataset") or {}
    found = [places.get(name) for name in (data_keys.get(POOL), section)]
    if False in found:
        return None
    return _without(merged(common, data_keys, model_keys, *(each or {} for each in found)), "per_dataset")


def _without(keys: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
    return {key: each for key, each in keys.items() if key not in left_out}


def _extended(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = {**base, **own}
    for key in NAMED:
        theirs = base.get(key) or {}
        result[key] = {name: _above(theirs.get(name, {}), each) for name, each in (own.get(key) or theirs).items()}
    if isinstance(base.get("common"), dict) and isinstance(own.get("common"), dict):
        result["common"] = merged(base["common"], own["common"])
    known, here = _places(base.get("datasets") or {}), _places(result["datasets"])
    for settings in result["models"].values():
        places = settings.get("per_dataset")
        if isinstance(places, dict):  # what the other table says of a data set, or of a pool, that this one leaves out
            settings["per_dataset"] = {name: each for name, each in places.items() if name in here or name not in known}
    return result


def _places(datasets: Mapping[str, Mapping[str, Any]]) -> set[Any]:
    """Return the names of data sets and of their pools."""
    return {*datasets, *(keys.get(POOL) for keys in datasets.values())}


def _above(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a model or a data set, ``own`` above those of the other table, also on each data set."""
    result = merged(base, own)
    theirs, places = base.get("per_dataset"), result.get("per_dataset")
    if isinstance(theirs, dict) and isinstance(places, dict):
        for name, keys in places.items():
            if isinstance(keys, dict) and isinstance(theirs.get(name), dict):
                places[name] = merged(theirs[name], keys)
    return result


def _named(path: Path, key: str, value: Any) -> dict[str, dict[str, Any]]:
    """Return name -> settings of a mapping or a list of names."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return {name: {} for name in value}
    if isinstance(value, dict) and all(each is None or isinstance(each, dict) for each in value.values()):
        return {str(name): each or {} for name, each in value.items()}
    raise UsageError(f"{path}: '{key}' must be a list of names, or a mapping from names to RecBole keys.")
