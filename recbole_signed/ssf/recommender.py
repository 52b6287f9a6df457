"""What the models on the signed spectral filter share: choice of parameters, fit, fold-in, explanations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from logging import getLogger
from typing import Any

import numpy as np
import torch

from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.model import TrainingFreeRecommender
from recbole_signed.ssf.filter import Explanation, FilterSettings, SpectralFilter
from recbole_signed.ssf.linear_term import LinearTerm
from recbole_signed.ssf.search import SearchResult, tune
from recbole_signed.ssf.validation import Validation


class SpectralRecommender(TrainingFreeRecommender):
    r"""A :class:`~recbole_signed.ssf.filter.SpectralFilter` inside RecBole.

    With ``auto`` (the default) the trainer lets the model choose its parameters on the validation part, see
    :meth:`tune`; without, or without a validation part, the values of the yaml hold. A fitted model keeps ``k + 2``
    floats per item. An untrained one ranks by popularity. The fit runs on the CPU, scores on ``device``.
    """

    family = "spectral filter, training-free"
    source = "this package"
    fitted: tuple[str, ...] = ("item_factors", "singular_values")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.auto = bool(config["auto"])
        self.iterations = int(config["iterations"] or 8)
        self.tune_users = int(config["tune_users"] or 3000)
        self.valid_metric = str(config["valid_metric"])
        self.linear_weight = _weight(config["linear_weight"])
        self._linear = Derived()
        counts = [np.bincount(each.indices, minlength=self.n_items) for each in (self.graph.likes, self.graph.dislikes)]
        self.register_buffer("item_factors", torch.zeros(self.n_items, 0))
        self.register_buffer("singular_values", torch.zeros(0))
        self.register_buffer("item_likes", torch.from_numpy(counts[0]).float())
        self.register_buffer("item_dislikes", torch.from_numpy(counts[1]).float())
        self.register_buffer("users", torch.tensor([0.0, 1.0], dtype=torch.float64))  # how many, their median degree
        self.register_buffer("chosen_settings", FilterSettings.from_mapping(config).to_tensor())

    # ---- settings ----

    @property
    def settings(self) -> FilterSettings:
        """The parameters in force."""
        return FilterSettings.from_tensor(self.chosen_settings)

    @property
    def chosen(self) -> dict[str, float]:
        """The parameters in force by their names in the yaml: what :meth:`tune` chose, or what was set."""
        return asdict(self.settings)

    @property
    def dislike_aversion(self) -> float:
        """How strongly items with a low like rate are held back; may be set at any time, nothing is fitted again."""
        return self.settings.dislike_aversion

    @dislike_aversion.setter
    def dislike_aversion(self, value: float) -> None:
        self.chosen_settings = replace(self.settings, dislike_aversion=float(value)).to_tensor().to(self.device)

    # ---- fitting ----

    def tune(self, valid_data: Any) -> None:
        """Choose the parameters by ``valid_metric`` (if it is NDCG or Recall; else NDCG@20) on validation data.

        Args:
            valid_data: the :class:`~recbole_signed.data.dataloader.SignedFullSortEvalDataLoader` of that part.
        """
        validation = Validation.from_loader(valid_data, self.graph, self.valid_metric, self.tune_users)
        name = type(self).__name__
        if validation is None:
            getLogger().warning(f"{name} has no user to choose its parameters on: the configured ones hold.")
            return
        found = self._choose(validation, valid_data)
        self.settings_ranked = found.evaluations
        getLogger().info(
            f"{name} chose on validation ({validation.metric} {found.value:.4f} of {validation.n_users} users; "
            f"{found.decompositions} decompositions, {found.evaluations} evaluations): {self.chosen}"
        )

    def _choose(self, validation: Validation, valid_data: Any) -> SearchResult:
        """Set what is best on validation; ``valid_data`` is what ``validation`` was drawn from."""
        found = tune(self.graph, validation, self.settings, self.iterations, self.linear_weight)
        self.chosen_settings = found.settings.to_tensor().to(self.device)
        return found

    def fit(self) -> None:
        """Fit to the training graph with the parameters in force; the same graph gives the same model."""
        self._fit_filter()

    def _fit_filter(self) -> SpectralFilter:
        fitted, _ = SpectralFilter.fit(self.graph, self.settings, iterations=self.iterations)
        self.item_factors = fitted.vectors.to(self.device)
        self.singular_values = fitted.values.to(self.device)
        self.users = torch.tensor([fitted.n_users, fitted.median_degree], dtype=torch.float64, device=self.device)
        return fitted

    # ---- scoring ----

    @property
    def filter(self) -> SpectralFilter:
        """The fitted filter, which knows nothing of RecBole; it shares this model's tensors."""
        n_users, median_degree = self.users.tolist()
        return SpectralFilter(
            vectors=self.item_factors,
            values=self.singular_values,
            likes=self.item_likes,
            dislikes=self.item_dislikes,
            n_users=n_users,
            median_degree=median_degree,
            settings=self.settings,
        )

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items, ``[batch, n_items]``: the fold-in of the users' own training edges."""
        rows = users.cpu().numpy()
        with torch.no_grad():
            return self._scores(self.graph.rows(rows))

    def _scores(self, users: SignedGraph) -> torch.Tensor:
        """Return the scores of all items for users given by their edges, ``[n_users, n_items]``."""
        return self._filtered(users)

    def _filtered(self, users: SignedGraph, added: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores of both filters; ``added``: exposure scores from elsewhere, used up."""
        if self.linear is not None:
            own = self.linear.scores(users).to(self.device)
            added = own if added is None else added.add_(own)
        return self.filter.scores(users, added)

    @property
    def linear(self) -> LinearTerm | None:
        """The linear term, worked out once for a fit; None where ``linear_weight`` is 0."""
        if not self.linear_weight:
            return None
        term: LinearTerm = self._linear.of(
            self.singular_values, lambda: LinearTerm.of(self.graph, self.filter, self.linear_weight)
        )
        return term

    def fold_in(self, likes: Iterable[int], dislikes: Iterable[int] = ()) -> torch.Tensor:
        """Return the scores of all items, ``[n_items]``, for a user with these edges, known or new.

        Args:
            likes: RecBole's ids of the liked items, in any order; repeated ones count once.
            dislikes: the same of the disliked items.

        Raises:
            UsageError: an id is not one of the data set's.
        """
        with torch.no_grad():
            return self._scores(self._one_user(likes, dislikes))[0]

    def explain(self, user: int, item: int) -> Explanation:
        """Return the exact contribution of each of the user's training edges to the score of ``item``.

        Args:
            user: RecBole's id of the user.
            item: RecBole's id of the item.

        Raises:
            UsageError: an id is not one of the data set's.
        """
        for name, value, end in (("user", user, self.n_users), ("item", item, self.n_items)):
            if not 0 < value < end:
                raise UsageError(f"there is no {name} with the id {value}; ids go from 1 to {end - 1}.")
        return self.explain_edges(user, item)

    @torch.no_grad()
    def explain_edges(self, user: int, item: int) -> Explanation:
        """Return what :meth:`explain` does; user 0 is one without edges."""
        return self._explain(self.graph.rows([user]), item)

    def _explain(self, user: SignedGraph, item: int) -> Explanation:
        told = self.filter.explain(user, item)
        if self.linear is None:
            return told
        contributions = told.contributions + self.linear.contributions(user, item)
        return replace(told, contributions=contributions, score=float(self._scores(user)[0, item]))

    # ---- vectors ----

    @torch.no_grad()
    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the fold-in of all users, ``[n_users, k]``, and the item factors, ``[n_items, k]``.

        Their product is the exposure score: before popularity, linear term and like rate.
        """
        fitted = self.filter
        return fitted.project(self.graph) * fitted.response(fitted.degrees(self.graph)), fitted.vectors[:, : fitted.k]

    @torch.no_grad()
    def similarity_vectors(self) -> torch.Tensor:
        """Return item vectors, ``[n_items, k]``, whose product is what an edge with one item adds to another's score.

        The user is one of median degree, and degrees are not divided out; the cosine has no need of them.
        """
        fitted = self.filter
        median = torch.tensor([fitted.median_degree], device=self.device)
        return fitted.vectors[:, : fitted.k] * fitted.response(median).sqrt()

    def _one_user(self, likes: Iterable[int], dislikes: Iterable[int]) -> SignedGraph:
        edges = [np.asarray(list(items), dtype=np.int64) for items in (likes, dislikes)]
        wrong = np.concatenate([items[(items < 1) | (items >= self.n_items)] for items in edges])
        if len(wrong):
            raise UsageError(f"there is no item with the id {wrong[0]}; ids go from 1 to {self.n_items - 1}.")
        rows = [(np.zeros(len(items), dtype=np.int64), items) for items in edges]
        return SignedGraph.from_edges(rows[0], rows[1], 1, self.n_items)


class Derived:
    """What is worked out from a fitted tensor, once for all that is scored with it."""

    def __init__(self) -> None:
        self._known: tuple[torch.Tensor, int, Any] | None = None

    def of(self, tensor: torch.Tensor, make: Callable[[], Any]) -> Any:
        """Return ``make()``, made anew where the tensor is another one than before, or holds other values."""
        known = self._known
        # a fit or a move to another device makes a new tensor, a checkpoint may be read into the old one
        if known is None or known[0] is not tensor or known[1] != tensor._version:
            self._known = known = tensor, tensor._version, make()
        return known[2]


def _weight(value: Any) -> float:
    """Return the weight of the linear term.

    Raises:
        UsageError: it is no finite number.
    """
    if value is not None and not (isinstance(value, (int, float)) and np.isfinite(value)):
        raise UsageError(f"linear_weight is {value!r}; it must be a number, 0 for no linear term.")
    return float(value or 0.0)
