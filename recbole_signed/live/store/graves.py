"""Refuses late events of forgotten users, by a rule that reveals nothing once it ends.

Forgetting a user leaves a *grave*: a digest of its id under a random key, and the time stamp of the forgetting. An
event of that user which is not newer is refused for the time of grace, so that what was delayed on its way, or is
delivered once more, does not bring the user back; a newer one is of somebody who came back, and is taken. Graves of
one day have one key, and it is destroyed, with them, at the first opening or batch after the grace of that day has
ended: overwritten in the log (``secure_delete``), and the write-ahead file emptied. From then on nothing in the
directory can confirm a guessed id. Until then whoever holds the directory can: a grace of 0 leaves no grave at all.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Mapping

import numpy as np

from recbole_signed.live import EventBatch
from recbole_signed.live.events import FORGET_USER
from recbole_signed.live.store.settings import DAY

_SIZE = 16


class Graves:
    """The tables ``graves`` and ``grave_keys``.

    Args:
        connection: to the log.
        grace: seconds, see :class:`~recbole_signed.live.store.settings.StateSettings`.
    """

    def __init__(self, connection: sqlite3.Connection, grace: int) -> None:
        self._connection, self._grace = connection, grace
        self.reload()

    def reload(self) -> None:
        """Read the tables."""
        self._keys: dict[int, bytes] = dict(self._connection.execute("SELECT until, key FROM grave_keys"))
        self._times: dict[bytes, int] = dict(self._connection.execute("SELECT digest, timestamp FROM graves"))

    def __len__(self) -> int:
        return len(self._times)

    def late(self, batch: EventBatch) -> np.ndarray:
        """Return which events are of users who were forgotten after them, bool ``[n]``; repeated forgettings too."""
        late = np.zeros(len(batch), dtype=bool)
        if not self._grace or not (self._times or (batch.type == FORGET_USER).any()):
            return late
        here: dict[str, int] = {}
        rows = zip(batch.user_id, batch.type.tolist(), batch.timestamp.tolist(), strict=True)
        for row, (token, kind, stamp) in enumerate(rows):
            if stamp <= max(here.get(token, -1), self.time_of(token)):
                late[row] = True
            elif kind == FORGET_USER:
                here[token] = stamp
        return late

    def time_of(self, token: str) -> int:
        """Return the time stamp up to which events of a user are late, in milliseconds; -1: it has no grave."""
        return max((self._times.get(_digest(token, key), -1) for key in self._keys.values()), default=-1)

    def dig(self, forgotten: Mapping[str, int], now: int) -> None:
        """Add graves, token to time stamp, within a transaction that `reload` follows; ``now`` in milliseconds."""
        if not self._grace or not forgotten:
            return
        until = -(-(now // 1000 + self._grace) // DAY) * DAY
        key = self._keys.get(until) or os.urandom(32)
        self._connection.execute("INSERT OR IGNORE INTO grave_keys VALUES (?, ?)", (until, key))
        self._connection.executemany(
            "INSERT OR REPLACE INTO graves VALUES (?, ?, ?)",
            [(_digest(token, key), until, stamp) for token, stamp in forgotten.items()],
        )

    def has_ended(self, now: int) -> bool:
        """Return whether the grace of some graves is over."""
        return bool(self._keys) and min(self._keys) * 1000 <= now

    def level(self, now: int) -> None:
        """Remove the graves whose grace is over, and their keys, within a transaction that `reload` follows."""
        for table in ("graves", "grave_keys"):
            self._connection.execute(f"DELETE FROM {table} WHERE until * 1000 <= ?", (now,))


def _digest(token: str, key: bytes) -> bytes:
    return hashlib.blake2b(token.encode(), key=key, digest_size=_SIZE).digest()
