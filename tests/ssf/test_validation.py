"""Ranking for validation users: the metrics, and who is given up when."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_signed.graph import SignedGraph
from recbole_signed.ssf import validation as module
from recbole_signed.ssf.shortlist import Candidate, Pieces
from recbole_signed.ssf.validation import Validation, drawn

N_ITEMS = 30


def some_users(n_users: int, metric: str = "NDCG@5", seed: int = 0) -> Validation:
    """Users with two training edges, which are hidden, and up to four held-out likes."""
    rng = np.random.default_rng(seed)
    shown = np.argsort(rng.random((n_users, N_ITEMS)), axis=1)[:, :6]
    count = rng.integers(1, 5, n_users)
    held = [np.sort(row[2 : 2 + n]) for row, n in zip(shown, count, strict=True)]
    row = np.repeat(np.arange(n_users), 2)
    graph = SignedGraph.from_edges((row, shown[:, :2].ravel()), (row[:0], row[:0]), n_users, N_ITEMS)
    keys = np.concatenate([user * N_ITEMS + items for user, items in enumerate(held)])
    hidden = torch.from_numpy(row), torch.from_numpy(shown[:, :2].ravel())
    return Validation(graph, keys, count, hidden, metric)


@pytest.mark.parametrize("metric", ["SignedNDCG@5", "SignedRecall@3", "SignedHit@4"])
def test_a_held_out_dislike_in_the_list_costs_gamma(metric: str) -> None:
    validation = some_users(37, metric)
    rng = np.random.default_rng(5)
    others = rng.permutation(np.setdiff1d(np.arange(37 * N_ITEMS), validation.like_keys))[:150]
    validation = replace(validation, gamma=0.5, dislike_keys=np.sort(others))
    candidate = noisy(validation, 2.0, 1)
    (standing,) = validation.contest([candidate])
    np.testing.assert_allclose(standing.per_user, by_hand(validation, candidate(Pieces(slice(0, 37)))))


def noisy(validation: Validation, noise: float, seed: int, ranked: list[int] | None = None) -> Candidate:
    """Scores that know the held-out likes, but for some noise."""
    truth = np.zeros(validation.n_users * N_ITEMS)
    truth[validation.like_keys] = 1.0
    scores = truth + noise * np.random.default_rng(seed).standard_normal(len(truth))
    table = torch.from_numpy(scores.reshape(-1, N_ITEMS)).float()

    def score(pieces: Pieces) -> torch.Tensor:
        if ranked is not None:
            ranked.append(pieces.rows.stop - pieces.rows.start)
        return table[pieces.rows].clone()

    return score


def by_hand(validation: Validation, scores: torch.Tensor) -> list[float]:
    """Return the metric of each user; a dislike in the list costs gamma."""
    metric, k = validation.metric, int(validation.metric[-1])
    weights = 1 / np.log2(np.arange(k) + 2) if "NDCG" in metric else np.ones(k)
    values = []
    for user, n in enumerate(validation.like_count):
        own = scores[user].clone()
        own[validation.users.likes[user].indices] = -torch.inf
        order = user * N_ITEMS + own.argsort(descending=True)[:k].numpy()
        likes, dislikes = np.isin(order, validation.like_keys), np.isin(order, validation.dislike_keys)
        if "Hit" in metric:
            values.append(likes.any() - validation.gamma * dislikes.any())
        else:
            best = weights[:n].sum() if "NDCG" in metric else n
            values.append(weights @ (likes - validation.gamma * dislikes) / best)
    return values


@pytest.mark.parametrize("cells", [1, 10 * N_ITEMS, 10**6])
@pytest.mark.parametrize("metric", ["NDCG@5", "Recall@3"])
def test_the_metric_of_each_user_is_what_it_is_by_hand(
    metric: str, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CELLS", cells)
    validation = some_users(37, metric)
    candidate = noisy(validation, 0.7, 1)
    (standing,) = validation.contest([candidate])
    wanted = by_hand(validation, candidate(Pieces(slice(0, 37))))
    np.testing.assert_allclose(standing.per_user, wanted)
    assert standing.value == pytest.approx(np.mean(wanted))


def test_a_hidden_like_is_no_hit_where_the_list_is_longer_than_what_is_open() -> None:
    validation = some_users(3, f"Recall@{N_ITEMS}")
    row, item = (np.divmod(np.sort(validation.like_keys), N_ITEMS)[each] for each in (0, 1))
    validation = replace(validation, hidden=(torch.from_numpy(row), torch.from_numpy(item)))
    assert not validation.values([noisy(validation, 0.7, 1)]).any()


def test_what_is_clearly_behind_is_given_up_early_and_its_value_estimated() -> None:
    validation = some_users(800)
    ranked: list[list[int]] = [[], [], []]
    noises = (0.5, 0.45, 3.0)
    candidates = [noisy(validation, noise, number, ranked[number]) for number, noise in enumerate(noises)]
    standings = validation.contest(candidates)
    assert standings[2].per_user is None
    assert sum(ranked[2]) == module.FIRST_ROUND
    alone = validation.contest(candidates[2:])[0].value
    assert standings[2].value == pytest.approx(alone, rel=0.2)
    best = max(standings, key=lambda each: each.value)
    assert best.per_user is not None
    assert best.value == pytest.approx(best.per_user.mean())
    assert best.value == max(validation.contest([each])[0].value for each in candidates)


def test_a_champion_that_leads_ends_the_others_early() -> None:
    validation = some_users(800)
    champion = validation.contest([noisy(validation, 0.2, 0)])[0]
    ranked: list[int] = []
    (standing,) = validation.contest([noisy(validation, 0.8, 1, ranked)], champion.per_user)
    assert (standing.per_user, sum(ranked)) == (None, module.FIRST_ROUND)
    assert standing.value < champion.value
    (equal,) = validation.contest([noisy(validation, 0.2, 0)], champion.per_user)
    np.testing.assert_array_equal(equal.per_user, champion.per_user)


@settings(max_examples=25)
@given(st.integers(1, 30), st.lists(st.floats(0, 2), min_size=1, max_size=4), st.integers(0, 1000))
def test_somebody_is_left_and_nobody_given_up_is_above(n_users: int, noises: list[float], seed: int) -> None:
    validation = some_users(n_users, seed=seed)
    standings = validation.contest([noisy(validation, each, seed + place) for place, each in enumerate(noises)])
    best = max((each.value for each in standings if each.per_user is not None), default=None)
    assert best is not None
    assert all(each.value <= best for each in standings)


def test_what_candidates_share_is_made_once_for_some_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_ROUND", 10)
    validation = some_users(40)
    made: list[slice] = []

    def make(rows: slice) -> torch.Tensor:
        made.append(rows)
        return torch.zeros(rows.stop - rows.start, N_ITEMS)

    def shares(pieces: Pieces) -> torch.Tensor:
        return pieces.get("zeros", make) + 0.0

    validation.contest([shares, shares, shares])
    assert made == [slice(0, 10), slice(10, 20), slice(20, 40)]


def test_only_the_two_pieces_asked_for_last_are_kept_or_one_alone() -> None:
    pieces, made = Pieces(slice(0, 3)), list[str]()

    def ask(key: str, *, alone: bool = False) -> None:
        pieces.get(key, lambda rows: (made.append(key), torch.zeros(3, 1))[1], alone=alone)

    for key in ("shared", "a", "shared", "a", "shared", "b", "shared"):
        ask(key)
    assert made == ["shared", "a", "b"]
    assert list(pieces.made) == ["b", "shared"]
    ask("a")
    assert list(pieces.made) == ["shared", "a"]
    ask("a", alone=True)
    assert made == ["shared", "a", "b", "a"]
    ask("c", alone=True)
    assert list(pieces.made) == ["c"]


def test_users_are_drawn_at_random_and_the_same_each_time() -> None:
    users = np.arange(1000)
    some = drawn(users, 100)
    assert len(set(some)) == 100
    assert some.tolist() == drawn(users, 100).tolist() != sorted(some)
    assert sorted(drawn(users, 5000)) == users.tolist()


def test_who_is_drawn_follows_from_names_not_from_numbers() -> None:
    names = np.array([f"user {number}" for number in range(1000)], dtype=object)
    other = np.random.default_rng(3).permutation(1000)
    first = names[drawn(np.arange(1000), 100, names)]
    second = names[other][drawn(np.arange(1000), 100, names[other])]
    assert first.tolist() == second.tolist() != sorted(first)


def test_few_users_are_too_few_to_give_anybody_up() -> None:
    validation = some_users(int(module.FIRST_ROUND * 1.2))
    standings = validation.contest([noisy(validation, noise, 0) for noise in (0.1, 5.0)])
    assert all(each.per_user is not None for each in standings)
