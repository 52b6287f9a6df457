"""One rule for ids and times, whatever they come in: raw files, atomic files, events."""

import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

from recbole_signed.atomic import read_rows
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import (
    MAX_ID,
    UNITS,
    fits,
    hash_of,
    id_text,
    iso_time,
    listed,
    milliseconds,
    order_of_hashes,
    unit_of,
    usual_unit,
)
from recbole_signed.live.events import parse_rows
from recbole_signed.live.replay.windows import events_of

COLUMNS = ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
COMPOSED, DECOMPOSED = "Zoë", unicodedata.normalize("NFD", "Zoë")
FACTOR = dict(zip(UNITS, (1, 10**3, 10**6, 10**9), strict=True))


@given(st.one_of(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(-(10**20), 10**20)))
def test_an_id_is_text_in_one_normal_form(value: str | int) -> None:
    if "\x00" in str(value):
        with pytest.raises(ValueError, match="holds a null character"):
            id_text(value)
    else:
        assert id_text(value) == unicodedata.normalize("NFC", str(value)) == id_text(id_text(value))


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", "is empty"), (None, "is missing"), (True, "neither text nor"), (2.0, "neither text nor"), ("\ud800", "lone")],
)
def test_what_is_no_id_is_said(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        id_text(value)


@pytest.mark.parametrize(
    "given_as",
    [
        np.array,
        pl.Series,
        torch.tensor,
        tuple,
        lambda ids: pl.Series(ids).to_arrow(),
        lambda ids: pl.DataFrame({"user": ids}).to_arrow()["user"],
    ],
)
def test_ids_may_come_in_any_array(given_as: Callable[[list[int]], Any]) -> None:
    assert [id_text(each) for each in listed(given_as([7, 9]), "user")] == ["7", "9"]


def test_ids_have_a_longest_length_everywhere(tmp_path: Path) -> None:
    assert id_text("é" * MAX_ID) == "é" * MAX_ID
    with pytest.raises(ValueError, match=f"has {MAX_ID + 1} characters, and {MAX_ID} are accepted"):
        id_text("x" * (MAX_ID + 1))
    raw = tmp_path / "raw.csv"
    raw.write_text(f"user_id,item_id,sign\na,b,1\n{'x' * (MAX_ID + 1)},b,1\n")
    with pytest.raises(UsageError, match=rf"(row|line) .*'user_id' has {MAX_ID + 1} characters, and {MAX_ID} are acc"):
        convert("csv", raw, tmp_path / "out", sign="sign")


def test_one_name_typed_in_two_ways_is_one_id(write_inter: Callable[..., Path], tmp_path: Path) -> None:
    rows = [(COMPOSED, "x", 1, 5), (DECOMPOSED, "y", -1, 6), (f'"{DECOMPOSED}"', "z", 1, 7)]
    for chosen in (rows[:2], rows):  # without and with quotes, which two readers parse
        folder = write_inter("set", COLUMNS, chosen)
        assert read_rows(folder).n_users == 1
        assert set(events_of(folder).user_id) == {COMPOSED}
    events, _ = parse_rows(
        [{"user_id": u, "item_id": i, "type": "like", "timestamp": t} for u, i, _, t in rows[:2]], "12"
    )
    assert events.user_id == [COMPOSED, COMPOSED]
    raw = tmp_path / "raw.csv"
    raw.write_text("\n".join(["user_id,item_id,sign,timestamp", *(",".join(map(str, row)) for row in rows[:2])]))
    assert read_rows(convert("csv", raw, tmp_path / "out", sign="sign")).n_users == 1


def test_hashes_follow_tokens_and_ids() -> None:
    assert len({hash_of(each) for each in ([], ["a"], ["a", "b"], ["b", "a"], ["ab"], ["a", "", "b"])}) == 6
    names = np.array([f"u{number}" for number in range(500)])
    ordered = names[order_of_hashes(names)]
    assert sorted(ordered) == sorted(names)
    assert ordered.tolist() != names.tolist()
    for other in (names[::-1], names.astype(object)[::-1], np.random.default_rng(0).permutation(names)):
        assert other[order_of_hashes(other)].tolist() == ordered.tolist()
    numbers = np.arange(500)
    assert numbers[::-1][order_of_hashes(numbers[::-1])].tolist() == numbers[order_of_hashes(numbers)].tolist()


@given(
    seconds=st.lists(st.integers(100_000_000, 4_000_000_000), min_size=1, max_size=9),
    unit=st.sampled_from(UNITS),
    as_float=st.booleans(),
)
def test_any_unit_gives_the_same_milliseconds(seconds: list[int], unit: str, as_float: bool) -> None:
    times = np.array(seconds) * FACTOR[unit]
    found = milliseconds(times.astype(float) if as_float else times, "the time")
    assert found.dtype == np.int64
    assert found.tolist() == [1000 * each for each in seconds]
    assert usual_unit(times) == unit


@given(st.data(), st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_mixed_units_are_refused_by_every_way_in(data: st.DataObject, usual: str, other: str) -> None:
    seconds = data.draw(st.lists(st.integers(1_000_000_000, 1_600_000_000), min_size=4, max_size=6))
    times = np.array([each * FACTOR[usual] for each in seconds] + [1_500_000_000 * FACTOR[other]])
    for sizes in (times, pl.Series(times)):
        assert list(fits(sizes, usual)) == [True] * len(seconds) + [usual == other]
    assert unit_of(int(times[-1])) == other
    if usual != other:
        check_refused(f"in row {len(times)}, which counts .* most others", milliseconds, times, "the time")


def test_small_numbers_fit_every_unit() -> None:
    assert all(fits(7, unit) for unit in UNITS)
    assert milliseconds(np.array([0, 7, 12]), "the time").tolist() == [0, 7000, 12_000]
    assert milliseconds(np.array([]), "the time").tolist() == []
    assert milliseconds(np.array([0.25, 1_650_812_741.5]), "the time").tolist() == [250, 1_650_812_741_500]


def test_milliseconds_are_replayed_and_not_mixed_with_seconds(write_inter: Callable[..., Path], tmp_path: Path) -> None:
    times = [1_650_812_741_000, 1_650_812_742_000, 1_650_812_743]
    folder = write_inter("set", COLUMNS, [("a", item, 1, time) for item, time in zip("xyz", times, strict=True)])
    check_refused("set holds 1650812743 in row 3, which counts seconds by its size", events_of, folder)
    raw = tmp_path / "raw.csv"
    raw.write_text("\n".join(["user_id,item_id,sign,timestamp", *(f"a,{t},1,{t}" for t in times)]))
    with pytest.raises(UsageError, match=r"time 1650812743 .* too small for unix time in ms .*counts seconds"):
        convert("csv", raw, tmp_path / "out", sign="sign")
    folder = write_inter("set", COLUMNS, [("a", "x", 1, 1_650_812_741_436), ("a", "y", -1, 1_650_812_742_000)])
    assert events_of(folder).timestamp.tolist() == [1_650_812_741_436, 1_650_812_742_000]


@pytest.mark.parametrize(
    ("fraction", "microseconds"), [("", 0), (".5", 500_000), (".0123", 12_300), (".123456789", 123_456)]
)
@pytest.mark.parametrize("zone", ["Z", "+00:00", "+05:30", ""])
def test_texts_of_times_have_any_number_of_digits(fraction: str, microseconds: int, zone: str) -> None:
    found = iso_time(f" 2026-11-28T23:59:58{fraction}{zone} ")
    assert found.replace(tzinfo=None) == datetime(2026, 11, 28, 23, 59, 58, microseconds)
    assert found.utcoffset() == {"": None, "+05:30": timedelta(hours=5.5)}.get(zone, timedelta(0))


@pytest.mark.parametrize("text", ["", "soon", "2026-11-28T25:00:00Z"])
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat|hour must be"):
        iso_time(text)
