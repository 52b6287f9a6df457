"""Less and more of a feature, dislikes that end or are about one: in the ranking of any model, and exactly undone."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_state import ready
from refusals import check_refused
from small_recommender import N_ITEMS, NOW, Clock, Opens, begin, content, small_edges
from state_hashes import wish_rows

from recbole_signed.errors import UsageError
from recbole_signed.live import Event, EventBatch, OnlineRecommender
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.learners.asked import Asked
from recbole_signed.live.learners.ranking import explained
from recbole_signed.live.store import event_log
from recbole_signed.live.store.settings import StateSettings

MODELS = ("SSF", "SSFL", "SSFT", "SignedEASE", "SignediALS", "Pop")
GENRES = ("Horror", "Comedy", "Science Fiction")
DAY = 86_400
numbers = itertools.count(1)


def genre(item: str) -> str:
    return GENRES[int(item[1:]) % 3]


def said(user: str, kind: str, item: str = "", at: int | None = None, **fields: Any) -> Event:
    number = next(numbers)
    return Event(f"a{number}", user, item, kind, NOW + number if at is None else at, **fields)


def of(value: str) -> dict[str, str]:
    return {"genre": value}


@pytest.fixture(params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A state whose items have a genre each."""
    settings = {"SignediALS": {"embedding_size": 6}, "SSF": {}, "Pop": {}, "SignedEASE": {}}.get(request.param)
    begun = begin(tmp_path / "state", request.param, **({"rank": 6, "cutoff": 3} if settings is None else settings))
    items = [f"i{n}" for n in range(1, N_ITEMS + 1)]
    begun.update([said("", "item", item, features={"genre": [genre(item)], "year": 1990}) for item in items])
    begun.close()
    return tmp_path / "state"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW / 1000 + 1)


@pytest.fixture
def live(folder: Path, clock: Clock, opens: Opens) -> OnlineRecommender:
    """The state of ``folder``, opened; ``opens`` opens it again."""
    return opens(clock=clock, newcomer_age=0)


Ranked = list[tuple[str, float]]


def of_genre(ranked: Ranked, name: str) -> list[str]:
    return [item for item, _ in ranked if genre(item) == name]


def places(ranked: Ranked, name: str) -> float:
    return float(np.mean([place for place, (item, _) in enumerate(ranked) if genre(item) == name]))


def test_less_lowers_more_lifts_and_an_undo_restores_each_score(live: OnlineRecommender) -> None:
    before = live.recommend("u1", N_ITEMS)
    live.update([said("u1", "less", features=of("Horror")), said("u1", "more", features=of("Comedy"))])
    after = live.recommend("u1", N_ITEMS)
    assert {item for item, _ in after} == {item for item, _ in before}  # a list never gets short
    assert places(after, "Horror") > places(before, "Horror")
    assert places(after, "Comedy") < places(before, "Comedy")
    for name in GENRES:
        assert of_genre(after, name) == of_genre(before, name)  # stable
    scores = dict(before)
    assert all(score == scores[item] for item, score in after if genre(item) == GENRES[2])
    # of some items asked for, where few scores are worked out, and by the strength of a request
    few = [item for item, _ in before][:5]
    chosen = live.recommend("u1", 5, include_only=few)
    assert [item for item, _ in chosen] == [item for item, _ in after if item in few]
    np.testing.assert_allclose([s for _, s in chosen], [dict(after)[item] for item, _ in chosen], rtol=1e-4)
    stronger = live.recommend("u1", N_ITEMS, dislike_strength=1.0)
    assert places(stronger, "Horror") >= places(after, "Horror")
    check_refused("dislike_strength is 2", live.recommend, "u1", 5, dislike_strength=2)

    live.update([said("u1", "undo", features={"genre": ["Horror", "Comedy"]})])
    assert live.recommend("u1", N_ITEMS) == before


def test_what_is_hidden_comes_back_when_it_ends_or_is_taken_back(live: OnlineRecommender, clock: Clock) -> None:
    def listed() -> Ranked:
        return live.recommend("u1", N_ITEMS, dislike_strength=0.0)

    before = listed()
    item, others = before[2][0], [*before[:2], *before[3:]]
    for end in ("undo", "undislike", None):
        live.update([hide := said("u1", "hide", item, duration=None if end else DAY)])
        assert listed() == others
        if end == "undo":
            live.update([said("u1", "undo", event=hide.event_id)])
        elif end:
            live.update([said("u1", end, item)])
        else:
            clock.now += DAY + 10
        assert listed() == before
    live.update([said("u1", "hide", item), said("u1", "like", item), said("u1", "unlike", item)])
    assert listed() == before


