"""The yaml file of a table, which may extend those of others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError, ending
from recbole_signed.plugin import merged
from recbole_signed.yaml_spec import read_yaml

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

    Of several others, each model runs as the first one that has it says, on that table's data sets alone, with the
    file's own keys above as those of a single other table. All other keys (``title``, ``columns``, ``seeds``, ...) are
    those of the first.

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
            raise UsageError(f"{path}: unknown key '{key}' (a table has {', '.join(keys)}){ending(key, keys)}")
    for key in NAMED:
        if content.get(key):
            content[key] = _named(path, key, content[key])
    _check_mappings(path, content)
    if EXTENDS not in content:
        return content
    names = content.pop(EXTENDS)
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
        raise UsageError(f"{path}: 'extends' must name a table's file or a list of them, but is {names!r}.")
    bases = {}
    for name in names:
        other = path.parent / name
        if other.resolve() in (path.resolve(), *above):
            raise UsageError(f"{path}: 'extends' leads back to {other.name}; a table can't extend itself.")
        bases[name] = _read(other, keys, (*above, path.resolve()))
    return _extended(_joined(path, bases, content) if len(names) > 1 else next(iter(bases.values())), content)


def _check_mappings(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse what can't be joined with another table's: these are mappings and names.

    Raises:
        UsageError: of the first thing that is something else.
    """
    common = content.get("common")
    if common is not None and not isinstance(common, dict):
        raise UsageError(f"{path}: 'common' must be a mapping of RecBole keys, but is {common!r}.")
    for name, keys in (content.get("datasets") or {}).items():
        for key in IDENTITY:
            if not isinstance(keys.get(key), str | None):
                raise UsageError(f"{path}: {name}: '{key}' must be a name, but is {keys[key]!r}.")
    for label, keys in (content.get("models") or {}).items():
        places = keys.get("per_dataset")
        what = (
            f"{path}: {label}: 'per_dataset' must be a mapping from data sets of the table to RecBole keys, or to false"
        )
        if not isinstance(places, dict | None):
            raise UsageError(f"{what}, but is {places!r}.")
        for name, each in (places or {}).items():
            if each is not None and each is not False and not isinstance(each, dict):
                raise UsageError(f"{what}, which leaves the model out, but says {each!r} of {name}.")


def _joined(path: Path, others: Mapping[str, Mapping[str, Any]], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table in which each model has all that its own table says of its runs, with the keys of ``own`` above.

    They are put above layer by layer, as above a single table: what is joined tells ``common``, data sets and models no
    longer apart. Data sets and models that no other table has are added: they have the keys of those that they meet.
    """
    added = {key: [name for name in own.get(key) or {} if not _has(others.values(), key, name)] for key in NAMED}
    bases = [_with_own(base, own, added["datasets"]) for base in others.values()]
    _refuse_other_data(path, dict(zip(others, bases, strict=True)), own.get("datasets"))
    datasets: dict[str, Any] = {}
    for base in reversed(bases):
        known = {name: {key: keys[key] for key in IDENTITY if key in keys} for name, keys in base["datasets"].items()}
        datasets = {**known, **{name: merged(keys, known.get(name, {})) for name, keys in datasets.items()}}
    models: dict[str, Any] = {}
    for base in bases:
        for label, settings in base["models"].items():
            models.setdefault(label, _on_each(label, settings, datasets, [base]))
    for label in added["models"]:
        models[label] = _on_each(label, own["models"][label], datasets, bases)
    return {**bases[0], "datasets": datasets, "models": models, "common": {}}


def _has(bases: Iterable[Mapping[str, Any]], key: str, name: str) -> bool:
    return any(name in (each.get(key) or {}) for each in bases)


def _refuse_other_data(path: Path, bases: Mapping[str, Mapping[str, Any]], wanted: Collection[str] | None) -> None:
    """Refuse one name for different data sets, among those that are wanted; None: all are.

    Raises:
        UsageError: of the first such name.
    """
    meant: dict[str, tuple[str, str]] = {}
    for file, base in bases.items():
        for name, keys in base["datasets"].items():
            dataset = keys.get("dataset") or name
            before, known = meant.setdefault(name, (file, dataset))
            if known != dataset and (not wanted or name in wanted):
                raise UsageError(
                    f"{path}: '{name}' is the data set {known} in {before} and {dataset} in {file}, so these tables "
                    f"can't be joined; say which under 'datasets', as in {name}: {{dataset: {known}}}."
                )


def _with_own(base: Mapping[str, Any], own: Mapping[str, Any], added: Collection[str]) -> dict[str, Any]:
    """Return one of several tables with the keys of the table that extends it above its own, and its new data sets."""
    result = {**base, "common": merged(base.get("common") or {}, own.get("common") or {})}
    for key in NAMED:
        theirs, ours = base.get(key) or {}, own.get(key) or {}
        result[key] = {name: _above(each, ours.get(name, {})) for name, each in theirs.items()}
    result["datasets"] |= {name: own["datasets"][name] for name in added}
    return result


def _on_each(
    label: str, settings: Mapping[str, Any], datasets: Iterable[str], bases: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a model with all that is said of its runs as that of each data set; false where no table has both."""
    places: dict[str, Any] = {}
    for name in datasets:
        base = next((each for each in bases if name in each["datasets"]), None)
        found = base and keys_on(name, base["common"], base["datasets"][name], settings)
        places[name] = False if found is None else _without(found, "model", *IDENTITY)
    return {"model": settings.get("model", label), "per_dataset": places}


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
        for number, name in enumerate(value):
            if name in value[:number]:
                raise UsageError(f"{path}: '{key}' names {name} twice; give a variant a name of its own.")
        return {name: {} for name in value}
    if isinstance(value, dict) and all(each is None or isinstance(each, dict) for each in value.values()):
        return {str(name): each or {} for name, each in value.items()}
    raise UsageError(f"{path}: '{key}' must be a list of names, or a mapping from names to RecBole keys.")
