"""A RecBole data set whose interactions are the likes; dislikes and neutral rows lie beside them.

RecBole takes every row of an ``.inter`` file for a like: in training, in the graph and in the ground truth. Keeping
only likes as interactions makes every stock model, sampler and metric right without a change to any of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType, set_color

from recbole_signed.data.duplicates import pair_keys, resolve
from recbole_signed.data.inter_file import read_inter
from recbole_signed.data.item_lists import ItemLists
from recbole_signed.data.settings import HOW_TO_SIGN, SignedSettings, inter_columns
from recbole_signed.data.split import (
    SplitRule,
    TimeCuts,
    part_of_others,
    part_of_rows,
    rows_of_parts,
)
from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph

IntArray = npt.NDArray[np.int64]
SIGNS = {"inter_feat": 1, "neg_feat": -1, "neutral_feat": 0}


@dataclass(frozen=True)
class SignReport:
    """What was found when the rows were separated by sign; counts of rows that stayed, then of what was resolved."""

    likes: int
    dislikes: int
    neutrals: int
    repeated_rows: int
    """Rows beyond the first of their user-item pair (within a part, where the data set is split already)."""
    contradicting_pairs: int
    """Pairs that carry both a like and a dislike."""


@dataclass
class _Rows:
    """Exact time and predefined part of the rows of one feature table, ``[n_rows]`` each."""

    time: npt.NDArray[Any] | None
    part: IntArray

    def take(self, rows: IntArray | npt.NDArray[np.bool_]) -> _Rows:
        return _Rows(None if self.time is None else self.time[rows], self.part[rows])


class SignedDataset(Dataset):
    r"""RecBole's ``Dataset`` for data with likes, dislikes and neutral exposures.

    Attributes:
        inter_feat (Interaction): the likes; all that stock code sees.
        neg_feat (Interaction): the dislikes, with the same columns and in the same id space.
        neutral_feat (Interaction): exposures without a verdict.
        signed (SignedSettings): the settings in force.
        sign_report (SignReport): row counts, repeated and contradicting pairs.
        history (ItemLists): set on the validation and test parts: what must not be recommended there.

    Likes get the first ids, in the order in which a file that holds nothing but likes would give them. Float columns
    are normalised among likes only; ``neg_feat`` and ``neutral_feat`` keep raw values.

    Raises:
        UsageError: blank ids, values of the sign column other than -1, 0 and 1, no likes at all, or a sign rule
            after which no user has both a like and a dislike.
    """

    neg_feat: Any
    neutral_feat: Any
    history: ItemLists

    def _get_field_from_config(self) -> None:
        super()._get_field_from_config()
        settings = self.config["signed"] or SignedSettings.from_config(self.config)
        if settings is None:
            raise UsageError(f"the data set '{self.dataset_name}' has no sign; {HOW_TO_SIGN}")
        self.signed: SignedSettings = settings

    # ---- loading ----

    def _get_load_and_unload_col(self, source: Any) -> tuple[set[str] | None, set[str] | None]:
        """Load what the sign and the order of time are made from, even where ``load_col`` leaves it out."""
        load, unload = super()._get_load_and_unload_col(source)
        if getattr(source, "value", source) == FeatureSource.INTERACTION.value:
            present = inter_columns(self.config) or {}
            needed = {column for column in (*self.signed.source_columns, self.time_field) if column in present}
            load = load | needed if load else load
            unload = unload - needed if unload else unload
        return load, unload

    def _load_feat(self, filepath: str, source: Any) -> pd.DataFrame | None:
        if getattr(source, "value", source) != FeatureSource.INTERACTION.value:
            return super()._load_feat(filepath, source)
        load, unload = self._get_load_and_unload_col(source)
        frame, types = read_inter(
            filepath,
            separator=self.config["field_separator"],
            encoding=self.config["encoding"],
            exact_integers=self.time_field,
            wanted=lambda column: (load is None or column in load) and column not in (unload or ()),
        )
        if frame is None:
            return super()._load_feat(filepath, source)
        for column, kind in types.items():
            self.field2source[column] = source
            self.field2type[column] = kind
            self.field2seqlen[column] = 1
            if "float" in kind.value:
                self.field2bucketnum[column] = 2
        for field in (self.uid_field, self.iid_field):
            if field not in frame:
                raise UsageError(
                    f"{filepath} has no column '{field}'; set USER_ID_FIELD and ITEM_ID_FIELD to its id columns."
                )
            blank = np.flatnonzero(frame[field].isna())
            if len(blank):
                raise UsageError(f"{filepath}, line {blank[0] + 2}: the column '{field}' is blank.")
        return frame

    # ---- from rows to three tables ----

    def _data_processing(self) -> None:
        self.feat_name_list = self._build_feat_name_list()
        part = np.zeros(len(self.inter_feat), dtype=np.int64)
        if self.benchmark_filename_list is None:
            self._filter_nan_user_or_item()
            self._filter_by_field_value()
            self._filter_inter_by_user_or_item()
            part = part[: len(self.inter_feat)]
            self.inter_feat.reset_index(drop=True, inplace=True)
        else:
            part = np.repeat(np.arange(len(self.file_size_list)), self.file_size_list)
        self._separate_signs(part)
        if self.benchmark_filename_list is None:
            self._filter_likes_by_count()
            self._reset_index()

        self._remap_ID_all()
        self._user_item_feat_preparation()
        self._fill_nan()
        self._set_label_by_threshold()
        self._normalize()
        self._discretization()
        self._preload_weight_matrix()

    def _signs(self) -> npt.NDArray[np.int8]:
        settings = self.signed
        if settings.sign_rule is not None:
            values = {column: self.inter_feat[column].to_numpy() for column in settings.sign_rule.columns}
            return settings.sign_rule.apply(values)
        sign = self.inter_feat[settings.sign_field].to_numpy()
        wrong = np.flatnonzero(~np.isin(sign, (-1.0, 0.0, 1.0)))
        if len(wrong):
            raise UsageError(
                f"the sign column '{settings.sign_field}' of '{self.dataset_name}' holds {sign[wrong[0]]:g} in row "
                f"{wrong[0] + 1}; it must hold -1 (dislike), 0 (neutral) or 1 (like)."
            )
        return sign.astype(np.int8)

    def _separate_signs(self, part: IntArray) -> None:
        frame, sign = self.inter_feat, self._signs()
        time = frame[self.time_field].to_numpy() if self.time_field in frame else None
        if time is not None:
            frame[self.time_field] = frame[self.time_field].astype(np.float64)  # what RecBole converts from
        pairs = pair_keys(frame[self.uid_field], frame[self.iid_field], part)
        stays, repeated, contradicting = resolve(pairs, sign, time, self.signed.duplicate_pairs)
        if self.signed.sign_field in frame:
            self._del_col(frame, self.signed.sign_field)

        self._row_keys: dict[str, _Rows] = {}
        rows = _Rows(time, part)
        for name, wanted in SIGNS.items():
            chosen = np.flatnonzero(stays & (sign == wanted))
            setattr(self, name, frame.iloc[chosen].reset_index(drop=True))
            self._row_keys[name] = rows.take(chosen)
        self.sign_report = SignReport(
            likes=len(self.inter_feat),
            dislikes=len(self.neg_feat),
            neutrals=len(self.neutral_feat),
            repeated_rows=repeated,
            contradicting_pairs=contradicting,
        )
        self._check_signs()
        if repeated:
            self.logger.warning(
                f"[{self.dataset_name}]: {repeated} rows repeat a user-item pair, {contradicting} pairs "
                f"carry both signs (duplicate_pairs: {self.signed.duplicate_pairs})."
            )

    def _check_signs(self) -> None:
        if not len(self.inter_feat):
            raise UsageError(
                f"no row of '{self.dataset_name}' is a like; look at the sign column or at sign_rule "
                f"({self.signed.sign_rule or self.signed.sign_field})."
            )
        if (
            self.signed.sign_rule is not None
            and not self.inter_feat[self.uid_field].isin(self.neg_feat[self.uid_field]).any()
        ):
            raise UsageError(
                f"after sign_rule ({self.signed.sign_rule}) no user of '{self.dataset_name}' has both a like and a "
                "dislike; mend the rule, or leave it out to train on all rows as likes."
            )

    def _filter_likes_by_count(self) -> None:
        """RecBole's k-core, counted over likes; rows of other signs follow the users and items that stay."""
        before = len(self.inter_feat)
        self._filter_by_inter_num()
        if len(self.inter_feat) == before:
            return
        self._row_keys["inter_feat"] = self._row_keys["inter_feat"].take(self.inter_feat.index.to_numpy())
        for name in ("neg_feat", "neutral_feat"):
            frame = getattr(self, name)
            known = frame[self.uid_field].isin(self.inter_feat[self.uid_field])
            known &= frame[self.iid_field].isin(self.inter_feat[self.iid_field])
            setattr(self, name, frame[known].reset_index(drop=True))
            self._row_keys[name] = self._row_keys[name].take(known.to_numpy())

    def _get_remap_list(self, field_list: Any) -> list[tuple[Any, str, Any]]:
        """Append the tables of the other signs, so that ids are shared and likes get the first ones."""
        remap_list = super()._get_remap_list(field_list)
        extra = [
            (getattr(self, name), field, self.field2type[field])
            for name in ("neg_feat", "neutral_feat")
            for field in field_list
            if field in getattr(self, name)
        ]
        return remap_list + extra

    def _fill_nan(self) -> None:
        """RecBole's rule (padding for tokens, the mean for numbers), assigned instead of filled in place.

        In place it warns on pandas 2 and does nothing on pandas 3.
        """
        for name in (*self.feat_name_list, "neg_feat", "neutral_feat"):
            feat = getattr(self, name)
            for field in feat:
                kind = self.field2type[field]
                if kind == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif kind == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
                else:
                    empty = np.array([], dtype=np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
                    feat[field] = [empty if isinstance(value, float) else value for value in feat[field]]

    def _change_feat_format(self) -> None:
        for name in (*self.feat_name_list, "neg_feat", "neutral_feat"):
            feat = getattr(self, name)
            if not isinstance(feat, Interaction):
                setattr(self, name, self._dataframe_to_interaction(feat))

    # ---- splitting ----

    def build(self) -> list[SignedDataset]:
        """Split likes as RecBole would, and the other rows by the same rule.

        Returns:
            The training, validation and test parts; each has its own ``inter_feat``, ``neg_feat`` and
            ``neutral_feat``, and the held-out parts have ``history``.
        """
        self._change_feat_format()
        self._drop_unused_col()
        if self.benchmark_filename_list is not None:
            rows = {name: _rows_by_part(keys.part, len(self.file_size_list)) for name, keys in self._row_keys.items()}
        else:
            rows = self._rows_by_rule(SplitRule.from_eval_args(self.config["eval_args"]))
        parts = []
        for number in range(len(rows["inter_feat"])):
            part = self.copy(_take(self.inter_feat, rows["inter_feat"][number]))
            part.neg_feat = _take(self.neg_feat, rows["neg_feat"][number])
            part.neutral_feat = _take(self.neutral_feat, rows["neutral_feat"][number])
            part._row_keys = {name: keys.take(rows[name][number]) for name, keys in self._row_keys.items()}
            parts.append(part)
        self._set_histories(parts)
        return parts

    def _rows_by_rule(self, rule: SplitRule) -> dict[str, list[IntArray]]:
        times = {name: keys.time for name, keys in self._row_keys.items()}
        users = {name: getattr(self, name)[self.uid_field].numpy() for name in SIGNS}
        like_time: Any = times["inter_feat"]  # None is refused where it matters
        if rule.by_time and like_time is None:
            raise UsageError(
                f"eval_args.order is TO, but '{self.dataset_name}' has no column '{self.time_field}'; "
                "set TIME_FIELD, or eval_args.order to RO."
            )
        # RecBole's own draw, so that a file of likes alone is split in the same way
        order = (
            np.argsort(like_time, kind="stable") if rule.by_time else torch.randperm(len(users["inter_feat"])).numpy()
        )
        sorted_users = users["inter_feat"][order]
        sorted_time: Any = None if like_time is None else like_time[order]
        part = part_of_rows(sorted_users, rule, sorted_time)
        rows = {"inter_feat": [order[chosen] for chosen in rows_of_parts(sorted_users, part, rule)]}
        cuts = None
        if rule.by_time:
            cuts = TimeCuts.from_likes(sorted_users, sorted_time, part, rule, self.user_num)
        # a generator of its own: the likes' split and the model's start must not depend on how many dislikes there are
        rng = np.random.default_rng(self.config["seed"])
        for name in ("neg_feat", "neutral_feat"):
            others = part_of_others(users[name], times[name], rule, cuts, rng)
            rows[name] = _rows_by_part(others, 3)
        return rows

    def _set_histories(self, parts: list[SignedDataset]) -> None:
        train = parts[0]
        touched = [train.inter_feat]
        if self.signed.mask_dislikes:
            touched.append(train.neg_feat)
        if self.signed.mask_neutrals:
            touched.append(train.neutral_feat)
        if self.config["repeatable"]:
            touched = []
        for number, part in enumerate(parts[1:], start=1):
            if number == 2 and self.signed.mask_valid_at_test and touched:
                touched = [*touched, parts[1].inter_feat]
            part.history = self._item_lists(touched)

    def _item_lists(self, feats: list[Interaction]) -> ItemLists:
        users = [feat[self.uid_field].numpy() for feat in feats]
        items = [feat[self.iid_field].numpy() for feat in feats]
        none = [np.zeros(0, dtype=np.int64)]
        return ItemLists.from_pairs(
            np.concatenate(users + none), np.concatenate(items + none), self.user_num, self.item_num
        )

    # ---- what signed code asks for ----

    def signed_graph(self) -> SignedGraph:
        """Return the likes and dislikes of this part as one graph over RecBole's ids (row and column 0 are padding)."""
        return SignedGraph.from_edges(
            likes=(self.inter_feat[self.uid_field].numpy(), self.inter_feat[self.iid_field].numpy()),
            dislikes=(self.neg_feat[self.uid_field].numpy(), self.neg_feat[self.iid_field].numpy()),
            n_users=self.user_num,
            n_items=self.item_num,
        )

    def save(self) -> None:
        """Save under the name where RecBole's ``create_dataset`` looks: that of the class it asked for."""
        stock = type(self).__name__
        type(self).__name__ = getattr(type(self), "stock_name", "Dataset")
        try:
            super().save()
        finally:
            type(self).__name__ = stock

    def __str__(self) -> str:
        lines = [super().__str__()]
        for name, count in asdict(self.sign_report).items():
            lines.append(set_color(f"The number of {name.replace('_', ' ')}", "blue") + f": {count}")
        return "\n".join(lines)


def _rows_by_part(part: IntArray, n_parts: int) -> list[IntArray]:
    return [np.flatnonzero(part == wanted) for wanted in range(n_parts)]


def _take(feat: Interaction, rows: IntArray) -> Interaction:
    """Index with a tensor: RecBole's own indexing turns the row numbers into a Python list."""
    index = torch.from_numpy(rows)
    return Interaction({column: feat[column][index] for column in feat.columns})


__all__ = ["SignReport", "SignedDataset"]
