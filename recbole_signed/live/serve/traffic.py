"""What was shown to whom, by which variant, with which probability, and what came of it: a SQLite file by the state.

Users are kept under a keyed hash whose key lies in the file; what is forgotten is deleted and overwritten. Answers from
before the last erasure, in whatever process, are not written after it: one may be for the user that is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from recbole_signed.errors import UsageError
from recbole_signed.live.store.database import truncate_wal

_logger = logging.getLogger(__name__)
FILE = "traffic.sqlite"
WAITING = 1000  # answers that wait to be written; more are not logged
GATHER = 0.02  # seconds in which answers are gathered that are written together
HOUR = 3_600_000  # milliseconds
DAY = 24 * HOUR
STEP = 10_000  # most impressions that are deleted for their age at once: what waits is not held up for long
ATTRIBUTION = DAY  # milliseconds after an impression within which a verdict on the item counts as its outcome
BEFORE = 14 * DAY  # milliseconds of the period whose verdicts are the covariates of a user
SKEW = 60_000  # milliseconds that the clock of a caller may lag behind that of the service

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA secure_delete = ON;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS secret (key BLOB NOT NULL);
INSERT INTO secret SELECT randomblob(32) WHERE NOT EXISTS (SELECT 1 FROM secret);
CREATE TABLE IF NOT EXISTS erased (seq INTEGER NOT NULL);
INSERT INTO erased SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM erased);
CREATE TABLE IF NOT EXISTS impression (
    id INTEGER PRIMARY KEY AUTOINCREMENT, request TEXT NOT NULL, user BLOB NOT NULL, item TEXT NOT NULL,
    position INTEGER NOT NULL, time INTEGER NOT NULL, version TEXT NOT NULL,
    like INTEGER NOT NULL DEFAULT 0, dislike INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS of_user ON impression (user, item, time);
CREATE INDEX IF NOT EXISTS of_time ON impression (time);
CREATE TABLE IF NOT EXISTS exposure (
    impression INTEGER NOT NULL REFERENCES impression (id) ON DELETE CASCADE,
    experiment TEXT NOT NULL, variant TEXT NOT NULL, propensity REAL NOT NULL,
    PRIMARY KEY (experiment, impression)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS of_impression ON exposure (impression);
CREATE TABLE IF NOT EXISTS draw (
    impression INTEGER NOT NULL REFERENCES impression (id) ON DELETE CASCADE,
    experiment TEXT NOT NULL, policy TEXT NOT NULL, propensity REAL NOT NULL, probability REAL NOT NULL,
    PRIMARY KEY (experiment, policy, impression)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS drawn ON draw (impression);
COMMIT;
"""


def now_ms() -> int:
    """Return the clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _passed() -> int:
    """Return the milliseconds since the machine was started; they go on while it sleeps, whatever clock is set."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1_000_000


def _frame(rows: Sequence[tuple[object, ...]], *names: str) -> pl.DataFrame:
    """Return rows as a table; its columns are whole numbers but for texts and probabilities."""
    types: dict[str, type[pl.DataType]] = dict.fromkeys(("item", "request", "variant"), pl.String)
    types |= dict.fromkeys(("propensity", "probability"), pl.Float64)
    return pl.DataFrame(rows, schema={name: types.get(name, pl.Int64) for name in names}, orient="row")


@dataclass(frozen=True)
class Shown:
    """One answer."""

    request: str
    user: str
    items: Sequence[str]  # best first
    time: int  # milliseconds since 1970
    version: str  # of the model
    exposures: Sequence[Sequence[tuple[str, str, float]]]  # experiment, variant, propensity: by item, or one
    seq: int = 0  # that the answer reflects
    # of a drawn first item: experiment, policy, probability of the draw, and of the policy to put it first
    draws: Sequence[tuple[str, str, float, float]] = ()


