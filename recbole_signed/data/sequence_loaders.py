"""Batches of sequences of signed data: rows to train on, and rows to be ranked with their masks and dislikes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader, TrainDataLoader

from recbole_signed.data.dataloader import SignedEvalBatch, drawn_users
from recbole_signed.data.item_lists import ItemLists
from recbole_signed.data.sequential import SignedSequentialDataset


class SignedSequenceEvalDataLoader(FullSortEvalDataLoader):
    """RecBole's full-sort loader of held-out rows, with what must not be recommended and the held-out dislikes.

    A user is ranked once for each held-out like, and the user's held-out dislikes count each time. ``eval_users: N``
    draws N of the users, as for general models.
    """

    def __init__(self, config: Any, dataset: SignedSequentialDataset, sampler: Any, shuffle: bool = False) -> None:
        users = dataset.inter_feat[dataset.uid_field].numpy()
        self._dislikes = ItemLists.from_pairs(*dataset._pairs(dataset.neg_feat), dataset.user_num, dataset.item_num)
        self._history, self._mask_repeats = dataset.history, dataset.signed.mask_repeats
        self.rows = np.flatnonzero(np.isin(users, drawn_users(np.unique(users), config["eval_users"], dataset)))
        super().__init__(config, dataset, sampler, shuffle=shuffle)

    @property
    def users(self) -> torch.Tensor:
        """The users who are evaluated, in ascending order."""
        return torch.from_numpy(np.unique(self._dataset.inter_feat[self.uid_field].numpy()[self.rows]))

    def _init_batch_size_and_step(self) -> None:
        self.sample_size = len(self.rows)
        super()._init_batch_size_and_step()

    def collate_fn(
        self, index: list[int]
    ) -> tuple[SignedEvalBatch, tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return the batch, the (row, item) pairs that must not be recommended, and row and item of held-out likes."""
        rows, _, like_u, like_i = super().collate_fn(self.rows[np.asarray(index)])
        users = rows[self.uid_field]
        dislike_u, dislike_i = (torch.from_numpy(each) for each in self._dislikes.select(users.numpy()))
        batch = SignedEvalBatch(rows.interaction, dislike_u, dislike_i, torch.ones_like(like_u))
        return batch, self.hidden(users, like_i), like_u, like_i

    def hidden(self, users: torch.Tensor, likes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return row and item of what must not be recommended to ``users [n]`` whose targets are ``likes [n]``."""
        row, item = self._history.select(users.numpy())
        stays = np.full(len(row), True) if self._mask_repeats else item != likes.numpy()[row]
        return torch.from_numpy(row[stays]), torch.from_numpy(item[stays])


class WindowLoader(TrainDataLoader):
    """RecBole's training batches of some rows: the last one of each run of ``MAX_ITEM_LIST_LENGTH`` events of a user.

    Runs are counted back from the user's last training target, so that the sequences of these rows cover all events,
    and a model that learns from each place of a sequence sees few of them twice. The order of an epoch depends on the
    seed and its number alone.
    """

    def __init__(self, config: Any, dataset: SignedSequentialDataset, sampler: Any, shuffle: bool = False) -> None:
        users, place = dataset.inter_feat[dataset.uid_field].numpy(), dataset.event_place
        last = np.zeros(dataset.user_num, dtype=np.int64)
        np.maximum.at(last, users, place)
        run = (last[users] - place) // dataset.max_item_list_len
        order = np.lexsort((-place, run, users))
        new = np.append(True, (users[order][1:] != users[order][:-1]) | (run[order][1:] != run[order][:-1]))
        self.rows = np.sort(order[new[: len(order)]])
        super().__init__(config, dataset, sampler, shuffle=shuffle)

    def _init_batch_size_and_step(self) -> None:
        self.sample_size = len(self.rows)
        super()._init_batch_size_and_step()

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of ``epoch``."""
        state = np.random.SeedSequence([int(self.config["seed"]), epoch]).generate_state(1, np.uint64)[0]
        self.generator.manual_seed(int(state >> np.uint64(1)))

    def collate_fn(self, index: list[int]) -> Any:
        """Return the rows with the numbers ``index`` among those that are trained on."""
        return super().collate_fn(self.rows[np.asarray(index)])
