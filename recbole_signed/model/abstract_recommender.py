"""What all models of this package share: the signed graph, cached embeddings, and scoring for RecBole."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType

from recbole_signed.graph import SignedGraph


class SignedRecommender(GeneralRecommender):
    """A general recommender that knows likes and dislikes.

    A model gives :meth:`encode` and, if it is trained by gradients, :meth:`loss`; this class gives RecBole's
    interface. A model without user embeddings overrides :meth:`score` instead.

    Attributes:
        graph (SignedGraph): likes and dislikes of the training part, over RecBole's ids (0 is padding).
        needs_sign: the plugin refuses to run the model on data without a sign.
        uses_dislikes, family, source: what ``recbole-signed models`` lists.
    """

    input_type = InputType.PAIRWISE
    needs_sign = True
    uses_dislikes = True
    family = "signed graph"
    source = ""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.graph: SignedGraph = dataset.signed_graph()
        self._embeddings: tuple[torch.Tensor, torch.Tensor] | None = None

    def encode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return user embeddings ``[n_users, d]`` and item embeddings ``[n_items, d]``."""
        raise NotImplementedError(f"{type(self).__name__} gives no embeddings.")

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss, a scalar, of a batch of (user, liked item, sampled item)."""
        raise NotImplementedError(f"{type(self).__name__} is not trained by gradients.")

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return :meth:`encode`."""
        return self.encode()

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return :meth:`loss`; the cached embeddings are stale after the step that follows."""
        self._embeddings = None
        return self.loss(interaction)

    def train(self, mode: bool = True) -> SignedRecommender:
        """Switch between training and evaluation; either way embeddings are encoded anew when they are needed."""
        self._embeddings = None
        return super().train(mode)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load parameters, after which embeddings are encoded anew."""
        self._embeddings = None
        return super().load_state_dict(*args, **kwargs)

    def embeddings(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return :meth:`encode` without gradients, computed once per evaluation."""
        if self._embeddings is None:
            with torch.no_grad():
                self._embeddings = self.encode()
        return self._embeddings

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        user_embedding, item_embedding = self.embeddings()
        return user_embedding[users] @ item_embedding.T

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores of (user, item) pairs, ``[batch]``."""
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        distinct, row = users.unique(return_inverse=True)
        return self.score(distinct)[row, items]

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores of all items for each user, flat ``[batch * n_items]``."""
        return self.score(interaction[self.USER_ID]).reshape(-1)
