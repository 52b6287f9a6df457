"""Which features of a user and of an item stand behind a score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.atomic.feature_space import Features
from recbole_signed.ssf.explanation import Explanation, FeaturePart
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.user_edges import UserEdges

FloatArray = npt.NDArray[np.floating]


def explained(
    told: Explanation,
    fitted: SpectralFilter,
    user: UserEdges,
    of_item: tuple[Features | None, int, FloatArray, FloatArray],
    of_user: tuple[Features | None, int, FloatArray],
) -> Explanation:
    """Return an explanation that names features.

    Args:
        told: without them.
        fitted: the filter in force.
        user: the one user.
        of_item: features of items, the number of the item, the map from features to factors and log counts
            ``[n_features, k + 2]``, and what predicted factors are multiplied by, ``[k]``.
        of_user: features of users, the number of the user, and the map from features to R V ``[n_features, k]``.
    """
    items, item, item_map, gain = of_item
    users, number, user_map = of_user
    scale = 1.0
    if told.recency is not None:  # the taste of SSF-T is a logarithm, of which each has its part
        whole = float(fitted.exposure(user)[0, item])
        scale = (float((told.contributions - told.recency).sum()) + told.from_features) / whole if whole > 0 else 0.0
    ours: list[FeaturePart] = []
    expected = fitted.counters.expected
    if items is not None and expected is not None and expected.given[item]:
        share = float(fitted.counters.share()[item])
        factors = fitted.fold_in(user)[0].cpu().numpy()
        ours = _parts(items, item, scale * share * (item_map[:, :-2] @ (factors * gain)))
    theirs: list[FeaturePart] = []
    if users is not None and user.prior is not None and told.from_features:
        band = (fitted.response(fitted.degrees(user))[0] * fitted.vectors[item, : fitted.k]).cpu().numpy()
        share = float(user.prior.share(torch.from_numpy(user.degrees).float())[0, 0])
        theirs = _parts(users, number, scale * share * (user_map @ band))
    return replace(told, item_features=tuple(ours), user_features=tuple(theirs))


def _parts(features: Features, number: int, weights: FloatArray) -> list[FeaturePart]:
    """Return what each feature of an id adds, the largest first."""
    row = features.matrix[number]
    values = row.data * weights[row.indices]
    names = features.space.names
    order = np.argsort(-np.abs(values), kind="stable")
    named = [names[row.indices[each]] for each in order]
    return [FeaturePart(*name, float(values[each])) for name, each in zip(named, order, strict=True)]  # type: ignore[call-arg]
