"""Raw files to convert, and what a conversion wrote, as text."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import scipy.io

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError


def table_of(path: Path) -> list[list[str]]:
    """Return the fields of each line of an atomic file, the header among them."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def rows_of(path: Path) -> list[list[str]]:
    """Return the fields of each row of an atomic file."""
    return table_of(path)[1:]


def tuples_of(path: Path) -> list[tuple[str, ...]]:
    """Return :func:`rows_of` as tuples, for sets and counts."""
    return [tuple(row) for row in rows_of(path)]


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return the description that stands beside a data set."""
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


class Raw:
    """Raw files of a source in a folder, to be converted from there.

    Args:
        folder: of the files; data sets are made beside it.
        source: its name.
        files: as of :meth:`write`.
    """

    def __init__(self, folder: Path, source: str, files: Mapping[str, Any]) -> None:
        self.folder, self.source, self.times, self.where = folder, source, 0, ""
        folder.mkdir(parents=True, exist_ok=True)
        self.write(files)

    def __call__(self, content: Any, name: str = "log.csv") -> Raw:
        """Write a file, which is what is converted from now on."""
        self.where = name
        self.write({name: content})
        return self

    def write(self, files: Mapping[str, Any]) -> None:
        """Write texts, lists of lines, bytes, frames and matrices by name, packed as the suffix of the file says."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pl.DataFrame):
                content.write_parquet(path)
            elif isinstance(content, dict):
                scipy.io.savemat(path, content)
            else:
                text = "".join(f"{line}\n" for line in content) if isinstance(content, list) else content
                data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
                path.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(data))

    def made(self, where: str = "", **options: Any) -> Path:
        """Convert the folder or what is at a place in it, each time into a new folder."""
        self.times += 1
        out = self.folder.parent / f"out of {self.folder.name}" / str(self.times)
        try:
            return convert(self.source, self.folder / (where or self.where), out, **options)
        finally:
            self.left = sorted(out.iterdir()) if out.exists() else []

    def rows(self, where: str = "", suffix: str = "inter", **options: Any) -> list[str]:
        """Return the rows that are made, with | between the fields."""
        made = self.made(where, **options)
        return ["|".join(row) for row in rows_of(made / f"{made.name}.{suffix}")]

    def signs(self, where: str = "", **options: Any) -> str:
        """Return the signs that are made, with blanks between."""
        made = self.made(where, **options)
        header, *rows = table_of(made / f"{made.name}.inter")
        return " ".join(row[header.index("sign:float")] for row in rows)

    def refuses(self, message: str, where: str = "", **options: Any) -> str:
        """Expect one sentence that matches, and nothing left behind; return it."""
        with pytest.raises(UsageError, match=message) as raised:
            self.made(where, **options)
        assert "\n" not in str(raised.value)
        assert not self.left
        return str(raised.value)