class TrafficLog:
    """The log of impressions, for any thread; UsageError where the file can't be opened or is no such log."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._lock, self._path = threading.Lock(), path
        if read_only and not path.is_file():
            raise UsageError(f"{path} is not there: the service has not logged an impression yet.")
        try:
            self._db = self._connect("ro" if read_only else "rwc")
            self._db.execute("PRAGMA foreign_keys = ON")
            if not read_only:
                self._db.executescript(_SCHEMA)
            self._key: bytes = self._db.execute("SELECT key FROM secret").fetchone()[0]
            self._first = self._last()
            self._erase_due = not read_only  # a process that ended too early may have left what was erased
            self._empty_wal()
        except sqlite3.Error as error:
            may_not = any(text in str(error) for text in ("readonly database", "unable to open"))
            cure = "; a service that may not write there needs 'impressions: false' in its --config" if may_not else ""
            if "no such" in str(error):
                cure = "; it is of another version of this package: move it away, and a new one is begun"
            raise UsageError(f"can't open the log of impressions {path}: {error}{cure}.") from error

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(f"{self._path.absolute().as_uri()}?mode={mode}", uri=True, check_same_thread=False)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _empty_wal(self) -> None:
        """Overwrite what was erased; where a reader or the disk does not let it, at the next write or opening."""
        if self._erase_due:
            self._erase_due = not truncate_wal(self._db)

    def _name(self, user: str) -> bytes:
        return hashlib.blake2b(user.encode(), key=self._key, digest_size=16).digest()

    def write(self, answers: Iterable[Shown]) -> None:
        """Keep answers, all or none of them; those from before the last erasure are left out."""
        # one statement for a list: the interpreter is handed on with each, which slows the thread that answers
        sql = (
            "INSERT INTO impression (request, user, item, position, time, version) "
            "SELECT ?, ?, value, key, ?, ? FROM json_each(?) ORDER BY key"
        )
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")  # no erasure comes between the look and the rows
            erased = self._db.execute("SELECT seq FROM erased").fetchone()[0]
            for shown in answers:
                if shown.seq < erased or not shown.items:
                    continue
                values = shown.request, self._name(shown.user), shown.time, shown.version, json.dumps(list(shown.items))
                last = self._db.execute(sql, values).lastrowid or 0
                ids = range(last - len(shown.items) + 1, last + 1)
                own = shown.exposures if len(shown.exposures) > 1 else [*shown.exposures] * len(ids)
                exposures = [(id, *one) for id, of_item in zip(ids, own, strict=False) for one in of_item]
                if exposures:
                    self._db.executemany("INSERT INTO exposure VALUES (?, ?, ?, ?)", exposures)
                    draws = [(ids[0], *draw) for draw in shown.draws]
                    self._db.executemany("INSERT INTO draw VALUES (?, ?, ?, ?, ?)", draws)
        with self._lock:
            self._empty_wal()

    def outcome(self, verdicts: Iterable[tuple[str, str, int, int]]) -> int:
        """Count verdicts (user, item, sign, ms) for the newest impression before each; return how many were news."""
        matched = 0
        with self._lock, self._db:
            for user, item, sign, at in verdicts:
                # where none was in ATTRIBUTION before it, the first of up to SKEW after it counts
                column = "like" if sign > 0 else "dislike"
                cursor = self._db.execute(
                    f"UPDATE impression SET {column} = 1 WHERE id = (SELECT id FROM impression "
                    "WHERE user = ? AND item = ? AND time BETWEEN ? AND ? "
                    f"ORDER BY max(time - ?, 0), time DESC, id DESC LIMIT 1) AND {column} = 0",
                    (self._name(user), item, at - ATTRIBUTION, at + SKEW, at),
                )
                matched += cursor.rowcount
        return matched

    def forget(self, user: str, seq: int) -> None:
        """Overwrite a user's impressions and write no answer from before ``seq``; UsageError where that fails."""
        try:
            with self._lock:
                with self._db:
                    self._db.execute("DELETE FROM impression WHERE user = ?", (self._name(user),))
                    self._db.execute("UPDATE erased SET seq = max(seq, ?)", (seq,))
                self._erase_due = True
                self._empty_wal()
        except sqlite3.Error as error:
            raise UsageError(f"what was shown to a user can't be erased: {error}; send the event again.") from error

    def reach(self, seq: int) -> None:
        """Write answers that reflect ``seq``, the newest of the state: an erasure that was to be later never came."""
        with self._lock, self._db:
            self._db.execute("UPDATE erased SET seq = min(seq, ?)", (seq,))

    def prune(self, before: int) -> int:
        """Delete impressions older than ``before``, milliseconds, at most :data:`STEP`; return how many."""
        sql = "DELETE FROM impression WHERE id IN (SELECT id FROM impression WHERE time < ? ORDER BY time LIMIT ?)"
        with self._lock, self._db:
            return self._db.execute(sql, (before, STEP)).rowcount

    def holding(self, user: str) -> int:
        """Return how many impressions of a user there are."""
        rows = self._query("SELECT count(*) FROM impression WHERE user = ?", (self._name(user),))
        return int(str(rows[0][0]))

    def added(self) -> int:
        """Return how many impressions all processes have added since this one opened the log."""
        with self._lock:
            return max(self._last() - self._first, 0)

    def _last(self) -> int:
        # ids go on where impressions were deleted
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0])

    def per_user(self, experiment: str) -> pl.DataFrame:
        """Return one row a user of an experiment, for its first variant; lists that were interleaved are left out."""
        rows = self._query(
            """
            WITH shown AS (
                SELECT i.user, e.variant, e.propensity, i.time, i.like, i.dislike
                FROM exposure e JOIN impression i ON i.id = e.impression
                WHERE e.experiment = ?1 AND i.request NOT IN (
                    SELECT i.request FROM exposure e JOIN impression i ON i.id = e.impression WHERE e.experiment = ?1
                    GROUP BY i.request HAVING min(e.variant) < max(e.variant)
                )
            ), first AS (
                SELECT user, min(time) AS first FROM shown GROUP BY user
            ), own AS (
                SELECT s.user, s.variant, s.propensity, f.first
                FROM shown s JOIN first f ON f.user = s.user AND f.first = s.time GROUP BY s.user
            ), before AS (
                SELECT o.user, count(i.id) AS impressions, sum(i.like) AS likes, sum(i.dislike) AS dislikes
                FROM own o JOIN impression i ON i.user = o.user AND i.time <= o.first - ?2 AND i.time >= o.first - ?3
                GROUP BY o.user
            )
            SELECT o.variant, o.propensity, o.first,
                   count(*) AS impressions, sum(s.like) AS likes, sum(s.dislike) AS dislikes,
                   coalesce(b.impressions, 0), coalesce(b.likes, 0), coalesce(b.dislikes, 0)
            FROM own o JOIN shown s ON s.user = o.user AND s.variant = o.variant
            LEFT JOIN before b ON b.user = o.user
            GROUP BY o.user ORDER BY o.first, o.user
            """,
            # covariates end ATTRIBUTION before a user's first exposure: none of their verdicts came after it
            (experiment, ATTRIBUTION, ATTRIBUTION + BEFORE),
        )
        counts = ("impressions", "likes", "dislikes")
        return _frame(rows, "variant", "propensity", "first", *counts, *(f"{name}_before" for name in counts))

    def interleaved(self, experiment: str) -> pl.DataFrame:
        """Return likes and dislikes per request and variant, lists of one variant left out; users are numbers here."""
        rows = self._query(
            """
            WITH part AS (
                SELECT i.user, i.request, e.variant, sum(i.like) AS likes, sum(i.dislike) AS dislikes, count(*) AS items
                FROM exposure e JOIN impression i ON i.id = e.impression WHERE e.experiment = ?
                GROUP BY i.user, i.request, e.variant
            ), list AS (
                SELECT *, count(*) OVER (PARTITION BY request) AS variants FROM part
            )
            SELECT dense_rank() OVER (ORDER BY user), request, variant, likes, dislikes
            FROM list WHERE variants > 1 OR items = 1 ORDER BY request
            """,
            (experiment,),
        )
        return _frame(rows, "user", "request", "variant", "likes", "dislikes")

    def drawn(self, experiment: str, policy: str) -> pl.DataFrame:
        """Return the drawn first places, with probabilities of the draw and of the policy; users are numbers here."""
        rows = self._query(
            """
            SELECT i.item, d.propensity, d.probability, i.like, i.dislike, dense_rank() OVER (ORDER BY i.user)
            FROM draw d JOIN impression i ON i.id = d.impression
            WHERE d.experiment = ? AND d.policy = ? ORDER BY i.id
            """,
            (experiment, policy),
        )
        return _frame(rows, "item", "propensity", "probability", "like", "dislike", "user")

    def _query(self, sql: str, values: tuple[object, ...]) -> list[tuple[object, ...]]:
        """Read beside what is written: a report may take long, and an erasure holds up events until it is done."""
        try:
            with contextlib.closing(self._connect("ro")) as connection:
                return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise UsageError(f"can't read the log of impressions {self._path}: {error}.") from error


