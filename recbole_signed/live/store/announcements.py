"""The features of announced items and users: a row each in the log, written with the event that brings it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.files import DamagedError
from recbole_signed.live.event_fields import pairs_of
from recbole_signed.live.events import ANNOUNCED
from recbole_signed.live.store.database import damaged, text_sum
from recbole_signed.live.store.line_files import read_lines
from recbole_signed.live.store.vocabulary import Vocabulary

LINES = "features.jsonl"  # file of a state directory in which earlier versions of this package kept them
_SIDES = tuple(ANNOUNCED.values())
_Features = Mapping[str, Mapping[str, str]]  # JSON by side and token

Pair = tuple[str, str]  # a column and a value, see `recbole_signed.live.event_fields.plain`


class Announcements:
    """The table ``features``, and what it holds. Another process sees what it asks for with :meth:`read`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._known: dict[str, dict[str, str]] = {side: {} for side in _SIDES}
        self.n_changes = 0  # rises with each change
        # a state of an earlier version has none until it is opened for writing
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'features'").fetchone():
            self._take(connection.execute("SELECT * FROM features"))

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def _take(self, rows: Iterable[tuple[str, str, str, int]]) -> None:
        for side, token, content, checksum in rows:
            if side not in self._known or checksum != text_sum((side, token, content)):
                raise damaged(self._path, "the features of an item or a user are not what was written")
            self._known[side][token] = content
            self.n_changes += 1

    def read(self, asked: Mapping[str, Iterable[str]]) -> None:
        """Look for features of some tokens, by side, again."""
        query = "SELECT * FROM features WHERE side = ? AND token = ?"
        for side, tokens in asked.items():
            for token in tokens:
                self._take(self._connection.execute(query, (side, token)))

    def write(self, announced: _Features, erased: Iterable[str] = ()) -> None:
        """Erase users and put features in, within a transaction that :meth:`follow` follows."""
        self._connection.executemany("DELETE FROM features WHERE side = 'user' AND token = ?", [(e,) for e in erased])
        rows = [(side, token, content) for side, features in announced.items() for token, content in features.items()]
        self._connection.executemany(
            "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", [(*row, text_sum(row)) for row in rows]
        )

    def follow(self, announced: _Features, erased: Iterable[str] = ()) -> None:
        """Take over what was written."""
        for token in erased:
            self._known["user"].pop(token, None)
        for side, features in announced.items():
            self._known[side].update(features)
            self.n_changes += len(features)

    @property
    def of_items(self) -> Mapping[str, str]:
        """The features of announced items, as JSON by token."""
        return self._known["item"]

    def by_id(
        self,
        users: Vocabulary,
        items: Vocabulary,
        asked: Mapping[str, Iterable[str]] | None = None,
        sides: Collection[str] = _SIDES,
    ) -> dict[str, dict[int, dict[str, Any]]]:
        """Return the features of announced items and users that have a number, by side and number."""
        features: dict[str, dict[int, dict[str, Any]]] = {}
        for side in sides:
            known, vocabulary = self._known[side], items if side == "item" else users
            tokens = list(known) if asked is None else [token for token in asked.get(side, ()) if token in known]
            numbers = vocabulary.ids(tokens).tolist()
            features[side] = {n: json.loads(known[token]) for n, token in zip(numbers, tokens, strict=True) if n}
        return features


def features_in(path: Path, users: Vocabulary) -> _Features:
    """Read an earlier version's file, without users that the vocabulary lacks: they could not be forgotten."""
    announced: dict[str, dict[str, str]] = {side: {} for side in _SIDES}
    for side, token, features in _rows(path):
        if side == "item" or token in users:
            announced[side][token] = json.dumps(features, sort_keys=True)
    return announced


def _rows(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for row in read_lines(path):
        named = [(side, row[side]) for side in _SIDES if side in row] if isinstance(row, dict) else []
        features = row.get("features") if named else None
        if len(named) != 1 or not isinstance(named[0][1], str) or not isinstance(features, dict):
            raise DamagedError(f"{path} is damaged: a line is not of an item or a user; put a copy of it in its place.")
        yield (*named[0], features)


class AnnouncedValues:
    """Values of announced items by their tokens, and the other way round."""

    def __init__(self, announcements: Announcements) -> None:
        self.announcements = announcements
        self._of_words: frozenset[str] = frozenset()
        self._seen = -1
        self._texts: dict[str, str] = {}
        self._pairs: dict[str, set[Pair]] = {}
        self.items: dict[Pair, set[str]] = {}  # tokens by value
        self._numbers: dict[Pair, tuple[int, np.ndarray]] = {}

    def following(self, of_words: Collection[str]) -> AnnouncedValues:
        """Return it as the announcements are now; in the columns ``of_words`` each word of a text is a value."""
        if (words := frozenset(of_words)) != self._of_words:
            self.__init__(self.announcements)  # type: ignore[misc]
            self._of_words = words
        if self._seen != self.announcements.n_changes:
            announced = self.announcements.of_items
            for token in [token for token, text in self._texts.items() if announced.get(token) is not text]:
                self._drop(token)
            for token, text in announced.items():
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
        size, ids = self._numbers.get(pair, (-1, np.zeros(0, dtype=np.int64)))
        if size != len(vocabulary):
            size, ids = len(vocabulary), vocabulary.ids(sorted(self.items.get(pair, ())))
            self._numbers[pair] = size, ids
        return ids

    def values_of(self, token: str) -> set[Pair]:
        """Return the values of an item."""
        return self._pairs.get(token, set())