@pytest.mark.parametrize("about", [None, "genre"])
def test_a_dislike_with_an_end_or_about_a_feature(live: OnlineRecommender, clock: Clock, about: str | None) -> None:
    others = live.recommend("u2", N_ITEMS)
    before = live.recommend("u1", N_ITEMS)
    item = before[0][0]
    dislike = said("u1", "dislike", item, about=about, duration=7 * DAY)
    live.update([dislike])
    during = live.recommend("u1", N_ITEMS)
    assert {item for item, _ in before} - {item for item, _ in during} == {item}
    if about:
        asked = said("u1", "less", features=of(genre(item)), duration=60)
        live.update([said("u1", "undislike", item), asked])
        assert during == [each for each in live.recommend("u1", N_ITEMS) if each[0] != item]
        live.update([said("u1", "undo", features=of(genre(item))), dislike := again(dislike)])
    assert live.recommend("u2", N_ITEMS) == others
    live.update([dislike])  # delivered again
    assert live.recommend("u1", N_ITEMS) == during

    clock.now = dislike.timestamp / 1000 + 7 * DAY - 1
    assert live.recommend("u1", N_ITEMS) == during
    clock.now += 2
    assert live.recommend("u1", N_ITEMS) == before
    clock.now -= 2
    assert live.recommend("u1", N_ITEMS) == during
    live.update([said("u1", "undislike", item)])
    assert live.recommend("u1", N_ITEMS) == before
    live.update([dataclasses.replace(dislike, event_id="late")])  # delayed on its way, and older than the undo
    assert live.recommend("u1", N_ITEMS) == before
    live.update([said("u1", "dislike", item)])
    if not about and live.model_name.startswith("Signed"):  # else the counters of the item follow
        assert [each for each, _ in live.recommend("u1", N_ITEMS)] == [each for each, _ in during]


@pytest.mark.parametrize("folder", ["Pop"], indirect=True)
def test_an_undo_takes_back_what_an_event_asked_for(live: OnlineRecommender, opens: Opens) -> None:
    """All its values, of its user alone, and nothing that took its place; also in one batch and after a restart."""
    before = live.recommend("u1", N_ITEMS)
    less = said("u1", "less", features={"genre": ["Horror", "Comedy"]})
    live.update([less])
    asked = live.recommend("u1", N_ITEMS)
    check_refused(f"no event with the id '{less.event_id}'", live.update, [said("u2", "undo", event=less.event_id)])
    assert live.recommend("u1", N_ITEMS) == asked != before
    live = opens()
    undo = said("u1", "undo", event=less.event_id)
    live.update([undo, undo])
    assert live.recommend("u1", N_ITEMS) == before

    more = said("u1", "more", features=of("Comedy"))
    live.update([more, said("u1", "undo", event=more.event_id)])
    assert live.recommend("u1", N_ITEMS) == before
    dislike = said("u1", "dislike", before[0][0], about="genre")
    live.update([dislike, less := again(less)])
    live.update([said("u1", "undo", event=dislike.event_id)])
    assert live.recommend("u1", N_ITEMS) == asked
    live.update([more := again(more)])
    newest = live.recommend("u1", N_ITEMS)
    live.update([said("u1", "undo", event=less.event_id), said("u1", "less", features=of("Horror"))])
    assert live.recommend("u1", N_ITEMS) == newest  # more of Comedy is newer than the event
    kept = live.snapshot()
    for name in set(live.state.versions.names()) - {kept}:
        live.state.versions.remove(name)
    assert live.compact() > 0  # the rows of the events are gone
    live.update([said("u1", "undo", event=more.event_id)])
    assert live.recommend("u1", N_ITEMS) != newest
    with pytest.raises(UsageError, match="there is no event with the id 'nothing' to take back"):
        live.update([said("u1", "undo", event="nothing")])
    for kind in ("dislike", "like", "view"):  # what looked taken back would not be
        plain = said("u1", kind, "i1")
        undo = said("u1", "undo", event=plain.event_id)
        for together in ([plain, undo], [undo]):
            with pytest.raises(UsageError, match="asked for nothing"):
                live.update(together)
            live.update([plain])
    check_refused("not both", live.update, [said("u1", "undo", event=more.event_id, features=of("Comedy"))])
    with pytest.raises(UsageError, match="event is a field of the type undo alone"):
        live.update([said("u1", "like", "i1", event=more.event_id)])


