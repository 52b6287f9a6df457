"""Items that newcomers alone have touched, which do not enter the lists of others.

Some hundred invented users can bring an invented item into the lists of many: by the trend, and by neighbours. So an
item is shown to others once a user has touched it, by a like, a dislike, a skip or a view, who is not a newcomer: who
joined ``newcomer_age`` seconds ago or earlier (a day, by the clock of this machine, whatever the events say) and has
``newcomer_size`` likes and dislikes (three). Users of the data set that a state was begun with are not newcomers. A
state that began with none trusts everybody until it is that old itself. An item that was shown once stays.
"""

from __future__ import annotations

import sqlite3

import numpy as np

from recbole_signed.online.store.edge_views import Changes
from recbole_signed.online.store.edges import EdgeState
from recbole_signed.online.store.event_log import EventLog
from recbole_signed.online.store.settings import StateSettings

AGAIN = 60.0
"""Seconds after which items are looked at again, since users have grown older."""


class Newcomers:
    """Which items a user who is not a newcomer has touched.

    Args:
        connection: to the log.
        settings: of the state.
        rests_until: milliseconds since 1970 up to which everybody is trusted.
    """

    def __init__(self, connection: sqlite3.Connection, settings: StateSettings, rests_until: int) -> None:
        self._connection, self._settings, self._rests_until = connection, settings, rests_until
        self._joined = np.zeros(1, dtype=np.int64)
        self._known = np.zeros(1, dtype=bool)
        self._looked = -np.inf
        self._hidden: np.ndarray | None = None

    @classmethod
    def of(cls, log: EventLog) -> Newcomers:
        """Make it for a log, which tells when users joined, and whether the state began with some."""
        began_with_users = log.begun is not None and log.begun[0] > 1
        rests = 0 if began_with_users else log.created + 1000 * log.settings.newcomer_age
        return cls(log.connection, log.settings, rests)

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Take a batch of changes in."""
        touched = changes.new != 0
        trusted = self._trusted(edges, changes.user[touched].astype(np.int64))
        self._grow(edges.n_items)
        if not self._known[changes.item].all():
            self._hidden = None
        self._known[changes.item[touched][trusted]] = True

    def hidden(self, edges: EdgeState) -> np.ndarray:
        """Return the items that are not shown to others, int64."""
        settings = self._settings
        if not settings.newcomer_age or settings.now() < self._rests_until:
            return np.zeros(0, dtype=np.int64)
        self._grow(edges.n_items)
        if settings.clock() - self._looked > min(AGAIN, settings.newcomer_age):
            self._looked = settings.clock()
            items = np.flatnonzero(~self._known[: edges.n_items])
            rows = edges.of_items(items)
            users, place = np.arange(edges.n_users), rows.ids
            if len(place) < len(users):
                users, place = np.unique(rows.ids, return_inverse=True)
            trusted = self._trusted(edges, users.astype(np.int64))[place]
            owner = np.repeat(items, np.diff(rows.indptr))
            self._known[owner[trusted]], self._hidden = True, None
        if self._hidden is None:
            unknown = np.flatnonzero(~self._known[: edges.n_items])
            self._hidden = unknown[np.diff(edges.of_items(unknown).indptr) > 0]
        return self._hidden

    def _trusted(self, edges: EdgeState, users: np.ndarray) -> np.ndarray:
        if edges.n_users > len(self._joined):
            query = "SELECT joined FROM users WHERE id >= ? ORDER BY id"
            more = [row[0] for row in self._connection.execute(query, (len(self._joined),))]
            self._joined = np.concatenate([self._joined, np.array(more, dtype=np.int64)])
        known = users < len(self._joined)
        joined = np.where(known, self._joined[np.where(known, users, 0)], self._settings.now())
        old = joined <= self._settings.now() - 1000 * self._settings.newcomer_age
        large = edges.user_likes[users] + edges.user_dislikes[users] >= self._settings.newcomer_size
        return (joined == 0) | (old & large)

    def _grow(self, n_items: int) -> None:
        if n_items > len(self._known):
            self._known = np.concatenate([self._known, np.zeros(n_items - len(self._known), dtype=bool)])
            self._hidden = None
