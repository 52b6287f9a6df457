r"""SSFL
################################################
SSF-L: the signed spectral filter and item factors learned from its singular vectors on. Source: this package.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from recbole_signed.graph import SignedGraph
from recbole_signed.sequences import IntArray
from recbole_signed.ssf.explanation import Explanation
from recbole_signed.ssf.filter import products_of
from recbole_signed.ssf.learned_items import LearnedItems, LearnedSettings, TunedLearned, tune_learned
from recbole_signed.ssf.search import SearchResult
from recbole_signed.ssf.ssf import SSF, Derived
from recbole_signed.ssf.user_edges import UserEdges
from recbole_signed.ssf.validation import Validation

MORE = 4
"""Times ``tune_users``: users on whom the learned part is chosen."""


class SSFL(SSF):
    r"""SSF, and to its exposure score adds that of item factors learned by least squares.

    Score of item i for user u: :math:`\big((f_u(S) \odot R_u V) V_i^T + \beta\, \kappa_2\, z_u h_i^T\big)\, r_i^g\,
    \bar d_i^{\,\pi}` and a little popularity; :math:`\kappa_2` gives both parts the same root mean square. The item
    factors :math:`h_i` come from one pass of alternating least squares over likes and dislikes, from the filter's
    singular vectors on; a user :math:`z_u` is the ridge regression of its own edges on them
    (``ssf/learned_items.py``). Nothing depends on a seed, there is no user table, and a new user needs no training.
    Where no learned part is better on validation, ``learned_share`` is 0 and the scores are those of SSF.

    The pass costs :math:`O(|E| d^2 + (n_u + n_i) d^3)`. A fitted model keeps ``k + d + 2`` floats per item.
    """

    fitted = ("item_factors", "singular_values", "learned_factors")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.register_buffer("learned_factors", torch.zeros(self.n_items, 0))
        self.register_buffer("learned_unit", torch.zeros((), dtype=torch.float64))
        self.register_buffer("chosen_learned", LearnedSettings.from_mapping(config).to_tensor())
        self._gram = Derived()
        self._tuned: TunedLearned | None = None

    @property
    def learned_settings(self) -> LearnedSettings:
        """The parameters of the learned items in force."""
        return LearnedSettings.from_tensor(self.chosen_learned)

    @property
    def chosen(self) -> dict[str, float]:
        """The parameters in force by their names in the yaml: what :meth:`tune` chose, or what was set."""
        return super().chosen | asdict(self.learned_settings)

    def _choose(self, validation: Validation, valid_data: Any) -> SearchResult:
        tuned = super()._choose(validation, valid_data)
        # what is left to choose differs by little, and takes few evaluations: they can be of more users
        more = Validation.from_loader(
            valid_data, self.graph, self.valid_metric, MORE * self.tune_users, signed_gamma=self.signed_gamma
        )
        learned = tune_learned(
            self.graph, more or validation, tuned, self.learned_settings, self.iterations, self.given
        )
        self.chosen_settings = learned.tuned.settings.to_tensor().to(self.device)
        self.chosen_learned = learned.settings.to_tensor().to(self.device)
        self._tuned = learned
        return learned.tuned

    def fit(self) -> None:
        """Fit the filter, and learn the item factors; the same graph gives the same model."""
        filter_, tuned, settings = self._fit_filter(), self._tuned, self.learned_settings
        self._tuned = None
        self.learned_factors = torch.zeros(self.n_items, 0, device=self.device)  # those of an earlier fit are void
        if not settings.learned_share:
            return
        # as the filter: what the choice of parameters left is the same
        left = tuned is not None and filter_ is tuned.tuned.fitted and settings == tuned.settings
        learned = tuned.items if tuned and left else LearnedItems.fit(self.graph, filter_, settings)
        self.learned_factors = learned.factors.to(self.device)
        self.learned_unit = torch.tensor(learned.unit, dtype=torch.float64, device=self.device)

    @property
    def learned(self) -> LearnedItems:
        """The learned items, which share this model's tensors."""
        factors = self.learned_factors
        gram = self._gram.get([factors], lambda: factors.T @ factors)
        problem = self.learned_settings.problem(self.settings.dislike_weight)
        return LearnedItems(factors, gram, float(self.learned_unit), problem)

    def _scores(
        self, users: SignedGraph, numbers: IntArray | None = None, items: torch.Tensor | None = None
    ) -> torch.Tensor:
        if not self.learned_factors.shape[1]:
            return super()._scores(users, numbers, items)
        edges, learned = self._edges(users, numbers), self.learned
        own = self.learned_settings.learned_share * learned.fold_in(users)
        if items is None:
            return self.filter.scores(edges, own @ learned.factors.T)
        items = items.to(self.device)
        return self.filter.pair_scores(edges, items, products_of(learned.factors, own, items))

    @torch.no_grad()
    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return users' and items' vectors of the filter, ``[n, k]``, and beside them the learned ones, ``[n, d]``."""
        users, items = super().vectors()
        if not self.learned_factors.shape[1]:
            return users, items
        own = self.learned_settings.learned_share * self.learned.fold_in(self.graph)
        return torch.cat([users, own], dim=1), torch.cat([items, self.learned.factors], dim=1)

    def _explain(self, edges: UserEdges, user: SignedGraph, items: IntArray) -> list[Explanation]:
        explanations = super()._explain(edges, user, items)
        if not self.learned_factors.shape[1]:
            return explanations
        share = self.learned_settings.learned_share
        added = (share * self.learned.fold_in(user)) @ self.learned.factors.T
        return self.learned.explained(
            explanations, user, items, share, self.filter.scores(edges, added)[0, items].cpu().numpy()
        )
