"""The base of a log: edges up to a ``seq`` in one file, in the place of the rows that led to them."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.files import DamagedError, at, refusing, sync_folder
from recbole_signed.ids_and_times import id_text
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, SKIP, VIEW, refuse_other_units
from recbole_signed.live.store.database import explained, transaction, truncate_wal, write_meta
from recbole_signed.live.store.edge_views import LogBatch
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.event_log import EventLog
from recbole_signed.live.store.versions import Versions, read_manifest, read_tensors, write_folder
from recbole_signed.live.store.vocabulary import NewTokens, Vocabulary

Enter = Callable[[], contextlib.AbstractContextManager[None]]
_logger = logging.getLogger(__name__)
_KINDS = (LIKE, DISLIKE, SKIP, VIEW)


class Base:
    """The base of the log in a state directory: ``base-<seq>/``, named in the log itself."""

    def __init__(self, directory: Path, log: EventLog, enter: Enter) -> None:
        self._directory = directory
        self._log = log
        self._enter = enter

    def load(self) -> EdgeState:
        """Read the edges at the log's ``base_seq``: none at all where nothing was compacted or loaded."""
        if self._log.base is None:
            return EdgeState()
        folder = self._directory / self._log.base
        try:
            manifest = read_manifest(folder)
            return EdgeState.of_version(
                folder.name, read_tensors(folder, manifest, "edges"), manifest.get("n_items", 0)
            )
        except DamagedError as error:
            raise UsageError(f"{error} No version reaches back behind it: restore the folder from a backup.") from error

    def write(self, seq: int, edges: dict[str, np.ndarray], n_items: int, new: tuple[NewTokens, ...] = ()) -> None:
        """Make edges the base, with users and items that join, and erase the rows of the log up to ``seq``."""
        name = f"base-{seq:012d}"
        if name != self._log.base:
            self._put(name, seq, edges, n_items, new)
            at("base:switched")
            self.purge()
            at("base:vacuumed")

    def erase(self, users: list[int]) -> None:
        """Write the base again without some users; the state is held while it is put in the place of the old one."""
        edges = self.load()
        edges.erase([user for user in users if user < edges.n_users])
        first, _, number = str(self._log.base).partition(".")
        self._put(f"{first}.{int(number or 0) + 1}", self._log.base_seq, edges.to_tensors(), edges.n_items)

    def _put(
        self, name: str, seq: int, edges: dict[str, np.ndarray], n_items: int, new: tuple[NewTokens, ...] = ()
    ) -> None:
        """Write a base and let the log name it in the place of the one before."""
        log, folder = self._log, self._directory / name
        with refusing("Writing the base of the event log"):
            shutil.rmtree(folder, ignore_errors=True)
            write_folder(folder, {"edges": edges}, {"seq": seq, "n_items": n_items}, "base")
        with self._enter(), explained(log.path, "Compacting the event log"):
            with transaction(log.connection):
                for table, joining in zip(("users", "items"), new, strict=False):
                    log.connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", joining.rows(0))
                    write_meta(log.connection, {table: joining.first + len(joining.tokens)})
                write_meta(log.connection, {"base_seq": seq, "base": name})
            log.base, log.base_seq, log.last_seq = name, seq, max(seq, log.last_seq)
            for vocabulary, joining in zip((log.users, log.items), new, strict=False):
                vocabulary.add(joining)
                log.begun = len(log.users), len(log.items)
            with refusing("Removing the base of before"):
                self.clean()
            truncate_wal(log.connection)

    def advance(self, versions: Versions) -> bool:
        """Make the edges of the oldest whole version the base, if it is the newer; return whether there is one."""
        for name in versions.names():
            try:
                about, edges = versions.edges(name)
            except DamagedError as error:
                _logger.warning("%s It does not hold the log back.", error)
                continue
            if about["applied_seq"] > self._log.base_seq:
                self.write(about["applied_seq"], edges, about["n_items"])
            return True
        return False

    def purge(self) -> None:
        """Erase wishes that are over, and the rows that the base stands for, with pauses for others."""
        for step in (self._log.drop_wishes, self._log.purge_step):
            more = True
            while more:
                with self._enter():
                    started = time.perf_counter()
                    more = step()
                    taken = time.perf_counter() - started
                if more:
                    time.sleep(taken)

    def clean(self) -> None:
        """Remove bases that are not the log's: those before it, and what a crash left."""
        for folder in self._directory.glob("base-*"):
            if folder.name != self._log.base:
                shutil.rmtree(folder)
                sync_folder(self._directory)


def first_edges(
    log: EventLog, users: Sequence[str], items: Sequence[str], columns: Sequence[np.ndarray], *, unit_known: bool
) -> tuple[EdgeState, NewTokens, NewTokens]:
    """Make the edges and tokens that an empty log starts from; of a repeated pair events are taken by their times.

    ``columns`` are users and items, the ids of whose tokens are 1, 2, ..., kinds and times in milliseconds, ``[E]``.
    """
    if log.last_seq or log.base or len(log.users) > 1 or len(log.items) > 1:
        raise UsageError(
            f"{log.path} holds events already, and a state begins in an empty directory; open this one with "
            "OnlineRecommender.open(), or give another directory."
        )
    new_users, new_items = _all_new(log.users, users, "user"), _all_new(log.items, items, "item")
    sizes = [len(column) for column in columns]
    if len(set(sizes)) > 1:
        raise UsageError(f"The columns user, item, kind and timestamp of the edges differ in length: {sizes}.")
    user, item, kind, stamp = (np.asarray(column, dtype=np.int64) for column in columns)
    _within(user, 1, len(users), "user ids")
    _within(item, 1, len(items), "item ids")
    _within(stamp, 0, 2**62, "time stamps")
    if not unit_known:
        refuse_other_units(stamp)
    if not np.isin(kind, _KINDS).all():
        raise UsageError("An edge to load is a like, a dislike, a skip or a view; leave other events to ingest().")
    edges, none = EdgeState(len(users) + 1, len(items) + 1), np.zeros(0)
    edges.apply(LogBatch(0, 0, edges.n_users, edges.n_items, none, user, item, kind, stamp, none))
    return edges, new_users, new_items


def _all_new(vocabulary: Vocabulary, tokens: Iterable[str], what: str) -> NewTokens:
    try:
        listed = [id_text(token) for token in tokens]
    except ValueError as error:
        raise UsageError(f"A {what} token {error}; give text, each once.") from error
    _, new, _ = vocabulary.propose(listed)
    if len(new.tokens) != len(listed):
        raise UsageError(f"{len(listed)} {what} tokens were given and only {len(new.tokens)} differ; give each once.")
    return new


def _within(values: Any, low: int, high: int, what: str) -> None:
    if len(values) and (values.min() < low or values.max() > high):
        raise UsageError(f"The {what} lie from {values.min()} to {values.max()}; {low} to {high} was expected.")
