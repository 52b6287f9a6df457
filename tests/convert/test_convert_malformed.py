"""Every source on damaged files: correct output or one sentence, and nothing half-written."""

import gzip
import io
import json
import lzma
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.io
from converted import manifest_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_signed.convert import convert
from recbole_signed.convert.base import source_names
from recbole_signed.errors import UsageError

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
REVIEW = {"posted": "Posted November 5, 2011.", "review": 'it\'s "so", so'}
TEXT: dict[str, tuple[str, list[str]]] = {
    # source: file name, lines (users 1 to 4, items 10 and 11, liked and disliked)
    "kuairand": (
        "log_standard_x_pure.csv",
        [LOG, *(f"{n},1{n % 2},20220425,0,165081274{n}436,{n % 2},0,0,0,0,0,1,61802,4,0,0,0,0,1" for n in range(1, 5))],
    ),
    "movielens": ("ratings.dat", [f"{n}::1{n % 2}::{1 + 4 * (n % 2)}::97830076{n}" for n in range(1, 5)]),
    "movielens csv": (
        "ratings.csv",
        ["userId,movieId,rating,timestamp", *(f"{n},1{n % 2},{1 + 4 * (n % 2)},97830076{n}" for n in range(1, 5))],
    ),
    "movietweetings": ("ratings.dat", [f"{n}::001{n % 2}::{1 + 8 * (n % 2)}::138194574{n}" for n in range(1, 5)]),
    "kuairec": (
        "small_matrix.csv",
        [
            "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio",
            *(f"{n},1{n % 2},43,60,2020-07-05,20200705.0,159389806{n}.378,{0.1 + 3 * (n % 2)}" for n in range(1, 5)),
        ],
    ),
    "amazon": ("x.csv", [f"A39HTATAQ9V7Y{n},020561646{n % 2},{1 + 4 * (n % 2)}.0,136969920{n}" for n in range(1, 5)]),
    "yelp": (
        "review.json",
        [
            json.dumps({"user_id": f"{n}", "business_id": f"1{n % 2}", "stars": 1 + 4 * (n % 2), "date": "2018-07-07"})
            for n in range(1, 5)
        ],
    ),
    "steam": (
        "reviews.json",
        [
            repr({"user_id": f"{n}", "reviews": [{**REVIEW, "item_id": f"1{n % 2}", "recommend": n % 2 == 1}]})
            for n in range(1, 5)
        ],
    ),
    "movielens-100k": ("u.data", [f"{n}\t1{n % 2}\t{1 + 4 * (n % 2)}\t88125094{n}" for n in range(1, 5)]),
    "tenrec": ("x.csv", ["user_id,item_id,click,like", *(f"{n},1{n % 2},{n % 2},0" for n in range(1, 5))]),
}
LONGER = {".csv": ",1", ".dat": "::1", ".data": "\t1", ".json": "}"}
PIECES = [
    b"", b",", b"::", b"\t", b'"', b"'", b"\n", b"\r", b"\0", b"nan", b"-1", b"1e30", b"9" * 25, b"x", b"\xe9",
    b"{",
]  # fmt: skip
USUAL: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}


def whole(source: str) -> tuple[str, bytes]:
    name, lines = TEXT[source]
    return name, "".join(f"{line}\n" for line in lines).encode()


def outcome(source: str, name: str, data: bytes) -> list[str] | str:
    """The sorted rows of the output, or the sentence, after checking that either is what it should be."""
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder) / name, Path(folder) / "out"
        raw.write_bytes(data)
        message = ""
        try:
            convert(source.split()[0], raw, out, name="made")
        except UsageError as error:
            message = str(error)
        if message:
            assert "\n" not in message
            assert not out.exists() or not list(out.iterdir())
            return message
        made = out / "made"
        header, *rows = (made / "made.inter").read_text(encoding="utf-8").split("\n")[:-1]
        sign = [field.split(":")[0] for field in header.split("\t")].index("sign")
        for row in rows:
            fields = row.split("\t")
            assert len(fields) == len(header.split("\t"))
            assert all(field.strip() for field in fields)
            assert fields[sign] in ("1", "0", "-1")
        assert manifest_of(made)["rows"]["total"] == len(rows) > 0
        return sorted(rows)


