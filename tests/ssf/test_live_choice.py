"""SSF-T's learner goes on choosing under a stream: what is measured, what holds, and that a restart changes nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import edge_streams as streams
import numpy as np
import pytest
from edge_streams import Stream

from recbole_signed.errors import UsageError
from recbole_signed.evaluation.metrics import ndcg_at
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER, VIEW
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.ssf import live_choice
from recbole_signed.live.learners.ssf.live_choice import EXPONENTS, LiveChoice
from recbole_signed.live.learners.ssf.time_learner import TimeLearner
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.ssf import FilterSettings
from recbole_signed.ssf.settings import CHOSEN, TREND, TimeSettings
from recbole_signed.ssf.time_search import HALF_LIVES, SMOOTHINGS, Exposures
from recbole_signed.ssf.validation import Validation, drawn

DAY = 86_400_000
SETTINGS = FilterSettings(rank=6, cutoff=4, popularity_floor=0.5)
TIME = TimeSettings(transition_rank=4, transition_share=0.5, half_life=100.0, trend_exponent=0.35)
N_USERS, N_ITEMS = 121, 61


def _begun(day: int = 0) -> Stream:
    """Return a stream with one edge, of some day."""
    stream = Stream(N_USERS, N_ITEMS, [(1, 1, LIKE)])
    stream.take([(1, 1, LIKE)], [day * DAY + 1])
    return stream


def take(stream: Stream, *columns: np.ndarray) -> None:
    moves = [(int(u), int(i), int(k)) for u, i, k in zip(*columns[:3], strict=True)]
    stream.take(moves, columns[3].tolist())


def days(stream: Stream, first: int, last: int) -> Stream:
    """Let users come on days, one after the other, and like what is on the rise then: two new items a day."""
    rng = np.random.default_rng(first)
    for day in range(first, last):
        users = rng.permutation(N_USERS - 1)[:40] + 1
        items = (2 * day + rng.integers(0, 6, len(users))) % (N_ITEMS - 1) + 1
        kinds = rng.choice([LIKE, DISLIKE], len(users), p=[0.8, 0.2])
        times = np.sort(rng.integers(day * DAY, (day + 1) * DAY, len(users)))
        # an edge that is overwritten is no longer there to be counted as it was
        new = stream.signs()[users, items] == 0
        take(stream, users[new], items[new], kinds[new], times[new])
    return stream


def learner(start: TimeSettings = TIME, **changes: Any) -> TimeLearner:
    stream = days(_begun(), 0, 20)
    made = TimeLearner(SETTINGS, start, choice=LiveChoice(start, **{"users": 50, **changes}))
    return streams.fitted(made, stream)


def later() -> Stream:
    return days(days(_begun(), 0, 20), 20, 23)


NOTHING: list[dict[str, Any]] = [{}, {}, {}]
IN_FORCE: list[dict[str, Any]] = [
    dict(zip(TREND, (10.0, 0.3, 1.0, 0.0, 1.0), strict=True)),
    {"transition_share": 2.0},
    {"popularity_half_life": 3.0, "recent_popularity": 1.5},
]


def since(day: float) -> TimeSettings:
    return replace(TIME, trend_since=day * DAY / 1000)


POPULAR = replace(TIME, popularity_half_life=7.0, recent_popularity=2.0)
OTHERS = ((1,), (0, 2), (0, 1))
"""What is in force while trends are measured: the share. While shares are: the trends. While popularities are: both."""


PLACES = ((0, 1, 7, 40), (0, 4), (0, 1, 7, 17, 20))
"""Of trends, shares and popularities."""
SHORT = ((0, 1, 7, 40), (0, 4), (0, 1, 7, 17))
"""Those whose half-life is not longer than the history is."""


@pytest.mark.parametrize(
    ("begun", "best", "chosen", "spread"),
    [(TIME, NOTHING, PLACES, (1, 0.2, 1)), (since(8), IN_FORCE, SHORT, (1, 0.2, 0.2))],
    ids=["the start is in force", "others are, and trends begin late"],
)
def test_what_is_measured_is_the_model_as_it_was_on_likes_that_it_has_not_seen(
    begun: TimeSettings, best: list[dict[str, Any]], chosen: tuple[tuple[int, ...], ...], spread: tuple[float, ...]
) -> None:
    """Held against learners of each setting that are fitted to the earlier edges alone."""
    made, stream = learner(begun, users=1000), later()
    made.choice.best = best
    until = made.choice.until
    some = np.argwhere(stream.signs()[1:, 1:] == 0)[::9].T + 1  # what was seen without a verdict is hidden, too
    take(stream, *some, np.full(len(some[0]), VIEW), np.full(len(some[0]), int(until)))
    edges = stream.edges.export()
    made.refresh(edges, *stream.sizes)
    old = edges.timestamp <= until
    before = _begun()
    take(before, *(each[old] for each in (edges.user, edges.item, edges.kind, edges.timestamp)))
    for group, places in enumerate(chosen):
        start = begun
        for other in OTHERS[group]:
            start = replace(start, **best[other])
        found = _measured(made, before, edges, old, start, group, places)
        assert np.ptp([each.sum() for each in found.values()]) > spread[group]


def _measured(
    made: TimeLearner,
    before: Stream,
    edges: EdgeArrays,
    old: np.ndarray,
    start: TimeSettings,
    group: int,
    places: tuple[int, ...],
) -> dict[int, np.ndarray]:
    found = {}
    for place in places:
        settings = replace(start, **made.choice.changes[group][place])
        plain = streams.fitted(TimeLearner(SETTINGS, settings), before)
        found[place] = _ndcg(plain, before, edges, old)
    for place, values in found.items():
        gained = values - found[0]
        assert made.choice.gains[group][place] == pytest.approx(gained.sum(), abs=0.02)
        assert made.choice.squares[group][place] == pytest.approx((gained**2).sum(), abs=0.02)
    return found


def _ndcg(plain: TimeLearner, before: Stream, edges: EdgeArrays, old: np.ndarray) -> np.ndarray:
    found = []
    for user in np.unique(edges.user[~old & (edges.kind == LIKE)]):
        scores = plain.scores(before.edges, np.array([user]))[0].numpy()
        scores[edges.item[old & (edges.user == user)]] = -np.inf
        liked = edges.item[~old & (edges.user == user) & (edges.kind == LIKE)]
        best = np.argsort(-scores, kind="stable")[:20]
        found.append(ndcg_at(np.isin(best, liked)[None], np.array([len(liked)]))[0, -1])
    return np.array(found)


def test_who_is_measured_and_by_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """All users with a like that is later, by these likes, from the verdicts before."""
    made, stream = learner(users=1000), later()
    until, measured = made.choice.until, []
    real = Validation.values
    monkeypatch.setattr(Validation, "values", lambda self, ways: measured.append(self) or real(self, ways))
    edges = stream.edges.export()
    made.refresh(edges, *stream.sizes)
    columns = edges.user, edges.item, edges.kind
    old = edges.timestamp <= until
    earlier, new = (set(zip(*(each[rows] for each in columns), strict=True)) for rows in (old, ~old))
    users = drawn(np.unique([user for user, _, kind in new if kind == LIKE]), 1000)
    (validation, *_) = measured
    assert len(measured) == 3
    assert validation.n_users == len(users) == made.choice.measured
    row, hidden = (each.numpy() for each in validation.hidden)
    for place, user in enumerate(users):
        likes, dislikes = (
            {item for who, item, kind in earlier if (who, kind) == (user, wanted)} for wanted in (LIKE, DISLIKE)
        )
        assert set(validation.users.likes[place].indices) == likes
        assert set(validation.users.dislikes[place].indices) == dislikes
        assert set(hidden[row == place]) == likes | dislikes
        keys = validation.like_keys[validation.like_keys // N_ITEMS == place]
        assert set(keys % N_ITEMS) == {item for who, item, kind in new if (who, kind) == (user, LIKE)}
        assert validation.like_count[place] == len(keys)


def test_popularity_follows_each_trend_that_is_measured() -> None:
    """So that users with and without edges tell of it."""
    (plain, none, *trends), _, popularities = LiveChoice(TIME).changes
    assert (plain, none) == ({}, {"trend_exponent": 0.0, "recent_popularity": 0.0})
    tried = [replace(POPULAR, **each) for each in trends]
    assert {each.half_lives for each in tried} == {(life, life) for life in HALF_LIVES}
    assert {(each.trend_exponent, each.recent_popularity) for each in tried} == {
        (0.35, 1.0),
        (0.7, 1.0),
        (1.0, 1.0),
        (1.5, 1.5),
    }
    assert len(set(tried)) == len(trends) == len(HALF_LIVES) * len(SMOOTHINGS) * len(EXPONENTS)
    of_popularity = {replace(POPULAR, **each).half_lives for each in popularities[1:]}
    assert of_popularity == {(POPULAR.half_life, life) for life in HALF_LIVES}


def test_a_trend_that_the_stream_has_is_chosen() -> None:
    made, stream = learner(), later()
    assert made.time_settings == TIME
    for day in (23, 26, 29):
        made.refresh(stream.edges.export(), *stream.sizes)
        days(stream, day, day + 3)
    assert made.time_settings.half_life < 30
    assert made.time_settings.trend_exponent >= 0.7
    made.attach(stream.edges)
    assert tuple(each.half_life for each in made.recent) == made.time_settings.half_lives


def test_a_fit_chooses_what_a_refresh_chooses() -> None:
    made, stream = learner(), later()
    other = copy.deepcopy(made)
    made.refresh(stream.edges.export(), *stream.sizes)
    other.fit(stream.edges.export(), *stream.sizes)
    assert made.time_settings == other.time_settings != TIME


def test_a_learner_that_starts_again_chooses_as_one_that_went_on() -> None:
    made, stream = learner(), later()
    made.refresh(stream.edges.export(), *stream.sizes)
    again = TimeLearner.from_settings(made.parameters())
    assert again.parameters() == made.parameters()
    again.load(*made.state())
    assert again.time_settings == made.time_settings
    days(stream, 23, 26)
    for each in (made, again):
        each.refresh(stream.edges.export(), *stream.sizes)
        each.attach(stream.edges)
    assert again.time_settings == made.time_settings
    for one, other in zip(again.choice.state()[0].values(), made.choice.state()[0].values(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(
        made.scores(stream.edges, stream.everyone), again.scores(stream.edges, stream.everyone)
    )


def test_a_history_that_is_shorter_than_what_follows_tells_nothing() -> None:
    """Times that were made up before a log begins, to keep the order of events."""
    made = streams.fitted(TimeLearner(SETTINGS, TIME, choice=LiveChoice(TIME, 50)), days(_begun(19), 19, 20))
    stream = days(days(_begun(19), 19, 20), 20, 23)
    made.refresh(stream.edges.export(), *stream.sizes)
    assert made.time_settings == TIME
    days(stream, 23, 24)
    made.refresh(stream.edges.export(), *stream.sizes)
    assert any(each.any() for each in made.choice.gains)


@pytest.mark.parametrize("day", [19.5, 21.0])
def test_a_history_from_before_trends_begin_tells_nothing(day: float) -> None:
    made, stream = learner(since(day)), later()
    made.refresh(stream.edges.export(), *stream.sizes)
    assert not any(each.any() for each in made.choice.gains)


@pytest.mark.parametrize("held", [{"users": 0}, {"held": CHOSEN}], ids=["none chosen", "all held"])
def test_what_is_held_stays(held: dict[str, Any]) -> None:
    made, stream = learner(**held), later()
    made.refresh(stream.edges.export(), *stream.sizes)
    assert made.time_settings == TIME
    assert not any(each.any() for each in made.choice.gains)


def test_one_that_is_held_stays_and_the_others_are_chosen() -> None:
    made, stream = learner(held=("half_life",)), later()
    made.refresh(stream.edges.export(), *stream.sizes)
    assert made.time_settings.half_life == TIME.half_life
    assert {each.get("half_life") for each in made.choice.changes[0]} == {None}


def test_given_settings_hold_and_chosen_ones_are_chosen_again() -> None:
    given = make_learner("SSFT", {"half_life": 3.0, "rank": 9})
    assert given.choice.held == ("half_life",)
    assert make_learner("SSFT", {"half_life": 3.0, "held": []}).choice.held == ()
    assert make_learner("SSFT", {"held": "half_life"}).choice.held == ("half_life",)
    with pytest.raises(UsageError, match="held names 'rank'"):
        make_learner("SSFT", {"held": ["rank"]})
    with pytest.raises(UsageError, match="choose_again is -1"):
        make_learner("SSFT", {"choose_again": -1})
    for name in ("choose_again", "iterations", "passes"):
        assert make_learner("SSFT", {name: 4.0}).parameters()[name] == 4
        for value in (2.5, "many", None):
            with pytest.raises(UsageError, match=f"{name} is {value!r}; it must be a whole number"):
                make_learner("SSFT", {name: value})


def test_a_forgotten_user_takes_all_that_was_measured_along() -> None:
    """Also out of a fit that was begun before, and ends after a refresh of that time; what is in force stays."""
    made, stream = learner(), later()
    made.refresh(stream.edges.export(), *stream.sizes)
    in_force, refresh, fit = made.choice.settings, copy.deepcopy(made), copy.deepcopy(made)
    assert made.choice.measured > 0
    made.update(stream.edges, stream.take([(3, 0, FORGET_USER)], [24 * DAY]))
    refresh.keep_without_forgotten(made)
    fit.keep_without_forgotten(refresh)
    for each in (made, refresh, fit):
        assert each.choice.settings == in_force
        assert each.choice.measured == 0
        assert not any(sums.any() for sums in (*each.choice.gains, *each.choice.squares))


def test_a_user_who_is_forgotten_during_a_fit_is_not_in_what_a_refresh_of_before_leaves() -> None:
    """The fit began after another user was forgotten, the refresh before."""
    made, stream = learner(), later()
    refresh = copy.deepcopy(made)
    made.update(stream.edges, stream.take([(3, 0, FORGET_USER)], [24 * DAY]))
    made.refresh(stream.edges.export(), *stream.sizes)
    fit = copy.deepcopy(made)
    assert fit.choice.measured > 0
    made.update(stream.edges, stream.take([(4, 0, FORGET_USER)], [24 * DAY]))
    refresh.keep_without_forgotten(made)
    fit.keep_without_forgotten(refresh)
    assert fit.choice.measured == 0


def test_what_was_measured_long_ago_counts_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a memory of no user, the sums are those of a choice that has measured nothing before."""
    made, stream = learner(users=40), later()
    made.refresh(stream.edges.export(), *stream.sizes)
    again = copy.deepcopy(made)
    again.choice.clear()
    days(stream, 23, 25)
    monkeypatch.setattr(live_choice, "MEMORY", 1e-3)
    for each in (made, again):
        each.refresh(stream.edges.export(), *stream.sizes)
    assert made.choice.measured == again.choice.measured == 40
    for one, other in zip(
        (*made.choice.gains, *made.choice.squares), (*again.choice.gains, *again.choice.squares), strict=True
    ):
        np.testing.assert_allclose(one, other)
    assert any(each.any() for each in made.choice.gains)


