"""The source ``yambda``: Yandex' music log (arXiv 2505.22238) with likes, dislikes and their removal.

Explicit feedback becomes the last state of each pair, listens are rows. ``split=official`` is that of the authors'
``constants.py``: the last day for test, the day before for validation, gaps of 30 minutes, no users new to train.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from recbole_signed.convert.base import Converter, Part, find_files
from recbole_signed.convert.batch import Batch, unrecorded
from recbole_signed.convert.columns import number, require_value, token
from recbole_signed.convert.options import option
from recbole_signed.convert.tables import open_table
from recbole_signed.errors import UsageError

_EXPLICIT = {"like": 1, "unlike": 1, "dislike": -1, "undislike": -1}  # the state of a pair that it sets or ends
_ENDS = ("unlike", "undislike")
_KEYS = ("uid", "item_id", "timestamp", "is_organic")
END, DAY, GAP = 26_000_000, 86_400, 1_800  # of the official protocol, in seconds: end of the log, day, gap of parts
_STATE_ROWS = 30_000_000  # explicit events whose pairs are worked out at a time, about 40 bytes each
Window = tuple[int, int]
_TEST = END - DAY
_VALID = _TEST - GAP - DAY
WINDOWS: dict[str, Window] = {"train": (0, _VALID - GAP), "valid": (_VALID, _TEST - GAP), "test": (_TEST, END + 1)}
"""First moment of each part of the official protocol, and the first after it."""


@dataclass(frozen=True)
class Options:
    """What becomes of listens and of edges that were removed."""

    listens: Literal["neutral", "like", "none"] = option(
        "neutral", "a listen is a neutral row; or a like from listen_pct on and else neutral; or left out"
    )
    listen_pct: float = option(50.0, "played_ratio_pct from which a listen is a like under listens=like")
    removed: Literal["drop", "neutral"] = option(
        "drop", "a pair whose like or dislike was taken back and has no other is left out, or is a neutral row"
    )
    split: Literal["none", "official"] = option("none", "one file, or the parts of the authors' protocol")


class Yambda(Converter):
    """Reads a folder with ``likes.parquet`` and so on, or ``multi_event.parquet``, of the layout ``flat``."""

    name = "yambda"
    summary = "Yambda (flat/50m, 500m, 5b): folder of likes, dislikes, unlikes, undislikes, listens, or multi_event"
    licence = "Apache-2.0 (Ploshkin et al., Yambda-5B, 2025)"
    options_class = Options
    unix_time = False
    types: Mapping[str, str] = {"event": "token"}

    def __init__(self, input: Path | None, options: Options) -> None:
        super().__init__(input, options)
        if not 0 <= options.listen_pct <= 100:
            raise UsageError(f"listen_pct={options.listen_pct:g} is not a percentage; give 0 to 100.")

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The file of each event type, or of ``multi_event``."""
        if self.input.is_file():
            return {"multi_event": self.input}
        events = [*_EXPLICIT, "listen"]
        files = {event: find_files(self.input, [f"{event}s.parquet"]) for event in events}
        multi = find_files(self.input, ["multi_event.parquet"])
        if files["like"] and files["dislike"]:
            if self.options.listens == "like" and not files["listen"]:
                raise UsageError(
                    f"{self.input} holds no listens.parquet, which listens=like reads; add that file, or give another "
                    "listens=."
                )
            ends = next((event for event in _ENDS if not files[event]), None)
            if ends is not None:
                raise UsageError(
                    f"{self.input} holds no {ends}s.parquet, without which what users took back would count; add it."
                )
            return {event: paths[0] for event, paths in files.items() if paths}
        if multi:
            return {"multi_event": multi[0]}
        raise UsageError(
            f"{self.input} holds neither likes.parquet and dislikes.parquet nor multi_event.parquet; "
            "give a folder such as flat/50m."
        )

    def default_name(self) -> str:
        """``yambda-50m`` for the folder ``50m``, ``yambda`` for a file."""
        if self.input.is_file():
            return self.name
        name = self.input.resolve().name
        return f"{self.name}-{name}" if name in ("50m", "500m", "5b") else super().default_name()

    def inputs(self) -> list[Path]:
        """The files that are read."""
        return [path for event, path in self._files.items() if event != "listen" or self.options.listens != "none"]

    def parts(self) -> Iterable[Part]:
        """The states of pairs, and the listens: one part, or those of the protocol."""
        if self.options.split == "none":
            return [Part(None, self._batches(None), self.types)]
        return [Part(name, self._batches(window), self.types) for name, window in WINDOWS.items()]

    @cached_property
    def _known(self) -> pl.Series:
        """The users of the training part."""
        events = {*_EXPLICIT, "listen"} if self.options.listens != "none" else set(_EXPLICIT)
        with unrecorded():
            early = (_within(batch, WINDOWS["train"]).frame["uid"].unique() for batch in self._events([*_KEYS], events))
            return pl.concat([pl.Series("uid", [], pl.Int64), *(users.cast(pl.Int64) for users in early)]).unique()

    def _in_part(self, batch: Batch, window: Window | None) -> Batch:
        if window is None:
            return batch
        batch = _within(batch, window)
        if window is WINDOWS["train"]:
            return batch
        return batch.keep(batch.frame["uid"].cast(pl.Int64).is_in(self._known.implode()))

    def _batches(self, window: Window | None) -> Iterator[Batch | pl.DataFrame]:
        first = window in (None, WINDOWS["train"])  # the files are read again for each part
        with unrecorded():
            counts = sum(batch.frame.height for batch in self._explicit(window))
        pieces = max(1, -(-counts // _STATE_ROWS))
        for piece in range(pieces):
            mine = pl.col("uid").hash(0) % pieces == piece
            with _recording(first and not piece):
                frames = [batch.frame.filter(mine) if pieces > 1 else batch.frame for batch in self._explicit(window)]
            if frames:
                yield _states(pl.concat(frames), removed=self.options.removed)
        if self.options.listens != "none":
            yield from self._listens(window, first)

    def _explicit(self, window: Window | None) -> Iterator[Batch]:
        for batch in self._events(list(_KEYS), set(_EXPLICIT)):
            yield self._in_part(batch, window).with_columns(pl.col("event").cast(pl.Enum([*_EXPLICIT])))

    def _listens(self, window: Window | None, recorded: bool) -> Iterator[Batch]:
        for batch in self._events([*_KEYS, "played_ratio_pct"], {"listen"}, recorded):
            batch = number(self._in_part(batch, window), "played_ratio_pct", purpose="the share of a listen")
            liked = pl.col("played_ratio_pct") >= (self.options.listen_pct if self.options.listens == "like" else 1e9)
            yield _interactions(batch, liked.cast(pl.Int8))

    def _events(self, columns: list[str], events: set[str], recorded: bool = True) -> Iterator[Batch]:
        """Rows of these event types with a column ``event``, checked; whether bad ones are recorded."""
        for event, path in self._files.items():
            if event == "multi_event":
                for batch in open_table(path).batches([*columns, "event_type"]):
                    batch = token(batch, "event_type")
                    if events != {"listen"}:  # the same rows are read once more for the listens
                        batch = _of_known_type(batch)
                    types = batch.frame["event_type"]
                    batch = batch.with_columns(types.alias("event")).keep(types.is_in(sorted(events)))
                    yield _checked(batch, recorded)
            elif event in events:
                for batch in open_table(path).batches(columns):
                    yield _checked(batch.with_columns(pl.lit(event).alias("event")), recorded)


def _within(batch: Batch, window: Window) -> Batch:
    """Go on with the rows of a part, from its beginning to before its end."""
    first, end = window
    return batch.keep((batch.frame["timestamp"] >= first) & (batch.frame["timestamp"] < end))


def _of_known_type(batch: Batch) -> Batch:
    types = [*_EXPLICIT, "listen"]
    problem = f"event_type {{value!r}}, one of {', '.join(types)} was expected"
    return batch.require(batch.frame["event_type"].is_in(types), problem, "event_type")


def _recording(recorded: bool) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if recorded else unrecorded()


def _checked(batch: Batch, recorded: bool) -> Batch:
    """Refuse lists (the layout ``sequential``), and rows without id or time."""
    for column in _KEYS:
        dtype = batch.frame.schema[column]
        if not dtype.is_integer():
            hint = "; give the files of the layout flat" if dtype.is_nested() else ""
            raise UsageError(f"{batch.origin}: column {column!r} holds {dtype}, integers were expected{hint}.")
        with _recording(recorded):
            batch = require_value(batch, column)
    return batch


def _states(events: pl.DataFrame, removed: str) -> pl.DataFrame:
    """Return the last state of each pair, one row a pair; a removed edge is dropped or ``neutral``."""
    events = events.with_columns(
        pl.col("event").replace_strict(_EXPLICIT, return_dtype=pl.Int8).alias("side"),
        pl.col("event").is_in(_ENDS).alias("ends"),
    )
    # the last event of each side of a pair, an end after a beginning of the same moment
    events = events.sort("timestamp", "ends", maintain_order=True)
    last = events.unique(["uid", "item_id", "side"], keep="last", maintain_order=True)
    # then of both sides the one that holds, the later first
    last = last.sort(~pl.col("ends"), "timestamp", maintain_order=True)
    last = last.unique(["uid", "item_id"], keep="last", maintain_order=True)
    if removed == "drop":
        last = last.filter(~pl.col("ends"))
    sign = pl.when("ends").then(0).otherwise("side").cast(pl.Int8)
    batch = Batch(last, "explicit feedback", range(1, last.height + 1))
    return _interactions(batch, sign).frame


def _interactions(batch: Batch, sign: pl.Expr) -> Batch:
    return batch.select(
        pl.col("uid").cast(pl.String).alias("user_id"),
        pl.col("item_id").cast(pl.String),
        sign.alias("sign"),
        pl.col("timestamp").cast(pl.Float64),
        pl.col("event").cast(pl.String),
        pl.col("is_organic").cast(pl.Float64),
    )
