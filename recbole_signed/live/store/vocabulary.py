"""Tokens of users or items and their ids: append-only, id 0 is padding, an id is never used twice.

A forgotten token leaves a tombstone. Each id keeps a *tag*, a digest of token and salt, which are erased together; the
hash of the vocabulary is made of tags, so that it outlives them and versions still know their vocabulary.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recbole_signed.arrays import grown
from recbole_signed.files import at
from recbole_signed.ids_and_times import PAD, hashes
from recbole_signed.live.store.database import damaged, explained, kept_sum, sealed, transaction, write_small_sum

TAG = 16  # bytes of a tag, and of the salt


@dataclass(frozen=True)
class NewTokens:
    """Tokens that are about to join a vocabulary, from id ``first`` on."""

    first: int
    tokens: list[str | None]
    salts: list[bytes | None]
    tags: list[bytes]

    def rows(self, now: int) -> list[tuple[int, str | None, bytes | None, bytes, int]]:
        """Rows (id, token, salt, tag, sealed time of joining) as the log keeps them."""
        ids = np.arange(self.first, self.first + len(self.tokens))
        joined = sealed(ids, np.array([0 if token is None else now for token in self.tokens], dtype=np.int64))
        return list(zip(ids.tolist(), self.tokens, self.salts, self.tags, joined.tolist(), strict=True))


class Vocabulary:
    """The ids of one kind of node. About 150 bytes a token; ten million take a few seconds to load."""

    def __init__(self, rows: Iterable[tuple[str | None, bytes]] = ()) -> None:
        """Take rows (token or None, tag) of ids 1, 2, ..."""
        self._tokens: list[str | None] = [None]
        self._tags = bytearray(TAG)
        self._ids: dict[str, int] = {}
        self._hashed = hashlib.sha256(), 0  # of the first so many tags, which never change
        self._keys = np.zeros(0, dtype=np.int64), 0  # with room to grow, and how many there are
        self.extend(rows)

    @classmethod
    def load(cls, connection: sqlite3.Connection, path: Path, table: str, *, check: bool = False) -> Vocabulary:
        """Read the tokens of a table of the log ``path``; with ``check`` each is held against its tag."""
        size = connection.execute(f"SELECT max(id), count(*) FROM {table}").fetchone()
        if size[1] and size[0] != size[1]:
            raise damaged(path, f"ids of {table} are missing")
        if not check:
            return cls(connection.execute(f"SELECT token, tag FROM {table} ORDER BY id"))

        def checked() -> Iterator[tuple[str | None, bytes]]:  # a second pass over millions would be part of a start
            for i, token, salt, tag in connection.execute(f"SELECT id, token, salt, tag FROM {table} ORDER BY id"):
                if (token is None) != (salt is None) or (token is not None and make_tag(token, salt) != tag):
                    raise damaged(path, f"id {i} of {table} is not what was written")
                yield token, tag

        return cls(checked())

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def ids(self, tokens: Sequence[str]) -> np.ndarray:
        """Id of each token, int64 ``[n]``; 0 where it is not known."""
        get = self._ids.get
        return np.fromiter((get(token, 0) for token in tokens), dtype=np.int64, count=len(tokens))

    def id_of(self, token: str) -> int:
        """Id of one token; 0 where it is not known."""
        return self._ids.get(token, 0)

    def tokens(self, ids: Iterable[int]) -> list[str | None]:
        """Token of each id; None for padding and for the forgotten."""
        return [self._tokens[i] for i in ids]

    def tag(self, i: int) -> bytes:
        """Tag of an id: equal ones are of the same token, which joined once, in a state and in its backups."""
        return bytes(self._tags[i * TAG : (i + 1) * TAG])

    @property
    def keys(self) -> np.ndarray:
        """What decides between items with equal scores, a hash of the token of each id, int64 ``[len(self)]``."""
        (table, known), n = self._keys, len(self)
        if known < n:
            table = grown(table, n)
            table[known:n] = hashes(np.array([token or PAD for token in self._tokens[known:n]], dtype=object))
            self._keys = table, n
        return table[:n]

    @property
    def n_known(self) -> int:
        """Number of ids whose token is known: neither padding nor forgotten."""
        return len(self._ids)

    @property
    def tombstones(self) -> np.ndarray:
        """Ids whose token was forgotten, int64."""
        return np.array([i for i, token in enumerate(self._tokens) if token is None and i], dtype=np.int64)

    def hash(self, size: int | None = None) -> str:
        """Hash of the first ``size`` ids, padding included (all of them by default); forgetting leaves it as it is."""
        size = len(self) if size is None else size
        digest, known = self._hashed
        if size < known:
            return hashlib.sha256(memoryview(self._tags)[: size * TAG]).hexdigest()
        digest.update(memoryview(self._tags)[known * TAG : size * TAG])
        self._hashed = digest, size  # the next one, of more ids, goes on from here
        return digest.copy().hexdigest()

    def propose(
        self, tokens: Sequence[str], forget: np.ndarray | None = None
    ) -> tuple[np.ndarray, NewTokens, list[int]]:
        """Prepare rows, some of which ``forget`` their token: ids ``[n]``, new tokens, forgotten ids, no change."""
        here: dict[str, int] = {}
        first, joining = len(self), list[str | None]()
        gone: set[str] = set()
        forgotten: list[int] = []
        ids = []
        for token, forgets in zip(tokens, [False] * len(tokens) if forget is None else forget.tolist(), strict=True):
            i = here.get(token) or (0 if token in gone else self.id_of(token))
            if forgets:
                here.pop(token, None)
                gone.add(token)
                if i:
                    forgotten.append(i)
                if i >= first:  # came and goes within the batch
                    joining[i - first] = None
            elif not i and token:
                i = here[token] = first + len(joining)
                joining.append(token)
            ids.append(i)
        random = os.urandom(TAG * len(joining))
        salts = [random[start : start + TAG] for start in range(0, len(random), TAG)]
        pairs = list(zip(joining, salts, strict=True))
        tags = [salt if token is None else make_tag(token, salt) for token, salt in pairs]
        kept = [None if token is None else salt for token, salt in pairs]
        return np.array(ids, dtype=np.int64), NewTokens(first, joining, kept, tags), forgotten

    def add(self, new: NewTokens) -> None:
        """Take in what `propose` prepared, once it is durable."""
        self.extend(zip(new.tokens, new.tags, strict=True))

    def extend(self, rows: Iterable[tuple[str | None, bytes]]) -> None:
        """Take rows (token or None, tag) of the next ids, as they are in the log."""
        first, tags = len(self), self._tags
        for token, tag in rows:
            self._tokens.append(token)
            tags += tag
        new = enumerate(self._tokens[first:], first)
        self._ids.update((token, i) for i, token in new if token is not None)

    def forget(self, i: int) -> None:
        """Erase the token of an id; one that is not here yet is left as it is."""
        token = self._tokens[i] if i < len(self) else None
        if token is not None:
            if self._ids[token] == i:  # to a reader that is behind, its new id may be known already
                del self._ids[token]
            self._tokens[i] = None


def make_tag(token: str, salt: bytes) -> bytes:
    """Give the tag of a token."""
    return hashlib.blake2b(salt + token.encode(), digest_size=TAG).digest()


class Withdrawn:
    """The table ``withdrawn``, durable when a call returns."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self.tokens: frozenset[str] = frozenset()  # replaced as a whole, never changed: look-ups go on beside a change
        self._sum: object = ()  # of the tables as they were read
        self._known: tuple[frozenset[str] | None, int, np.ndarray] = (None, 0, np.zeros(0, dtype=np.int64))
        self.reload()

    def reload(self) -> None:
        """Read the table again where another process has changed it."""
        kept = kept_sum(self._connection, "small", -1)
        if kept != self._sum:
            self._sum = kept
            self.tokens = frozenset(row[0] for row in self._connection.execute("SELECT token FROM withdrawn"))

    def change(self, tokens: Iterable[str], *, withdrawn: bool) -> None:
        """Withdraw items, or let them return."""
        rows = [(token,) for token in tokens]
        insert, delete = "INSERT OR IGNORE INTO withdrawn VALUES (?)", "DELETE FROM withdrawn WHERE token = ?"
        with explained(self._path, "Withdrawing items"), transaction(self._connection):
            self._connection.executemany(insert if withdrawn else delete, rows)
            write_small_sum(self._connection)
        at("withdrawn:committed")
        changed = {row[0] for row in rows}
        self.tokens = self.tokens | changed if withdrawn else self.tokens - changed

    def beside(self, others: np.ndarray, items: Vocabulary, n_items: int) -> np.ndarray:
        """Return the ids of withdrawn items below ``n_items``, and those of others that are not shown, int64."""
        tokens, (looked_up, size, known) = self.tokens, self._known
        if looked_up is not tokens or size != len(items):
            size = len(items)
            ids = items.ids(sorted(tokens))
            known = ids[ids > 0]
            self._known = tokens, size, known
        return np.union1d(known[known < n_items], others) if len(known) else others
