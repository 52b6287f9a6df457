"""Which version of a data set lies in a folder, and whether it is what ``dataset.json`` says. No torch, no RecBole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict

from recbole_signed.errors import UsageError
from recbole_signed.files import is_plain_name, parse_json, replacing, sha256
from recbole_signed.yaml_spec import Spec, checked

MANIFEST = "dataset.json"
NOT_ATOMIC = ".tsv"  # suffix of what lies beside atomic files for a reader: rejected rows, numbered ids
REJECTED = f".rejected{NOT_ATOMIC}"
_NO_DATA = (".yaml", ".yml", ".json", NOT_ATOMIC, ".png", ".svg", ".pdf", ".md", ".txt")
_RECBOLE_READS = (".inter", ".user", ".item", ".kg", ".link", ".net")
_SHORT = 12


def _plain_name(name: str) -> str:
    if not is_plain_name(name):
        raise UsageError(f"'name' is {name!r}, which is not the name of a folder.")
    return name


class _Record(Spec):
    """What is read of a ``dataset.json``; it may hold more."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Annotated[str, AfterValidator(_plain_name)] = "data"
    version: str | None = None
    outputs: dict[str, str]
    bytes: dict[str, int] | None = None
    rows: dict[str, int] | None = None
    users: int | None = None
    items: int | None = None
    source: str | None = None
    package_version: str | None = None
    changed_by_hand: tuple[str, ...] = ()


def is_atomic(name: str) -> bool:
    """Whether a file of a data set holds data that RecBole reads."""
    return Path(name).suffix not in _NO_DATA


def digest(value: Any) -> str:
    """Return the sha256 of a value's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def data_digest(checksums: Mapping[str, str]) -> str:
    """Return the checksum over names and contents of the atomic files among these (name -> sha256)."""
    return digest([[name, checksums[name]] for name in sorted(checksums) if is_atomic(name)])


def version_of(checksums: Mapping[str, str]) -> str:
    """Return the version: the first digits of :func:`data_digest`."""
    return data_digest(checksums)[:_SHORT]


def atomic_files(folder: Path, name: str) -> list[Path]:
    """List the atomic files ``NAME.*`` of a data set, by name."""
    return sorted(path for path in folder.glob(f"{escape(name)}.*") if path.is_file() and is_atomic(path.name))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read ``dataset.json``; None where there is none that this package wrote."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        record = parse_json(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}); convert the data again.") from error
    if not isinstance(record, dict) or not isinstance(record.get("outputs"), dict):
        return None
    checked(_Record, record, path)
    for file in record["outputs"]:
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise UsageError(f"{path} names the file {file!r}, which lies outside its folder; convert the data again.")
    return record


def has_dates(record: Mapping[str, Any] | None) -> bool:
    """Whether the times of a data set are moments with a date; those of some sources count from an unknown one."""
    time = (record or {}).get("time")
    return time is None or "first" in time


def write_manifest(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``dataset.json``, at once and last of all files of the folder."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def version(record: Mapping[str, Any]) -> str:
    """Return the version that a ``dataset.json`` gives, also one that was written before it held any."""
    return record.get("version") or version_of(record["outputs"])


def changes(folder: Path, record: Mapping[str, Any], *, thorough: bool) -> list[str]:
    """Say in a sentence each how the files of a folder differ from ``dataset.json``; ``thorough`` reads all.

    Else files of the same size that are older than it are taken as unchanged; it is dated again if the others are,
    too.
    """
    changed: list[str] = []
    read_any = False
    written = (folder / MANIFEST).stat().st_mtime_ns
    for file, stated in record["outputs"].items():
        path = folder / file
        if not is_atomic(file) and not thorough:
            continue
        if not path.is_file():
            changed.append(f"{path} is missing, dataset.json lists it.")
            continue
        stat, size = path.stat(), (record.get("bytes") or {}).get(file)
        if size is not None and size != stat.st_size:
            changed.append(f"{path} has {stat.st_size:,} bytes where dataset.json says {size:,}.")
        elif thorough or size is None or stat.st_mtime_ns >= written:
            read_any = True
            if (got := sha256(path)) != stated:
                changed.append(f"{path} has the sha256 {got[:_SHORT]}... where dataset.json says {stated[:_SHORT]}...")
    changed += [f"{folder / file} is not in dataset.json." for file in added(folder, record)]
    if read_any and not changed:
        with contextlib.suppress(OSError):  # a folder that can only be read is read again each time
            os.utime(folder / MANIFEST)
    return changed


def added(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Name the atomic files that lie beside those that were made."""
    names = [path.name for path in atomic_files(folder, record.get("name", folder.name))]
    return [name for name in names if Path(name).suffix in _RECBOLE_READS and name not in record["outputs"]]


def refuse_changed(folder: Path, name: str) -> str | None:
    """Return the version of the data set, None without ``dataset.json``; refuse atomic files that were changed."""
    record = read_manifest(folder)
    if record is None or record.get("name", name) != name:
        return None
    changed = changes(folder, record, thorough=False)
    if changed:
        raise UsageError(changed_message(name, changed))
    return version(record)


def changed_message(name: str, changed: list[str]) -> str:
    """Return the sentence with which a run refuses changed files."""
    more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    return (
        f"the data set '{name}' has changed since it was made: {changed[0].removesuffix('.')}{more}; convert it again, "
        f"or run 'recbole-signed data accept {name}' if the change is intended."
    )
