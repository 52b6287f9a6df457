"""``on_error=skip``: bad rows go to a file and are counted, and the rest is what it would be without them."""

import io
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.io
from converted import Raw, manifest_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_convert_malformed import LONGER, PARQUET, TEXT, outcome

from recbole_signed.convert import convert, tables
from recbole_signed.convert import raw_files as files
from recbole_signed.errors import UsageError

USUAL: dict[str, Any] = {
    "deadline": None,
    "phases": set(Phase) - {Phase.shrink},
    "suppress_health_check": [HealthCheck.too_slow],
}
TIMES = {
    "kuairand": ("165081274", "soon165081274"),
    "movielens": ("::97830076", "::x"),
    "movielens csv": (",97830076", ",2030-13-"),
    "movietweetings": ("::138194574", "::1e3"),
    "kuairec": (",159389806", ",99999999159389806"),
    "amazon": (",136969920", ",x"),
    "yelp": ("2018-07-07", "2018-17-07"),
    "steam": ("November 5", "Novembre 5"),
    "movielens-100k": ("\t88125094", "\tnan"),
    "tenrec": (",0,0", ",2,0"),  # it has no times: a click that is neither 0 nor 1
}
QUOTED = ("kuairand", "movielens csv", "kuairec", "amazon", "tenrec")
"""Sources whose text knows quotes."""
BYTES = sorted(set(TEXT) - {"movielens"})
"""Sources whose text is UTF-8 (``ratings.dat`` may be Latin-1, in which every byte is a character; so may u.data)."""


