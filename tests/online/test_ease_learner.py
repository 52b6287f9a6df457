"""SignedEASE under a stream is a refit at every moment."""

import copy
import functools

import edge_streams as streams
import numpy as np
import pytest
import torch
from edge_streams import Stream
from hypothesis import given, settings
from refusals import check_refused

from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER, UNLIKE
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.ease import EaseLearner
from recbole_signed.live.learners.neighbours import NEAR

WEIGHT, RIDGE = -0.7, 5.0


@functools.cache
def base() -> EaseLearner:
    return streams.fitted(EaseLearner(WEIGHT, RIDGE), streams.small_stream())


def dense(stream: Stream, weight: float = WEIGHT) -> tuple[np.ndarray, np.ndarray]:
    """Return the inverse and the scores, by the definition."""
    signs = stream.signs()
    x = np.where(signs > 0, 1.0, 0.0) + weight * np.where(signs < 0, 1.0, 0.0)
    inverse = np.linalg.inv(x.T @ x + RIDGE * np.eye(x.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return inverse, x @ weights


@settings(max_examples=60)
@given(streams.batches)
def test_events_leave_what_a_refit_would(moves: list[list[streams.Move]]) -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    for batch in moves:
        learner.update(stream.edges, stream.take(batch))
        inverse, scores = dense(stream)
        assert np.abs(learner.inverse.numpy() - inverse).max() < 1e-5
        assert np.abs(learner.scores(stream.edges, stream.everyone).numpy() - scores).max() < 1e-4
    streams.check_every_way_is_the_same(base(), moves, 1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_every_weight_of_a_dislike(weight: float) -> None:
    stream = streams.small_stream()
    learner = streams.fitted(EaseLearner(weight, RIDGE), stream)
    streams.follow(learner, stream, [[(3, 4, DISLIKE)], [(3, 4, LIKE)], [(40, 30, DISLIKE), (40, 2, LIKE)]])
    inverse, scores = dense(stream, weight)
    np.testing.assert_allclose(learner.inverse.numpy(), inverse, atol=1e-6)
    np.testing.assert_allclose(learner.scores(stream.edges, stream.everyone).numpy(), scores, atol=1e-5)


def test_neighbours_are_the_items_of_the_largest_partial_correlations() -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    streams.follow(learner, stream, [[(3, 4, DISLIKE), (40, 30, LIKE), (40, 2, LIKE), (5, 30, LIKE)]])
    inverse, _ = dense(stream)
    items = np.array([4, 30, 2])
    for item, ids, cosines in zip(items, *learner.neighbours(items), strict=True):
        wanted = -inverse[item] / np.sqrt(np.diag(inverse) * inverse[item, item])
        wanted[[0, item]] = -1.0
        best = np.argsort(-wanted, kind="stable")[:NEAR]
        best = best[wanted[best] > 1e-4]
        np.testing.assert_allclose(cosines[: len(best)], wanted[best], atol=2e-4)
        np.testing.assert_allclose(wanted[ids[: len(best)]], wanted[best], atol=2e-4)
        assert not ids[len(best) :].any()
        assert learner.similar(int(item), 2)[0].tolist() == ids[:2].tolist()


def test_rounding_adds_up_slowly_and_a_refresh_takes_it_away() -> None:
    stream = Stream(61, 41, streams.random_moves(61, 41))
    learner = streams.fitted(EaseLearner(WEIGHT, RIDGE), stream)
    rng = np.random.default_rng(3)
    for _ in range(500):
        kind = int(rng.choice([LIKE, DISLIKE, UNLIKE]))
        learner.update(stream.edges, stream.take([(int(rng.integers(1, 61)), int(rng.integers(1, 41)), kind)]))
    inverse, _ = dense(stream)
    before = np.abs(learner.inverse.numpy() - inverse).max()
    assert before < 1e-4 * np.abs(inverse).max()
    assert 0 < learner.refresh(stream.edges.export(), *stream.sizes).staleness < 1e-4
    assert np.abs(learner.inverse.numpy() - inverse).max() < before
    assert learner.refresh(stream.edges.export(), *stream.sizes).staleness == 0


def test_a_few_users_are_updated_and_many_are_refitted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    fits, fit = [], learner.fit
    monkeypatch.setattr(learner, "fit", lambda *args: (fits.append(1), fit(*args))[1])
    learner.update(stream.edges, stream.take([(1, 3, DISLIKE), (2, 5, LIKE)]))
    assert not fits
    learner.update(stream.edges, stream.take([(user, 7, DISLIKE) for user in range(1, 20)]))
    assert fits
    np.testing.assert_allclose(learner.inverse.numpy(), dense(stream)[0], atol=1e-6)


def test_parameters_and_forgotten_users() -> None:
    assert make_learner("SignedEASE", {"dislike_weight": 0.2, "reg_weight": 3}).reg_weight == 3.0
    check_refused("reg_weigth", make_learner, "SignedEASE", {"reg_weigth": 3})
    check_refused("reg_weight is 0; it must be a number above 0", make_learner, "SignedEASE", {"reg_weight": 0})
    moves = streams.random_moves(streams.N_USERS, streams.N_ITEMS - 1)
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    learner.update(stream.edges, stream.take([(9, 0, FORGET_USER)]))
    without = Stream(streams.N_USERS, streams.N_ITEMS, [move for move in moves if move[0] != 9])
    refit = streams.fitted(EaseLearner(WEIGHT, RIDGE), without)
    torch.testing.assert_close(learner.inverse, refit.inverse, atol=1e-5, rtol=1e-4)
    assert not learner.scores(stream.edges, np.array([9])).any()
