"""Dislike aversion for every model: at evaluation time, scores are weighed by the like rates of the items.

SSF has it in its score. Any other model gets it by the key ``dislike_aversion``, in :func:`class_for`: its instance is
then one of a subclass that ranks by weighed scores, in validation (and so early stopping), test and recommendation. The
loss and the parameters stay as they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

from recbole_signed.errors import UsageError
from recbole_signed.graph import like_rates
from recbole_signed.plugin import facts_of

SMOOTHING = 5.0
"""Default of ``verdict_smoothing``, as in SSF."""
SMALLEST = 1e-30
"""What a power of a like rate is at least, so that a negative score over it stays finite."""


def weighed(scores: torch.Tensor, log_rates: torch.Tensor, aversion: float, *, logits: bool) -> torch.Tensor:
    r"""Return scores with a model's :math:`r_i^g` in them; the scores themselves where g is 0.

    What the rule must do: an item of a lower like rate never gains, and between items of one rate nothing changes. What
    the product of "the user meets the item" and "then likes it", :math:`e^{\log p} r^g`, is depends on what a score is:

    * **Estimates** (closed forms, neighbours, popularity: SSF's own case): a score is proportional to p, so it is
      multiplied by :math:`r^g`. Small negative scores are divided by it, since a product would raise what is disliked:
      the rule is odd and continuous, and a change of a model's unit changes no ranking.
    * **Logits** (what is trained by gradients, mostly by BPR or a softmax): differences of scores are log odds, and the
      zero means nothing, so :math:`g \log r` is added. It is the same product, and no constant that a model adds to a
      user's scores changes a ranking. Their unit is the model's own, which g takes up where it is chosen on validation.

    Args:
        scores: any shape.
        log_rates: logarithm of the like rate of the item of each score; broadcast.
        aversion: g, 0 or more.
        logits: whether the scores are logits.
    """
    if not aversion:
        return scores
    if logits:
        return scores + aversion * log_rates
    factor = (aversion * log_rates).exp().clamp(min=SMALLEST)
    return torch.where(scores < 0, scores / factor, scores * factor)


class RateWeighted:
    """What a model's class is mixed with; see :func:`weighed`.

    Attributes:
        dislike_aversion: g; may be set at any time, nothing is trained again.
        log_like_rates: ``[n_items]``, of the training part. It is no part of a checkpoint's parameters: it follows
            from the data, and g from the configuration that a checkpoint holds.
    """

    dislike_aversion: float = 0.0
    log_like_rates: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)  # type: ignore[call-arg]
        self.weigh(config, dataset)

    def weigh(self, config: Any, dataset: Any) -> None:
        """Take the aversion from the configuration and the like rates from the training part."""
        self.dislike_aversion = float(config["dislike_aversion"])
        self.scores_are_logits = facts_of(str(config["model"])).trained_by_gradients
        smoothing = config["verdict_smoothing"]
        rates = rates_of(dataset, SMOOTHING if smoothing is None else float(smoothing))
        self.register_buffer("log_like_rates", rates.log().to(self.device), persistent=False)  # type: ignore[attr-defined]

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the weighed scores of all items, in the shape that the model gives."""
        scores: torch.Tensor = super().full_sort_predict(interaction)  # type: ignore[misc]
        return self._weighed(scores.view(-1, len(self.log_like_rates)), self.log_like_rates).view(scores.shape)

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return the weighed scores of (user, item) pairs, ``[batch]``."""
        scores: torch.Tensor = super().predict(interaction)  # type: ignore[misc]
        items = interaction[self.ITEM_ID]  # type: ignore[attr-defined]
        return self._weighed(scores, self.log_like_rates[items])

    def _weighed(self, scores: torch.Tensor, log_rates: torch.Tensor) -> torch.Tensor:
        return weighed(scores, log_rates.to(scores), self.dislike_aversion, logits=self.scores_are_logits)


def rates_of(dataset: Any, smoothing: float) -> torch.Tensor:
    """Return the smoothed like rates of a training part, float32 ``[n_items]``; the mean where there is no verdict."""
    likes, dislikes = (
        torch.from_numpy(np.bincount(items, minlength=dataset.item_num)).float()
        for items in (dataset.liked_pairs()[1], dataset.neg_feat[dataset.iid_field].numpy())
    )
    n_likes, n_dislikes = (float(each.double().sum()) for each in (likes, dislikes))
    return like_rates(likes, dislikes, smoothing, n_likes / max(1.0, n_likes + n_dislikes))


def class_for(cls: type, config: Any) -> type:
    """Return the class to make a model of: ``cls``, or its weighed kind where ``dislike_aversion`` is set.

    Raises:
        UsageError: the data has no sign.
    """
    if hasattr(cls, "dislike_aversion") or _given(config, "dislike_aversion") is None:
        return cls
    if config["signed"] is None:
        raise UsageError(
            f"dislike_aversion is set, but the data set '{config['dataset']}' has no dislikes to take like rates from; "
            "use a data set with a sign, or leave the key out."
        )
    return _weighed_kind(cls)


def _given(config: Any, key: str) -> Any:
    return dict(getattr(config, "final_config_dict", config)).get(key)


@cache
def _weighed_kind(cls: type) -> type:
    """Return the subclass, which goes by the name of ``cls``: names lead to trainers, facts and learners."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (RateWeighted, cls), names)
