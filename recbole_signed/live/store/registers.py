"""What is remembered of a pair of user and item, so that events may come in any order.

A pair has four registers: the latest like or dislike, the latest skip or view, and the latest ``unlike`` and
``undislike`` after the verdict, by time stamp, then ``seq``. It is seen as its verdict unless that was taken back, else
as its skip or view, else as nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_signed.arrays import begins
from recbole_signed.live import LIKE
from recbole_signed.live.events import ABSENT, DISLIKE, SKIP, UNDISLIKE, UNLIKE, VIEW

NEVER = -1
COLUMNS: dict[str, type] = {
    "explicit": np.int8,  # LIKE, DISLIKE or ABSENT
    "neutral": np.int8,  # SKIP, VIEW or ABSENT
    "explicit_time": np.int64,  # NEVER for none
    "neutral_time": np.int64,
    "unlike_time": np.int64,
    "undislike_time": np.int64,
}


@dataclass
class Registers:
    """The registers of n pairs, columns ``[n]``."""

    explicit: np.ndarray
    neutral: np.ndarray
    explicit_time: np.ndarray
    neutral_time: np.ndarray
    unlike_time: np.ndarray
    undislike_time: np.ndarray

    @classmethod
    def none(cls, n: int) -> Registers:
        """Give the registers of pairs of which nothing is known."""
        return cls(*(np.full(n, NEVER if dtype is np.int64 else ABSENT, dtype) for dtype in COLUMNS.values()))

    def columns(self) -> dict[str, np.ndarray]:
        """Give the columns by name."""
        return dict(vars(self))

    def take(self, rows: np.ndarray) -> Registers:
        """Copy some of the pairs."""
        return Registers(*(column[rows] for column in vars(self).values()))

    def put(self, rows: np.ndarray, other: Registers) -> None:
        """Overwrite some of the pairs."""
        for name, column in vars(self).items():
            column[rows] = getattr(other, name)

    def kind(self) -> np.ndarray:
        """What each pair is seen as, int8: LIKE, DISLIKE, SKIP, VIEW or ABSENT."""
        return np.where(self._live(), self.explicit, self.neutral)

    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """What each pair is seen as, and the time stamp of that, NEVER for ABSENT."""
        live = self._live()
        return np.where(live, self.explicit, self.neutral), np.where(live, self.explicit_time, self.neutral_time)

    def newest(self, *, verdicts: bool = False) -> np.ndarray:
        """Newest time stamp of each pair, seen or taken back, with ``verdicts`` of those alone; NEVER for none."""
        others = [] if verdicts else [self.neutral_time, self.unlike_time]
        return np.maximum.reduce([self.explicit_time, self.undislike_time, *others])

    def _live(self) -> np.ndarray:
        taken_back = np.where(self.explicit == LIKE, self.unlike_time != NEVER, self.undislike_time != NEVER)
        return (self.explicit != ABSENT) & ~taken_back

    def after(self, events: PairEvents) -> Registers:
        """Give the registers after later rows of the log, for the same pairs."""
        time, kind = events.time, events.kind
        e, n = events.explicit, events.neutral
        takes = (e >= 0) & (time[e] >= self.explicit_time)
        explicit_time = np.where(takes, time[e], self.explicit_time)

        def retraction(before: np.ndarray, index: np.ndarray) -> np.ndarray:
            kept = np.where(takes & (before <= explicit_time), NEVER, before)
            counts = (index >= 0) & np.where(takes, index > e, time[index] >= explicit_time)
            return np.maximum(kept, np.where(counts, time[index], NEVER))

        newer = (n >= 0) & (time[n] >= self.neutral_time)
        return Registers(
            np.where(takes, kind[e], self.explicit),
            np.where(newer, kind[n], self.neutral),
            explicit_time,
            np.where(newer, time[n], self.neutral_time),
            retraction(self.unlike_time, events.unlike),
            retraction(self.undislike_time, events.undislike),
        )


@dataclass(frozen=True)
class PairEvents:
    """Events by pair, ``[m]`` sorted: the place of the last of each sort in ``time`` and ``kind``, or -1."""

    user: np.ndarray
    item: np.ndarray
    explicit: np.ndarray
    neutral: np.ndarray
    unlike: np.ndarray
    undislike: np.ndarray
    time: np.ndarray
    kind: np.ndarray

    @classmethod
    def from_columns(cls, user: np.ndarray, item: np.ndarray, kind: np.ndarray, time: np.ndarray) -> PairEvents:
        """Group events ``[n]``, given in the order of their ``seq``; there must be at least one."""
        key = (user.astype(np.int64) << 32) | item.astype(np.int64)
        order = np.lexsort((time, key))  # stable: equal times stay in the order of seq
        key, kind, time = key[order], kind[order].astype(np.int8), time[order]
        first = np.flatnonzero(begins(key))
        places = np.arange(len(key))

        def last(chosen: np.ndarray) -> np.ndarray:
            return np.maximum.reduceat(np.where(chosen, places, -1), first)

        return cls(
            (key[first] >> 32).astype(np.int32),
            (key[first] & 0xFFFFFFFF).astype(np.int32),
            last((kind == LIKE) | (kind == DISLIKE)),
            last((kind == SKIP) | (kind == VIEW)),
            last(kind == UNLIKE),
            last(kind == UNDISLIKE),
            time,
            kind,
        )
