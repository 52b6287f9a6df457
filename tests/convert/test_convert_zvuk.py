"""The source ``zvuk`` on a file in its raw format."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from converted import table_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

START = datetime(2023, 3, 18, 11, 43, 57, 856000)
PLAYS = [(1938823, 23.999992), (5, 60.0), (5, 60.5), (6, 14.5), (6, 15.0), (7, 300.0)]
SIGNS = ["0", "0", "1", "-1", "0", "1"]
TYPES: dict[str, Any] = {
    "user_id": pl.Int32,
    "session_id": pl.Int32,
    "datetime": pl.Datetime("ns"),
    "track_id": pl.Int32,
    "play_duration": pl.Float32,
}


def frame() -> pl.DataFrame:
    rows = [(user, 2200336 + n, START + timedelta(seconds=n), 1242546 + n, s) for n, (user, s) in enumerate(PLAYS)]
    return pl.DataFrame(rows, schema=TYPES, orient="row")


def test_thresholds(tmp_path: Path) -> None:
    frame().write_parquet(tmp_path / "zvuk-interactions.parquet")
    made = convert("zvuk", tmp_path, tmp_path / "a")
    header, *rows = table_of(made / "zvuk.inter")
    assert header == [
        "user_id:token",
        "item_id:token",
        "sign:float",
        "timestamp:float",
        "play_duration:float",
        "session_id:token",
    ]
    assert [row[2] for row in rows] == SIGNS
    assert rows[2] == ["5", "1242548", "1", "1679139839.856", "60.5", "2200338"]
    made = convert("zvuk", tmp_path / "zvuk-interactions.parquet", tmp_path / "b", between="drop")
    assert [row[2] for row in table_of(made / "zvuk.inter")[1:]] == ["1", "-1", "1"]
    made = convert("zvuk", tmp_path, tmp_path / "c", like_s=20, dislike_s=20)
    assert [row[2] for row in table_of(made / "zvuk.inter")[1:]] == ["1", "1", "1", "-1", "-1", "1"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"play_duration": [1.0, None, 2.0, 3.0, 4.0, 100.0]}, "row 2: no value in column 'play_duration'"),
        ({"play_duration": [1.0, 2.0, -2.0, 3.0, 4.0, 100.0]}, "row 3: play_duration -2, seconds were expected"),
        ({"play_duration": ["long"] * 6}, "row 1: the sign rule needs numbers in column 'play_duration'"),
        ({"datetime": [None, *[START] * 5]}, "row 1: no time in column 'datetime'"),
        ({"track_id": [1, 2, 3, 4, 5, None]}, "row 6: no value in column 'item_id'"),
    ],
)
def test_bad_rows(tmp_path: Path, column: dict[str, list[Any]], message: str) -> None:
    frame().with_columns(**{name: pl.Series(values) for name, values in column.items()}).write_parquet(
        tmp_path / "zvuk-interactions.parquet"
    )
    with pytest.raises(UsageError, match=f"zvuk-interactions.parquet, {message}"):
        convert("zvuk", tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_bad_thresholds_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 < dislike_s <= like_s was expected"):
        convert("zvuk", tmp_path, tmp_path / "out", like_s=10)
    with pytest.raises(UsageError, match=r"holds no interactions of Zvuk, zvuk-interactions.parquet was expected"):
        convert("zvuk", tmp_path, tmp_path / "out")
