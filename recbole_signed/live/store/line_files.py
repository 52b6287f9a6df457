"""Files with a JSON object a line: registers, each line with its checksum, and rows that were no events."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from recbole_signed.files import DamagedError, at, parse_json, refusing, replace_file, sync_folder
from recbole_signed.ids_and_times import normal
from recbole_signed.live.events import DeadLetter
from recbole_signed.live.store.settings import StateSettings

SUM = "sum"

_LONG = 8  # characters from which on an id is looked for inside words
_ERASED = "erased with a forgotten user"
_ESCAPES = re.compile(r'(?:\\u[0-9a-fA-F]{4})+|\\["\\/bfnrt]')  # of JSON, pairs of surrogates together


def is_torn(file: BinaryIO) -> bool:
    """Return whether a file of lines, open for reading, ends with a part of a line, as a crash leaves it."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def summed_line(content: Mapping[str, Any]) -> bytes:
    """Return a JSON object as a line with its checksum."""
    return (json.dumps({**content, SUM: _sum_of(content)}) + "\n").encode()


def read_lines(path: Path) -> list[Any]:
    """Return the lines of a register, but for a last one that a crash cut off; DamagedError for a changed one."""
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    contents = [_parsed_line(line) for line in lines]
    # a whole line behind whose end another character stands: the end was damaged
    if any(content is _BROKEN for content in contents) or (len(rest) > 1 and _parsed_line(rest[:-1]) is not _BROKEN):
        raise DamagedError(f"{path} is damaged: a line is not as it was written; put a copy of it in its place.")
    return contents


_BROKEN = object()  # stands for a line that can't be read


def _parsed_line(line: bytes) -> Any:
    try:
        content = parse_json(line)
    except ValueError:
        return _BROKEN
    if isinstance(content, dict) and SUM in content:
        checksum = content.pop(SUM)
        return content if checksum == _sum_of(content) else _BROKEN
    return content


def _sum_of(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())


class DeadLetterFile:
    """Appends dead letters; a crash may leave the last ones twice, or half a line that reading leaves out."""

    def __init__(self, path: Path, max_bytes: int = StateSettings.dead_letter_bytes) -> None:
        self.path = path
        self._max_bytes = max_bytes

    def write(self, source: str, letters: Sequence[DeadLetter]) -> None:
        """Append letters and wait until they are on the disk."""
        if not letters or not self._max_bytes:
            return
        lines = [
            _line({"reason": letter.reason, "source": source, "position": letter.position, "raw": letter.raw})
            for letter in letters
        ]
        with refusing("Writing dead letters"), self.path.open("ab+") as file:
            if file.tell() > self._max_bytes:  # the newer half of what it may hold stays
                content = self.path.read_bytes()[-self._max_bytes // 2 :]
                replace_file(self.path, content.partition(b"\n")[2])
        with refusing("Writing dead letters"), self.path.open("ab+") as file:
            is_new = not file.tell()
            if is_torn(file):
                file.write(b"\n")
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
            if is_new:
                sync_folder(self.path.parent)
        at("dead:written")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give the letters as objects with reason, source, position and raw."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                try:
                    yield parse_json(line)
                except ValueError:
                    continue  # half a line, see above

    def erase(self, users: Iterable[str]) -> None:
        """Blank every letter in which a user's id occurs, in any spelling; short ids only as whole words."""
        if not self.path.exists():
            return
        pattern = re.compile("|".join(map(_pattern, sorted(set(users)))))
        lines = []
        for letter in self:
            if any(pattern.search(spelling) for text in _texts(letter) for spelling in _spellings(text)):
                letter = {**letter, "reason": _ERASED, "raw": None, "position": ""}
            lines.append(_line(letter))
        content = "".join(lines).encode()
        with refusing("Erasing a user from the dead letters"):
            if content != self.path.read_bytes():
                replace_file(self.path, content)


def _spellings(text: str) -> set[str]:
    """Return a text as it stands, and in the normal form of ids, without and with what escapes of JSON stand for."""
    plain = _ESCAPES.sub(lambda escapes: parse_json(f'"{escapes[0]}"'), text)
    return {text, normal(text), normal(plain)}


def _pattern(user: str) -> str:
    escaped = re.escape(user)
    return escaped if len(user) >= _LONG else rf"(?<!\w){escaped}(?!\w)"


def _line(letter: dict[str, Any]) -> str:
    return json.dumps(letter, default=str) + "\n"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield str(key)
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif value is not None:
        yield str(value)
