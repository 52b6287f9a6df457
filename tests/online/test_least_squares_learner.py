"""SignediALS under a stream: half-steps of users and growing items, against dense ones."""

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
from recbole_signed.live.learners import growing_items as fold_in
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.signed_ials import LeastSquaresLearner

LIKE_WEIGHT, WEIGHT, TARGET, UNOBSERVED, REG, EXPONENT = 1.3, 0.6, -0.4, 0.2, 0.05, 0.8


def new(size: int = 6, passes: int = 15) -> LeastSquaresLearner:
    return LeastSquaresLearner(size, passes, LIKE_WEIGHT, WEIGHT, TARGET, UNOBSERVED, REG, EXPONENT)


@functools.cache
def base() -> LeastSquaresLearner:
    return streams.fitted(new(), streams.small_stream())


def solve(signs: np.ndarray, fixed: np.ndarray, gram: np.ndarray, n_fixed: int) -> np.ndarray:
    """Return the minimiser for each row of signs, float64, one row at a time."""
    result = np.zeros((len(signs), fixed.shape[1]))
    for row, own in enumerate(signs):
        like, dislike = fixed[own > 0], fixed[own < 0]
        n = len(like) + len(dislike)
        if n:
            normal = UNOBSERVED * gram + LIKE_WEIGHT * like.T @ like + WEIGHT * dislike.T @ dislike
            normal += REG * (n + UNOBSERVED * n_fixed) ** EXPONENT * np.eye(len(gram))
            right = LIKE_WEIGHT * like.sum(axis=0) + WEIGHT * TARGET * dislike.sum(axis=0)
            result[row] = np.linalg.solve(normal, right)
    return result


def check(learner: LeastSquaresLearner, stream: Stream, first: LeastSquaresLearner) -> None:
    """Hold items and scores against their definition, given the items of the last fit."""
    signs, before = stream.signs(), first.items.base.astype(np.float64)
    n_before = len(before)
    users = solve(signs[:, :n_before], before, before.T @ before, n_before)
    degree = np.abs(signs).sum(axis=0)
    known = np.zeros(len(degree))
    known[:n_before] = first.items.degree
    grown = (degree > fold_in.GROWTH * known) & ((degree <= fold_in.MAX_USERS) | (known == 0))
    first_users = np.cumsum(signs != 0, axis=0) <= fold_in.MAX_USERS
    assert set(learner.items.moved) == set(np.flatnonzero(grown))
    items = np.zeros((len(degree), before.shape[1]))
    items[:n_before] = before
    items[grown] = solve(
        (signs * first_users).T[grown], users, first.user_gram.numpy().astype(np.float64), first.n_users
    )
    np.testing.assert_allclose(learner.items.vectors, items, atol=2e-4)
    scores = solve(signs, items, items.T @ items, len(items)) @ items.T
    np.testing.assert_allclose(learner.scores(stream.edges, stream.everyone).numpy(), scores, atol=2e-4)


@settings(max_examples=40)
@given(streams.batches)
def test_events_leave_what_the_dense_half_steps_give(moves: list[list[streams.Move]]) -> None:
    stream = streams.small_stream()
    check(streams.follow(copy.deepcopy(base()), stream, moves), stream, base())
    streams.check_every_way_is_the_same(base(), moves, 1e-4)


def test_new_items_that_shrink_or_become_large(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    new_item = streams.N_ITEMS
    changes = [(user, new_item, LIKE) for user in range(1, 6)]
    streams.follow(learner, stream, [changes])
    assert new_item in learner.items.moved
    assert learner.items.vectors[new_item].any()
    monkeypatch.setattr(fold_in, "MAX_USERS", 5)
    streams.follow(learner, stream, [[(6, new_item, LIKE)]])  # it has nothing but these users
    assert learner.items.vectors[new_item].any()
    check(learner, stream, base())
    streams.follow(learner, stream, [[(6, new_item, UNLIKE)], [(user, new_item, UNLIKE) for user in range(1, 6)]])
    assert not learner.items.vectors[new_item].any()
    check(learner, stream, base())


def test_a_fit_is_at_its_minimum_and_passes_lead_back_to_it() -> None:
    stream = Stream(61, 41, streams.random_moves(61, 41))
    learner = streams.fitted(new(passes=300), stream)
    assert learner.refresh(stream.edges.export(), *stream.sizes).staleness < 1e-4
    streams.follow(learner, stream, [[(user, 3, DISLIKE) for user in range(1, 30)]])
    found = [learner.refresh(stream.edges.export(), *stream.sizes).staleness for _ in range(60)]
    assert found[0] > 0.01
    assert found[-1] < 0.02 * found[0]
    refit = streams.fitted(new(passes=400), stream)
    one, other = (each.scores(stream.edges, stream.everyone)[1:, 1:] for each in (learner, refit))
    assert float((one - other).norm() / other.norm()) < 0.03


def test_a_refresh_is_one_pass_of_dense_half_steps() -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    streams.follow(learner, stream, [[(2, 30, LIKE), (3, 30, DISLIKE), (40, 5, LIKE), (4, 5, UNLIKE)]])
    items, signs = learner.items.vectors.astype(np.float64), stream.signs()
    users = solve(signs, items, items.T @ items, len(items))
    wanted = solve(signs.T, users, users.T @ users, len(users))
    found = learner.refresh(stream.edges.export(), *stream.sizes)
    np.testing.assert_allclose(learner.items.vectors, wanted, atol=2e-4)
    assert found.staleness == pytest.approx(np.linalg.norm(wanted - items) / np.linalg.norm(wanted), rel=1e-3)
    np.testing.assert_allclose(learner.user_gram.numpy(), users.T @ users, atol=1e-3)
    learner.attach(stream.edges)
    assert not len(learner.items.moved)


def test_a_forgotten_user_leaves_nothing_but_what_the_last_refresh_learned() -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    streams.follow(learner, stream, [[(5, 30, LIKE), (6, 30, LIKE)]])
    before = learner.items.vectors[30].copy()
    streams.follow(learner, stream, [[(6, 0, FORGET_USER)]])
    assert not learner.scores(stream.edges, np.array([6])).any()
    assert not np.allclose(learner.items.vectors[30], before)
    check(learner, stream, base())


def test_parameters_and_unknown_users_and_items() -> None:
    made = make_learner("SignediALS", {"embedding_size": 5, "dislike_target": -1, "reg_exponent": 0.5})
    assert (made.size, made.problem.dislike_target, made.problem.regularisation_exponent) == (5, -1.0, 0.5)
    check_refused("no parameter 'rank'", make_learner, "SignediALS", {"rank": 3})
    stream, learner = streams.small_stream(), copy.deepcopy(base())
    scores = learner.scores(stream.edges, np.array([0, streams.N_USERS + 100]))
    assert scores.shape == (2, streams.N_ITEMS)
    assert not torch.any(scores)


@pytest.mark.parametrize(
    ("key", "value"), [("embedding_size", -3), ("n_iterations", 2.5), ("reg_weight", -1), ("like_weight", float("nan"))]
)
def test_parameters_are_in_the_ranges_of_the_model(key: str, value: float) -> None:
    check_refused(f"{key} is {value}; it must be a", make_learner, "SignediALS", {key: value})
    assert make_learner("SignediALS", {"embedding_size": np.int64(8)}).size == 8
