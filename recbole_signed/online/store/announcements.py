"""The features of items that were announced: one JSON object a line, the last one of an item counts.

A line is on the disk before the event that brings it is in the log, so no event that was acknowledged lacks it. A crash
may leave a line without an event, or half a line, which reading leaves out.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recbole_signed.files import at, parse_json, refusing, replace_file
from recbole_signed.online.store.vocabulary import Vocabulary

ANNOUNCEMENTS = "features.jsonl"
"""Name of the file in a state directory."""
_SLACK = 1000
"""Lines that were replaced by later ones, beyond as many as there are items, after which the file is written again."""


class Announcements:
    """The file of one state, and what it holds.

    Args:
        path: of the file, which need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, str] = {}
        self._n_lines = 0
        self._read = 0, 0  # which file was read, and how far
        self.follow()

    def follow(self) -> None:
        """Read what another process has added to the file since; all of it where it was written again."""
        try:
            with self.path.open("rb") as file:
                inode, (known, size) = os.fstat(file.fileno()).st_ino, self._read
                file.seek(size if inode == known else 0)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return
        if inode != known:
            size = 0
        for line in lines:
            if line.endswith(b"\n"):  # else it is being written, or a crash cut it off
                size += len(line)
                self._take(line)
        self._read = inode, size

    def _take(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # what a crash left of a line
            row = parse_json(line)
            item, features = row["item"], row["features"]
            if isinstance(item, str) and isinstance(features, dict):
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
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # what a crash left of a line
                        file.write(b"\n")
                file.write(b"".join(_line(*each) for each in items.items()))
                file.flush()
                os.fsync(file.fileno())
            at("announcements:written")
            self._known.update(items)
            self._n_lines += len(items)
            if self._n_lines > 2 * len(self._known) + _SLACK:
                replace_file(self.path, b"".join(_line(*each) for each in self._known.items()))
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


def _line(item: str, features: str) -> bytes:
    return (json.dumps({"item": item, "features": json.loads(features)}) + "\n").encode()
