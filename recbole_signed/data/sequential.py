"""Sequences for RecBole's sequential models: the likes of a user in the order of time, or all verdicts with signs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_signed.arrays import begins
from recbole_signed.data.dataset import SignedDataset
from recbole_signed.data.split import SplitRule, TimeCuts
from recbole_signed.errors import UsageError

IntArray = npt.NDArray[np.int64]
SIGN_LIST, GAP_LIST = "sign_list", "gap_list"
READS = ("likes", "events", "windows")


class SignedSequentialDataset(SignedDataset, SequentialDataset):
    """RecBole's ``SequentialDataset`` for signed data: a row for each like but the first of a user.

    A row holds the like as the target, and what came before it in ``item_id_list [MAX_ITEM_LIST_LENGTH]``, filled from
    the left, with ``item_length``. The model's class attribute ``reads`` says what: ``"likes"``, as RecBole, but with
    exact times; ``"events"``, dislikes too, with ``sign_list`` (1, -1, 0 for padding) and ``gap_list``, the time from
    the event before; or ``"windows"``, the same in batches of :class:`~recbole_signed.data.dataloader.WindowLoader`. A
    training row sees the earlier training dislikes, a held-out row those of the parts before its own.
    """

    stock_name = "SequentialDataset"
    trains_on = "a like with an earlier one of the same user"
    item_id_list_field: str
    neg_item_list: Any
    neg_item_list_field: str
    _own_first: IntArray | None = None

    def __init__(self, config: Any) -> None:
        name = config["dataset"]
        if config["benchmark_filename"] is not None:
            raise UsageError(
                f"{config['model']} reads sequences in the order of time, but '{name}' is split already; give a data "
                "set that RecBole splits (eval_args)."
            )
        reads = getattr(config.model_class, "reads", "likes")
        if reads not in READS:
            raise UsageError(f"{config['model']}.reads is '{reads}'; it must be one of {', '.join(READS)}.")
        super().__init__(config)

    @property
    def reads(self) -> str:
        """What the sequences are of; a data set that one model's run cached may serve another's."""
        return getattr(self.config.model_class, "reads", "likes")

    # ---- rows ----

    def _change_feat_format(self) -> None:
        SignedDataset._change_feat_format(self)
        if self.item_list_length_field not in self.inter_feat:
            self.data_augmentation()

    def data_augmentation(self) -> None:
        """Make the rows from the likes, as RecBole does, without a loop over them."""
        keys = self._row_keys["inter_feat"]
        if keys.time is None:
            raise UsageError(
                f"{self.config['model']} reads sequences, but '{self.dataset_name}' has no column '{self.time_field}'; "
                "set TIME_FIELD to the column of times."
            )
        self._aug_presets()
        order = np.lexsort((keys.time, self.inter_feat[self.uid_field].numpy()))
        self._likes = self.inter_feat[torch.from_numpy(order)]
        self._like_times = keys.time[order]
        first = _starts(self._likes[self.uid_field].numpy())
        targets = np.flatnonzero(np.arange(len(order)) > first)
        targets = targets[np.argsort(self._like_times[targets], kind="stable")]  # as RecBole leaves them
        rows = self._likes[torch.from_numpy(targets)]
        lists = self._like_lists(first[targets], targets)
        if hasattr(self, "neg_item_list"):  # that of DIEN's data set
            place, _ = self._places(first[targets], targets)
            lists[self.neg_item_list_field] = _gathered(self.neg_item_list, place).to(torch.int64)
        rows.update(Interaction(lists))
        self.inter_feat = rows
        self._row_keys["inter_feat"] = replace(keys.take(order[targets]), number=targets)

    def _places(self, start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        """Return places of the last ``MAX_ITEM_LIST_LENGTH`` events before ``end``, -1 for padding, and how many."""
        longest = self.max_item_list_len
        begin = np.maximum(start, end - longest)
        place = begin[:, None] + np.arange(longest)
        return np.where(place < end[:, None], place, -1), end - begin

    def _like_lists(self, start: IntArray, end: IntArray) -> dict[str, torch.Tensor]:
        """Return ``item_length`` and a list for each column, of the likes from ``start`` to before ``end``, ``[n]``."""
        place, length = self._places(start, end)
        lists = {self.item_list_length_field: torch.from_numpy(length)}
        for field in self._likes.columns:
            if field != self.uid_field:
                lists[getattr(self, f"{field}_list_field")] = _gathered(self._likes[field], place)
        return lists

    # ---- parts ----

    def build(self) -> list[SignedDataset]:
        """Split the rows by the split of their targets; dislikes follow as in :class:`SignedDataset`."""
        order = self.config["eval_args"]["order"]
        if order != "TO":
            raise UsageError(f"{self.config['model']} reads sequences: set eval_args.order to TO, it is {order}.")
        if SplitRule.from_eval_args(self.config["eval_args"]).cold == "item":
            raise UsageError(
                f"eval_args.split CI holds out all edges of some items, but the sequences that {self.config['model']} "
                "reads hold them; use RS, LS, TS or CU."
            )
        parts = SignedDataset.build(self)
        self._deal_first_likes(parts)
        if self.reads != "likes":
            for number, part in enumerate(parts):
                part._read_events(parts[: max(number, 1)])
        return parts

    def _deal_first_likes(self, parts: list[Any]) -> None:
        """Give each user's first like, which is no target, to the part that it would be in by itself."""
        rule = SplitRule.from_eval_args(self.config["eval_args"])
        if rule.cold:
            return
        users, times = self._likes[self.uid_field].numpy(), self._like_times
        first = np.flatnonzero(begins(users))
        place = np.zeros(len(first), dtype=np.int64)
        if rule.mode == "TS" or not rule.by_user:
            targets = np.concatenate([part._numbers for part in parts])
            part_of_targets = np.repeat(np.arange(len(parts)), [len(part._numbers) for part in parts])
            cuts = TimeCuts.from_likes(users[targets], times[targets], part_of_targets, rule, self.user_num)
            place = cuts.part_of(users[first], times[first])
        for number, part in enumerate(parts):
            part._own_first = first[place == number]

    @property
    def _numbers(self) -> IntArray:
        number = self._row_keys["inter_feat"].number
        assert number is not None
        return number

    def _read_events(self, earlier: list[Any]) -> None:
        """Replace the lists of this part's rows by those of likes and dislikes, and count the events before each."""
        self.inter_feat, self.event_place = self._with_events(self.inter_feat, self._numbers, earlier)

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        """Return rows as the model reads them; before the split (RecBole counts operations), all dislikes are in."""
        if self.reads == "likes" or SIGN_LIST in self.inter_feat.columns:
            return SequentialDataset.__getitem__(self, index, join)
        numbers = torch.from_numpy(self._numbers)[index].numpy()
        rows, _ = self._with_events(self.inter_feat[index], numbers, [self])
        return self.join(rows) if join else rows

    def _with_events(self, rows: Interaction, numbers: IntArray, earlier: list[Any]) -> tuple[Interaction, IntArray]:
        """Return rows of likes with the lists of all events, and the number of events before each target."""
        users, item, sign, time, order = self._events(earlier)
        position = np.empty(len(order), dtype=np.int64)
        position[order] = np.arange(len(order))
        end = position[numbers]
        start = _starts(users)[end]
        keep = [self.uid_field, self.iid_field, *self._plain_columns()]
        columns = {field: rows[field] for field in keep}
        columns |= self._event_lists(users, item, sign, time, start, end)
        return Interaction(columns), end - start

    def _plain_columns(self) -> list[str]:
        lists = {getattr(self, f"{field}_list_field") for field in self._likes.columns if field != self.uid_field}
        named = {self.uid_field, self.iid_field, self.item_list_length_field, *lists}
        return [field for field in self.inter_feat.columns if field not in named]

    def _events(self, parts: list[Any]) -> tuple[IntArray, IntArray, IntArray, npt.NDArray[np.float64], IntArray]:
        """Return user, item, sign and time of all likes and the parts' dislikes in order, and that order."""
        tables = [self._likes, *(part.neg_feat for part in parts)]
        times = [self._like_times, *(part.times("neg_feat") for part in parts)]
        user, item = (
            np.concatenate([table[field].numpy() for table in tables]) for field in (self.uid_field, self.iid_field)
        )
        time = np.concatenate(times).astype(np.float64)
        sign = np.where(np.arange(len(user)) < len(self._likes), 1, -1)
        order = np.lexsort((-sign, time, user))
        return user[order], item[order], sign[order], time[order], order

    def _event_lists(
        self,
        user: IntArray,
        item: IntArray,
        sign: IntArray,
        time: npt.NDArray[np.float64],
        start: IntArray,
        end: IntArray,
    ) -> dict[str, torch.Tensor]:
        gap = np.diff(time, prepend=time[:1])
        gap[begins(user)] = 0.0
        place, length = self._places(start, end)
        for name, kind in ((SIGN_LIST, FeatureType.TOKEN_SEQ), (GAP_LIST, FeatureType.FLOAT_SEQ)):
            self.set_field_property(name, kind, FeatureSource.INTERACTION, self.max_item_list_len)
        return {
            self.item_list_length_field: torch.from_numpy(length),
            self.item_id_list_field: _gathered(torch.from_numpy(item), place),
            SIGN_LIST: _gathered(torch.from_numpy(sign), place),
            GAP_LIST: _gathered(torch.from_numpy(gap.astype(np.float32)), place),
        }

    def latest(self) -> Interaction:
        """Return the whole sequence of each user who has one, users ascending, as a row without a target."""
        if self.reads == "likes":
            user = self._likes[self.uid_field].numpy()
            first = np.flatnonzero(begins(user))
            lists = self._like_lists(first, np.append(first[1:], len(user)))
        else:
            user, item, sign, time, _ = self._events([self])
            first = np.flatnonzero(begins(user))
            lists = self._event_lists(user, item, sign, time, first, np.append(first[1:], len(user)))
        return Interaction({self.uid_field: torch.from_numpy(user[first]), **lists})

    # ---- what is liked ----

    @property
    def shows_seen(self) -> bool:
        """Whether nothing is hidden; RecBole's ``repeatable`` is always set for sequential models, and says nothing."""
        return not self.signed.mask_seen

    def liked_pairs(self) -> tuple[IntArray, IntArray]:
        """The targets, and the first likes that :meth:`build` gave to this part, or whose second ones are in it."""
        users, items = self._first_likes() if self._own_first is None else self._at(self._own_first)
        feat = self.inter_feat
        return (
            np.concatenate([feat[self.uid_field].numpy(), users]),
            np.concatenate([feat[self.iid_field].numpy(), items]),
        )

    def _read_pairs(self) -> list[tuple[IntArray, IntArray]]:
        """The first likes: the sequences begin with them, and they are no targets."""
        return [self._first_likes()]

    def _first_likes(self) -> tuple[IntArray, IntArray]:
        """User and item of the first like of each user whose second one is in this part, ``[n]`` each."""
        users, number = self._likes[self.uid_field].numpy(), self._numbers
        return self._at(number[_starts(users)[number] == number - 1] - 1)

    def all_likes(self) -> tuple[IntArray, IntArray]:
        """User and item of every like of the data set, with or without a row, whatever part it is in, ``[n]`` each."""
        return self._at(np.arange(len(self._likes)))

    def _at(self, places: IntArray) -> tuple[IntArray, IntArray]:
        """Return user and item of likes by their places, ``[n]`` each."""
        return self._likes[self.uid_field].numpy()[places], self._likes[self.iid_field].numpy()[places]


def _starts(users: IntArray) -> IntArray:
    """Return where the run of equal ``users [n]`` begins that each place is in, ``[n]``."""
    return np.maximum.accumulate(np.where(begins(users), np.arange(len(users)), 0))


def _gathered(values: torch.Tensor, place: IntArray) -> torch.Tensor:
    """Return ``values [n, ...]`` at ``place [n_rows, length]``, 0 where that is -1."""
    index = torch.from_numpy(place)
    gathered = values[index.clamp(min=0)]
    gathered[index < 0] = 0
    return gathered