def test_nothing_is_chosen_by_a_few_users() -> None:
    made, stream = learner(users=live_choice.ENOUGH - 1), later()
    made.refresh(stream.edges.export(), *stream.sizes)
    assert any(each.any() for each in made.choice.gains)
    assert made.time_settings == TIME


def test_half_lives_that_reach_far_beyond_the_exposures_are_not_measured() -> None:
    """They can't be told apart by 20 days."""
    made, stream = learner(), later()
    made.refresh(stream.edges.export(), *stream.sizes)
    lives = [max(each.get("half_life", 0.0), each.get("popularity_half_life", 0.0)) for each in made.choice.changes[0]]
    gains = made.choice.gains[0]
    measured = {life for life, gain in zip(lives, gains, strict=True) if gain and life}
    assert measured == {life for life in lives if 0 < life <= 4 * 20}


def test_what_is_chosen_is_better_by_more_than_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small gain of everybody counts more than a larger one that is of one user alone."""

    def scripted(self: Validation, scores: list[Any]) -> np.ndarray:
        values = np.zeros((len(scores), self.n_users))
        values[1] = 0.1
        values[2, 0] = 0.5 * self.n_users
        return values

    made, stream = learner(users=1000), later()
    monkeypatch.setattr(Validation, "values", scripted)
    made.refresh(stream.edges.export(), *stream.sizes)
    n = made.choice.measured
    for changes, gains, best in zip(made.choice.changes, made.choice.gains, made.choice.best, strict=True):
        assert gains.max() == pytest.approx(0.5 * n)
        assert gains[changes.index(best)] == pytest.approx(0.1 * n)


def test_exposures_of_the_moment_itself_count() -> None:
    found = Exposures.since(5.0, np.array([1, 2, 3]), np.array([4, 5, 6]))
    assert (found.item.tolist(), found.time.tolist()) == ([2, 3], [5.0, 6.0])
