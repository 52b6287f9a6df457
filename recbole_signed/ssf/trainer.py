"""The trainer of the family: lets a model choose its parameters on validation, and fits it once."""

from __future__ import annotations

from typing import Any

from recbole_signed.data.dataloader import SignedFullSortEvalDataLoader
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

    def _ranking(self, valid_data: Any) -> SignedFullSortEvalDataLoader:
        """Rank all items even where RecBole's evaluation ranks sampled ones."""
        if isinstance(valid_data, SignedFullSortEvalDataLoader):
            return valid_data
        return SignedFullSortEvalDataLoader(self.config, valid_data._dataset, None)
