"""SSF-T's learner goes on fitting its weights under a stream: to what, when not, and that a restart changes nothing."""

from __future__ import annotations

import copy

import edge_streams as streams
import numpy as np
import pytest
import torch
from edge_streams import Stream
from order_features import features_of

from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER, VIEW
from recbole_signed.live.learners.ranking import Judged
from recbole_signed.live.learners.ssf import time_learner
from recbole_signed.live.learners.ssf.time_learner import TimeLearner
from recbole_signed.ssf import FilterSettings
from recbole_signed.ssf.order import weights_of
from recbole_signed.ssf.order_weights import Fit, Likes, fitted_weights

DAY = 86_400_000
SETTINGS = FilterSettings(rank=6, cutoff=4)
N_USERS, N_ITEMS = 121, 61


def begun(day: int = 0) -> Stream:
    """Return a stream with one edge, of some day."""
    stream = Stream(N_USERS, N_ITEMS, [(1, 1, LIKE)])
    stream.take([(1, 1, LIKE)], [day * DAY + 1])
    return stream


def take(stream: Stream, *columns: np.ndarray) -> None:
    moves = [(int(u), int(i), int(k)) for u, i, k in zip(*columns[:3], strict=True)]
    stream.take(moves, columns[3].tolist())


def days(stream: Stream, first: int, last: int, n_users: int = 40) -> Stream:
    """Let users come on days, one after the other, and like what is on the rise then: two new items a day."""
    rng = np.random.default_rng(first)
    for day in range(first, last):
        users = rng.permutation(N_USERS - 1)[:n_users] + 1
        items = (2 * day + rng.integers(0, 6, len(users))) % (N_ITEMS - 1) + 1
        kinds = rng.choice([LIKE, DISLIKE], len(users), p=[0.8, 0.2])
        times = np.sort(rng.integers(day * DAY, (day + 1) * DAY, len(users)))
        # an edge that is overwritten is no longer there to be counted as it was
        new = stream.signs()[users, items] == 0
        take(stream, users[new], items[new], kinds[new], times[new])
    return stream


def learner(users: int = 300, since: float = 0.0) -> TimeLearner:
    made = TimeLearner(SETTINGS, choose_again=users, trend_since=since * DAY / 1000)
    return streams.fitted(made, days(begun(), 0, 20))


def later(n_users: int = 40) -> Stream:
    return days(days(begun(), 0, 20), 20, 23, n_users)


def refresh(made: TimeLearner, stream: Stream) -> TimeLearner:
    made.refresh(stream.edges.export(), *stream.sizes)
    made.attach(stream.edges)
    return made


@pytest.mark.parametrize("since", [0.0, 8.0])
def test_weights_are_fitted_to_new_likes_with_features_as_they_were(since: float) -> None:
    """Held against the features that a learner had of the earlier edges alone."""
    made, stream, before = learner(since=since), later(), days(begun(), 0, 20)
    some = np.argwhere(stream.signs()[1:, 1:] == 0)[::9].T + 1  # what was seen without a verdict is hidden, too
    views = *some, np.full(len(some[0]), VIEW), np.full(len(some[0]), int(made.until))
    take(stream, *views)
    take(before, *views)
    earlier = copy.deepcopy(made)
    earlier.attach(before.edges)
    new = stream.edges.export()
    new = new.where(new.timestamp > made.until)
    new = new.where(new.kind == LIKE)
    users, row = np.unique(new.user, return_inverse=True)
    known = np.flatnonzero(before.edges.item_likes + before.edges.item_dislikes)
    edges = earlier._users(Judged(earlier, before.edges, users).edges, users)
    offset = torch.zeros(len(users), N_ITEMS)
    old = before.edges.of_users(users)
    offset[np.repeat(np.arange(len(users)), np.diff(old.indptr)), old.ids] = -torch.inf
    place = np.searchsorted(known, new.item)
    open_ = np.isin(new.item, known) & ~offset[row, new.item].isneginf().numpy()
    likes = Likes(
        torch.zeros(0, len(known)),
        features_of(earlier.filter, edges)[:, :, known],
        offset[:, known],
        torch.from_numpy(row[open_]),
        torch.from_numpy(place[open_]),
        torch.from_numpy(edges.degrees == 0),
        torch.arange(len(users)),
    )
    start = made.weights
    refresh(made, stream)
    wanted = fitted_weights(likes, Fit(start), time_learner.WORTH).weights
    np.testing.assert_allclose(made.weights, wanted, rtol=1e-2, atol=2e-3)
    assert np.abs(made.weights - start).max() > 0.1
    assert made.until == stream.edges.export().timestamp.max()


