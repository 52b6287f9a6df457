"""The features of a data set in a model of the family: what is learned from them, and which stand behind a score."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.atomic.feature_space import Features
from recbole_signed.graph import SignedGraph
from recbole_signed.model.training_free import make_room
from recbole_signed.sequences import IntArray
from recbole_signed.ssf.explanation import Explanation, FeaturePart
from recbole_signed.ssf.feature_search import tune_features
from recbole_signed.ssf.features import FeatureSettings, ItemPrediction, gains, item_sums, user_prior, user_sums
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.settings import FilterSettings
from recbole_signed.ssf.user_edges import UserEdges, UserPrior
from recbole_signed.ssf.validation import Validation

FloatArray = npt.NDArray[np.floating]


class FeatureMaps(torch.nn.Module):
    """The features of a data set in a model: their settings, and what is learned from them."""

    def __init__(self, items: Features | None, users: Features | None, settings: FeatureSettings) -> None:
        super().__init__()
        self.item_map: torch.Tensor
        self.user_map: torch.Tensor
        self.chosen: torch.Tensor
        self.items, self.users = items, users
        for name, side in (("item_map", items), ("user_map", users)):
            self.register_buffer(name, torch.zeros(0 if side is None else side.matrix.shape[1], 0))
        self.register_buffer("chosen", settings.to_tensor())

    @property
    def settings(self) -> FeatureSettings:
        """The parameters in force."""
        return FeatureSettings.from_tensor(self.chosen)

    def tune(
        self,
        graph: SignedGraph,
        validation: Validation,
        settings: FilterSettings,
        iterations: int,
        fixed: Collection[str] = (),
        fitted: SpectralFilter | None = None,
    ) -> str:
        """Choose the parameters as `feature_search.tune_features` does; return what was chosen, in words."""
        items, users = (None if features is None else features.matrix for features in (self.items, self.users))
        tuned = tune_features(graph, validation, settings, items, users, self.settings, iterations, fixed, fitted)
        self.chosen = tuned.settings.to_tensor().to(self.item_map.device)
        return tuned.said

    def learn(self, fitted: SpectralFilter, graph: SignedGraph) -> None:
        """Learn from the items and users with edges what features predict."""
        s, device = self.settings, self.chosen.device
        if self.items is not None and s.predict_items:
            self.item_map = torch.from_numpy(item_sums(fitted, self.items.matrix).solve(s.feature_ridge)).to(device)
        if self.users is not None and s.predict_users:
            learned = user_sums(fitted, graph, self.users.matrix).solve(s.user_feature_ridge)
            self.user_map = torch.from_numpy(learned).to(device)

    def applied(self, fitted: SpectralFilter) -> SpectralFilter:
        """Return the filter with what the features of items say."""
        if self.items is None or not self.item_map.numel() or not self.settings.predict_items:
            return fitted
        return ItemPrediction.from_features(
            fitted, self.items.matrix, self.item_map.cpu().numpy(), self.settings
        ).applied(fitted)

    def prior(self, users: npt.NDArray[np.int64]) -> UserPrior | None:
        """Return what features say of users by their numbers; None for nothing."""
        if self.users is None or not self.user_map.numel() or not self.settings.predict_users:
            return None
        return user_prior(self.users.matrix[users], self.user_map.cpu().numpy(), self.settings)

    def explained(
        self, explanations: Sequence[Explanation], fitted: SpectralFilter, user: UserEdges, number: int, items: IntArray
    ) -> list[Explanation]:
        """Return the ``explanations`` of items with the parts of their features and those of user ``number``."""
        gain = gains(fitted, self.settings.feature_gain).cpu().numpy()
        return explained(
            explanations,
            fitted,
            user,
            (self.items, items, self.item_map.cpu().numpy(), gain),
            (self.users, number, self.user_map.cpu().numpy()),
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        make_room(self, ("item_map", "user_map"), state_dict, prefix)
        chosen = state_dict.get(prefix + "chosen")
        if chosen is not None:  # of an older version, which had fewer settings
            state_dict[prefix + "chosen"] = torch.cat([chosen, self.chosen[len(chosen) :].to(chosen)])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def explained(
    explanations: Sequence[Explanation],
    fitted: SpectralFilter,
    user: UserEdges,
    of_items: tuple[Features | None, IntArray, FloatArray, FloatArray],
    of_user: tuple[Features | None, int, FloatArray],
) -> list[Explanation]:
    """Return the ``explanations`` of items with the features' parts."""
    # of_items: features, numbers, map to factors and log counts [n_features, k + 2], gain of predicted factors [k]
    # of_user: features, number, map to R V [n_features, k]
    items, item_numbers, item_map, gain = of_items
    users, number, user_map = of_user
    factors, response = fitted.fold_in(user), fitted.response(fitted.degrees(user))[0]
    expected, exposure = fitted.counters.expected, fitted.exposure_of(factors)[0, item_numbers].tolist()
    by_feature = (
        np.zeros(0) if items is None or expected is None else item_map[:, :-2] @ (factors[0].cpu().numpy() * gain)
    )
    shares = fitted.counters.share()[item_numbers].tolist() if len(by_feature) else []
    extended = []
    for place, (explanation, item) in enumerate(zip(explanations, item_numbers.tolist(), strict=True)):
        scale, whole = 1.0, exposure[place]
        if explanation.recency is not None:  # the taste of SSF-T is a logarithm, of which each has its part
            taste = float((explanation.contributions - explanation.recency).sum()) + explanation.from_features
            scale = taste / whole if whole > 0 else 0.0
        ours: list[FeaturePart] = []
        if items is not None and expected is not None and expected.given[item]:
            ours = _parts(items, item, scale * shares[place] * by_feature)
        theirs: list[FeaturePart] = []
        if users is not None and user.prior is not None and explanation.from_features:
            band = (response * fitted.vectors[item, : fitted.k]).cpu().numpy()
            share = float(user.prior.share(torch.from_numpy(user.degrees).float())[0, 0])
            theirs = _parts(users, number, scale * share * (user_map @ band))
        extended.append(replace(explanation, item_features=tuple(ours), user_features=tuple(theirs)))
    return extended


def _parts(features: Features, number: int, weights: FloatArray) -> list[FeaturePart]:
    """Return what each feature of an id adds, the largest first."""
    row = features.matrix[number]
    values = row.data * weights[row.indices]
    names = features.space.names
    order = np.argsort(-np.abs(values), kind="stable")
    named = [names[row.indices[place]] for place in order]
    return [FeaturePart(*name, float(values[place])) for name, place in zip(named, order, strict=True)]  # type: ignore[call-arg]
