"""The trainer of the family: lets a model choose its parameters on validation, and fits it once."""

from __future__ import annotations

from typing import Any

import torch

from recbole_signed.data.dataloader import SignedFullSortEvalDataLoader
from recbole_signed.evaluation.collector import reads_all_scores
from recbole_signed.trainer.signed_trainer import SignedTrainer


class SSFTrainer(SignedTrainer):
    """Fits once, after the choice of parameters."""

    def fit(self, train_data: Any, valid_data: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Tune on ``valid_data`` where the model is ``auto``, then fit, validate and save as RecBole does."""
        if self.model.auto and self.start_epoch < self.epochs:
            if valid_data:
                self.model.tune(self._ranking(valid_data))
            else:
                self.logger.warning("There is no validation part to choose parameters on: the configured ones hold.")
        return super().fit(train_data, valid_data, *args, **kwargs)

    def _train_epoch(self, *args: Any, **kwargs: Any) -> Any:
        """Fit, then choose what the fit leaves open."""
        result = super()._train_epoch(*args, **kwargs)
        self.model.spend()
        return result

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:
        """Score a batch; in a large catalogue exactly where the metrics look alone, which takes a part of the time."""
        interaction, _, like_u, like_i = batched_data
        signed = hasattr(interaction, "dislike_u") and not reads_all_scores(self.eval_collector)
        scores = self._list_scores(*batched_data) if signed else None
        if scores is None:
            return super()._full_sort_batch_eval(batched_data)
        return interaction, scores, like_u, like_i

    def _list_scores(
        self, interaction: Any, hidden: Any, like_u: torch.Tensor, like_i: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the scores of a batch that metrics look at, ``[batch, n_items]``; None where nothing is gained."""
        lists = getattr(self.model, "list_scores", None)  # a live learner may stand in for the model
        if lists is None:
            return None
        row, item = hidden
        padding = torch.arange(len(interaction)), torch.zeros(len(interaction), dtype=torch.int64)
        hidden = torch.cat((row, padding[0])), torch.cat((item, padding[1]))
        read = torch.cat((like_u, interaction.dislike_u)), torch.cat((like_i, interaction.dislike_i))
        users = self.model.edges_of(interaction[self.model.USER_ID])
        return lists.scores(users, hidden, max(self.config["topk"]), read)

    def _ranking(self, valid_data: Any) -> SignedFullSortEvalDataLoader:
        """Rank all items even where RecBole's evaluation ranks sampled ones."""
        if isinstance(valid_data, SignedFullSortEvalDataLoader):
            return valid_data
        return SignedFullSortEvalDataLoader(self.config, valid_data._dataset, None)
