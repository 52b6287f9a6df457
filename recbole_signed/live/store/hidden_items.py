"""Items that are not shown: withdrawn ones, those that newcomers alone have touched, or that only an undo has named.

Invented users could bring an invented item into many lists. So an item of events is shown once a user has touched it
who joined ``newcomer_age`` seconds ago and has ``newcomer_size`` verdicts; users of the data set count at once. An item
of the data set, or one that was announced, is not invented.
"""

from __future__ import annotations

import numpy as np

from recbole_signed.arrays import distinct
from recbole_signed.live import LIKE
from recbole_signed.live.events import ABSENT, DISLIKE, ITEM
from recbole_signed.live.store.announcements import AnnouncedValues, Announcements
from recbole_signed.live.store.edge_views import Changes, LogBatch, Rows
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.vocabulary import Vocabulary

AGAIN = 60.0  # seconds after which items are looked at again, since users have grown older
OLDEST = 32  # edges of an item, of the users who joined first, that are looked at before all of them: they mostly tell


class Newcomers:
    """Which items are not shown."""

    def __init__(self, log: EventLog, announcements: Announcements, edges: EdgeState) -> None:
        self._log, self._settings = log, log.settings
        began_with_users = log.begun is not None and log.begun[0] > 1
        self._rests_until = 0 if began_with_users else log.created + 1000 * log.settings.newcomer_age
        """Milliseconds since 1970 up to which everybody is trusted."""
        self._known, self._named, self._bare = (np.zeros(0, dtype=bool) for _ in range(3))
        self._looked = -np.inf
        self._of_newcomers: np.ndarray | None = None
        self._nameless: np.ndarray | None = None
        self._grow(max(edges.n_items, len(log.items)))
        self._named[: len(log.items) if log.begun is None else log.begun[1]] = True
        self._named[log.items.ids(list(announcements.of_items))] = True  # 0, of no item, is named anyway
        self._bare[: edges.n_items] = ~edges.have_edges(np.arange(edges.n_items))

    def update(self, edges: EdgeState, logged: LogBatch, changes: Changes) -> None:
        """Take a batch in, and what it has changed."""
        touched = changes.new != ABSENT
        trusted = self._trusted(edges, changes.user[touched].astype(np.int64))
        self._grow(edges.n_items)
        if not self._known[changes.item].all():
            self._of_newcomers = None
        self._known[changes.item[touched][trusted]] = True
        if self._settings.newcomer_age and len(again := self._in_doubt(edges, changes)):
            self._known[again], self._of_newcomers = self._trust_in(edges, again), None
        announced = logged.item[logged.type == ITEM]
        bare = ~edges.have_edges(changes.item)
        if len(announced):
            self._of_newcomers = None
        if len(announced) or (bare & ~self._named[changes.item]).any() or (bare != self._bare[changes.item]).any():
            self._nameless = None
        self._named[announced], self._bare[changes.item] = True, bare

    def hidden(self, edges: EdgeState) -> np.ndarray:
        """Return the items that are not shown, int64."""
        if self._nameless is None:
            self._nameless = np.flatnonzero((self._bare & ~self._named)[: edges.n_items])
        return np.concatenate([self._nameless, self._untrusted(edges)])

    def _untrusted(self, edges: EdgeState) -> np.ndarray:
        settings = self._settings
        if not settings.newcomer_age or settings.now() < self._rests_until:
            return np.zeros(0, dtype=np.int64)
        if not 0 <= settings.clock() - self._looked <= min(AGAIN, settings.newcomer_age):  # it may be set back, too
            self._looked = settings.clock()
            items = np.flatnonzero(~self._known[: edges.n_items])
            self._known[items], self._of_newcomers = self._trust_in(edges, items), None
        if self._of_newcomers is None:
            unknown = np.flatnonzero(~self._known[: edges.n_items])
            self._of_newcomers = unknown[edges.have_edges(unknown) & ~self._named[unknown]]
        return self._of_newcomers

    def _in_doubt(self, edges: EdgeState, changes: Changes) -> np.ndarray:
        """Return the items that lost an edge, and those of users who may have passed ``newcomer_size``."""
        was, now = ((kinds == LIKE) | (kinds == DISLIKE) for kinds in (changes.old, changes.new))
        users, moves = np.unique(changes.user[was != now], return_counts=True)
        sizes, least = edges.user_likes[users] + edges.user_dislikes[users], self._settings.newcomer_size
        passed = (sizes - moves < least) & (sizes + moves >= least)
        items = changes.item[(changes.new == ABSENT) & (changes.old != ABSENT)]
        if passed.any():
            items = np.concatenate([items, edges.of_users(users[passed]).ids])
        return distinct(items)

    def _trust_in(self, edges: EdgeState, items: np.ndarray) -> np.ndarray:
        """Return which items a user has an edge to who is not a newcomer, bool ``[len(items)]``."""
        found = self._trust_among(edges, edges.of_items(items, OLDEST))
        rest = np.flatnonzero(~found)
        if len(rest):
            found[rest] = self._trust_among(edges, edges.of_items(items[rest]))
        return found

    def _trust_among(self, edges: EdgeState, rows: Rows) -> np.ndarray:
        """Return which rows hold a user who is not a newcomer, bool ``[n]``."""
        if len(rows.ids) < edges.n_users:
            users, place = np.unique(rows.ids, return_inverse=True)
        else:
            users, place = np.arange(edges.n_users), rows.ids
        trusted = self._trusted(edges, users.astype(np.int64))[place]
        lengths = np.diff(rows.indptr)
        found = np.zeros(len(lengths), dtype=bool)
        found[np.repeat(np.arange(len(lengths)), lengths)[trusted]] = True
        return found

    def _trusted(self, edges: EdgeState, users: np.ndarray) -> np.ndarray:
        times = self._log.times_of_joining(edges.n_users)
        known = users < len(times)
        joined = np.where(known, times[np.where(known, users, 0)], self._settings.now())
        old = joined <= self._settings.now() - 1000 * self._settings.newcomer_age
        large = edges.user_likes[users] + edges.user_dislikes[users] >= self._settings.newcomer_size
        return (joined == 0) | (old & large)

    def _grow(self, n_items: int) -> None:
        more = max(n_items - len(self._known), 0)
        if more:
            self._known, self._named = (np.pad(each, (0, more)) for each in (self._known, self._named))
            self._bare = np.pad(self._bare, (0, more), constant_values=True)
            self._of_newcomers = None


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
        return frozenset(self.log.withdrawn.tokens)

    @property
    def announced_values(self) -> AnnouncedValues:
        """Which announced items have which values."""
        if self._values is None or self._values.announcements is not self.announcements:
            self._values = AnnouncedValues(self.announcements)
        return self._values

    def hidden_items(self) -> np.ndarray:
        """Return the numbers of items that are shown to nobody: the withdrawn and those of `Newcomers`, int64."""
        return self.log.withdrawn.beside(self._newcomers.hidden(self.edges), self.items, self.edges.n_items)
