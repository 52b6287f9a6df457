"""Which announced items have a value of a feature, kept up with the announcements."""

from __future__ import annotations

import json
from collections.abc import Collection

import numpy as np

from recbole_signed.live.event_fields import pairs_of
from recbole_signed.live.store.announcements import Announcements
from recbole_signed.live.store.vocabulary import Vocabulary

Pair = tuple[str, str]
"""A column and a value, see :func:`~recbole_signed.live.event_fields.plain`."""


class AnnouncedValues:
    """Values of announced items by their tokens, and the other way round.

    Args:
        announcements: that are read again once they have changed.
    """

    def __init__(self, announcements: Announcements) -> None:
        self.announcements = announcements
        self._of_words: frozenset[str] = frozenset()
        self._seen = -1
        self._texts: dict[str, str] = {}
        self._pairs: dict[str, set[Pair]] = {}
        self.items: dict[Pair, set[str]] = {}
        """Tokens by value."""
        self._numbers: dict[Pair, tuple[int, np.ndarray]] = {}

    def following(self, of_words: Collection[str]) -> AnnouncedValues:
        """Return it as the announcements are now; in the columns ``of_words`` each word of a text is a value."""
        if (words := frozenset(of_words)) != self._of_words:
            self.__init__(self.announcements)  # type: ignore[misc]
            self._of_words = words
        if self._seen != self.announcements.n_changes:
            told = self.announcements.of_items
            for token in [token for token, text in self._texts.items() if told.get(token) is not text]:
                self._drop(token)
            for token, text in told.items():
                if token not in self._texts:
                    self._texts[token], self._pairs[token] = text, pairs_of(json.loads(text), words)
                    for pair in self._pairs[token]:
                        self.items.setdefault(pair, set()).add(token)
            self._seen, self._numbers = self.announcements.n_changes, {}
        return self

    def _drop(self, token: str) -> None:
        del self._texts[token]
        for pair in self._pairs.pop(token):
            self.items[pair].discard(token)
            if not self.items[pair]:
                del self.items[pair]

    def numbers(self, pair: Pair, vocabulary: Vocabulary) -> np.ndarray:
        """Return the numbers of the items with a value that have one, int64."""
        size, found = self._numbers.get(pair, (-1, np.zeros(0, dtype=np.int64)))
        if size != len(vocabulary):
            size, found = len(vocabulary), vocabulary.ids(sorted(self.items.get(pair, ())))
            self._numbers[pair] = size, found
        return found

    def of(self, token: str) -> set[Pair]:
        """Return the values of an item."""
        return self._pairs.get(token, set())
