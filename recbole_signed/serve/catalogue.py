"""What the service is told of items beside events: which are withdrawn, and their tags.

A SQLite file in the state's folder; small, read whole when it is opened.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recbole_signed.errors import UsageError

FILE = "catalogue.sqlite"


@dataclass(frozen=True)
class ItemInfo:
    """An item as the catalogue has it; one that was never put there is not withdrawn and has no tags."""

    withdrawn: bool = False
    tags: tuple[str, ...] = ()


class Catalogue:
    """Withdrawn items and tags; its methods may be called from several threads.

    Args:
        path: the file, made if it is not there; None keeps all in memory.

    Raises:
        UsageError: the file can't be opened, or is not a catalogue.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(":memory:" if path is None else path, check_same_thread=False)
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS item (id TEXT PRIMARY KEY, withdrawn INTEGER NOT NULL, tags TEXT NOT NULL)"
            )
            self.version = 0
            """Grows with each change, so that what is derived from the catalogue can be kept until the next."""
            self._items: dict[str, ItemInfo] = {}
            self._data_version = -1
            self.reload()
        except sqlite3.Error as error:
            raise UsageError(f"can't open the catalogue {path}: {error}.") from error

    def reload(self) -> None:
        """Read what another process has changed; costs nothing where it has not."""
        with self._lock:
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
            if version != self._data_version:
                rows = self._db.execute("SELECT id, withdrawn, tags FROM item").fetchall()
                self._items = {item: ItemInfo(bool(gone), tuple(json.loads(tags))) for item, gone, tags in rows}
                self._data_version, self.version = version, self.version + 1

    def __getitem__(self, item: str) -> ItemInfo:
        return self._items.get(item, ItemInfo())

    def put(self, item: str, info: ItemInfo) -> None:
        """Keep what an item is; it is on the disk when this returns."""
        with self._lock, self._db:
            self._db.execute(
                "INSERT INTO item VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET withdrawn = excluded.withdrawn, "
                "tags = excluded.tags",
                (item, int(info.withdrawn), json.dumps(info.tags)),
            )
            self._items = {**self._items, item: info}
            self.version += 1

    @property
    def withdrawn(self) -> list[str]:
        """Items that must not be shown."""
        return [item for item, info in self._items.items() if info.withdrawn]

    def with_tags(self, tags: Iterable[str]) -> list[str]:
        """Return the items that have any of the tags."""
        wanted = set(tags)
        return [item for item, info in self._items.items() if wanted & set(info.tags)]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
