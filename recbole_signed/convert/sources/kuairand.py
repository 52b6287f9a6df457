"""The source ``kuairand``: the logs of KuaiRand (Gao et al., CIKM 2022) in its versions Pure, 1K and 27K.

``user_sequences.parquet``, made by others, has what users of Pure saw before a log: 50 exposures at most, without
times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import polars as pl

from recbole_signed.convert.base import Converter, Features, find_files, find_one
from recbole_signed.convert.batch import Batch, unrecorded
from recbole_signed.convert.clock import Clock
from recbole_signed.convert.columns import filled, require_flag, require_value, sign_by_rule
from recbole_signed.convert.options import option
from recbole_signed.convert.raw_files import plain_name
from recbole_signed.convert.sign_rule import SignRule
from recbole_signed.convert.tables import open_table
from recbole_signed.errors import UsageError

_FLAGS = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter")
SIGNALS = (*_FLAGS, "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", "is_rand", "tab")
"""Columns of the log beyond ids and time. ``date`` and ``hourmin`` are left out: they contradict ``time_ms``."""
_LOGS = {"standard": ("log_standard_*.csv",), "random": ("log_random_*.csv",), "all": ("log_*.csv",)}
_VERSION = re.compile(r"_(pure|1k|27k)(?:_part\d+)?\.csv$")
_VIEW, _HISTORY, _SEQUENCES = "long_view", "is_history", "user_sequences.parquet"
_LIKED, _HATED = "is_like == 1 and is_hate == 0", "is_hate == 1 and is_like == 0"
_USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_VIDEO_NUMBERS = ("video_duration", "server_width", "server_height")


@dataclass(frozen=True)
class Options:
    """What makes the sign, and which logs are read."""

    signal: Literal["click", "long_view", "explicit", "explicit+skip"] = option(
        "click",
        "click: is_click 1 like, 0 dislike; long_view: the same of long_view; explicit: is_like like, is_hate "
        "dislike, both or neither neutral; explicit+skip: also a skip is a dislike",
    )
    skip_ms: int = option(3000, "a skip of explicit+skip: no click, no is_like, and played for less than this, in ms")
    log: Literal["standard", "random", "all"] = option(
        "standard", "of a folder: the logs under the platform's own policy, of randomly exposed videos, or both"
    )
    keep: tuple[str, ...] | None = option(
        None, "raw signals to carry over as further columns; default: all, with history long_view and is_history"
    )
    history: bool = option(
        False,
        "with signal=long_view: what user_sequences.parquet beside the log lists, as rows just before the log; their "
        "times keep each user's order and say nothing else",
    )


class KuaiRand(Converter):
    """Reads a folder (``KuaiRand-Pure`` or its ``data``), with features, or one log without.

    The time is ``time_ms``. ``video_features_statistic_*`` is not read: it counts over the whole period.
    """

    name = "kuairand"
    summary = "KuaiRand's logs (pure, 1k, 27k): a folder with log_*.csv and features, or one log; also compressed"
    licence = "CC BY-SA 4.0 (Gao et al., KuaiRand, CIKM 2022)"
    options_class = Options
    options: Options
    feature_files: ClassVar = {"user": ("user_features_*.csv",), "item": ("video_features_basic_*.csv",)}

    def __init__(self, input: Path | None, options: Options) -> None:
        super().__init__(input, options)
        known = (_VIEW, _HISTORY) if options.history else SIGNALS
        self._keep: tuple[str, ...] = known if options.keep is None else options.keep
        self.types = {name: "token" if name == "tab" else "float" for name in self._keep}
        unknown = [name for name in self._keep if name not in known]
        if unknown and options.history and unknown[0] in SIGNALS:
            raise UsageError(
                f"keep={unknown[0]!r} is not known of the history; with history=true keep {' or '.join(known)}."
            )
        if unknown:
            raise UsageError(f"keep={unknown[0]!r} is not a signal of KuaiRand; it has {', '.join(known)}.")
        if options.history and options.signal != _VIEW:
            raise UsageError(
                f"history=true needs signal={_VIEW}, since nothing else is known of the history, "
                f"and signal is {options.signal}."
            )

    @property
    def rule(self) -> SignRule:
        """The rule of the signal."""
        skipped = f"is_like == 0 and is_click == 0 and play_time_ms < {self.options.skip_ms}"
        like, dislike = {
            "click": ("is_click == 1", "is_click == 0"),
            "long_view": ("long_view == 1", "long_view == 0"),
            "explicit": (_LIKED, _HATED),
            "explicit+skip": (_LIKED, f"{_HATED} or {skipped}"),
        }[self.options.signal]
        return SignRule.parse({"like": like, "dislike": dislike})

    @cached_property
    def _logs(self) -> list[Path]:
        if self.input.is_file():
            return [self.input]
        logs = find_files(self.input, _LOGS[self.options.log], below="data")
        if not logs:
            expected = " or ".join(_LOGS[self.options.log])
            raise UsageError(
                f"{self.input} holds no {expected} (or .gz, .xz, .zst of it); give the folder of KuaiRand's logs, "
                "or log=all for those of another policy."
            )
        versions = {match[1] for log in logs if (match := _VERSION.search(plain_name(log)))}
        if len(versions) > 1:  # ids are numbered again in each version
            raise UsageError(
                f"{self.input} holds logs of several versions ({', '.join(sorted(versions))}), whose ids mean "
                "different users; keep each version in a folder of its own."
            )
        return logs

    def default_name(self) -> str:
        """As the folder, or ``kuairand-pure`` and the like for ``data`` and for a file."""
        match = _VERSION.search(plain_name(self._logs[0]))
        if match and (self.input.is_file() or self.input.resolve().name == "data"):
            return f"kuairand-{match[1]}"
        return super().default_name()

    def inputs(self) -> list[Path]:
        """The logs, and the features beside them."""
        history = [self._history] if self.options.history else []
        return [*self._logs, *history, *filter(None, map(self.feature_file, self.feature_files))]

    def feature_file(self, kind: str) -> Path | None:
        """Return the file of features beside the logs."""
        return self.beside(*self.feature_files[kind], folder=self._logs[0].parent)

    @cached_property
    def _history(self) -> Path:
        if self.input.is_file():
            raise UsageError(
                f"history=true needs a folder that holds the log and {_SEQUENCES}, but {self.input} is a file."
            )
        return find_one(self._logs[0].parent, [_SEQUENCES], "history of KuaiRand")

    def _log_begins(self) -> float:
        """First moment of the logs, which a history must lie before."""
        with unrecorded():
            times = [
                Clock("ms").seconds(batch, "time_ms").frame.select(pl.col("time_ms").min())
                for log in self._logs
                for batch in open_table(log, separator=",").batches(["time_ms"])
            ]
        first = pl.concat(times).to_series().min() if times else None
        if not isinstance(first, float):
            raise UsageError(f"{self._logs[0]} has no row with a time in time_ms, which the history must lie before.")
        _require_earlier(self._history, first)
        return first

    def batches(self) -> Iterator[Batch]:
        """Give the rows of all logs, after their history where it is wanted."""
        clock, rule = Clock("ms"), self.rule
        made = {_HISTORY} & set(self._keep)
        columns = ("user_id", "item_id", "sign", "timestamp", *self._keep)
        if self.options.history:
            for batch in _history_batches(self._history, self._log_begins()):
                batch = sign_by_rule(batch.with_columns(pl.lit(1.0).alias(_HISTORY)), rule)
                yield batch.select(*columns)
        read = dict.fromkeys(("user_id", "video_id", "time_ms", *rule.columns, *self._keep))
        read = {name: None for name in read if name not in made}
        for log in self._logs:
            for batch in open_table(log, separator=",").batches(list(read)):
                for flag in _FLAGS:
                    if flag in read:
                        batch = require_flag(batch, flag, flag)
                batch = sign_by_rule(clock.seconds(batch, "time_ms"), rule)
                if self.options.history:
                    batch = batch.with_columns(pl.lit(0.0).alias(_HISTORY), pl.col(_VIEW).cast(pl.Float64))
                frame = batch.frame.rename({"video_id": "item_id", "time_ms": "timestamp"})
                yield replace(batch, frame=frame).select(*columns)

    def user_features(self) -> Features | None:
        """Columns of ``user_features_*.csv``; counts are numbers, the rest categories."""
        return self._features("user", "user_id", _USER_NUMBERS)

    def item_features(self) -> Features | None:
        """Columns of ``video_features_basic_*.csv``; sizes and lengths are numbers (0 if not known)."""
        return self._features("item", "video_id", _VIDEO_NUMBERS)

    def _features(self, kind: str, id_column: str, numbers: Iterable[str]) -> Features | None:
        path = self.feature_file(kind)
        types = dict.fromkeys(numbers, "float") | {"tag": "token_seq"}
        return None if path is None else Features(_feature_batches(path, f"{kind}_id", id_column, numbers), types)


def _feature_batches(path: Path, new_name: str, id_column: str, numbers: Iterable[str]) -> Iterator[Batch]:
    table = open_table(path, separator=",")
    present = [name for name in numbers if name in table.columns]
    categories = [name for name in table.columns if name != id_column and name not in present]
    for batch in table.batches([id_column, *categories, *present]):
        batch = filled(filled(batch, *categories), *present, word="0")
        if "tag" in table.columns:
            batch = batch.with_columns(pl.col("tag").str.replace_all(",", " "))
        yield batch.select(pl.col(id_column).alias(new_name), *(name for name in table.columns if name != id_column))


def _require_earlier(path: Path, before: float) -> None:
    """Refuse a history most of which ends after ``before``, the start of the log; a little overlap is in its making."""
    late = users = 0
    with unrecorded():
        for batch in open_table(path).batches(["last_time_ms"]):
            ends = Clock("ms").seconds(batch, "last_time_ms").frame["last_time_ms"]
            late, users = late + int((ends >= before).sum()), users + ends.len()
    if 2 * late > users:
        raise UsageError(
            f"{path.name}: {late} of {users} histories end after the log begins, so the log holds them itself; "
            "leave the earlier log or history=true out."
        )


def _history_batches(path: Path, before: float) -> Iterator[Batch]:
    """Yield user, item, ``long_view`` and time of exposures, one a second, a user's last just before ``before``."""
    columns = ["user_id", "watch_seq", "long_watch_seq"]
    for batch in open_table(path).batches(columns):
        for column in columns:
            dtype = batch.frame.schema[column]
            inner = getattr(dtype, "inner", None) if column != "user_id" else dtype
            if inner is None or not inner.is_integer():
                expected = "integers" if column == "user_id" else "lists of integers"
                raise UsageError(f"{path.name}: column {column!r} holds {dtype}, {expected} were expected.")
            batch = require_value(batch, column)
        seen = pl.DataFrame({"row": batch.rows, "user_id": batch.frame["user_id"], "item_id": batch.frame["watch_seq"]})
        seen = seen.with_columns(steps=pl.int_ranges(pl.col("item_id").list.len(), 0, step=-1))
        seen = seen.filter(pl.col("item_id").list.len() > 0).explode("item_id", "steps")
        long = batch.frame.select("user_id", pl.col("long_watch_seq").alias("item_id")).explode("item_id")
        long = long.unique().with_columns(long_view=pl.lit(1.0))
        seen = seen.join(long, on=["user_id", "item_id"], how="left", maintain_order="left").with_columns(
            pl.col("long_view").fill_null(0.0), timestamp=before - pl.col("steps").cast(pl.Float64)
        )
        rows = seen["row"].to_numpy()
        frame = seen.select("user_id", "item_id", "long_view", "timestamp").with_columns(
            pl.col("user_id", "item_id").cast(pl.String)
        )
        yield Batch(frame, batch.origin, rows, batch.unit, batch.raw).require(
            frame["item_id"].is_not_null(), lambda _: "no value in a list of column 'watch_seq'", "watch_seq"
        )
