"""The source ``kuairec`` on a file in its raw format."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from converted import table_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

HEADER = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
ROWS = [
    "14,148,4381,6067,2020-07-05 05:27:48.378,20200705.0,1593898068.378,0.722103",
    "14,183,11635,6100,2020-07-05 05:28:00.057,20200705.0,1593898080.057,1.907377",
    "14,3649,22422,10867,2020-07-05 05:29:09.479,20200705.0,1593898149.479,2.063311",
    "14,5262,448,7908,2020-07-05 05:30:43.285,20200705.0,1593898243.285,0.056651",
    "19,5262,44800,7908,,,,5.665",
]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    data = tmp_path / "KuaiRec" / "data"
    data.mkdir(parents=True)
    (data / "small_matrix.csv").write_text("\n".join([HEADER, *ROWS]))
    (data / "big_matrix.csv.gz").write_bytes(gzip.compress("\n".join([HEADER, *ROWS[:4]]).encode()))
    (data / "item_categories.csv").write_text('video_id,feat\n148,[8]\n183,"[27, 9]"\n3649,[]\n5262,[1]\n7,[2]\n')
    return data.parent


def test_ratios(tmp_path: Path, raw: Path) -> None:
    made = convert("kuairec", raw, tmp_path / "a")
    header, *rows = table_of(made / "kuairec-small.inter")
    assert header[:4] == ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
    assert header[4:] == ["play_duration:float", "video_duration:float", "watch_ratio:float"]
    assert [row[2] for row in rows] == ["0", "0", "1", "-1"]
    assert rows[0] == ["14", "148", "0", "1593898068.378", "4381", "6067", "0.722103"]
    assert table_of(made / "kuairec-small.item")[1:] == [
        ["148", "8"],
        ["183", "27 9"],
        ["3649", "unknown"],
        ["5262", "1"],
    ]
    options: dict[str, Any] = {"pos_ratio": 1.5, "neg_ratio": 0.8, "between": "drop"}
    made = convert("kuairec", raw, tmp_path / "b", matrix="big", **options)
    assert [row[2] for row in table_of(made / "kuairec-big.inter")[1:]] == ["-1", "1", "1", "-1"]
    made = convert("kuairec", raw, tmp_path / "just", matrix="big", pos_ratio=1.907377, neg_ratio=0.722103)
    assert [row[2] for row in table_of(made / "kuairec-big.inter")[1:]] == ["0", "0", "1", "-1"], "more, or less, than"


def test_rows_without_a_time(tmp_path: Path, raw: Path) -> None:
    made = convert("kuairec", raw / "data" / "small_matrix.csv", tmp_path / "c", undated="keep")
    header, *rows = table_of(made / "kuairec-small.inter")
    assert "timestamp:float" not in header
    assert [row[2] for row in rows] == ["0", "0", "1", "-1", "1"]
    assert not (made / "kuairec-small.item").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROWS[0].replace("0.722103", ""), "no value in column 'watch_ratio'"),
        (ROWS[0].replace("0.722103", "-1"), "watch_ratio -1, 0 or more was expected"),
        (ROWS[0].replace("1593898068.378", "1593898068378"), "too large for unix time in s"),
        (ROWS[0].replace("1593898068.378", "now"), "time 'now'|time '[0-9.]+'"),
        (ROWS[0].replace("4381", "x"), "got 'x'"),
    ],
)
def test_bad_rows(tmp_path: Path, raw: Path, row: str, message: str) -> None:
    (raw / "data" / "small_matrix.csv").write_text("\n".join([HEADER, ROWS[4], row]))
    with pytest.raises(UsageError, match=f"small_matrix.csv, line 3: .*({message})"):
        convert("kuairec", raw, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_bad_options(tmp_path: Path, raw: Path) -> None:
    with pytest.raises(UsageError, match="0 < neg_ratio <= pos_ratio was expected"):
        convert("kuairec", raw, tmp_path / "out", neg_ratio=3)
    with pytest.raises(UsageError, match=r"holds no matrix of KuaiRec, small_matrix.csv was expected"):
        convert("kuairec", tmp_path, tmp_path / "out")
