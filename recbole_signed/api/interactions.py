"""Interactions from a table in memory, or from a data set folder: what ``fit`` takes."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recbole_signed.convert import convert
from recbole_signed.convert.build import check_name
from recbole_signed.convert.clock import TimeUnit
from recbole_signed.convert.dataset_versions import read_manifest
from recbole_signed.convert.sources.frame import convert_frame
from recbole_signed.errors import counted

NAME = "frame"  # name of a data set that is made from a table, where the user gives none


@dataclass(frozen=True)
class Interactions:
    """Likes, dislikes and neutral rows, checked and ready for :func:`~recbole_signed.fit`.

    Attributes:
        folder: the data set folder of RecBole atomic files; that of :func:`~recbole_signed.from_frame` is temporary
            and goes when the object does.
        n_users, n_items: distinct ids among all rows.
        n_likes, n_dislikes, n_neutral: rows by sign.
    """

    folder: Path
    n_users: int
    n_items: int
    n_likes: int
    n_dislikes: int
    n_neutral: int
    _kept: Any = field(default=None, repr=False, compare=False)
    """The temporary folder, which lasts as long as this object."""

    def __str__(self) -> str:
        """What it holds, for a reader."""
        return (
            f"{counted(self.n_users, 'user')}, {counted(self.n_items, 'item')}: {counted(self.n_likes, 'like')}, "
            f"{counted(self.n_dislikes, 'dislike')}, {counted(self.n_neutral, 'neutral row')}"
        )

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.folder.name


def from_frame(
    frame: Any,
    *,
    user: str | None = None,
    item: str | None = None,
    like: str | None = None,
    dislike: str | None = None,
    sign: str | None = None,
    rating: str | None = None,
    time: str | None = None,
    time_unit: TimeUnit = "auto",
    time_format: str | None = None,
    decimal: Literal[".", ","] = ".",
    keep: Sequence[str] = (),
    on_error: Literal["stop", "skip"] = "stop",
    dedup: Literal["none", "last", "first"] = "none",
    min_likes: int = 0,
    k_core: int = 0,
    items: Any = None,
    users: Any = None,
    name: str = NAME,
) -> Interactions:
    """Take interactions from a table in memory; the same rules and checks as ``recbole-signed convert csv``.

    Args:
        frame: a polars ``DataFrame`` or ``LazyFrame``, a pandas ``DataFrame`` (its index is left out), or an Arrow
            table, one row per interaction.
        user: column of the user id (text or integers); by default ``user_id``, ``user``, ``userId`` or ``uid``.
        item: column of the item id; by default ``item_id``, ``item``, ``itemId`` or ``iid``.
        like: rule for likes on any columns, such as ``"rating >= 4"`` or ``"click == 1 and hate == 0"``.
        dislike: rule for dislikes, such as ``"rating <= 2"``; ``"else"``: every row that is not a like; or ``"none"``.
            Rows that are neither are neutral.
        sign: in place of a rule, the column that holds -1, 0 and 1.
        rating: column of the rating, or ``"none"``; by default ``rating``, if there is one.
        time: column of the time, or ``"none"``; by default ``timestamp``, ``time``, ``date`` or ``datetime``. It
            holds dates, ``Datetime`` values (without a zone: UTC), ISO texts, or numbers since 1970.
        time_unit: of numbers: ``s``, ``ms``, ``us`` or ``ns``; ``auto`` tells them apart by their size, and refuses
            numbers that are too large for the unit of most rows.
        time_format: notation of dates in text that are not ISO's, by the codes of ``strftime``, such as
            ``"%d/%m/%Y %H:%M"``. A date without an offset is UTC; what is not in this notation is a bad row.
        decimal: what stands before the decimals of numbers in text, a point or a comma.
        keep: further columns to carry over, such as ``["price", "brand:token"]``.
        on_error: a bad row is an error (``stop``), or is left out (``skip``).
        dedup: which row counts of those of a pair: all (``none``), or the ``last`` or ``first`` verdict.
        min_likes: leave out users that like fewer items.
        k_core: leave out users and items with fewer likes and dislikes together, until all have enough.
        items: a table of features of items, one row per item, with the ids in a column of the same name as in
            ``frame`` (or ``item_id``). Numbers, texts and lists of either are features, cells may be blank, and rows
            of items that do not occur are left out. ``fit(..., features={"item": "all"})`` uses them.
        users: the same of users.
        name: of the data set.

    Returns:
        The interactions, in a temporary data set folder that goes when they do. What a reader of results should know of
        them, and how many bad rows were left out, is a warning.

    Raises:
        UsageError: no table, an unknown column, a wrong rule, or a bad row (with its number, from 1).

    Example:
        >>> import polars as pl, recbole_signed as rs
        >>> frame = pl.DataFrame({"user": ["a", "a", "b"], "item": [1, 2, 1], "rating": [5, 1, 4]})
        >>> rs.from_frame(frame, like="rating >= 4", dislike="rating <= 2").n_likes
        2
    """
    options = {
        "user": user,
        "item": item,
        "like": like,
        "dislike": dislike,
        "sign": sign,
        "rating": rating,
        "time": time,
        "time_unit": time_unit,
        "time_format": time_format,
        "decimal": decimal,
        "keep": (keep,) if isinstance(keep, str) else keep,
        "on_error": on_error,
        "dedup": dedup,
        "min_likes": min_likes,
        "k_core": k_core,
    }
    check_name(name)
    return _made(lambda folder: convert_frame(frame, folder / name, items, users, **options))


def from_file(path: Path | str, **options: Any) -> Interactions:
    """Take interactions from a file, with ``options`` of the source ``csv``, as ``convert csv`` does."""
    return _made(lambda folder: convert("csv", path, folder, **options))


def _made(make: Callable[[Path], Path]) -> Interactions:
    """Return the interactions of a data set that is made in a temporary folder, and warn as its manifest does."""
    kept = tempfile.TemporaryDirectory(prefix="recbole-signed-")
    try:
        folder = make(Path(kept.name))
    except BaseException:
        kept.cleanup()
        raise
    record = read_manifest(folder) or {}
    left_out = (record.get("rejected") or {}).get("rows", 0)
    if left_out:
        rows = counted(left_out, "bad row was", "bad rows were")
        warnings.warn(f"{rows} left out; see {folder / f'{folder.name}.rejected.tsv'}", stacklevel=3)
    for sentence in record.get("warnings", ()):
        warnings.warn(sentence, stacklevel=3)
    rows = record["rows"]
    return Interactions(
        folder=folder,
        n_users=record["users"],
        n_items=record["items"],
        n_likes=rows["like"],
        n_dislikes=rows["dislike"],
        n_neutral=rows["neutral"],
        _kept=kept,
    )
