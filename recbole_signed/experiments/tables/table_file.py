"""The yaml file of a table, which may extend that of another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError, nearest
from recbole_signed.experiments.runs import merged, read_yaml

EXTENDS = "extends"
NAMED = ("datasets", "models")


def read_table_file(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the content of a table's file, with what it takes from the file that its ``extends`` names.

    Keys that the file does not have are those of the other. ``common`` is joined, the file's own keys above. Of
    ``datasets`` and ``models`` a file that lists any has those alone, in its order; each has the keys of the other
    table's one of that name, the file's own above. What is asked for in the same way in both is one request: its run is
    not repeated.

    Args:
        path: the file.
        keys: the keys that a table may have.

    Raises:
        UsageError: there is no such file, it has an unknown key, or it extends itself.
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
    other = path.parent / str(content.pop(EXTENDS))
    if other.resolve() in (path.resolve(), *above):
        raise UsageError(f"{path}: 'extends' leads back to {other.name}; a table can't extend itself.")
    base = _read(other, keys, (*above, path.resolve()))
    return _extended(base, content)


def _extended(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = {**base, **own}
    for key in NAMED:
        theirs = base.get(key) or {}
        result[key] = {name: merged(theirs.get(name, {}), each) for name, each in (own.get(key) or theirs).items()}
    if isinstance(base.get("common"), dict) and isinstance(own.get("common"), dict):
        result["common"] = merged(base["common"], own["common"])
    for settings in result["models"].values():
        places = settings.get("per_dataset")
        if isinstance(places, dict):  # what the other table says of a data set that this one leaves out
            settings["per_dataset"] = {
                name: each
                for name, each in places.items()
                if name in result["datasets"] or name not in (base.get("datasets") or {})
            }
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
