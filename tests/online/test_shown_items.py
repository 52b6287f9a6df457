"""Which items are shown: none of newcomers alone, none that is withdrawn or seen, those of a filter only."""

import contextlib
import itertools
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_state import ready
from refusals import check_refused
from small_recommender import N_ITEMS, NOW, Clock, Opens, event

from recbole_signed.live import Event, EventBatch, OnlineRecommender
from recbole_signed.live.store.database import LOG
from recbole_signed.live.store.settings import StateSettings

DAY = 86_400


def ids(recommender: OnlineRecommender, user: str, **filters: Any) -> list[str]:
    return [item for item, _ in recommender.recommend(user, N_ITEMS + 10, **filters)]


def test_an_item_of_young_small_users_alone_is_not_shown_to_others(opens: Opens) -> None:
    clock = Clock()
    recommender = opens(clock=clock, newcomer_age=DAY, newcomer_size=3)
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
    recommender = opens()
    assert "invented" not in ids(recommender, "u1")
    assert recommender.state.items.tokens(recommender.state.hidden_items().tolist()) == ["invented"]
    recommender.update([Event("a1", "", "new", "item", NOW, features={}), event(898, "fake1", "new", "view")])
    assert "new" in ids(recommender, "u1")  # announced, so no newcomer has invented it
    recommender.update([event(899, "fake1", "told of later", "like")])
    assert "told of later" not in ids(recommender, "u1")
    recommender.update([Event("a2", "", "told of later", "item", NOW, features={})])
    assert "told of later" in ids(recommender, "u1")
    recommender.update([event(900, "honest", "real", "like"), event(901, "u5", "real", "like")])
    assert "real" in ids(recommender, "u1")  # a user of the data set has touched it
    clock.now += DAY + 1  # the users have come of age, and have three likes each
    assert "invented" in ids(recommender, "u1")
    few = [(f"pair{n}", item) for n in range(5) for item in ("of pairs", "i1")]
    recommender.update([event(902 + n, user, item, "like") for n, (user, item) in enumerate(few)])
    clock.now += DAY + 1
    assert "of pairs" not in ids(recommender, "u1")  # old, but small


def test_a_state_without_a_data_set_trusts_everybody_while_it_is_young(tmp_path: Path) -> None:
    clock = Clock()
    settings = StateSettings(clock=clock)
    with ready(tmp_path, settings=settings) as state:
        state.ingest(EventBatch.from_events(event(n, f"u{n}", "a", "like") for n in range(3)))
        assert state.hidden_items().tolist() == []
        clock.now += DAY + 1
        state.ingest(
            EventBatch.from_events(event(10 + n, "u0", f"b{n}", "like") for n in range(3))
        )  # no newcomer by now
        state.ingest(EventBatch.from_events([event(20, "new", "c", "like")]))
        assert state.items.tokens(state.hidden_items().tolist()) == ["c"]


def test_users_grow_older_though_the_clock_is_set_back(tmp_path: Path) -> None:
    clock = Clock()
    with ready(tmp_path, settings=StateSettings(clock=clock)) as state:
        clock.now += 3 * DAY
        state.ingest(EventBatch.from_events(event(n, "new", f"a{n}", "like") for n in range(3)))
        clock.now += 10 * DAY
        state.ingest(EventBatch.from_events([event(9, "newer", "b", "like")]))
        assert state.items.tokens(state.hidden_items().tolist()) == ["b"]
        clock.now -= 8 * DAY  # it was ahead for a moment
        state.ingest(EventBatch.from_events(event(10 + n, "third", "c", "like") for n in range(1)))
        assert set(state.items.tokens(state.hidden_items().tolist())) == {"b", "c"}
        state.ingest(EventBatch.from_events(event(20 + n, "third", f"a{n}", "like") for n in range(3)))
        clock.now += 2 * DAY  # the third user has come of age
        assert state.items.tokens(state.hidden_items().tolist()) == ["b"]


def put_joined(folder: Path, user: str, joined: float) -> None:
    with contextlib.closing(sqlite3.connect(folder / LOG, isolation_level=None)) as connection:
        assert connection.execute("UPDATE users SET joined = ? WHERE token = ?", (joined, user)).rowcount == 1


def test_times_of_joining_of_earlier_versions_are_read(opens: Opens, tmp_path: Path) -> None:
    recommender = opens(clock=Clock(), newcomer_age=DAY, newcomer_size=1)
    recommender.update([event(1, "old", "a", "like"), event(2, "young", "b", "like")])
    recommender.close()
    put_joined(tmp_path / "state", "old", NOW - 1000 * DAY)
    put_joined(tmp_path / "state", "young", NOW)
    state = opens().state
    assert state.items.tokens(state.hidden_items().tolist()) == ["b"]


@pytest.mark.parametrize("end", ["unlike", "forget_user"])
def test_what_is_hidden_follows_from_the_edges_in_force(opens: Opens, end: str) -> None:
    clock, numbers = Clock(), itertools.count()
    recommender = opens(clock=clock, newcomer_age=DAY, newcomer_size=3)

    def hidden(*events: tuple[str, str, str]) -> set[str]:
        """Take events, and return what is hidden then."""
        recommender.update([event(next(numbers), *each) for each in events])
        assert recommender.state is not None
        return {*recommender.state.items.tokens(recommender.state.hidden_items().tolist())}  # type: ignore[arg-type]

    assert hidden(("fake", "both", "like"), ("fake", "one", "like"), ("grown", "two", "like")) == {"both", "one", "two"}
    assert hidden(("u5", "both", "like"), ("u5", "one", "view")) == {"two"}
    assert hidden(("u5", "" if end == "forget_user" else "both", end)) == (
        {"both", "one", "two"} if end == "forget_user" else {"both", "two"}
    )
    clock.now += DAY + 1
    assert "two" in hidden(("grown", "i1", "like"))  # old, but small
    assert "two" not in hidden(("grown", "i2", "dislike"))
    assert "two" not in hidden(("grown", "i2", "like"))
    assert "two" in hidden(("grown", "i2", "unlike"))
    recommender.withdraw("i3")
    assert {"i3", "two"} <= hidden()


