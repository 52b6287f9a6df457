"""Users and items of a synthetic graph: how many edges each has, its tastes and when it is active."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from recbole_signed.lab.synth.profile import Degrees, Profile
from recbole_signed.lab.synth.streams import stream

_BISECTIONS = 60
_FULLEST = 0.6


@dataclass(frozen=True)
class Users:
    """Arrays ``[n_users]``."""

    degree: np.ndarray
    """int64; their sum is the number of edges."""
    start: np.ndarray
    """float32: when the user comes, a share of the window."""
    life: np.ndarray
    """float32: for how long it stays."""
    home: np.ndarray
    """int16: main taste cluster."""
    second: np.ndarray
    """int16: the cluster of a third of its choices, and of most of them after ``switch``."""
    switch: np.ndarray
    """float32: when the two change places; 2 (never) for most."""
    effect: np.ndarray
    """float32: on the logit of a like."""


@dataclass(frozen=True)
class Items:
    """Arrays ``[n_items]``."""

    degree: np.ndarray
    """int64; their sum is the number of edges."""
    cluster: np.ndarray
    """int16."""
    fading: np.ndarray
    """float32: popularity is ~ exp(-fading * t), t a share of the window."""
    born: np.ndarray
    """float32: when the item appears, a share of the window; 0 for most."""
    effect: np.ndarray
    """float32: on the logit of a like."""


def make_items(profile: Profile, n_items: int, n_users: int, n_edges: int, seed: int) -> Items:
    """Draw the items."""
    rng = stream(seed, "items")
    degree = degrees(profile.item_degrees, n_items, n_edges, n_users, rng)
    log_degree = np.log(degree)
    effect = profile.item_effect * _normal(rng, n_items)
    return Items(
        degree=degree,
        cluster=(rng.random(n_items) * profile.clusters).astype(np.int16),
        fading=(profile.item_drift * _normal(rng, n_items)).astype(np.float32),
        born=np.where(rng.random(n_items) < profile.item_births, rng.random(n_items), 0).astype(np.float32),
        effect=(effect + profile.popularity_effect * (log_degree - log_degree.mean())).astype(np.float32),
    )


def make_users(profile: Profile, n_users: int, items: Items, n_edges: int, seed: int) -> Users:
    """Draw the users, whose clusters are as frequent as the edges of the items in them."""
    rng = stream(seed, "users")
    n_items = len(items.degree)
    life = -profile.user_life * np.log1p(-rng.random(n_users))
    mass = np.cumsum(np.bincount(items.cluster, weights=items.degree, minlength=profile.clusters))
    home, second = (np.searchsorted(mass, rng.random(n_users) * mass[-1], side="right") for _ in range(2))
    return Users(
        degree=degrees(profile.user_degrees, n_users, n_edges, n_items, rng),
        start=np.where(life >= 1, 0, rng.random(n_users)).astype(np.float32),
        life=life.astype(np.float32),
        home=home.astype(np.int16),
        second=second.astype(np.int16),
        switch=np.where(rng.random(n_users) < profile.taste_drift, rng.random(n_users), 2).astype(np.float32),
        effect=(profile.user_effect * _normal(rng, n_users)).astype(np.float32),
    )


def degrees(shape: Degrees, n: int, total: int, partners: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a degree sequence int64 ``[n]`` of the given sum, which is ``n`` or more.

    No degree exceeds the profile's ceiling, or 60% of the ``partners`` that the node can have, by more than one.
    """
    cap = min(int(shape.ceiling * total / n), int(_FULLEST * partners))
    uniform = rng.random(n)
    if shape.family == "lognormal":
        excess = np.exp(shape.spread * ndtri(np.maximum(uniform, 2.0**-54)))
    elif shape.family == "weibull":
        excess = (-np.log1p(-uniform)) ** (1 / shape.spread)
    else:
        raise ValueError(f"unknown family of degrees: {shape.family}")
    low, high = 0.0, 1.0
    while np.minimum(shape.floor - 1 + high * excess, cap).sum() < total and high < 1e9:
        high *= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if np.minimum(shape.floor - 1 + middle * excess, cap).sum() < total:
            low = middle
        else:
            high = middle
    wanted = np.minimum(shape.floor - 1 + high * excess, cap)
    degree = np.maximum(np.floor(wanted + rng.random(n)), 1).astype(np.int64)
    while missing := total - int(degree.sum()):  # rounding leaves a few too many or too few
        can_change = np.flatnonzero(degree < cap if missing > 0 else degree > 1)
        chosen = can_change[rng.permutation(len(can_change))[: abs(missing)]]
        degree[chosen] += np.sign(missing)
    return degree


def _normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return ndtri(np.maximum(rng.random(n), 2.0**-54))
