"""The models of moments, tastes and signs against the formulas that their docstrings give, on a few nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import brentq
from scipy.special import expit, ndtri

from recbole_signed.lab.synth.edge_model import (
    Items,
    Users,
    draw_signs,
    item_stubs,
    make_users,
    match_tastes,
    stream,
    user_stubs,
)
from recbole_signed.lab.synth.profile import Profile, find_profile

SECONDS = 1_000_000


def users(**arrays: list[float]) -> Users:
    n = len(next(iter(arrays.values())))
    plain = {"degree": [1] * n, "start": [0] * n, "life": [9] * n, "home": [0] * n, "second": [0] * n}
    given = {**plain, "switch": [2] * n, "effect": [0] * n, **arrays}
    whole = {"degree": np.int64, "home": np.int16, "second": np.int16}
    return Users(**{name: np.array(values, whole.get(name, np.float32)) for name, values in given.items()})


def items(**arrays: list[float]) -> Items:
    n = len(next(iter(arrays.values())))
    given = {"degree": [1] * n, "cluster": [0] * n, "fading": [0] * n, "born": [0] * n, "effect": [0] * n, **arrays}
    whole = {"degree": np.int64, "cluster": np.int16}
    return Items(**{name: np.array(values, whole.get(name, np.float32)) for name, values in given.items()})


def profile(**changes: float) -> Profile:
    return replace(find_profile("kuairand"), **changes)  # type: ignore[arg-type]


def test_a_user_is_active_from_its_start_for_its_life_or_to_the_end() -> None:
    made = users(degree=[20_000, 20_000], start=[0.2, 0.9], life=[0.1, 5.0])
    who, when = user_stubs(made, SECONDS, seed=1, threads=1)
    assert (np.diff(when) >= 0).all()
    for user, (first, last) in enumerate([(0.2, 0.3), (0.9, 1.0)]):
        moments = when[who == user] / SECONDS
        assert first - 1e-6 <= moments.min() <= moments.max() < last + 1e-6
        assert moments.mean() == pytest.approx((first + last) / 2, abs=0.002), "evenly"


@pytest.mark.parametrize(("born", "fading"), [(0.0, 3.0), (0.5, 3.0), (0.5, -2.0), (0.25, 0.0)])
def test_an_item_fades_from_its_birth_on(born: float, fading: float) -> None:
    """Beside an item that is as popular throughout, a place in the order is a moment."""
    owners = item_stubs(items(degree=[2_000_000, 40_000], born=[0, born], fading=[0, fading]), seed=1, threads=1)
    steady = np.cumsum(owners == 0) / 2_000_000
    moment = np.linspace(born, 1, 100_001)
    density = np.exp(-fading * moment)
    assert steady[owners == 1].mean() == pytest.approx((moment * density).sum() / density.sum(), abs=0.005)


def test_two_thirds_of_a_users_tastes_are_of_its_main_cluster() -> None:
    """Items are as many in each cluster as are wanted, so that all get what they want."""
    n = 60_000
    who = np.repeat([0, 1], n // 2).astype(np.int32)
    what = np.tile([0, 1, 2], n // 3).astype(np.int32)
    edges = (np.random.default_rng(0).permutation(who).astype(np.int32), what, np.zeros(n, np.int64))
    made = users(home=[0, 2], second=[1, 1])
    match_tastes(profile(taste_exposure=1.0, clusters=3), made, items(cluster=[0, 1, 2]), edges, SECONDS, 1, 1)
    for user, wanted in ((0, [2 / 3, 1 / 3, 0]), (1, [0, 1 / 3, 2 / 3])):
        shares = np.bincount(edges[1][edges[0] == user], minlength=3) / (edges[0] == user).sum()
        assert shares == pytest.approx(wanted, abs=0.02)


def test_who_lives_as_long_as_the_window_is_there_from_its_beginning() -> None:
    popular = items(degree=[500] * 200)
    made = make_users(profile(user_life=1.0, clusters=1), 2_000, popular, 40_000, 1)
    assert (made.start[made.life >= 1] == 0).all()
    assert (made.start[made.life < 1] > 0).all()
    assert (made.life >= 1).mean() == pytest.approx(np.exp(-1), abs=0.04)


def test_signs_are_those_of_the_logistic_model() -> None:
    """A cell for each user, item and moment; user 1 changes its taste in between."""
    n, clusters, seed = 40_000, 2, 4
    likes = profile(clusters=clusters, taste_effect=0.7, like_drift=-0.9, like_share=0.6)
    made_users = users(home=[0, 1], second=[1, 0], switch=[2, 0.5], effect=[0.5, -1.0])
    made_items = items(cluster=[0, 1], effect=[0.3, -0.2])
    cells = [(user, item, moment) for user in (0, 1) for item in (0, 1) for moment in (0.1, 0.9)]
    who, what, when = (np.tile([cell[place] for cell in cells], n) for place in range(3))
    edges = (who.astype(np.int32), what.astype(np.int32), (when * SECONDS).astype(np.int64))
    signs = draw_signs(likes, made_users, made_items, edges, SECONDS, seed, threads=1)

    noise = ndtri(stream(seed, "affinity").random((clusters, clusters)))
    affinity = 0.7 * (noise + 2.0 * np.eye(clusters))

    def logit(user: int, item: int, moment: float) -> float:
        taste = user if moment < (2, 0.5)[user] else 1 - user
        return (0.5, -1.0)[user] + (0.3, -0.2)[item] + float(affinity[taste, item]) - 0.9 * moment

    logits: npt.NDArray[np.float64] = np.array([logit(*cell) for cell in cells])
    constant = brentq(lambda c: expit(logits + c).mean() - 0.6, -20, 20)
    found = (signs.reshape(n, len(cells)) > 0).mean(axis=0)
    assert set(np.unique(signs)) == {-1, 1}
    assert found == pytest.approx(expit(logits + constant), abs=0.013)