def bad_line(source: str, kind: str) -> bytes:
    """A line of the source that can be no row."""
    name, lines = TEXT[source]
    line, user = lines[-1], "A39HTATAQ9V7Y4" if source == "amazon" else "4"
    if kind == "blank id":
        line = line.replace(user, "", 1)
    elif kind == "short":
        line = line[: len(line) // 3]
    elif kind == "long":
        line += LONGER[Path(name).suffix]
    elif kind == "time":
        changed = re.sub(re.escape(TIMES[source][0]), TIMES[source][1], line, count=1)
        assert changed != line
        line = changed
    elif kind == "quote":
        line = line.replace(user, f'{user}"', 1)
    elif kind == "open quote":
        line = '"' + line
    elif kind == "byte":
        return line.encode().replace(user.encode(), b"\xe9", 1)
    return line.encode()


def kinds(source: str) -> list[str]:
    found = ["blank id", "short", "long", "time"]
    if source in QUOTED:
        found += ["quote", "open quote"]
    if source in BYTES:
        found.append("byte")
    return found


def made(source: str, name: str, data: bytes, folder: Path, **options: Any) -> Path:
    folder.mkdir()
    (folder / name).write_bytes(data)
    return convert(source.split()[0], folder / name, folder / "out", name="made", **options)


def rejected(folder: Path) -> list[list[str]]:
    header, *rows = (folder / "made.rejected.tsv").read_text(encoding="utf-8").split("\n")[:-1]
    assert header.split("\t") == ["file", "row", "column", "reason", "raw row"]
    return [row.split("\t") for row in rows]


def as_cell(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").replace("\\", "\\\\").replace("\t", "\\t")


@pytest.mark.parametrize("source", sorted(TEXT))
@settings(max_examples=10, **USUAL)
@given(data=st.data())
def test_good_rows_come_out_and_bad_ones_are_counted(source: str, data: st.DataObject) -> None:
    name, lines = TEXT[source]
    good = [line.encode() for line in lines]
    first = len(good) - 3  # a header, and the line that tells the edition of amazon, stay where they are
    mixed = [(line, False) for line in good]
    drawn = data.draw(st.lists(st.sampled_from(kinds(source)), min_size=1, max_size=6))
    if "open quote" in drawn:  # a later stray quote would close it: what lies between is one field then, by right
        drawn = [kind for kind in drawn if kind != "quote"]
    for kind in drawn:
        mixed.insert(data.draw(st.integers(first, len(mixed))), (bad_line(source, kind), True))
    block = data.draw(st.sampled_from([100, 1 << 20]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK_BYTES", block)
        clean = made(source, name, b"\n".join(good) + b"\n", Path(folder) / "clean")
        text = b"\n".join(line for line, _ in mixed) + b"\n"
        left = made(source, name, text, Path(folder) / "mixed", on_error="skip")
        assert (left / "made.inter").read_bytes() == (clean / "made.inter").read_bytes()
        wanted = [(name, str(row), as_cell(line)) for row, (line, bad) in enumerate(mixed, 1) if bad]
        assert sorted(((row[0], row[1], row[4]) for row in rejected(left)), key=lambda row: int(row[1])) == wanted
        assert all(row[3] for row in rejected(left))
        record = manifest_of(left)
        assert record["rejected"] == {"rows": len(wanted), "files": {name: len(wanted)}}
        assert record["on_error"] == "skip"
        assert record["version"] == manifest_of(clean)["version"], "the data are the same"
        lines_of_bad = "|".join(row for _, row, _ in wanted)
        with pytest.raises(UsageError, match="line" if "open quote" in drawn else f"line ({lines_of_bad}): "):
            made(source, name, text, Path(folder) / "stop")


PIECES = [b"", b",", b"::", b"\t", b'"', b"\n", b"\r", b"\0", b"nan", b"-1", b"9" * 25, b"\xe9", b"{", b"\x1f"]


@pytest.mark.parametrize("source", sorted(TEXT))
@settings(max_examples=10, **USUAL)
@given(data=st.data())
def test_damaged_text_never_stops_for_a_row(source: str, data: st.DataObject) -> None:
    """Whatever becomes of a line: a row, or a rejected one, or (of the first lines) one sentence about the file.

    Without ``on_error`` it is all rows, or one sentence.
    """
    name, lines = TEXT[source]
    head = "".join(f"{line}\n" for line in lines[:-3]).encode()
    text = "".join(f"{line}\n" for line in lines[-3:] * 3).encode()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from([0, 1, 2, 12]))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[start + length :]
    if b"\x1f" not in text:  # which is blank to Python alone
        result = outcome(source, name, head + text)
        assert isinstance(result, list) or name in result or "leaves no" in result
    with tempfile.TemporaryDirectory() as folder:
        try:
            left = made(source, name, head + text, Path(folder) / "raw", on_error="skip")
        except UsageError as error:
            message = str(error)
        else:
            message = ""
        if message:
            assert "leaves no" in message or "gives no" in message
            return
        record = manifest_of(left)
        rows, bad = record["rows"]["total"], record["rejected"]["rows"]
        assert len((left / "made.inter").read_text(encoding="utf-8").split("\n")) == rows + 2
        assert (left / "made.rejected.tsv").exists() == bool(bad)
        if bad:
            assert len(rejected(left)) == bad
        least = 9 - text.count(b"\0") - 3 * 2  # a piece spoils two lines at most, joined or cut in two
        assert rows >= least - (source == "steam") * 9


def test_rows_over_several_lines_and_open_quotes(log: Raw) -> None:
    # good rows with quotes of their own, even with a line end inside, on both sides of quotes that are wrong
    lines = ['u1,"a, b",1', 'u2,"say ""hi""",-1', "u3,plain,1"] * 40
    bad = ['u4,"open,1', 'u5,in"side,1', 'u6,"shut"x,-1']
    log(["user,item,sign", *lines[:50], bad[0], *lines[50:80], bad[1], bad[2], *lines[80:]])
    left = log.made(on_error="skip", name="made")
    assert manifest_of(left)["rows"] == {"total": 120, "like": 80, "dislike": 40, "neutral": 0}
    assert [row[4] for row in rejected(left)] == bad
    assert [row[1] for row in rejected(left)] == ["52", "83", "84"]
    log('user,item,sign,note\nu1,i1,1,"two\nlines"\nu2,,1,"tab\t\nand more"\nu3,i3,1,plain\nu4,"x\ny",1,z\n')
    left = log.made(on_error="skip", name="made")
    assert (left / "made.inter").read_text().splitlines()[1:] == ["u1\ti1\t1", "u3\ti3\t1"]
    reason = "'x\\\\ny' in column 'item' holds a tab, a line end or a null byte; replace it by a blank"
    assert rejected(left) == [
        ["log.csv", "4", "item", "no value in column 'item'", 'u2,,1,"tab\\t\\nand more"'],
        ["log.csv", "7", "item", reason, 'u4,"x\\ny",1,z'],
    ]
    log('user,item,sign,note\nu1,i1,1,"two\nlines"\nu3,"one\nmore",1\nu2,in"side,1,x\n\nu4,,1,z\nu5,i5,1,plain\n')
    left = log.made(on_error="skip", name="made")
    assert (left / "made.inter").read_text().splitlines()[1:] == ["u1\ti1\t1", "u5\ti5\t1"]
    assert [(row[1], row[4]) for row in rejected(left)] == [
        *(("4", 'u3,"one\\nmore",1'), ("6", 'u2,in"side,1,x'), ("8", "u4,,1,z"))
    ]


@pytest.mark.parametrize("header", [b"us\xe9r,item,sign", b'"user,item,sign', b"user,item,user"])
def test_a_damaged_header_is_not_skipped(log: Raw, header: bytes) -> None:
    log(b"\n" + header + b"\na,x,1\nb,y,1\n").refuses("log.csv", on_error="skip")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("user,item,stars\na,x,1\n", {"like": "starz >= 3"}, "no column 'starz'"),
        ("user,item,stars\na,x,3\n", {"like": "stars >= 3", "dislike": "stars <= 3"}, "line 2: a like and a dislike"),
        (
            "user,item,sign\na,x,9\nb,y,9\n",
            {},
            r"gives no interactions \(2 bad rows were left out, the first: log.csv, line 2: ",
        ),
        ("user,item,sign\na\n", {}, r"gives no interactions \(1 bad row was left out, the first: log.csv, line 2"),
        ("user,item,sign\na,x,-1\nb\n", {}, r"leaves no likes among 1 row \(1 bad row was left out"),
    ],
)
def test_a_fault_of_the_whole_file_still_stops(log: Raw, text: str, options: dict[str, str], message: str) -> None:
    log(text).refuses(message, on_error="skip", **options)


def test_the_unit_and_the_notation_of_times_are_those_of_most_rows(log: Raw) -> None:
    good = [f"u{n},i,1,165081274{n}" for n in range(6)]
    log(["user,item,sign,time", "x,i,1,1650812741000", *good, "x,i,1,2020-07-05", "x,i,1,1e99"])
    left = log.made(on_error="skip", name="made")
    assert [row.split("\t")[3] for row in (left / "made.inter").read_text().splitlines()[1:]] == [
        f"165081274{n}" for n in range(6)
    ]
    assert len(rejected(left)) == 3
    log(["user,item,sign,time", "x,i,1,5", *(f"u{n},i,1,2020-07-0{n + 1}" for n in range(6))])
    assert [row[:3] for row in rejected(log.made(on_error="skip", name="made"))] == [["log.csv", "2", "time"]]


NULL = pl.lit(None)
BAD_PARQUET: dict[str, list[pl.Expr]] = {
    "yambda": [
        NULL.cast(pl.Int64).alias("uid"),
        NULL.cast(pl.Int64).alias("timestamp"),
        pl.lit("skip").alias("event_type"),
    ],
    "zvuk": [
        NULL.cast(pl.Int64).alias("track_id"),
        NULL.cast(pl.Datetime("us")).alias("datetime"),
        pl.lit(-1.0).alias("play_duration"),
        pl.lit(float("inf")).alias("play_duration"),
    ],
    "movielens": [
        pl.lit(9.0).alias("rating"),
        NULL.cast(pl.Int64).alias("userId"),
        pl.lit(10**15).alias("timestamp"),
        NULL.cast(pl.Float64).alias("rating"),
    ],
}


@pytest.mark.parametrize("source", sorted(BAD_PARQUET))
@settings(max_examples=15, **USUAL)
@given(data=st.data())
def test_parquet(source: str, data: st.DataObject) -> None:
    frame = PARQUET[source]
    pieces, bad, row = [], [], 0
    for index in range(frame.height):
        for change in data.draw(st.lists(st.sampled_from(BAD_PARQUET[source]), max_size=2)):
            pieces.append(frame[:1].with_columns(change))
            bad.append(row := row + 1)
        pieces.append(frame[index : index + 1])
        row += 1

    def as_bytes(frame: pl.DataFrame) -> bytes:
        file = io.BytesIO()
        frame.write_parquet(file)
        return file.getvalue()

    with tempfile.TemporaryDirectory() as folder:
        name = "ratings.parquet"
        clean = made(source, name, as_bytes(frame), Path(folder) / "clean")
        left = made(source, name, as_bytes(pl.concat(pieces)), Path(folder) / "mixed", on_error="skip")
        assert (left / "made.inter").read_bytes() == (clean / "made.inter").read_bytes()
        assert manifest_of(left)["rejected"]["rows"] == len(bad)
        if bad:
            found = rejected(left)
            assert sorted(int(row[1]) for row in found) == bad
            assert all(json.loads(row[4].replace("\\\\", "\\")) for row in found)


@pytest.mark.parametrize("source", ["epinions", "ciao"])
def test_matrices(tmp_path: Path, source: str) -> None:
    rows = [[1, 10, 8, 4, 5, 11], [2, 11, 8, 9, 5, 1], [2.5, 11, 8, 1, 5, 1], [2, 12, 8, 1, 4, 10]]
    scipy.io.savemat(tmp_path / "rating.mat", {"rating": np.array(rows)})
    left = convert(source, tmp_path / "rating.mat", tmp_path / "out", name="made", on_error="skip")
    assert manifest_of(left)["rows"]["total"] == 2
    assert [row[:3] for row in rejected(left)] == [["rating.mat", "3", "user_id"], ["rating.mat", "2", "rating"]]


def test_features_and_splits(tmp_path: Path) -> None:
    movies = "5::A (1999)::Drama\n6::B\n6::B (1990)::War\n5::C (1991)::War\n"
    raw = Raw(tmp_path / "ml-1m", "movielens", {"ratings.dat": "1::5::5::1\n1::6::1::2\n2::x\n", "movies.dat": movies})
    left = raw.made(on_error="skip")
    assert (left / "ml-1m.item").read_text().splitlines()[1:] == ["5\tA\t1999\tDrama", "6\tB\t1990\tWar"]
    assert manifest_of(left)["rejected"] == {"rows": 3, "files": {"movies.dat": 2, "ratings.dat": 1}}
    parts = {"train.txt": "1 1 1\n1 2 0\n1 3\n", "valid.txt": "1 2 x\n1 2 1\n", "test.txt": "2 1 1\n"}
    record = manifest_of(Raw(tmp_path / "split", "signed-split", parts).made(on_error="skip"))
    assert record["rejected"] == {"rows": 2, "files": {"train.txt": 1, "valid.txt": 1}}
    assert record["rows"]["total"] == 4


def test_json_that_the_parser_does_not_take(log: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [f'{{"user": "u{n}", "item": "i", "sign": 1}}' for n in range(7)]
    bad = ['{"user": "a"', "[1]", "nonsense", '{"user": "a", "item": "i", "sign": 5}', '{"item": "i", "sign": 1}']
    log([good[0], bad[0], *good[1:4], *bad[1:4], "", *good[4:], bad[4]], "log.jsonl")
    left = log.made(on_error="skip", name="made")
    assert manifest_of(left)["rows"]["total"] == 7
    assert sorted(row[4] for row in rejected(left)) == sorted(bad)
    # a line that is an object, but that the parser of tables refuses
    parse: Callable[..., Any] = tables._parse_json
    monkeypatch.setattr(tables, "_parse_json", lambda block, *rest: "no" if b"u3" in block else parse(block, *rest))
    left = log("\n".join([*good, bad[0]]), "log.jsonl").made(on_error="skip", name="made")
    assert ("4", "no") in [(row[1], row[3]) for row in rejected(left)]
    assert manifest_of(left)["rows"]["total"] == 6
    log.refuses("log.jsonl, line 4: no")
