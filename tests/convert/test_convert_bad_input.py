"""Bad input ends in one sentence with file and row, and leaves nothing behind."""

from __future__ import annotations

import csv
import gzip
import lzma
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from converted import manifest_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_signed import from_frame
from recbole_signed.convert import convert, tables
from recbole_signed.convert import raw_files as files
from recbole_signed.errors import UsageError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}
HEADER = "user,item,rating,sign,time"
GOOD = [f"u{n % 3},i{n},{n % 5 + 1},{n % 3 - 1},{1000 + n}" for n in range(9)]


def refuse(raw: Path, message: str, **options: Any) -> str:
    """The message of the one sentence, after checking that nothing was left behind."""
    out = raw.parent / "out"
    with pytest.raises(UsageError, match=message) as raised:
        convert("csv", raw, out, **options)
    assert not out.exists() or not list(out.iterdir())
    text = str(raised.value)
    assert "\n" not in text
    return text


def write(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    return path


BAD_ROWS = {
    "u1,i1,3,1": "4 columns where 5 were expected",
    "u1,i1,3,1,5,6": "6 columns where 5 were expected",
    "u1": "1 column where 5 were expected",
    ",i1,3,1,5": "no value in column 'user'",
    "u1,   ,3,1,5": "no value in column 'item'",
    "u1,NA,3,1,5": "'NA' in column 'item', which RecBole reads as no value",
    "u1,null,3,1,5": "'null' in column 'item'",
    'u1,"a\tb",3,1,5': r"'a\\tb' in column 'item' holds a tab",
    'u1,"a\nb",3,1,5': r"'a\\nb' in column 'item' holds a tab, a line end",
    "u1,a\0b,3,1,5": r"'a\\x00b' in column 'item'",
    "u1,i1,good,1,5": "the rating needs numbers in column 'rating', got 'good'",
    "u1,i1,,1,5": "no value in column 'rating'",
    "u1,i1,nan,1,5": "no value in column 'rating'",
    "u1,i1,inf,1,5": "inf in column 'rating', the rating needs a finite number",
    "u1,i1,3,2,5": "sign 2 in column 'sign', it is 1 .like., -1 .dislike. or 0 .neutral.; .* rule such as",
    "u1,i1,3,0.5,5": "sign 0.5 in column 'sign'",
    "u1,i1,3,,5": "no value in column 'sign'",
    "u1,i1,3,like,5": "the sign needs numbers in column 'sign', got 'like'",
    "u1,i1,3,1,": "no time in column 'time'",
    "u1,i1,3,1,soon": "time 'soon' in column 'time'|time '[0-9]+' in column 'time'",
    "u1,i1,3,1,1e30": "too large for unix time",
    'u1,i"1,3,1,5': "a quote .* is never closed",
    'u1,i"1",3,1,5': "a quote .* inside a field",
    'u1,"i1"x,3,1,5': "a quote .* inside a field",
    "u1,\udce9,3,1,5": "byte 0xe9 is not utf-8",
}


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
        raw = write(Path(folder), "raw.csv", lines)
        text = refuse(raw, BAD_ROWS[bad], time_unit="s")
        if "one kind in the whole column" not in text:  # that names the first row of another kind
            assert text.startswith(f"raw.csv, line {line}: ")


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_are_counted_alike_whatever_ends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Also where what is read at a time ends in the middle of a line end."""
    raw = tmp_path / "raw.csv"
    raw.write_bytes(end.join([HEADER, GOOD[0], GOOD[0], "u1,i1,3,7,5", GOOD[0]]).encode())
    for block in range(len(HEADER), len(HEADER) + 12):
        monkeypatch.setattr(files, "BLOCK_BYTES", block)
        assert refuse(raw, "sign 7", time_unit="s").startswith("raw.csv, line 4: "), block


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
def test_junk_is_converted_or_refused_and_never_half_written(
    junk: bytes, suffix: str, header: bool, quote: str
) -> None:
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


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_truncated_archives(tmp_path: Path, suffix: str) -> None:
    text = "\n".join([HEADER, *GOOD * 50]).encode()
    whole = COMPRESS[suffix](text)
    raw = tmp_path / f"raw.csv{suffix}"
    for length in (len(whole) - 5, len(whole) // 2, 12):
        raw.write_bytes(whole[:length])
        refuse(raw, rf"raw.csv{suffix} is not a whole {suffix} file .*; fetch it again")
    raw.write_bytes(text)
    refuse(raw, f"raw.csv{suffix} is not a whole {suffix} file")


def test_broken_json_lines(tmp_path: Path) -> None:
    good = '{"user": "a", "item": "x", "sign": 1}'
    for bad in ('{"user": "a", "item"', "[1, 2]", "5", "user,item", '{"user": "a"} x'):
        raw = write(tmp_path, "raw.jsonl", [good, "", good, bad, good])
        refuse(raw, "raw.jsonl, line 4: not a JSON object")
    raw = write(tmp_path, "raw.jsonl", [good, good, '{"user": "a", "sign": 1}'])
    refuse(raw, "raw.jsonl, line 3: no value in column 'item'")
    raw = write(tmp_path, "raw.jsonl", ["[", good, "]"])
    refuse(raw, "raw.jsonl, line 1: not a JSON object")
    raw = write(tmp_path, "raw.jsonl", ["[]"])
    refuse(raw, "no line of its first 1 is a JSON object")


def test_broken_and_unfit_parquet(tmp_path: Path) -> None:
    raw = tmp_path / "raw.parquet"
    raw.write_bytes(b"PAR1 is not enough")
    refuse(raw, "raw.parquet is not a parquet file that can be read")
    frame = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "sign": [1, 3], "time": [1, 2]})
    frame.write_parquet(raw)
    refuse(raw, r"raw.parquet, row 2: sign 3 in column")
    frame.with_columns(sign=pl.Series(["1", "no"])).write_parquet(raw)
    refuse(raw, r"raw.parquet, row 2: the sign needs numbers in column 'sign', got 'no'")
    frame.with_columns(sign=pl.Series([[1], [1]])).write_parquet(raw)
    refuse(raw, r"column 'sign' holds List\(Int64\), numbers were expected for the sign")
    frame.with_columns(sign=1, time=pl.Series([[1], [1]])).write_parquet(raw)
    refuse(raw, r"column 'time' holds List\(Int64\); unix time or a date")
    frame.with_columns(sign=1, extra=pl.Series([[1], [1]])).write_parquet(raw)
    refuse(raw, r"column 'extra' holds List\(Int64\), an atomic file holds numbers and text", keep="extra")
    frame.clear().write_parquet(raw)
    refuse(raw, "raw.parquet holds no rows")


def test_missing_files_and_columns(tmp_path: Path) -> None:
    raw = write(tmp_path, "ratings.csv", ["userId,movieId,rating", "1,2,3"])
    refuse(tmp_path / "rating.csv", "There is no input .*rating.csv; did you mean 'ratings.csv'")
    refuse(tmp_path, "is a folder; give one file in it, or a table .* to .*from_frame", item="x", like="rating >= 3")
    refuse(raw, "has the columns 'userId', 'movieId', 'rating': give item= the one of the item ids; .*columns=")
    refuse(
        raw, "no column 'movieID'; it has 'userId', .*; did you mean 'movieId'.$", item="movieID", like="rating >= 3"
    )
    refuse(raw, "no column 'stars'", item="movieId", like="stars >= 3")
    refuse(raw, "What is a like was not said; give a rule", item="movieId")
    refuse(raw, "Both sign= and like= were given", item="movieId", like="rating >= 3", sign="rating")
    refuse(raw, "needs a condition for likes", item="movieId", dislike="rating < 3")
    refuse(raw, "no column 'price'", item="movieId", like="rating >= 3", keep="price")
    refuse(
        raw,
        "keep='rating:int' has the type 'int'; use one of token",
        item="movieId",
        like="rating >= 3",
        keep="rating:int",
    )
    refuse(raw, "quote='xx' is not one character", item="movieId", like="rating >= 3", quote="xx")
    empty = tmp_path / "empty.csv"
    empty.touch()
    refuse(empty, "empty.csv is empty")
    empty.write_text("\n \n")
    refuse(empty, "empty.csv")
    refuse(write(tmp_path, "head.csv", ["user,item,sign"]), "head.csv holds no rows")
    refuse(
        write(tmp_path, "two.csv", ["user,item,sign,item", "a,b,1,c"]),
        "The header of two.csv names the column 'item' twice",
    )
    refuse(raw, "columns= names the column 'user' twice", columns="user,user,item", like="item >= 0")
    keep = write(tmp_path, "keep.csv", ["user,item,stars,sign,rating", "a,b,1,1,5"])
    refuse(keep, "keep='rating' would stand twice", rating="stars", keep="rating")
    colon = write(tmp_path, "colon.csv", ["user,item,sign,a:b", "a,b,1,1"])
    refuse(colon, "the column name 'a:b' cannot stand in an atomic file", keep="a:b")


def test_a_header_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(lines: list[str], **_: Any) -> Any:  # as that of Python 3.10 on a null character
        raise csv.Error("line contains NUL")

    monkeypatch.setattr(tables.csv, "reader", reader)
    raw = write(tmp_path, "log.csv", ["user\0,item,rating,sign,time", *GOOD])
    refuse(raw, "^log.csv, line 1: line contains NUL; the names of the columns cannot be read, fix them.$")


def test_rules_that_leave_nothing(tmp_path: Path) -> None:
    raw = write(tmp_path, "raw.csv", ["user,item,rating", "a,x,3", "a,y,4"])
    refuse(raw, r"the sign rule \(like: rating >= 5\) leaves no likes among 2 rows", like="rating >= 5")
    refuse(raw, "leaves no dislikes among 2 rows; change its dislike", like="rating >= 4", dislike="rating <= 1")
    refuse(raw, "leaves no dislikes", like="rating >= 1", dislike="else")
    refuse(raw, r"raw.csv, line 2: a like and a dislike at once", like="rating >= 3", dislike="rating <= 3")
    refuse(raw, "Unknown operator", like="rating = 3")
    signs = write(tmp_path, "signs.csv", ["user,item,sign", "a,x,-1", "a,y,0"])
    refuse(signs, "the sign column leaves no likes among 2 rows")
    text = write(tmp_path, "text.csv", ["user,item,mood", "a,x,1", "a,y,happy"])
    refuse(text, "text.csv, line 3: the sign rule needs numbers in column 'mood', got 'happy'", like="mood >= 1")


def test_no_dislikes_are_fine_unless_they_were_asked_for_and_are_warned_about(tmp_path: Path) -> None:
    raw = write(tmp_path, "raw.csv", ["user,item,rating", "a,x,3", "a,y,4"])
    made = convert("csv", raw, tmp_path, like="rating >= 4")
    assert manifest_of(made)["warnings"][0].startswith("no dislikes")
    signs = write(tmp_path, "signs.csv", ["user,item,sign", "a,x,1", "a,y,0"])
    assert manifest_of(convert("csv", signs, tmp_path))["warnings"]


def test_true_and_false_are_no_signs_but_a_rule_reads_them(tmp_path: Path) -> None:
    raw = write(tmp_path, "raw.csv", ["user,item,liked", "a,x,True", "a,y,False", "b,x,"])
    remedy = r"holds true and false.*give the rule like='liked == 1' dislike='liked == 0'"
    refuse(raw, remedy, sign="liked")
    frame = pl.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"], "liked": [True, False, None]})
    with pytest.raises(UsageError, match=remedy):
        from_frame(frame, sign="liked")
    for like, dislike in (("== 1", "== 0"), ("== true", "== false"), ("== TRUE", "!= TRUE")):
        found = from_frame(frame, like=f"liked {like}", dislike=f"liked {dislike}")
        assert (found.n_likes, found.n_dislikes, found.n_neutral) == (1, 1, 1)
    with pytest.raises(UsageError, match="compares column 'liked' with a word, but it holds Boolean"):
        from_frame(frame, like="liked == yes")


def test_words_in_place_of_signs_get_a_rule_as_the_remedy(tmp_path: Path) -> None:
    raw = write(tmp_path, "raw.csv", ["user,item,mood", "a,x,like", "a,y,dislike"])
    refuse(raw, "got 'like'; .*for words give a rule such as like='mood == like' in place of sign=", sign="mood")
    refuse(raw, "words are compared letter by letter", like="mood == Like", dislike="mood == dislike")
    refuse(raw, "words are compared letter by letter", like="mood == like", dislike="mood == Dislike")


def test_a_sign_of_0_without_any_dislike_is_warned_about(tmp_path: Path) -> None:
    raw = write(tmp_path, "raw.csv", ["user,item,sign", "a,x,1", "a,y,0"])
    (warning,) = manifest_of(convert("csv", raw, tmp_path))["warnings"]
    assert "where a sign of 0 means a dislike, give a rule for it" in warning


def test_an_open_quote_does_not_swallow_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [HEADER, *GOOD, 'u1,"i1,3,1,5', *GOOD * 40]
    raw = write(tmp_path, "raw.csv", lines)
    assert "line 11: a quote" in refuse(raw, "opened in this line or after it is never closed")
    monkeypatch.setattr(files, "BLOCK_BYTES", 64)
    text = refuse(raw, "is never closed")
    assert re.search(r"line 11\b", text)


def test_kept_columns_have_no_blanks(tmp_path: Path) -> None:
    raw = write(tmp_path, "raw.csv", ["user,item,sign,price", "a,x,1,5", "a,y,-1,"])
    refuse(raw, "raw.csv, line 3: no value in column 'price'", keep="price")
    refuse(raw, "raw.csv, line 3: no value in column 'price', an atomic file needs one", keep="price:float")
    raw = write(tmp_path, "raw.csv", ["user,item,sign,price", "a,x,1,5", "a,y,-1,cheap"])
    refuse(raw, "raw.csv, line 3: an atomic file needs numbers in column 'price', got 'cheap'", keep="price:float")


def test_zstd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zstandard = pytest.importorskip("zstandard", reason="no zstandard to write a .zst file with")
    text = "\n".join([HEADER, *GOOD * 5000]).encode()
    half = text.index(b"\n", len(text) // 2) + 1
    frames = [zstandard.ZstdCompressor().compress(part) for part in (text[:half], text[half:])]
    raw = tmp_path / "raw.csv.zst"
    raw.write_bytes(b"".join(frames))
    monkeypatch.setattr(files, "BLOCK_BYTES", 1 << 16)
    made = convert("csv", raw, tmp_path / "whole", time_unit="s")
    assert manifest_of(made)["rows"]["total"] == len(GOOD) * 5000
    for broken in (frames[0][:-9], frames[0] + frames[1][:20], text):
        raw.write_bytes(broken)
        refuse(raw, "raw.csv.zst is not a whole .zst file .*; fetch it again", time_unit="s")


def test_zstd_without_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(files, "import_module", missing)
    refuse(write(tmp_path, "raw.csv.zst", [HEADER]), "compressed with zstd, .* pip install zstandard")


def test_control_characters_where_a_long_separator_is_replaced(tmp_path: Path) -> None:
    raw = write(tmp_path, "raw.dat", ["a::x::1", "b::y\x1f::-1"])
    refuse(raw, r"raw.dat, line 2: holds a control character \(0x1f\)", columns="user,item,sign")


@pytest.mark.parametrize("suffix", [".xz", ".gz"])
def test_a_small_file_does_not_expand_without_limit(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_EXPANDED", 1 << 20)
    path = tmp_path / f"ratings.csv{suffix}"
    with (lzma.open if suffix == ".xz" else gzip.open)(path, "wb") as file:
        for _ in range(40):
            file.write(bytes(1 << 20))
    with files.open_bytes(path) as opened, pytest.raises(UsageError, match="expands to more than 200 times"):
        opened.read()
