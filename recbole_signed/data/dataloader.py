"""Evaluation batches for signed data: one pass over CSR arrays instead of one Python set per user."""

from __future__ import annotations

import hashlib
from logging import getLogger
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction

from recbole_signed.arrays import contains
from recbole_signed.data.dataset import SignedDataset
from recbole_signed.data.item_lists import ItemLists, users_at_a_time
from recbole_signed.errors import UsageError


class SignedEvalBatch(Interaction):
    """A batch of users to be ranked, with what the dislike-aware metrics need to know of them.

    Attributes:
        dislike_u: ``[n_dislikes]`` row of the batch.
        dislike_i: ``[n_dislikes]`` item that this user disliked, held out.
        like_count: ``[batch]`` held-out likes of each user; repeated rows count as often as they occur.
    """

    def __init__(
        self,
        interaction: dict[str, torch.Tensor],
        dislike_u: torch.Tensor,
        dislike_i: torch.Tensor,
        like_count: torch.Tensor,
    ) -> None:
        super().__init__(interaction)
        self.dislike_u = dislike_u
        self.dislike_i = dislike_i
        self.like_count = like_count


class SignedFullSortEvalDataLoader(FullSortEvalDataLoader):
    """RecBole's full-sort loader for a held-out part of a :class:`SignedDataset`.

    The ranked users are those with a held-out like, as in RecBole. With ``eval_users: N`` they are N of them, drawn by
    their names, so that every model and every order of rows gets the same: what an evaluation costs then no longer
    grows with the number of users.
    """

    def __init__(self, config: Any, dataset: SignedDataset, sampler: Any, shuffle: bool = False) -> None:
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.is_sequential = False
        n_users, n_items = dataset.user_num, dataset.item_num
        users, items = (dataset.inter_feat[field].numpy() for field in (self.uid_field, self.iid_field))
        disliking, disliked = (dataset.neg_feat[field].numpy() for field in (self.uid_field, self.iid_field))

        self._likes = ItemLists.from_pairs(users, items, n_users, n_items)
        self._dislikes = ItemLists.from_pairs(disliking, disliked, n_users, n_items)
        self._like_count = np.bincount(users, minlength=n_users)
        self._history = _without(dataset.history, self._likes, n_items, dataset.signed.mask_repeats)
        self.users: npt.NDArray[np.int64] = drawn_users(np.flatnonzero(self._like_count), config["eval_users"], dataset)
        self.user_df = dataset.join(Interaction({self.uid_field: torch.from_numpy(self.users)}))
        self.sample_size = len(self.users)
        if shuffle:
            self.logger.warning("SignedFullSortEvalDataLoader can't shuffle")
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        if "eval_batch_size" not in getattr(self.config, "external_config_dict", {}):
            self.step = users_at_a_time(self._dataset.item_num, self.config["eval_batch_size"])
            self.set_batch_size(self.step * self._dataset.item_num)

    @property
    def uid2history_item(self) -> _Histories:
        """What must not be recommended to a user, by RecBole's id."""
        return _Histories(self._history)

    def collate_fn(
        self, index: list[int]
    ) -> tuple[SignedEvalBatch, tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return the batch, the (row, item) pairs that must not be recommended, and row and item of held-out likes."""
        rows = torch.as_tensor(index)
        users = self.users[rows.numpy()]
        like_u, like_i = _tensors(self._likes.select(users))
        dislike_u, dislike_i = _tensors(self._dislikes.select(users))
        batch = SignedEvalBatch(
            {column: self.user_df[column][rows] for column in self.user_df.columns},
            dislike_u,
            dislike_i,
            torch.from_numpy(self._like_count[users]),
        )
        return batch, _tensors(self._history.select(users)), like_u, like_i


def drawn_users(users: npt.NDArray[np.int64], wanted: Any, dataset: Any) -> npt.NDArray[np.int64]:
    """Return ``wanted`` of the users, rising; all of them where that is None or more than there are.

    Raises:
        UsageError: ``wanted`` is not a whole number of 1 or more.
    """
    if wanted is None:
        return users
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise UsageError(f"eval_users is {wanted!r}; it must be a whole number of users, 1 or more.")
    if wanted >= len(users):
        return users
    names = dataset.field2id_token[dataset.uid_field][users]
    keys = [hashlib.blake2b(str(name).encode(), digest_size=8, key=b"eval_users").digest() for name in names]
    return users[np.sort(np.argsort(np.array(keys), kind="stable")[:wanted])]


class _Histories:
    """RecBole's ``uid2history_item``, by which ``full_sort_scores`` and ``full_sort_topk`` look histories up."""

    def __init__(self, history: ItemLists) -> None:
        self._history = history

    def __getitem__(self, users: Any) -> list[torch.Tensor]:
        """Return the items that must not be recommended to each of the given users, known or held out."""
        chosen = np.asarray([int(user) for user in users], dtype=np.int64)
        _, items = self._history.select(chosen)
        return list(torch.from_numpy(items).split(self._history.counts(chosen).tolist()))


def _without(history: ItemLists, likes: ItemLists, n_items: int, keep_repeats: bool) -> ItemLists:
    """RecBole never hides a held-out like, even one that was seen before; the published protocol does."""
    if keep_repeats:
        return history
    keys, liked = history.keys(n_items), likes.keys(n_items)
    shown = liked[contains(keys, liked)]  # not the keys among the likes: these are few
    if not len(shown):
        return history
    return ItemLists.from_keys(np.delete(keys, np.searchsorted(keys, shown)), len(history.indptr) - 1, n_items)


def _tensors(pairs: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(pairs[0]), torch.from_numpy(pairs[1])
