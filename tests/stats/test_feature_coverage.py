"""What ``stats`` tells of features: who has a row, and which cells are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_signed.atomic import read_rows
from recbole_signed.lab.stats import analyse, statistics_table
from recbole_signed.lab.stats.figures import describe_features
from recbole_signed.table import to_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "toy"
    made.mkdir()
    rows = ["user_id:token\titem_id:token\tsign:float", "u1\ti1\t1", "u2\ti2\t-1", "u1\ti3\t1", "u2\ti4\t1"]
    (made / "toy.inter").write_text("\n".join(rows) + "\n")
    items = ["item_id:token\tgenre:token\tyear:float", "i1\tdrama\t1990", "i2\tunknown\t", "i3\tcrime\t1990", "x\ta\t1"]
    (made / "toy.item").write_text("\n".join(items) + "\n")
    return made


def test_coverage_and_missing_values(folder: Path) -> None:
    found = describe_features(folder, read_rows(folder))
    assert list(found) == ["item"]
    item = found["item"]
    assert item["covered"] == 0.75
    assert item["unknown_ids"] == 1
    assert item["columns"]["genre"] == {"kind": "token", "distinct": 2, "missing": pytest.approx(1 / 3)}
    assert item["columns"]["year"] == {"kind": "bins", "distinct": 1, "missing": pytest.approx(1 / 3)}


def test_a_reader_is_told(folder: Path) -> None:
    rows = read_rows(folder)
    text = to_text(statistics_table("toy", analyse(rows) | {"features": describe_features(folder, rows)}))
    assert "features of items" in text
    assert "75.0% of the items have a row; 1 row is of items without interactions" in text
