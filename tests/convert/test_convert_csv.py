"""The source ``csv``: whatever is written out in any format comes back as the right rows, the way RecBole reads."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from converted import Raw, manifest_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.convert import convert, tables
from recbole_signed.convert import raw_files as files
from recbole_signed.convert.columns import MISSING_TOKENS
from recbole_signed.ids_and_times import id_text


def rows_of(folder: Path) -> list[tuple[Any, ...]]:
    """Read NAME.inter with RecBole's reader (recbole/data/dataset/dataset.py, _load_feat).

    Floats are parsed by Python: pandas' own parser may be off in the last digit.
    """
    frame = pd.read_csv(folder / f"{folder.name}.inter", delimiter="\t", dtype=str, encoding="utf-8", engine="python")
    for field in frame.columns:
        if field.endswith(":float"):
            frame[field] = [float(text) for text in frame[field]]
    return list(frame.itertuples(index=False, name=None))


letters = st.characters(exclude_categories=("Cs", "Cc"))
token = (
    st.one_of(st.integers(0, 10**12).map(str), st.text(letters, min_size=1, max_size=6))
    .filter(lambda text: text.strip() and text not in MISSING_TOKENS and not re.fullmatch(r"-?[0-9]+\.0+", text))
    .filter(lambda text: not text.strip().startswith("\ufeff"))  # it is taken off, see below
)
rating = st.one_of(st.integers(1, 10).map(lambda n: n / 2), st.floats(allow_nan=False, allow_infinity=False, width=64))
time = st.integers(0, 2_000_000_000)
interaction = st.tuples(token, token, rating, st.sampled_from([-1, 0, 1]), time)
interactions = st.lists(interaction, min_size=1, max_size=12).filter(lambda rows: any(row[3] == 1 for row in rows))
NAMES = ("who", "what", "stars", "verdict", "moment")
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
OPTIONS: dict[str, Any] = {
    "user": "who", "item": "what", "rating": "stars", "sign": "verdict", "time": "moment", "time_unit": "s",
}  # fmt: skip


def as_delimited(rows: list[tuple[Any, ...]], separator: str, line_end: str, bom: bool, blank_lines: bool) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=line_end).writerows([NAMES, *rows])
    if blank_lines:
        text.write(line_end)
    return text.getvalue().encode("utf-8-sig" if bom else "utf-8")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=interactions,
    format=st.sampled_from(["csv", "tsv", "semicolon", "jsonl", "parquet"]),
    compression=st.sampled_from(["", ".gz", ".xz"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    blank_lines=st.booleans(),
    block=st.sampled_from([64, 1 << 20]),
)
def test_rows_come_back(
    rows: list[tuple[Any, ...]], format: str, compression: str, line_end: str, bom: bool, blank_lines: bool, block: int
) -> None:
    blank = None if format != "parquet" else ""  # what is taken off around ids
    ids = [[unicodedata.normalize("NFC", text).strip(blank) for text in row[:2]] for row in rows]  # as they are kept
    normal = [(*own, *row[2:]) for own, row in zip(ids, rows, strict=True)]
    expected = sorted(normal, key=lambda row: row[4])  # stable, as the converter is to be
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK_BYTES", block)
        path = Path(folder) / f"raw.{'csv' if format == 'semicolon' else format}"
        if format == "parquet":
            pl.DataFrame(rows, schema=list(NAMES), orient="row").write_parquet(path)
        else:
            if format == "jsonl":
                lines = [json.dumps(dict(zip(NAMES, row, strict=True)), ensure_ascii=bom) for row in rows]
                data = (line_end.join(lines) + line_end * blank_lines).encode()
            else:
                separator = {"csv": ",", "tsv": "\t", "semicolon": ";"}[format]
                data = as_delimited(rows, separator, line_end, bom, blank_lines)
            path, data = path.with_name(path.name + compression), COMPRESS[compression](data)
            path.write_bytes(data)
        separator_option = "semicolon" if format == "semicolon" else None
        made = convert("csv", path, Path(folder) / "out", separator=separator_option, **OPTIONS)
        assert made.name == "raw"
        assert rows_of(made) == expected
        again = convert("csv", path, Path(folder) / "again", separator=separator_option, **OPTIONS)
        for file in made.iterdir():
            assert file.read_bytes() == (again / file.name).read_bytes()


RULE = {"like": "rating >= 4", "dislike": "rating <= 2"}
SIGNED = "user,item,sign\n"


def test_a_rule_makes_the_sign_and_columns_are_found_by_their_usual_names(log: Raw) -> None:
    made = log("userId,itemId,rating,timestamp\na,x,5,30\na,y,3,10\nb,x,1.5,20\n", "ratings.csv").made(**RULE)
    assert made.name == "ratings"
    assert (made / "ratings.inter").read_text() == (
        "user_id:token\titem_id:token\trating:float\tsign:float\ttimestamp:float\n"
        "a\ty\t3\t0\t10\nb\tx\t1.5\t-1\t20\na\tx\t5\t1\t30\n"
    )


def test_columns_have_their_roles_with_and_without_a_header(log: Raw) -> None:
    assert log("User,user,item,sign,stars:float\na,b,x,1,5\n").rows(rating="stars:float") == ["a|x|5|1"]
    log("user,item,rating,time\na,x,5,soon\nb,x,1,later\n")
    assert log.rows(**RULE, rating="none", time="none") == ["a|x|1", "b|x|-1"]
    log("1::0012::9::100\n2::0012::2::50\n", "ratings.dat")
    rule = {"like": "rating >= 7", "dislike": "else"}
    assert log.rows(columns="user,item,rating,time", **rule) == ["2|0012|2|-1|50", "1|0012|9|1|100"]
    assert log("  1  7 \t1\n2 7   -1\n \n", "a.txt").rows(columns="user,item,sign") == ["1|7|1", "2|7|-1"]
    log("user_id:token\titem_id:token\trating:float\na\tx\t4\na\ty\t1\n", "x.inter")
    assert log.rows(like="rating >= 4", dislike="else") == ["a|x|4|1", "a|y|1|-1"]


@pytest.mark.parametrize("name", ["date", "DateTime", "time"])
def test_a_column_of_dates_is_found(log: Raw, name: str) -> None:
    text = (log(f"user,item,sign,{name}\na,x,1,2020-01-02\nb,x,-1,2020-01-01\n").made() / "log.inter").read_text()
    assert text.endswith("timestamp:float\nb\tx\t-1\t1577836800\na\tx\t1\t1577923200\n")


def test_without_rating_and_time_their_columns_are_left_out_and_the_order_stays(log: Raw) -> None:
    log("user\titem\tclick\nb\tx\t1\na\ty\t0\na\tx\ttrue\na\tz\tfalse\n", "log.tsv")
    assert log.rows(like="click == 1", dislike="else") == ["b|x|1", "a|y|-1", "a|x|1", "a|z|-1"]
    yaml = (log.made(like="click == 1", dislike="else") / "log.yaml").read_text()
    assert "RATING_FIELD" not in yaml
    assert "TIME_FIELD" not in yaml


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("user,item,action", "user,item,action"),
        ("userId,track,Action", "who,song,action"),
        ("a,Song,b", "who,song,did"),
    ],
)
def test_a_header_is_no_row_of_a_file_without_one(log: Raw, header: str, columns: str) -> None:
    """A rule of numbers refuses it by itself; of words, none is a number."""
    log(f"{header}\nu1,i1,like\nu2,i2,skip\nuser,item,skip\n")
    user, item, action = columns.split(",")
    rule = {"like": f"{action} == like", "dislike": f"{action} == skip"}
    given = {"columns": columns, "user": user, "item": item, **rule}
    log.refuses(r"log.csv, line 1: the line is a header, .* leave out columns=, or that line", **given)
    assert log.rows(on_error="skip", **given) == ["u1|i1|1", "u2|i2|-1", "user|item|-1"]


def test_values_of_json(log: Raw) -> None:
    first, second = '{"user": "[a]", "item": 1, "sign": 1}\n', '{"user": {"id": 7}, "item": 1, "sign": 1}\n'
    log(f'{first}{second}{{"user": "{{b", "item": ["x"], "sign": -1}}\n', "log.jsonl")
    log.refuses(r"line 2: column 'user' holds {.*7}, an id is a text or a number")
    assert log.rows(on_error="skip") == ["[a]|1|1"]
    log("[" * 100_000 + '\n{"user": "a", "item": "x", "sign": 1}\n', "log.jsonl")
    log.refuses(r"log.jsonl, line 1: not a JSON object")
    first = '{"user": 12345678901234567890123, "item": "x", "sign": 1, "extra": [1, {"a": 2}]}'
    log(f'{first}\n{{"user": 1, "item": 2, "sign": -1.0}}', "log.jsonl")
    assert log.rows() == ["12345678901234567890123|x|1", "1|2|-1"]


def test_raw_columns_are_carried_over_with_their_types(log: Raw) -> None:
    log("user,item,sign,price,brand,zip,tags\na,x,1,2.50,Acme,00501,a b\nb,y,-1,3,007,10001,c\n")
    made = log.made(keep="price,brand,zip:token,tags:token_seq")
    lines = (made / "log.inter").read_text().splitlines()
    assert lines[0].split("\t")[3:] == ["price:float", "brand:token", "zip:token", "tags:token_seq"]
    assert lines[1] == "a\tx\t1\t2.50\tAcme\t00501\ta b"
    assert "price" not in (made / "log.yaml").read_text()  # loaded on demand
    header = (log.made(keep="zip,price") / "log.inter").read_text().splitlines()[0]
    assert header.endswith("zip:token\tprice:float"), "00501 is no number"
    frame = pl.DataFrame({"user": [1], "item": [2], "sign": [1], "n": [3], "flag": [True], "f": [0.5], "t": ["z"]})
    made = log(frame, "typed.parquet").made(keep="n,flag,f,t")
    assert (made / "typed.inter").read_text().splitlines() == [
        "user_id:token\titem_id:token\tsign:float\tn:float\tflag:float\tf:float\tt:token",
        "1\t2\t1\t3\t1\t0.5\tz",
    ]


def test_a_guessed_type_is_that_of_all_blocks(log: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 40)
    made = log("user,item,sign,code\n" + "a,x,1,5\n" * 50 + "b,x,-1,n5\n").made(keep="code")
    assert (made / "log.inter").read_text().startswith("user_id:token\titem_id:token\tsign:float\tcode:token\n")


def test_the_rule_reads_columns_words_blanks_and_decimals(log: Raw) -> None:
    log("user,item,stars\na,x,5\na,y,1\n")
    assert log.rows(rating="stars", like="rating >= 4", dislike="stars <= 2") == ["a|x|5|1", "a|y|1|-1"]
    log("user,item,stars,rating\na,x,5,1\na,y,1,5\n")
    found = log.rows(rating="stars", like="rating >= 4", dislike="else")
    assert found == ["a|x|5|-1", "a|y|1|1"], "the column of that very name"
    actions = (("x", "like"), ("y", "skip"), ("z", None))
    log("\n".join(json.dumps({"user": "a", "item": i, "action": action}) for i, action in actions), "log.jsonl")
    assert log.rows(like="action == like", dislike="action == skip") == ["a|x|1", "a|y|-1", "a|z|0"]
    assert log("user,item,action\na,x,Like\na,y,like\n").rows(like="action == Like") == ["a|x|1", "a|y|0"]
    log("user,item,ratio\na,x,2.5\na,y,0.1\nb,y,\nb,x,NaN\n")
    assert log.signs(like="ratio >= 2", dislike="else") == "1 -1 0 0"
    rating = pl.Series([0.7, 0.3, 0.5, 0.1], dtype=pl.Float32)
    log(pl.DataFrame({"user": ["a", "b", "c", "d"], "item": ["x"] * 4, "rating": rating}), "log.parquet")
    found = log.rows(like="rating >= 0.7", dislike="rating <= 0.3")
    assert found == ["a|x|0.7|1", "b|x|0.3|-1", "c|x|0.5|0", "d|x|0.1|-1"]


@pytest.mark.parametrize(
    ("cell", "column", "what"),
    [("7.65612E+16,x,1,5", "user", "ids"), ("u,4E+11,1,5", "item", "ids"), ('u,x,1,"1,59388E+12"', "time", "times")],
)
def test_numbers_that_a_spreadsheet_rounded_are_refused(log: Raw, cell: str, column: str, what: str) -> None:
    log(f"user,item,sign,time\n{cell}\n")
    log.refuses(rf"^log.csv, line 2: .*'{column}' is .*rounded; export the {what} as text")


def test_exponents_of_all_digits_and_encodings(log: Raw) -> None:
    log("user,item,sign,time,price\nE+V,1.5e9,1,1.593878903438E+12,4.5E+11\n")
    assert rows_of(log.made(keep="price")) == [("E+V", "1.5e9", 1, 1593878903.438, 450000000000)]
    log(f"{SIGNED}José,x,1\n".encode("latin-1"))
    log.refuses(r"log.csv, line 2: byte 0xe9 is not utf-8; .*encoding=latin-1")
    assert log.rows(encoding="latin-1") == ["José|x|1"]
    log.refuses("There is no encoding 'latin-11'", encoding="latin-11")
    log(f"{SIGNED}José,x,1\nb,x,-1\n".encode("cp500"))  # of mainframes
    assert log.rows(encoding="cp500") == ["José|x|1", "b|x|-1"]


@pytest.mark.parametrize("encoding", ["undefined", "idna", "punycode", "unicode_escape", "base64", "hex", "a\0b", ""])
def test_pythons_encodings_of_other_things_are_none_of_files(log: Raw, encoding: str) -> None:
    message = f"^There is no encoding {encoding!r}; use utf-8".replace("\\", r"\\")
    log(f"{SIGNED}a,x,1\n").refuses(message, encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_marks_inside_joined_files_are_no_part_of_an_id(log: Raw, encoding: str) -> None:
    pieces = ["a,x,1\n", "b,x,-1\n", '"a",y,1\n']
    log(b"".join(("\ufeff" * (encoding == "utf-8") + piece).encode(encoding) for piece in pieces))
    assert log.rows(columns="user,item,sign") == ["a|x|1", "b|x|-1", "a|y|1"]


@pytest.mark.parametrize("separator", [",", "::"])
def test_the_header_of_a_joined_file_is_no_row(log: Raw, separator: str) -> None:
    lines = ["user,item,does", "a,x,like", "user,item,does", "b,x,skip", "xuser,item,does", "user,item,does"]
    log("".join(f"{line}\n" for line in lines).replace(",", separator))
    rule = {"like": "does == like", "dislike": "else", "separator": separator}
    log.refuses(r"^log.csv, line 3: the header again, .*; remove the line", **rule)
    assert log.rows(on_error="skip", **rule) == ["a|x|1", "b|x|-1", "xuser|item|-1"]
    assert manifest_of(log.made(on_error="skip", **rule))["rejected"] == {"rows": 2, "files": {"log.csv": 2}}


def test_quotes_and_separators(log: Raw) -> None:
    assert log('user,item,sign,text\na,x,1,"\nuser,item,sign,text\n"\n').rows() == ["a|x|1"]
    log('user\titem\tsign\na\t5" disk\t1\nb\t7" disk\t-1\n', "log.tsv")
    log.refuses(r"log.tsv, line 2: a quote .* inside a field")
    assert rows_of(log.made(quote="none")) == [("a", '5" disk', 1), ("b", '7" disk', -1)]
    log('user§item§sign\n"a§b"§x§1\nc§y§-1\n', "log.txt")
    assert log.rows(separator="§") == ["a§b|x|1", "c|y|-1"]
    log.refuses("separator is empty; give any text, or one of tab, comma", separator="")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_wide_encodings(log: Raw, encoding: str, mark: bool, suffix: str) -> None:
    """What spreadsheets and PowerShell write: known by its first bytes, or named."""
    rows = [(f"Ж{n}é𝄞"[: 1 + n % 4] + str(n), f"x{n}", 1) for n in range(300)]
    text = "user,item,sign\r\n" + "".join(f"{user},{item},{sign}\r\n" for user, item, sign in rows)
    writes_mark = encoding in ("utf-16", "utf-32", "utf-8-sig")
    log(("\ufeff" * (mark and not writes_mark) + text).encode(encoding), f"log.csv{suffix}")
    named = {} if mark or writes_mark else {"encoding": encoding}
    assert sorted(rows_of(log.made(**named))) == sorted(rows)


def test_wide_encodings_that_are_broken_or_not_known(log: Raw) -> None:
    for broken in (b"\xff\xfeu\x00s", b"\xff\xfe\x00\xdca\x00"):
        log(broken).refuses(r"log.csv is not a whole file in utf-16 .*; save it as UTF-8, or give")
    wide = f"{SIGNED}a,x,1\n".encode("utf-16-le")
    log(wide).refuses(r"log.csv is not a whole file in utf-16 \(.*BOM\).* encoding=utf-16-le", encoding="utf-16")
    for name in ("log.csv", "log.jsonl"):
        log(wide, name).refuses(rf"{name} has null characters in its first line.*encoding=utf-16-le")


def _tar(data: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("log.csv")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def _zip(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("log.csv", data)
    return packed.getvalue()


def _saved(data: bytes, write: Callable[[pl.DataFrame, io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(pl.read_csv(data), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "pack", "message"),
    [
        ("log.csv.zip", _zip, "is a zip archive; extract it, and give the file that is in it"),
        ("log.tar.gz", _tar, "is a tar archive; extract it"),
        ("log.csv.bz2", bz2.compress, "is compressed with bzip2, which is not read; decompress it"),
        ("log.csv", gzip.compress, "is compressed with gzip; give it a name that ends in .gz"),
        ("log.txt", lzma.compress, "is compressed with xz; give it a name that ends in .xz"),
        ("log.xlsx", _zip, "is a spreadsheet; save the sheet as CSV"),
        ("log.xls", lambda data: bytes.fromhex("d0cf11e0a1b11ae1") + data, "is a document of an old Office program"),
        ("log", lambda data: _saved(data, pl.DataFrame.write_parquet), "is a parquet file; give it a name"),
        ("log.arrow", lambda data: _saved(data, pl.DataFrame.write_ipc), "is an Arrow or Feather file; save it as"),
    ],
)
def test_archives_are_told_from_text(log: Raw, name: str, pack: Callable[[bytes], bytes], message: str) -> None:
    log(pack(b"user,item,sign\nu,i,1\n" * 9), name)
    for encoding in ("utf-8", "latin-1"):  # in which any byte is a character
        log.refuses(f"^{name} {message}", encoding=encoding)


def test_ids_of_parquet_files(log: Raw) -> None:
    frame = pl.DataFrame({"user": [1.0, 2.0], "item": pl.Series(["x", "y"], dtype=pl.Categorical), "sign": [1, -1]})
    assert log(frame, "a.parquet").rows() == ["1|x|1", "2|y|-1"]
    for users, message in (
        (pl.Series([1.0, 2.5]), "a.parquet, row 2: the id 2.5 in column 'user' is not a whole number"),
        (pl.Series([1.0, 1e19]), r"a.parquet, row 2: the id 1e\+19 in column 'user' is not a whole number"),
        (pl.Series([1, 76561197970982479]).cast(pl.Float64), r"row 2: .* below 2\*\*53, from which on Float"),
        (pl.Series([1, 2**24 + 1]).cast(pl.Float32), r"row 2: .* below 2\*\*24, from which on Float"),
        (pl.Series([1.0, None]), "a.parquet, row 2: no value in column 'user'"),
        (pl.Series([[1], [2]]), r"a.parquet: column 'user' holds List\(Int64\), ids were expected"),
    ):
        log(frame.with_columns(user=users), "a.parquet").refuses(message)


@pytest.mark.parametrize("rows", [5, 6])
def test_parquet_that_is_read_in_several_batches(log: Raw, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(tables, "BATCH_ROWS", 2)
    frame = pl.DataFrame({"user": range(rows), "item": "x", "sign": [1] * rows, "time": range(rows)})
    assert log(frame, "log.parquet").rows() == [f"{n}|x|1|{n}" for n in range(rows)]
    log(frame.with_columns(sign=pl.Series([1, 1, 1, 7, *[1] * (rows - 4)])), "bad.parquet")
    log.refuses(r"bad.parquet, row 4: sign 7")
    made = log.made(on_error="skip")
    assert ids_of(made) == [str(n) for n in range(rows) if n != 3]
    assert "bad.parquet\t4\tsign" in (made / "bad.rejected.tsv").read_text()


def ids_of(folder: Path) -> list[str]:
    return [str(row[0]) for row in rows_of(folder)]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("7.656119800000001e+16", "'7.656119800000001e+16' in column 'user' is a number that was rounded"),
        ("12345678901234567.0", "the id '12345678901234567.0' in column 'user' was a float of 2**53 or more"),
        ("true", "column 'user' holds true, an id is a text or a number"),
    ],
)
def test_rounded_ids_are_refused_in_json_as_in_csv(log: Raw, number: str, said: str) -> None:
    """Polars writes such numbers as plain digits: two users became one."""
    log(f'{{"user": {number}, "item": "\\"x", "sign": -1}}\n', "log.jsonl")
    log.refuses(f"log.jsonl, line 1: {re.escape(said)}")
    log(f'{{"user": "{number}", "item": "a: 1e5", "sign": 1, "more": [1e5, 2.5]}}\n', "log.jsonl")
    if number == "true":
        assert ids_of(log.made()) == ["true"]
    assert log('{"user": 7, "item": "a: 1e5", "sign": 1}\n', "log.jsonl").rows() == ["7|a: 1e5|1"]


def test_whole_ids_with_decimals_are_those_of_a_table_of_numbers(log: Raw) -> None:
    wanted = ["1|7|1", "2|0|-1", "-3|7|1"]
    assert log(f"{SIGNED}1.0,7.0,1\n2,0.0,-1\n-3.00,7,1\n").rows() == wanted
    frame = pl.DataFrame({"user": [1.0, 2, -3], "item": [7.0, 0, 7], "sign": [1, -1, 1]})
    assert log(frame, "same.parquet").rows() == wanted
    assert ids_of(log('{"user": 1.0, "item": 7, "sign": 1}\n', "events.jsonl").made()) == ["1"]
    log("user;item;sign\n1,0;x;1\n")
    assert ids_of(log.made(decimal=",")) == ["1"]
    assert ids_of(log.made()) == ["1,0"]


@pytest.mark.parametrize("ids", [("1.0", "1.5"), ("1.0", "a"), ("1.0", "007"), ("007.0", "1.0"), ("1.", "2.0")])
def test_ids_of_which_one_is_no_whole_number_are_text_as_it_stands(log: Raw, ids: tuple[str, str]) -> None:
    assert ids_of(log(SIGNED + "".join(f"{each},x,1\n" for each in ids)).made()) == list(ids)
    frame = pl.DataFrame({"user": ["1.0", "2.0"], "item": [1, 1], "sign": [1, 1]})
    assert ids_of(log(frame, "text.parquet").made()) == ["1.0", "2.0"]


def test_the_kind_of_ids_holds_for_the_whole_file(log: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 16)
    lines = [f"{user},item{row},1" for row, user in enumerate(("1", "2.0", "3.0", "4"))]
    assert ids_of(log("\n".join(["user,item,sign", *lines, ""])).made()) == ["1", "2", "3", "4"]
    log("\n".join(["user,item,sign", *lines, "a,x,1", ""]))
    log.refuses(r"line 6: the id 'a' in column 'user' is no whole number, .* such as '2.0'")
    assert len(log.rows(on_error="skip")) == 4
    log("\n".join(["user,item,sign", "a,x,1", *lines, ""]))
    assert ids_of(log.made()) == ["a", "1", "2.0", "3.0", "4"]


@pytest.mark.parametrize("ascii", [True, False])
def test_a_key_of_json_lines_may_come_late(log: Raw, ascii: bool) -> None:
    objects: list[dict[str, Any]] = [{"user": f"u{row}", "item": "größe", "clicked": 1} for row in range(150)]
    objects[120] = {"user": "u120", "item": "x", "größe": "klein"}
    log("".join(json.dumps(each, ensure_ascii=ascii) + "\n" for each in objects), "log.jsonl")
    assert log.signs(like="clicked == 1", dislike="größe == klein").split() == ["1"] * 120 + ["-1"] + ["1"] * 29
    log.refuses("no column 'clickd'", like="clickd == 1")


def test_a_line_that_is_no_text_is_recorded_once_where_a_key_is_looked_for(log: Raw) -> None:
    lines = [json.dumps({"user": f"u{row}", "item": "x"}).encode() for row in range(150)]
    lines[110] = b'{"user": "\xff", "item": "x", "late": 1}'
    lines[140] = b'{"user": "v", "item": "x", "late": 1}'
    record = manifest_of(log(b"\n".join(lines) + b"\n", "log.jsonl").made(like="late == 1", on_error="skip"))
    assert (record["rejected"]["rows"], record["rows"]["like"], record["rows"]["total"]) == (1, 1, 149)


RATINGS = "userId,movieId,rating\n1,10,5\n1,20,1\n2,10,2\n2,30,4\n"
ITEMS = "movieId,title,year,genres\n10,Alien,1979,Horror|Science Fiction\n20,Jaws,,Thriller\n40,Unseen,1990,Drama\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "ratings.csv").write_text(RATINGS)
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def converted(shop: Path, **options: Any) -> Path:
    columns = {"user": "userId", "item": "movieId"}
    return convert("csv", shop / "ratings.csv", shop / "out", overwrite=True, **columns, **RULE, **options)


def lines(folder: Path, side: str) -> list[str]:
    return (folder / f"ratings.{side}").read_text("utf-8").replace('""', "").splitlines()


def test_items_and_users_have_files(shop: Path) -> None:
    folder = converted(shop, items=shop / "items.csv", lists="genres")
    assert lines(folder, "item") == [
        "item_id:token\ttitle:token\tyear:float\tgenres:token_seq",
        "10\tAlien\t1979\tHorror Science-Fiction",
        "20\tJaws\t\tThriller",
    ]
    record = manifest_of(folder)
    assert record["options"]["items"] == "items.csv"
    assert set(record["inputs"]) == {"ratings.csv", "items.csv"}
    (shop / "people.tsv").write_text("User ID\tcountry\tzip\n1.0\tNO\t0150\n2.0\t\t5003\n")
    assert lines(converted(shop, users=str(shop / "people.tsv")), "user") == [
        "user_id:token\tcountry:token\tzip:token",
        "1\tNO\t0150",
        "2\t\t5003",
    ]


def test_a_table_with_types_gives_what_from_frame_does(shop: Path) -> None:
    pl.DataFrame({"movieId": [10, 20], "tags": [["a b", "c"], []], "price": [1.5, None]}).write_parquet(
        shop / "items.parquet"
    )
    assert lines(converted(shop, items=shop / "items.parquet"), "item") == [
        "item_id:token\ttags:token_seq\tprice:float",
        "10\ta-b c\t1.5",
        "20\t\t",
    ]


def test_few_items_with_features_are_told(shop: Path) -> None:
    """Ids that are written in two ways lost their features without a word."""
    (shop / "ratings.csv").write_text("userId,movieId,rating\n1,10,5\n1,020,5\n1,A,1\n")
    (shop / "items.csv").write_text("movieId,title\n10,Alien\n20,Aliens\na,Heat\n")
    record = manifest_of(converted(shop, items=shop / "items.csv"))
    assert record["warnings"] == ["only 1 of 3 items have features; write ids alike in both files"]
    (shop / "items.csv").write_text("movieId,title\n10,Alien\n020,Aliens\na,Heat\n")
    assert not manifest_of(converted(shop, items=shop / "items.csv"))["warnings"]


def test_the_mark_of_a_joined_file_is_no_part_of_an_id(log: Raw) -> None:
    """It was in the ids of a data frame, and gone when the data set was read: two users became one there."""
    frame = pl.DataFrame({"user": ["a", "\ufeffa", "b"], "item": ["x", "y", "\ufeffx"], "sign": [1, -1, 1]})
    assert log(frame, "log.parquet").rows() == ["a|x|1", "a|y|-1", "b|x|1"]
    assert id_text("\ufeffa") == "a"
    with pytest.raises(ValueError, match="is empty"):
        id_text("\ufeff")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("id,title\n10,Alien\n", {}, "items.csv has no column 'movieId' of ids"),
        ("movieId,title\n10,Alien\n10,Aliens\n", {}, "items.csv, line 3: movieId '10' has several rows"),
        ("movieId,title\n99,Alien\n", {}, "no id of the item features is in the interactions"),
        ("movieId,title\n10,Alien\n", {"lists": "genre"}, "no file of items or users has such a column"),
        ("", {}, "items.csv is empty"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(shop: Path, text: str, options: dict[str, Any], message: str) -> None:
    (shop / "items.csv").write_text(text)
    check_refused(message, converted, shop, items=shop / "items.csv", **options)


def test_a_file_that_is_not_there_is_refused_before_the_ratings_are_read(shop: Path) -> None:
    (shop / "ratings.csv").write_text("userId,movieId,rating\n1,10,bad\n")
    check_refused(r"item\.csv.*did you mean 'items\.csv'", converted, shop, items=shop / "item.csv")
