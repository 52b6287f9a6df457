"""Files that grow by lines of JSON, each with its checksum: registers that are read again after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from recbole_signed.files import DamagedError, parse_json, sync_folder

SUM = "sum"
_BEFORE = 256
"""Bytes of a file of lines by which its end is known again."""


def is_torn(file: BinaryIO) -> bool:
    """Return whether a file of lines, open for reading, ends with a part of a line, as a crash leaves it."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def append_lines(path: Path, contents: Iterable[Mapping[str, Any]]) -> int:
    """Append JSON objects to a file, each on a line with a checksum; they are on the disk when this returns.

    What a crash left of a line is cut off first.

    Returns:
        the size of the file before, for `cut`.
    """
    left = memoryview(b"".join(map(summed_line, contents)))
    with path.open("ab+", buffering=0) as file:  # a buffer would be written again when the file is closed
        if is_torn(file):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        before = file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
            if not before:
                sync_folder(path.parent)  # its name may be new
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise
        return before


def cut(path: Path, size: int) -> None:
    """Take lines back that were appended to a file: it needs no room, as on a full disk."""
    with path.open("rb+", buffering=0) as file:
        file.truncate(size)
        os.fsync(file.fileno())


def summed_line(content: Mapping[str, Any]) -> bytes:
    """Return a JSON object as a line with its checksum."""
    return (json.dumps({**content, SUM: _sum_of(content)}) + "\n").encode()


def read_lines(path: Path, after: tuple[int, bytes] = (0, b"")) -> tuple[list[Any], tuple[int, bytes], bool]:
    """Read what `append_lines` wrote, but for a line that is being written or that a crash cut off.

    Lines without a checksum, of earlier versions of this package, are returned as they are.

    Args:
        path: of the file, which need not be there.
        after: what the last call returned as its end: only lines after it are read, if the same stands before it still.

    Returns:
        the contents; their end, as its place and the bytes before it; whether these are all contents.
    """
    try:
        with path.open("rb") as file:
            start, before = after
            file.seek(start - len(before))
            if file.read(len(before)) != before:  # written again since; the number of the file may be the same
                start, before = 0, b""
                file.seek(0)
            content = file.read()
    except FileNotFoundError:
        return [], (0, b""), True
    *lines, rest = content.split(b"\n")
    found = [_parsed_line(line) for line in lines]
    # a whole line behind whose end another character stands: the end was damaged
    if _Broken in found or (len(rest) > 1 and _parsed_line(rest[:-1]) is not _Broken):
        raise DamagedError(f"{path} is damaged: a line is not as it was written; put a copy of it in its place.")
    whole = before + content.removesuffix(rest)
    return found, (start + len(content) - len(rest), whole[-_BEFORE:]), not start


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
