"""The features of items that were announced: one JSON object a line, with its checksum; the last one of an item counts.

A line is on the disk before the event that brings it is in the log, so no event that was acknowledged lacks it. A crash
may leave a line without an event, or half a line, which reading leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recbole_signed.files import DamagedError, append_lines, at, read_lines, refusing, replace_file, summed_line
from recbole_signed.online.store.vocabulary import Vocabulary

ANNOUNCEMENTS = "features.jsonl"
"""Name of the file in a state directory."""
_SLACK = 1000
"""Lines that were replaced by later ones, beyond as many as there are items, after which the file is written again."""


class Announcements:
    """The file of one state, and what it holds.

    Args:
        path: of the file, which need not be there.

    Raises:
        DamagedError: a line is not as it was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, str] = {}
        self._n_lines = 0
        self._read = 0, 0
        self.follow()

    def follow(self) -> None:
        """Read what another process has added to the file since; all of it where it was written again.

        Raises:
            DamagedError: a line is not as it was written.
        """
        rows, self._read = read_lines(self.path, self._read)
        for row in rows:
            item, features = (row.get(key) for key in ("item", "features")) if isinstance(row, dict) else (None, None)
            if not isinstance(item, str) or not isinstance(features, dict):
                raise DamagedError(f"{self.path} is damaged: a line is not of an item; put a copy of it in its place.")
            self._known[item] = json.dumps(features, sort_keys=True)
            self._n_lines += 1

    def __len__(self) -> int:
        return len(self._known)

    def add(self, items: Mapping[str, str]) -> None:
        """Take the features of items, as JSON by token; they are on the disk when this returns.

        Raises:
            UsageError: the disk is full or can't be written.
        """
        if not items:
            return
        with refusing("Writing the features of items"):
            append_lines(self.path, (_row(*each) for each in items.items()))
            at("announcements:written")
            self._known.update(items)
            self._n_lines += len(items)
            if self._n_lines > 2 * len(self._known) + _SLACK:
                replace_file(self.path, b"".join(summed_line(_row(*each)) for each in self._known.items()))
                self._n_lines = len(self._known)

    def by_id(self, items: Vocabulary, tokens: Iterable[str] | None = None) -> dict[int, dict[str, Any]]:
        """Return the features of announced items that have an id.

        Args:
            items: the vocabulary.
            tokens: of which items; None for all.
        """
        wanted = [each for each in (self._known if tokens is None else tokens) if each in self._known]
        ids = items.ids(wanted).tolist()
        return {number: json.loads(self._known[token]) for number, token in zip(ids, wanted, strict=True) if number}


def _row(item: str, features: str) -> dict[str, Any]:
    return {"item": item, "features": json.loads(features)}
