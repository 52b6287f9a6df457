"""Items that are not to be shown for the time being, whether an event has named them yet or not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from recbole_signed.files import at
from recbole_signed.online.store.database import explained, transaction, write_small_sum
from recbole_signed.online.store.vocabulary import Vocabulary


class Withdrawn:
    """The table ``withdrawn``, durable when a call returns.

    Args:
        connection: to the log.
        path: of the log, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self.tokens: set[str] = set()
        self.reload()

    def reload(self) -> None:
        """Read the table again, which another process may have changed."""
        self.tokens = {row[0] for row in self._connection.execute("SELECT token FROM withdrawn")}
        self._found = (-1, np.zeros(0, dtype=np.int64))

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
        self._found = (-1, self._found[1])

    def ids(self, items: Vocabulary) -> np.ndarray:
        """Return the ids of withdrawn items that are known, int64."""
        if self._found[0] != len(items):
            ids = items.ids(sorted(self.tokens))
            self._found = len(items), ids[ids > 0]
        return self._found[1]

    def beside(self, others: np.ndarray, items: Vocabulary, n_items: int) -> np.ndarray:
        """Return the ids of withdrawn items below ``n_items``, and those of others that are not shown, int64."""
        own = self.ids(items)
        return np.union1d(own[own < n_items], others) if len(own) else others
