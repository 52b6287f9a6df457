"""Recall and NDCG within groups of users and of items that have few or many training edges, and of new items.

An edge is a like or a dislike; a pair counts once. A group that nobody is in has no value, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.arrays import distinct
from recbole_signed.data.settings import GROUP_KEYS, ITEMS, USERS, bounds_of, in_group, labels_of
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.metrics import (
    LIKE,
    VERDICTS,
    FloatArray,
    PerUserMetric,
    PerUserTopkMetric,
    collected,
    ndcg_at,
    recall_at,
    result_key,
)

GROUPS = "rec.groups"  # `[n_users, 1 + max_k + n_groups]`: group, group at each rank, likes held out by group


class EdgeGroups(NamedTuple):
    """The group of every user and item of a data set, by RecBole's ids."""

    user: torch.Tensor  # `[n_users]`
    item: torch.Tensor  # `[n_items]`
    n_item_groups: int

    @classmethod
    def of_training(cls, dataset: Any, config: Any) -> EdgeGroups:
        """Count the edges of a training part and put users and items into their groups."""
        n_users, n_items = dataset.user_num, dataset.item_num
        users, items = training_edges(dataset)
        pairs = distinct(users * n_items + items)
        bounds = {side: bounds_of(side, config[key]) for side, key in GROUP_KEYS.items()}
        return cls(
            _groups(np.bincount(pairs // n_items, minlength=n_users), bounds[USERS]),
            _groups(np.bincount(pairs % n_items, minlength=n_items), bounds[ITEMS]),
            len(bounds[ITEMS]) + 1,
        )

    def of_batch(self, users: torch.Tensor, items: torch.Tensor, likes: torch.Tensor, n_items: int) -> torch.Tensor:
        """Return :data:`GROUPS` of a batch; ``likes`` are ``row * n_items + item``, distinct."""
        row, group = likes // n_items, self.item[likes % n_items]
        counts = torch.bincount(row * self.n_item_groups + group, minlength=len(users) * self.n_item_groups)
        columns = (self.user[users.cpu()][:, None], self.item[items.cpu()], counts.view(len(users), -1))
        return torch.cat(columns, dim=1).to(torch.int32)


def training_edges(dataset: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return user and item of the likes and dislikes of a training part, ``[n_edges]`` each."""
    tables = [table for table in (dataset.inter_feat, getattr(dataset, "neg_feat", None)) if table is not None]
    pairs = [tuple(table[field].numpy() for field in (dataset.uid_field, dataset.iid_field)) for table in tables]
    if hasattr(dataset, "liked_pairs"):
        pairs[0] = dataset.liked_pairs()
    users, items = (np.concatenate(columns).astype(np.int64) for columns in zip(*pairs, strict=True))
    return users, items


def _groups(n_edges: npt.NDArray[np.int64], bounds: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.searchsorted(np.array(bounds), n_edges))


class _Grouped(NamedTuple):
    like: npt.NDArray[np.bool_]  # `[n_users, max_k]`: the item at this rank is a held-out like
    n_likes: npt.NDArray[np.integer[Any]]  # `[n_users]`, with repeated rows as often as they occur
    user: npt.NDArray[np.integer[Any]]  # `[n_users]`, the user's group
    item: npt.NDArray[np.integer[Any]]  # `[n_users, max_k]`, the group of the item at this rank
    n_likes_in: npt.NDArray[np.integer[Any]]  # `[n_users, n_item_groups]`, distinct ones


class _GroupMetric(PerUserTopkMetric):
    metric_need = [VERDICTS, GROUPS]  # noqa: RUF012 (RecBole's convention)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.labels = {side: labels_of(side, bounds_of(side, config[key])) for side, key in GROUP_KEYS.items()}

    def used_info(self, dataobject: Any) -> _Grouped:
        """Unpack what the collector gathered."""
        verdicts, groups = (collected(dataobject, key, result_key(self)).numpy() for key in (VERDICTS, GROUPS))
        n_ranks = verdicts.shape[1] - 2
        like = (verdicts[:, :n_ranks] & LIKE) > 0
        return _Grouped(like, verdicts[:, -2], groups[:, 0], groups[:, 1 : 1 + n_ranks], groups[:, 1 + n_ranks :])

    def values(self, dataobject: Any) -> Iterator[tuple[str, FloatArray]]:
        """See :meth:`~recbole_signed.evaluation.metrics.PerUserTopkMetric.values`."""
        held = self.used_info(dataobject)
        overall = self.at_every_k(held.like, held.n_likes)
        for number, label in enumerate(self.labels[USERS]):
            yield in_group("", label), np.where((held.user == number)[:, None], overall, np.nan)
        for number, label in enumerate(self.labels[ITEMS]):
            relevant = held.n_likes_in[:, number]
            values = self.at_every_k(held.like & (held.item == number), relevant)
            yield in_group("", label), np.where((relevant > 0)[:, None], values, np.nan)


class GroupRecall(_GroupMetric):
    r"""Recall by the number of training edges: ``recall@20[users 1-5]``, ``recall@20[items 51+]``; higher is better.

    For a group of users the mean of Recall@k over its evaluated users. For a group of items :math:`G` the recall of the
    held-out likes in it, in the ranking of all items, over the users who have such likes:

    .. math::
        \frac{1}{|\{u: T^+_u \cap G \neq \emptyset\}|} \sum_u \frac{|L_u \cap T^+_u \cap G|}{|T^+_u \cap G|}
    """

    result = "recall"
    at_every_k = staticmethod(recall_at)


class GroupNDCG(_GroupMetric):
    """NDCG by the number of training edges, ``ndcg@20[users 1-5]``: as :class:`GroupRecall`; higher is better."""

    result = "ndcg"
    at_every_k = staticmethod(ndcg_at)


class GroupShare(_GroupMetric):
    """How large the groups are; a property of the data, neither good nor bad.

    ``groupshare[users 1-5]``: share of the evaluated users who are in the group. ``groupshare[items 51+]``: share of a
    user's held-out likes that are in the group, the mean over the evaluated users.
    """

    def per_user(self, dataobject: Any) -> dict[str, FloatArray]:
        """See :meth:`~recbole_signed.evaluation.metrics.PerUserMetric.per_user`."""
        held = self.used_info(dataobject)
        of_users = (held.user[:, None] == np.arange(len(self.labels[USERS]))).astype(np.float64)
        of_items = held.n_likes_in / np.maximum(held.n_likes_in.sum(axis=1, keepdims=True), 1)
        return {
            in_group("groupshare", label): values[:, number]
            for side, values in ((USERS, of_users), (ITEMS, of_items))
            for number, label in enumerate(self.labels[side])
        }


GROUP_METRICS: dict[str, type[PerUserMetric]] = {
    metric.__name__: metric for metric in (GroupRecall, GroupNDCG, GroupShare)
}
"""The metrics of this module by class name, as they are written under ``metrics:``."""


def no_training_edges(collector: Any, metrics: Iterable[str]) -> UsageError:
    """Return the error for an evaluation that has not seen the training part."""
    asked = ", ".join(name for name in metrics if collector.register.has_metric(name))
    return UsageError(
        f"{asked} groups by training edges, which this evaluation has not seen; train with the same trainer, or call "
        "trainer.eval_collector.data_collect(train_data) before trainer.evaluate()."
    )


# ---- items without a training edge, among such items alone: what a model makes of the new ones ----

COLD = "rec.cold"  # `[n_users, max_k + 1]`: 1 at each rank of a new item that is a hit, new likes held out


def without_edges(dataset: Any) -> torch.Tensor:
    """Return which items have no like and no dislike in a training part, bool ``[n_items]``; not the padding item."""
    _, items = training_edges(dataset)
    cold = torch.ones(dataset.item_num, dtype=torch.bool)
    cold[0] = False
    cold[torch.from_numpy(items)] = False
    return cold


class _ColdMetric(PerUserTopkMetric):
    metric_need = [COLD]  # noqa: RUF012 (RecBole's convention)

    def values(self, dataobject: Any) -> Iterator[tuple[str, FloatArray]]:
        """See :meth:`~recbole_signed.evaluation.metrics.PerUserTopkMetric.values`."""
        held = collected(dataobject, COLD, result_key(self)).numpy()
        relevant = held[:, -1]
        yield "", np.where((relevant > 0)[:, None], self.at_every_k(held[:, :-1] > 0, relevant), np.nan)


class ColdRecall(_ColdMetric):
    """Recall of the held-out likes of items without a training edge, among these items; higher is better."""

    at_every_k = staticmethod(recall_at)


class ColdNDCG(_ColdMetric):
    """NDCG of the held-out likes of items without a training edge, among these items; higher is better."""

    at_every_k = staticmethod(ndcg_at)


COLD_METRICS: dict[str, type[PerUserMetric]] = {metric.__name__: metric for metric in (ColdRecall, ColdNDCG)}
"""The metrics of this module by class name, as they are written under ``metrics:``."""
