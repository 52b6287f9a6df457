"""The source ``yambda`` on files in its raw format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from converted import manifest_of, tuples_of
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_signed.convert import convert
from recbole_signed.convert.sources import yambda
from recbole_signed.errors import UsageError

TYPES = {"uid": pl.UInt32, "timestamp": pl.UInt32, "item_id": pl.UInt32, "is_organic": pl.UInt8}
EVENTS = {
    # uid, timestamp, item, is_organic
    "likes": [(100, 10, 1, 1), (100, 20, 2, 0), (100, 30, 3, 1), (100, 40, 4, 1), (200, 5, 1, 1), (200, 100, 6, 1)],
    "dislikes": [(100, 3087560, 9170134, 1), (100, 50, 4, 1), (100, 35, 5, 1), (200, 20, 1, 0), (200, 100, 7, 1)],
    "unlikes": [(100, 25, 2, 1), (200, 100, 6, 1)],
    "undislikes": [(100, 7895900, 9170134, 1), (200, 30, 1, 1)],
}
LISTENS = [(100, 15, 1, 1, 100, 180), (100, 16, 8, 0, 49, 200), (200, 17, 8, 0, 50, 200)]
STATES = [
    ("200", "1", "1", "5"),  # its dislike was taken back, its like holds
    ("100", "1", "1", "10"),
    ("100", "3", "1", "30"),
    ("100", "5", "-1", "35"),
    ("100", "4", "-1", "50"),  # liked, then disliked
    ("200", "7", "-1", "100"),
]


def frame(rows: list[Any], **more: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=TYPES | more, orient="row")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    folder = tmp_path / "50m"
    folder.mkdir()
    for name, rows in EVENTS.items():
        frame(rows).write_parquet(folder / f"{name}.parquet")
    more = {"played_ratio_pct": pl.UInt16, "track_length_seconds": pl.UInt32}
    frame(LISTENS, **more).write_parquet(folder / "listens.parquet")
    return folder


def multi_event(folder: Path) -> pl.DataFrame:
    frames = [
        pl.read_parquet(folder / f"{name}.parquet").with_columns(event_type=pl.lit(name[:-1]))
        for name in (*EVENTS, "listens")
    ]
    return pl.concat(frames, how="diagonal").sort("uid", "timestamp")


def rows_of(path: Path, columns: int = 4) -> list[tuple[str, ...]]:
    return [row[:columns] for row in tuples_of(path)]


def test_states_of_pairs(tmp_path: Path, flat: Path) -> None:
    made = convert("yambda", flat, tmp_path / "out", listens="none")
    assert made.name == "yambda-50m"
    assert rows_of(made / "yambda-50m.inter") == STATES
    record = manifest_of(made)
    assert sorted(record["inputs"]) == [f"{name}.parquet" for name in sorted(EVENTS)]
    assert record["time"] == {"first_raw": 5, "last_raw": 100}  # no date, since nobody knows the start
    made = convert("yambda", flat, tmp_path / "removed", listens="none", removed="neutral")
    gone = {("100", "2", "0", "25"), ("200", "6", "0", "100"), ("100", "9170134", "0", "7895900")}
    assert set(rows_of(made / "yambda-50m.inter")) == set(STATES) | gone


def test_listens(tmp_path: Path, flat: Path) -> None:
    made = convert("yambda", flat, tmp_path / "a")
    listens = [(str(row[0]), str(row[2]), "0", str(row[1])) for row in LISTENS]
    assert sorted(rows_of(made / "yambda-50m.inter")) == sorted([*STATES, *listens])
    header = (made / "yambda-50m.inter").read_text().splitlines()[0].split("\t")
    assert header[4:] == ["event:token", "is_organic:float"]
    assert ("100", "8", "0", "16", "listen", "0") in rows_of(made / "yambda-50m.inter", 6)
    made = convert("yambda", flat, tmp_path / "b", listens="like")
    signs = {row[:2]: row[2] for row in rows_of(made / "yambda-50m.inter", 6) if row[1] == "8"}
    assert signs == {("100", "8"): "0", ("200", "8"): "1"}
    made = convert("yambda", flat, tmp_path / "c", listens="like", listen_pct=40)
    assert ("100", "8", "1", "16") in rows_of(made / "yambda-50m.inter")


def test_multi_event_and_pieces(tmp_path: Path, flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multi_event(flat).write_parquet(tmp_path / "multi_event.parquet")
    made = convert("yambda", tmp_path / "multi_event.parquet", tmp_path / "one")
    apart = convert("yambda", flat, tmp_path / "two")
    assert sorted(rows_of(made / "yambda.inter")) == sorted(rows_of(apart / "yambda-50m.inter"))
    monkeypatch.setattr(yambda, "_STATE_ROWS", 3)
    pieces = convert("yambda", flat, tmp_path / "three")
    assert sorted(rows_of(pieces / "yambda-50m.inter")) == sorted(rows_of(apart / "yambda-50m.inter"))


def test_the_parts_of_the_official_protocol(tmp_path: Path) -> None:
    """The last day, the day before, and gaps of half an hour; each part knows its own events alone."""
    day, gap, end = 86_400, 1_800, 26_000_000
    test, valid = end - day, end - 2 * day - gap
    assert {"train": (0, valid - gap), "valid": (valid, test - gap), "test": (test, end + 1)} == yambda.WINDOWS
    likes = [(1, 100, 1, 1), (1, valid - gap, 2, 1), (1, valid, 3, 1), (2, valid, 3, 1), (1, end, 9, 1), (2, end, 1, 1)]
    dislikes = [(1, test, 1, 1), (1, valid - gap - 5, 4, 1)]
    unlikes, undislikes = [(1, test + 5, 3, 1), (1, valid + 5, 1, 1)], [(1, 60, 4, 1)]
    folder = tmp_path / "50m"
    folder.mkdir()
    events = {"likes": likes, "dislikes": dislikes, "unlikes": unlikes, "undislikes": undislikes}
    for name, rows in events.items():
        frame(rows).write_parquet(folder / f"{name}.parquet")
    more = {"played_ratio_pct": pl.UInt16, "track_length_seconds": pl.UInt32}
    frame([(2, 50, 8, 1, 100, 180), (3, test, 8, 1, 100, 180)], **more).write_parquet(folder / "listens.parquet")
    made = convert("yambda", folder, tmp_path / "out", split="official", listens="none")
    parts = {part: [row[:3] for row in rows_of(made / f"yambda-50m.{part}.inter")] for part in yambda.WINDOWS}
    assert parts["train"] == [("1", "1", "1"), ("1", "4", "-1")]  # the like was taken back later
    assert parts["valid"] == [("1", "3", "1")]
    assert parts["test"] == [("1", "1", "-1"), ("1", "9", "1")]  # item 9 is in no other part; user 2 is not known
    made = convert("yambda", folder, tmp_path / "listens", split="official")
    parts = {part: [row[:3] for row in rows_of(made / f"yambda-50m.{part}.inter")] for part in yambda.WINDOWS}
    assert parts["train"] == [("2", "8", "0"), ("1", "1", "1"), ("1", "4", "-1")]
    assert parts["test"] == [("1", "1", "-1"), ("1", "9", "1"), ("2", "1", "1")]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from([*yambda._EXPLICIT])), max_size=20),
)
def test_states_against_a_replay(events: list[tuple[int, int, str]]) -> None:
    held: dict[tuple[int, int], dict[int, int]] = {}
    for moment, (user, item, event) in enumerate(events):
        state = held.setdefault((user, item), {})
        side = 1 if event.endswith("unlike") or event == "like" else -1
        if event.startswith("un"):
            state.pop(side, None)
        else:
            state[side] = moment
    wanted = {
        (str(user), str(item), max(state, key=lambda side, state=state: state[side]))  # type: ignore[misc]
        for (user, item), state in held.items()
        if state
    }
    rows = [(user, moment, item, 1, event) for moment, (user, item, event) in enumerate(events)]
    made = yambda._states(frame(rows, event=pl.Enum([*yambda._EXPLICIT])), removed="drop")
    assert set(made.select("user_id", "item_id", "sign").rows()) == wanted
    assert made.height == len(wanted)


@pytest.mark.parametrize("kinds", [("like", "unlike"), ("dislike", "undislike")])
def test_an_end_of_the_moment_of_its_beginning_comes_after_it_in_any_order_of_rows(kinds: tuple[str, str]) -> None:
    for events in (kinds, kinds[::-1]):
        rows = [(0, 5, 0, 1, event) for event in events]
        assert not yambda._states(frame(rows, event=pl.Enum([*yambda._EXPLICIT])), removed="drop").height


@pytest.mark.parametrize("layout", ["flat", "multi_event"])
def test_a_bad_row_is_recorded_once_whatever_the_parts(
    tmp_path: Path, flat: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yambda, "_STATE_ROWS", 3)
    end = yambda.END
    events = [("like", 1, 5), ("like", 1, end - 100_000), ("like", 1, end), ("dislike", 1, 9), ("like", None, 4)]
    events += [("listen", 1, 7), ("listen", None, 8), ("listen", 1, end - 1)]
    rows = [(uid, time, place, 1, 50 if kind == "listen" else None) for place, (kind, uid, time) in enumerate(events)]
    every = frame(rows, played_ratio_pct=pl.UInt16).with_columns(event_type=pl.Series([event[0] for event in events]))
    if layout == "flat":
        for kind in ("like", "dislike", "listen"):
            every.filter(pl.col("event_type") == kind).drop("event_type").write_parquet(flat / f"{kind}s.parquet")
    else:
        flat = tmp_path / "multi_event.parquet"
        every.write_parquet(flat)
    made = convert("yambda", flat, tmp_path / "out", split="official", on_error="skip")
    rejected = manifest_of(made)["rejected"]
    assert rejected["rows"] == 2
    assert len((made / f"{made.name}.rejected.tsv").read_text().splitlines()) == 3


def test_bad_files(tmp_path: Path, flat: Path) -> None:
    def refuse(message: str, folder: Path = flat, **options: Any) -> None:
        with pytest.raises(UsageError, match=message):
            convert("yambda", folder, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())

    refuse("listen_pct=120 is not a percentage", listen_pct=120)
    (flat / "listens.parquet").rename(flat / "moved.parquet")
    refuse("holds no listens.parquet, which listens=like reads", listens="like")
    (flat / "unlikes.parquet").rename(flat / "moved.parquet")
    refuse("holds no unlikes.parquet, without which what users took back would count")
    (flat / "moved.parquet").rename(flat / "unlikes.parquet")
    refuse("holds neither likes.parquet and dislikes.parquet nor multi_event.parquet", tmp_path)
    likes = pl.read_parquet(flat / "likes.parquet")
    for bad, message in (
        (likes.with_columns(uid=pl.Series([1, 2, None, 4, 5, 6])), "likes.parquet, row 3: no value in column 'uid'"),
        (
            likes.with_columns(item_id=pl.lit("x")),
            "likes.parquet: column 'item_id' holds String, integers were expected",
        ),
        (likes.group_by("uid").all(), "holds List.UInt32., integers were expected; give the files of the layout flat"),
        (likes.drop("timestamp"), "likes.parquet has no column 'timestamp'"),
    ):
        bad.write_parquet(flat / "likes.parquet")
        refuse(message)
    events = pl.DataFrame({"uid": [1], "timestamp": [5], "item_id": [2], "is_organic": [1], "event_type": ["skip"]})
    events.write_parquet(tmp_path / "multi_event.parquet")
    refuse("multi_event.parquet, row 1: event_type 'skip', one of like", tmp_path)
