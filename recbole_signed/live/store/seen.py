"""The ids of events that were taken, as keyed digests, so that a duplicate is known as one.

A digest alone would confirm a guessed id to anybody who has the key, which lies beside it. So each keeps whose event
it was of, and goes with its user. A flipped bit would let a duplicate pass: the checksums of all rows, combined by
XOR, are kept beside them and held against the table at opening.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np

from recbole_signed.live.store.checksum import row_checksums

_CHUNK = 500  # parameters of one query
_SIZE = 16  # bytes of a digest


class Seen:
    """The table ``seen``: digest, seq and user of each event.

    Args:
        connection: to the log.
        key: of the digests.
    """

    def __init__(self, connection: sqlite3.Connection, key: bytes) -> None:
        self._connection = connection
        self._key = key

    def digest(self, event_id: str) -> bytes:
        """Return the digest of an id."""
        return hashlib.blake2b(event_id.encode(), key=self._key, digest_size=_SIZE).digest()

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Return those of the digests that are in the table."""
        found: set[bytes] = set()
        for start in range(0, len(digests), _CHUNK):
            part = digests[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            found.update(
                row[0] for row in self._connection.execute(f"SELECT digest FROM seen WHERE digest IN ({marks})", part)
            )
        return found

    def add(self, digests: Sequence[bytes], seq: np.ndarray, user: np.ndarray) -> None:
        """Add events, within a transaction; ``seq`` and ``user`` are int64 ``[n]``."""
        rows = list(zip(digests, seq.tolist(), user.tolist(), strict=True))
        self._connection.executemany("INSERT INTO seen VALUES (?, ?, ?)", rows)
        self._combine(rows)

    def erase_users(self, users: Iterable[int]) -> None:
        """Remove the events of users, within a transaction; reads the whole table."""
        self._erase("user IN (SELECT value FROM json_each(?))", json.dumps(list(users)))

    def trim(self, seq: int) -> None:
        """Remove events up to a ``seq``, within a transaction."""
        self._erase("seq <= ?", seq)

    def _erase(self, condition: str, value: object) -> None:
        rows = self._connection.execute(f"SELECT digest, seq, user FROM seen WHERE {condition}", (value,)).fetchall()
        self._connection.execute(f"DELETE FROM seen WHERE {condition}", (value,))
        self._combine(rows)

    def _combine(self, rows: Sequence[tuple[bytes, int, int]]) -> None:
        if rows:
            total = self._total() ^ _checksum(rows)
            self._connection.execute("INSERT OR REPLACE INTO sums VALUES ('seen', ?)", (total,))

    def _total(self) -> int:
        row = self._connection.execute("SELECT value FROM sums WHERE name = 'seen'").fetchone()
        return int(row[0]) if row else 0

    def is_whole(self) -> bool:
        """Return whether the table is what was written; takes about two seconds for a million rows."""
        cursor, total = self._connection.execute("SELECT digest, seq, user FROM seen"), 0
        while rows := cursor.fetchmany(100_000):
            try:
                total ^= _checksum(rows)
            except (TypeError, ValueError, OverflowError):  # no digests, or no numbers
                return False
        return total == self._total()


def _checksum(rows: Sequence[tuple[bytes, int, int]]) -> int:
    """Combine the checksums of rows."""
    digests, seq, user = zip(*rows, strict=True)
    halves = np.frombuffer(b"".join(digests), dtype=np.int64).reshape(len(rows), _SIZE // 8)
    columns = [np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])]
    columns += [np.array(each, dtype=np.int64) for each in (seq, user)]
    return int(np.bitwise_xor.reduce(row_checksums(columns)))
