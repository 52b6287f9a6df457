"""The tags of items."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from recbole_signed.errors import UsageError
from recbole_signed.serve.catalogue import Catalogue


def test_tags_are_kept(tmp_path: Path) -> None:
    with contextlib.closing(Catalogue(tmp_path / "tags")) as catalogue:
        catalogue.put("a/b", ["film", "new"])
        catalogue.put("c", ["film"])
        catalogue.put("a/b", ["new"])
        assert (catalogue.with_tags(["film"]), catalogue.with_tags(["new"])) == (["c"], ["a/b"])
    with contextlib.closing(Catalogue(tmp_path / "tags")) as catalogue:
        assert (catalogue["a/b"], catalogue.with_tags(["film"]), catalogue["other"]) == (("new",), ["c"], ())


def test_a_catalogue_that_also_holds_withdrawals_is_refused(tmp_path: Path) -> None:
    """One from before they were kept in the state was opened, and its withdrawn items were shown."""
    with contextlib.closing(sqlite3.connect(tmp_path / "tags")) as old, old:
        old.execute("CREATE TABLE item (id TEXT PRIMARY KEY, withdrawn INTEGER NOT NULL, tags TEXT NOT NULL)")
    with pytest.raises(UsageError, match=r"tags is of another version of this package, .*; move it away, "):
        Catalogue(tmp_path / "tags")
