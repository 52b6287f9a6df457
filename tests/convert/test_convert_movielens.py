"""The source ``movielens`` on files in each layout and on the real latest-small."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from converted import manifest_of, table_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

# user, item, rating, time, sign
ROWS = [("1", "1193", "5", "978300760", 1), ("1", "661", "3", "978302109", 0), ("6040", "1193", "1", "978300760", -1)]
MOVIES = ["1193::Misérables, Les (1995)::Drama|Musical", "661::Don't \"Look\" Now::Children's", "7::Unrated (2001)::X"]


def expected(rows: list[tuple[str, str, str, str, int]]) -> list[list[str]]:
    by_time = sorted(rows, key=lambda row: int(row[3]))
    return [[user, item, rating, str(sign), time] for user, item, rating, time, sign in by_time]


@pytest.fixture
def ml_1m(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text("".join("::".join(row[:4]) + "\r\n" for row in ROWS))
    (folder / "movies.dat").write_bytes("".join(f"{line}\n" for line in MOVIES).encode("latin-1"))
    (folder / "users.dat").write_text("1::F::1::10::48067\n6040::M::25::6::11106\n5::M::25::6::\n")
    return folder


def test_1m(tmp_path: Path, ml_1m: Path) -> None:
    made = convert("movielens", ml_1m, tmp_path / "out")
    assert made.name == "ml-1m"
    assert table_of(made / "ml-1m.inter")[1:] == expected(ROWS)
    assert table_of(made / "ml-1m.item") == [
        ["item_id:token", "movie_title:token_seq", "release_year:token", "genre:token_seq"],
        ["1193", "Misérables, Les", "1995", "Drama Musical"],
        ["661", '"Don\'t ""Look"" Now"', "unknown", "Children's"],
    ]
    assert table_of(made / "ml-1m.user") == [
        ["user_id:token", "gender:token", "age:token", "occupation:token", "zip_code:token"],
        ["1", "F", "1", "10", "48067"],
        ["6040", "M", "25", "6", "11106"],
    ]
    assert set(manifest_of(made)["inputs"]) == {"ratings.dat", "movies.dat", "users.dat"}
    (ml_1m / "ratings.dat.xz").write_bytes(lzma.compress((ml_1m / "ratings.dat").read_bytes()))
    alone = convert("movielens", ml_1m / "ratings.dat.xz", tmp_path / "alone")
    assert (alone / "ml-1m.inter").read_bytes() == (made / "ml-1m.inter").read_bytes()
    assert not (alone / "ml-1m.item").exists()


def test_10m_is_utf8(tmp_path: Path, ml_1m: Path) -> None:
    (ml_1m / "movies.dat").write_bytes("".join(f"{line}\n" for line in MOVIES).encode())
    made = convert("movielens", ml_1m, tmp_path / "out", name="ml-10m")
    assert table_of(made / "ml-10m.item")[1][1] == "Misérables, Les"


HALVES = [
    *[("1", str(n), rating, str(978300760 + n), sign) for n, (rating, sign) in enumerate([("0.5", -1), ("2", -1)])],
    *[("2", str(n), rating, str(978300770 + n), sign) for n, (rating, sign) in enumerate([("2.5", 0), ("3.5", 0)])],
    *[("3", str(n), rating, str(978300780 + n), sign) for n, (rating, sign) in enumerate([("4", 1), ("4.5", 1)])],
]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_20m_and_later(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "ml-25m"
    folder.mkdir()
    text = "\n".join(["userId,movieId,rating,timestamp", *(",".join(row[:4]) for row in HALVES), ""]).encode()
    if suffix == ".parquet":
        pl.read_csv(text).write_parquet(folder / "ratings.parquet")
    else:
        (folder / f"ratings{suffix}").write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    titles = ["movieId,title,genres", '0,"""Great"" Film, The (2004)",Sci-Fi|IMAX', "1,Nameless,(no genres listed)"]
    (folder / "movies.csv").write_text("\n".join(titles))
    made = convert("movielens", folder, tmp_path / "out")
    assert table_of(made / "ml-25m.inter")[1:] == expected(HALVES)
    assert table_of(made / "ml-25m.item")[1:] == [
        ["0", '"""Great"" Film, The"', "2004", "Sci-Fi IMAX"],
        ["1", "Nameless", "unknown", "unknown"],
    ]
    made = convert("movielens", folder, tmp_path / "half", dislike="rating <= 2.5")
    assert [row[3] for row in table_of(made / "ml-25m.inter")[1:]] == ["-1", "-1", "-1", "0", "1", "1"]
    made = convert("movielens", folder, tmp_path / "none", dislike="none")
    assert manifest_of(made)["rows"] == {"total": 6, "like": 2, "dislike": 0, "neutral": 4}


def test_latest_small(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    made = convert("movielens", shared_data("ml-latest-small"), tmp_path, dislike="else")
    assert made.name == "ml-latest-small"
    record = manifest_of(made)
    assert record["rows"] == {"total": 100_836, "like": 48_580, "dislike": 52_256, "neutral": 0}
    assert (record["users"], record["items"]) == (610, 9_724)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1::2::6::978300760", "rating 6, ratings here go from 0.5 to 5"),
        ("1::2::0::978300760", "rating 0, ratings here go from 0.5 to 5"),
        ("1::2::978300760::5", "rating 9.78301e.08, ratings here go"),
        ("1::2::::978300760", "no value in column 'rating'"),
        ("1::2::x::978300760", "the rating needs numbers in column 'rating', got 'x'"),
        ("1::2::3", "3 columns where 4 were expected"),
        ("1::2::3::", "no time in column 'timestamp'"),
        ("::2::3::978300760", "no value in column 'user_id'"),
    ],
)
def test_bad_rows(tmp_path: Path, ml_1m: Path, row: str, message: str) -> None:
    with (ml_1m / "ratings.dat").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(UsageError, match=f"ratings.dat, line 4: {message}"):
        convert("movielens", ml_1m, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_bad_folders(tmp_path: Path, ml_1m: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no ratings of MovieLens, ratings.dat or ratings.csv"):
        convert("movielens", tmp_path, tmp_path / "out")
    (ml_1m / "ratings.csv").write_text("userId,movieId,stars,timestamp\n1,2,3,4\n")
    with pytest.raises(UsageError, match=r"ratings.csv and ratings.dat; give the file that you want to use"):
        convert("movielens", ml_1m, tmp_path / "out")
    with pytest.raises(UsageError, match=r"ratings.csv has no column 'rating'"):
        convert("movielens", ml_1m / "ratings.csv", tmp_path / "out")
    (ml_1m / "ratings.csv").unlink()
    packed = ml_1m / "ratings.dat.xz"
    packed.write_bytes(lzma.compress(b"1::2::5::978300760\n"))
    with pytest.raises(UsageError, match=r"holds ratings.dat and ratings.dat.xz; keep one of them"):
        convert("movielens", ml_1m, tmp_path / "out")
    packed.unlink()
    hundred = tmp_path / "ml-100k"
    hundred.mkdir()
    (hundred / "u.data").write_text("1\t2\t3\t4\n")
    with pytest.raises(UsageError, match=r"which is the source 'movielens-100k'"):
        convert("movielens", hundred, tmp_path / "out")
    (ml_1m / "movies.dat").write_text("1193::A::B::C\n")
    with pytest.raises(UsageError, match=r"movies.dat, line 1: 4 columns where 3 were expected"):
        convert("movielens", ml_1m, tmp_path / "out")
