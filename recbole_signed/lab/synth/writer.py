"""A synthetic graph on disk: atomic files like those of any other data set, or its arrays as ``.npz``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbole_signed.convert.build import check_name, may_replace
from recbole_signed.convert.dataset_versions import write_manifest
from recbole_signed.convert.manifest import iso_date
from recbole_signed.errors import UsageError, ending
from recbole_signed.files import replacing_folder, sha256
from recbole_signed.lab.stats.report import totals
from recbole_signed.lab.synth.generator import SyntheticGraph
from recbole_signed.yaml_spec import yaml_text

FORMATS = ("inter", "npz")
_CHUNK = 2_000_000
_FIELDS = {"user_id": "token", "item_id": "token", "sign": "float", "timestamp": "float"}
_ARRAYS = ("users", "items", "signs", "times")
_SETTINGS = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "SIGN_FIELD": "sign",
    "load_col": {"inter": list(_FIELDS)},
}


def check_target(target: Path, how: str, overwrite: bool) -> None:
    """Refuse, before anything is generated, what :func:`write` would refuse."""
    if how not in FORMATS:
        raise UsageError(f"--format is '{how}'; it must be one of {', '.join(FORMATS)}{ending(how, FORMATS)}")
    check_name(target.name)
    may_replace(target, overwrite)


def write(
    graph: SyntheticGraph,
    target: Path,
    profile: str,
    seed: int,
    how: str = "inter",
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, Any]:
    """Write the data set folder ``target`` whole or not at all, and return what ``dataset.json`` says of it."""
    check_target(target, how, overwrite)
    with replacing_folder(target, overwrite=overwrite) as folder:
        if how == "inter":
            _write_inter(graph, folder / f"{target.name}.inter", progress)
            text = yaml_text(_SETTINGS)
            (folder / f"{target.name}.yaml").write_text(text, encoding="utf-8")
        else:
            arrays = {name: getattr(graph, name) for name in _ARRAYS}
            np.savez(folder / f"{target.name}.npz", **arrays, n_users=graph.n_users, n_items=graph.n_items)
            progress(len(graph))
        options = {"profile": profile, "edges": len(graph), "seed": seed}
        record = _describe(graph, target.name, options, {"inter": _FIELDS} if how == "inter" else {})
        record["outputs"] = {path.name: sha256(path) for path in sorted(folder.iterdir())}
        write_manifest(folder, record)
    return record


def _write_inter(graph: SyntheticGraph, path: Path, progress: Callable[[int], None]) -> None:
    with path.open("wb") as file:
        file.write(("\t".join(f"{name}:{type_}" for name, type_ in _FIELDS.items()) + "\n").encode())
        for begin in range(0, len(graph), _CHUNK):
            piece = slice(begin, begin + _CHUNK)
            columns = (getattr(graph, name)[piece] for name in _ARRAYS)
            frame = pl.DataFrame(dict(zip(_FIELDS, columns, strict=True)))
            frame.write_csv(file, include_header=False, separator="\t")
            progress(frame.height)


def _describe(graph: SyntheticGraph, name: str, options: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    first, last = int(graph.times[0]), int(graph.times[-1])
    return {
        "format_version": 1,
        "name": name,
        "source": "synth",
        "options": options,
        "sign_rule": None,
        # not an import of the package itself, which would tie this to RecBole's plugin
        "package_version": sys.modules[__name__.partition(".")[0]].__version__,
        "licence": "MIT, as recbole-signed itself; made by its generator",
        "rows": totals(graph.signs),
        "users": graph.n_users,
        "items": graph.n_items,
        "repeated_rows": 0,
        "repeated_pairs": 0,
        "contradicting_pairs": 0,
        "time": {"first": iso_date(first), "last": iso_date(last), "first_raw": first, "last_raw": last},
        "warnings": [],
        "fields": fields,
        "inputs": {},
    }
