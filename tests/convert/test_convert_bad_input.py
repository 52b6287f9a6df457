"""Bad input ends in one sentence with file and row, and leaves nothing behind."""

import csv
import gzip
import lzma
import re
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from converted import Raw, manifest_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed import from_frame
from recbole_signed.convert import convert, tables
from recbole_signed.convert import raw_files as files
from recbole_signed.errors import UsageError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}
HEADER = "user,item,rating,sign,time"
GOOD = [f"u{n % 3},i{n},{n % 5 + 1},{n % 3 - 1},{1000 + n}" for n in range(9)]


BAD_ROWS = {
    "u1,i1,3,1": "4 columns where 5 were expected", "u1,i1,3,1,5,6": "6 columns where 5 were expected",
    "u1": "1 column where 5 were expected", ",i1,3,1,5": "no value in column 'user'",
    "u1,   ,3,1,5": "no value in column 'item'",
    "u1,NA,3,1,5": "'NA' in column 'item', which RecBole reads as no value",
    "u1,null,3,1,5": "'null' in column 'item'", 'u1,"a\tb",3,1,5': r"'a\\tb' in column 'item' holds a tab",
    'u1,"a\nb",3,1,5': r"'a\\nb' in column 'item' holds a tab, a line end",
    "u1,a\0b,3,1,5": r"'a\\x00b' in column 'item'",
    "u1,i1,good,1,5": "the rating needs numbers in column 'rating', got 'good'",
    "u1,i1,,1,5": "no value in column 'rating'", "u1,i1,nan,1,5": "no value in column 'rating'",
    "u1,i1,inf,1,5": "inf in column 'rating', the rating needs a finite number",
    "u1,i1,3,2,5": "sign 2 in column 'sign', it is 1 .like., -1 .dislike. or 0 .neutral.; .* rule such as",
    "u1,i1,3,0.5,5": "sign 0.5 in column 'sign'", "u1,i1,3,,5": "no value in column 'sign'",
    "u1,i1,3,like,5": "the sign needs numbers in column 'sign', got 'like'",
    "u1,i1,3,1,": "no time in column 'time'",
    "u1,i1,3,1,soon": "time 'soon' in column 'time'|time '[0-9]+' in column 'time'",
    "u1,i1,3,1,1e30": "too large for unix time", 'u1,i"1,3,1,5': "a quote .* is never closed",
    'u1,i"1",3,1,5': "a quote .* inside a field", 'u1,"i1"x,3,1,5': "a quote .* inside a field",
    "u1,\udce9,3,1,5": "byte 0xe9 is not utf-8",
}  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    at=st.integers(0, len(GOOD)),
    bad=st.sampled_from(sorted(BAD_ROWS)),
    block=st.sampled_from([80, 1 << 20]),
    blanks=st.integers(0, 2),
)
def test_a_malformed_row_is_named(at: int, bad: str, block: int, blanks: int) -> None:
    lines = [HEADER, *GOOD[:at], *[""] * blanks, bad, *GOOD[at:]]
    line = at + 2 + blanks
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK_BYTES", block)
        text = Raw(Path(folder) / "raw", "csv", {})(lines, "raw.csv").refuses(BAD_ROWS[bad], time_unit="s")
        if "one kind in the whole column" not in text:  # that names the first row of another kind
            assert text.startswith(f"raw.csv, line {line}: ")


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_are_counted_alike_whatever_ends_them(log: Raw, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Also where what is read at a time ends in the middle of a line end."""
    log(end.join([HEADER, GOOD[0], GOOD[0], "u1,i1,3,7,5", GOOD[0]]))
    for block in range(len(HEADER), len(HEADER) + 12):
        monkeypatch.setattr(files, "BLOCK_BYTES", block)
        assert log.refuses("sign 7", time_unit="s").startswith("log.csv, line 4: "), block


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    junk=st.one_of(
        st.binary(max_size=60),
        st.text("ab01,\"'\n\r\t ;:{}-.\0é", max_size=60).map(str.encode),
        st.lists(st.sampled_from([*GOOD, *BAD_ROWS, "", HEADER]), max_size=5).map(
            lambda rows: "\n".join(rows).encode("utf-8", "surrogateescape")
        ),
    ),
    suffix=st.sampled_from([".csv", ".tsv", ".txt", ".jsonl", ".parquet", ".csv.gz", ".csv.xz"]),
    header=st.booleans(),
    quote=st.sampled_from(['"', "none"]),
)
def test_junk_is_converted_or_refused_never_half_written(junk: bytes, suffix: str, header: bool, quote: str) -> None:
    data = (HEADER + "\n").encode() + junk if header else junk
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / f"raw{suffix}"
        raw.write_bytes(COMPRESS.get(raw.suffix, bytes)(data))
        out = Path(folder) / "out"
        try:
            made = convert("csv", raw, out, quote=quote, time_unit="s")
        except UsageError as error:
            message = str(error)
        else:
            message = ""
        if message:
            assert "\n" not in message
            assert not out.exists() or not list(out.iterdir())
        else:
            assert sorted(path.name for path in made.iterdir()) == ["dataset.json", "raw.inter", "raw.yaml"]
            rows = manifest_of(made)["rows"]["total"]
            assert rows > 0
            assert rows <= data.count(b"\n") + data.count(b"\r") + 1


def test_broken_json_and_control_characters(log: Raw) -> None:
    good = '{"user": "a", "item": "x", "sign": 1}'
    for bad in ('{"user": "a", "item"', "[1, 2]", "5", "user,item", '{"user": "a"} x'):
        log([good, "", good, bad, good], "log.jsonl").refuses("log.jsonl, line 4: not a JSON object")
    log([good, good, '{"user": "a", "sign": 1}'], "log.jsonl").refuses("log.jsonl, line 3: no value in column 'item'")
    log(["[", good, "]"], "log.jsonl").refuses("log.jsonl, line 1: not a JSON object")
    log(["[]"], "log.jsonl").refuses("no line of its first 1 is a JSON object")
    log(["a::x::1", "b::y\x1f::-1"], "log.dat")
    log.refuses(r"log.dat, line 2: holds a control character \(0x1f\)", columns="user,item,sign")


def test_broken_and_unfit_parquet(log: Raw) -> None:
    log(b"PAR1 is not enough", "raw.parquet").refuses("raw.parquet is not a parquet file that can be read")
    frame = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "sign": [1, -1], "time": [1, 2]})
    lists = pl.Series([[1], [1]])
    for changed, options, message in (
        (frame.with_columns(sign=pl.Series([1, 3])), {}, "raw.parquet, row 2: sign 3 in column"),
        (
            frame.with_columns(sign=pl.Series(["1", "no"])),
            {},
            "raw.parquet, row 2: the sign needs numbers in column 'sign', got 'no'",
        ),
        (frame.with_columns(sign=lists), {}, r"column 'sign' holds List\(Int64\), numbers were expected for the sign"),
        (frame.with_columns(time=lists), {}, r"column 'time' holds List\(Int64\); unix time or a date"),
        (
            frame.with_columns(extra=lists),
            {"keep": "extra"},
            r"column 'extra' holds List\(Int64\), an atomic file holds numbers and text",
        ),
        (frame.clear(), {}, "raw.parquet holds no rows"),
    ):
        log(changed, "raw.parquet").refuses(message, **options)


def test_missing_files_and_columns(log: Raw) -> None:
    log(["userId,movieId,rating", "1,2,3"], "ratings.csv")
    item: dict[str, Any] = {"item": "movieId"}
    rated = {**item, "like": "rating >= 3"}
    log.refuses("There is no input .*rating.csv; did you mean 'ratings.csv'", "rating.csv")
    log.refuses("is a folder; give one file in it, or a table .* to .*from_frame", ".", **rated)
    log.refuses("has the columns 'userId', 'movieId', 'rating': give item= the one of the item ids; .*columns=")
    near = "no column 'movieID'; it has 'userId', .*; did you mean 'movieId'.$"
    log.refuses(near, item="movieID", like="rating >= 3")
    log.refuses("no column 'stars'", **item, like="stars >= 3")
    log.refuses("What is a like was not said; give a rule", **item)
    log.refuses("Both sign= and like= were given", **rated, sign="rating")
    log.refuses("needs a condition for likes", **item, dislike="rating < 3")
    log.refuses("no column 'price'", **rated, keep="price")
    log.refuses("keep='rating:int' has the type 'int'; use one of token", **rated, keep="rating:int")
    log.refuses("keep='rating:token' gives a type to a column that is converted anyway", **rated, keep="rating:token")
    log.refuses("quote='xx' is not one character", **rated, quote="xx")
    log.refuses("columns= names the column 'user' twice", columns="user,user,item", like="item >= 0")
    log("", "empty.csv").refuses("empty.csv is empty")
    log("\n \n", "empty.csv").refuses("empty.csv")
    log(["user,item,sign"], "head.csv").refuses("head.csv holds no rows")
    log(["user,item,sign,item", "a,b,1,c"], "two.csv").refuses("The header of two.csv names the column 'item' twice")
    log(["user,item,stars,sign,rating", "a,b,1,1,5"])
    log.refuses("keep='rating' would stand twice", rating="stars", keep="rating")
    log(["user,item,sign,a:b", "a,b,1,1"])
    log.refuses("the column name 'a:b' cannot stand in an atomic file", keep="a:b")


def test_a_header_that_cannot_be_read_is_named(log: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(lines: list[str], **_: Any) -> Any:  # as that of Python 3.10 on a null character
        raise csv.Error("line contains NUL")

    monkeypatch.setattr(tables.csv, "reader", reader)
    log(["user\0,item,rating,sign,time", *GOOD])
    log.refuses("^log.csv, line 1: line contains NUL; the names of the columns cannot be read, fix them.$")


def test_rules_that_leave_nothing_or_no_dislikes(log: Raw) -> None:
    log(["user,item,rating", "a,x,3", "a,y,4"])
    log.refuses(r"the sign rule \(like: rating >= 5\) leaves no likes among 2 rows", like="rating >= 5")
    log.refuses("leaves no dislikes among 2 rows; change its dislike", like="rating >= 4", dislike="rating <= 1")
    log.refuses("leaves no dislikes", like="rating >= 1", dislike="else")
    log.refuses(r"log.csv, line 2: a like and a dislike at once", like="rating >= 3", dislike="rating <= 3")
    log.refuses("Unknown operator", like="rating = 3")
    log(["user,item,rating", "a,x,5", "a,x,1", "b,x,5"])
    log.refuses("no dislikes among 2 rows that cleaning left;", like="rating >= 4", dislike="else", dedup="first")
    log(["user,item,sign", "a,x,-1", "a,y,0"]).refuses("the sign column leaves no likes among 2 rows")
    log(["user,item,mood", "a,x,1", "a,y,happy"])
    log.refuses("log.csv, line 3: the sign rule needs numbers in column 'mood', got 'happy'", like="mood >= 1")
    made = log(["user,item,rating", "a,x,3", "a,y,4"]).made(like="rating >= 4")
    assert manifest_of(made)["warnings"][0].startswith("no dislikes")
    (warning,) = manifest_of(log(["user,item,sign", "a,x,1", "a,y,0"]).made())["warnings"]
    assert "where a sign of 0 means a dislike, give a rule for it" in warning


def test_signs_that_are_words_or_truths_need_a_rule(log: Raw) -> None:
    remedy = r"holds true and false.*give the rule like='liked == 1' dislike='liked == 0'"
    log(["user,item,liked", "a,x,True", "a,y,False", "b,x,"]).refuses(remedy, sign="liked")
    frame = pl.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"], "liked": [True, False, None]})
    check_refused(remedy, from_frame, frame, sign="liked")
    for like, dislike in (("== 1", "== 0"), ("== true", "== false"), ("== TRUE", "!= TRUE"), ("== True", "else")):
        rule = {"like": f"liked {like}", "dislike": dislike if dislike == "else" else f"liked {dislike}"}
        found = from_frame(frame, **rule)
        assert (found.n_likes, found.n_dislikes, found.n_neutral) == (1, 1, 1)
        for true, false in (("True", "False"), ("true", "FALSE")):  # pandas writes the first
            assert log(["user,item,liked", f"a,x,{true}", f"a,y,{false}", "b,x,"]).rows(**rule) == [
                "a|x|1",
                "a|y|-1",
                "b|x|0",
            ]
    check_refused("compares column 'liked' with a word, but it holds Boolean", from_frame, frame, like="liked == yes")
    log(["user,item,mood", "a,x,like", "a,y,dislike"])
    log.refuses("got 'like'; .*for words give a rule such as like='mood == like' in place of sign=", sign="mood")
    log.refuses("words are compared letter by letter", like="mood == Like", dislike="mood == dislike")
    log.refuses("words are compared letter by letter", like="mood == like", dislike="mood == Dislike")


def test_an_open_quote_does_not_swallow_the_file(log: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    log([HEADER, *GOOD, 'u1,"i1,3,1,5', *GOOD * 40])
    assert "line 11: a quote" in log.refuses("opened in this line or after it is never closed")
    monkeypatch.setattr(files, "BLOCK_BYTES", 64)
    assert re.search(r"line 11\b", log.refuses("is never closed"))


def test_kept_columns_have_no_blanks(log: Raw) -> None:
    log(["user,item,sign,price", "a,x,1,5", "a,y,-1,"])
    log.refuses("log.csv, line 3: no value in column 'price'", keep="price")
    log.refuses("log.csv, line 3: no value in column 'price', an atomic file needs one", keep="price:float")
    log(["user,item,sign,price", "a,x,1,5", "a,y,-1,cheap"])
    log.refuses("log.csv, line 3: an atomic file needs numbers in column 'price', got 'cheap'", keep="price:float")


def test_zstd(log: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    text = "\n".join([HEADER, *GOOD * 5000]).encode()
    half = text.index(b"\n", len(text) // 2) + 1
    frames = [zstd.compress(part) for part in (text[:half], text[half:])]
    monkeypatch.setattr(files, "BLOCK_BYTES", 1 << 16)
    assert manifest_of(log(b"".join(frames), "log.csv.zst").made(time_unit="s"))["rows"]["total"] == len(GOOD) * 5000
    for broken in (frames[0][:-9], frames[0] + frames[1][:20], text):
        log(broken, "log.csv.zst").refuses("log.csv.zst is not a whole .zst file .*; fetch it again", time_unit="s")


@pytest.mark.parametrize("suffix", [".xz", ".gz"])
def test_a_small_file_expands_within_limits(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_EXPANDED", 1 << 20)
    path = tmp_path / f"ratings.csv{suffix}"
    with (lzma.open if suffix == ".xz" else gzip.open)(path, "wb") as file:
        for _ in range(40):
            file.write(b"user,item,sign\n" * (1 << 16))
    told = r"expands to [0-9,]+ bytes, more than 200 times its size; it was not read; decompress it by hand"
    check_refused(told, convert, "csv", path, tmp_path / "out")
