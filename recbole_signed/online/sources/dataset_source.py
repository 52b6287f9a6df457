"""A data set of atomic files as a stream: its interactions in the order of their time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from recbole_signed.convert import SignRule
from recbole_signed.errors import UsageError
from recbole_signed.online import DISLIKE, LIKE, VIEW, EventBatch, content_id
from recbole_signed.online.sources.source import Polled

_MILLISECONDS = 1000


class AtomicSource:
    """Replays ``.inter`` files; a position counts rows by time. Likes and dislikes are those of the sign, 0 is a view.

    Rows of equal time stay in the order of the file. Time stamps, seconds in the file, become milliseconds.

    Args:
        path: a ``.inter`` file, or a folder, of which ``<name>.inter`` or else all ``<name>.*.inter`` are read.
        sign_rule: the like and dislike conditions (`SignRule.parse`) where the file has no column ``sign``.
        start: seconds; rows before it are left out. ``end``: rows from it on are left out.
        end: see ``start``.

    Raises:
        UsageError: there is no such file, it lacks a column, or a value does not fit.

    """

    def __init__(
        self,
        path: str | Path,
        sign_rule: Mapping[str, str] | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> None:
        path = Path(path)
        self.name = f"atomic:{path.absolute()}:{start}:{end}"
        frame = pl.concat([_read(file) for file in _files(path)], how="diagonal")
        for field in ("user_id", "item_id", "timestamp"):
            if field not in frame.columns:
                raise UsageError(f"{path} lacks the column {field}; a replay needs user_id, item_id and timestamp.")
        signs = _signs(frame, sign_rule, path)
        time = _numbers(frame, "timestamp", path)
        times = np.rint(time * _MILLISECONDS).astype(np.int64)
        taken = np.ones(len(times), dtype=bool)
        taken &= time >= (-np.inf if start is None else start)
        taken &= time < (np.inf if end is None else end)
        order = np.flatnonzero(taken)
        order = order[np.argsort(times[order], kind="stable")]
        self._users = frame["user_id"].gather(order)
        self._items = frame["item_id"].gather(order)
        self._times = times[order]
        self._types = np.where(signs > 0, LIKE, np.where(signs < 0, DISLIKE, VIEW)).astype(np.int8)[order]
        self._row = 0

    def __len__(self) -> int:
        return len(self._times)

    def seek(self, position: str | None) -> None:
        """Go to a row by time."""
        self._row = int(position or 0)

    def poll(self, max_events: int) -> Polled:
        """Give the next ``max_events`` rows."""
        rows = slice(self._row, min(self._row + max_events, len(self)))
        users, items = self._users[rows].to_list(), self._items[rows].to_list()
        types, times = self._types[rows], self._times[rows]
        value = np.full(len(users), np.nan)
        ids = [
            content_id(user, item, kind, stamp, float("nan"))
            for user, item, kind, stamp in zip(users, items, types.tolist(), times.tolist(), strict=True)
        ]
        self._row = rows.stop
        return Polled(
            EventBatch(ids, users, items, types, times, value), [], str(self._row), exhausted=self._row >= len(self)
        )

    def commit(self, position: str | None) -> None:
        """Nothing is to be told: the log keeps the position."""

    def close(self) -> None:
        """Nothing is open."""


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        whole = path / f"{path.name}.inter"
        files = [whole] if whole.exists() else sorted(path.glob(f"{path.name}.*.inter"))
    else:
        files = [path] if path.exists() else []
    if not files:
        raise UsageError(f"{path} is no data set: there is no file {path.name}.inter in it.")
    return files


def _read(file: Path) -> pl.DataFrame:
    try:
        frame = pl.read_csv(file, separator="\t", infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{file} can't be read: {' '.join(str(error).split())}.") from error
    return frame.rename({name: name.partition(":")[0] for name in frame.columns})


def _signs(frame: pl.DataFrame, rule: Mapping[str, str] | None, path: Path) -> np.ndarray:
    if rule is not None:
        parsed = SignRule.parse(rule)
        return parsed.apply({name: _numbers(frame, name, path) for name in parsed.columns if name in frame.columns})
    if "sign" not in frame.columns:
        raise UsageError(
            f"{path} has no column sign, so what is a like is not known; give a sign rule, for example "
            "{like: 'rating >= 4', dislike: 'rating <= 2'}."
        )
    return _numbers(frame, "sign", path)


def _numbers(frame: pl.DataFrame, name: str, path: Path) -> np.ndarray:
    values = frame[name].cast(pl.Float64, strict=False).to_numpy()
    bad = np.flatnonzero(np.isnan(values))
    if bad.size and name in ("timestamp", "sign"):
        got = frame[name][int(bad[0])]
        raise UsageError(f"{path}, row {bad[0] + 1}: {name} is {got!r}, a number was wanted.")
    return values
