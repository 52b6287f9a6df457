"""What models that are fitted in one pass, without gradients, share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from recbole.utils import InputType, ModelType

from recbole_signed.model.abstract_recommender import SignedRecommender


class TrainingFreeRecommender(SignedRecommender):
    """A model with a ``fit()`` whose results are buffers.

    A model names the results in ``fitted``: their last dimension is that of the fit, and may differ from what this
    instance has when a checkpoint is loaded. Before the fit it is 0, and ``score`` returns scores all the same: RecBole
    asks an untrained model for some.
    """

    type = ModelType.TRADITIONAL
    input_type = InputType.POINTWISE
    seedless = True
    trained_by_gradients = False
    fitted: tuple[str, ...] = ()

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.fake_loss = torch.nn.Parameter(torch.zeros(1))  # RecBole's optimizer needs one

    def fit(self) -> None:
        """Fit to the training graph; the same graph gives the same model."""
        raise NotImplementedError(f"{type(self).__name__} has no fit.")

    def loss(self, batch: Any) -> torch.Tensor:
        """Fit, if that has not been done, and return 0: for trainers that do not call :meth:`fit`."""
        if not getattr(self, self.fitted[0]).numel():
            self.fit()
        return self.fake_loss.sum() * 0.0

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        make_room(self, self.fitted, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def make_room(module: torch.nn.Module, names: Iterable[str], state_dict: Mapping[str, Any], prefix: str) -> None:
    """Give buffers of a module the last dimension that they have in a checkpoint, where the others agree."""
    for name in names:
        saved, own = state_dict.get(prefix + name), getattr(module, name)
        if saved is not None and saved.dim() == own.dim() and saved.shape[:-1] == own.shape[:-1]:
            setattr(module, name, torch.empty_like(saved, device=own.device))
