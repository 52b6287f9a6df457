"""Items that are not shown: withdrawn ones, those that newcomers alone have touched, or that only an undo has named.

Invented users could bring an invented item into many lists. So an item of events is shown once a user has touched it
who joined ``newcomer_age`` seconds ago and has ``newcomer_size`` verdicts; users of the data set count at once. An item
of the data set, or one that was announced, is not invented.
"""

from __future__ import annotations

import numpy as np

from recbole_signed.arrays import grown
from recbole_signed.live.events import ABSENT, ITEM
from recbole_signed.live.store.announcements import AnnouncedValues, Announcements
from recbole_signed.live.store.edge_views import Changes, LogBatch
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.vocabulary import Vocabulary

AGAIN = 60.0  # seconds after which users are looked at again, since they have grown older
_PIECE = 4096  # items whose edges are read at a time


class Newcomers:
    """Which items are not shown, by how many edges each has of users who are not newcomers."""

    def __init__(self, log: EventLog, announcements: Announcements, edges: EdgeState) -> None:
        self._log, self._settings = log, log.settings
        began_with_users = log.begun is not None and log.begun[0] > 1
        self._rests_until = 0 if began_with_users else log.created + 1000 * log.settings.newcomer_age
        """Milliseconds since 1970 up to which everybody is trusted."""
        self._looked = log.settings.clock()
        self._trusted = self._trusts(edges, np.arange(edges.n_users))
        n_items = max(edges.n_items, len(log.items))
        self._named = np.zeros(n_items, dtype=bool)
        self._named[: len(log.items) if log.begun is None else log.begun[1]] = True
        self._named[log.items.ids(list(announcements.of_items))] = True  # 0, of no item, is named anyway
        self._count, self._shown = np.zeros(n_items, dtype=np.int64), np.zeros(n_items, dtype=bool)
        self._n_items, self._hidden = 0, np.zeros(0, dtype=np.int64)  # of how many items; 0: to be looked for again
        for first in range(0, edges.n_items, _PIECE):
            items = np.arange(first, min(first + _PIECE, edges.n_items))
            rows = edges.of_items(items)
            so_far = np.append(0, np.cumsum(self._trusted[rows.ids]))
            self._count[items] = np.diff(so_far[rows.indptr])
            self._see(items)

    def update(self, edges: EdgeState, logged: LogBatch, changes: Changes) -> None:
        """Take a batch in, and what it has changed."""
        if edges.n_items > len(self._count) or edges.n_users > len(self._trusted):
            self._count, self._shown, self._named = (
                grown(array, edges.n_items) for array in (self._count, self._shown, self._named)
            )
            self._trusted = grown(self._trusted, edges.n_users)
        came = (changes.new != ABSENT).astype(np.int64) - (changes.old != ABSENT)
        np.add.at(self._count, changes.item, came * self._trusted[changes.user])
        announced = logged.item[logged.type == ITEM]
        self._named[announced] = True
        self._judge(edges, changes.users.astype(np.int64))
        self._see(np.concatenate([changes.item, announced]))

    def hidden(self, edges: EdgeState) -> np.ndarray:
        """Return the items that are not shown, int64."""
        settings = self._settings
        applies = settings.newcomer_age > 0 and settings.now() >= self._rests_until
        if applies and not 0 <= settings.clock() - self._looked <= min(AGAIN, settings.newcomer_age):  # or set back
            self._looked = settings.clock()
            self._judge(edges, np.flatnonzero(~self._trusted[: edges.n_users]))
        if self._n_items < edges.n_items:
            self._n_items, self._hidden = edges.n_items, np.flatnonzero(~self._shown[: edges.n_items])
        return self._hidden if applies else self._hidden[~edges.have_edges(self._hidden)]

    def _judge(self, edges: EdgeState, users: np.ndarray) -> None:
        """See which of some users are newcomers now, and count their edges by that."""
        now, before = self._trusts(edges, users), self._trusted[users]
        for moved, step in ((users[now & ~before], 1), (users[before & ~now], -1)):
            items = edges.of_users(moved).ids
            np.add.at(self._count, items, step)
            self._see(items)
        self._trusted[users] = now

    def _see(self, items: np.ndarray) -> None:
        """See which of some items are shown now."""
        shown = self._named[items] | (self._count[items] > 0)
        if (shown != self._shown[items]).any():
            self._shown[items], self._n_items = shown, 0

    def _trusts(self, edges: EdgeState, users: np.ndarray) -> np.ndarray:
        """Return which users are not newcomers, bool ``[n]``."""
        times = self._log.times_of_joining(edges.n_users)
        known = users < len(times)
        joined = np.where(known, times[np.where(known, users, 0)], self._settings.now())
        old = joined <= self._settings.now() - 1000 * self._settings.newcomer_age
        large = edges.user_likes[users] + edges.user_dislikes[users] >= self._settings.newcomer_size
        return np.asarray((joined == 0) | (old & large))


class StateView:
    """Edges up to a seq of a log, and what of the log, and beside it, says who and what they are of."""

    log: EventLog
    edges: EdgeState
    applied_seq: int  # seq of the newest event that the edges reflect
    _newcomers: Newcomers
    _values: AnnouncedValues | None = None

    def _start_from(self, edges: EdgeState, seq: int) -> None:
        """Go on from edges that reflect the log up to ``seq``."""
        self.edges, self.applied_seq = edges, seq
        edges.vocabularies = self.users, self.items
        self._newcomers = Newcomers(self.log, self.announcements, edges)

    @property
    def announcements(self) -> Announcements:
        """The features of items and users."""
        return self.log.announcements

    @property
    def users(self) -> Vocabulary:
        """The vocabulary of users."""
        return self.log.users

    @property
    def items(self) -> Vocabulary:
        """The vocabulary of items."""
        return self.log.items

    @property
    def withdrawn(self) -> frozenset[str]:
        """Ids of the items that are withdrawn."""
        return self.log.withdrawn.tokens

    @property
    def announced_values(self) -> AnnouncedValues:
        """Which announced items have which values."""
        if self._values is None or self._values.announcements is not self.announcements:
            self._values = AnnouncedValues(self.announcements)
        return self._values

    def hidden_items(self) -> np.ndarray:
        """Return the numbers of items that are shown to nobody: the withdrawn and those of `Newcomers`, int64."""
        return self.log.withdrawn.beside(self._newcomers.hidden(self.edges), self.items, self.edges.n_items)
