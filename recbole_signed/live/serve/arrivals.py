"""The times of events that come without one: each is of now, and later than what was taken before of its pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole_signed.ids_and_times import id_text
from recbole_signed.live import OnlineRecommender
from recbole_signed.live.events import time_of
from recbole_signed.live.serve.traffic import now_ms

SET_BACK = 240_000
"""Milliseconds by which the clock may be set back without changing the order of events; less than what an event may lie
ahead of it."""


class Arrivals:
    """Gives times in the order of events: none is earlier than one before, though the clock is set back.

    A verdict would else be older than the one that it takes back, and change nothing.
    """

    def __init__(self) -> None:
        self._last = 0

    def now(self) -> int:
        """Return the clock, milliseconds since 1970."""
        now = now_ms()
        self._last = now if now >= self._last or self._last - now > SET_BACK else self._last + 1
        return self._last

    def times(self, rows: Sequence[Any], trainer: OnlineRecommender) -> dict[int, int]:
        """Return the times of rows that have none, by their places.

        Somebody's clock may be ahead, or that of this machine was, and what came with its time would stay the newest.
        So such a row is later than what was taken before of its user and item, and than a forgetting of the user: just
        after it where that lies ahead of the clock, however far.

        Args:
            rows: in the order in which they are taken in.
            trainer: that takes them in next.
        """
        untimed = [place for place, row in enumerate(rows) if isinstance(row, dict) and row.get("timestamp") is None]
        if not untimed:  # nothing is looked up
            return {}
        pairs = {place: _pair(rows[place]) for place in untimed}
        users, items = ([pair[side] for pair in pairs.values()] for side in (0, 1))
        least = dict(zip(untimed, trainer.times_to_follow(users, items), strict=True))
        times, here = dict[int, int](), dict[tuple[str, str], int]()
        waiting = set(users)
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                continue
            pair = pairs.get(place) or _pair(row)
            if pair[0] not in waiting:  # nothing depends on its time
                continue
            if place in least:
                times[place] = max(self.now(), least[place], here.get(pair, 0), here.get((pair[0], ""), 0))
            stamp = times[place] if place in least else time_of(row)
            if stamp is not None:
                pair = (pair[0], "") if row.get("type") == "forget_user" else pair
                here[pair] = max(here.get(pair, 0), stamp + 1)
        return times


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    return _id(row.get("user_id")), _id(row.get("item_id"))


def _id(given: Any) -> str:
    """Return an id as the state has it; nothing for what is none: such a row is refused later."""
    try:
        return id_text(given)
    except ValueError:
        return ""
