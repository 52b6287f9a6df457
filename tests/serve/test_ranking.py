"""What a request lays over the edges of a state, and what is told of the place of an item."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import edge_streams as streams
import numpy as np
import pytest
from edge_streams import Stream

from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, SKIP
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.ranking import Judged, with_parameters
from recbole_signed.live.serve import ranking


def scoring(table: np.ndarray) -> Any:
    """Return a learner that scores the pairs of users and items so."""
    return SimpleNamespace(pair_scores=lambda edges, users, items: table[users[:, None], items])


def test_every_model_has_a_strength_of_dislikes_to_change_and_ssf_an_aversion() -> None:
    """An experiment on what a model lacks would compare a ranking with itself."""
    for model in ("SSF", "Pop"):
        learner = make_learner(model, {"dislike_strength": 0})
        assert with_parameters(learner, {"dislike_strength": 0.5}).dislike_strength == 0.5
        assert learner.dislike_strength == 0
    with pytest.raises(UsageError, match="Pop has no parameter 'dislike_aversion' that can be changed at query time"):
        with_parameters(make_learner("Pop"), {"dislike_aversion": 2.0})


def test_the_last_verdict_of_a_session_on_an_item_counts() -> None:
    items, kinds = np.array([3, 5, 7, 3]), np.array([LIKE, LIKE, DISLIKE, DISLIKE], dtype=np.int8)
    edges = ranking.session_edges(Stream(3, 9, [(1, 2, LIKE)]).edges, items, kinds)
    row = edges.of_user(ranking.SESSION)
    assert dict(zip(row.ids.tolist(), row.kind.tolist(), strict=True)) == {3: DISLIKE, 5: LIKE, 7: DISLIKE}
    rows = edges.of_users(np.array([ranking.SESSION]), times=True)
    assert rows.ids[rows.timestamp.argmax()] == 3


def test_a_session_leaves_the_edges_of_others_as_they_are() -> None:
    """What is near to an item follows from the likes of others, each of whom had those of the session."""
    edges = ranking.session_edges(Stream(3, 9, [(1, 2, LIKE), (2, 6, LIKE)]).edges, np.array([3]), np.array([DISLIKE]))
    assert edges.of_users(np.array([1, 2])).ids.tolist() == [2, 6]
    assert edges.of_user(2).ids.tolist() == [6]
    assert edges.of_users(np.array([ranking.SESSION] * 2)).ids.tolist() == [3, 3]


@pytest.mark.parametrize("laid_over", ["a session", "without an item"])
def test_what_a_request_lays_over_the_edges_is_judged_as_an_event_would_be(laid_over: str) -> None:
    """What is near to what was read from the one row that was laid over the edges, as if all users had it."""
    stream = streams.large_stream()
    learner = streams.fitted(make_learner("SSF", {"rank": 12}), stream)
    items, kinds = np.array([3, 5, 9, 14]), np.array([LIKE, LIKE, LIKE, DISLIKE], dtype=np.int8)
    moves = [(301, int(item), int(kind)) for item, kind in zip(items, kinds, strict=True)]
    if laid_over == "a session":
        edges, who = ranking.session_edges(stream.edges, items, kinds), ranking.SESSION
        streams.follow(learner, stream, [moves])
    else:
        streams.follow(learner, stream, [moves])
        edges, who = ranking.edges_without(stream.edges, 301, 0), 301
    wanted = Judged(learner, stream.edges, np.array([301])).fallen
    found = Judged(learner, edges, np.array([who])).fallen
    assert len(wanted) > 5
    assert found.item.tolist() == wanted.item.tolist()
    np.testing.assert_allclose(found.pull, wanted.pull, rtol=0.05)
    without = ranking.edges_without(stream.edges, 301, 14)
    assert not len(Judged(learner, without, np.array([301])).fallen)


def test_sums_do_not_depend_on_the_order_of_their_summands() -> None:
    rng = np.random.default_rng(0)
    weights = np.exp2(-rng.exponential(3.0, (50, 400)))
    sums = [np.add.accumulate(rng.permuted(weights, axis=1), axis=1)[:, -1] for _ in range(2)]
    assert (sums[0] != sums[1]).any()
    for unit in (1.0, 1e-200, 0.0):
        one, other = (ranking.without_rounding(each * unit) for each in sums)
        assert (one == other).all()
        np.testing.assert_allclose(one, sums[0] * unit, rtol=1e-10)


def test_without_an_edge_a_user_is_one_who_never_had_it() -> None:
    stream = Stream(3, 9, [(2, 2, LIKE)])
    stream.take([(1, 2, LIKE), (1, 3, DISLIKE), (1, 4, SKIP), (1, 5, LIKE)], [1, 5, 6, 9])
    without = ranking.edges_without(stream.edges, 1, 5)
    assert without.of_user(1).ids.tolist() == [2, 3, 4]
    rows = without.of_users(np.array([1]), times=True)
    assert (rows.ids.tolist(), rows.timestamp.tolist()) == ([2, 3, 4], [1, 5, 6])


def test_ties_count_one_half_in_the_percentile_of_an_item() -> None:
    scores = np.array([[0.0, 1, 2, 2, 2, 3, 4, 4, 5]] * 2)
    edges = Stream(2, 9, [(1, 1, LIKE)]).edges
    for item, share in ((1, 0.5), (3, 1 + 1.5), (8, 7.5)):  # the item is one of the eight, too
        assert ranking.percentile(scoring(scores), edges, 1, item) == share / 8
        assert ranking.percentile(scoring(scores), edges, 1, item, counts=scores[0]) == share / 8


def test_the_audience_of_an_item_has_edges_and_none_to_it() -> None:
    edges = Stream(6, 9, [(1, 3, DISLIKE), (2, 4, LIKE), (3, 1, LIKE), (4, 3, LIKE), (4, 5, LIKE)]).edges
    scores = np.tile(np.arange(9.0), (6, 1))
    scores[:, 3] = [9, 9, 2.5, 6.5, 9, 9]
    users, below = ranking.audience(scoring(scores), edges, 3, 5)
    assert users.tolist() == [3, 2]
    assert below.tolist() == [5 / 8, 2 / 8]


def test_the_audience_is_looked_for_among_users_of_all_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "AUDIENCE", 10)
    edges = Stream(20, 4, [(user, 1, LIKE) for user in range(1, 20)]).edges
    users, _ = ranking.audience(scoring(np.tile(np.arange(4.0), (20, 1))), edges, 3, 19)
    assert users.tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]


def test_torch_may_take_the_items_of_an_audience_of_one_user() -> None:
    edges = Stream(2, 9, [(1, 1, LIKE)]).edges
    writeable = []

    def pair_scores(edges: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        writeable.append(items.flags.writeable)  # torch warns of undefined behaviour otherwise
        return np.zeros(items.shape)

    ranking.audience(SimpleNamespace(pair_scores=pair_scores), edges, 3, 5)  # type: ignore[arg-type]
    assert writeable == [True]
