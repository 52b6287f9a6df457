"""Registers with a JSON object and its checksum a line."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from recbole_signed.files import DamagedError, parse_json

SUM = "sum"


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
    """Return the contents of a register, which need not be there, but for a last line that a crash cut off.

    Lines without a checksum, of earlier versions of this package, are returned as they are.

    Raises:
        DamagedError: a line is not what was written.
    """
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = [_parsed_line(line) for line in lines]
    # a whole line behind whose end another character stands: the end was damaged
    if _Broken in found or (len(rest) > 1 and _parsed_line(rest[:-1]) is not _Broken):
        raise DamagedError(f"{path} is damaged: a line is not as it was written; put a copy of it in its place.")
    return found


class _Broken:
    """Stands for a line that can't be read."""


def _parsed_line(line: bytes) -> Any:
    try:
        content = parse_json(line)
    except ValueError:
        return _Broken
    if isinstance(content, dict) and SUM in content:
        told = content.pop(SUM)
        return content if told == _sum_of(content) else _Broken
    return content


def _sum_of(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content).encode())
