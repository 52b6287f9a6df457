"""Batches of signed data, for training and evaluation, made without a Python loop over edges or users."""

from __future__ import annotations

import hashlib
from logging import getLogger
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.dataloader import FullSortEvalDataLoader, TrainDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction

from recbole_signed.arrays import begins, contains
from recbole_signed.data.dataset import SignedDataset
from recbole_signed.data.item_lists import ItemLists, users_at_a_time
from recbole_signed.data.negative_sampling import UnseenItems, sifts_positives
from recbole_signed.data.sequential import SignedSequentialDataset
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import hashes


class SignedEvalBatch(Interaction):
    """A batch of users to be ranked, with their held-out dislikes as row ``dislike_u`` and item ``dislike_i``.

    ``item_keys``, int64 ``[n_items]``, decide between items with equal scores: the smaller key comes first.
    """

    def __init__(
        self,
        interaction: dict[str, torch.Tensor],
        dislike_u: torch.Tensor,
        dislike_i: torch.Tensor,
        like_count: torch.Tensor,
        item_keys: torch.Tensor,
    ) -> None:
        super().__init__(interaction)
        self.dislike_u = dislike_u
        self.dislike_i = dislike_i
        self.like_count = like_count
        self.item_keys = item_keys


class SignedFullSortEvalDataLoader(FullSortEvalDataLoader):
    """RecBole's full-sort loader for a held-out part; ``eval_users: N`` draws users by their names."""

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
        self._item_keys = _item_keys(dataset)
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
            self._item_keys,
        )
        return batch, _tensors(self._history.select(users)), like_u, like_i


def drawn_users(users: npt.NDArray[np.int64], number: Any, dataset: Any) -> npt.NDArray[np.int64]:
    """Return ``number`` of the users, rising; all of them where that is None or more than there are."""
    if number is None:
        return users
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise UsageError(f"eval_users is {number!r}; it must be a whole number of users, 1 or more.")
    if number >= len(users):
        return users
    names = dataset.field2id_token[dataset.uid_field][users]
    keys = [hashlib.blake2b(str(name).encode(), digest_size=8, key=b"eval_users").digest() for name in names]
    return users[np.sort(np.argsort(np.array(keys), kind="stable")[:number])]


def _item_keys(dataset: Any) -> torch.Tensor:
    return torch.from_numpy(hashes(dataset.field2id_token[dataset.iid_field]))


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


# ---- sequences ----


