r"""SSFT
################################################
SSF-T: the signed spectral filter that knows order and trend. Source: this package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from logging import getLogger
from typing import Any, ClassVar

import numpy as np
import torch

from recbole_signed.arrays import contains, distinct
from recbole_signed.graph import SignedGraph
from recbole_signed.ids_and_times import milliseconds
from recbole_signed.recent_counts import RecentCounts
from recbole_signed.ssf.filter import SpectralFilter
from recbole_signed.ssf.search import SEARCH_EDGES, SearchResult
from recbole_signed.ssf.sequences import IntArray, Sequences
from recbole_signed.ssf.settings import CHOSEN, TimeSettings
from recbole_signed.ssf.ssf import SSF
from recbole_signed.ssf.time_search import LEARNED_EDGES, Exposures, leading, trend_of, tune_time
from recbole_signed.ssf.transition import Transition, TransitionSums
from recbole_signed.ssf.user_edges import UserEdges
from recbole_signed.ssf.validation import Validation, part_of


class SSFT(SSF):
    r"""SSF, and to a user's taste adds what its last likes and dislikes lead to, and weighs items by their trend.

    Score of item i for user u: :math:`\big((z_u + b\,\tfrac{\|z_u\|}{\|t_u\|} t_u) V_i^T\, T_i^{\varepsilon}\,
    \bar d_i^{\,\pi} + \text{prior}_i\big)\, r_i^g`, with the fold-in :math:`z_u = f_u(S) \odot R_u V` of SSF, the
    transition :math:`t_u` of the user's recent likes and dislikes at several time scales (``ssf/transition.py``), and
    the trend :math:`T_i` (``ssf/trend.py``), which the share of popularity follows, too. All of it is in closed form,
    from sums over events.

    Times are those of the data set. Scores are those right after the last event of the training part: a trend depends
    on nothing else, and an event counts by how many others of its user are later. Without timestamps it is SSF.
    """

    family = "spectral filter, order and trend"
    display_name = "SSF-T"
    parameter_ranges: ClassVar[Mapping[str, str]] = {
        "choose_again": "int [0, inf)",
        "transition_share": "[0, inf)",
        "transition_rank": "int [1, inf)",
        "transition_ridge": "(0, inf)",
        "short_scale": "[0, inf)",
        "middle_scale": "[0, inf)",
        "long_scale": "[0, inf)",
        "half_life": "(0, inf)",
        "trend_exponent": "[0, inf)",
        "recent_popularity": "[0, inf)",
        "popularity_half_life": "[0, inf)",
        "trend_since": "[0, inf)",
        "trend_smoothing": "(0, inf)",
    }
    fitted = ("item_factors", "singular_values", "transition_map")
    chooses_in_time = True
    """Its parameters are to be chosen on the last likes: order and trend say nothing of likes held out at random."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = TimeSettings.from_mapping(config)
        self.choose_again = int(config["choose_again"] or 0) if self.auto else 0
        events = _events_of(dataset)
        self.exposures: Exposures | None = None
        self.sequences: Sequences | None = None
        if events is None:
            getLogger().warning("SSFT is SSF here: the data set has no timestamps, so there is no order and no trend.")
            settings = settings.without_time()
        else:
            user, item, time, like = events
            self.sequences = Sequences.of(user, item, like, time, self.n_users, self.graph.item_keys)
            self.exposures = Exposures.since(settings.since, item, time)
        self.register_buffer("transition_map", torch.zeros(0))
        self.register_buffer("recent_counts", torch.zeros(2, self.n_items, dtype=torch.float64))
        self.register_buffer("chosen_time", settings.to_tensor())

    @property
    def time_settings(self) -> TimeSettings:
        """The parameters of transition and trend in force."""
        return TimeSettings.from_tensor(self.chosen_time)

    @property
    def chosen(self) -> dict[str, float]:
        """The parameters in force by their names in the yaml: what :meth:`tune` chose, or what was set."""
        return super().chosen | asdict(self.time_settings)

    @property
    def live_settings(self) -> dict[str, Any]:
        """How its learner goes on choosing: not at all where ``auto`` is off, and nothing that the user set."""
        return {"choose_again": self.choose_again, "held": sorted(self.given.intersection(CHOSEN))}

    def _choose(self, validation: Validation, valid_data: Any) -> SearchResult:
        found = super()._choose(validation, valid_data)
        if self.sequences is None or self.exposures is None:
            return found
        everyone = Validation.from_loader(
            valid_data, self.graph, self.valid_metric, self.tune_users, signed_gamma=self.signed_gamma, new=True
        )
        chosen = tune_time(
            self.graph,
            self.sequences,
            self.exposures,
            everyone or validation,
            found,
            self.time_settings,
            self.iterations,
            self.given,
            part_of(self.graph, valid_data, LEARNED_EDGES, SEARCH_EDGES),
        )
        self.chosen_settings = chosen.tuned.settings.to_tensor().to(self.device)
        self.chosen_time = chosen.settings.to_tensor().to(self.device)
        return chosen.tuned

    def fit(self) -> None:
        """Fit the filter, solve the transition, and count recent exposures; the same graph gives the same model."""
        filter_, s = self._fit_filter(), self.time_settings
        self.transition_map = torch.zeros(0, device=self.device)  # that of an earlier fit is void
        if self.sequences is None or self.exposures is None:
            return
        if s.transition_share:
            in_order = self.sequences.of_users(self.graph.order[0])
            sums = TransitionSums.of(in_order, leading(filter_.vectors, s), s.scales)
            self.transition_map = torch.from_numpy(sums.solve(s.transition_ridge)).flatten().to(self.device)
        item, time = self.exposures.item, self.exposures.time
        counts = [RecentCounts.of(item, time, life, self.n_items).counts for life in s.half_lives]
        self.recent_counts = torch.from_numpy(np.stack(counts)).to(self.device)

    def _make_filter(self) -> SpectralFilter:
        made, s = super()._make_filter(), self.time_settings
        if self.sequences is None or not s.tells:
            return made
        transition = None
        if s.transition_share and len(self.transition_map):
            width = math.isqrt(len(self.transition_map) // (2 * len(s.scales)))
            transition = Transition(self.transition_map.reshape(-1, width), s.scales, s.transition_share)
        return replace(made, transition=transition, trend=trend_of(self.recent_counts, made, s))

    # ---- scoring ----

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items, ``[batch, n_items]``, of users with their training edges in their order."""
        with torch.no_grad():
            return self.filter.scores(self.edges_of(users))

    def _edges(self, users: SignedGraph, numbers: IntArray | None) -> UserEdges:
        sequences = None if numbers is None else self._of_users(numbers)
        if sequences is not None and np.count_nonzero(~sequences.like) > users.dislikes.nnz:  # some are left out
            row = np.repeat(np.arange(users.n_users), np.diff(users.dislikes.indptr))
            keys = distinct(row * users.n_items + users.dislikes.indices)
            sequences = sequences.only(
                sequences.like | contains(keys, sequences.owner * users.n_items + sequences.item)
            )
        return UserEdges.of(users, self.settings.dislike_weight, sequences, self._prior(numbers))

    def _of_users(self, numbers: IntArray) -> Sequences | None:
        return None if self.sequences is None else self.sequences.of_users(numbers)


def _events_of(dataset: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Return user, item, time in milliseconds, and whether it is a like, of all verdicts; None without timestamps."""
    tables = [(name, dataset.times(name)) for name in ("inter_feat", "neg_feat")]
    if any(time is None for _, time in tables):
        return None
    columns = []
    for field in (dataset.uid_field, dataset.iid_field):
        ids = [getattr(dataset, name)[field].numpy() for name, _ in tables]
        columns.append(np.concatenate(ids, dtype=np.int32, casting="same_kind"))  # half of int64
    time = milliseconds(np.concatenate([each for _, each in tables]), f"the time of '{dataset.dataset_name}'")
    return columns[0], columns[1], time.astype(np.float64), np.arange(len(time)) < len(dataset.inter_feat)
