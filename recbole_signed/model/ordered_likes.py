"""What closed forms that read each user's likes in their order share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from logging import getLogger
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.arrays import begins, contains
from recbole_signed.atomic.signs import HOW_TO_SIGN
from recbole_signed.graph.sparse_kernels import rows_product
from recbole_signed.model.training_free import TrainingFreeRecommender

IntArray = npt.NDArray[np.int64]


class OrderedLikesRecommender(TrainingFreeRecommender):
    r"""Scores :math:`x_u B`, where a like counts :math:`e^{-r/\delta_\text{inf}}` if r moments of the user are later.

    ``fit`` of a subclass makes ``item_weights``, which is B, over the items with a like in training. ``_rows`` are
    user, column of B, moment of the user and the user's last moment of each like; likes of one time are one moment.
    Without timestamps all are, and a warning says what the model is then (``without_order``).
    """

    family = "linear transitions"
    needs_sign = False
    uses_dislikes = False
    without_order = ""
    parameter_ranges: ClassVar[Mapping[str, str]] = {"inference_decay": "(0, inf)"}
    fitted: tuple[str, ...] = ("item_weights",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.inference_decay = float(config["inference_decay"])
        user, item, time = self._likes(dataset)
        self.has_order = time is not None
        if not self.has_order:
            why = f"exact times are read from data with a sign alone; {HOW_TO_SIGN}"
            why = "the data set has no timestamps." if hasattr(dataset, "times") else why
            getLogger().warning(f"{self.without_order}: {why}")
            self.inference_decay = math.inf
        liked = np.flatnonzero(np.bincount(item, minlength=self.n_items))
        self.register_buffer("item_weights", torch.zeros(len(liked), 0))
        self.register_buffer("liked", torch.from_numpy(liked))
        time = np.zeros(len(user)) if time is None else time
        self._rows = user, np.searchsorted(liked, item), *moments(user, time)
        self._users = self._weighted(*self._rows)

    @staticmethod
    def _likes(dataset: Any) -> tuple[IntArray, IntArray, npt.NDArray[Any] | None]:
        """Return users, items and exact times of the likes, ``[n]`` each; no times where there are none."""
        user, item = (dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        time = dataset.times("inter_feat") if hasattr(dataset, "times") else None
        return user, item, None if time is None else np.asarray(time)

    def _weighted(self, user: IntArray, column: IntArray, moment: IntArray, last: IntArray) -> sp.csr_matrix:
        """Return x of all users, CSR ``[n_users, n_liked]``."""
        weight = np.exp(-(last - moment) / self.inference_decay)
        return sp.csr_matrix((weight, (user, column)), shape=(self.n_users, len(self.liked)), dtype=np.float32)

    def read_histories(self, dataset: Any) -> None:
        """Score users by their likes in another data set; those of items without a like in training count nothing."""
        super().read_histories(dataset)
        user, item, time = self._likes(dataset)
        moment, last = moments(user, np.zeros(len(user)) if time is None else time)
        liked = self.liked.cpu().numpy()
        known = contains(liked, item)
        column = np.searchsorted(liked, item[known])
        self._users = self._weighted(user[known], column, moment[known], last[known])

    def weights_of(self, item: int) -> torch.Tensor:
        """Return what a like of an item adds to the score of each, ``[n_items]``: its row of B; -inf where none is."""
        weights = torch.full((self.n_items,), -torch.inf, device=self.device)
        if bool((self.liked == item).any()):
            weights[self.liked] = self.item_weights[int(torch.searchsorted(self.liked, item))]
        return weights

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        scores = torch.zeros(len(users), self.n_items, device=self.device)
        if self.item_weights.numel():
            scores[:, self.liked] = rows_product(self._users[users.cpu().numpy()], self.item_weights)
        return scores


def moments(user: IntArray, time: npt.NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Return for each row the number of earlier moments of its user, and that of the user's last one, ``[n]`` each."""
    order = np.lexsort((time, user))
    users, times = user[order], time[order]
    count = np.cumsum(begins(users, times))
    ranks: IntArray = count - np.maximum.accumulate(np.where(begins(users), count, 0))
    moment = np.empty(len(user), dtype=np.int64)
    moment[order] = ranks
    last = np.zeros(int(user.max(initial=0)) + 1, dtype=np.int64)
    np.maximum.at(last, user, moment)
    return moment, last[user]
