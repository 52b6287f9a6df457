"""Sources give every event, go on where they were, and put aside what is none."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE, Event
from recbole_signed.live.events import DISLIKE, VIEW, Limits
from recbole_signed.live.sources import EventSource, open_source
from recbole_signed.live.sources.file_source import AtomicSource, CsvSource, JsonLinesSource, ParquetSource, StdinSource

ROWS: list[dict[str, Any]] = [
    {"event_id": f"e{i}", "user_id": f"ü{i % 3}", "item_id": f'i"{i % 4}', "type": kind, "timestamp": 10 + i}
    for i, kind in enumerate(["like", "dislike", "adore", "view", "unlike", "skip", "like"])
]
GOOD = [row for row in ROWS if row["type"] != "adore"]


def write(path: Path, kind: str) -> Path:
    frame = pl.DataFrame(ROWS)
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    elif kind == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if kind == "tsv" else ",")
    return path


def drain(source: EventSource, n: int) -> tuple[list[Event], list[str], list[str | None]]:
    events: list[Event] = []
    reasons: list[str] = []
    positions: list[str | None] = []
    for _ in range(100):
        polled = source.poll(n)
        assert len(polled.batch) + len(polled.rejected) <= n
        events += polled.batch.events()
        reasons += [letter.reason for letter in polled.rejected]
        positions.append(polled.position)
        source.commit(polled.position)
        if polled.exhausted:
            return events, reasons, positions
    raise AssertionError("the source does not end")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("n", [1, 3, 7, 100])
def test_files_give_all_events_and_go_on_after_any_position(tmp_path: Path, kind: str, n: int) -> None:
    path = write(tmp_path / f"events.{kind}", kind)
    source = open_source(str(path))
    source.seek(None)
    events, reasons, positions = drain(source, n)
    assert [vars(event) for event in events] == [{**row, "value": None, "features": None} for row in GOOD]
    assert len(reasons) == 1
    assert "'adore' is not a type" in reasons[0]
    again = open_source(str(path))
    again.seek(positions[0])
    rest, _, _ = drain(again, 2)
    assert [event.event_id for event in rest] == [row["event_id"] for row in ROWS[n:] if row in GOOD]
    assert again.name == source.name
    again.close()


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_file_in_the_place_of_a_longer_one_is_refused(tmp_path: Path, kind: str) -> None:
    """Where it was read to lies behind its end: nothing of it would ever be read."""
    path = write(tmp_path / f"events.{kind}", kind)
    source = open_source(str(path))
    end = str(drain(source, 10)[2][-1])
    source.close()
    again = open_source(str(path))
    again.seek(end)
    assert not drain(again, 10)[0]
    again.close()
    shorter = open_source(str(path))
    with pytest.raises(UsageError, match=rf"events\.{kind} has \d+ (bytes|rows), and \d+ were read before"):
        shorter.seek(str(int(end) + 1))
    shorter.close()


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    good = json.dumps(GOOD[0]).encode()
    deep = b"[" * 100_000
    lines = [good, b"{", b"", b"\xff\xfe", b"[1]", b"null", deep, b'{"user_id": ' + b"9" * 5000 + b"}", good[:-1], good]
    path.write_bytes(b"\n".join(lines))  # no line end at the end
    source = JsonLinesSource(path)
    polled = source.poll(100)
    assert len(polled.batch) == 2
    assert len(polled.rejected) == 7
    by_position = {letter.position: letter for letter in polled.rejected}
    assert by_position[f"byte {len(good) + 1}"].raw == "{"
    json.dumps([letter.raw for letter in polled.rejected])


def test_a_line_that_has_a_key_twice_is_no_event(tmp_path: Path) -> None:
    """Which of the two was meant is not known."""
    path = tmp_path / "events.jsonl"
    good = json.dumps(GOOD[0])
    path.write_text(f'{good[:-1]}, "item_id": "other"}}\n{good}\n', encoding="utf-8")
    polled = JsonLinesSource(path).poll(100)
    assert len(polled.batch) == 1
    assert [letter.reason for letter in polled.rejected] == ["the line has a key twice"]


def test_a_line_that_is_being_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    text = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in GOOD[:2])
    first = text.index(b"\n") + 1
    path.write_bytes(b"")
    source, found, positions = JsonLinesSource(path), [], []
    source.seek(None)
    for end in range(len(text)):  # byte by byte
        with path.open("ab") as file:
            file.write(text[end : end + 1])
        polled = source.poll(10)
        assert (polled.rejected, polled.exhausted) == ([], True)
        found += list(polled.batch.events())
        positions.append(polled.position)
    assert [event.event_id for event in found] == ["e0", "e1"]
    assert positions[first - 3 : first] == ["0", str(first - 1), str(first)]
    again = JsonLinesSource(path)
    again.seek(str(first - 1))  # the line end is no line
    assert [event.event_id for event in again.poll(10).batch.events()] == ["e1"]


def test_a_wrong_separator_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id;item_id;type;timestamp\nu;i;like;1\n")
    with pytest.raises(UsageError, match=r"found: user_id;item_id.* read the file with the separator ';'.$"):
        CsvSource(path)


def test_rows_that_are_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(
        b"\xef\xbb\xbfuser_id,item_id,type,timestamp,extra\n"
        b"u,i,like,1,x\n"
        b"u,i,like\n"
        b"\n"
        b"u,i,like,1,x,y\n"
        b"a\x00b,i,like,1,x\n"
        b"\xff,i,like,1,x\n"
        b'"quoted, with\nline end",i,like,2,x\n'
        b"u,,like,3,x\n"
        b"v,i,like,4,x\n"
    )
    events, reasons, _ = drain(CsvSource(path), 2)
    assert [(event.user_id, event.timestamp) for event in events] == [
        ("u", 1),
        ("quoted, with\nline end", 2),
        ("v", 4),
    ]
    assert len(reasons) == 5
    assert "the row has 3 columns, the header has 5" in reasons


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_that_lacks_a_column(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"events.{suffix}"
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["i"]})
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    with pytest.raises(UsageError, match="lacks the column type, timestamp"):
        open_source(str(path))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_with_a_misspelt_column(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"events.{suffix}"
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "type": ["like"], "timestamp": [1], "session_id": ["s"]})
    for column, refused in (("Event ID", True), ("event_time", False)):
        changed = frame.with_columns(pl.lit("e").alias(column))
        changed.write_csv(path) if suffix == "csv" else changed.write_parquet(path)
        if refused:
            with pytest.raises(UsageError, match="the column 'Event ID', which no event has; did you mean 'event_id'"):
                open_source(str(path))
        else:
            assert len(open_source(str(path)).poll(9).batch) == 1


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a source of events"):
        open_source("events.xlsx")
    for name in ("none.jsonl", "none.csv", "none.parquet"):
        with pytest.raises(UsageError, match="can't be read: No such file"):
            open_source(str(tmp_path / name))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(UsageError, match="is not a parquet file"):
        ParquetSource(tmp_path / "bad.parquet")


def test_standard_input_does_not_wait_for_a_full_batch() -> None:
    lines = [json.dumps(row).encode() + b"\n" for row in GOOD]
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "wb", buffering=0) as write:
        source = StdinSource(read)
        write.write(lines[0] + lines[1] + lines[2][:5])
        polled = source.poll(10)
        assert len(polled.batch) == 2
        assert polled.position is None
        write.write(lines[2][5:] + lines[3])
        write.close()
        events, _, _ = drain(source, 1)
        assert [event.event_id for event in events] == [GOOD[2]["event_id"], GOOD[3]["event_id"]]


def test_standard_input_from_memory() -> None:
    events, reasons, _ = drain(StdinSource(io.BytesIO("".join(json.dumps(r) + "\n" for r in ROWS).encode())), 4)
    assert (len(events), len(reasons)) == (len(GOOD), 1)


def test_a_data_set_is_replayed_in_the_order_of_time(write_inter: Callable[..., Path]) -> None:
    columns = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
    rows = [("b", "x", -1, 30), ("a", "y", 1, 10.5), ("a", "x", 0, 30), ("c", "007", 1, 20)]
    folder = write_inter("set", columns, rows)
    events, _, _ = drain(AtomicSource(folder), 2)
    assert [(e.user_id, e.item_id, e.type, e.timestamp) for e in events] == [
        ("a", "y", "like", 10_500),
        ("c", "007", "like", 20_000),
        ("b", "x", "dislike", 30_000),
        ("a", "x", "view", 30_000),
    ]
    assert len({event.event_id for event in events}) == 4
    part, _, _ = drain(AtomicSource(folder / "set.inter", start=20, end=30), 10)
    assert [event.user_id for event in part] == ["c"]
    again = AtomicSource(folder)
    again.seek("3")
    assert [event.item_id for event in drain(again, 10)[0]] == ["x"]


def test_a_data_set_without_a_sign_needs_a_rule(write_inter: Callable[..., Path]) -> None:
    columns = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    folder = write_inter("set", columns, [("a", "x", 5, 1), ("a", "y", 1, 2), ("a", "z", 3, 3)])
    with pytest.raises(UsageError, match=r"has no column 'sign'.*put a rule into .*set\.yaml"):
        AtomicSource(folder)
    source = AtomicSource(folder, {"like": "rating >= 4", "dislike": "rating <= 2"})
    assert source.poll(10).batch.type.tolist() == [LIKE, DISLIKE, VIEW]


def test_a_data_set_in_parts_or_with_faults(write_inter: Callable[..., Path], tmp_path: Path) -> None:
    columns = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
    write_inter("set", columns, [("a", "x", 1, 2)], part="test")
    folder = write_inter("set", columns, [("b", "x", 1, 1)], part="train")
    assert [event.user_id for event in drain(AtomicSource(folder), 10)[0]] == ["b", "a"]
    with pytest.raises(UsageError, match="row 2 of the column 'timestamp:float' holds 'late', not a number"):
        AtomicSource(write_inter("bad", columns, [("a", "x", 1, 2), ("a", "y", 1, "late")]))
    with pytest.raises(UsageError, match=r"has no column of times.*set TIME_FIELD"):
        AtomicSource(write_inter("short", columns[:3], [("a", "x", 1)]))
    with pytest.raises(UsageError, match=r"there is no data set folder .*nothing"):
        AtomicSource(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"there is no file .*nothing.inter"):
        AtomicSource(tmp_path / "nothing.inter")


def test_times_before_1970_are_refused(write_inter: Callable[..., Path]) -> None:
    """A pair that has no register yet takes no such event, which would be acknowledged and lost."""
    columns = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
    folder = write_inter("set", columns, [("a", "x", 1, -30), ("a", "y", 1, 20)])
    with pytest.raises(UsageError, match=r"holds times before 1970.*give 'start'"):
        AtomicSource(folder)
    assert [event.item_id for event in drain(AtomicSource(folder, start=0), 10)[0]] == ["y"]


def test_the_toy_set(toy_root: Path) -> None:
    source = AtomicSource(toy_root / "toy-signed")
    events, reasons, _ = drain(source, 500)
    assert not reasons
    assert len(events) == len(source) > 900
    times = np.array([event.timestamp for event in events])
    assert (np.diff(times) >= 0).all()
    assert times[0] > 1_000_000_000_000  # milliseconds


def test_limits_are_those_that_were_given(tmp_path: Path) -> None:
    path = write(tmp_path / "events.jsonl", "jsonl")
    events, reasons, _ = drain(JsonLinesSource(path, Limits(future_tolerance=0, now=lambda: 11)), 10)
    assert (len(events), len(reasons)) == (2, 5)
