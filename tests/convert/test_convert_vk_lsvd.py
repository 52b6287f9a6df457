"""The source ``vk-lsvd`` on files in its raw format."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from converted import Raw, manifest_of, rows_of

from recbole_signed.convert import tables

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
    *("7|100|0|0|38", "8|101|1|201600|51", "7|101|-1|403200|2", "8|102|0|604800|1"),
    "9|100|-1|907200|255",  # both: the dislike counts
    *("7|102|1|1209600|20", "8|103|0|1814400|3", "9|101|1|2116800|40"),
]
WHERE = "subsamples/ur0.01"


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    users = {"user_id": [7, 8, 9, 1], "age": [20, 30, 40, 50], "gender": [1, 2, 1, 2], "geo": [5, 5, 6, 6]}
    items = {"item_id": [100, 101, 102, 103, 4], "author_id": [1, 1, 2, 2, 3], "duration": [10, 60, 15, 30, 5]}
    files = {f"metadata/{kind}_metadata.parquet": pl.DataFrame(c) for kind, c in (("users", users), ("items", items))}
    for name, rows in WEEKS.items():
        full = [(user, item, 0, 1, 1, time, like, no, *[False] * 4) for user, item, time, like, no in rows]
        files[f"{WHERE}/{name}.parquet"] = pl.DataFrame(full, schema=TYPES, orient="row")
    return Raw(tmp_path / "VK-LSVD", "vk-lsvd", files)


def test_rows_in_order_with_places_as_times(raw: Raw) -> None:
    made = raw.made(subsample="ur0.01")
    header = (made / "VK-LSVD.inter").read_text().splitlines()[0]
    assert header == "user_id:token\titem_id:token\tsign:float\ttimestamp:float\ttimespent:float"
    assert raw.rows(subsample="ur0.01") == ROWS
    record = manifest_of(made)
    metadata = (f"metadata/{kind}_metadata.parquet" for kind in ("users", "items"))
    assert set(record["inputs"]) == {*(f"{WHERE}/{name}.parquet" for name in WEEKS), *metadata}
    assert record["time"] == {"first_raw": 0, "last_raw": 2116800}
    assert sorted(raw.rows(suffix="user", subsample="ur0.01")) == ["7|20|1|5", "8|30|2|5", "9|40|1|6"]
    items = raw.rows(suffix="item", subsample="ur0.01")
    assert "103|2|30" in items
    assert len(items) == 4
    assert "gender:token" in (made / "VK-LSVD.user").read_text()


def test_the_places_of_a_week_go_on_from_batch_to_batch(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_ROWS", 2)
    assert raw.rows(subsample="ur0.01") == ROWS


def test_parts_weeks_and_verdicts_by_seconds(raw: Raw) -> None:
    made = raw.made(subsample="ur0.01", split="weeks", exposures="none")
    parts = [rows_of(made / f"VK-LSVD.{part}.inter") for part in ("train", "valid", "test")]
    signed = [row for row in ROWS if row.split("|")[2] != "0"]
    assert ["|".join(row) for part in parts for row in part] == signed
    assert [len(part) for part in parts] == [3, 1, 1]
    assert yaml.safe_load((made / "VK-LSVD.yaml").read_text())["benchmark_filename"] == ["train", "valid", "test"]
    assert raw.signs(subsample="ur0.01", watched=20, skipped=3) == "1 1 -1 -1 -1 1 0 1"
    assert raw.signs(subsample="ur0.01", watched=38, skipped=1) == "1 1 -1 0 -1 1 0 1", "from, and below"
    rows = raw.rows(subsample="ur0.01", first_week=1, last_week=2)
    assert [row.split("|")[3] for row in rows] == ["0", "302400", "604800"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subsample": "ur0.1"}, "There is no folder .*did you mean 'ur0.01'"),
        ({"first_week": 5}, "holds 0 of the weeks 5 to 26"),
        ({"split": "weeks", "first_week": 2}, "3 or more week_NN.parquet"),
        ({"watched": 2, "skipped": 9}, "skipped=9 is above watched=2"),
    ],
)
def test_wrong_options(raw: Raw, options: dict[str, Any], message: str) -> None:
    raw.refuses(message, **{"subsample": "ur0.01", **options})


def test_wrong_files(raw: Raw) -> None:
    assert raw.rows(WHERE) == ROWS  # a folder of weeks does as well
    raw.refuses("is a file; give the folder", f"{WHERE}/train/week_00.parquet")
    weeks = raw.folder / WHERE
    for name, message in (("week_02", "are the same week"), ("week_last", "has no number of a week")):
        path = (weeks / "test" / "week_03.parquet").rename(weeks / "test" / f"{name}.parquet")
        raw.refuses(message, WHERE)
        path.rename(weeks / "test" / "week_03.parquet")
    first, middle = f"{WHERE}/train/week_00.parquet", f"{WHERE}/validation/week_02.parquet"
    whole, frame = (raw.folder / first).read_bytes(), pl.read_parquet(raw.folder / middle)
    raw.write({first: whole[:50]})
    raw.refuses(r"week_00.parquet is not a parquet file that can be read", WHERE)
    raw.write({first: whole, middle: frame.with_columns(like=pl.lit("yes"))})
    raw.refuses(r"column 'like' holds String, true and false were expected", WHERE)
    raw.write({middle: frame.with_columns(like=pl.lit(None, pl.Boolean), item_id=pl.lit(None, pl.UInt32))})
    raw.refuses(r"week_02.parquet, row 1: no value in column 'item_id'", WHERE)
