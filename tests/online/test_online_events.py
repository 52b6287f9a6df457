"""Which rows are events, and what is said of those that are none."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_state import ready
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE, Event, EventBatch
from recbole_signed.live.events import DISLIKE, TYPES, VIEW, DeadLetter, Limits, parse_rows
from recbole_signed.live.replay.windows import events_of
from recbole_signed.live.sources import open_source
from recbole_signed.live.store.line_files import DeadLetterFile
from recbole_signed.live.store.settings import StateSettings

GOOD = {"event_id": "e", "user_id": "u", "item_id": "i", "type": "like", "timestamp": 5}
WHOLE = Event("e", "u", "i", "like", 5)
LIMITS = Limits(future_tolerance=100, now=lambda: 1000)


def one(**changed: Any) -> tuple[EventBatch, list[DeadLetter]]:
    row = {key: value for key, value in {**GOOD, **changed}.items() if value is not ...}
    return parse_rows([row], ["here"], LIMITS)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"type": "liek"}, "'liek' is not a type of event; the types are like.*did you mean 'like'"),
        ({"type": None}, "^type is missing; the types are like"),
        ({"type": ...}, "^type is missing; the types are like"),
        ({"type": ["like"]}, "is not a type"),
        ({"user_id": ""}, "user_id is empty"),
        ({"item_id": ""}, "item_id is empty"),
        ({"user_id": ...}, "user_id is missing"),
        ({"item_id": None}, "item_id is missing"),
        ({"user_id": True}, "neither text nor a whole number"),
        ({"user_id": 1.5}, "neither text nor a whole number"),
        ({"user_id": "a\x00b"}, "null character"),
        ({"user_id": "u" * 20_000}, "has 20000 characters, and 16384 are accepted"),
        ({"item_id": "\ud800"}, "lone surrogate"),
        ({"event_id": "\udfff"}, "lone surrogate"),
        ({"timestamp": 1101}, "is in the future"),
        ({"timestamp": 10**30}, "is in the future"),
        ({"timestamp": -1}, "before 1970"),
        ({"timestamp": 1.5}, "whole milliseconds"),
        ({"timestamp": float("nan")}, "whole milliseconds"),
        ({"timestamp": "soon"}, "whole milliseconds"),
        ({"timestamp": "1970-01-01T00:00:00.5"}, "or ISO 8601 with a time zone, such as"),
        ({"timestamp": True}, "whole milliseconds"),
        ({"timestamp": ...}, "timestamp is missing"),
        ({"value": "much"}, "not a number"),
        ({"value": float("inf")}, "infinite"),
        ({"value": 10**400}, "infinite"),
        ({"type": "user", "features": "{"}, "is not JSON"),
        ({"type": "user", "features": "[" * 100_000}, "is not JSON"),
    ],
)
def test_a_row_that_is_no_event_is_a_dead_letter_with_its_reason(changed: dict[str, Any], reason: str) -> None:
    batch, dead = one(**changed)
    assert len(batch) == 0
    assert dead[0].position == "here"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(dead[0].reason)
    assert len(dead[0].reason) < 300


@pytest.mark.parametrize(
    "changed",
    [
        {"user_id": "x" * 10_000, "item_id": "ю" * 10_000, "event_id": "e" * 10_000},
        {"user_id": "\U0001f600 \u202e\tא\n", "item_id": " "},
        {"timestamp": 1100},
        {"timestamp": 0},
        {"value": 4.5},
        {"unknown": "field"},
    ],
)
def test_unusual_rows_are_events(changed: dict[str, Any]) -> None:
    batch, dead = one(**changed)
    assert not dead
    event = next(batch.events())
    for field, value in changed.items():
        if field != "unknown":
            assert getattr(event, field) == value


@pytest.mark.parametrize(
    "name", ["session_id", "event", "event_type", "event_time", "rating", "user", "movie_id", "x" * 999]
)
def test_other_fields_of_a_stream_are_passed_over(name: str) -> None:
    row = {key: each for key, each in GOOD.items() if key in ("user_id", "item_id", "type", "timestamp")}
    batch, dead = parse_rows([{**row, name: "7"}], ["here"], LIMITS)
    assert (len(batch), dead) == (1, [])


@pytest.mark.parametrize(
    ("name", "meant"),
    [("timestmap", "timestamp"), ("event-id", "event_id"), ("eventId", "event_id"), ("Values", "value")],
)
def test_a_misspelt_field_is_told_where_the_row_lacks_the_one_that_is_meant(name: str, meant: str) -> None:
    row = {key: each for key, each in GOOD.items() if key != meant}
    rows, known = [{**row, name: 1}, {**GOOD, meant: 1, name: 1}], {meant: 7}  # the source would know it too
    batch, dead = parse_rows(rows, ["1", "2"], LIMITS, instead=[known, known])
    assert [(each.reason, each.raw) for each in dead] == [
        (f"there is no field '{name}'; did you mean '{meant}'?", {**row, name: 1})
    ]
    assert len(batch) == 1


def test_a_source_fills_what_a_row_lacks_and_numpy_is_read() -> None:
    row = {"user_id": "u", "item_id": "i", "type": "like", "event_id": "own"}
    batch, dead = parse_rows([row], ["1"], LIMITS, instead=[{"event_id": "place", "timestamp": 7}])
    assert (batch.event_id, batch.timestamp.tolist(), dead) == (["own"], [7], [])
    plain = one(event_id=..., user_id=12, timestamp=7, value=0.5)[0]
    batch, dead = one(event_id=..., user_id=np.int32(12), timestamp=np.int64(7), value=np.float32(0.5))
    assert not dead
    assert list(batch.events()) == list(plain.events())
    assert "expected whole milliseconds" in one(timestamp=np.bool_(True))[1][0].reason


def test_a_row_that_is_answered_for_has_known_fields_alone() -> None:
    reasons = {
        "user": "there is no field 'user'; the fields are event_id, user_id, item_id, type, timestamp, value, features",
        "Timestamp": "there is no field 'Timestamp'; did you mean 'timestamp'?",
        7: "there is no field 7; the fields are",
    }
    for name, reason in reasons.items():
        _, (letter,) = parse_rows([{**GOOD, name: 1}], ["1"], LIMITS, only_known=True)
        assert letter.reason.startswith(reason)


@pytest.mark.parametrize("features", [{"year": 1999}, "{}", 7, ["a"]])
def test_features_beside_a_verdict_are_refused_where_the_row_is_answered_for(features: Any) -> None:
    row = {**GOOD, "features": features}
    assert parse_rows([row], ["1"], LIMITS)[1] == []  # a stream may carry more than events need
    _, (letter,) = parse_rows([row], ["1"], LIMITS, only_known=True)
    assert letter.reason == "features are announced by the types item and user alone"
    for nothing in (None, "", {}, float("nan")):
        assert parse_rows([{**GOOD, "features": nothing}], ["1"], LIMITS, only_known=True)[1] == []


@pytest.mark.parametrize(
    ("stamp", "unit"),
    [(1_650_812_741, "seconds"), (1_650_812_741_000_000, "microseconds"), (1_650_812_741_000_000_000, "nanoseconds")],
)
def test_a_time_of_another_unit_is_not_mixed_in(stamp: int, unit: str) -> None:
    rows = [{**GOOD, "timestamp": each} for each in (1_650_812_741_000, stamp)]
    batch, dead = parse_rows(rows, ["1", "2"], Limits(future_tolerance=None))
    assert batch.timestamp.tolist() == [1_650_812_741_000]
    assert f"timestamp {stamp} looks like {unit}; events have milliseconds" in dead[0].reason


def test_fields_in_other_notations() -> None:
    batch, dead = one(user_id=12, timestamp="7", value="3")
    assert not dead
    assert list(batch.events()) == [Event("e", "12", "i", "like", 7, 3.0)]
    assert one(timestamp="7.0")[0].timestamp.tolist() == [7]
    for text in ("1970-01-01T00:00:00.500Z", "1970-01-01 01:00:00.500+01:00", "1970-01-01T00:00:00.500000123Z"):
        assert one(timestamp=text)[0].timestamp.tolist() == [500]
    batch, dead = one(type="forget_user", item_id=...)
    assert not dead
    assert batch.item_id == [""]
    a, b, other = (one(event_id=..., timestamp=t)[0].event_id[0] for t in (5, 5, 6))
    assert a == b != other


@pytest.mark.parametrize(
    "changed", [{"user_id": "other"}, {"item_id": "other"}, {"type": "dislike"}, {"timestamp": 6}, {"value": 2.5}]
)
def test_without_an_event_id_other_content_is_another_event(changed: dict[str, Any]) -> None:
    assert one(event_id=..., **changed)[0].event_id != one(event_id=...)[0].event_id


@pytest.mark.parametrize("side", ["item", "user"])
def test_without_an_event_id_an_announcement_of_other_features_is_another_event(side: str) -> None:
    first, same, other = (one(event_id=..., type=side, features={"year": y})[0].event_id for y in (1990, 1990, 1991))
    assert first == same != other


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (WHOLE, "the events are given as Event; give a list of Events."),
        (None, "the events are given as NoneType; give a list of Events."),
        ([vars(WHOLE)], "Event 0 of the batch is of the type dict; give a list of Events."),
        ("e", "Event 0 of the batch is of the type str; give a list of Events."),
        ([Event("e", "u", "i", "lke", 5)], r"did you mean 'like'\?$"),
        ([WHOLE, Event("f", "u", "", "like", 5)], "Event 1 of the batch is not valid: item_id is empty"),
        ([Event("e", "u", "i", "like", 5, features={"year": 1})], "Event 0 .* not valid: features are announced by"),
    ],
)
def test_a_program_gets_an_error_for_what_is_no_event(events: Any, message: str) -> None:
    check_refused(message, EventBatch.from_events, events)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.dictionaries(st.sampled_from([*GOOD, "value"]), anything | st.sampled_from([*TYPES])) | anything))
def test_no_row_whatever_stops_the_stream(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    batch, dead = parse_rows([*rows, GOOD], map(str, range(len(rows) + 1)), LIMITS)
    assert len(batch) + len(dead) == len(rows) + 1
    assert (batch.event_id[-1], batch.type[-1]) == ("e", LIKE)
    assert {len(column) for column in vars(batch).values()} == {len(batch)}
    for name in (*batch.user_id, *batch.item_id, *batch.event_id):
        assert name.encode().find(b"\x00") < 0
    file = DeadLetterFile(tmp_path_factory.mktemp("dead") / "dead.jsonl")
    file.write("test", dead)
    assert [letter["position"] for letter in file] == [letter.position for letter in dead]


def test_half_lines_and_the_number_of_dead_letters(tmp_path: Path) -> None:
    file = DeadLetterFile(tmp_path / "dead.jsonl")
    file.write("s", [DeadLetter("why", "1", {"a": 1})])
    with file.path.open("a") as raw:
        raw.write('{"reason": "cut')
    file.write("s", [DeadLetter("why", "2", "line")])
    assert [(letter["position"], letter["raw"]) for letter in file] == [("1", {"a": 1}), ("2", "line")]
    check_refused("'dead_letter_bytes' of a state is -1", StateSettings, dead_letter_bytes=-1)
    with ready(tmp_path / "state", settings=StateSettings(dead_letter_bytes=2000)) as state:
        file = state.dead_letters
    for number in range(200):
        file.write("s", [DeadLetter("why", str(number), "row")])
    left = [int(letter["position"]) for letter in file]
    assert left == list(range(200 - len(left), 200))
    assert 10 < len(left) < 100


@pytest.mark.parametrize("user", ["jos\u00e9phine", "\u00e9", "\u00e9\U0001f600", 'l"\u00e9', "жанна"])
def test_a_user_is_erased_whatever_normal_form_and_escapes_a_row_came_in(tmp_path: Path, user: str) -> None:
    file = DeadLetterFile(tmp_path / "dead.jsonl")
    raw: list[Any] = []
    for form in (user, unicodedata.normalize("NFD", user)):
        for text in (json.dumps({"u": form}), json.dumps({"u": form}, ensure_ascii=False)):
            raw += [{"user_id": form}, {form: 1}, text, f"{text}...", text.replace("\\u00e9", "\\u00E9"), text[:-2]]
    file.write("s", [DeadLetter("why", str(place), each) for place, each in enumerate([*raw, "other"])])
    file.erase([user])
    assert [letter["raw"] for letter in file] == [None] * len(raw) + ["other"]
    content = file.path.read_bytes()
    assert not any(text.encode() in content for text in (user, json.dumps(user)[1:-1]))
    assert not list(tmp_path.glob("*.tmp"))


def test_half_a_line_of_a_dead_letter_is_erased_with_any_user(tmp_path: Path) -> None:
    file = DeadLetterFile(tmp_path / "dead.jsonl")
    half = b'{"reason": "r", "raw": {"user_id": "leaves-for-ever", "it'
    file.write("s", [DeadLetter("why", "1", "stays")])
    file.path.write_bytes(half + b"\n" + file.path.read_bytes() + half)  # the first one had more written behind it
    file.erase(["leaves-for-ever"])
    assert b"leaves" not in file.path.read_bytes()
    assert [letter["raw"] for letter in file] == ["stays"]


def test_a_user_is_forgotten_beyond_the_limit_and_batches_are_sliced() -> None:
    rows = [{**GOOD, "user_id": "long", "type": name} for name in ("like", "forget_user")]
    batch, dead = parse_rows(rows, ["1", "2"], Limits(future_tolerance=None, max_id_length=3))
    assert batch.user_id == ["long"]
    assert [letter.reason for letter in dead] == ["user_id has 4 characters, and 3 are accepted"]
    batch = EventBatch.from_events([Event(f"e{i}", f"u{i}", "i", "view", i, float(i)) for i in range(5)])
    assert list(batch[1:3].events()) == list(batch.events())[1:3]
    assert len(EventBatch.empty()) == 0
    np.testing.assert_array_equal(batch[3:].value, [3.0, 4.0])


# ---- rows of atomic files as events, and what is no stream ----


COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]


@pytest.mark.parametrize("address", ["events.jsonl", "-", "http://host/events", "redis"])
def test_what_is_no_stream(address: str) -> None:
    check_refused(r"is no stream of events; .* rows of a file to OnlineRecommender.ingest", open_source, address)


def test_a_data_set_is_replayed_in_time_with_a_sign(write_inter: Callable[..., Path]) -> None:
    rows = [("b", "x", -1, 30), ("a", "y", 1, 10.5), ("a", "x", 0, 30), ("c", "007", 1, 20)]
    batch = events_of(write_inter("set", COLUMNS, rows))
    assert [(e.user_id, e.item_id, e.type, e.timestamp) for e in batch.events()] == [
        ("a", "y", "like", 10_500),
        ("c", "007", "like", 20_000),
        ("b", "x", "dislike", 30_000),
        ("a", "x", "view", 30_000),
    ]
    assert len(set(batch.event_id)) == 4
    columns = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    folder = write_inter("set", columns, [("a", "x", 5, 1), ("a", "y", 1, 2), ("a", "z", 3, 3)])
    check_refused(r"has no column 'sign'.*put a rule into .*set\.yaml", events_of, folder)
    batch = events_of(folder, {"like": "rating >= 4", "dislike": "rating <= 2"})
    assert batch.type.tolist() == [LIKE, DISLIKE, VIEW]


def test_a_data_set_in_parts_or_with_faults(write_inter: Callable[..., Path], tmp_path: Path) -> None:
    write_inter("set", COLUMNS, [("a", "x", 1, 2)], part="test")
    assert events_of(write_inter("set", COLUMNS, [("b", "x", 1, 1)], part="train")).user_id == ["b", "a"]
    with pytest.raises(UsageError, match="row 2 of the column 'timestamp:float' holds 'late', not a number"):
        events_of(write_inter("bad", COLUMNS, [("a", "x", 1, 2), ("a", "y", 1, "late")]))
    with pytest.raises(UsageError, match=r"has no column of times.*set TIME_FIELD"):
        events_of(write_inter("short", COLUMNS[:3], [("a", "x", 1)]))
    check_refused(r"there is no data set folder .*nothing", events_of, tmp_path / "nothing")
    check_refused(r"there is no file .*nothing.inter", events_of, tmp_path / "nothing.inter")
    with pytest.raises(UsageError, match=r"holds times before 1970"):  # which would be acknowledged and lost
        events_of(write_inter("old", COLUMNS, [("a", "x", 1, -30), ("a", "y", 1, 20)]))


def test_the_toy_set(toy_root: Path) -> None:
    batch = events_of(toy_root / "toy-signed")
    assert len(batch) > 900
    assert (np.diff(batch.timestamp) >= 0).all()
    assert batch.timestamp[0] > 1_000_000_000_000  # milliseconds


def test_a_program_gets_an_error_for_a_bad_event() -> None:
    assert len(EventBatch.from_events([Event("e", "u", "i", "like", 5)])) == 1
    with pytest.raises(UsageError, match=r"did you mean 'like'\?$"):
        EventBatch.from_events([Event("e", "u", "i", "lke", 5)])
    with pytest.raises(UsageError, match="Event 1 of the batch is not valid: item_id is empty"):
        EventBatch.from_events([Event("e", "u", "i", "like", 5), Event("f", "u", "", "like", 5)])
    with pytest.raises(UsageError, match="Event 0 of the batch is not valid: features are announced by the types"):
        EventBatch.from_events([Event("e", "u", "i", "like", 5, features={"year": 1999})])