def again(event: Event) -> Event:
    """Return the event at a later time."""
    number = next(numbers)
    return dataclasses.replace(event, event_id=f"a{number}", timestamp=NOW + number)


def test_the_newest_counts_in_whatever_order_events_come(tmp_path: Path, clock: Clock) -> None:
    events = [
        said("u1", "less", features=of("Horror")),
        said("u1", "more", features=of("Horror"), duration=60),
        said("u1", "undo", features=of("Comedy")),
        said("u1", "less", features=of("Comedy"), at=NOW),
        said("u1", "dislike", "i1", about="genre"),
        said("u1", "like", "i1"),
        said("u2", "dislike", "i1", duration=5),
        said("u2", "undislike", "i1"),
        said("u2", "less", features={"year": 1990}),
    ]
    found = set()
    rng, settings = np.random.default_rng(0), StateSettings(clock=clock)
    for turn in range(6):
        state = ready(tmp_path / f"{turn}", settings=settings)
        for each in [events[i] for i in rng.permutation(len(events))] * 2:
            state.ingest(EventBatch.from_events([each]))
        rows = [(state.users.tokens([row[0]])[0], *row[2:]) for row in wish_rows(state.log)]
        state.close()
        again = ready(tmp_path / f"{turn}", settings=settings)
        assert [(again.users.tokens([row[0]])[0], *row[2:]) for row in wish_rows(again.log)] == rows
        asked = [Asked.from_state(again, None, again.users.id_of(user)) for user in ("u1", "u2")]
        in_force = [[(w.feature, w.value, w.sign) for w in each.wishes] if each else [] for each in asked]
        again.close()
        found.add(repr((sorted(rows, key=repr), in_force)))
    assert len(found) == 1
    assert in_force == [[("genre", "Horror", 1)], [("year", "1990", -1)]]


@pytest.mark.parametrize("folder", ["SSF"], indirect=True)
def test_compaction_removes_what_is_over(
    live: OnlineRecommender, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "_PURGED_ROWS", 2)
    live.update([said("u2", "hide", f"i{n}", duration=60) for n in range(1, 6)])
    live.update([said("u1", "hide", "i1"), hide := said("u1", "hide", "i2"), said("u1", "undo", event=hide.event_id)])
    live.update([said("u1", "less", features=of("Horror"), duration=30 * DAY)])
    shown = {item for item, _ in live.recommend("u1", N_ITEMS)}

    def kept() -> tuple[int, int]:
        live.update([said("u3", "like", f"i{next(numbers) % 20 + 1}")])
        for _ in range(3):  # the log is compacted up to the oldest version, and three are kept
            live.snapshot()
        live.compact()
        log = live.state.log
        (n,) = log.connection.execute("SELECT count(*) FROM wishes").fetchone()
        return n, len(wish_rows(log))

    clock.now += 6 * DAY
    assert kept() == (8, 8), "the time of grace is not over: an event from before may still come"
    clock.now += 2 * DAY
    assert kept() == (2, 2)
    assert {item for item, _ in live.recommend("u1", N_ITEMS)} == shown
    asked = Asked.from_state(live.state, live.learner, live.state.users.id_of("u1"))
    assert asked is not None
    assert [(each.item > 0, each.value) for each in asked.wishes] == [(False, "Horror"), (True, "hidden")]


@pytest.mark.parametrize("folder", ["SSF"], indirect=True)
def test_no_trace_is_left_of_a_forgotten_user(
    live: OnlineRecommender, opens: Opens, folder: Path, clock: Clock
) -> None:
    at, until = NOW + 123_456_789, NOW + 123_456_789 + 987_654_000
    events = [
        said("who", "less", features=of("Zyzzyva"), at=at, duration=987_654),
        said("who", "dislike", "i1", about="Quixotry", at=at),
    ]
    live.update(EventBatch.from_events(events))
    live.update([said("other", "like", "i1")])
    live.snapshot()
    traces = [b"who", b"Zyzzyva", b"Quixotry", *(stamp.to_bytes(6, "big") for stamp in (at, until))]
    assert all(each in content(folder) for each in traces)
    live.forget("who", at + 1)
    live.refit().result(60)
    assert not live.erase()
    clock.now += 9 * DAY
    opens().close()
    left = content(folder)
    assert not any(each in left for each in traces)


