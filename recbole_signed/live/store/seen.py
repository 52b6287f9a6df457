"""Keyed digests: of the ids of events that were taken, by which duplicates are known, and of users who were forgotten.

Each digest keeps whose event it was of, and goes with its user. The XOR of the checksums of all rows finds damage.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Mapping, Sequence

import numpy as np

from recbole_signed.live import EventBatch
from recbole_signed.live.events import FORGET_USER
from recbole_signed.live.store.database import kept_sum, row_checksums
from recbole_signed.live.store.settings import DAY

_CHUNK = 500  # parameters of one query
_SIZE = 16  # bytes of a digest


class Seen:
    """The table ``seen``: digest, seq and user of each event."""

    def __init__(self, connection: sqlite3.Connection, key: bytes) -> None:
        self._connection = connection
        self._key = key

    def digest(self, event_id: str) -> bytes:
        """Return the digest of an id."""
        return _digest(event_id, self._key)

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Return those of the digests that are in the table."""
        known: set[bytes] = set()
        for start in range(0, len(digests), _CHUNK):
            part = digests[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            known.update(
                row[0] for row in self._connection.execute(f"SELECT digest FROM seen WHERE digest IN ({marks})", part)
            )
        return known

    def seq(self, digest: bytes) -> int:
        """Return the seq of an event, -1 where it is not in the table."""
        row = self._connection.execute("SELECT seq FROM seen WHERE digest = ?", (digest,)).fetchone()
        return int(row[0]) if row else -1

    def add(self, digests: Sequence[bytes], seq: np.ndarray, user: np.ndarray) -> None:
        """Add events, within a transaction; ``seq`` and ``user`` are int64 ``[n]``."""
        rows = list(zip(digests, seq.tolist(), user.tolist(), strict=True))
        self._connection.executemany("INSERT INTO seen VALUES (?, ?, ?)", rows)
        self._combine(rows)

    def erase(self, condition: str, value: object) -> None:
        """Remove the events of which a condition holds, with one parameter, within a transaction."""
        rows = self._connection.execute(f"SELECT digest, seq, user FROM seen WHERE {condition}", (value,)).fetchall()
        self._connection.execute(f"DELETE FROM seen WHERE {condition}", (value,))
        self._combine(rows)

    def _combine(self, rows: Sequence[tuple[bytes, int, int]]) -> None:
        if rows:
            total = kept_sum(self._connection, "seen") ^ _checksum(rows)
            self._connection.execute("INSERT OR REPLACE INTO sums VALUES ('seen', ?)", (total,))

    def is_whole(self) -> bool:
        """Return whether the table is what was written; takes about two seconds for a million rows."""
        cursor, total = self._connection.execute("SELECT digest, seq, user FROM seen"), 0
        while rows := cursor.fetchmany(100_000):
            try:
                total ^= _checksum(rows)
            except (TypeError, ValueError, OverflowError):  # no digests, or no numbers
                return False
        return total == kept_sum(self._connection, "seen")


def _checksum(rows: Sequence[tuple[bytes, int, int]]) -> int:
    """Combine the checksums of rows."""
    digests, seq, user = zip(*rows, strict=True)
    halves = np.frombuffer(b"".join(digests), dtype=np.int64).reshape(len(rows), _SIZE // 8)
    columns = [np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])]
    columns += [np.array(column, dtype=np.int64) for column in (seq, user)]
    return int(np.bitwise_xor.reduce(row_checksums(columns)))


class Graves:
    """Late events of forgotten users are refused by a rule that reveals nothing once it ends.

    A *grave* is a digest of a forgotten id under a random key of the day, with the time of the forgetting. Events of
    that user that are not newer are refused for the time of grace; then key and grave are overwritten.
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
