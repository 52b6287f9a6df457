"""Learners without gradients under a stream, against the definition of each, user by user and item by item.

Those of SSF are in ``tests/ssf``.
"""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import edge_streams as streams
import numpy as np
import pytest
from edge_streams import Move, Stream
from hypothesis import example, given, settings
from refusals import check_refused

from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, UNLIKE
from recbole_signed.live.learners import growing_items, make_learner
from recbole_signed.live.learners.base import Learner
from recbole_signed.live.learners.ease import EaseLearner
from recbole_signed.live.learners.signed_ials import LeastSquaresLearner

RIDGE = 5.0
LIKE_WEIGHT, WEIGHT, TARGET, UNOBSERVED, REG, EXPONENT = 1.3, 0.6, -0.4, 0.2, 0.05, 0.8
HALF_LIFE = 1e-6
"""Eighty-six events of a stream: a millisecond each."""


def least_squares(size: int = 6, passes: int = 15) -> LeastSquaresLearner:
    return LeastSquaresLearner(size, passes, LIKE_WEIGHT, WEIGHT, TARGET, UNOBSERVED, REG, EXPONENT)


def dense(stream: Stream, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the inverse of SignedEASE and its scores."""
    signs = stream.signs()
    x = np.where(signs > 0, 1.0, 0.0) + weight * np.where(signs < 0, 1.0, 0.0)
    inverse = np.linalg.inv(x.T @ x + RIDGE * np.eye(x.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return inverse, x @ weights


def check_inverse(learner: EaseLearner, stream: Stream, _: Any = None) -> None:
    inverse, scores = dense(stream, learner.dislike_weight)
    np.testing.assert_allclose(learner.inverse.numpy(), inverse, atol=1e-5)
    np.testing.assert_allclose(learner.scores(stream.edges, stream.everyone).numpy(), scores, atol=1e-4)


def solve(signs: np.ndarray, fixed: np.ndarray, gram: np.ndarray, n_fixed: int) -> np.ndarray:
    """Return the minimiser of SignediALS for each row of signs, float64, one row at a time."""
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


def check_half_steps(learner: LeastSquaresLearner, stream: Stream, first: LeastSquaresLearner) -> None:
    """Hold items and scores against their definition, given the items of the last fit."""
    signs, before = stream.signs(), first.items.base.astype(np.float64)
    n_before = len(before)
    users = solve(stream.lasting_signs()[:, :n_before], before, before.T @ before, n_before)
    degree = np.abs(signs).sum(axis=0)
    known = np.zeros(len(degree))
    known[:n_before] = first.items.degree
    most = growing_items.MAX_USERS
    grown = (degree > growing_items.GROWTH * known) & ((degree <= most) | (known == 0))
    first_users = np.cumsum(signs != 0, axis=0) <= most
    assert set(learner.items.moved) == set(np.flatnonzero(grown))
    items = np.zeros((len(degree), before.shape[1]))
    items[:n_before] = before
    gram = first.user_gram.numpy().astype(np.float64)
    items[grown] = solve((signs * first_users).T[grown], users, gram, first.n_users)
    np.testing.assert_allclose(learner.items.vectors, items, atol=2e-4)
    scores = solve(signs, items, items.T @ items, len(items)) @ items.T
    np.testing.assert_allclose(learner.scores(stream.edges, stream.everyone).numpy(), scores, atol=2e-4)


def check_counts(learner: Learner, stream: Stream, _: Any = None) -> None:
    """Hold the share that each item has of all scores against its likes, or what their ages leave of them."""
    edges = stream.edges.export()
    latest, wanted = int(edges.timestamp.max()), np.zeros(stream.edges.n_items)
    for item, kind, time in zip(edges.item, edges.kind, edges.timestamp, strict=True):
        if kind == LIKE:
            wanted[item] += 1.0 if learner.name == "Pop" else 2.0 ** ((time - latest) / 86_400_000 / HALF_LIFE)
    for row in learner.scores(stream.edges, np.array([0, 3, streams.N_USERS + 50])).numpy():
        np.testing.assert_allclose(row / row.sum(), wanted / wanted.sum(), atol=1e-6)


@dataclass(frozen=True)
class Case:
    """A learner, what holds it against its definition, and the parameters that are refused, with the message."""

    make: Callable[[], Learner]
    check: Callable[[Any, Stream, Any], None]
    tolerance: float = 1e-4
    wrong: dict[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    f"SignedEASE {weight}": Case(
        functools.partial(EaseLearner, weight, RIDGE), check_inverse, wrong={"reg_weigth": 3, "reg_weight": 0}
    )
    for weight in (-0.7, 0.0, 0.5, 1.0)
}
CASES["SignediALS"] = Case(
    least_squares,
    check_half_steps,
    wrong={"rank": 3, "embedding_size": -3, "n_iterations": 2.5, "reg_weight": -1, "like_weight": float("nan")},
)
CASES["Pop"] = Case(functools.partial(make_learner, "Pop"), check_counts, 1e-6)
CASES["DecayPop"] = Case(
    functools.partial(make_learner, "DecayPop", {"half_life": HALF_LIFE}), check_counts, 1e-6, {"half_life": 0}
)


@functools.cache
def base(name: str) -> Any:
    return streams.fitted(CASES[name].make(), streams.small_stream())


MANY: list[list[Move]] = [
    [(user, 7, DISLIKE) for user in range(1, 20)],
    [(1, item, kind) for item in (3, 4, 6) for kind in (LIKE, DISLIKE)],
]


@pytest.mark.parametrize("name", list(CASES))
@settings(max_examples=20)
@given(streams.batches)
@example(MANY)
def test_events_leave_what_the_definition_gives(name: str, moves: list[list[Move]]) -> None:
    """Of users and items that are new, forgotten or as they were, whichever way events came."""
    case, stream, learner = CASES[name], streams.small_stream(), copy.deepcopy(base(name))
    for batch in moves:
        streams.follow(learner, stream, [batch])
        case.check(learner, stream, base(name))
    streams.check_every_way_is_the_same(base(name), moves, case.tolerance)


@pytest.mark.parametrize("name", list(CASES))
def test_parameters_are_those_that_were_given_and_in_their_ranges(name: str) -> None:
    model, case = name.split()[0], CASES[name]
    made = case.make()
    assert make_learner(model, made.parameters()).parameters() == made.parameters()
    for key, value in case.wrong.items():
        check_refused(f"{key}( is {value}; it must be a|')", make_learner, model, {**made.parameters(), key: value})


def test_neighbours_are_the_items_of_the_largest_partial_correlations() -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base("SignedEASE -0.7"))
    streams.follow(learner, stream, [[(3, 4, DISLIKE), (40, 30, LIKE), (40, 2, LIKE), (5, 30, LIKE)]])
    inverse, _ = dense(stream, -0.7)
    for item in (4, 30, 2):
        wanted = -inverse[item] / np.sqrt(np.diag(inverse) * inverse[item, item])
        wanted[[0, item]] = -1.0
        best = np.argsort(-wanted, kind="stable")[:7]
        best = best[wanted[best] > 1e-4]
        ids, cosines = learner.similar(item, 7)
        np.testing.assert_allclose(cosines, wanted[best], atol=2e-4)
        np.testing.assert_allclose(wanted[ids], wanted[best], atol=2e-4)
        assert learner.similar(item, 2)[0].tolist() == ids[:2].tolist()
    assert not len(base("Pop").similar(5, 3)[0])


def test_rounding_adds_up_slowly_and_a_refresh_takes_it_away() -> None:
    stream = Stream(61, 41, streams.random_moves(61, 41))
    learner = streams.fitted(EaseLearner(-0.7, RIDGE), stream)
    rng = np.random.default_rng(3)
    for _ in range(500):
        kind = int(rng.choice([LIKE, DISLIKE, UNLIKE]))
        streams.follow(learner, stream, [[(int(rng.integers(1, 61)), int(rng.integers(1, 41)), kind)]])
    inverse, _ = dense(stream, -0.7)
    before = np.abs(learner.inverse.numpy() - inverse).max()
    assert before < 1e-4 * np.abs(inverse).max()
    assert 0 < learner.refresh(stream.edges.export(), *stream.sizes).staleness < 1e-4
    assert np.abs(learner.inverse.numpy() - inverse).max() < before
    for exact in (learner, copy.deepcopy(base("Pop"))):
        assert exact.refresh(stream.edges.export(), *stream.sizes).staleness == 0


def test_new_items_that_shrink_or_become_large(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, learner, new_item = streams.small_stream(), copy.deepcopy(base("SignediALS")), streams.N_ITEMS
    fans = range(1, 6)
    for most, batch, there in (
        (growing_items.MAX_USERS, [(user, new_item, LIKE) for user in fans], True),
        (5, [(6, new_item, LIKE)], True),  # it has nothing but these users
        (5, [(6, new_item, UNLIKE)], True),
        (5, [(user, new_item, UNLIKE) for user in fans], False),
    ):
        monkeypatch.setattr(growing_items, "MAX_USERS", most)
        streams.follow(learner, stream, [batch])
        assert learner.items.vectors[new_item].any() == there
        check_half_steps(learner, stream, base("SignediALS"))


def test_a_fit_is_at_its_minimum_and_passes_lead_back_to_it() -> None:
    stream = Stream(61, 41, streams.random_moves(61, 41))
    learner = streams.fitted(least_squares(passes=300), stream)
    assert learner.refresh(stream.edges.export(), *stream.sizes).staleness < 1e-4
    streams.follow(learner, stream, [[(user, 3, DISLIKE) for user in range(1, 30)]])
    found = [learner.refresh(stream.edges.export(), *stream.sizes).staleness for _ in range(60)]
    assert found[0] > 0.01
    assert found[-1] < 0.02 * found[0]
    refit = streams.fitted(least_squares(passes=400), stream)
    one, other = (each.scores(stream.edges, stream.everyone)[1:, 1:] for each in (learner, refit))
    assert float((one - other).norm() / other.norm()) < 0.03


def test_a_refresh_is_one_pass_of_dense_half_steps() -> None:
    stream, learner = streams.small_stream(), copy.deepcopy(base("SignediALS"))
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
