"""Items that are not to be shown for the time being, whether an event has named them yet or not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from recbole_signed.files import at
from recbole_signed.live.store.database import explained, transaction, write_small_sum
from recbole_signed.live.store.vocabulary import Vocabulary


class Withdrawn:
    """The table ``withdrawn``, durable when a call returns.

    Args:
        connection: to the log.
        path: of the log, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self.tokens: set[str] = set()  # replaced as a whole, never changed: look-ups go on beside a change
        self._sum: object = ()  # of the tables as they were read: no row, or one value, once they were
        self._found: tuple[set[str] | None, int, np.ndarray] = (None, 0, np.zeros(0, dtype=np.int64))
        self.reload()

    def reload(self) -> None:
        """Read the table again where another process has changed it."""
        kept = self._connection.execute("SELECT value FROM sums WHERE name = 'small'").fetchone()
        if kept != self._sum:
            self._sum = kept
            self.tokens = {row[0] for row in self._connection.execute("SELECT token FROM withdrawn")}

    def change(self, tokens: Iterable[str], *, withdrawn: bool) -> None:
        """Withdraw items, or let them return.

        Raises:
            UsageError: the disk is full or can't be written; nothing has changed.
        """
        rows = [(token,) for token in tokens]
        insert, delete = "INSERT OR IGNORE INTO withdrawn VALUES (?)", "DELETE FROM withdrawn WHERE token = ?"
        with explained(self._path, "Withdrawing items"), transaction(self._connection):
            self._connection.executemany(insert if withdrawn else delete, rows)
            write_small_sum(self._connection)
        at("withdrawn:committed")
        changed = {row[0] for row in rows}
        self.tokens = self.tokens | changed if withdrawn else self.tokens - changed

    def ids(self, items: Vocabulary) -> np.ndarray:
        """Return the ids of withdrawn items that are known, int64."""
        tokens, (looked_up, size, found) = self.tokens, self._found
        if looked_up is not tokens or size != len(items):
            size = len(items)
            ids = items.ids(sorted(tokens))
            found = ids[ids > 0]
            self._found = tokens, size, found
        return found

    def beside(self, others: np.ndarray, items: Vocabulary, n_items: int) -> np.ndarray:
        """Return the ids of withdrawn items below ``n_items``, and those of others that are not shown, int64."""
        own = self.ids(items)
        return np.union1d(own[own < n_items], others) if len(own) else others
