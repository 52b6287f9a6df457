"""What SimGCL and XSimGCL share: LightGCN on the likes without its layer 0, with noise, and a contrast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from recbole.model.init import xavier_uniform_initialization
from torch import nn

from recbole_signed.graph.propagation import BipartiteOperator, Pair
from recbole_signed.model.abstract_recommender import SignedRecommender
from recbole_signed.model.contrast import info_nce, perturbed
from recbole_signed.model.pairwise import batch_norm_penalty


class NoisyGraphRecommender(SignedRecommender):
    """A model whose layers may be perturbed, and whose passes or layers are contrasted."""

    family = "graph, contrastive"
    uses_dislikes = False
    needs_sign = False
    batches = "likes"
    parameter_ranges: ClassVar[Mapping[str, str]] = {
        "n_negatives": "int [1, inf)",
        "n_layers": "int [1, inf)",
        "lambda": "[0, inf)",
        "eps": "[0, inf)",
    }

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.n_layers = int(config["n_layers"])
        self.reg_weight, self.cl_rate = float(config["reg_weight"]), float(config["lambda"])
        self.eps, self.temperature = float(config["eps"]), float(config["temperature"])
        size = int(config["embedding_size"])
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.item_embedding = nn.Embedding(self.n_items, size)
        self.apply(xavier_uniform_initialization)
        self.likes = BipartiteOperator.symmetric(self.graph.likes, self.device)

    def layers(self, noise: float = 0.0) -> list[Pair]:
        """Return the layers from 1 on, ``[n_users, d]`` and ``[n_items, d]`` each."""
        users, items = self.user_embedding.weight, self.item_embedding.weight
        found = []
        for _ in range(self.n_layers):
            users, items = self.likes(users, items)
            if noise:
                users, items = perturbed(users, noise), perturbed(items, noise)
            found.append((users, items))
        return found

    def encode(self, noise: float = 0.0) -> Pair:
        """Return the mean of the layers from 1 on, ``[n_users, d]`` and ``[n_items, d]``."""
        return mean(self.layers(noise))

    def contrast_of(self, first: Pair, second: Pair, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return InfoNCE between two views, over distinct ``users`` and ``items``."""
        of_users, of_items = (
            info_nce(one.index_select(0, rows), other.index_select(0, rows), self.temperature)
            for one, other, rows in zip(first, second, (users, items), strict=True)
        )
        return of_users + of_items

    def decay(self, users: torch.Tensor, items: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
        """Return LightGCN's: half the squared norms of the table rows in a batch, per edge."""
        return batch_norm_penalty(self.user_embedding.weight, self.item_embedding.weight, users, items, sampled)


def mean(layers: list[Pair]) -> Pair:
    """Return the mean of some layers."""
    users, items = (torch.stack(each).mean(dim=0) for each in zip(*layers, strict=True))
    return users, items
