r"""SignedSASRec
################################################
Reference:
    Wang-Cheng Kang and Julian McAuley. "Self-Attentive Sequential Recommendation." in ICDM 2018.
    Veronika Ivanova et al. "Benefiting from Negative yet Informative Feedback by Contrasting Opposing Sequential
    Patterns." in RecSys 2025.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.layers import TransformerEncoder
from recbole.utils import InputType
from torch import nn
from torch.nn import functional

from recbole_signed.data.sequential import SIGN_LIST
from recbole_signed.errors import UsageError
from recbole_signed.model.abstract_recommender import SignedSequentialRecommender


class SignedSASRec(SignedSequentialRecommender):
    r"""SASRec over likes and dislikes: the sign is part of the input, and disliked next items are pushed down.

    A user's last events :math:`x_1 \ldots x_n` with signs s go through SASRec's causal transformer,

    .. math:: h_j = \mathrm{SASRec}(e_{x_1} + g_{s_1} + p_1, \ldots, e_{x_j} + g_{s_j} + p_j),

    and the score of item i after j events is :math:`h_j \cdot e_i`. Each place learns: with :math:`i^+_j` the next
    item liked after place j, and :math:`D` the places whose very next event is a dislike, of item :math:`x_{j+1}`,

    .. math::
        L = \frac1{|J|} \sum_{j \in J} -\log \frac{e^{h_j \cdot e_{i^+_j}}}{\sum_i e^{h_j \cdot e_i}}
            + \frac{\mu}{|J|} \sum_{j \in D} \log\big(1 + e^{h_j \cdot e_{x_{j+1}} - h_j \cdot e_{i^+_j}}\big).

    The closest publication is PNFRec: two SASRec encoders, one for each sign, a cross entropy for each and a contrast
    of the two. Here one encoder reads both signs in their order, and the contrast is between a disliked item and the
    next liked one at the same place. Unlike RecBole's SASRec, all places of a sequence are learned from at once, in
    windows (:class:`~recbole_signed.data.dataloader.WindowLoader`); ``train_batch_size`` counts these.
    """

    input_type = InputType.POINTWISE
    reads = "windows"
    trainer_class = "recbole_signed.trainer.signed_trainer:SignedTrainer"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, dropout = int(config["hidden_size"]), float(config["hidden_dropout_prob"])
        if size % int(config["n_heads"]):
            raise UsageError(f"hidden_size is {size}; it must be a multiple of n_heads, which is {config['n_heads']}.")
        self.dislike_weight = float(config["dislike_weight"])
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.sign_embedding = nn.Embedding(3, size, padding_idx=1)  # dislike, padding, like
        self.position_embedding = nn.Embedding(self.max_seq_length, size)
        self.encoder = TransformerEncoder(
            n_layers=config["n_layers"],
            n_heads=config["n_heads"],
            hidden_size=size,
            inner_size=config["inner_size"],
            hidden_dropout_prob=dropout,
            attn_dropout_prob=config["attn_dropout_prob"],
            hidden_act=config["hidden_act"],
            layer_norm_eps=config["layer_norm_eps"],
        )
        self.norm = nn.LayerNorm(size, eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(dropout)
        self.initializer_range = float(config["initializer_range"])
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        """RecBole's start of SASRec."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.normal_(0.0, self.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.zero_()

    def forward(self, batch: Any) -> torch.Tensor:
        """Return h of all places, ``[batch, length, d]``."""
        items = batch[self.ITEM_SEQ]
        places = torch.arange(items.shape[1], device=items.device)
        signs = batch[SIGN_LIST].to(torch.int64) + 1
        events = self.item_embedding(items) + self.sign_embedding(signs) + self.position_embedding(places)
        states: torch.Tensor = self.encoder(
            self.dropout(self.norm(events)), self.get_attention_mask(items), output_all_encoded_layers=False
        )[-1]
        return states

    def _last(self, batch: Any) -> torch.Tensor:
        """Return h of the last event of each sequence, ``[batch, d]``."""
        return self.gather_indexes(self.forward(batch), batch[self.ITEM_SEQ_LEN] - 1)

    def next_events(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return each place's next liked item (0: none), next item, and whether it is disliked, ``[batch, n]``."""
        items, signs, target = batch[self.ITEM_SEQ], batch[SIGN_LIST].to(torch.int64), batch[self.ITEM_ID][:, None]
        length = batch[self.ITEM_SEQ_LEN][:, None]
        place = torch.arange(items.shape[1], device=items.device)
        ends = place == length - 1
        following = torch.where(ends, target, items.roll(-1, dims=1))
        disliked = ~ends & (signs.roll(-1, dims=1) < 0) & (place < length)
        # the place of the next like: the smallest one at or after this, looked up from the right
        at = torch.where(disliked, items.shape[1], place).flip(1).cummin(dim=1).values.flip(1)
        next_like = following.gather(1, at.clamp(max=items.shape[1] - 1))
        return torch.where(place < length, next_like, 0), following, disliked

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return L, a scalar."""
        batch = self.with_signs(interaction)
        next_like, following, disliked = self.next_events(batch)
        states, learns = self.forward(batch), next_like > 0
        logits = states[learns] @ self.item_embedding.weight.T
        loss = functional.cross_entropy(logits, next_like[learns])
        if not self.dislike_weight:
            return loss
        against = disliked[learns]
        rows = logits[against]
        gap = rows.gather(1, following[learns][against][:, None]) - rows.gather(1, next_like[learns][against][:, None])
        return loss + self.dislike_weight * functional.softplus(gap).sum() / len(logits)

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return the score of an item after each sequence, ``[batch]``."""
        last = self._last(self.with_signs(interaction))
        return (last * self.item_embedding(interaction[self.ITEM_ID])).sum(dim=1)

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores of all items after each sequence, ``[batch, n_items]``."""
        return self._last(self.with_signs(interaction)) @ self.item_embedding.weight.T