class SignedSequenceEvalDataLoader(FullSortEvalDataLoader):
    """RecBole's full-sort loader of held-out rows: a user is ranked once for each held-out like."""

    def __init__(self, config: Any, dataset: SignedSequentialDataset, sampler: Any, shuffle: bool = False) -> None:
        users = dataset.inter_feat[dataset.uid_field].numpy()
        self._dislikes = ItemLists.from_pairs(*dataset._pairs(dataset.neg_feat), dataset.user_num, dataset.item_num)
        self._history, self._mask_repeats = dataset.history, dataset.signed.mask_repeats
        self._item_keys = _item_keys(dataset)
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
        dislike_u, dislike_i = (torch.from_numpy(array) for array in self._dislikes.select(users.numpy()))
        batch = SignedEvalBatch(rows.interaction, dislike_u, dislike_i, torch.ones_like(like_u), self._item_keys)
        return batch, self.hidden(users, like_i), like_u, like_i

    def hidden(self, users: torch.Tensor, likes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return row and item of what must not be recommended to ``users [n]`` whose targets are ``likes [n]``."""
        row, item = self._history.select(users.numpy())
        stays = np.full(len(row), True) if self._mask_repeats else item != likes.numpy()[row]
        return torch.from_numpy(row[stays]), torch.from_numpy(item[stays])


class WindowLoader(TrainDataLoader):
    """RecBole's training batches of each ``MAX_ITEM_LIST_LENGTH``-th event from the last: sequences cover all."""

    def __init__(self, config: Any, dataset: SignedSequentialDataset, sampler: Any, shuffle: bool = False) -> None:
        users, place = dataset.inter_feat[dataset.uid_field].numpy(), dataset.event_place
        last = np.zeros(dataset.user_num, dtype=np.int64)
        np.maximum.at(last, users, place)
        run = (last[users] - place) // dataset.max_item_list_len
        order = np.lexsort((-place, run, users))
        self.rows = np.sort(order[begins(users[order], run[order])])
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


# ---- training ----


SIGN = "sign"  # column of a batch: 1 for a like, -1 for a dislike


class SignedTrainDataLoader(AbstractDataLoader):
    """Shuffled batches of training edges for models that say what they want by their attribute ``batches``.

    ``"edges"``: likes and dislikes; sampled items have no edge to the user. ``"likes"``: likes alone, sampled items
    are not liked. A batch has users and items ``[B]``, ``sign [B]``, and the sampled items under ``NEG_PREFIX``, ``[B,
    n_negatives]``, drawn by degree to the power ``negative_exponent``. An epoch depends on the seed and its number
    alone.
    """

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = True) -> None:
        self.logger = getLogger()
        self.epoch = -1
        kind, known = config.model_class.batches, {"edges": ("inter_feat", "neg_feat"), "likes": ("inter_feat",)}
        if kind not in known:
            raise UsageError(f"{config['model']}.batches is {kind!r}; it must be one of {', '.join(known)}, or None.")
        names = known[kind]
        tables = [getattr(dataset, name) for name in names]
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.neg_item_field = config["NEG_PREFIX"] + self.iid_field
        self.users, self.items = (
            torch.cat([table[field] for table in tables]) for field in (self.uid_field, self.iid_field)
        )
        self.signs = torch.cat(
            [torch.full((len(table),), sign) for table, sign in zip(tables, (1.0, -1.0), strict=False)]
        )
        given = getattr(config, "external_config_dict", {})
        if given.get("train_neg_sample_args"):
            self.logger.warning(
                f"train_neg_sample_args has no effect on {config['model']}: n_negatives and negative_exponent say how "
                "its items are sampled."
            )
        self.n_negatives = int(config["n_negatives"] or 0)
        self.unseen = self._unseen(config, dataset.item_num)
        if self.n_negatives:
            self._refuse_full_users(dataset)
        self.order = torch.arange(len(self.users))
        super().__init__(config, dataset, sampler, shuffle=False)
        self.shuffle = shuffle

    def _unseen(self, config: Any, n_items: int) -> UnseenItems:
        weights, exponent = None, float(config["negative_exponent"] or 0.0)
        if exponent:
            degrees = torch.bincount(self.items, minlength=n_items).double().numpy()
            weights = np.where(degrees > 0, np.maximum(degrees, 1.0) ** exponent, 0.0)
        known = slice(None) if sifts_positives(config) else slice(0)
        return UnseenItems.from_pairs(self.users[known].numpy(), self.items[known].numpy(), n_items, weights)

    def _refuse_full_users(self, dataset: Any) -> None:
        users = np.unique(self.users.numpy())
        full = users[~self.unseen.can_draw(users)]
        if len(full):
            user = dataset.id2token(self.uid_field, int(full[0]))
            raise UsageError(
                f"the user '{user}' has an edge to every item that could be drawn, so there is no negative; leave such "
                "users out (user_inter_num_interval), or take a model that draws none, such as SSF."
            )

    def _init_batch_size_and_step(self) -> None:
        self.step = 1
        self.set_batch_size(self.config["train_batch_size"] or max(len(self.users), 1))  # 0: all in one batch
        self.sample_size = -(-len(self.users) // self._batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of ``epoch``; without a call, passes are counted from 0."""
        self.epoch = epoch - 1

    def __iter__(self) -> Any:
        self.epoch += 1
        if self.shuffle:
            generator = torch.Generator().manual_seed(self._seed())
            self.order = torch.randperm(len(self.users), generator=generator)
        return super().__iter__()

    def _seed(self, batch: int = 0) -> int:
        state = np.random.SeedSequence([int(self.config["seed"]), self.epoch, batch])
        return int(state.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def collate_fn(self, index: list[int]) -> Interaction:
        """Return the batch of the number ``index[0]``."""
        number = index[0]
        rows = self.order[number * self._batch_size : (number + 1) * self._batch_size]
        users = self.users[rows]
        columns = {self.uid_field: users, self.iid_field: self.items[rows], SIGN: self.signs[rows]}
        if self.n_negatives:
            rng = np.random.default_rng(self._seed(number + 1))
            columns[self.neg_item_field] = torch.from_numpy(self.unseen.draw(users.numpy(), self.n_negatives, rng))
        return Interaction(columns)

    def get_model(self, model: Any) -> None:
        """Take no notice: RecBole's dynamic sampling would ask the model for hard negatives."""
