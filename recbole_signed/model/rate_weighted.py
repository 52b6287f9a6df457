"""Verdicts for every model: at evaluation time, scores are weighed by the like rates of the items, and what is near a
user's dislikes is lowered.

SSF has both in its score. Any other model gets them by the keys ``dislike_aversion`` and ``dislike_strength``, in
:func:`class_for`: its instance is then one of a subclass that ranks by weighed scores, in validation (and so early
stopping), test and recommendation. The loss and the parameters stay as they are.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import torch

from recbole_signed.errors import UsageError
from recbole_signed.graph import aversion_factors, like_rates
from recbole_signed.model.personal_verdict import PersonalVerdicts
from recbole_signed.plugin.facts import facts_of

SMOOTHING = 5.0
"""Default of ``verdict_smoothing``, as in SSF."""
KEYS = "dislike_aversion", "dislike_strength"


def weighed(scores: torch.Tensor, rates: torch.Tensor, aversion: float, *, logits: bool) -> torch.Tensor:
    r"""Return scores with the :math:`v_i` of :func:`~recbole_signed.graph.aversion_factors` in them.

    What the rule must do: an item of a lower like rate never gains, and between items of one rate nothing changes. What
    the product of "the user meets the item" and "then likes it", :math:`e^{\log p} v`, is depends on what a score is:

    * **Estimates** (closed forms, neighbours, popularity: SSF's own case): a score is proportional to p, so it is
      multiplied by :math:`v`. Small negative scores are divided by it, since a product would raise what is disliked:
      the rule is odd and continuous, and a change of a model's unit changes no ranking.
    * **Logits** (what is trained by gradients, mostly by BPR or a softmax): differences of scores are log odds, and the
      zero means nothing, so :math:`\log v` is added. It is the same product, and no constant that a model adds to a
      user's scores changes a ranking. Their unit is the model's own, which g takes up where it is chosen on validation.

    Args:
        scores: any shape.
        rates: like rate of the item of each score over the mean; broadcast.
        aversion: g, 0 or more.
        logits: whether the scores are logits.
    """
    if not aversion:
        return scores
    factor = aversion_factors(rates, 1.0, aversion)
    if logits:
        return scores + factor.log()
    return torch.where(scores < 0, scores / factor, scores * factor)


class RateWeighted:
    """What a model's class is mixed with; see :func:`weighed`.

    Attributes:
        dislike_aversion: g; may be set at any time, nothing is trained again.
        relative_rates: like rates over the mean, ``[n_items]``, of the training part. It is no part of a checkpoint's
            parameters: it follows from the data, and g from the configuration that a checkpoint holds.
        dislike_strength: of the personal verdict, see :mod:`recbole_signed.graph.personal_verdict`; so.
    """

    dislike_aversion: float = 0.0
    dislike_strength: float = 0.0
    relative_rates: torch.Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)  # type: ignore[call-arg]
        self.weigh(config, dataset)

    def weigh(self, config: Any, dataset: Any) -> None:
        """Take the aversion from the configuration and the like rates from the training part."""
        self.dislike_aversion = float(config["dislike_aversion"] or 0)
        self.dislike_strength = float(config["dislike_strength"] or 0)
        self._personal = PersonalVerdicts.of(dataset, dataset.signed_graph()) if self.dislike_strength else None
        self.scores_are_logits = facts_of(str(config["model"])).trained_by_gradients
        smoothing = config["verdict_smoothing"]
        rates = rates_of(dataset, SMOOTHING if smoothing is None else float(smoothing))
        self.register_buffer("relative_rates", rates.to(self.device), persistent=False)  # type: ignore[attr-defined]

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the weighed scores of all items, in the shape that the model gives."""
        found: torch.Tensor = super().full_sort_predict(interaction)  # type: ignore[misc]
        scores = self._weighed(found.view(-1, len(self.relative_rates)), self.relative_rates)
        if self._personal is not None:
            users = interaction[self.USER_ID].cpu().numpy()  # type: ignore[attr-defined]
            order = np.argsort(users, kind="stable")
            own = scores.clone()
            scores = self._personal.judged(  # the same scores with and without some dislikes, of all or of some users
                users,
                lambda _, some: own[torch.from_numpy(order[np.searchsorted(users, some, sorter=order)])],
                self._personal.middle(scores),
                self.dislike_strength,
            )
        return scores.view(found.shape)

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return the weighed scores of (user, item) pairs, ``[batch]``."""
        items = interaction[self.ITEM_ID]  # type: ignore[attr-defined]
        if self._personal is not None:  # which compares with all scores of a user
            scores = self.full_sort_predict(interaction).view(len(items), -1)
            return scores.gather(1, items[:, None])[:, 0]
        return self._weighed(super().predict(interaction), self.relative_rates[items])  # type: ignore[misc]

    def _weighed(self, scores: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
        return weighed(scores, rates.to(scores), self.dislike_aversion, logits=self.scores_are_logits)


def rates_of(dataset: Any, smoothing: float) -> torch.Tensor:
    """Return the smoothed like rates of a training part over their mean, float32 ``[n_items]``."""
    likes, dislikes = (
        torch.from_numpy(np.bincount(items, minlength=dataset.item_num)).float()
        for items in (dataset.liked_pairs()[1], dataset.neg_feat[dataset.iid_field].numpy())
    )
    n_likes, n_dislikes = (float(each.double().sum()) for each in (likes, dislikes))
    mean = n_likes / max(1.0, n_likes + n_dislikes)
    return like_rates(likes, dislikes, smoothing, mean) / max(mean, 1e-15)


def class_for(cls: type, config: Any) -> type:
    """Return the class to make a model of: ``cls``, or its weighed kind where one of the :data:`KEYS` is set.

    Raises:
        UsageError: the data has no sign.
    """
    given = [key for key in KEYS if _given(config, key) is not None]
    if hasattr(cls, "dislike_aversion") or not given:
        return cls
    if config["signed"] is None:
        raise UsageError(
            f"{given[0]} is set, but the data set '{config['dataset']}' has no dislikes; use a data set with a "
            "sign, or leave the key out."
        )
    return _weighed_kind(cls)


def unweighed(cls: Any, config: Any) -> tuple[Any, Any]:
    """Return the class that a weighed kind was made of, or the class itself, and a configuration that weighs none."""
    config = copy.copy(config)
    config.final_config_dict = {key: value for key, value in config.final_config_dict.items() if key not in KEYS}
    return next(each for each in cls.__mro__ if not issubclass(each, RateWeighted)), config


def _given(config: Any, key: str) -> Any:
    return dict(getattr(config, "final_config_dict", config)).get(key)


@cache
def _weighed_kind(cls: type) -> type:
    """Return the subclass, which goes by the name of ``cls``: names lead to trainers, facts and learners."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (RateWeighted, cls), names)
