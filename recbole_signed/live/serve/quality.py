"""How good recommendations are right now: each verdict is held against the list that its user would have got.

It is looked up in the user's top-k first, then learned from; in Recall and NDCG one like is relevant a case. SignAUC
compares the percentiles of a random like and a random dislike of the window, each in its own user's ranking.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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


@dataclass
class _Sums:
    likes: int = 0
    dislikes: int = 0
    hits: int = 0
    gain: float = 0.0
    bad_hits: int = 0
    new_hits: int = 0
    new_bad_hits: int = 0
    high: np.ndarray = field(default_factory=lambda: np.zeros((2, BINS), dtype=np.int64))

    def add(self, case: Case) -> None:
        row = 0 if case.sign > 0 else 1
        self.high[row, min(int(case.percentile * BINS), BINS - 1)] += 1
        if case.on_new_slot:
            self.new_hits += case.sign > 0
            self.new_bad_hits += case.sign < 0
        if case.sign > 0:
            self.likes += 1
            if case.position is not None:
                self.hits += 1
                self.gain += 1 / np.log2(case.position + 2)
        else:
            self.dislikes += 1
            self.bad_hits += case.position is not None

    def merge(self, other: _Sums) -> None:
        for name in ("likes", "dislikes", "hits", "gain", "bad_hits", "new_hits", "new_bad_hits"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.high += other.high

    def figures(self) -> dict[str, float | int | None]:
        return {
            "likes": self.likes,
            "dislikes": self.dislikes,
            "recall": self.hits / self.likes if self.likes else None,
            "ndcg": self.gain / self.likes if self.likes else None,
            "dislike_recall": self.bad_hits / self.dislikes if self.dislikes else None,
            "new_slot_likes": self.new_hits,
            "new_slot_dislikes": self.new_bad_hits,
            "sign_auc": _auc(self.high[0], self.high[1]),
        }


def _auc(likes: np.ndarray, dislikes: np.ndarray) -> float | None:
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

    def of(self, part: float, whole: float) -> tuple[float | None, float]:
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
        self._buckets: dict[int, dict[tuple[str, str, str], _Sums]] = {}
        self._lock = threading.Lock()

    def add(self, cases: Iterable[Case], now: int) -> None:
        """Count cases in the minute of ``now``, milliseconds: the time of arrival, not that of the event."""
        minute, longest = now // MINUTE, max(WINDOWS.values())
        with self._lock:
            if minute not in self._buckets:  # also of a clock that was ahead for a while: what it left is of no minute
                self._buckets = {each: sums for each, sums in self._buckets.items() if abs(each - minute) < longest}
            sums = self._buckets.setdefault(minute, {})
            for case in cases:
                sums.setdefault((case.version, case.variant, case.group), _Sums()).add(case)

    def figures(self, now: int, by: str | None = None) -> dict[str, dict[str, dict[str, Any]]]:
        """Return window -> value of ``by`` (``all`` for None) -> figures; a figure without cases is None."""
        column = {"version": 0, "variant": 1, "group": 2}.get(by or "")
        found: dict[str, dict[str, _Sums]] = {}
        with self._lock:
            for window, minutes in WINDOWS.items():
                merged: dict[str, _Sums] = {}
                for minute, sums in self._buckets.items():
                    if 0 <= now // MINUTE - minute < minutes:
                        for key, each in sums.items():
                            merged.setdefault("all" if column is None else key[column], _Sums()).merge(each)
                found[window] = merged
        return {
            window: {name: each.figures() for name, each in sorted(merged.items())} for window, merged in found.items()
        }

    def curve(self, now: int, step: int = 10) -> list[dict[str, Any]]:
        """Return the figures of all users in steps of ``step`` minutes over the last day, oldest first."""
        last = now // MINUTE
        merged: dict[int, _Sums] = {}
        with self._lock:
            for minute, sums in self._buckets.items():
                if 0 <= last - minute < WINDOWS["day"]:
                    target = merged.setdefault(minute // step * step, _Sums())
                    for each in sums.values():
                        target.merge(each)
        return [{"time": minute * MINUTE, **each.figures()} for minute, each in sorted(merged.items())]