def test_what_an_undo_alone_has_named_is_not_shown(recommender: OnlineRecommender, opens: Opens) -> None:
    shown = set(ids(recommender, "stranger"))
    names = ["mistyped", "liked", "announced", "taken back"]
    recommender.update([Event(f"e{n}", "u1", name, "unlike", NOW) for n, name in enumerate(names)])
    assert set(ids(recommender, "stranger")) == shown
    recommender.update(
        [
            Event("e10", "u2", "mistyped", "like", NOW - 1),
            Event("e11", "u1", "mistyped", "like", NOW - 1),  # it was taken back before it came
            Event("e12", "u2", "mistyped", "unlike", NOW),
            Event("e13", "u2", "liked", "like", NOW),
            Event("14", "", "announced", "item", NOW, features={}),
            Event("e15", "u2", "taken back", "like", NOW),
        ]
    )
    assert set(ids(recommender, "stranger")) == {*shown, "liked", "announced", "taken back"}
    recommender.update([Event("e16", "u2", "taken back", "unlike", NOW)])
    wanted = {*shown, "liked", "announced"}
    assert set(ids(recommender, "stranger")) == wanted
    recommender.snapshot()
    recommender.update([Event("e17", "u2", "liked", "unlike", NOW), Event("e18", "u3", "liked", "view", NOW)])
    assert set(ids(opens(), "stranger")) == wanted


def test_a_withdrawn_item_is_never_shown_and_returns(recommender: OnlineRecommender, opens: Opens) -> None:
    first = ids(recommender, "u1")
    recommender.withdraw([first[0], first[3], "not there yet"])
    assert ids(recommender, "u1") == [each for each in first if each not in (first[0], first[3])]
    recommender.update([event(1, "u2", "not there yet", "like")])
    assert "not there yet" not in ids(recommender, "u1")
    recommender.refit().result(60)
    recommender.snapshot()
    recommender = opens()
    assert recommender.state.withdrawn == {first[0], first[3], "not there yet"}
    assert not {first[0], "not there yet"} & set(ids(recommender, "u1", include_only=[*first, "not there yet"]))
    recommender.put_back([first[0], "not there yet"])
    assert {first[0], "not there yet"} <= set(ids(recommender, "u1"))
    check_refused("item_id is empty", recommender.withdraw, [""])


def test_an_item_that_is_withdrawn_while_others_are_looked_up_is_not_shown(recommender: OnlineRecommender) -> None:
    table, items = recommender.state.log.withdrawn, recommender.state.items
    recommender.withdraw("i1")

    class Busy:
        """A vocabulary beside whose look-up another item is withdrawn."""

        def __len__(self) -> int:
            return len(items)

        def ids(self, tokens: list[str]) -> np.ndarray:
            found = np.asarray(items.ids(tokens))
            if "i2" not in tokens:
                table.change(["i2"], withdrawn=True)
            return found

    busy: Any = Busy()
    none = np.zeros(0, dtype=np.int64)
    table.beside(none, busy, len(items))
    assert items.tokens(table.beside(none, busy, len(items)).tolist()) == ["i1", "i2"]


def test_lists_can_be_narrowed_to_unseen_items(recommender: OnlineRecommender) -> None:
    first = ids(recommender, "u1")
    assert ids(recommender, "u1", exclude=first[:2]) == first[2:]
    assert ids(recommender, "u1", include_only=[first[4], first[1], "unknown"]) == [first[1], first[4]]
    assert ids(recommender, "u1", include_only=first[:3], exclude=[first[0]]) == first[1:3]
    assert ids(recommender, "u1", include_only=[]) == []
    recommender.update([event(1, "u1", "i1", "like"), event(2, "u1", "i2", "dislike"), event(3, "u1", "i3", "view")])
    shown = ids(recommender, "u1")
    assert not {"i1", "i2", "i3"} & set(shown)
    assert ids(recommender, "u1", include_only=["i1", "i2", "i3", *shown[1:3]]) == shown[1:3]


def test_a_single_item_is_one_item(recommender: OnlineRecommender) -> None:
    """A text was taken for the ids of its characters: nothing was left out, and ``i``, ``t`` and others withdrawn."""
    first = ids(recommender, "u1")
    assert ids(recommender, "u1", exclude=first[0]) == first[1:]
    assert ids(recommender, "u1", include_only=first[2]) == [first[2]]
    assert [item for item, _ in recommender.recommend("u1", np.int64(2), exclude=np.array(first[:1]))] == first[1:3]
    check_refused("the ids of items are in a dict", recommender.recommend, "u1", exclude={first[0]: 1})
    recommender.withdraw(first[0])
    assert recommender.state.withdrawn == {first[0]}
    recommender.put_back(first[0])
    assert ids(recommender, "u1") == first
