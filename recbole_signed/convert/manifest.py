"""``dataset.json``: what is in a data set, where it came from, and what to be careful about."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import time as now
from typing import Any

import polars as pl

from recbole_signed.convert import dataset_versions as versions
from recbole_signed.convert.atomic import Schema
from recbole_signed.convert.cleaning import Spool
from recbole_signed.convert.tables import open_table
from recbole_signed.errors import UsageError, counted
from recbole_signed.files import sha256

_PAIR = ["user_id", "item_id"]
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SUSPICIOUS_BEFORE = 7 * 365 * 86400  # 202401051200, a date, is a time of 1976 in milliseconds
_CLOCKS_DIFFER = 86400


def describe_rows(parts: Mapping[str | None, Spool], *, unix_time: bool = True) -> dict[str, Any]:
    """Count what ``dataset.json`` says about the rows: of all parts together and, if they have names, of each."""
    pieces = max(spool.pieces for spool in parts.values())
    counts = {name: _Counts() for name in parts}
    total = _Counts()
    for piece in range(pieces):
        everything: list[pl.DataFrame] = []
        for name, spool in parts.items():
            pairs = _pairs(spool, piece, pieces)
            counts[name].add(pairs)
            for index, earlier in enumerate(everything):
                counts[name].also_in[index] += pairs.join(earlier, on=_PAIR, how="semi").height
            everything.append(pairs)
        if len(everything) > 1:
            everything = [pl.concat(everything).group_by(_PAIR).agg(pl.col("rows", "likes", "dislikes").sum())]
        total.add(everything[0])
    times = {name: _time_range(spool) for name, spool in parts.items()}
    known = [time for time in times.values() if time is not None]
    overall = (min(first for first, _ in known), max(last for _, last in known)) if known else None
    result = total.as_dict() | {"time": _time(overall, unix_time)}
    if list(parts) != [None]:
        names = list(parts)
        result["parts"] = {
            name: counts[name].as_dict()
            | {"time": _time(times[name], unix_time)}
            | {"pairs_also_in": {str(names[index]): shared for index, shared in counts[name].also_in.items()}}
            for name in names
        }
    return result


def warnings(rows: Mapping[str, Any], *, unix_time: bool = True) -> list[str]:
    """Sentences about what a reader of results on this data should know."""
    sentences: list[str] = []
    if rows["rows"]["dislike"] == 0:
        sentences.append(
            "no dislikes: signed models have nothing to learn from beyond the likes"
            + ("; where a sign of 0 means a dislike, give a rule for it" if rows["rows"]["neutral"] else "")
        )
    if rows["contradicting_pairs"]:
        sentences.append(f"{counted(rows['contradicting_pairs'], 'pair is', 'pairs are')} both liked and disliked")
    for name, part in rows.get("parts", {}).items():
        for earlier, shared in part["pairs_also_in"].items():
            if shared:
                pairs = counted(shared, f"pair of '{name}' is", f"pairs of '{name}' are")
                sentences.append(f"{pairs} also in '{earlier}'")
    if unix_time and rows["time"] is not None:
        last, date = rows["time"]["last_raw"], rows["time"]["last"]
        if last < _SUSPICIOUS_BEFORE:
            sentences.append(
                "all times lie before 1977: they may not be unix times; for digits of a date, such as 202401051200, "
                "give time_format="
            )
        elif last > now() + _CLOCKS_DIFFER:
            sentences.append(
                f"the last time, {date or last}, lies in the future: models of time count ages from it, and a split by "
                "time tests on it; correct or leave out such rows"
            )
    return sentences


class _Counts:
    """Sums over disjoint sets of users."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.items = pl.DataFrame(schema={"item_id": pl.String})
        self.also_in: Counter[int] = Counter()

    def add(self, pairs: pl.DataFrame) -> None:
        likes, dislikes = pl.col("likes"), pl.col("dislikes")
        counts = pairs.select(
            rows=pl.col("rows").sum(),
            like=likes.sum(),
            dislike=dislikes.sum(),
            pairs=pl.len(),
            users=pl.col("user_id").n_unique(),
            repeated=(pl.col("rows") > 1).sum(),
            contradicting=((likes > 0) & (dislikes > 0)).sum(),
        )
        self.sums.update(counts.row(0, named=True))
        self.items = pl.concat([self.items, pairs.select("item_id").unique()]).unique()

    def as_dict(self) -> dict[str, Any]:
        rows, like, dislike = (self.sums[name] for name in ("rows", "like", "dislike"))
        return {
            "rows": {"total": rows, "like": like, "dislike": dislike, "neutral": rows - like - dislike},
            "users": self.sums["users"],
            "items": self.items.height,
            "repeated_rows": rows - self.sums["pairs"],
            "repeated_pairs": self.sums["repeated"],
            "contradicting_pairs": self.sums["contradicting"],
        }


def _pairs(spool: Spool, piece: int, pieces: int) -> pl.DataFrame:
    """Distinct pairs of the ``piece``-th set of users, with how many rows, likes and dislikes each has."""
    scan = spool.scan().select(*_PAIR, "sign")
    if pieces > 1:
        scan = scan.filter(pl.col("user_id").hash(0) % pieces == piece)
    sign = pl.col("sign")
    return (
        scan.group_by(_PAIR)
        .agg(rows=pl.len(), likes=(sign == 1).sum(), dislikes=(sign == -1).sum())
        .with_columns(pl.col("rows", "likes", "dislikes").cast(pl.Int64))
        .collect()
    )


def _time_range(spool: Spool) -> tuple[float, float] | None:
    scan = spool.scan()
    if "timestamp" not in scan.collect_schema().names():
        return None
    first, last = scan.select(first=pl.col("timestamp").min(), last=pl.col("timestamp").max()).collect().row(0)
    return first, last


def _time(times: tuple[float, float] | None, unix_time: bool) -> dict[str, Any] | None:
    if times is None:
        return None
    raw = [int(time) if time == int(time) else time for time in times]
    result: dict[str, Any] = {"first_raw": raw[0], "last_raw": raw[1]}
    if unix_time:
        result = {"first": iso_date(times[0]), "last": iso_date(times[1])} | result
    return result


def iso_date(seconds: float, timespec: str = "auto") -> str | None:
    """Return the ISO date in UTC, as exact as Python's ``timespec`` says; None outside the years 1 to 9999."""
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec=timespec).replace("+00:00", "Z")
    except OverflowError:
        return None


def accept(folder: Path) -> list[str]:
    """Record the files of a data set as they are, under ``changed_by_hand``; return the names of the changed."""
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
        rows = describe_rows(spools, unix_time=unix_time)
    record |= rows
    record |= {
        "warnings": warnings(rows, unix_time=unix_time),
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
    fields: dict[str, dict[str, str]] = {}
    for kind, path in files.items():
        if path.is_file():
            with path.open(encoding="utf-8-sig") as file:
                columns = (field.rpartition(":") for field in file.readline().rstrip("\n").split("\t"))
                fields[kind] = {column or type_: type_ if column else "" for column, _, type_ in columns}
    return fields


def _spooled(path: Path, folder: Path) -> Spool:
    spool, schema, table = Spool(folder), Schema(), open_table(path, separator="tab")
    columns = [name for name in table.columns if name in ("user_id", "item_id", "sign", "timestamp")]
    for batch in table.batches(columns):
        spool.add(schema.conform(batch, {}).frame)
    return spool