def rank_of_new_likes(made: TimeLearner, stream: Stream, until: float) -> float:
    """Return the mean share of items with a better score than a like that came after a moment."""
    edges = stream.edges.export()
    new = np.flatnonzero((edges.timestamp > until) & (edges.kind == LIKE))
    before = begun()
    old = edges.timestamp <= until
    take(before, *(each[old] for each in (edges.user, edges.item, edges.kind, edges.timestamp)))
    made = copy.deepcopy(made)
    made.attach(before.edges)
    scores = made.scores(before.edges, edges.user[new])
    return float(
        (scores > scores.gather(1, torch.from_numpy(edges.item[new].astype(np.int64))[:, None])).float().mean()
    )


def test_weights_move_to_where_new_likes_are() -> None:
    """The stream has a trend, of which the weights to begin with make too little."""
    start = weights_of(None)
    start[1:5] = 0.0
    made = streams.fitted(TimeLearner(SETTINGS, start), days(begun(), 0, 20))
    stream = later()
    for day in (23, 26, 29):
        refresh(made, stream)
        until = made.until
        days(stream, day, day + 3)
    assert made.start is start
    held = copy.deepcopy(made)
    held.forget_weights()
    assert rank_of_new_likes(made, stream, until) < 0.8 * rank_of_new_likes(held, stream, until)


def test_more_users_move_them_further() -> None:
    stream, moved = later(), []
    for users in (0, 5, 30, 300):
        made = refresh(learner(users), stream)
        moved.append(np.linalg.norm(made.weights - made.start))
    assert moved[0] == 0
    assert 0 < moved[1] < moved[2] < moved[3]


def test_what_was_known_before_is_held_to_and_counts_less_after_many_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against weights that forget all, and against such as forget nothing."""
    moved = []
    for kept in (0, time_learner.KEPT, np.inf):
        made, stream = learner(), later()
        refresh(made, stream)
        before = made.weights
        monkeypatch.setattr(time_learner, "KEPT", kept if np.isfinite(kept) else 1e12)
        refresh(made, days(stream, 23, 26))
        monkeypatch.undo()
        moved.append(float(np.linalg.norm(made.weights - before)))
    assert moved[0] > moved[1] > moved[2] > 0


def test_a_fit_fits_them_as_a_refresh_does() -> None:
    made, stream = learner(), later()
    other = copy.deepcopy(made)
    other.fit(stream.edges.export(), *stream.sizes)
    refresh(made, stream)
    np.testing.assert_array_equal(made.weights, other.weights)
    assert (made.weights != made.start).any()


def test_a_learner_that_starts_again_goes_on_as_one_that_went_on() -> None:
    made, stream = learner(), later()
    refresh(made, stream)
    again = TimeLearner.from_settings(made.parameters())
    again.load(*made.state())
    again.attach(stream.edges)
    days(stream, 23, 26)
    for each in (made, again):
        refresh(each, stream)
    np.testing.assert_array_equal(made.weights, again.weights)
    np.testing.assert_array_equal(
        made.scores(stream.edges, stream.everyone), again.scores(stream.edges, stream.everyone)
    )


def test_a_history_that_is_shorter_than_what_follows_tells_nothing() -> None:
    """Times that were made up before a log begins, to keep the order of events."""
    made = streams.fitted(TimeLearner(SETTINGS), days(begun(19), 19, 20))
    stream = days(days(begun(19), 19, 20), 20, 23)
    refresh(made, stream)
    assert (made.weights == made.start).all()
    refresh(made, days(stream, 23, 24))
    assert (made.weights != made.start).any()


@pytest.mark.parametrize("since", [19.5, 21.0])
def test_a_history_from_before_trends_begin_tells_nothing(since: float) -> None:
    made = refresh(learner(since=since), later())
    assert (made.weights == made.start).all()


def test_after_a_user_was_forgotten_they_are_fitted_from_the_start_to_likes_that_come_then() -> None:
    made, stream = learner(), later()
    refresh(made, stream)
    made.update(stream.edges, stream.take([(3, 0, FORGET_USER)], [24 * DAY]))
    never = copy.deepcopy(made)
    never.forget_weights()
    days(stream, 24, 27)
    refresh(made, stream)
    refresh(never, stream)
    np.testing.assert_array_equal(made.weights, never.weights)


def test_likes_of_new_users_and_items_count_too() -> None:
    made, stream = learner(), later()
    n = 40
    users, items = np.arange(N_USERS, N_USERS + n), np.full(n, N_ITEMS)  # an item of which there was nothing to learn
    time = np.full(n, 23 * DAY)
    other = copy.deepcopy(made)
    refresh(other, stream)
    take(stream, users, items, np.full(n, LIKE), time)
    alone = refresh(copy.deepcopy(made), stream)
    np.testing.assert_allclose(alone.weights, other.weights, atol=5e-3)  # one item more has a share of all likes
    take(stream, users, np.full(n, 41), np.full(n, LIKE), time)
    refresh(made, stream)
    assert np.abs(made.weights - other.weights).max() > 0.01
