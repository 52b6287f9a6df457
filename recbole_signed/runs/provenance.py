"""Where a number comes from: data and configuration as checksums, versions, machine, memory. No torch, no RecBole."""

from __future__ import annotations

import enum
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recbole_signed import __version__
from recbole_signed.convert import dataset_versions as data_versions
from recbole_signed.errors import UsageError
from recbole_signed.files import sha256
from recbole_signed.plugin import registry
from recbole_signed.plugin.configuration import check_dataset_name, data_root, has_interactions, unknown_dataset_error

RECBOLE_DATA_PATH = "dataset"  # RecBole's default `data_path`
_LIBRARIES = ("recbole", "torch", "numpy", "scipy", "pandas")

NOT_RESULTS = frozenset(
    (
        *("gpu_id", "use_gpu", "device", "local_rank", "single_spec", "nproc", "world_size", "offset", "ip", "port"),
        *("worker", "state", "show_progress", "threads", "verbose", "data_path", "checkpoint_dir", "save_dataset"),
        *("dataset_save_path", "save_dataloaders", "dataloaders_save_path", "config_files", "config_file_list"),
        *("log_wandb", "wandb_project", "vocabulary", "trained_vocabulary"),
    )
)
"""Keys of a configuration that say where and how it runs, not what comes out."""


def digest(value: Any) -> str:
    """Return the sha256 of a value's JSON with sorted keys; tuples count as lists, objects as their text."""
    return data_versions.digest(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(entry) for entry in value), key=repr)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({"class": type(value).__name__, **asdict(value)})
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def config_hash(final: Mapping[str, Any]) -> str:
    """Return the sha256 of a final configuration: the same run has the same hash in any folder, on any device."""
    return digest({key: value for key, value in final.items() if key not in NOT_RESULTS})


def data_folder(dataset: str, data_path: str | None = None) -> Path:
    """Return the folder where RecBole will find a data set, and make ml-100k-signed where it is missing."""
    check_dataset_name(dataset)
    if data_path is not None and not isinstance(data_path, (str, Path)):
        raise UsageError(f"data_path is {data_path!r}; it must be the folder of the data sets.")
    if dataset == "ml-100k":  # RecBole reads this one from its own package, whatever data_path says
        home = registry.recbole_folder()
        folder = (Path(RECBOLE_DATA_PATH) if home is None else home / "dataset_example") / dataset
    else:
        folder = data_root(dataset, data_path, RECBOLE_DATA_PATH) / dataset
    if not has_interactions(folder):
        raise unknown_dataset_error({"data_path": str(folder)})
    return folder


def data_sha256(folder: Path, dataset: str) -> str:
    """Return the sha256 over names and contents of a data set's atomic files (no settings, texts, figures)."""
    checksums = {path.name: sha256(path) for path in data_versions.atomic_files(folder, dataset)}
    record = _manifest(folder, dataset)
    if record is not None:
        made = {name: checksum for name, checksum in record["outputs"].items() if data_versions.is_atomic(name)}
        changed = [name for name, checksum in made.items() if checksums.get(name) != checksum]
        changed += data_versions.added(folder, record)
        if changed:
            reasons = [f"{folder / name} differs from what dataset.json says" for name in changed]
            raise UsageError(data_versions.changed_message(dataset, reasons))
    return data_versions.data_digest(checksums)


def data_version(folder: Path, dataset: str) -> str | None:
    """Return the version that ``dataset.json`` gives a data set, None where there is none."""
    record = _manifest(folder, dataset)
    return None if record is None else data_versions.version(record)


def _manifest(folder: Path, dataset: str) -> dict[str, Any] | None:
    record = data_versions.read_manifest(folder)
    return record if record is not None and record.get("name", dataset) == dataset else None


def versions() -> dict[str, str]:
    """Return the versions of this package, of what it computes with, and of Python."""
    numbers = {"recbole_signed": __version__}
    for name in _LIBRARIES:
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:  # on PYTHONPATH rather than installed
            numbers[name] = "unknown"
    return {**numbers, "python": platform.python_version()}


def machine() -> str:
    """Return the processor's name and the number of cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{name}, {cores()} cores"


def versions_text(versions: Mapping[str, str]) -> str:
    """Return versions as the small print of a table lists them."""
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def machine_text(machine: str | None, threads: int | None) -> str:
    """Return a machine as the small print of a table names it."""
    return f"{machine}" + (f", {threads} thread{'s' if threads > 1 else ''} per run" if threads else "")


def different(values: Iterable[str | None]) -> str:
    """Return each value of the small print once; more than one of a kind is listed, not hidden."""
    return " | ".join(dict.fromkeys(value for value in values if value))


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
