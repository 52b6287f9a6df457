"""What rankings need of a state, whether this process writes it or follows it."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from recbole_signed.live.store.announced_values import AnnouncedValues
from recbole_signed.live.store.announcements import Announcements
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.newcomers import Newcomers
from recbole_signed.live.store.vocabulary import Vocabulary


class StateView:
    """Edges up to a seq of a log, and what of the log, and beside it, says who and what they are of."""

    log: EventLog
    announcements: Announcements
    edges: EdgeState
    applied_seq: int
    """Seq of the newest event that the edges reflect."""
    _newcomers: Newcomers

    def _start_from(self, edges: EdgeState, seq: int) -> None:
        """Go on from edges that reflect the log up to ``seq``."""
        self.edges, self.applied_seq = edges, seq
        self._newcomers = Newcomers(self.log, self.announcements, edges)

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

    @cached_property
    def announced_values(self) -> AnnouncedValues:
        """Which announced items have which values."""
        return AnnouncedValues(self.announcements)

    def hidden_items(self) -> np.ndarray:
        """Return the numbers of items that are shown to nobody: the withdrawn, and those of ``newcomers.py``, int64."""
        return self.log.withdrawn.beside(self._newcomers.hidden(self.edges), self.items, self.edges.n_items)
