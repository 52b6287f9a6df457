"""The source ``vk-lsvd`` on files in its raw format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from converted import manifest_of, tuples_of

from recbole_signed.convert import convert, tables
from recbole_signed.errors import UsageError

TYPES = {
    **{"user_id": pl.UInt32, "item_id": pl.UInt32, "place": pl.UInt8, "platform": pl.UInt8, "agent": pl.UInt8},
    "timespent": pl.UInt8,
    **dict.fromkeys(("like", "dislike", "share", "bookmark", "click_on_author", "open_comments"), pl.Boolean),
}
WEEKS = {
    # user, item, seconds, like, dislike
    "train/week_00": [(7, 100, 38, False, False), (8, 101, 51, True, False), (7, 101, 2, False, True)],
    "train/week_01": [(8, 102, 1, False, False), (9, 100, 255, True, True)],
    "validation/week_02": [(7, 102, 20, True, False)],
    "test/week_03": [(8, 103, 3, False, False), (9, 101, 40, True, False)],
}
ROWS = [
    ("7", "100", "0", "0", "38"),
    ("8", "101", "1", "201600", "51"),
    ("7", "101", "-1", "403200", "2"),
    ("8", "102", "0", "604800", "1"),
    ("9", "100", "-1", "907200", "255"),  # both: the dislike counts
    ("7", "102", "1", "1209600", "20"),
    ("8", "103", "0", "1814400", "3"),
    ("9", "101", "1", "2116800", "40"),
]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "VK-LSVD" / "subsamples" / "ur0.01"
    for name, rows in WEEKS.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        full = [(user, item, 0, 1, 1, time, like, no, *[False] * 4) for user, item, time, like, no in rows]
        pl.DataFrame(full, schema=TYPES, orient="row").write_parquet(path)
    metadata = tmp_path / "VK-LSVD" / "metadata"
    metadata.mkdir()
    users = {"user_id": [7, 8, 9, 1], "age": [20, 30, 40, 50], "gender": [1, 2, 1, 2], "geo": [5, 5, 6, 6]}
    pl.DataFrame(users).write_parquet(metadata / "users_metadata.parquet")
    items = {"item_id": [100, 101, 102, 103, 4], "author_id": [1, 1, 2, 2, 3], "duration": [10, 60, 15, 30, 5]}
    pl.DataFrame(items).write_parquet(metadata / "items_metadata.parquet")
    return tmp_path / "VK-LSVD"


def test_rows_in_order_with_places_as_times(tmp_path: Path, raw: Path) -> None:
    made = convert("vk-lsvd", raw, tmp_path / "out", name="vk", subsample="ur0.01")
    header = (made / "vk.inter").read_text().splitlines()[0]
    assert header == "user_id:token\titem_id:token\tsign:float\ttimestamp:float\ttimespent:float"
    assert tuples_of(made / "vk.inter") == ROWS
    record = manifest_of(made)
    assert set(record["inputs"]) == {
        *(f"subsamples/ur0.01/{name}.parquet" for name in WEEKS),
        *(f"metadata/{kind}_metadata.parquet" for kind in ("users", "items")),
    }
    assert record["time"] == {"first_raw": 0, "last_raw": 2116800}
    users, items = (sorted(tuples_of(made / f"vk.{kind}")) for kind in ("user", "item"))
    assert users == [("7", "20", "1", "5"), ("8", "30", "2", "5"), ("9", "40", "1", "6")]
    assert ("103", "2", "30") in items
    assert len(items) == 4
    assert "gender:token" in (made / "vk.user").read_text()


def test_the_places_of_a_week_go_on_from_batch_to_batch(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BATCH_ROWS", 2)
    made = convert("vk-lsvd", raw, tmp_path / "out", name="vk", subsample="ur0.01")
    assert tuples_of(made / "vk.inter") == ROWS


def test_parts_as_published(tmp_path: Path, raw: Path) -> None:
    made = convert("vk-lsvd", raw, tmp_path / "out", name="vk", subsample="ur0.01", split="weeks", exposures="none")
    signed = [row for row in ROWS if row[2] != "0"]
    parts = [tuples_of(made / f"vk.{part}.inter") for part in ("train", "valid", "test")]
    assert [row for part in parts for row in part] == signed
    assert [len(part) for part in parts] == [3, 1, 1]
    assert yaml.safe_load((made / "vk.yaml").read_text())["benchmark_filename"] == ["train", "valid", "test"]


def test_seconds_make_verdicts_where_there_is_none(tmp_path: Path, raw: Path) -> None:
    made = convert("vk-lsvd", raw, tmp_path / "out", name="vk", subsample="ur0.01", watched=20, skipped=3)
    assert [row[2] for row in tuples_of(made / "vk.inter")] == ["1", "1", "-1", "-1", "-1", "1", "0", "1"]
    just = convert("vk-lsvd", raw, tmp_path / "just", name="vk", subsample="ur0.01", watched=38, skipped=1)
    assert [row[2] for row in tuples_of(just / "vk.inter")] == ["1", "1", "-1", "0", "-1", "1", "0", "1"]


def test_some_weeks(tmp_path: Path, raw: Path) -> None:
    made = convert("vk-lsvd", raw, tmp_path / "out", name="vk", subsample="ur0.01", first_week=1, last_week=2)
    assert [row[3] for row in tuples_of(made / "vk.inter")] == ["0", "302400", "604800"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subsample": "ur0.1"}, "There is no folder .*did you mean 'ur0.01'"),
        ({"first_week": 5}, "holds 0 of the weeks 5 to 26"),
        ({"split": "weeks", "first_week": 2}, "3 or more week_NN.parquet"),
        ({"watched": 2, "skipped": 9}, "skipped=9 is above watched=2"),
    ],
)
def test_wrong_options(tmp_path: Path, raw: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        convert("vk-lsvd", raw, tmp_path / "out", **{"subsample": "ur0.01", **options})


def test_wrong_files(tmp_path: Path, raw: Path) -> None:
    raw = raw / "subsamples" / "ur0.01"  # a folder of weeks does as well
    assert tuples_of(convert("vk-lsvd", raw, tmp_path / "out") / "ur0.01.inter") == ROWS
    with pytest.raises(UsageError, match="is a file; give the folder"):
        convert("vk-lsvd", raw / "train" / "week_00.parquet", tmp_path / "out")
    (raw / "test" / "week_03.parquet").rename(raw / "test" / "week_02.parquet")
    with pytest.raises(UsageError, match="are the same week"):
        convert("vk-lsvd", raw, tmp_path / "wrong")
    (raw / "test" / "week_02.parquet").rename(raw / "test" / "week_last.parquet")
    with pytest.raises(UsageError, match="has no number of a week"):
        convert("vk-lsvd", raw, tmp_path / "wrong")
    (raw / "test" / "week_last.parquet").unlink()
    path = raw / "train" / "week_00.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(UsageError, match=r"week_00.parquet is not a parquet file that can be read"):
        convert("vk-lsvd", raw, tmp_path / "wrong")
    path.write_bytes(whole)
    path = raw / "validation" / "week_02.parquet"
    pl.read_parquet(path).with_columns(like=pl.lit("yes")).write_parquet(path)
    with pytest.raises(UsageError, match=r"column 'like' holds String, true and false were expected"):
        convert("vk-lsvd", raw, tmp_path / "wrong")
    pl.read_parquet(path).with_columns(like=pl.lit(None, pl.Boolean), item_id=pl.lit(None, pl.UInt32)).write_parquet(
        path
    )
    with pytest.raises(UsageError, match=r"week_02.parquet, row 1: no value in column 'item_id'"):
        convert("vk-lsvd", raw, tmp_path / "wrong")
