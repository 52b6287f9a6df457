"""Likes and dislikes of a synthetic graph: a logistic model of user, item, tastes and time."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, ndtri

from recbole_signed.lab.synth.edge_model import taste
from recbole_signed.lab.synth.nodes import Items, Users
from recbole_signed.lab.synth.profile import Profile
from recbole_signed.lab.synth.streams import each_block, stream

_SAMPLE = 500_000
_BISECTIONS = 50
_OWN_CLUSTER = 2.0


def draw_signs(
    profile: Profile,
    users: Users,
    items: Items,
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    seconds: int,
    seed: int,
    threads: int,
) -> np.ndarray:
    """Draw the sign of every edge; int8 ``[n_edges]``, 1 or -1.

    logit(like) = c + user + item + taste_effect * A[cluster of user, cluster of item] + like_drift * t, where A is
    normal noise plus 2 on the diagonal, and c makes the share of likes the profile's.

    Args:
        edges: users int32, items int32 and seconds since the start of the window int64, each ``[n_edges]``.
        seconds: length of the window.
    """
    who, what, when = edges
    rng = stream(seed, "affinity")
    affinity = ndtri(np.maximum(rng.random((profile.clusters, profile.clusters)), 2.0**-54))
    affinity = (profile.taste_effect * (affinity + _OWN_CLUSTER * np.eye(profile.clusters))).astype(np.float32)

    def logit(part: slice) -> np.ndarray:
        user, item, moment = who[part], what[part], (when[part] / seconds).astype(np.float32)
        tastes = affinity[taste(users, user, moment), items.cluster[item]]
        return users.effect[user] + items.effect[item] + tastes + np.float32(profile.like_drift) * moment

    constant = _constant(logit(slice(None, None, -(-len(who) // _SAMPLE))), profile.like_share)
    signs = np.empty(len(who), np.int8)

    def draw(number: int, block: slice) -> None:
        uniform = stream(seed, "signs", number).random(block.stop - block.start, dtype=np.float32)
        signs[block] = np.where(uniform < expit(logit(block) + constant), 1, -1)

    each_block(draw, len(who), threads)
    return signs


def _constant(logit: np.ndarray, share: float) -> np.float32:
    low, high = -20.0, 20.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if expit(logit + middle).mean(dtype=np.float64) < share:
            low = middle
        else:
            high = middle
    return np.float32(high)
