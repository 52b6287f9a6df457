"""The source ``tenrec`` on a file in its raw format."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from converted import table_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

HISTORY = ",".join(f"hist_{n}" for n in range(1, 11))
HEADER = f"user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age,{HISTORY}"
ROWS = [f"{row},1,3,{','.join('0' * 10)}" for row in ("1,10,1,0,0,0,1,2", "1,11,0,0,0,0,0,0", "2,10,1,0,1,0,1,5")]


@pytest.mark.parametrize(("signal", "signs"), [("click", ["1", "-1", "1"]), ("like", ["0", "-1", "1"])])
def test_signals(tmp_path: Path, signal: str, signs: list[str]) -> None:
    (tmp_path / "QK-video.csv.gz").write_bytes(gzip.compress("\n".join([HEADER, *ROWS]).encode()))
    made = convert("tenrec", tmp_path / "QK-video.csv.gz", tmp_path / "out", signal=signal)
    header, *rows = table_of(made / "QK-video.inter")
    names = ["click", "follow", "like", "share", "watching_times"]
    raw = [f"{name}:float" for name in names] + ["video_category:token"]
    assert header == ["user_id:token", "item_id:token", "sign:float", *raw]
    assert [row[2] for row in rows] == signs
    assert rows[2] == ["2", "10", signs[2], "1", "0", "1", "0", "5", "1"]
    assert "TIME_FIELD" not in (made / "QK-video.yaml").read_text()


def test_articles_have_other_columns(tmp_path: Path) -> None:
    (tmp_path / "QB-article.csv").write_text("user_id,item_id,click,read_time\n1,2,1,9\n1,3,0,0\n")
    made = convert("tenrec", tmp_path, tmp_path / "out", name="qb")
    assert (made / "qb.inter").read_text().splitlines()[1:] == ["1\t2\t1\t1", "1\t3\t-1\t0"]
    with pytest.raises(UsageError, match=r"QB-article.csv has no column 'like'"):
        convert("tenrec", tmp_path, tmp_path / "out", signal="like")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no file of Tenrec, QK-video.csv or"):
        convert("tenrec", tmp_path, tmp_path / "out")
    path = tmp_path / "QB-video.csv"
    for bad, message in (
        (ROWS[0].replace("1,10,1", "1,10,2"), "line 3: click is 2, 0 or 1 was expected"),
        (ROWS[0].replace("1,10,1", "1,10,"), "line 3: no value in column 'click'"),
        (ROWS[0][:-2], "line 3: 19 columns where 20 were expected"),
    ):
        path.write_text("\n".join([HEADER, ROWS[1], bad]))
        with pytest.raises(UsageError, match=f"QB-video.csv, {message}"):
            convert("tenrec", path, tmp_path / "out")
    path.write_text("\n".join([HEADER, *ROWS]))
    (tmp_path / "QK-video.csv").write_text("\n".join([HEADER, *ROWS]))
    with pytest.raises(UsageError, match=r"holds QB-video.csv and QK-video.csv; give the file that you want to use"):
        convert("tenrec", tmp_path, tmp_path / "out")
