r"""SignediALS
################################################
Reference:
    Yifan Hu et al. "Collaborative Filtering for Implicit Feedback Datasets." in ICDM 2008.
    Steffen Rendle et al. "Revisiting the Performance of iALS on Item Recommendation Benchmarks." in RecSys 2022.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from tqdm import tqdm

from recbole_signed.graph.least_squares import SignedLeastSquares
from recbole_signed.graph.propagation import symmetric
from recbole_signed.graph.spectral import right_factors
from recbole_signed.model.training_free import TrainingFreeRecommender

LONG = 5_000_000


class SignediALS(TrainingFreeRecommender):
    r"""Matrix factorisation by alternating least squares with a weight and a target for each sign.

    Minimises :math:`\sum_P a_+ (1 - w_u h_i)^2 + \sum_N a_- (y_- - w_u h_i)^2 + a_0 \sum (w_u h_i)^2` with a
    regularisation that grows with the number of edges (``graph/least_squares.py``); ``n_iterations`` passes, each
    over all users and then all items, and at last over the users. Without dislikes it is iALS.

    Departure: the start is spectral, not random, so nothing depends on a seed or on the numbering of items; there are
    fewer than ``embedding_size`` factors where the matrix of likes has a lower rank.
    """

    fitted = ("user_factors", "item_factors")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.size = int(config["embedding_size"])
        self.n_iterations = int(config["n_iterations"])
        self.show_progress = bool(config["show_progress"])
        self.problem = SignedLeastSquares(
            like_weight=float(config["like_weight"]),
            dislike_weight=float(config["dislike_weight"]),
            dislike_target=float(config["dislike_target"]),
            unobserved_weight=float(config["unobserved_weight"]),
            regularisation=float(config["reg_weight"]),
            regularisation_exponent=float(config["reg_exponent"]),
        )
        self.register_buffer("user_factors", torch.zeros(self.n_users, 0))
        self.register_buffer("item_factors", torch.zeros(self.n_items, 0))

    def fit(self) -> None:
        """Alternate between users and items, from the leading singular vectors of the normalised likes."""
        start = right_factors(symmetric(self.graph.likes, smoothing=1.0), self.size)
        items = (start.vectors * start.values.sqrt()).to(self.device)
        rows = self.graph.likes, self.graph.dislikes
        columns = rows[0].T.tocsr(), rows[1].T.tocsr()
        quiet = not self.show_progress or self.graph.n_edges * self.n_iterations < LONG
        for _ in tqdm(range(self.n_iterations), desc="SignediALS", disable=quiet, file=sys.stderr):
            items = self.problem.half_step(*columns, self.problem.half_step(*rows, items))
        self.item_factors = items
        self.user_factors = self.problem.half_step(*rows, items)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors of users ``[n_users, d]`` and items ``[n_items, d]``."""
        return self.user_factors, self.item_factors
