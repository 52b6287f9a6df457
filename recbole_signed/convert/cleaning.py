"""Cleaning of converted rows: repeated pairs, users with few likes, the k-core, numbers without gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from recbole_signed.arrays import distinct
from recbole_signed.convert.options import Common
from recbole_signed.errors import UsageError, counted

_IDS = ("user_id", "item_id")
_NUMBER = r"^[0-9]{1,18}$"
BoolArray = npt.NDArray[np.bool_]
Spools = Mapping["str | None", "Spool"]
MIN_LIKES, K_CORE = 1, 2
STAYS = np.iinfo(np.int32).max  # the turn of what is not left out of a core
MEMORY_ROWS = 8_000_000  # rows held in memory at a time; about 100 bytes each with ids as text
MEMORY_BYTES = 800_000_000  # what these rows may take up at most, however many further columns they have
_SAMPLE = 1_000_000


@dataclass
class Cleaned:
    """What cleaning leaves."""

    spools: dict[str | None, Spool]
    report: dict[str, Any]  # what `dataset.json` says about it: the options, and for each step the rows that it dropped
    renumbered: dict[str, pl.DataFrame] = field(default_factory=dict)  # by id column after gap filling: `raw` and `new`


@dataclass
class _Rows:
    """All rows of all parts, as codes."""

    user: np.ndarray  # int32 `[n]`
    item: np.ndarray  # int32 `[n]`
    sign: np.ndarray  # int8 `[n]`
    time: np.ndarray | None  # float64 `[n]`
    part: np.ndarray  # int64 `[n_parts + 1]`: where each part begins
    users: pl.Series
    items: pl.Series  # ids by code


def clean(spools: Spools, options: Common, folder: Path) -> Cleaned:
    """Leave out rows as the options say, in the order: dedup (in each part); min_likes and k_core; gap_filling."""
    rows = _encode(spools, timed=options.dedup != "none")
    stays = np.ones(rows.user.size, bool)
    steps: list[dict[str, Any]] = []
    if options.dedup != "none":
        for begin, end in zip(rows.part[:-1], rows.part[1:], strict=True):
            part = slice(begin, end)
            pairs = rows.user[part].astype(np.int64) * rows.items.len() + rows.item[part]
            time = None if rows.time is None else rows.time[part]
            stays[part], *_ = resolve(pairs, rows.sign[part], time, options.dedup)
        steps.append({"step": "dedup", "dropped": _counts(rows.sign[~stays])})
    if options.min_likes or options.k_core:
        core = signed_core(
            rows.user[stays],
            rows.item[stays],
            rows.sign[stays],
            (rows.users.len(), rows.items.len()),
            min_likes=options.min_likes,
            k=options.k_core,
        )
        gone = np.zeros(rows.user.size, np.int8)
        gone[stays] = core.step_of_row
        for number, name in enumerate(("min_likes", "k_core"), 1):
            if getattr(options, name):
                dropped = _counts(rows.sign[gone == number])
                steps.append({"step": name, "dropped": dropped, "rounds": core.rounds})
        stays &= gone == 0
    _require_rows(list(spools), rows.part, stays, options)
    names = _numbers_anew(rows, stays) if options.gap_filling else {}
    report = {
        "options": {name: getattr(options, name) for name in ("dedup", "min_likes", "k_core", "gap_filling")},
        "rows_before": _counts(rows.sign),
        "steps": steps,
    }
    renumbered = {
        name: pl.DataFrame({"raw": ids, "new": names[name]}).drop_nulls("new").sort(pl.col("new").cast(int))
        for name, ids in zip(_IDS, (rows.users, rows.items), strict=True)
        if name in names
    }
    return Cleaned(_rewritten(spools, rows, stays, names, folder), report, renumbered)


def _encode(spools: Spools, *, timed: bool) -> _Rows:
    from recbole_signed.convert.token_codes import TokenCodes  # pandas takes long to import, and most never clean

    ids = {name: TokenCodes() for name in _IDS}
    part = np.cumsum([0, *(spool.rows for spool in spools.values())])
    n = int(part[-1])
    code = {name: np.empty(n, np.int32) for name in _IDS}
    sign, time = np.empty(n, np.int8), np.empty(n, np.float64) if timed else None
    at = 0
    for spool in spools.values():
        for frame in spool.frames():
            here = slice(at, at := at + frame.height)
            for name in _IDS:
                code[name][here] = ids[name].codes(frame[name])
            sign[here] = frame["sign"].to_numpy()
            if "timestamp" not in frame.columns:
                time = None
            elif time is not None:
                time[here] = frame["timestamp"].to_numpy()
    users, items = (ids[name].series() for name in _IDS)
    return _Rows(code["user_id"], code["item_id"], sign, time, part, users, items)


def resolve(
    pairs: npt.NDArray[np.int64], sign: npt.NDArray[np.int8], time: npt.NDArray[Any] | None, rule: str
) -> tuple[BoolArray, int, int]:
    """Return which rows stay, and how many rows repeat and pairs contradict: the ``last`` or ``first`` of a pair.

    By time, then by the order of the rows; neutral ones stay where their pair has no other. All stay by ``keep``.
    """
    stays = np.ones(len(pairs), dtype=bool)
    order = np.argsort(pairs)
    ordered = pairs[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return stays, 0, 0
    # only rows of repeated pairs are put in order: the row to be kept comes to the end of its pair, or the beginning
    rows = order[np.append(same, False) | np.insert(same, 0, False)]
    verdict = (sign[rows] != 0) == (rule != "first")
    keys = (rows, verdict, pairs[rows]) if time is None else (rows, time[rows], verdict, pairs[rows])
    rows = rows[np.lexsort(keys)]
    starts = np.flatnonzero(np.insert(pairs[rows[1:]] != pairs[rows[:-1]], 0, True))
    most, least = (reduce.reduceat(sign[rows], starts) for reduce in (np.maximum, np.minimum))
    if rule != "keep":
        stays[rows] = False
        stays[rows[starts if rule == "first" else np.append(starts[1:], len(rows)) - 1]] = True
    return stays, len(rows) - len(starts), int(((most > 0) & (least < 0)).sum())


def _require_rows(names: list[str | None], part: np.ndarray, stays: np.ndarray, options: Common) -> None:
    for index, name in enumerate(names):
        before = int(part[index + 1] - part[index])
        if not stays[part[index] : part[index + 1]].any():
            rows = counted(before, "row")
            what = rows if name is None else f"the {rows} of '{name}'"
            raise UsageError(
                f"Cleaning (min_likes={options.min_likes}, k_core={options.k_core}) leaves nothing of {what}; "
                "give smaller numbers."
            )


def _numbers_anew(rows: _Rows, stays: np.ndarray) -> dict[str, pl.Series]:
    """New ids by code, text; null for ids of which no row stays."""
    names = {}
    for name, ids, code in zip(_IDS, (rows.users, rows.items), (rows.user, rows.item), strict=True):
        used = np.unique(code[stays])
        texts = ids.gather(used)
        other = texts.filter(~texts.str.contains(_NUMBER))
        if other.len():
            raise UsageError(
                f"gap_filling numbers ids again that are whole numbers, but {name} has {min(other.to_list())!r}; "
                "leave it out, RecBole numbers the ids of any text by itself."
            )
        order = pl.DataFrame({"code": used, "id": texts}).sort(pl.col("id").cast(pl.Int64), "id")["code"].to_numpy()
        new = np.full(ids.len(), -1, np.int64)
        new[order] = np.arange(order.size)
        numbers = pl.Series(new)
        names[name] = numbers.cast(pl.String).set(numbers < 0, None)
    return names


def _rewritten(
    spools: Spools, rows: _Rows, stays: np.ndarray, names: Mapping[str, pl.Series], folder: Path
) -> dict[str | None, Spool]:
    cleaned: dict[str | None, Spool] = {}
    at = 0
    for index, (part, spool) in enumerate(spools.items()):
        made = cleaned[part] = Spool(folder / str(index))
        for frame in spool.frames():
            here = slice(at, at := at + frame.height)
            if names:
                code = {"user_id": rows.user[here], "item_id": rows.item[here]}
                frame = frame.with_columns(new.gather(code[name]).alias(name) for name, new in names.items())
            frame = frame.filter(pl.Series(stays[here]))
            if frame.height:
                made.add(frame)
    return cleaned


def _counts(sign: np.ndarray) -> dict[str, int]:
    like, dislike = int((sign == 1).sum()), int((sign == -1).sum())
    return {"total": sign.size, "like": like, "dislike": dislike, "neutral": sign.size - like - dislike}


def peel(
    columns: list[npt.NDArray[Any]],
    shape: tuple[int, int],
    conditions: Sequence[Callable[..., tuple[BoolArray, BoolArray]]],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
    """Leave out users and items, and their rows, until the rest fulfils all conditions, one a turn.

    ``columns`` are codes of users and items and what else the conditions look at, ``[n_rows]``, and used up. Returns
    the turn, from 1, at which each user and item was left out (or ``STAYS``), and the number of turns.
    """
    turns = [np.full(n, STAYS, np.int32) for n in shape]
    turn, changed = 0, True
    while changed:
        changed = False
        for condition in conditions:
            turn += 1
            new = [unfit & (left == STAYS) for unfit, left in zip(condition(*columns), turns, strict=True)]
            if any(gone.any() for gone in new):
                changed = True
                for left, gone in zip(turns, new, strict=True):
                    left[gone] = turn
                stay = ~(new[0][columns[0]] | new[1][columns[1]])
                columns[:] = [column[stay] for column in columns]
    return turns[0], turns[1], turn


@dataclass(frozen=True)
class Core:
    """What :func:`signed_core` finds."""

    step_of_row: np.ndarray  # int8 `[n]`: 0 the row stays, else what its user or item was first left out for
    rounds: int  # how often both conditions were looked at until nothing changed


def signed_core(
    user: np.ndarray, item: np.ndarray, sign: np.ndarray, shape: tuple[int, int], *, min_likes: int = 0, k: int = 0
) -> Core:
    """Return at which step users of few liked items, then users and items of few neighbours, are left out."""
    n_users, n_items = shape
    key = user.astype(np.int64) * n_items + item
    pairs = distinct(key[sign != 0])
    is_liked = np.zeros(pairs.size, bool)
    is_liked[np.searchsorted(pairs, key[sign == 1])] = True
    del key
    none = np.zeros(n_items, bool)

    def likes_few(u: np.ndarray, i: np.ndarray, liked: np.ndarray) -> tuple[BoolArray, BoolArray]:
        return np.bincount(u[liked], minlength=n_users) < min_likes, none

    def has_few(u: np.ndarray, i: np.ndarray, liked: np.ndarray) -> tuple[BoolArray, BoolArray]:
        return np.bincount(u, minlength=n_users) < k, np.bincount(i, minlength=n_items) < k

    columns = [pairs // n_items, pairs % n_items, is_liked]
    del pairs, is_liked
    user_turn, item_turn, turns = peel(columns, shape, [likes_few, has_few])
    turn_of_row = np.minimum(user_turn[user], item_turn[item])
    step_of_row = np.where(turn_of_row == STAYS, 0, np.where(turn_of_row % 2 == 1, MIN_LIKES, K_CORE))
    return Core(step_of_row.astype(np.int8), turns // 2)


class Spool:
    """Takes frames of equal columns in file order, gives them back by time; more than ``MEMORY_ROWS`` go to disk."""

    def __init__(self, folder: Path) -> None:
        self.rows = self._bytes = 0
        self._folder = folder
        self._pending: list[pl.DataFrame] = []
        self._segments: list[Path] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Take the next rows."""
        self._pending.append(frame)
        self.rows += frame.height
        self._bytes += int(frame.estimated_size())
        pending = pl.concat(self._pending, rechunk=False)
        if pending.height > MEMORY_ROWS or pending.estimated_size() > MEMORY_BYTES:
            self._folder.mkdir(parents=True, exist_ok=True)
            segment = self._folder / f"{len(self._segments):05d}.parquet"
            pending.write_parquet(segment, compression="lz4")
            self._segments.append(segment)
            self._pending = []

    def frames(self) -> Iterator[pl.DataFrame]:
        """Give all rows in the order they came, a segment at a time."""
        yield from map(pl.read_parquet, self._segments)
        yield from self._pending

    def scan(self) -> pl.LazyFrame:
        """All rows in the order they came."""
        return pl.concat([*map(pl.scan_parquet, self._segments), *(frame.lazy() for frame in self._pending)])

    @property
    def pieces(self) -> int:
        """How many pieces of ``MEMORY_ROWS``, or of ``MEMORY_BYTES``, the rows make."""
        return max(1, -(-self.rows // MEMORY_ROWS), -(-self._bytes // MEMORY_BYTES))

    def in_time_order(self) -> Iterator[pl.DataFrame]:
        """Yield the rows sorted by ``timestamp``, ties as they came; all as they came where there is none."""
        scan = self.scan()
        if "timestamp" not in scan.collect_schema():
            yield from self.frames()
            return
        time = pl.col("timestamp")
        bounds = self._bounds(scan) if self.pieces > 1 else []
        for low, high in zip([None, *bounds], [*bounds, None], strict=True):
            piece = scan if low is None else scan.filter(time >= low)
            piece = piece if high is None else piece.filter(time < high)
            yield piece.collect().sort("timestamp", maintain_order=True)

    def _bounds(self, scan: pl.LazyFrame) -> list[float]:
        """Moments between which there are about ``MEMORY_ROWS`` rows each, from every n-th row."""
        sample = scan.select("timestamp").gather_every(max(1, self.rows // _SAMPLE)).collect()["timestamp"].sort()
        cuts = {sample[sample.len() * piece // self.pieces] for piece in range(1, self.pieces)}
        return sorted(cuts)
