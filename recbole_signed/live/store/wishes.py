"""What users ask for beside verdicts, as the log keeps it: the newest of each user and target.

The table is made by the first such event, so that a log without one is as it ever was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.live import EventBatch
from recbole_signed.live.event_fields import ASKING, HIDE, OF_ITEMS
from recbole_signed.live.store.database import WISHES, damaged, text_sum
from recbole_signed.live.store.edge_views import LogBatch
from recbole_signed.live.store.vocabulary import Vocabulary

_KINDS = np.array(sorted(ASKING))
_COLUMNS = "user, item, feature, value, sign, timestamp, until, seq"
_PUT = (
    f"INSERT INTO wishes ({_COLUMNS}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (user, item, feature, value) DO UPDATE SET sign = excluded.sign, timestamp = excluded.timestamp, "
    "until = excluded.until, seq = excluded.seq, checksum = excluded.checksum "
    "WHERE excluded.timestamp >= wishes.timestamp"
)


@dataclass(frozen=True)
class Wish:
    """The newest of one user and target; ``sign`` -1 less, 1 more, 0 taken back; ``until`` None for no end."""

    item: int
    feature: str
    value: str
    sign: int
    timestamp: int
    until: int | None

    @property
    def dislikes(self) -> bool:
        """Whether it is a dislike of an item, or of a value that this has."""
        return self.item > 0 and self.value != OF_ITEMS[HIDE]

    def as_json(self, items: Vocabulary) -> dict[str, Any]:
        """Return it as JSON, with the id of its item."""
        kind = ("dislike" if self.dislikes else "hide") if self.item else "less" if self.sign < 0 else "more"
        item = items.tokens([self.item])[0] if self.item else None
        feature = self.feature or None
        return {"kind": kind, "feature": feature, "item": item, "timestamp": self.timestamp, "until": self.until}


class Wishes:
    """The table ``wishes``, and what memory holds of it."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._of: dict[int, dict[tuple[int, str, str], Wish]] = {}
        if self._exists():
            self._read("TRUE")

    def add(self, new: EventBatch, logged: LogBatch, seq_of: Callable[[str], int]) -> None:
        """Keep what new events ask for, in their transaction; an undo by event takes back nothing newer."""
        asking = np.flatnonzero(np.isin(logged.type, _KINDS)).tolist()
        if not asking:
            return
        self._connection.execute(WISHES.replace("TABLE", "TABLE IF NOT EXISTS", 1))
        for place in asking:
            asked = json.loads(new.features[int(logged.seq[place]) - logged.first_seq])
            user, item, kind, at, seq = (
                int(column[place]) for column in (logged.user, logged.item, logged.type, logged.timestamp, logged.seq)
            )
            until = at + round(1000 * asked["duration"]) if "duration" in asked else None
            named = [(0, name, value) for name, values in asked.get("features", {}).items() for value in values]
            if "event" in asked:
                query = "SELECT item, feature, value FROM wishes WHERE user = ? AND seq = ?"
                named = self._connection.execute(query, (user, seq_of(asked["event"]))).fetchall()
            for target in [(item, asked.get("about", ""), OF_ITEMS[kind])] if kind in OF_ITEMS else named:
                row = (user, *target, ASKING[kind], at, until, seq)
                self._connection.execute(_PUT, (*row, text_sum(row)))

    def erase_users(self, users: Iterable[int]) -> None:
        """Remove what users asked for, within a transaction."""
        if self._exists():
            query = "DELETE FROM wishes WHERE user IN (SELECT value FROM json_each(?))"
            self._connection.execute(query, (json.dumps(list(users)),))

    def drop(self, before: int, most: int) -> bool:
        """Remove, within a transaction, some that ended or were taken back before a time; return whether it did.

        Of such a target an event that comes later counts, however old its time stamp.
        """
        if not self._exists():
            return False
        query = (
            "SELECT user, item, feature, value FROM wishes "
            "WHERE CASE sign WHEN 0 THEN timestamp ELSE until END < ? LIMIT ?"
        )
        gone = self._connection.execute(query, (before, most)).fetchall()
        delete = "DELETE FROM wishes WHERE user = ? AND item = ? AND feature = ? AND value = ?"
        self._connection.executemany(delete, gone)
        keys: dict[int, set[tuple[int, str, str]]] = {}
        for user, *key in gone:
            keys.setdefault(user, set()).add((key[0], key[1], key[2]))
        for user, over in keys.items():  # replaced as a whole, as in `_read`
            self._of[user] = {key: wish for key, wish in self._of.get(user, {}).items() if key not in over}
        return bool(gone)

    def follow(self, logged: LogBatch, forgotten: Iterable[int]) -> None:
        """Take in what the events of a batch have changed, and let go of forgotten users."""
        for user in forgotten:
            self._of.pop(int(user), None)
        asking = np.unique(logged.user[np.isin(logged.type, _KINDS)]).tolist()
        if asking and self._exists():  # the key begins with the user
            self._read("user IN (SELECT value FROM json_each(?)) AND seq >= ?", json.dumps(asking), logged.first_seq)

    def _exists(self) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE name = 'wishes'"
        return self._connection.execute(query).fetchone() is not None

    def _read(self, which: str, *values: Any) -> None:
        wishes: dict[int, dict[tuple[int, str, str], Wish]] = {}
        query = f"SELECT {_COLUMNS}, checksum FROM wishes WHERE {which}"
        for *row, checksum in self._connection.execute(query, values):
            if checksum != text_sum(tuple(row)):
                raise damaged(self._path, "what a user asked for is not what was written")
            user, *wish, _ = row
            wishes.setdefault(user, {})[tuple(wish[:3])] = Wish(*wish)
        for user, own in wishes.items():  # another thread may be reading those of the user: replaced as a whole
            self._of[user] = {**self._of.get(user, {}), **own}

    def newest(self, user: int) -> int:
        """Return the newest time stamp of what a user asked for or took back; -1 for nothing."""
        return max((wish.timestamp for wish in self._of.get(user, {}).values()), default=-1)

    def in_force(self, user: int, now: int) -> list[Wish]:
        """Return what a user asks for that was neither taken back nor has ended, the newest first."""
        wishes = [
            wish for wish in self._of.get(user, {}).values() if wish.sign and (wish.until is None or wish.until > now)
        ]
        return sorted(wishes, key=lambda wish: (-wish.timestamp, wish.item, wish.feature, wish.value))
