"""``dataset.json`` after its files were changed on purpose: counted again from what lies there now."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recbole_signed.convert import dataset_versions as versions
from recbole_signed.convert import manifest
from recbole_signed.convert.atomic import Schema
from recbole_signed.convert.spool import Spool
from recbole_signed.convert.tables import open_table
from recbole_signed.errors import UsageError
from recbole_signed.files import sha256


def accept(folder: Path) -> list[str]:
    """Take the files of a data set as they are: count rows and take checksums again, and say so in ``dataset.json``.

    The data can then no longer be made again from its raw files; ``dataset.json`` lists what was changed under
    ``changed_by_hand``.

    Returns:
        Names of the files that had changed; none if all were as they were made, and then nothing is written.

    Raises:
        UsageError: no ``dataset.json``, or a file is missing or not fit for RecBole.
    """
    record = versions.read_manifest(folder)
    if record is None:
        raise UsageError(f"{folder} has no dataset.json of recbole-signed; there is nothing to be accepted.")
    name = record.get("name", folder.name)
    missing = [file for file in record["outputs"] if not (folder / file).is_file()]
    if missing:
        raise UsageError(f"{folder / missing[0]} is missing; put it back, or convert the data again.")
    files = sorted({*record["outputs"], *versions.added(folder, record)})
    outputs = {file: sha256(folder / file) for file in files}
    changed = [file for file in files if outputs[file] != record["outputs"].get(file)]
    if not changed:
        return []
    parts = {part: folder / ".".join(filter(None, [name, part, "inter"])) for part in record.get("parts") or [None]}
    unix_time = versions.has_dates(record)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".spool") as spooled:
        spools = {part: _spooled(path, Path(spooled) / str(part)) for part, path in parts.items()}
        rows = manifest.describe_rows(spools, unix_time=unix_time)
    record |= rows
    record |= {
        "warnings": manifest.warnings(rows, unix_time=unix_time),
        "version": versions.version_of(outputs),
        "fields": _fields(folder, name, next(iter(parts.values()))),
        "outputs": outputs,
        "bytes": {file: (folder / file).stat().st_size for file in files},
        "changed_by_hand": sorted({*record.get("changed_by_hand", ()), *changed}),
    }
    versions.write_manifest(folder, record)
    return changed


def _fields(folder: Path, name: str, interactions: Path) -> dict[str, dict[str, str]]:
    """Columns and types by kind of file, as their first lines name them."""
    files = {"inter": interactions, **{kind: folder / f"{name}.{kind}" for kind in ("user", "item")}}
    found: dict[str, dict[str, str]] = {}
    for kind, path in files.items():
        if path.is_file():
            with path.open(encoding="utf-8-sig") as file:
                columns = (field.rpartition(":") for field in file.readline().rstrip("\n").split("\t"))
                found[kind] = {column or type_: type_ if column else "" for column, _, type_ in columns}
    return found


def _spooled(path: Path, folder: Path) -> Spool:
    spool = Spool(folder)
    for frame in _frames(path):
        spool.add(frame)
    return spool


def _frames(path: Path) -> Iterator[pl.DataFrame]:
    table = open_table(path, separator="tab")
    schema = Schema()
    columns = [name for name in table.columns if name in ("user_id", "item_id", "sign", "timestamp")]
    for batch in table.batches(columns):
        yield schema.conform(batch, {}).frame