@pytest.mark.parametrize("source", sorted(TEXT))
def test_line_ends_and_a_byte_order_mark_change_nothing(source: str) -> None:
    name, data = whole(source)
    rows = outcome(source, name, data)
    assert isinstance(rows, list)
    assert len(rows) == 4
    assert sum("-1" in row.split("\t") for row in rows) == 2
    mixed = data.replace(b"\n", b"\r\n", 2) + b"\n\r\n"
    for other in (data.replace(b"\n", b"\r\n"), mixed, b"\xef\xbb\xbf" + data, data[:-1]):
        assert outcome(source, name, other) == rows
    for suffix, compress in ((".gz", gzip.compress), (".xz", lzma.compress)):
        packed = compress(data)
        assert outcome(source, f"{name}{suffix}", packed) == rows
        for length in (len(packed) - 5, len(packed) // 2):
            message = outcome(source, f"{name}{suffix}", packed[:length])
            assert f"{name}{suffix} is not a whole {suffix} file" in message


def review(stars: Any, date: str = "2018-07-07", user: str = "u") -> str:
    return json.dumps({"user_id": user, "business_id": "b", "stars": stars, "date": date})


BAD_ROWS = {
    "amazon": {
        "A39HTATAQ9V7YF,0205616461,0.0,1369699200": "rating 0, ratings here go from 1 to 5",
        "A39HTATAQ9V7YF,0205616461,5.0": "3 columns where 4",
        "A39HTATAQ9V7YF,0205616461,5.0,": "no value in column 'timestamp'",
        "A39HTATAQ9V7YF,0205616461,5.0,1369699200000": ".*too large for unix time in s",
        ",0205616461,5.0,1369699200": "no value in column 'user_id'",
    },
    "kuairand": {
        f"712,5,0,0,{time},{click},0,0,0,0,0,1,{played},4,0,0,0,0,1"[: -2 * short or None]: message
        for time, click, played, short, message in (
            ("1650812741436", "2", "6", 0, "is_click is '2', 0 or 1 was expected"),
            ("", "1", "6", 0, "no time in column 'time_ms'"),
            ("9" * 17, "1", "6", 0, ".*too large for unix time in ms"),
            ("1650812741436", "1", "long", 0, "an atomic file needs numbers in column 'play_time_ms', got 'long'"),
            ("1650812741436", "1", "6", 1, "18 columns where 19 were expected"),
        )
    },
    "kuairec": {
        f"14,148,{played},6067,x,x,{time},{ratio}": message
        for played, time, ratio, message in (
            ("4381", "1593898068.378", "", "no value in column 'watch_ratio'"),
            ("4381", "1593898068.378", "-1", "watch_ratio -1, 0 or more was expected"),
            ("4381", "1593898068378", "0.7", ".*too large for unix time in s"),
            ("4381", "now", "0.7", "time 'now'"),
            ("x", "1593898068.378", "0.7", ".*got 'x'"),
        )
    },
    "movielens": {
        "1::2::6::978300760": "rating 6, ratings here go from 0.5 to 5",
        "1::2::0::978300760": "rating 0, ratings here go from 0.5 to 5",
        "1::2::978300760::5": "rating 9.78301e.08, ratings here go",
        "1::2::::978300760": "no value in column 'rating'",
        "1::2::x::978300760": "the rating needs numbers in column 'rating', got 'x'",
        "1::2::3": "3 columns where 4 were expected",
        "1::2::3::": "no time in column 'timestamp'",
        "::2::3::978300760": "no value in column 'user_id'",
    },
    "movielens-100k": {
        "2\t2\t50\t881250951": "rating 50, ratings here go from 1 to 5",
        "2\t2\t4\t881250951000": "time 881250951000 in column 'timestamp' is too large",
        "2\t2\t\t881250951": "no value in column 'rating'",
    },
    "movietweetings": {
        "1::2::11::1381945744": "rating 11, ratings here go from 0 to 10",
        "1::2::3": "3 columns where 4",
    },
    "tenrec": {
        "1,10,2,0": "click is 2, 0 or 1 was expected",
        "1,10,,0": "no value in column 'click'",
        "1,10,1": "3 columns where 4 were expected",
    },
    "yelp": {
        review(6.0): "rating 6, ratings here go from 1 to 5",
        review(None): "no value in column 'rating'",
        review(4.0, "2018-13-07 22:09:11"): "time '2018-13-07 22:09:11'",
        review(4.0, user=""): "no value in column 'user_id'",
    },
}


@pytest.mark.parametrize(
    ("source", "row", "message"), [(source, *each) for source, rows in BAD_ROWS.items() for each in rows.items()]
)
def test_a_bad_row_of_a_source(source: str, row: str, message: str) -> None:
    name, lines = TEXT[source]
    found = outcome(source, name, "\n".join([*lines, row]).encode())
    assert isinstance(found, str)
    assert re.match(f"{name}, line {len(lines) + 1}: {message}", found), found


PARQUET = {
    "yambda": pl.DataFrame(
        {
            "uid": [1, 2, 3], "timestamp": [5, 10, 15], "item_id": [10, 10, 11], "is_organic": [1, 0, 1],
            "event_type": ["like", "dislike", "listen"], "played_ratio_pct": [None, None, 50],
        }
    ),
    "zvuk": pl.DataFrame(
        {
            "user_id": [1, 2, 3], "session_id": [1, 2, 3], "datetime": [1679139837, 1679139838, 1679139839],
            "track_id": [10, 10, 11], "play_duration": [70.0, 5.0, 30.0],
        }
    ).with_columns(pl.from_epoch("datetime")),
    "movielens": pl.DataFrame(
        {"userId": [1, 2, 3], "movieId": [10, 10, 11], "rating": [5.0, 1.0, 3.0], "timestamp": [5, 6, 10**9]}
    ),
}  # fmt: skip
AS_OTHER = {
    "text": lambda values: values.cast(pl.String),
    "float": lambda values: values.cast(pl.Float64, strict=False),
    "bool": lambda values: pl.Series(values.name, [True, False, True]),
    "list": lambda values: values.reshape((3, 1)),
    "null": lambda values: pl.Series(values.name, [None] * 3, dtype=values.dtype),
    "a null": lambda values: values.scatter(1, None),
    "negative": lambda values: values.cast(pl.Float64, strict=False) * -1,
    "huge": lambda values: pl.Series(values.name, [2**63 - 1, 2**62, 0]),
    "date": lambda values: pl.Series(values.name, [1, 2, 3]).cast(pl.Date),
    "categories": lambda values: values.cast(pl.String).cast(pl.Categorical),
    "struct": lambda values: pl.Series(values.name, [{"a": 1}] * 3),
}


@pytest.mark.parametrize("source", sorted(PARQUET))
def test_parquet_of_other_types(source: str) -> None:
    frame = PARQUET[source]

    def write(changed: pl.DataFrame) -> bytes:
        file = io.BytesIO()
        changed.write_parquet(file)
        return file.getvalue()

    rows = outcome(source, "ratings.parquet", write(frame))
    assert isinstance(rows, list)
    assert len(rows) == 3
    for column in frame.columns:
        message = outcome(source, "ratings.parquet", write(frame.drop(column)))
        assert column == "session_id" or f"ratings.parquet has no column '{column}'" in message
        for change in AS_OTHER.values():
            outcome(source, "ratings.parquet", write(frame.with_columns(change(frame[column]))))
    data = write(frame)
    for length in (0, 10, len(data) // 2, len(data) - 3):
        assert "ratings.parquet" in outcome(source, "ratings.parquet", data[:length])


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_matrices(compressed: bool) -> None:
    # other damage is not tried: SciPy's reader ends the process on some of it
    file = io.BytesIO()
    rows = np.array([[1, 10, 8, 4, 5, 975542400], [2, 11, 8, 1, 5, 975542400]], dtype=np.int32)
    scipy.io.savemat(file, {"rating": rows}, do_compression=compressed)
    data = file.getvalue()
    for length in range(0, len(data), 7):
        assert "rating.mat" in outcome("ciao", "rating.mat", data[:length])
    assert outcome("ciao", "rating.mat", data) == ["1\t10\t4\t1\t975542400", "2\t11\t1\t-1\t975542400"]


def test_all_sources_of_raw_data_are_here() -> None:
    here = {source.split()[0] for source in (*TEXT, *PARQUET)} | {"ciao", "epinions"}
    elsewhere = {"csv", "signed-split", "vk-lsvd", "toy"}  # three have tests of their own, the last reads nothing
    assert set(source_names()) - elsewhere == here


@pytest.mark.parametrize("source", ["kuairand", "movielens csv", "kuairec", "tenrec"])
def test_a_header_that_names_a_column_twice(source: str) -> None:
    name, lines = TEXT[source]
    column = lines[0].split(",")[1]
    text = "\n".join([f"{lines[0]},{column}", *(f"{line},1" for line in lines[1:])]).encode()
    assert f"The header of {name} names the column '{column}' twice" in outcome(source, name, text)


@settings(max_examples=25, **USUAL)
@given(data=st.data())
def test_damaged_splits(data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(["train", "valid", "test"]))
    text = b"1 10 1\n2 10 0\n3 11 1\n"
    start = data.draw(st.integers(0, len(text)))
    damaged = text[:start] + data.draw(st.sampled_from(PIECES)) + text[start + data.draw(st.integers(0, 3)) :]
    for on_error in ("stop", "skip"):
        with tempfile.TemporaryDirectory() as folder:
            raw, out = Path(folder) / "split", Path(folder) / "out"
            raw.mkdir()
            for name in ("train", "valid", "test"):
                (raw / f"{name}.txt").write_bytes(damaged if name == part else text)
            message = ""
            try:
                made = convert("signed-split", raw, out, on_error=on_error)
            except UsageError as error:
                message = str(error)
            if message:
                assert "\n" not in message
                assert f"{part}.txt" in message or "labels from" in message
                assert not out.exists() or not list(out.iterdir())
                continue
            record = manifest_of(made)
            for name in ("train", "valid", "test"):
                rows = (made / f"split.{name}.inter").read_text(encoding="utf-8").split("\n")[1:-1]
                assert len(rows) == record["parts"][name]["rows"]["total"] >= 1
                assert name == part or len(rows) == 3
