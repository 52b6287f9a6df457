"""The file of rows that were no events: one JSON object a line, with the reason and where the source had it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from recbole_signed.files import at, refusing, replace_file
from recbole_signed.online import DeadLetter

_ERASED = "erased with a forgotten user"


class DeadLetterFile:
    """Appends dead letters; a crash may leave the last ones twice, or half a line that reading leaves out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, source: str, letters: Sequence[DeadLetter]) -> None:
        """Append letters and wait until they are on the disk.

        Raises:
            UsageError: the file system refused.

        """
        if not letters:
            return
        lines = [
            _line({"reason": each.reason, "source": source, "position": each.position, "raw": each.raw})
            for each in letters
        ]
        with refusing("Writing dead letters"), self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # what a crash left of a line
                    file.write(b"\n")
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
        at("dead:written")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give the letters as objects with reason, source, position and raw."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # half a line, see above

    def erase(self, users: Iterable[str]) -> None:
        """Blank every letter in which the id of one of the users occurs, even inside other text."""
        if not self.path.exists():
            return
        spellings = {each for user in users for each in (user, json.dumps(user)[1:-1])}
        erased = False
        lines = []
        for letter in self:
            if any(spelling in text for text in _texts(letter) for spelling in spellings):
                letter = {**letter, "reason": _ERASED, "raw": None, "position": ""}
                erased = True
            lines.append(_line(letter))
        if erased:
            with refusing("Erasing a user from the dead letters"):
                replace_file(self.path, "".join(lines).encode())


def _line(letter: dict[str, Any]) -> str:
    return json.dumps(letter, default=str) + "\n"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)
