r"""SSF
################################################
A signed spectral filter: training-free, inductive, without a user table. Source: this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from logging import getLogger
from typing import Any

import numpy as np
import torch

from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.personal_verdict import Verdicts
from recbole_signed.model import TrainingFreeRecommender
from recbole_signed.model.verdicts import PersonalVerdicts
from recbole_signed.plugin.ranges import without_removed
from recbole_signed.sequences import IntArray
from recbole_signed.ssf.explanation import Explanation
from recbole_signed.ssf.feature_maps import FeatureMaps
from recbole_signed.ssf.features import FeatureSettings
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.item_counters import ItemCounters
from recbole_signed.ssf.search import CELLS, LEAST_USERS, SEARCH_EDGES, SearchResult, judging, spend, tune
from recbole_signed.ssf.settings import LINEAR, FilterSettings
from recbole_signed.ssf.shortlist import Candidate
from recbole_signed.ssf.user_edges import UserEdges, UserPrior
from recbole_signed.ssf.validation import Validation, part_of

AT_A_TIME, FEW = 8_000_000, 8
"""Scores of users that are worked on at a time, but of so many users at least: the allocator reuses arrays of 32 MB."""


class SSF(TrainingFreeRecommender):
    r"""Filters each user's likes and dislikes by the spectrum of the normalised signed exposure matrix.

    :math:`R \approx U S V^T`; score of item i for user u:
    :math:`(f_u(S) \odot R_u V) V_i^T \, v_i \, \bar d_i^{\,\pi}` and a little popularity, with a
    Butterworth response :math:`f_u`, :math:`v_i` that holds back disliked items, and the degree :math:`\bar d_i` over
    the mean (:class:`~recbole_signed.ssf.filter.SpectralFilter`).

    With ``auto`` (the default) the model chooses its parameters on the validation part (:meth:`tune`); what the user
    sets, and not to null, always holds. Without ``auto`` or a validation part the values of the yaml hold. A fitted
    model keeps ``k + 2`` floats per item; an untrained one ranks by popularity. The fit runs on the CPU, scores on
    ``device``.

    Attributes:
        given: names of the configuration keys that the user set.
    """

    trainer_class = "recbole_signed.trainer.signed_trainer:SSFTrainer"
    fitted: tuple[str, ...] = ("item_factors", "singular_values")
    taste_alone = False
    """Whether the search chooses the exposure scores alone, and other weights what they are worth."""
    dislikes_lead = False
    """Whether what comes after a dislike is told from it at once, but for what is near it."""
    spending_cells = CELLS
    """Scores of validation users that what ``accuracy_price`` pays for is chosen on, about."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.auto = bool(config["auto"])
        # a plain dictionary does not say what was preset
        self.given = frozenset(k for k, v in getattr(config, "external_config_dict", {}).items() if v is not None)
        self.iterations = int(config["iterations"] or 20)
        self.tune_users = int(config["tune_users"] or 3000)
        self.accuracy_price = float(config["accuracy_price"] or 0)
        self.valid_metric = str(config["valid_metric"])
        self.signed_gamma = config["signed_gamma"]
        self._filter = Derived()
        self._fitted: SpectralFilter | None = None
        counts = [np.bincount(side.indices, minlength=self.n_items) for side in (self.graph.likes, self.graph.dislikes)]
        self.register_buffer("item_factors", torch.zeros(self.n_items, 0))
        self.register_buffer("singular_values", torch.zeros(0))
        self.register_buffer("item_likes", torch.from_numpy(counts[0]).float())
        self.register_buffer("item_dislikes", torch.from_numpy(counts[1]).float())
        self.register_buffer("user_count_and_median_degree", torch.tensor([0.0, 1.0], dtype=torch.float64))
        self.register_buffer("chosen_settings", FilterSettings.from_mapping(config).to_tensor())
        self.feature_maps = self._read_features(config, dataset)
        self._personal = PersonalVerdicts.from_dataset(dataset, self.graph, leads=self.dislikes_lead)
        self._to_spend: Validation | None = None

    def _read_features(self, config: Any, dataset: Any) -> FeatureMaps | None:
        """Return what the configuration key ``features`` asks for; None for nothing."""
        if not config["features"] or not hasattr(dataset, "features_of"):
            return None
        items, users = dataset.features_of("item"), dataset.features_of("user")
        return FeatureMaps(items, users, FeatureSettings.from_mapping(config))

    @property
    def features(self) -> FeatureMaps | None:
        """The features of items and users, and what is learned from them; None where none are asked for."""
        maps: Any = self._modules.get("feature_maps")
        return maps

    # ---- settings ----

    @property
    def settings(self) -> FilterSettings:
        """The parameters in force."""
        return FilterSettings.from_tensor(self.chosen_settings)

    @property
    def chosen(self) -> dict[str, float]:
        """The parameters in force by their names in the yaml: what :meth:`tune` chose, or what was set."""
        return asdict(self.settings) | ({} if self.features is None else asdict(self.features.settings))

    @property
    def live_settings(self) -> dict[str, Any]:
        """Settings that its learner has beside :attr:`chosen`."""
        return {}

    @property
    def dislike_aversion(self) -> float:
        """How strongly items with a low like rate are held back; may be set at any time, nothing is fitted again."""
        return self.settings.dislike_aversion

    @dislike_aversion.setter
    def dislike_aversion(self, value: float) -> None:
        self.chosen_settings = replace(self.settings, dislike_aversion=float(value)).to_tensor().to(self.device)

    @property
    def dislike_strength(self) -> float:
        """How far what is near to a user's dislikes is lowered, from 0 to 1; may be set at any time."""
        return self.settings.dislike_strength

    @dislike_strength.setter
    def dislike_strength(self, value: float) -> None:
        self.chosen_settings = replace(self.settings, dislike_strength=float(value)).to_tensor().to(self.device)

    # ---- fitting ----

    def tune(self, valid_data: Any) -> None:
        """Choose the parameters by ``valid_metric`` on validation data.

        That is NDCG, Recall or one of the sign-aware metrics, by which more dislike aversions are tried; else NDCG@20.

        Args:
            valid_data: the :class:`~recbole_signed.data.dataloader.SignedFullSortEvalDataLoader` of that part.
        """
        validation = Validation.from_loader(
            valid_data, self.graph, self.valid_metric, self.tune_users, signed_gamma=self.signed_gamma
        )
        name = type(self).__name__
        if validation is None:
            getLogger().warning(f"{name} has no user to choose its parameters on: the configured ones hold.")
            return
        tuned = self._choose(validation, valid_data)
        self._fitted = tuned.fitted if tuned.alone else None
        if self.features is not None:
            fitted = tuned.fitted
            # the lift is of the exposure score in the ranking of all items, where that is the score
            fixed = self.given | {"feature_lift"} if self.taste_alone else self.given
            said = self.features.tune(self.graph, validation, self.settings, self.iterations, fixed, fitted)
            getLogger().info(f"{name}: {said}")
        self.settings_ranked = tuned.evaluations
        if self._personal is not None:
            most = max(LEAST_USERS, self.spending_cells // self.n_items)
            self._to_spend = Validation.from_loader(
                valid_data, self.graph, self.valid_metric, most, signed_gamma=self.signed_gamma
            )
        getLogger().info(
            f"{name} chose on validation ({validation.metric} {tuned.value:.4f} of {validation.n_users} users; "
            f"{tuned.decompositions} decompositions, {tuned.evaluations} evaluations): {self.chosen}; "
            f"given, not chosen: {', '.join(sorted(self.given & self.chosen.keys())) or 'none'}"
        )

    def _choose(self, validation: Validation, valid_data: Any) -> SearchResult:
        """Set what is best on validation; ``valid_data`` is what ``validation`` was drawn from."""
        users = part_of(self.graph, valid_data, SEARCH_EDGES)
        part = None if users is None else self.graph.rows(users)
        fixed, alone = self.given, self.taste_alone
        tuned = tune(self.graph, validation, self.settings, self.iterations, fixed, part, taste_alone=alone)
        self.chosen_settings = tuned.settings.to_tensor().to(self.device)
        return tuned

    def fit(self) -> None:
        """Fit to the training graph with the parameters in force: the same in whatever order its rows and ids come."""
        self._fit_filter()

    def spend(self) -> None:
        """Choose the verdicts that ``accuracy_price`` pays for, after :meth:`tune` and :meth:`fit`; the fit stays."""
        validation, self._to_spend = self._to_spend, None
        if validation is not None and self._personal is not None:
            with self._personal.remembering():
                fixed, timed = self.given, self._personal.timed
                settings = spend(self._at(validation), validation, self.settings, self.accuracy_price, timed, fixed)
            self.chosen_settings = settings.to_tensor().to(self.device)
            getLogger().info(
                f"{type(self).__name__} keeps disliked items out within accuracy_price {self.accuracy_price:g}: "
                f"dislike_aversion {settings.dislike_aversion:g}, dislike_strength {settings.dislike_strength:g}"
            )

    def _at(self, validation: Validation) -> Callable[[FilterSettings], Candidate]:
        """Return what gives the ranking of validation users at settings that leave the fit as it is."""
        numbers, personal = validation.numbers, self._personal
        assert numbers is not None
        assert personal is not None

        def at(settings: FilterSettings) -> Candidate:
            self.chosen_settings = settings.to_tensor().to(self.device)
            if not settings.dislike_strength:
                return lambda pieces: self.score(torch.from_numpy(numbers[pieces.rows])).cpu()
            return judging(personal, numbers, self._scores, self._without_taste, settings)

        return at

    def _fit_filter(self) -> SpectralFilter:
        fitted, self._fitted = self._fitted, None  # what the choice of parameters left is the same
        if fitted is None or fitted.settings != self.settings:
            fitted, _ = SpectralFilter.fit(self.graph, self.settings, iterations=self.iterations)
        self.item_factors = fitted.vectors.to(self.device)
        self.singular_values = fitted.values.to(self.device)
        counted = torch.tensor([fitted.n_users, fitted.median_degree], dtype=torch.float64)
        self.user_count_and_median_degree = counted.to(self.device)
        if self.features is not None:
            self.features.learn(fitted, self.graph)
        return fitted

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Read checkpoints of older versions too: one buffer had another name, and there were fewer settings."""
        old, new = f"{prefix}users", f"{prefix}user_count_and_median_degree"
        if old in state_dict:
            state_dict[new] = state_dict.pop(old)
        saved, own = state_dict.get(f"{prefix}chosen_settings"), self.chosen_settings
        if saved is not None:
            without_removed({"linear_weight": float(saved[LINEAR])} if len(saved) > LINEAR else {})
            state_dict[f"{prefix}chosen_settings"] = torch.cat([saved, own[len(saved) :].to(saved)])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    # ---- scoring ----

    @property
    def filter(self) -> SpectralFilter:
        """The fitted filter, which knows nothing of RecBole; it shares this model's tensors."""
        made: SpectralFilter = self._filter.get([*self.buffers()], self._make_filter)
        return made

    @property
    def taste(self) -> SpectralFilter:
        """The filter that gives the exposure scores."""
        return self.filter

    def _make_filter(self) -> SpectralFilter:
        n_users, median_degree = self.user_count_and_median_degree.tolist()
        made = SpectralFilter(
            vectors=self.item_factors,
            values=self.singular_values,
            counters=ItemCounters.from_counts(self.item_likes, self.item_dislikes),
            n_users=n_users,
            median_degree=median_degree,
            settings=self.settings,
        )
        return made if self.features is None else self.features.applied(made)

    def read_histories(self, dataset: Any) -> None:
        """Score users by their edges and verdicts in another data set of the same ids; nothing is fitted again."""
        super().read_histories(dataset)
        self._personal = PersonalVerdicts.from_dataset(dataset, self.graph, self._personal, self.dislikes_lead)

    @property
    def _judging(self) -> PersonalVerdicts | None:
        return self._personal if self.settings.dislike_strength else None

    @torch.no_grad()
    def judged(self, users: torch.Tensor) -> torch.Tensor:
        """Return :meth:`score` with the personal verdict: what is near to a dislike is lower, ``[batch, n_items]``."""
        if self._judging is None:
            return self.score(users)
        numbers = users.cpu().numpy()
        parts = -(-len(numbers) // max(AT_A_TIME // self.n_items, FEW))
        if parts < 2:
            return self._judging.judged(numbers, self._scores, self._without_taste, self.dislike_strength)
        scores = torch.empty(len(numbers), self.n_items, device=self.device)
        for rows, some in zip(scores.tensor_split(parts), users.tensor_split(parts), strict=True):
            rows.copy_(self.judged(some))
        return scores

    @property
    def _without_taste(self) -> torch.Tensor:
        """Where a score tells nothing of a user's taste, to be broadcast to ``[n_users, n_items]``."""
        return self.filter.without_taste()

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items, ``[batch, n_items]``: the fold-in of the users' own training edges."""
        rows = users.cpu().numpy()
        with torch.no_grad():
            return self._scores(self.graph.rows(rows), rows)

    def _scores(
        self, users: SignedGraph, numbers: IntArray | None = None, items: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the scores of users by their edges, of all items or of ``items [n_users, m]``."""
        # numbers: who they are, if known
        edges = self._edges(users, numbers)
        return self.filter.scores(edges) if items is None else self.filter.pair_scores(edges, items.to(self.device))

    def _edges(self, users: SignedGraph, numbers: np.ndarray | None) -> UserEdges:
        return UserEdges.from_graph(users, self.settings.dislike_weight, prior=self._prior(numbers))

    def _prior(self, numbers: np.ndarray | None) -> UserPrior | None:
        """Return what features say of users by their numbers; None for nothing."""
        return None if self.features is None or numbers is None else self.features.prior(numbers)

    def fold_in(self, likes: Iterable[int], dislikes: Iterable[int] = ()) -> torch.Tensor:
        """Return what all items are ranked by, ``[n_items]``, for a user with these edges, known or new.

        Args:
            likes: RecBole's ids of the liked items, in any order; repeated ones count once.
            dislikes: the same of the disliked items; they are the user's newest verdicts, the last one the newest.

        Raises:
            UsageError: an id is not one of the data set's.
        """
        likes, dislikes = list(likes), list(dict.fromkeys(reversed(list(dislikes))))[::-1]  # the last of equal ones
        with torch.no_grad():
            user = self._one_user(likes, dislikes)
            if self._judging is None:
                return self._scores(user)[0]
            items = np.array([*likes, *dislikes], dtype=np.int64)
            like = np.arange(len(items)) < len(likes)
            verdicts = Verdicts.from_edges(
                np.zeros(len(items), dtype=np.int64), items, like, np.arange(len(items)) + 1, 1
            )
            return self._judging.judged(
                np.zeros(1, dtype=np.int64),
                lambda edges, _, items: self._scores(edges, None, items),
                self._without_taste,
                self.dislike_strength,
                (user, verdicts),
            )[0]

    def explain(self, user: int, item: int) -> Explanation:
        """Return the exact contribution of each of the user's training edges to the score of ``item``, and its fall.

        A dislike that is the newest verdict contributes nothing: it lowers what is near it.

        Args:
            user: RecBole's id of the user.
            item: RecBole's id of the item.

        Raises:
            UsageError: an id is not one of the data set's.
        """
        for name, value, end in (("user", user, self.n_users), ("item", item, self.n_items)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise UsageError(f"the {name} is {value!r}; ids are whole numbers here, from 1 to {end - 1}.")
            if not 0 < value < end:
                raise UsageError(f"there is no {name} with the id {value}; ids go from 1 to {end - 1}.")
        return self.explain_edges(user, item)

    @torch.no_grad()
    def explain_edges(self, user: int, item: int) -> Explanation:
        """Return what :meth:`explain` does; user 0 is one without edges."""
        one = np.array([user])
        own = self.graph.rows(one)
        if self._judging is None:
            return self._explained(own, user, item)
        exposed, left_out = self._judging.exposing(own, user)
        explanation = self._explained(exposed, user, item)
        _, fallen, heights = self._judging.falls(one, self._scores, self._without_taste)
        fall = fallen.falls({item: explanation.score}, heights, self.dislike_strength, self._judging.likers).get(item)
        return replace(explanation, fall=fall).beside(left_out)

    def _explained(self, own: SignedGraph, user: int, item: int) -> Explanation:
        """Return why one user, by its edges and its number, has the score of an item."""
        edges, items = self._edges(own, np.array([user])), np.array([item])
        explanations = self._explain(edges, own, items)
        if self.features is not None:
            explanations = self.features.explained(explanations, self.taste, edges, user, items)
        return explanations[0]

    def _explain(self, edges: UserEdges, user: SignedGraph, items: IntArray) -> list[Explanation]:
        return self.filter.explain(user, items, edges)

    # ---- vectors ----

    @torch.no_grad()
    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the fold-in of all users, ``[n_users, k]``, and the item factors, ``[n_items, k]``.

        Their product is the exposure score: before popularity and like rate, and before order and trend.
        """
        users, taste = self._edges(self.graph, np.arange(self.n_users)), self.taste
        return taste.fold_in(users), taste.vectors[:, : taste.k]

    @torch.no_grad()
    def similarity_vectors(self) -> torch.Tensor:
        """Return item vectors, ``[n_items, k]``, whose product is what an edge with one adds to another's score."""
        # of a user of median degree; degrees are not divided out, as the cosine has no need of it
        fitted = self.taste
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
    """What is worked out from fitted tensors, once for all that is scored with it."""

    def __init__(self) -> None:
        self._known: tuple[list[torch.Tensor], list[int], Any] | None = None

    def get(self, tensors: Sequence[torch.Tensor], make: Callable[[], Any]) -> Any:
        """Return ``make()``, made again where a tensor is another one than before, or holds other values."""
        # a fit or a move to another device makes a new tensor, a checkpoint may be read into the old one
        versions = [tensor._version for tensor in tensors]
        known = self._known
        if known is None or versions != known[1] or any(a is not b for a, b in zip(tensors, known[0], strict=True)):
            self._known = known = list(tensors), versions, make()
        return known[2]
