"""A data set of atomic files as a stream: its interactions in the order of their time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recbole_signed.atomic import read_rows
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import milliseconds
from recbole_signed.live import LIKE, EventBatch
from recbole_signed.live.events import DISLIKE, VIEW, content_id
from recbole_signed.live.sources.source import EventSource, Polled

_MILLISECONDS = 1000


class AtomicSource(EventSource):
    """Replays ``.inter`` files; a position counts rows by time. Likes and dislikes are those of the sign, 0 is a view.

    Rows of equal time stay in the order of the file. Time stamps become milliseconds; their size tells the unit that
    they have in the file (:mod:`recbole_signed.ids_and_times`). Columns, separator and sign are those of the yaml
    beside the files (:func:`recbole_signed.atomic.read_rows`).

    Args:
        path: a ``.inter`` file, or the folder of a data set.
        sign_rule: the like and dislike conditions (`SignRule.parse`) in place of the data set's own sign.
        start: seconds; rows before it are left out.
        end: seconds; rows from it on are left out.

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
        rows = read_rows(path, sign_rule)
        if rows.times is None or rows.tokens is None:
            raise UsageError(
                f"{path} has no column of times, which a replay needs; set TIME_FIELD to a column of the type float."
            )
        times = milliseconds(rows.times, f"the time of {path}")
        taken = np.ones(len(times), dtype=bool)
        if start is not None:
            taken &= times >= start * _MILLISECONDS
        if end is not None:
            taken &= times < end * _MILLISECONDS
        if taken.any() and times[taken].min() < 0:
            raise UsageError(
                f"{path} holds times before 1970, which no event has; give 'start', or move all times to later ones."
            )
        order = np.flatnonzero(taken)
        order = order[np.argsort(times[order], kind="stable")]
        self._tokens = rows.tokens
        self._users, self._items = rows.users[order], rows.items[order]
        self._times = times[order]
        self._types = np.array([VIEW, LIKE, DISLIKE], dtype=np.int8)[rows.signs[order]]  # -1 counts from the end
        self._row = 0

    def __len__(self) -> int:
        return len(self._times)

    def seek(self, position: str | None) -> None:
        """Go to a row by time."""
        self._row = int(position or 0)

    def poll(self, max_events: int) -> Polled:
        """Give the next ``max_events`` rows."""
        rows = slice(self._row, min(self._row + max_events, len(self)))
        users, items = (
            tokens.gather(codes[rows]).to_list()
            for tokens, codes in zip(self._tokens, (self._users, self._items), strict=True)
        )
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
