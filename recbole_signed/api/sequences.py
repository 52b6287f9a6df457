"""What a sequential model of RecBole reads of a user: the whole sequence, whose next item is to be recommended."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_signed.api.ids import IntArray


class UserSequences:
    """The last items of each user with what is known of them, all parts of the data set together.

    In RecBole's augmented rows, that is the last row with its target at the end; a user of one interaction has none.
    """

    def __init__(self, data: Any) -> None:
        if hasattr(data, "latest"):
            self._hold(data.latest(), data)
            return
        feat, length_field = data.inter_feat, data.item_list_length_field
        users, lengths = feat[data.uid_field].numpy(), feat[length_field].numpy()
        order = np.lexsort((feat[data.time_field].numpy(), lengths, users))
        last = torch.from_numpy(order[np.append(users[order][1:] != users[order][:-1], True)])
        before, longest = feat[length_field][last], data.max_item_list_len
        full = before == longest
        columns = {length_field: (before + 1).clamp(max=longest), data.uid_field: feat[data.uid_field][last]}
        place, rows = torch.where(full, longest - 1, before), torch.arange(len(last))
        for field in feat.columns:
            name = getattr(data, f"{field}_list_field", None)
            if name in feat.columns:
                values = feat[name][last].clone()
                values[full] = values[full].roll(-1, dims=1)
                values[rows, place] = feat[field][last]
                columns[name] = values
        self._hold(Interaction(columns), data)

    def _hold(self, latest: Interaction, data: Any) -> None:
        self._columns = latest.interaction
        self._row = np.full(data.user_num, -1, dtype=np.int64)
        self._row[latest[data.uid_field].numpy()] = np.arange(len(latest))

    def known(self, users: IntArray) -> np.ndarray:
        """Return which users have a sequence, bool ``[n]``."""
        known: np.ndarray = self._row[users] >= 0
        return known

    def of(self, users: IntArray) -> Interaction:
        """Return the sequences of users who have one."""
        rows = torch.from_numpy(self._row[users])
        return Interaction({name: values[rows] for name, values in self._columns.items()})


def likes_without_a_row(dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return user and item of likes that may be the target of no row: a sequence's first; of signed data, all likes."""
    if hasattr(dataset, "all_likes"):
        users, items = dataset.all_likes()
        return torch.from_numpy(users), torch.from_numpy(items)
    feat = dataset.inter_feat
    return feat[dataset.uid_field], feat[getattr(dataset, f"{dataset.iid_field}_list_field")][:, 0]


def liked_items(dataset: Any) -> torch.Tensor:
    """Return the item of each like of a part, ``[n_likes]``; of sequences the first ones too, which are no targets."""
    if hasattr(dataset, "liked_pairs"):
        return torch.from_numpy(dataset.liked_pairs()[1])
    feat = dataset.inter_feat
    items = feat[dataset.iid_field]
    if not hasattr(dataset, "item_list_length_field"):
        return items
    second = feat[dataset.item_list_length_field] == 1
    return torch.cat([items, feat[getattr(dataset, f"{dataset.iid_field}_list_field")][second, 0]])
