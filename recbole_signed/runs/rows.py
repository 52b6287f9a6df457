"""Result rows: what is kept of one run, and the JSON Lines file they are appended to. No torch, no RecBole."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from recbole_signed.errors import UsageError, argument
from recbole_signed.files import parse_json
from recbole_signed.runs.provenance import digest

_logger = logging.getLogger(__name__)
OK, FAILED = "ok", "failed"
HIDING = "mask_seen", "sign_rule", "duplicate_pairs", "val_interval"  # settings: what is hidden, what is a like
USERS = "eval_users", "dislike_split", "user_inter_num_interval", "item_inter_num_interval"  # whose likes are held out
NO_VALUES = ""  # stands for a file of values per user where no metric of a run is a mean over users, each ranked once
_ID_DIGITS = 12
Key = tuple[str, str, int, "str | None", "str | None"]


@dataclass(frozen=True)
class RunRow:
    """One run of a model on a data set, with everything needed to believe its numbers."""

    model: str
    dataset: str
    seed: int
    status: str = OK
    reason: str | None = None  # why the run failed, in one line
    valid: dict[str, float | None] = field(default_factory=dict)  # on validation, by metric as RecBole spells it
    test: dict[str, float | None] = field(default_factory=dict)
    test_cases: int | None = None  # lists that the test metrics are means of: evaluated users, or held-out likes
    test_users: int | None = None
    test_new_users: int | None = None  # of these the users without a training edge
    valid_metric: str | None = None  # the metric by which the best epoch was chosen
    fit_seconds: float | None = None  # wall time of building and training, validation included; without reading data
    fit_cpu_seconds: float | None = None  # processor time of the same, over all threads
    eval_seconds: float | None = None  # wall time of the evaluation on the test part
    peak_memory_bytes: int | None = None  # largest resident size of the process during the run
    base_memory_bytes: int | None = None  # resident size before anything was read: the interpreter, torch and RecBole
    fit_memory_bytes: int | None = None  # how far the resident size rose meanwhile
    peak_gpu_memory_bytes: int | None = None
    serve_seconds: float | None = None  # ranking 1,000 users, warm, the median, in a fresh process; None: not asked for
    serve_first_seconds: float | None = None  # the same of the first time, which computes what is kept
    serve_memory_bytes: int | None = None  # how far its resident size rose by loading and ranking
    serve_gpu_memory_bytes: int | None = None
    model_bytes: int | None = None  # what is kept beside the training edges to rank known users
    epochs: int | None = None
    stopped_by: str | None = None  # `epochs`, `early stopping` or `budget`, when more might have helped
    steps: int | None = None  # of the optimizer; None: not counted, or `training_budget` was wall time then
    settings_ranked: int | None = None  # candidates that a model with `auto` ranked on validation
    curve: list[list[float]] = field(default_factory=list)  # `[epoch, valid score]`; an epoch may be partial
    n_parameters: int | None = None
    config_hash: str | None = None  # of the final configuration without paths and devices: equal in any folder
    data_sha256: str | None = None  # sha256 over the names and contents of the data set's atomic files
    signed: bool | None = None  # whether the data has a sign; where it has none, every row of it counted as a like
    data_version: str | None = None  # the version in the `dataset.json` that lies beside them; None where there is none
    request_hash: str | None = None  # sha256 of what a table asked for; None for a run outside a table
    per_user: str | None = None  # file of each user's test metrics, beside the rows; `NO_VALUES` without any
    per_user_sha256: str | None = None
    section: str | None = None  # the part of the table that made the row: the data set, or the name of a variant of it
    label: str | None = None  # the model's name in that table
    tuned: dict[str, Any] | None = None  # how tuned parameters were chosen: trials, budget, seed, metric and split
    settings: dict[str, Any] = field(default_factory=dict)  # keys that were given, other than defaults
    split: dict[str, Any] | str | None = None  # see `split_of`
    protocol: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    device: str | None = None
    machine: str | None = None
    threads: int | None = None
    timestamp: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the run came to its end."""
        return self.status == OK

    @property
    def ground(self) -> str:
        """What is held out, hidden and counted: figures of rows that differ in it can't be compared."""
        counted = {name: self.settings[name] for name in (*HIDING, *USERS) if name in self.settings}
        return json.dumps([self.split, self.protocol, counted], sort_keys=True, default=str)

    @property
    def n_ranked(self) -> int | None:
        """How many settings were ranked to choose this one's, by ``tune`` and the model itself; None: not known."""
        return ((self.tuned or {}).get("tried") or 0) + (self.settings_ranked or 0) or None

    @property
    def key(self) -> Key:
        """Which request this row answers; equal keys mean that the run need not be repeated."""
        return self.model, self.dataset, self.seed, self.request_hash, self.data_sha256

    @property
    def id(self) -> str:
        """A short name of the request and its data, by which tables refer to the row."""
        return request_id(self.request_hash, self.data_sha256)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON can hold it: values that are not finite become None, dates and others text."""
        return _finite(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunRow:
        """Make a row of what :meth:`as_dict` gave; raise ValueError for what is none, leave out unknown fields."""
        return _ROW.validate_python(values)


_ROW = TypeAdapter(RunRow)


def request_id(request_hash: str | None, data_sha256: str | None) -> str:
    """Return a short name of a request and its data: it changes with everything that changes the run."""
    return digest([request_hash, data_sha256])[:_ID_DIGITS]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def append_row(path: Path, row: RunRow) -> None:
    """Append a row by one write and make it safe on disk; a line that was cut off before is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compact = json.dumps(row.as_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    line = compact.encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size:
            os.lseek(descriptor, size - 1, os.SEEK_SET)
            if os.read(descriptor, 1) != b"\n":
                line = b"\n" + line
        written = os.write(descriptor, line)
        if written != len(line):
            raise OSError(errno.ENOSPC, f"only {written} of the {len(line)} bytes of a result row fit", str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_rows(path: Path) -> list[RunRow]:
    """Read the rows of a file in their order; a line that was cut off is reported on standard error and dropped."""
    rows, bad = [], 0
    for number, row in _lines(path):
        if row is None:
            bad += 1
            _logger.warning("%s, line %d is not a whole result row and is left out.", path, number)
        else:
            rows.append(row)
    if bad > 1 and not rows:
        raise UsageError(f"{path} holds no result rows; move it away, or give another folder as {argument('output')}.")
    return rows


def _lines(path: Path) -> Iterator[tuple[int, RunRow | None]]:
    """Yield the number of each line that is not empty, and its row; None for no UTF-8, no JSON, no object, no model."""
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.is_file() else (), start=1):
        if line.strip():
            try:
                yield number, RunRow.from_dict(parse_json(line))
            except ValueError:
                yield number, None


class RowStore:
    """The rows of all tables of a folder, each once, in the file of the table that made it."""

    def __init__(self, file: Path) -> None:
        """Read the rows; new ones are appended to ``file``."""
        self.file = file
        self._rows: dict[Key, list[RunRow]] = {}
        self.reload()

    def reload(self) -> None:
        """Read the files again: another process may have appended to them."""
        own = read_rows(self.file)[::-1]
        done, failed = ([row for row in own if row.ok is ok] for ok in (True, False))
        others = _finished_beside(self.file)
        others.sort(key=lambda row: row.serve_seconds is not None)  # one that has more measured serves as well
        self._rows = {}
        for row in [*done, *others, *failed]:
            self._rows.setdefault(row.key, []).append(row)

    def find(self, key: Key, fits: Callable[[RunRow], bool] = lambda row: row.ok) -> RunRow | None:
        """Return the best row of a request: finished ones that fit first, the newest of this table's own before all."""
        rows = self._rows.get(key, [])
        return next((row for row in rows if fits(row)), rows[0] if rows else None)

    def open(self) -> None:
        """See that rows can be appended, before anything is run for them."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.open("ab").close()

    def add(self, row: RunRow) -> None:
        """Append a row to the table's own."""
        append_row(self.file, row)
        rows = self._rows.setdefault(row.key, [])
        rows.insert(0 if row.ok else sum(other.ok for other in rows), row)  # the newest of its kind, as reload() has it

    def by_id(self) -> dict[str, RunRow]:
        """Return the best row of each request by its :attr:`RunRow.id`."""
        return {rows[0].id: rows[0] for rows in self._rows.values()}


def _finished_beside(path: Path) -> list[RunRow]:
    """Return the finished rows of the other ``.jsonl`` files in a file's folder; other lines are passed over."""
    others = [other for other in sorted(path.parent.glob("*.jsonl")) if other.name != path.name]
    rows = (row for other in others for _, row in _lines(other))
    return [row for row in rows if row is not None and row.ok and row.request_hash]
