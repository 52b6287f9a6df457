"""The source ``yambda`` on files in its raw format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from converted import Raw, manifest_of, tuples_of
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_signed.convert.sources import yambda

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
    *(("100", "1", "1", "10"), ("100", "3", "1", "30"), ("100", "5", "-1", "35")),
    *(("100", "4", "-1", "50"), ("200", "7", "-1", "100")),  # item 4 liked, then disliked
]
LISTENED = {"played_ratio_pct": pl.UInt16, "track_length_seconds": pl.UInt32}


def frame(rows: list[Any], **more: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=TYPES | more, orient="row")


def flat_of(folder: Path, events: Mapping[str, list[Any]], listens: list[Any]) -> Raw:
    files = {f"{name}.parquet": frame(rows) for name, rows in events.items()}
    return Raw(folder, "yambda", files | {"listens.parquet": frame(listens, **LISTENED)})


@pytest.fixture
def flat(tmp_path: Path) -> Raw:
    return flat_of(tmp_path / "50m", EVENTS, LISTENS)


def rows_of(path: Path, columns: int = 4) -> list[tuple[str, ...]]:
    return [row[:columns] for row in tuples_of(path)]


def test_states_of_pairs_and_listens(flat: Raw) -> None:
    made = flat.made(listens="none")
    assert made.name == "yambda-50m"
    assert rows_of(made / "yambda-50m.inter") == STATES
    record = manifest_of(made)
    assert sorted(record["inputs"]) == [f"{name}.parquet" for name in sorted(EVENTS)]
    assert record["time"] == {"first_raw": 5, "last_raw": 100}  # no date, since nobody knows the start
    made = flat.made(listens="none", removed="neutral")
    gone = {("100", "2", "0", "25"), ("200", "6", "0", "100"), ("100", "9170134", "0", "7895900")}
    assert set(rows_of(made / "yambda-50m.inter")) == set(STATES) | gone
    made = flat.made()
    listens = [(str(row[0]), str(row[2]), "0", str(row[1])) for row in LISTENS]
    assert sorted(rows_of(made / "yambda-50m.inter")) == sorted([*STATES, *listens])
    header = (made / "yambda-50m.inter").read_text().splitlines()[0].split("\t")
    assert header[4:] == ["event:token", "is_organic:float"]
    assert "100|8|0|16|listen|0" in flat.rows()
    assert [row[:9] for row in flat.rows(listens="like") if "|8|" in row] == ["100|8|0|1", "200|8|1|1"]
    assert "100|8|1|16|listen|0" in flat.rows(listens="like", listen_pct=40)


def test_multi_event_and_pieces(tmp_path: Path, flat: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [
        pl.read_parquet(flat.folder / f"{name}.parquet").with_columns(event_type=pl.lit(name[:-1]))
        for name in (*EVENTS, "listens")
    ]
    multi = pl.concat(frames, how="diagonal").sort("uid", "timestamp")
    one, apart = Raw(tmp_path / "multi", "yambda", {"multi_event.parquet": multi}), sorted(flat.rows())
    assert one.made("multi_event.parquet").name == "yambda"
    assert sorted(one.rows()) == apart
    monkeypatch.setattr(yambda, "_STATE_ROWS", 3)
    assert sorted(flat.rows()) == apart


def test_the_parts_of_the_official_protocol(tmp_path: Path) -> None:
    """The last day, the day before, and gaps of half an hour; each part knows its own events alone."""
    day, gap, end = 86_400, 1_800, 26_000_000
    test, valid = end - day, end - 2 * day - gap
    assert {"train": (0, valid - gap), "valid": (valid, test - gap), "test": (test, end + 1)} == yambda.WINDOWS
    likes = [(1, 100, 1, 1), (1, valid - gap, 2, 1), (1, valid, 3, 1), (2, valid, 3, 1), (1, end, 9, 1), (2, end, 1, 1)]
    dislikes = [(1, test, 1, 1), (1, valid - gap - 5, 4, 1)]
    unlikes, undislikes = [(1, test + 5, 3, 1), (1, valid + 5, 1, 1)], [(1, 60, 4, 1)]
    events = {"likes": likes, "dislikes": dislikes, "unlikes": unlikes, "undislikes": undislikes}
    raw = flat_of(tmp_path / "50m", events, [(2, 50, 8, 1, 100, 180), (3, test, 8, 1, 100, 180)])
    made = raw.made(split="official", listens="none")
    parts = {part: [row[:3] for row in rows_of(made / f"yambda-50m.{part}.inter")] for part in yambda.WINDOWS}
    assert parts["train"] == [("1", "1", "1"), ("1", "4", "-1")]  # the like was taken back later
    assert parts["valid"] == [("1", "3", "1")]
    assert parts["test"] == [("1", "1", "-1"), ("1", "9", "1")]  # item 9 is in no other part; user 2 is not known
    made = raw.made(split="official")
    parts = {part: [row[:3] for row in rows_of(made / f"yambda-50m.{part}.inter")] for part in yambda.WINDOWS}
    assert parts["train"] == [("2", "8", "0"), ("1", "1", "1"), ("1", "4", "-1")]
    assert parts["test"] == [("1", "1", "-1"), ("1", "9", "1"), ("2", "1", "1")]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from([*yambda._EXPLICIT])), max_size=20))
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
def test_a_bad_row_is_recorded_once_whatever_the_parts(flat: Raw, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yambda, "_STATE_ROWS", 3)
    end = yambda.END
    events = [("like", 1, 5), ("like", 1, end - 100_000), ("like", 1, end), ("dislike", 1, 9), ("like", None, 4)]
    events += [("listen", 1, 7), ("listen", None, 8), ("listen", 1, end - 1)]
    rows = [(uid, time, place, 1, 50 if kind == "listen" else None) for place, (kind, uid, time) in enumerate(events)]
    every = frame(rows, played_ratio_pct=pl.UInt16).with_columns(event_type=pl.Series([event[0] for event in events]))
    for kind in ("like", "dislike", "listen"):
        flat.write({f"{kind}s.parquet": every.filter(pl.col("event_type") == kind).drop("event_type")})
    flat.write({"multi_event.parquet": every})
    where = "" if layout == "flat" else "multi_event.parquet"
    made = flat.made(where, split="official", on_error="skip")
    assert manifest_of(made)["rejected"]["rows"] == 2
    assert len((made / f"{made.name}.rejected.tsv").read_text().splitlines()) == 3


def test_bad_files(tmp_path: Path, flat: Raw) -> None:
    flat.refuses("listen_pct=120 is not a percentage", listen_pct=120)
    for name, options, message in (
        ("listens", {"listens": "like"}, "holds no listens.parquet, which listens=like reads"),
        ("unlikes", {}, "holds no unlikes.parquet, without which what users took back would count"),
    ):
        moved = (flat.folder / f"{name}.parquet").rename(flat.folder / "moved.parquet")
        flat.refuses(message, **options)
        moved.rename(flat.folder / f"{name}.parquet")
    likes = pl.read_parquet(flat.folder / "likes.parquet")
    for bad, message in (
        (likes.with_columns(uid=pl.Series([1, 2, None, 4, 5, 6])), "likes.parquet, row 3: no value in column 'uid'"),
        (
            likes.with_columns(item_id=pl.lit("x")),
            "likes.parquet: column 'item_id' holds String, integers were expected",
        ),
        (likes.group_by("uid").all(), "holds List.UInt32., integers were expected; give the files of the layout flat"),
        (likes.drop("timestamp"), "likes.parquet has no column 'timestamp'"),
    ):
        flat.write({"likes.parquet": bad})
        flat.refuses(message)
    other = Raw(tmp_path / "other", "yambda", {})
    other.refuses("holds neither likes.parquet and dislikes.parquet nor multi_event.parquet")
    events = {"uid": [1], "timestamp": [5], "item_id": [2], "is_organic": [1], "event_type": ["skip"]}
    other.write({"multi_event.parquet": pl.DataFrame(events)})
    other.refuses("multi_event.parquet, row 1: event_type 'skip', one of like")
