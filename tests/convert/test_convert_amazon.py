"""The source ``amazon`` on files in the format of each edition."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from converted import rows_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

# user, item, rating, unix seconds
ROWS = [
    ("A39HTATAQ9V7YF", "0205616461", 5.0, 1369699200),
    ("A3JM6GV9MNOF9X", "B00005N7NQ", 3.0, 1369699201),
    ("A1Z513UWSAAO0F", "B00005N7NQ", 1.0, 1369699202),
]
SIGNS = ["1", "0", "-1"]
WANTED = [[row[0], row[1], f"{row[2]:g}", sign, str(row[3])] for row, sign in zip(ROWS, SIGNS, strict=True)]
REVIEW = {"helpful": [0, 1], "reviewText": 'a "b",\tc', "images": [], "title": "x"}


def text_of(edition: str) -> str:
    header = "user_id,parent_asin,rating,timestamp"
    lines: list[str] = {"2023": [header], "2023 5-core": [f"{header},history"]}.get(edition, [])
    for user, item, rating, time in ROWS:
        old = {"reviewerID": user, "asin": item, **REVIEW, "overall": rating, "unixReviewTime": time}
        new = {"rating": rating, **REVIEW, "asin": "B1", "parent_asin": item, "user_id": user, "timestamp": time * 1000}
        lines.append(
            {
                "2014": f"{user},{item},{rating},{time}",
                "2018": f"{item},{user},{rating},{time}",
                "2023": f"{user},{item},{rating},{time}000",
                "2023 5-core": f"{user},{item},{rating},{time}000,B1 B2",
                "reviews 2014": json.dumps(old),
                "reviews 2023": json.dumps(new),
            }[edition]
        )
    return "\n".join([*lines, ""])


@pytest.mark.parametrize(
    ("name", "edition"),
    [
        ("ratings_Beauty.csv", "2014"),
        ("ratings_Beauty.csv.gz", "2018"),
        ("ratings_Beauty.csv.gz", "2023"),
        ("ratings_Beauty.csv", "2023 5-core"),
        ("ratings_Beauty.json.gz", "reviews 2014"),
        ("ratings_Beauty.jsonl", "reviews 2023"),
    ],
)
def test_editions(tmp_path: Path, name: str, edition: str) -> None:
    data = text_of(edition).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    made = convert("amazon", tmp_path / name, tmp_path / "out")
    assert rows_of(made / "ratings_Beauty.inter") == WANTED


def test_the_edition_can_be_given(tmp_path: Path) -> None:
    raw = tmp_path / "x.csv"
    raw.write_text("u1,i1,5.0,1369699200\nu1,i2,1.0,1369699200\n")
    with pytest.raises(UsageError, match=r"x.csv, line 1: u1,i1,5.0,1369699200 is neither a header .* give edition="):
        convert("amazon", raw, tmp_path / "out")
    assert rows_of(convert("amazon", raw, tmp_path / "a", edition="2014") / "x.inter")[0][:2] == ["u1", "i1"]
    assert rows_of(convert("amazon", raw, tmp_path / "b", edition="2018") / "x.inter")[0][:2] == ["i1", "u1"]
    with pytest.raises(UsageError, match="has no header user_id,parent_asin"):
        convert("amazon", raw, tmp_path / "out", edition="2023")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("A39HTATAQ9V7YF,0205616461,0.0,1369699200", "rating 0, ratings here go from 1 to 5"),
        ("A39HTATAQ9V7YF,0205616461,5.0", "3 columns where 4"),
        ("A39HTATAQ9V7YF,0205616461,5.0,", "no value in column 'timestamp'"),
        ("A39HTATAQ9V7YF,0205616461,5.0,1369699200000", "too large for unix time in s"),
        (",0205616461,5.0,1369699200", "no value in column 'user_id'"),
    ],
)
def test_bad_rows(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text_of("2014") + row)
    with pytest.raises(UsageError, match=f"x.csv, line 4: .*{message}"):
        convert("amazon", tmp_path / "x.csv", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; give the file of one category"):
        convert("amazon", tmp_path, tmp_path / "out")
    (tmp_path / "x.jsonl").write_text('{"user": 1, "stars": 5}\n')
    with pytest.raises(UsageError, match=r"x.jsonl has the columns user, stars; reviewerID, asin"):
        convert("amazon", tmp_path / "x.jsonl", tmp_path / "out")
    (tmp_path / "x.csv").write_text("\n")
    with pytest.raises(UsageError, match=r"x.csv is empty"):
        convert("amazon", tmp_path / "x.csv", tmp_path / "out")
