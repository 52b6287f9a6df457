"""The tags of items."""

import contextlib
import sqlite3
from pathlib import Path

from refusals import check_refused

from recbole_signed.live.serve.catalogue import Catalogue


def test_tags_and_names_are_kept(tmp_path: Path) -> None:
    with contextlib.closing(Catalogue(tmp_path / "tags")) as catalogue:
        catalogue.put("a/b", ["film", "new"])
        catalogue.put("c", ["film"])
        catalogue.put("a/b", ["new"])
        assert (catalogue.with_tags(["film"]), catalogue.with_tags(["new"])) == (["c"], ["a/b"])
    with contextlib.closing(Catalogue(tmp_path / "tags")) as catalogue:
        assert (catalogue["a/b"], catalogue.with_tags(["film"]), catalogue["other"]) == (("new",), ["c"], ())
    with contextlib.closing(Catalogue(tmp_path / "tags")) as catalogue:
        catalogue.put("a", ["film"])
        catalogue.put_names({"a": "Heat", "b": "Alien", "c": "Up"})
        catalogue.put("a", ["old"])
        catalogue.put_names({"b": "", "c": "Up!"})
    with contextlib.closing(Catalogue(tmp_path / "tags")) as catalogue:
        assert [catalogue.name(item) for item in "abcd"] == ["Heat", None, "Up!", None]
        assert (catalogue["a"], catalogue["b"]) == (("old",), ())


def test_a_catalogue_that_also_holds_withdrawals_is_refused(tmp_path: Path) -> None:
    """One from before they were kept in the state was opened, and its withdrawn items were shown."""
    with contextlib.closing(sqlite3.connect(tmp_path / "tags")) as old, old:
        old.execute("CREATE TABLE item (id TEXT PRIMARY KEY, withdrawn INTEGER NOT NULL, tags TEXT NOT NULL)")
    check_refused(r"tags is of another version of this package, .*; move it away, ", Catalogue, tmp_path / "tags")


def test_a_catalogue_without_names_is_read_and_gets_them(tmp_path: Path) -> None:
    """A replica may read it before a writer that knows of names has written to it."""
    with contextlib.closing(sqlite3.connect(tmp_path / "tags")) as old, old:
        old.execute("CREATE TABLE item (id TEXT PRIMARY KEY, tags TEXT NOT NULL)")
        old.execute("""INSERT INTO item VALUES ('a', '["film"]')""")
    with (
        contextlib.closing(Catalogue(tmp_path / "tags")) as replica,
        contextlib.closing(Catalogue(tmp_path / "tags")) as writer,
    ):
        assert (replica["a"], replica.name("a")) == (("film",), None)
        writer.put_names({"a": "Heat"})
        replica.reload()
        assert (replica["a"], replica.name("a")) == (("film",), "Heat")
