r"""SSFT
################################################
SSF-T: the signed spectral filter that knows order and trend. Source: this package.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from logging import getLogger
from typing import Any

import numpy as np
import torch

from recbole_signed.counts import PairCounts
from recbole_signed.graph import SignedGraph
from recbole_signed.ids_and_times import milliseconds
from recbole_signed.model.verdicts import without
from recbole_signed.sequences import IntArray, Sequences
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.order import TRENDS, WEIGHTS, Order, OrderFilter, recent_of, weights_of, with_sharp
from recbole_signed.ssf.order_weights import CELLS, Likes, fitted_weights, sharpened
from recbole_signed.ssf.search import SearchResult
from recbole_signed.ssf.ssf import SSF
from recbole_signed.ssf.transition import SCALES, Transition, TransitionSums, leading
from recbole_signed.ssf.user_edges import UserEdges, of_edges
from recbole_signed.ssf.validation import Validation


class SSFT(SSF):
    r"""SSF's taste, what a user's last likes and dislikes lead to, and the trend of items, in one log-linear sum.

    Score of item i for user u: :math:`\sum_f w_f x_f(u, i)` over the features of ``ssf/order.py``, all of which are
    fold-ins or counters. With ``auto`` SSF's own parameters are chosen first, then the weights: those of maximum
    likelihood on the validation likes, and then of those among the best items of each user.

    Scores are those right after the last event of the training part: a trend depends on nothing else, and an event
    counts by how many moments of its user are later. Without timestamps it is SSF.
    """

    fitted = ("item_factors", "singular_values", "transition_map")
    taste_alone = True
    dislikes_lead = True
    spending_cells = CELLS
    chooses_in_time = True
    """Its parameters are to be chosen on the last likes: order and trend say nothing of likes held out at random."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.choose_again = int(config["choose_again"] or 0) if self.auto else 0
        self.trend_since = float(config["trend_since"] or 0.0)
        self.sequences: Sequences | None = None
        self._exposures: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self._pairs: PairCounts | None = None
        self._ready = False
        self._known: dict[Hashable, torch.Tensor] | None = None
        self._read_events(dataset)
        if self.sequences is None:
            self.taste_alone = False
            getLogger().warning("SSFT is SSF here: the data set has no timestamps, so there is no order and no trend.")
        self.register_buffer("transition_map", torch.zeros(0))
        self.register_buffer("recent_counts", torch.zeros(len(TRENDS), self.n_items, dtype=torch.float64))
        self.register_buffer("order_weights", torch.from_numpy(weights_of(config["order_weights"])))

    def _read_events(self, dataset: Any) -> None:
        events = _events_of(dataset)
        if events is not None:
            user, item, time, like = events
            self.sequences = Sequences.from_edges(user, item, like, time, self.n_users, self.graph.item_keys)
            self._exposures = item, time, like

    def read_histories(self, dataset: Any) -> None:
        """Score users by their edges and their order in another data set of the same ids; nothing is counted again."""
        if self.sequences is not None:
            _ = self.pairs  # which are counted before the histories are others
        super().read_histories(dataset)
        self._read_events(dataset)

    @property
    def chosen(self) -> dict[str, Any]:
        """The parameters in force by their names in the yaml: what :meth:`tune` chose, or what was set."""
        return super().chosen | {"trend_since": self.trend_since, "order_weights": self.order_weights.tolist()}

    @property
    def taste(self) -> SpectralFilter:
        """The filter that gives the taste."""
        made = self.filter
        return made.taste if isinstance(made, OrderFilter) else made

    @property
    def live_settings(self) -> dict[str, Any]:
        """How its learner goes on choosing: not at all where ``auto`` is off, or the weights are given."""
        return {"choose_again": 0 if "order_weights" in self.given else self.choose_again}

    def _choose(self, validation: Validation, valid_data: Any) -> SearchResult:
        tuned = super()._choose(validation, valid_data)
        if self.sequences is None or "order_weights" in self.given:
            return tuned
        everyone = (
            Validation.from_loader(
                valid_data, self.graph, self.valid_metric, self.tune_users, signed_gamma=self.signed_gamma, new=True
            )
            or validation
        )
        numbers = everyone.numbers
        assert numbers is not None
        fitted = self._fitted = tuned.fit(self.graph, self.iterations)
        self.fit()
        ordered: Any = self.filter
        likes = Likes.from_validation(ordered, lambda rows: self._ranked_edges(numbers[rows]), everyone)
        weights, tried = sharpened(likes, fitted_weights(likes).weights)
        self.order_weights = torch.from_numpy(weights).to(self.device)
        self._ready = self.features is None
        return tuned.followed(fitted, tuned.value, tried)

    def _ranked_edges(self, numbers: IntArray) -> UserEdges:
        """Return the edges that users are ranked by: without the dislikes that are held back, where any are."""
        own, personal = self.graph.rows(numbers), self._personal
        lowers = self.settings.dislike_strength if "dislike_strength" in self.given else self.accuracy_price
        if personal is not None and lowers:
            verdicts = personal.verdicts(numbers)
            own = without(own, verdicts, verdicts.held_back(personal.leads))
        return self._edges(own, numbers)

    def fit(self) -> None:
        """Fit the filter, solve the transition, and count pairs and recent exposures."""
        if self._ready:  # the choice of the weights has fitted it
            self._ready = False
            return
        filter_ = self._fit_filter()
        self._pairs = None
        self.transition_map = torch.zeros(0, device=self.device)  # that of an earlier fit is void
        if self.sequences is None or self._exposures is None:
            return
        in_order = self.sequences.of_users(self.graph.order[0])
        operator = TransitionSums.from_sequences(in_order, leading(filter_.vectors)).solve()
        self.transition_map = torch.from_numpy(operator).flatten().to(self.device)
        self.recent_counts = self._recent()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Read checkpoints of older versions too, whose score was another: with preset weights, or with fewer."""
        name = f"{prefix}order_weights"
        older = state_dict.pop(f"{prefix}chosen_time", None) is not None
        if older:
            state_dict[name] = self.order_weights
            state_dict[f"{prefix}recent_counts"] = self._recent()
        elif len(saved := state_dict.get(name, self.order_weights)) < len(WEIGHTS):
            older, state_dict[name] = True, torch.from_numpy(with_sharp(saved.cpu().numpy()))
        if older:
            getLogger().warning("The checkpoint is of an older SSF-T: its score has other weights now; fit it again.")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _recent(self) -> torch.Tensor:
        if self._exposures is None:
            return self.recent_counts
        return recent_of(*self._exposures, self.n_items, 1000.0 * self.trend_since).to(self.device)

    @property
    def pairs(self) -> PairCounts:
        """The pairs of verdicts of the training part."""
        if self._pairs is None:
            assert self.sequences is not None
            self._pairs = PairCounts.from_sequences(self.sequences, self.n_items)
        return self._pairs

    def _make_filter(self) -> Any:
        made = super()._make_filter()
        if self.sequences is None:
            return made
        transition = None
        if len(self.transition_map):
            width = math.isqrt(len(self.transition_map) // (2 * len(SCALES)))
            transition = Transition(self.transition_map.reshape(-1, width))
        order = Order(self.order_weights.cpu().numpy(), self.pairs, self.recent_counts, transition)
        return OrderFilter(made, order, settled=True)

    # ---- scoring ----

    def _scores(
        self, users: SignedGraph, numbers: IntArray | None = None, items: torch.Tensor | None = None
    ) -> torch.Tensor:
        if numbers is None or self._known is None:
            return super()._scores(users, numbers, items)
        made: Any = self.filter
        edges = self._edges(users, numbers)
        key = numbers.tobytes(), users.dislikes.nnz, b"" if items is None else items.numpy().tobytes()
        if key not in self._known:
            self._known[key] = made.of_users(edges, items)
        return self._known[key] + made.items_for(edges, items)

    def spend(self) -> None:
        """Choose the verdicts that ``accuracy_price`` pays for: what does not depend on them is worked out once."""
        self._known = {} if self.sequences is not None else None
        super().spend()
        self._known = None

    def _edges(self, users: SignedGraph, numbers: IntArray | None) -> UserEdges:
        sequences = None
        if self.sequences is not None and numbers is not None:
            sequences = of_edges(self.sequences.of_users(numbers), users)
        return UserEdges.from_graph(users, self.settings.dislike_weight, sequences, self._prior(numbers))


def _events_of(dataset: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Return user, item, time in milliseconds, and whether it is a like, of all verdicts; None without timestamps."""
    tables = [(name, dataset.times(name)) for name in ("inter_feat", "neg_feat")]
    if any(time is None for _, time in tables):
        return None
    columns = []
    for field in (dataset.uid_field, dataset.iid_field):
        ids = [getattr(dataset, name)[field].numpy() for name, _ in tables]
        columns.append(np.concatenate(ids, dtype=np.int32, casting="same_kind"))  # half of int64
    time = milliseconds(np.concatenate([time for _, time in tables]), f"the time of '{dataset.dataset_name}'")
    return columns[0], columns[1], time.astype(np.float64), np.arange(len(time)) < len(dataset.inter_feat)
