"""The durable log of events: what `append` returned for is on the disk, in order, once. One process writes.

Ids are those of the vocabularies, which grow in the same transaction; of an event's own id a keyed digest is kept.
Damage is found by SQLite's check on opening, a checksum of each row, and the number of rows of each commit.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.files import at, sync_folder
from recbole_signed.live import EventBatch
from recbole_signed.live.events import FORGET_USER
from recbole_signed.live.store.announcements import LINES, Announcements, features_in
from recbole_signed.live.store.database import (
    SEQ,
    HighWaterMark,
    connect,
    damaged,
    explained,
    one_view,
    read_meta,
    reading,
    reserve_wal,
    row_checksums,
    text_sum,
    transaction,
    truncate_wal,
    unsealed,
    write_small_sum,
)
from recbole_signed.live.store.edge_views import LogBatch
from recbole_signed.live.store.seen import Graves, Seen
from recbole_signed.live.store.settings import StateSettings
from recbole_signed.live.store.vocabulary import NewTokens, Vocabulary, Withdrawn
from recbole_signed.live.store.wishes import Wishes

_logger = logging.getLogger(__name__)
_REPLAY_ROWS = 50_000
_PURGED_ROWS = 2000  # rows, and pages, that compaction gives back while nobody else may write
_FREED_PAGES = 100
_TRIMMED = 100  # ids of events are dropped once this part of those that are kept came: it reads all of them
_FIRST = 16  # commits after which room is made for many: a log that is opened for a look needs none
Sizes = tuple[int, int]  # of the vocabularies of users and items
_COLUMNS = "seq, user, item, type, timestamp, value, checksum"


class EventLog:
    """The log of one state directory."""

    def __init__(
        self, path: Path, *, read_only: bool = False, check: bool = True, settings: StateSettings | None = None
    ) -> None:
        self.path = path
        self.settings = settings or StateSettings()
        self.connection = connect(path, read_only=read_only, check=check, now=self.settings.now())
        self._read_only = read_only
        self._trimmed = 0  # up to which seq the ids of events were dropped
        self._appended = 0  # commits since the write-ahead file was empty
        # whether the write-ahead file may still hold what was erased: a crash may have come before its checkpoint
        self.erasure_pending = not read_only
        self._mark = HighWaterMark(path.with_name(SEQ), read_only=read_only)
        self.reload(check=check)
        if not read_only:
            self._take_lines(path.with_name(LINES))
            self.end_graces()
        self.empty_wal()

    def _take_lines(self, path: Path) -> None:
        """Move the features that an earlier version has kept beside the log into it."""
        if path.exists():
            features = features_in(path, self.users)
            with explained(self.path, "Taking features into the event log"), transaction(self.connection):
                self.announcements.write(features)
            self.announcements.follow(features)
            path.unlink()
            sync_folder(path.parent)

    def reload(self, *, check: bool = False) -> None:
        """Read again what memory holds of the log, after an exception; with ``check`` against all checksums."""
        # in one view, since another process may write, and checksums are held against rows
        with reading(self.path), one_view(self.connection):
            meta = read_meta(self.connection, self.path)
            self._seen = Seen(self.connection, meta["key"])
            self.withdrawn = Withdrawn(self.connection, self.path)
            self.wishes = Wishes(self.connection, self.path)
            self.created: int = meta["created"]
            self.graves = Graves(self.connection, self.settings.grace)
            self.base_seq: int = meta["base_seq"]
            self.base: str | None = meta["base"]
            self.begun: Sizes | None = (meta["users"], meta["items"]) if "users" in meta else None
            self.last_seq = self._last_seq()
            self.users = Vocabulary.load(self.connection, self.path, "users", check=check)
            self.items = Vocabulary.load(self.connection, self.path, "items", check=check)
            self._joined = np.zeros(1, dtype=np.int64)
            self.announcements = Announcements(self.connection, self.path)
            if check:
                self.times_of_joining(len(self.users))
            if check and not self._seen.is_whole():
                raise damaged(self.path, "the ids of events that were taken are not what was written")

    def _last_seq(self) -> int:
        last = self.connection.execute("SELECT max(last_seq) FROM commits").fetchone()[0]
        return max(self.base_seq, last or 0)

    def durable(self) -> tuple[int, int, int]:
        """Read the last seq and the sizes of the vocabularies from the disk."""
        sizes = (self.connection.execute(f"SELECT max(id) FROM {name}").fetchone()[0] for name in ("users", "items"))
        return self._last_seq(), *(1 + (size or 0) for size in sizes)  # type: ignore[return-value]

    def close(self) -> None:
        """Close the file; everything is on the disk already."""
        self._mark.close()
        self.connection.close()

    # ---- writing

    def append(
        self, batch: EventBatch, source: str | None = None, position: str | None = None
    ) -> tuple[LogBatch, list[int]]:
        """Add a batch in one transaction and return its new rows; a ``forget_user`` erases its user from the log."""
        digests = [self._seen.digest(event_id) for event_id in batch.event_id]
        with explained(self.path, "Appending to the event log"), transaction(self.connection):
            fresh = self._fresh(digests)
            new = batch.take(np.array(fresh, dtype=np.int64))
            forgets = new.type == FORGET_USER
            user, new_users, forgotten = self.users.propose(new.user_id, forgets)
            item, new_items, _ = self.items.propose(new.item_id)
            sizes = len(self.users) + len(new_users.tokens), len(self.items) + len(new_items.tokens)
            logged = self._rows(new, (user, item), forgotten, sizes)
            self._write(logged, [digests[i] for i in fresh], new_users, new_items)
            self.wishes.add(new, logged, self.seq_of)
            announced, times = new.announced(), _times_of_forgetting(new)
            self.announcements.write(announced, times)
            if forgotten:
                self._erase_users(forgotten, logged)
            if times:  # of users who are not known, too: their events may be on their way
                self.graves.dig(times, self.settings.now())
                write_small_sum(self.connection)
            if source is not None and position is not None:
                row = (source, position, zlib.crc32(position.encode()))
                self.connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", row)
        for i in forgotten:  # before its token joins again under a new id
            self.users.forget(i)
        self.users.add(new_users)
        self.items.add(new_items)
        self.announcements.follow(announced, times)
        self.last_seq = logged.last_seq
        self._mark.write(self.last_seq)
        if times:
            self.graves.reload()
        if forgotten:
            self.erasure_pending = True
        self.empty_wal()
        self._appended += 1
        if self._appended == _FIRST:
            reserve_wal(self.path)
        return logged, fresh

    def _fresh(self, digests: list[bytes]) -> list[int]:
        """Rows of the batch whose event is not in the log, the first of each."""
        first: dict[bytes, int] = {}
        for i, digest in enumerate(digests):
            first.setdefault(digest, i)
        for known in self._seen.known(list(first)):
            del first[known]
        return list(first.values())

    def _rows(self, new: EventBatch, ids: tuple[np.ndarray, ...], forgotten: list[int], sizes: Sizes) -> LogBatch:
        kind = new.type.astype(np.int64)
        stays = np.ones(len(kind), dtype=bool)
        if forgotten:
            stays = (kind == FORGET_USER) | ~np.isin(ids[0], forgotten)
        seq = self.last_seq + 1 + np.arange(len(new), dtype=np.int64)
        columns = (seq, *ids, kind, new.timestamp, new.value)
        return LogBatch(self.last_seq + 1, self.last_seq + len(new), *sizes, *(column[stays] for column in columns))

    def _write(self, logged: LogBatch, digests: list[bytes], new_users: NewTokens, new_items: NewTokens) -> None:
        execute = self.connection.executemany
        now = self.settings.now()
        execute("INSERT INTO users VALUES (?, ?, ?, ?, ?)", new_users.rows(now))
        execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", new_items.rows(now))
        at("log:tokens")
        kept = np.flatnonzero(logged.type != FORGET_USER)  # the id of a forgetting would confirm its user
        places = (logged.seq[kept] - logged.first_seq).tolist()
        self._seen.add([digests[place] for place in places], logged.seq[kept], logged.user[kept])
        columns = (logged.seq, logged.user, logged.item, logged.type, logged.timestamp, logged.value)
        execute(  # SQLite keeps a NaN as NULL
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
            zip(*(column.tolist() for column in (*columns, row_checksums(columns))), strict=True),
        )
        at("log:events")
        if digests:
            about = (logged.last_seq, logged.first_seq, logged.n_users, logged.n_items)
            commit = (*about[:2], len(logged), *about[2:], text_sum(about))
            self.connection.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?)", commit)

    def _erase_users(self, ids: list[int], logged: LogBatch) -> None:
        seqs = self.connection.execute(
            "SELECT seq FROM events WHERE user IN (SELECT value FROM json_each(?)) AND seq < ? AND type != ?",
            (json.dumps(ids), logged.first_seq, FORGET_USER),
        ).fetchall()
        self.connection.executemany(
            "UPDATE commits SET kept = kept - 1 "
            "WHERE last_seq = (SELECT min(last_seq) FROM commits WHERE last_seq >= ?)",
            seqs,
        )
        self.connection.executemany("DELETE FROM events WHERE seq = ?", seqs)
        self.connection.executemany(
            "UPDATE users SET token = NULL, salt = NULL, joined = 0 WHERE id = ?", [(i,) for i in ids]
        )
        self._seen.erase("user IN (SELECT value FROM json_each(?))", json.dumps(ids))
        self.wishes.erase_users(ids)
        times = dict.fromkeys(ids, 0)
        gone = logged.type == FORGET_USER
        times.update(zip(logged.user[gone].tolist(), logged.timestamp[gone].tolist(), strict=True))
        self.connection.executemany(
            "INSERT OR REPLACE INTO erasures VALUES (?, ?, ?, 1)", [(i, logged.last_seq, times[i]) for i in ids]
        )

    def drop_wishes(self) -> bool:
        """Remove some of what users asked for that was over before the time of grace; False: nothing is left."""
        before = self.settings.now() - 1000 * self.settings.grace
        with explained(self.path, "Compacting the event log"), transaction(self.connection):
            return self.wishes.drop(before, _PURGED_ROWS)

    def purge_step(self) -> bool:
        """Erase some of the rows that the base stands for, or give some of their room back; False: nothing is left."""
        execute = self.connection.execute
        with explained(self.path, "Compacting the event log"):
            for table, key in (("events", "seq"), ("commits", "last_seq")):
                first = execute(f"SELECT min({key}) FROM {table} WHERE {key} <= ?", (self.base_seq,)).fetchone()[0]
                if first is not None:
                    last = min(first + _PURGED_ROWS - 1, self.base_seq)
                    with transaction(self.connection):
                        execute(f"DELETE FROM {table} WHERE {key} <= ?", (last,))
                    return True
            forgotten = self.last_seq - self.settings.keep_seen
            if forgotten >= self._trimmed + max(self.settings.keep_seen // _TRIMMED, 1):
                with transaction(self.connection):
                    self._seen.erase("seq <= ?", forgotten)
                self._trimmed = forgotten
                return True
            free = execute("PRAGMA freelist_count").fetchone()[0]
            if free:
                execute(f"PRAGMA incremental_vacuum({_FREED_PAGES})").fetchall()
                if execute("PRAGMA freelist_count").fetchone()[0] < free:
                    return True
            truncate_wal(self.connection)
            return False

    def probe(self) -> None:
        """Write a row and take it back."""
        with explained(self.path, "Writing the event log"), transaction(self.connection):
            self.connection.execute("INSERT INTO positions VALUES ('', '', 0)")
            self.connection.execute("DELETE FROM positions WHERE source = ''")

    def end_graces(self) -> None:
        """Destroy the keys of graves whose time of grace is over, see `Graves`."""
        now = self.settings.now()
        if self.graves.has_ended(now):
            with explained(self.path, "Ending the grace of forgotten users"), transaction(self.connection):
                self.graves.level(now)
                write_small_sum(self.connection)
            self.graves.reload()
            self.erasure_pending = True
            self.empty_wal()

    def empty_wal(self) -> None:
        """Move the write-ahead file into the log and empty it if it may hold what was erased; later if busy."""
        if self.erasure_pending:
            self.erasure_pending = not truncate_wal(self.connection)
            self._appended = 0
            if self.erasure_pending:
                _logger.warning(
                    "%s-wal can't be emptied yet, so it may hold what was erased; to be retried.", self.path
                )

    # ---- reading

    def catch_up(self) -> None:
        """Read what another process has written since: the end of the log, its base, and tokens that have joined."""
        with reading(self.path):
            meta = read_meta(self.connection, self.path)
            self.base_seq, self.base = meta["base_seq"], meta["base"]
            self.last_seq = self._last_seq()
            for table, vocabulary in (("users", self.users), ("items", self.items)):
                query = f"SELECT token, tag FROM {table} WHERE id >= ? ORDER BY id"
                vocabulary.extend(self.connection.execute(query, (len(vocabulary),)))

    def times_of_joining(self, size: int) -> np.ndarray:
        """Return when users joined by id, in milliseconds, int64 of at least ``size``; 0 for those of the data set."""
        first = len(self._joined)
        if size > first:
            query = (
                "SELECT CASE typeof(joined) WHEN 'integer' THEN joined ELSE -1 END, token IS NULL FROM users "
                "WHERE id >= ? ORDER BY id"
            )
            with reading(self.path):
                rows = np.fromiter(self.connection.execute(query, (first,)), dtype="i8, ?")
            ids = np.arange(first, first + len(rows))
            times = unsealed(ids, rows["f0"])
            zero = rows["f1"] | (ids < self.begun[0] if self.begun else times == 0)
            bad = np.flatnonzero((times < 0) | (zero != (times == 0)))
            if bad.size:
                raise damaged(self.path, f"when user {ids[bad[0]]} joined is not what was written")
            self._joined = np.concatenate([self._joined, times])
        return self._joined

    def position(self, source: str) -> str | None:
        """How far a source was read when its last batch became durable; None where it is not known."""
        with reading(self.path):
            query = "SELECT position, checksum FROM positions WHERE source = ?"
            row = self.connection.execute(query, (source,)).fetchone()
            fits = not row or zlib.crc32(row[0].encode()) == row[1]
        if not fits:
            raise damaged(self.path, f"the position of {source} is not what was written")
        return row[0] if row else None

    def known(self, event_id: str) -> bool:
        """Whether an event of that id was ever taken."""
        return self.seq_of(event_id) >= 0

    def user_and_type(self, event_id: str) -> tuple[int, int | None] | None:
        """Return whose an event is and its type, None once that was compacted; None where none of that id was taken."""
        query = "SELECT seen.user, events.type FROM seen LEFT JOIN events USING (seq) WHERE digest = ?"
        with reading(self.path):
            row: tuple[int, int | None] | None = self.connection.execute(
                query, (self._seen.digest(event_id),)
            ).fetchone()
        return row

    def seq_of(self, event_id: str) -> int:
        """Return the ``seq`` of an event; -1 where none of that id was taken."""
        return self._seen.seq(self._seen.digest(event_id))

    def first_seen(self, event_ids: list[str]) -> list[int]:
        """Return the places of events that were never taken, the first of each id."""
        return self._fresh([self._seen.digest(event_id) for event_id in event_ids])

    def commits(self, after_seq: int) -> Iterator[LogBatch]:
        """Read the batches after ``after_seq`` as they were appended, less what was erased since."""
        query = (
            "SELECT first_seq, last_seq, kept, n_users, n_items, checksum "
            "FROM commits WHERE last_seq > ? ORDER BY last_seq"
        )
        while True:
            with reading(self.path), one_view(self.connection):  # an erasure may come between the reads
                if self.base_seq <= after_seq < read_meta(self.connection, self.path)["base_seq"]:
                    return  # compacted since `catch_up`, which will tell the next time
                cursor = self.connection.execute(query, (after_seq,))
                group: list[tuple[int, ...]] = []
                rows = 0
                while rows < _REPLAY_ROWS and len(group) < _REPLAY_ROWS and (commit := cursor.fetchone()):
                    group.append(commit)
                    rows += commit[2]
                cursor.close()
                if not group:
                    return
                block = self.read(after_seq, -1, group[-1][1])
            for first, last, kept, n_users, n_items, checksum in group:
                if checksum != text_sum((last, first, n_users, n_items)):
                    raise damaged(self.path, f"the commit of seq {last} is not what was written")
                start, end = np.searchsorted(block.seq, [first, last + 1])
                if end - start != kept:
                    raise damaged(self.path, f"{kept} rows belong to the commit of seq {last}, {end - start} are there")
                columns = (block.seq, block.user, block.item, block.type, block.timestamp, block.value)
                yield LogBatch(first, last, n_users, n_items, *(column[start:end] for column in columns))
            after_seq = group[-1][1]

    def refuse_lost_events(self) -> None:
        """Hold the end of the log against the newest seq that was acknowledged, see `HighWaterMark`."""
        acknowledged = self._mark.read()
        with reading(self.path):
            last_seq = self._last_seq()
        if acknowledged > last_seq:
            raise UsageError(
                f"The event log {self.path} ends at seq {self.last_seq}, and {acknowledged} was acknowledged: its "
                f"write-ahead file was damaged or taken away. Restore a backup, or remove {self._mark.path} to go on "
                "without the events between."
            )

    def verify(self) -> None:
        """Hold every row and every token against its checksum; takes a second for each few hundred thousand."""
        self.refuse_lost_events()
        with reading(self.path):
            self.reload(check=True)
        for _ in self.commits(self.base_seq):
            pass

    def read(self, after: int, limit: int, last: int = 2**62) -> LogBatch:
        """Read rows with a greater ``seq``, ``limit`` of them at most, all of them for -1, up to ``last``."""
        if after < self.base_seq:
            raise damaged(self.path, f"rows up to {self.base_seq} were compacted, those after {after} were expected")
        with reading(self.path):
            rows = self.connection.execute(
                f"SELECT {_COLUMNS} FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (after, last, limit)
            ).fetchall()
        columns = list(zip(*rows, strict=True)) if rows else [()] * 7
        try:
            arrays = [np.array(column, dtype=np.int64) for column in (*columns[:5], columns[6])]
            value = np.array(columns[5], dtype=np.float64)  # NULL becomes NaN
        except (TypeError, ValueError, OverflowError) as error:
            raise damaged(self.path, f"rows after seq {after} hold other values than numbers") from error
        bad = np.flatnonzero(row_checksums([*arrays[:5], value]) != arrays[5])
        if bad.size:
            raise damaged(self.path, f"the checksum of seq {arrays[0][bad[0]]} does not fit")
        end = int(arrays[0][-1]) if rows else after
        return LogBatch(after + 1, end, len(self.users), len(self.items), *[*arrays[:5], value])


def _times_of_forgetting(batch: EventBatch) -> dict[str, int]:
    times: dict[str, int] = {}
    for i in np.flatnonzero(batch.type == FORGET_USER).tolist():
        times[batch.user_id[i]] = max(times.get(batch.user_id[i], 0), int(batch.timestamp[i]))
    return times
