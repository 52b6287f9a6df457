"""The SQLite file of the log: its place and tables, how it is opened, what its errors mean, and what finds damage.

Damage may leave SQLite's own structure whole: a checksum of each row of the log finds it, and its newest seq.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.files import at

LOG = "log.sqlite"  # in the directory of a state
FORMAT = 2
CHECKPOINT = 2000  # pages after which the write-ahead file is moved into the log; by default too often
WAL_BYTES = (CHECKPOINT + 64) * (4096 + 24)  # what the write-ahead file has room for before it has to grow
CACHE = 4096  # KB of pages that SQLite keeps; the system keeps the file's pages anyway
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE users (id INTEGER PRIMARY KEY, token TEXT, salt BLOB, tag BLOB NOT NULL, joined INTEGER NOT NULL);
CREATE TABLE items (id INTEGER PRIMARY KEY, token TEXT, salt BLOB, tag BLOB NOT NULL, joined INTEGER NOT NULL);
CREATE TABLE seen (digest BLOB PRIMARY KEY, seq INTEGER NOT NULL, user INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sums (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE erasures (
    user INTEGER PRIMARY KEY, seq INTEGER NOT NULL, timestamp INTEGER NOT NULL, files INTEGER NOT NULL
);
CREATE TABLE graves (digest BLOB PRIMARY KEY, until INTEGER NOT NULL, timestamp INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE grave_keys (until INTEGER PRIMARY KEY, key BLOB NOT NULL);
CREATE TABLE withdrawn (token TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE features (
    side TEXT NOT NULL, token TEXT NOT NULL, content TEXT NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (side, token)
) WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, user INTEGER NOT NULL, item INTEGER NOT NULL, type INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, value REAL, checksum INTEGER NOT NULL
);
CREATE TABLE commits (
    last_seq INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, kept INTEGER NOT NULL,
    n_users INTEGER NOT NULL, n_items INTEGER NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE positions (source TEXT PRIMARY KEY, position TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
"""
WISHES = """CREATE TABLE wishes (
    user INTEGER NOT NULL, item INTEGER NOT NULL, feature TEXT NOT NULL, value TEXT NOT NULL, sign INTEGER NOT NULL,
    timestamp INTEGER NOT NULL, until INTEGER, seq INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (user, item, feature, value)
) WITHOUT ROWID"""
"""The table of ``wishes.py``, which comes with its first row."""
_STATEMENTS = [statement.strip() for statement in _TABLES.split(";")[:-1]]
_FEATURES = next(sql for sql in _STATEMENTS if "TABLE features" in sql)  # which earlier versions did not have
_FULL = (13, 10, 8, 14)  # SQLITE_FULL, _IOERR, _READONLY, _CANTOPEN: the names came with Python 3.11

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_TIME = (1 << 43) - 1  # the bits of a time in milliseconds since 1970: those of the next two centuries
_SEALED = np.int64(-1 << 63)


