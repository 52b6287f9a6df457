"""Training batches of signed edges with sampled unknown items, made without a Python loop over edges."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction

from recbole_signed.data.negative_sampling import UnseenItems, sifts_positives
from recbole_signed.errors import UsageError

SIGN = "sign"
"""Column of a batch: 1 for a like, -1 for a dislike."""


class SignedTrainDataLoader(AbstractDataLoader):
    """Shuffled batches of training edges for models that say what they want by their attribute ``batches``.

    ``"edges"``: likes and dislikes; sampled items have no edge to the user. ``"likes"``: likes alone; sampled items
    are not liked by the user, as in RecBole. A batch is an ``Interaction`` with the user and item ids ``[B]``,
    ``sign [B]``, and the sampled items under RecBole's ``NEG_PREFIX``, ``[B, n_negatives]``. Rows that repeat a pair
    count as often as they occur.

    Configuration keys: ``train_batch_size`` edges (0: all of them in one batch), ``n_negatives`` (K),
    ``negative_exponent``: an item is drawn in proportion to that power of the number of edges it has; 0: uniformly;
    ``sift_positives``: False lets sampled items be any, those that the user has an edge to included.

    What an epoch brings depends on the seed and its number alone, so a training that goes on from a checkpoint sees
    what it would have seen without the interruption. RecBole hands its loaders one row number after another; this one
    is handed numbers of batches.
    """

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = True) -> None:
        self.logger = getLogger()
        self.epoch = -1
        names = ("inter_feat", "neg_feat") if config.model_class.batches == "edges" else ("inter_feat",)
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
