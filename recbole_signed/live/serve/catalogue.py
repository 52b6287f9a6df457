"""Tags and names of items in a SQLite file of the state's folder; withdrawn items are in the state itself."""

from __future__ import annotations

import heapq
import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from recbole_signed.errors import UsageError
from recbole_signed.files import parse_json

FILE = "catalogue.sqlite"


class Catalogue:
    """Tags and names of items, in memory where there is no path; its methods may be called from several threads."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()  # of the file; who only reads what memory holds does not wait for the disk
        self._tags: dict[str, tuple[str, ...]] = {}
        self._items: dict[str, set[str]] = {}
        self._names: dict[str, str] = {}
        self._data_version = -1
        try:
            self._db = sqlite3.connect(":memory:" if path is None else path, check_same_thread=False)
            for table in ("item (id TEXT PRIMARY KEY, tags", "name (id TEXT PRIMARY KEY, name"):
                self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} TEXT NOT NULL)")
            if [row[1] for row in self._db.execute("PRAGMA table_info(item)")] != ["id", "tags"]:
                raise UsageError(
                    f"the catalogue {path} is of another version of this package, and may say which items are "
                    "withdrawn; move it away, then withdraw items and set tags again."
                )
            self.reload()
        except (sqlite3.Error, TypeError, ValueError) as error:
            raise UsageError(f"can't open the catalogue {path}: {error}.") from error

    def reload(self) -> None:
        """Read what another process has changed; costs nothing where it has not."""
        with self._lock:
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
            if version != self._data_version:
                rows = self._db.execute("SELECT id, tags FROM item").fetchall()
                tags_of = {str(item): tuple(map(str, parse_json(tags))) for item, tags in rows}
                items: dict[str, set[str]] = {}
                for item, tags in tags_of.items():
                    for tag in tags:
                        items.setdefault(tag, set()).add(item)
                self._names = {str(item): str(name) for item, name in self._db.execute("SELECT id, name FROM name")}
                self._tags, self._items, self._data_version = tags_of, items, version

    def __getitem__(self, item: str) -> tuple[str, ...]:
        return self._tags.get(item, ())

    def name(self, item: str) -> str | None:
        """Return what people call an item; None where nobody has said."""
        return self._names.get(item) or None

    def search(self, text: str, k: int) -> list[str]:
        """Return at most ``k`` items whose name holds a text, upper and lower case alike, the shortest names first."""
        folded = text.casefold()
        held = list(self._names.items())  # at once: another thread may add to them
        matches = [(len(name), name, item) for item, name in held if folded in name.casefold()]
        return [item for _, _, item in heapq.nsmallest(k, matches)]

    def put(self, item: str, tags: Sequence[str]) -> None:
        """Keep the tags of an item; they are on the disk when this returns."""
        statement = "INSERT INTO item VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET tags = excluded.tags"
        with self._lock:
            self._write("the tags of an item", statement, [(item, json.dumps(list(tags)))])
            before, self._tags[item] = self[item], tuple(tags)
            for tag in set(before) - set(tags):
                self._items[tag].discard(item)
            for tag in tags:
                self._items.setdefault(tag, set()).add(item)

    def put_names(self, names: Mapping[str, str]) -> None:
        """Keep the names of items, an empty one for none; they are on the disk when this returns."""
        statement = "INSERT INTO name VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name"
        with self._lock:
            self._write("the names of items", statement, names.items())
            self._names |= names

    def _write(self, what: str, statement: str, rows: Iterable[tuple[str, str]]) -> None:
        try:
            with self._db:
                self._db.executemany(statement, rows)
        except sqlite3.Error as error:
            raise UsageError(f"{what} can't be kept: {error}; send them again.") from error

    def with_tags(self, tags: Iterable[str]) -> list[str]:
        """Return the items that have any of the tags."""
        return list(set().union(*(self._items.get(tag, ()) for tag in tags)))  # a set at once, as another may grow

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