@contextlib.contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turn an error of SQLite into one sentence."""
    try:
        yield
    except UnicodeDecodeError as error:  # a name in the file, or SQLite's message about it
        raise damaged(path, "it holds text that is none") from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)
        text = str(error)
        if (code is not None and code & 0xFF in _FULL) or "full" in text or "I/O" in text or "readonly" in text:
            raise UsageError(
                f"{doing} failed: {text} ({path}); nothing of it was acknowledged and nothing acknowledged before "
                "is lost, so make room or correct the permissions and send it again."
            ) from error
        if any(word in text for word in ("malformed", "not a database", "decode", "no such", "unsupported", "corrupt")):
            raise damaged(path, text) from error
        if "locked" in text:
            raise UsageError(f"{doing} failed: another program holds {path}; stop it and start again.") from error
        raise


@contextlib.contextmanager
def reading(path: Path, doing: str = "Reading the event log") -> Iterator[None]:
    """Explain as `explained` does, and take a value of another type for damage: a flipped bit makes bytes of a text."""
    with explained(path, doing):
        try:
            yield
        except (AttributeError, OverflowError, TypeError) as error:
            raise damaged(path, f"it holds a value of another type: {error}") from error


def damaged(path: Path, what: str) -> UsageError:
    """Give the error for a log that is not what was written."""
    return UsageError(
        f"The event log {path} is damaged ({what}); restore it from a backup, the events since then can be sent again."
    )


def connect(path: Path, *, read_only: bool = False, check: bool = True, now: int = 0) -> sqlite3.Connection:
    """Open or make the log: each commit is on the disk (WAL, ``synchronous=FULL``), deletions are overwritten."""
    with reading(path, "Opening the event log"):
        if read_only:
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
        else:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            _prepare(connection, path, read_only, check, now)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, read_only: bool, check: bool, now: int) -> None:
    if not read_only:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a new file, before its first page
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(f"PRAGMA cache_size=-{CACHE}")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT}")
        connection.execute("PRAGMA trusted_schema=OFF")
    if check:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            raise damaged(path, answer.splitlines()[-1])
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        if read_only:
            raise damaged(path, "it holds no tables")
        with transaction(connection):
            for statement in _STATEMENTS:
                connection.execute(statement)
            write_meta(
                connection, {"format": FORMAT, "key": os.urandom(32), "base_seq": 0, "base": None, "created": now}
            )
    written = read_meta(connection, path)["format"]
    if written != FORMAT:
        raise UsageError(
            f"The event log {path} has format {written}, and this version of recbole-signed reads format {FORMAT}; "
            "open it with the version that wrote it."
        )
    tables = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")}
    if {*_STATEMENTS} - {_FEATURES} - tables:
        raise damaged(path, "its tables are not those that were made")
    if tables - {*_STATEMENTS, WISHES}:
        raise UsageError(
            f"The event log {path} has tables that this version of recbole-signed does not know; open it with the "
            "version that wrote it."
        )
    if _FEATURES not in tables and not read_only:
        connection.execute(_FEATURES)
    if check:
        with one_view(connection):
            fits = small_sum(connection) == kept_sum(connection, "small", text_sum([[] for _ in _SMALL]))
        if not fits:
            raise damaged(path, "its list of withdrawn items or of erasures is not what was written")


def reserve_wal(path: Path) -> None:
    """Fill the write-ahead file with zeros up to ``WAL_BYTES``: a commit then waits for one write, not a new size."""
    with contextlib.suppress(OSError), path.with_name(f"{path.name}-wal").open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        try:
            file.write(bytes(max(0, WAL_BYTES - size)))
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)


_SMALL = ("erasures", "graves", "grave_keys", "withdrawn")  # tables of few rows, which one checksum protects


def small_sum(connection: sqlite3.Connection) -> int:
    """Return the checksum of the small tables."""
    rows = [connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in _SMALL]
    return text_sum(rows)


def write_small_sum(connection: sqlite3.Connection) -> None:
    """Keep the checksum of the small tables after one of them was changed, within the same transaction."""
    connection.execute("INSERT OR REPLACE INTO sums VALUES ('small', ?)", (small_sum(connection),))


def kept_sum(connection: sqlite3.Connection, name: str, unwritten: int = 0) -> int:
    """Return a checksum that is kept, or another number where the tables that it is of were never written to."""
    row = connection.execute("SELECT value FROM sums WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else unwritten


def truncate_wal(connection: sqlite3.Connection) -> bool:
    """Move the write-ahead file into the log and empty it; no reader is waited for. Return whether it is empty."""
    waits = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    connection.execute("PRAGMA busy_timeout=0")
    try:
        at("wal:emptied")
        return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except (sqlite3.DatabaseError, OSError):  # no room, no permission
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout={waits}")


def read_meta(connection: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """Read what the log says of itself: format, key of the digests, seq and folder of the base."""
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    checksum = meta.pop("checksum", None)
    if checksum != text_sum(sorted(meta.items())):
        raise damaged(path, "what it says of itself does not fit its checksum")
    return meta


def write_meta(connection: sqlite3.Connection, changed: dict[str, Any]) -> None:
    """Change what the log says of itself, within a transaction."""
    meta = {**dict(connection.execute("SELECT key, value FROM meta")), **changed}
    meta["checksum"] = text_sum(sorted(item for item in meta.items() if item[0] != "checksum"))
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())


def text_sum(content: object) -> int:
    """Return a checksum of a value by its text."""
    return zlib.crc32(repr(content).encode())


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; on the disk when it ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        at("log:before commit")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    at("log:committed")


@contextlib.contextmanager
def one_view(connection: sqlite3.Connection) -> Iterator[None]:
    """Let several reads see the log as it was at the first of them, whatever another process writes meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # an error may have ended it
            connection.execute("ROLLBACK")


def row_checksums(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Checksum of each row, int64 ``[n]``: SplitMix64's finaliser chained over the columns' bits; NaN is one value."""
    total = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        if column.dtype.kind == "f":
            column = np.where(np.isnan(column), np.nan, column)
        total = _mix((total ^ np.ascontiguousarray(column).view(np.uint64)) + _GOLDEN)
    return total.view(np.int64)


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


def sealed(ids: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return times in milliseconds int64 ``[n]``, each with a checksum of it and its id above, negative; 0 stays 0."""
    return np.where(times == 0, 0, times | (row_checksums((ids, times)) & ~_TIME) | _SEALED)


def unsealed(ids: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the times that were sealed, or that an earlier version kept as they are; -1 for what is damaged."""
    times = kept & _TIME
    return np.where((kept == times) | (kept == sealed(ids, times)), times, -1)


SEQ = "SEQ"


class HighWaterMark:
    """The file ``SEQ``: the newest seq that was acknowledged, written after each commit without waiting for the disk.

    SQLite takes a damaged write-ahead file for one that a crash cut short; where the log is behind ``SEQ``, events were
    lost.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._file: int | None = None
        if not read_only:
            with contextlib.suppress(OSError):  # a disk without room: there is a log to tell
                self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def read(self) -> int:
        """Return the seq; 0 where there is none, or it is damaged."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return 0
        seq = content[:8]
        return int.from_bytes(seq, "little") if content[8:] == _checksum(seq) else 0

    def write(self, seq: int) -> None:
        """Note a seq that is durable in the log."""
        if self._file is not None:
            content = seq.to_bytes(8, "little")
            with contextlib.suppress(OSError):
                os.pwrite(self._file, content + _checksum(content), 0)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file or folder from another one at its place; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def existing_log(directory: Path) -> Path:
    """Return the log of a state directory."""
    log = directory / LOG
    if not log.exists():
        raise UsageError(
            f"{directory} holds no online state ({LOG} is not there); 'recbole-signed serve --init MODEL --dataset "
            "NAME --state DIR' or an OnlineTrainer begins one."
        )
    return log


def refuse_missing_log(log: Path, versions: Path) -> None:
    """Refuse to begin from nothing where versions say that there was a log."""
    if log.exists() and log.stat().st_size:
        return
    left = [log.with_name(f"{log.name}-wal"), *log.parent.glob("base-*"), *versions.glob("v*")]
    trace = next((path for path in left if path.exists() and not (path.is_file() and not path.stat().st_size)), None)
    if trace is not None:
        raise UsageError(
            f"{log} is missing or empty, but {trace.name} was made from one, so events would be lost without a word; "
            "restore the log from a backup, or name an empty directory."
        )
