"""What becomes of bad rows: they stop the conversion, or (``on_error=skip``) go to a file and are counted.

Which of the two holds is a property of the conversion that is under way, not of the reader that finds a bad row deep
inside a source; so it is kept in a context variable, and readers ask for it with :func:`current`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

_HEADER = ("file", "row", "column", "reason", "raw row")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})


class Rejects:
    """Takes bad rows and writes them as tab-separated text: file, line or row, column, reason, the raw row.

    Tabs, line ends and backslashes of a cell are written as ``\\t``, ``\\n``, ``\\r``, ``\\0`` and ``\\\\``.

    Args:
        path: the file, made when the first row comes; None to count only.
    """

    def __init__(self, path: Path | None) -> None:
        self.counts: dict[str, int] = {}
        """Rows taken, by the name of their file."""
        self.first: str | None = None
        """Place and reason of the first of them."""
        self.first_row: int | None = None
        self._path = path
        self._file: IO[str] | None = None

    @property
    def rows(self) -> int:
        """How many rows were taken."""
        return sum(self.counts.values())

    def add(self, origin: str, unit: str, row: int, column: str | None, reason: str, raw: str) -> None:
        """Take a bad row; ``unit`` is what ``row`` counts, ``line`` or ``row``."""
        self.counts[origin] = self.counts.get(origin, 0) + 1
        if self.first is None:
            self.first, self.first_row = f"{origin}, {unit} {row}: {reason}", row
        if self._path is None:
            return
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
            self._file.write("\t".join(_HEADER) + "\n")
        cells = (origin, str(row), column or "", reason, raw)
        self._file.write("\t".join(cell.translate(_ESCAPES) for cell in cells) + "\n")

    def close(self) -> None:
        """Write everything out; further rows are only counted."""
        if self._file is not None:
            self._file.close()
        self._file = self._path = None

    def as_dict(self) -> dict[str, Any]:
        """What ``dataset.json`` says about the rows that were left out."""
        return {"rows": self.rows, "files": dict(sorted(self.counts.items()))}


_current: ContextVar[Rejects | None] = ContextVar("rejects", default=None)


def current() -> Rejects | None:
    """Where bad rows go in the conversion under way; None where they stop it."""
    return _current.get()


@contextmanager
def using(rejects: Rejects | None) -> Iterator[Rejects | None]:
    """Send bad rows to ``rejects`` inside the ``with`` block; None lets them stop the conversion.

    Not to be left open over a ``yield`` of a generator of rows: whoever takes them would be inside, too.
    """
    token = _current.set(rejects)
    try:
        yield rejects
    finally:
        _current.reset(token)
        if rejects is not None:
            rejects.close()


@contextmanager
def unrecorded() -> Iterator[Rejects | None]:
    """Leave bad rows out without recording them, for a first look at a file that is then read again.

    Where bad rows stop the conversion they do so here as well.
    """
    with using(None if current() is None else Rejects(None)) as rejects:
        yield rejects
