r"""XSimGCL: the contrast between the last and an earlier layer of one noisy pass.

Junliang Yu, Xin Xia, Tong Chen, Lizhen Cui, Nguyen Quoc Viet Hung, Hongzhi Yin. "XSimGCL: Towards Extremely Simple
Graph Contrastive Learning for Recommendation." IEEE TKDE 2023. https://arxiv.org/abs/2209.02544
"""

from __future__ import annotations

from typing import Any

import torch

from recbole_signed.errors import UsageError
from recbole_signed.model.losses import columns, mean_bpr
from recbole_signed.model.simgcl import NoisyGraphRecommender, mean


class XSimGCL(NoisyGraphRecommender):
    r"""One noisy pass of LightGCN without its layer 0; its mean is ranked by and contrasted with its layer l* (eq. 8).

    .. math:: E^{l} = \hat A^{+} E^{l-1} \; (+ \Delta^{l}), \quad \bar E = \tfrac1L \sum_{l=1}^{L} E^l, \quad
              \mathcal L = \mathcal L_{BPR}(\bar E) + \lambda \, \mathrm{InfoNCE}(\bar E, E^{l^*}) + reg

    with noise in training only. l* is ``layer_cl``. All terms are means, the contrast over the distinct users and
    items of a batch. The weight decay is LightGCN's.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.layer_cl = int(config["layer_cl"])
        if not 1 <= self.layer_cl <= self.n_layers:
            raise UsageError(f"layer_cl must be from 1 to n_layers = {self.n_layers}, but is {self.layer_cl}.")

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch of likes."""
        users, items, sampled = columns(self, batch)
        layers = self.layers(self.eps)
        final = mean(layers)
        ranking = mean_bpr(*final, users, items, sampled)
        contrast = self.contrast_of(final, layers[self.layer_cl - 1], users.unique(), items.unique())
        return ranking + self.reg_weight * self.decay(users, items, sampled) + self.cl_rate * contrast
