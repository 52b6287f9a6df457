r"""LightFM
################################################
Reference:
    Maciej Kula. "Metadata Embeddings for User and Item Cold-start Recommendations." in CBRecSys at RecSys 2015.

Computed by the library LightFM, of which ``lightfm-next`` is the maintained fork.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from recbole_signed.errors import MissingExtraError
from recbole_signed.model.training_free import TrainingFreeRecommender


class LightFM(TrainingFreeRecommender):
    r"""Factorises the likes, with users and items that are the sums of the embeddings of their features.

    Score :math:`q_u \cdot p_i + b_u + b_i`, with :math:`p_i = \sum_{f \in F_i} e_f` (eq. 1), where each user and item
    has a feature of its own beside those that the key ``features`` names, see SSF. The rows of the features add up
    to 1, as the library's own data sets have them. One thread, so that a seed decides all.
    """

    fitted = ("user_factors", "factors")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.rank, self.passes = int(config["embedding_size"]), int(config["fm_epochs"])
        self.rate, self.alpha = float(config["learning_rate"]), float(config["fm_alpha"])
        self.objective, self.seed = str(config["fm_loss"]), int(config["seed"])
        own = dataset.features_of if hasattr(dataset, "features_of") else lambda _side: None
        self._sides = [_with_own(own(side), n) for side, n in (("user", self.n_users), ("item", self.n_items))]
        self.register_buffer("user_factors", torch.zeros(self.n_users, 0))
        self.register_buffer("factors", torch.zeros(self.n_items, 0))

    def fit(self) -> None:
        """Train the library's model, and keep what it makes of each user and item."""
        try:
            from lightfm import LightFM as Library
        except ImportError as error:
            raise MissingExtraError("LightFM", "baselines") from error
        made = Library(
            no_components=self.rank,
            loss=self.objective,
            learning_rate=self.rate,
            item_alpha=self.alpha,
            user_alpha=self.alpha,
            random_state=self.seed,
        )
        users, items = self._sides
        likes = sp.coo_matrix(self.graph.likes, dtype=np.float32)
        made.fit(likes, user_features=users, item_features=items, epochs=self.passes, num_threads=1)
        (user_bias, user), (item_bias, item) = (
            made.get_user_representations(users),
            made.get_item_representations(items),
        )
        tables = [np.column_stack([user, user_bias, np.ones_like(user_bias)])]
        tables.append(np.column_stack([item, np.ones_like(item_bias), item_bias]))
        self.user_factors, self.factors = (torch.from_numpy(table).float().to(self.device) for table in tables)

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return users ``[n_users, d + 2]`` and items ``[n_items, d + 2]``, biases included."""
        return self.user_factors, self.factors


def _with_own(features: Any, n: int) -> sp.csr_matrix:
    """Return an indicator of each id beside its features, rows whose sizes add up to 1, ``[n, n + n_features]``."""
    own = sp.identity(n, dtype=np.float32, format="csr")
    if features is not None:
        own = sp.hstack([own, features.matrix], format="csr", dtype=np.float32)
    scale = 1 / np.asarray(abs(own).sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(scale.astype(np.float32)) @ own)