def test_events_that_ask_for_what_there_is_not_are_refused(opens: Opens, clock: Clock) -> None:
    live = opens(clock=clock, newcomer_age=0)
    row = {"user_id": "u1", "type": "less", "timestamp": NOW}
    (first,) = live.ingest([{**row, "features": {"genre": "Horror"}}])
    assert "announce items with their features" in (first.reason or "")
    results = live.ingest(
        [
            {"item_id": "i1", "type": "item", "timestamp": NOW, "features": {"genre": "Science Fiction"}},
            {**row, "features": {"genre": "Science Fiction"}},  # known from the row before
            {**row, "features": {"genre": "Sience Fiction"}},
            {**row, "features": {"gendre": "Horror"}},
            {**row, "features": {}},
            {**row, "features": {"genre": "Science Fiction"}, "duration": 1e12},
            {**row, "type": "dislike", "item_id": "i1", "about": "colour"},
            {**row, "type": "dislike", "item_id": "i1", "about": "genre", "features": {}},
            {**row, "type": "like", "item_id": "i1", "duration": 5},
            {**row, "type": "less", "about": "genre", "features": {"genre": "Science Fiction"}},
            {**row, "type": "dislike", "item_id": "i1", "about": "item", "duration": ""},
        ]
    )
    reasons = [
        None,
        None,
        "no item has the genre 'Sience-Fiction'; did you mean 'Science-Fiction'?",
        "no item has a feature 'gendre'; did you mean 'genre'?",
        'features is {}; expected columns with values, 100 at most, such as {"genre": "Horror"}',
        "duration is 1000000000000.0; expected a number of seconds above 0 and below 1e12",
        "no item has a feature 'colour'; the features are genre",
        None,
        "duration is a field of the types dislike, hide, less and more alone",
        "about is a field of the type dislike alone",
        None,
    ]
    assert [each.reason for each in results] == reasons
    with live.reading() as (state, _):
        user, item, kind, _ = small_edges()
        others = ((item == 1) & (kind == DISLIKE) & (user != 1)).sum()
        assert state.edges.item_dislikes[1] == others + 1  # the last alone is a dislike of the item


def test_events_come_back_from_a_batch_as_they_were() -> None:
    events: Iterable[Event] = [
        said("u", "less", features={"genre": ["A", "B"]}, duration=2.5),
        said("u", "dislike", "i", about="genre"),
        said("u", "dislike", "i", duration=3.0),
        said("u", "dislike", "i"),
        said("u", "undo", features={"genre": ["A"]}),
        said("u", "undo", event="e"),
    ]
    assert list(EventBatch.from_events(events).events()) == events


@pytest.mark.parametrize("folder", ["SSF"], indirect=True)
def test_an_explanation_adds_up_and_says_what_was_asked_for(live: OnlineRecommender) -> None:
    ranked: Callable[[], dict[str, float]] = lambda: dict(live.recommend("u1", N_ITEMS))  # noqa: E731
    before = ranked()
    live.update([said("u1", "less", features=of("Horror"), duration=DAY), said("u1", "more", features=of("Horror"))])
    live.update([said("u1", "more", features=of("Comedy"))])
    with live.reading() as (state, learner):
        number = state.users.id_of("u1")
        asked = Asked.from_state(state, learner, number)
        now, keys = ranked(), (state.users.keys, state.items.keys)
        of_items = explained(learner, state.edges, number, np.array(state.items.ids(list(now))), keys, asked)
        for (item, score), told in zip(now.items(), of_items, strict=True):
            assert told.ranked == pytest.approx(score, rel=1e-4)
            assert told.ranked - told.moved == pytest.approx(before[item], rel=1e-4)
            assert [(wish.sign, value) for wish, value in told.reasons] == (
                [(1, genre(item))] if genre(item) in ("Horror", "Comedy") else []  # the newest of a value counts
            )


@pytest.mark.parametrize("folder", ["SSF", "SSFT"], indirect=True)
def test_an_explanation_has_the_score_of_the_list_of_a_user_without_a_verdict(live: OnlineRecommender) -> None:
    live.update([said("fresh", "view", f"i{n}") for n in range(1, 6)])
    live.update([said("fresh", "more", features=of("Comedy"))])
    ranked = dict(live.recommend("fresh", N_ITEMS))
    with live.reading() as (state, learner):
        number = state.users.id_of("fresh")
        asked, keys = Asked.from_state(state, learner, number), (state.users.keys, state.items.keys)
        of_items = explained(learner, state.edges, number, np.array(state.items.ids(list(ranked))), keys, asked)
    assert [explanation.ranked for explanation in of_items] == pytest.approx([*ranked.values()], rel=1e-5)
