"""Finding R18 of the reliability review, per-event results (R16), withdrawn items and filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_recommender import N_ITEMS, NOW, begin, event

from recbole_signed.errors import UsageError
from recbole_signed.online import Event, OnlineRecommender
from recbole_signed.online.store import EventResult, OnlineState, ParsedRows, StateSettings

DAY = 86_400


class Clock:
    now = NOW / 1000

    def __call__(self) -> float:
        return self.now


def ingest(state: OnlineState, rows: list[Event]) -> list[EventResult]:
    parsed = ParsedRows.of(rows)
    update = state.ingest(parsed.batch)
    assert update.status is not None
    return parsed.results(update.status, update.first_seq)


def ids(recommender: OnlineRecommender, user: str, **filters: Any) -> list[str]:
    return [item for item, _ in recommender.recommend(user, N_ITEMS + 10, **filters)]


def test_r18_an_item_of_young_small_users_alone_is_not_shown_to_others(tmp_path: Path) -> None:
    clock = Clock()
    begin(tmp_path / "state").close()
    settings = StateSettings(clock=clock, newcomer_age=DAY, newcomer_size=3)
    recommender = OnlineRecommender.open(tmp_path / "state", settings=settings)
    fakes = [
        event(10 * n + m, f"fake{n}", item, "like")
        for n in range(30)
        for m, item in enumerate(("invented", "i1", "i2"))
    ]
    recommender.update(fakes)
    assert "invented" not in ids(recommender, "u1")
    assert "invented" not in ids(recommender, "stranger")
    recommender.refit().result(60)
    recommender.snapshot()
    recommender.close()
    recommender = OnlineRecommender.open(tmp_path / "state", settings=settings)
    assert "invented" not in ids(recommender, "u1")
    assert recommender.state is not None
    hidden = recommender.state.items.tokens(recommender.state.hidden_items().tolist())
    assert hidden == ["invented"]
    recommender.update([event(900, "honest", "real", "like"), event(901, "u5", "real", "like")])
    assert "real" in ids(recommender, "u1")  # a user of the data set has touched it
    clock.now += DAY + 1  # the users have come of age, and have three likes each
    assert "invented" in ids(recommender, "u1")
    few = [(f"pair{n}", item) for n in range(5) for item in ("of pairs", "i1")]
    recommender.update([event(902 + n, user, item, "like") for n, (user, item) in enumerate(few)])
    clock.now += DAY + 1
    assert "of pairs" not in ids(recommender, "u1")  # old, but small
    recommender.close()


def test_r18_a_state_without_a_data_set_trusts_everybody_while_it_is_young(tmp_path: Path) -> None:
    clock = Clock()
    settings = StateSettings(clock=clock)
    with OnlineState.open(tmp_path, settings=settings) as state:
        state.recover()
        ingest(state, [event(n, f"u{n}", "a", "like") for n in range(3)])
        assert state.hidden_items().tolist() == []
        clock.now += DAY + 1
        ingest(state, [event(10 + n, "u0", f"b{n}", "like") for n in range(3)])  # no newcomer by now
        ingest(state, [event(20, "new", "c", "like")])
        assert state.items.tokens(state.hidden_items().tolist()) == ["c"]


def test_a_withdrawn_item_is_never_shown_and_returns(tmp_path: Path) -> None:
    recommender = begin(tmp_path / "state")
    first = ids(recommender, "u1")
    recommender.withdraw([first[0], first[3], "not there yet"])
    assert ids(recommender, "u1") == [each for each in first if each not in (first[0], first[3])]
    recommender.update([event(1, "u2", "not there yet", "like")])
    assert "not there yet" not in ids(recommender, "u1")
    recommender.refit().result(60)
    recommender.snapshot()
    recommender.close()
    recommender = OnlineRecommender.open(tmp_path / "state")
    assert recommender.state is not None
    assert recommender.state.withdrawn == {first[0], first[3], "not there yet"}
    assert not {first[0], "not there yet"} & set(ids(recommender, "u1", include_only=[*first, "not there yet"]))
    recommender.put_back([first[0], "not there yet"])
    assert {first[0], "not there yet"} <= set(ids(recommender, "u1"))
    with pytest.raises(UsageError, match="item_id is empty"):
        recommender.withdraw([""])
    recommender.close()


def test_lists_can_be_narrowed(tmp_path: Path) -> None:
    recommender = begin(tmp_path / "state")
    first = ids(recommender, "u1")
    assert ids(recommender, "u1", exclude=first[:2]) == first[2:]
    assert ids(recommender, "u1", include_only=[first[4], first[1], "unknown"]) == [first[1], first[4]]
    assert ids(recommender, "u1", include_only=first[:3], exclude=[first[0]]) == first[1:3]
    assert ids(recommender, "u1", include_only=[]) == []
    recommender.close()


def test_r16_a_bad_event_does_not_spoil_its_batch_and_each_is_told_its_fate(tmp_path: Path) -> None:
    recommender = begin(tmp_path / "state")
    rows: list[Any] = [
        {"event_id": "a", "user_id": 5, "item_id": "i1", "type": "like", "timestamp": NOW + 1},
        {"event_id": "b", "user_id": "u2", "item_id": "i1", "type": "adore", "timestamp": NOW + 1},
        Event("a", "5", "i1", "like", NOW + 1),
        "nonsense",
        {"event_id": "c", "user_id": "u3", "item_id": "", "type": "like", "timestamp": NOW + 1},
        {"event_id": "d", "user_id": "gone", "type": "forget_user", "timestamp": NOW + 9},
        {"event_id": "e", "user_id": "gone", "item_id": "i1", "type": "like", "timestamp": NOW + 1},
        {"user_id": "u4", "item_id": "i9", "type": "dislike", "timestamp": NOW + 2},
        {"event_id": "s", "user_id": "u4", "item_id": "i9", "type": "like", "timestamp": NOW // 1000},
    ]
    found = recommender.ingest(rows)
    assert [each.status for each in found] == [
        "accepted", "refused", "duplicate", "refused", "refused", "accepted", "refused", "accepted", "refused",
    ]  # fmt: skip
    assert [each.seq for each in found if each.seq] == [1, 2, 3]
    assert found[0].event_id == "a"
    assert str(found[7].event_id).startswith("content:")
    for place, words in (
        (1, "not a type of event"),
        (3, "not an object"),
        (4, "item_id is empty"),
        (6, "forgetting"),
        (8, "seconds"),
    ):
        assert words in str(found[place].reason)
    assert recommender.ingest([]) == []
    assert recommender.state is not None
    assert recommender.state.last_seq == 3
    recommender.close()


@pytest.mark.parametrize("stamp", [NOW // 1000, 1_700_000_000.0, "1700000000"])
def test_r16_seconds_are_not_mixed_with_milliseconds(tmp_path: Path, stamp: Any) -> None:
    recommender = begin(tmp_path / "state")
    with pytest.raises(UsageError, match=r"looks like seconds; .* multiply it by 1000"):
        recommender.update([Event("a", "u1", "i1", "dislike", stamp)])
    for later in (NOW * 1000, NOW * 1_000_000):
        with pytest.raises(UsageError, match="is in the future"):
            recommender.update([Event("a", "u1", "i1", "dislike", later)])
    recommender.close()


def test_r16_edges_in_another_unit_are_refused(tmp_path: Path) -> None:
    one = np.array([1])
    with OnlineState.open(tmp_path) as state:
        for stamp in (1_700_000_000, 1_700_000_000_000_000):
            with pytest.raises(UsageError, match="milliseconds"):
                state.bulk_load(["u"], ["i"], one, one, one.astype(np.int8), np.array([stamp]))


def test_r17_long_ids_and_large_batches_are_refused(tmp_path: Path) -> None:
    with OnlineState.open(tmp_path, settings=StateSettings(max_batch=3)) as state:
        state.recover()
        found = ingest(state, [event(1, "u" * 20_000, "i", "like"), event(2, "u", "i", "like")])
        assert [each.status for each in found] == ["refused", "accepted"]
        assert "20000 characters, and 16384 are accepted" in str(found[0].reason)
        with pytest.raises(UsageError, match="The batch has 4 events, and max_batch is 3"):
            ingest(state, [event(n, "u", f"i{n}", "like") for n in range(4)])


def test_r17_a_like_that_a_dislike_ended_does_not_come_back(tmp_path: Path) -> None:
    """Decided: a dislike replaces the like; taking it back leaves what was there besides the like."""
    with OnlineState.open(tmp_path) as state:
        state.recover()
        kinds = ["view", "like", "dislike", "undislike"]
        ingest(state, [event(n, "u", "i", kind) for n, kind in enumerate(kinds)])
        row = state.edges.of_user(1)
        assert (row.ids.tolist(), row.kind.tolist()) == ([1], [4])  # the view
        ingest(state, [event(n, "u", "j", kind) for n, kind in enumerate(kinds[1:], 10)])
        assert 2 not in state.edges.of_user(1).ids


def test_r17_the_memory_of_duplicates_does_not_grow_without_end(tmp_path: Path) -> None:
    with OnlineState.open(tmp_path, settings=StateSettings(keep_seen=20)) as state:
        state.recover()
        for first in range(0, 60, 10):
            ingest(state, [event(n, f"u{n}", "i", "like") for n in range(first, first + 10)])
        large = [f"{n}{'w' * 9_000}" for n in range(200)]
        state.withdraw(large)
        state.put_back(large)  # leaves free pages, which are given back in several steps
        before = state.edges.full_hash()
        looked: list[str] = []
        state.log.connection.set_trace_callback(lambda text: looked.append(text) if "FROM seen" in text else None)
        state.compact()
        assert len(looked) <= 4  # whatever the number of steps: each of them reads the whole table
        state.log.connection.set_trace_callback(None)
        assert state.log.connection.execute("SELECT count(*) FROM seen").fetchone()[0] == 20
        assert not state.log.known("e39")
        assert state.log.known("e40")
        ingest(state, [event(n, f"u{n}", "i", "like") for n in range(40)])  # an old one again changes nothing
        assert state.edges.full_hash() == before
    with OnlineState.open(tmp_path) as state:  # and the checksums fit what is left
        state.recover()


def test_only_items_to_choose_from_that_the_user_has_not_seen_are_shown(tmp_path: Path) -> None:
    recommender = begin(tmp_path / "state")
    recommender.update([event(1, "u1", "i1", "like"), event(2, "u1", "i2", "dislike"), event(3, "u1", "i3", "view")])
    shown = ids(recommender, "u1")
    assert not {"i1", "i2", "i3"} & set(shown)
    assert ids(recommender, "u1", include_only=["i1", "i2", "i3", *shown[1:3]]) == shown[1:3]
    recommender.close()