class ImpressionQueue:
    """Writes to a log in a thread, in the order of things; ``keep`` ms after which impressions go, None keeps them."""

    def __init__(self, log: TrafficLog, keep: int | None = None) -> None:
        self._log, self._keep = log, keep
        self._prune_at = time.monotonic()
        self._begun = now_ms() - _passed()
        self._dropped, self._counting = 0, threading.Lock()
        self._failed = False
        self._queue: queue.SimpleQueue[Shown | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)
        self._thread.start()

    def put(self, answer: Shown) -> None:
        """Hand an answer over, or drop it where :data:`WAITING` things wait: answers do not wait for the disk."""
        if self._queue.qsize() < WAITING:
            self._queue.put(answer)
        else:
            with self._counting:
                self._dropped += 1

    def outcomes(self, verdicts: Sequence[tuple[str, str, int, int]], counted: Callable[[int, int], None]) -> None:
        """Hand verdicts over, see :meth:`TrafficLog.outcome`; ``counted`` gets the likes and dislikes found."""

        def write() -> None:
            by_sign = ([verdict for verdict in verdicts if verdict[2] == sign] for sign in (1, -1))
            likes, dislikes = (self._log.outcome(part) for part in by_sign)
            counted(likes, dislikes)

        self._queue.put(write)

    def forget(self, user: str, seq: int) -> None:
        """Delete what was shown to a user, see :meth:`TrafficLog.forget`, and wait until that is done."""
        done: Future[None] = Future()

        def write() -> None:
            try:
                self._log.forget(user, seq)
            except Exception as error:  # whatever it is: somebody waits
                done.set_exception(error)
            else:
                done.set_result(None)

        self._queue.put(write)
        done.result()

    def reach(self, seq: int) -> None:
        """See :meth:`TrafficLog.reach`."""
        self._queue.put(lambda: self._log.reach(seq))

    def close(self) -> None:
        """Write what waits, then end."""
        self._queue.put(None)
        self._thread.join()

    def _next(self) -> Shown | Callable[[], None] | None:
        waits = None if self._keep is None else max(self._prune_at - time.monotonic(), 0.0)
        try:
            return self._queue.get(timeout=waits)
        except queue.Empty:  # impressions grow old where nothing happens, too
            return _nothing

    def _run(self) -> None:
        job = self._next()
        while job is not None:
            answers: list[Shown] = []
            if isinstance(job, Shown):  # a transaction, and a turn of this thread, for each answer would slow answers
                time.sleep(GATHER)
            while isinstance(job, Shown):
                answers.append(job)
                job = self._queue.get() if not self._queue.empty() else _nothing
            if answers:
                if self._attempt(partial(self._log.write, answers)):
                    self._failed = False
                with self._counting:
                    dropped, self._dropped = self._dropped, 0
                if dropped:
                    _logger.warning("%d answers were not logged as shown: the disk is too slow.", dropped)
            if job is not None:
                self._attempt(job)
                if self._keep is not None and time.monotonic() >= self._prune_at:
                    self._attempt(partial(self._prune, self._keep))
                job = self._next()

    def _attempt(self, write: Callable[[], None]) -> bool:
        """Return whether a write went well; a failure ends nothing and is logged once until one goes well again."""
        try:
            write()
        except Exception as error:
            if not self._failed:
                fault = None if isinstance(error, sqlite3.Error) else error
                _logger.error("The log of impressions can't be written: %s", error, exc_info=fault)
            self._failed = True
            return False
        return True

    def _prune(self, keep: int) -> None:
        ahead = now_ms() - _passed() - self._begun
        self._begun += ahead
        if ahead > HOUR:  # somebody has a day to set the clock right
            self._prune_at = time.monotonic() + DAY / 1000
            _logger.warning(
                "The clock has been set forward by %.0f hours; no impression is deleted for its age for a day.",
                ahead / HOUR,
            )
            return
        self._prune_at = time.monotonic() + HOUR / 1000
        if self._log.prune(now_ms() - keep) == STEP:
            self._prune_at = time.monotonic()  # more are left


def _nothing() -> None:
    """Do nothing."""
