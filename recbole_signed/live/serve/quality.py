"""How good recommendations are right now: each verdict is held against the list that its user would have got.

It is looked up in the user's top-k first, then learned from; in Recall and NDCG one like is relevant a case. SignAUC
compares the percentiles of a random like and a random dislike of the window, each in its own user's ranking.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
MINUTE = 60_000  # milliseconds
WINDOWS = {"hour": 60, "day": 24 * 60}  # minutes of each window
BINS = 64  # of the histograms of percentiles; two verdicts in one bin count as a tie
GROUPS = ("new", "light", "heavy")  # users without edges, with fewer than HEAVY, and the others
HEAVY = 10


@dataclass(frozen=True)
class Case:
    """One verdict that was ranked before it was learned."""

    sign: int  # +1 or -1
    position: int | None  # in the user's list, from 0; None where it is not in it
    percentile: float  # share of a sample of items that score below the item
    version: str  # of the model
    variant: str  # of the user, `experiment=variant`, or empty
    edges: int  # of the user, before
    on_new_slot: bool = False  # in the list because places are kept for new items

    @property
    def group(self) -> str:
        """The user's group, one of :data:`GROUPS`."""
        return GROUPS[0] if not self.edges else GROUPS[1] if self.edges < HEAVY else GROUPS[2]


_COUNTS = 7  # sums of counts; behind them stand the histograms of likes and of dislikes


def _sums(case: Case) -> FloatArray:
    """Return what a case adds to the sums, ``[_COUNTS + 2 * BINS]``."""
    like, hit, new = case.sign > 0, case.position is not None, case.on_new_slot
    gain = 1 / np.log2(case.position + 2) if like and case.position is not None else 0.0
    sums = np.zeros(_COUNTS + 2 * BINS)
    sums[:_COUNTS] = like, not like, like and hit, gain, hit and not like, new and like, new and not like
    sums[_COUNTS + BINS * (not like) + min(int(case.percentile * BINS), BINS - 1)] = 1
    return sums


def _figures(sums: FloatArray) -> dict[str, float | int | None]:
    likes, dislikes, hits, gain, bad_hits, new_likes, new_dislikes = sums[:_COUNTS].tolist()
    return {
        "likes": int(likes),
        "dislikes": int(dislikes),
        "recall": hits / likes if likes else None,
        "ndcg": gain / likes if likes else None,
        "dislike_recall": bad_hits / dislikes if dislikes else None,
        "new_slot_likes": int(new_likes),
        "new_slot_dislikes": int(new_dislikes),
        "sign_auc": _auc(*np.split(sums[_COUNTS:], 2)),
    }


def _auc(likes: FloatArray, dislikes: FloatArray) -> float | None:
    """Return the probability that a like lies in a higher bin than a dislike, ties counting one half."""
    pairs = float(likes.sum()) * float(dislikes.sum())
    if not pairs:
        return None
    below = np.cumsum(dislikes) - dislikes
    return float((likes * (below + dislikes / 2)).sum() / pairs)


class RecentShare:
    """Share of one counter in another over the last hour, or since the last time it was asked for if that is longer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._noted = deque([(clock(), 0.0, 0.0)])

    def update(self, part: float, whole: float) -> tuple[float | None, float]:
        """Return the share, None where the second counter has not grown, and by how much that has grown."""
        with self._lock:
            now = self._clock()
            while len(self._noted) > 1 and self._noted[1][0] <= now - 3600:
                self._noted.popleft()
            _, part_before, whole_before = self._noted[0]
            if now - self._noted[-1][0] >= 60:
                self._noted.append((now, part, whole))
        grown = whole - whole_before  # below 0 where impressions of users who are forgotten went
        return ((part - part_before) / grown, grown) if grown > 0 else (None, 0.0)


class LiveQuality:
    """Running figures by version, variant and group of users; buckets of a minute, kept for a day."""

    def __init__(self, k: int = 20) -> None:
        self.k = k
        self._buckets: dict[int, dict[tuple[str, str, str], FloatArray]] = {}
        self._lock = threading.Lock()

    def add(self, cases: Iterable[Case], now: int) -> None:
        """Count cases in the minute of ``now``, milliseconds: the time of arrival, not that of the event."""
        minute, longest = now // MINUTE, max(WINDOWS.values())
        with self._lock:
            if minute not in self._buckets:  # also of a clock that was ahead for a while: what it left is of no minute
                self._buckets = {other: sums for other, sums in self._buckets.items() if abs(other - minute) < longest}
            bucket = self._buckets.setdefault(minute, {})
            for case in cases:
                key = case.version, case.variant, case.group
                bucket[key] = bucket.get(key, 0.0) + _sums(case)

    def _merged(self, now: int, minutes: int, name: Callable[[int, tuple[str, str, str]], Any]) -> dict[Any, Any]:
        """Return the figures of the last minutes by what ``name`` returns of a minute and a key, in its order."""
        last, merged = now // MINUTE, dict[Any, Any]()
        with self._lock:
            for minute, bucket in self._buckets.items():
                if 0 <= last - minute < minutes:
                    for key, sums in bucket.items():
                        merged[name(minute, key)] = merged.get(name(minute, key), 0.0) + sums
        return {key: _figures(sums) for key, sums in sorted(merged.items())}

    def figures(self, now: int, by: str | None = None) -> dict[str, dict[str, dict[str, Any]]]:
        """Return window -> value of ``by`` (``all`` for None) -> figures; a figure without cases is None."""
        column = None if by is None else ("version", "variant", "group").index(by)
        return {
            window: self._merged(now, minutes, lambda _, key: "all" if column is None else key[column])
            for window, minutes in WINDOWS.items()
        }

    def curve(self, now: int, step: int = 10) -> list[dict[str, Any]]:
        """Return the figures of all users in steps of ``step`` minutes over the last day, oldest first."""
        by_minute = self._merged(now, WINDOWS["day"], lambda minute, _: minute // step * step)
        return [{"time": minute * MINUTE, **figures} for minute, figures in by_minute.items()]
