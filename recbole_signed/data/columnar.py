"""RecBole's ``Dataset`` with its slow steps done by columns, and the same results: reading, k-core, ids, tensors."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pandas.api.types import union_categoricals
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_signed.arrays import first_rows
from recbole_signed.atomic import read_columns
from recbole_signed.atomic.inter_file import refuse_blank
from recbole_signed.convert.cleaning import STAYS, peel
from recbole_signed.convert.token_codes import TokenCodes
from recbole_signed.data.settings import SignedSettings
from recbole_signed.data.split import ranks
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import PAD, normal

IntArray = npt.NDArray[np.int64]
PADDED_BYTES = 1 << 30  # what tokens may take up as an array of str, in which each has the room of the longest


def codes_of(column: pd.Series) -> npt.NDArray[Any]:
    """Return a number for each token of a column, ``[n_rows]``, -1 where there is none."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy()
    return pd.factorize(column)[0]


def renumber(columns: Sequence[pd.Series]) -> tuple[list[IntArray], npt.NDArray[Any]]:
    """Return the ids of each column from 1 on, by first appearance, 0 for none, and the tokens by id, padding first."""
    joined = union_categoricals([column.astype("category") for column in columns])
    codes, tokens = joined.codes, joined.categories.to_numpy()
    first = first_rows(codes, len(tokens) + 1)[:-1]  # code -1 falls into the last place
    appeared = np.flatnonzero(first < len(codes))
    order = appeared[np.argsort(first[appeared])]
    ids = np.zeros(len(tokens) + 1, dtype=np.int64)
    ids[order] = np.arange(1, len(order) + 1)
    names = [PAD, *tokens[order].tolist()]
    padded = len(names) * max(map(len, names)) * np.dtype("U1").itemsize
    parts = np.split(ids[codes], np.cumsum([len(column) for column in columns])[:-1])
    return parts, np.array(names, dtype=object if padded > PADDED_BYTES else str)


BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """Users or items: the number of each row's, the counts that are fit, and who has a row of features (-1: none)."""

    codes: npt.NDArray[Any]
    n: int
    allowed: Callable[[npt.NDArray[np.int64]], BoolArray] | None
    least: float
    features: npt.NDArray[Any] | None

    def unfit(self, codes: npt.NDArray[Any]) -> BoolArray:
        """Tell who is to go, ``[n]``, given the users or items of the rows that are left."""
        if self.allowed is None:  # nothing is counted: it loses nothing but what the other side takes
            return np.zeros(self.n, dtype=bool)
        counts = np.bincount(codes, minlength=self.n)
        banned = (counts > 0) & ~self.allowed(counts)
        if self.features is not None:
            banned[self.features[self.features >= 0]] |= counts[self.features[self.features >= 0]] < self.least
        return banned

    def features_stay(self, codes: npt.NDArray[Any], gone: BoolArray) -> BoolArray | None:
        """Tell which rows of features stay, ``[n_features]``, once ``gone [n]`` are left out."""
        if self.features is None or self.allowed is None:
            return None if self.features is None else np.ones(len(self.features), dtype=bool)
        counts = np.append(np.bincount(codes, minlength=self.n), 0)
        return (counts[self.features] >= self.least) & ~np.append(gone, False)[self.features]


def core(users: Side, items: Side) -> tuple[BoolArray, list[BoolArray | None]]:
    """Drop users and items with an unfit number of rows until none is left; return which rows and features stay."""
    *turns, _ = peel([users.codes, items.codes], (users.n, items.n), [lambda u, i: (users.unfit(u), items.unfit(i))])
    gone = [turn < STAYS for turn in turns]
    stays = ~(gone[0][users.codes] | gone[1][items.codes])
    return stays, [side.features_stay(side.codes[stays], mask) for side, mask in zip((users, items), gone, strict=True)]


class ColumnarDataset(Dataset):
    """RecBole's ``Dataset``, by columns; until ids are given, tokens are pandas categories."""

    field2seqlen: dict[str, int]

    # ---- reading ----

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        self._vocabularies: dict[str, TokenCodes] = {}
        if self.benchmark_filename_list is None:
            super()._load_inter_feat(token, dataset_path)
        else:
            self._load_parts(token, dataset_path)
        del self._vocabularies

    def _load_parts(self, token: str, dataset_path: str) -> None:
        """Read the files of a data set that is split already; they share their vocabularies."""
        frames: list[Any] = []
        lengths: dict[str, int] = defaultdict(int)
        for part in self.benchmark_filename_list:
            path = os.path.join(dataset_path, f"{token}.{part}.inter")
            if not os.path.isfile(path):
                raise UsageError(f"the file {path} of benchmark_filename does not exist.")
            frames.append(self._load_feat(path, FeatureSource.INTERACTION))
            for field, length in self.field2seqlen.items():
                lengths[field] = max(lengths[field], length)
        for column in sorted(set().union(*frames)):
            without = [
                part for part, frame in zip(self.benchmark_filename_list, frames, strict=True) if column not in frame
            ]
            if without:
                raise UsageError(
                    f"{token}.{without[0]}.inter has no column '{column}', which another file of benchmark_filename "
                    "has; add it there, or take it out of all."
                )
        self.inter_feat, self.file_size_list = concatenate(frames), [len(frame) for frame in frames]
        self.field2seqlen = lengths

    def _load_feat(self, filepath: str, source: Any) -> pd.DataFrame | None:
        if getattr(source, "value", source) != FeatureSource.INTERACTION.value:
            return super()._load_feat(filepath, source)
        load, unload = self._get_load_and_unload_col(source)
        frame, types = read_frame(
            filepath,
            separator=self.config["field_separator"],
            encoding=self.config["encoding"] or "utf-8",
            exact_integers=self.time_field,
            wanted=lambda column: (load is None or column in load) and column not in (unload or ()),
            vocabularies=self._vocabularies,
            progress=self.config["show_progress"],
        )
        ids = (self.uid_field, self.iid_field)
        if frame is None:
            frame = super()._load_feat(filepath, source)
            for field in ids:
                if field in frame:
                    frame[field] = frame[field].map(normal, na_action="ignore")
            types = {}
        for column, kind in types.items():
            self.field2source[column] = source
            self.field2type[column] = FeatureType(kind)
            self.field2seqlen[column] = 1
            if "float" in kind:
                self.field2bucketnum[column] = 2
        for field in ids:
            if field not in frame:
                raise UsageError(
                    f"{filepath} has no column '{field}'; set USER_ID_FIELD and ITEM_ID_FIELD to its id columns."
                )
            if self.field2type[field] != FeatureType.TOKEN:
                kind = self.field2type[field].value
                raise UsageError(f"the id column '{field}' of {filepath} has the type '{kind}'; write '{field}:token'.")
            refuse_blank(filepath, field, frame[field].isna().to_numpy())
        return frame

    # ---- filtering ----

    def _filter_by_inter_num(self) -> None:
        sides = [
            self._side(self.uid_field, self.user_feat, "user_inter_num_interval"),
            self._side(self.iid_field, self.item_feat, "item_inter_num_interval"),
        ]
        stays, features = core(*sides)
        if not stays.all():
            self.inter_feat = self.inter_feat[stays]
        for name, kept in zip(("user_feat", "item_feat"), features, strict=True):
            if kept is not None and not kept.all():
                setattr(self, name, getattr(self, name)[kept])

    def _side(self, field: str, feat: pd.DataFrame | None, key: str) -> Side:
        intervals = self._parse_intervals_str(self.config[key])
        column = self.inter_feat[field]
        if not isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype("category")
        tokens = column.cat.categories
        return Side(
            codes=codes_of(column),
            n=len(tokens),
            allowed=(lambda counts: self._within_intervals(counts, intervals)) if intervals else None,
            least=intervals[0][1] if intervals else -1,
            features=None if feat is None else tokens.get_indexer(pd.Index(feat[field])),
        )

    # ---- ids and tensors ----

    def _remap(self, remap_list: list[tuple[Any, str, Any]]) -> None:
        if any(kind != FeatureType.TOKEN for _, _, kind in remap_list):
            for feat, field, _ in remap_list:
                if isinstance(feat[field].dtype, pd.CategoricalDtype):
                    feat[field] = feat[field].astype(object)
            super()._remap([entry for entry in remap_list if len(entry[0])])  # it makes a row in a table that has none
        elif remap_list:
            columns, tokens = renumber([feat[field] for feat, field, _ in remap_list])
            token_id = {token: number for number, token in enumerate(tokens.tolist())}
            for (feat, field, _), ids in zip(remap_list, columns, strict=True):
                if field not in self.field2id_token:
                    self.field2id_token[field], self.field2token_id[field] = tokens, token_id
                feat[field] = ids

    def _dataframe_to_interaction(self, data: pd.DataFrame) -> Interaction:
        plain: dict[str, torch.Tensor] = {}
        for field in data:
            kind = self.field2type[field]
            if kind == FeatureType.TOKEN:
                plain[field] = torch.from_numpy(data[field].to_numpy(np.int64, copy=True))
            elif kind == FeatureType.FLOAT and field not in self.config["numerical_features"]:
                plain[field] = torch.from_numpy(data[field].to_numpy(np.float32, copy=True))
            elif not len(data):  # RecBole pads no empty list of sequences
                plain[field] = torch.zeros(0, 0, dtype=torch.int64 if kind == FeatureType.TOKEN_SEQ else torch.float32)
        if len(plain) < data.shape[1]:
            rest = super()._dataframe_to_interaction(data[[field for field in data if field not in plain]])
            plain.update(rest.interaction)
        return Interaction({field: plain[field] for field in data})

    def _history_matrix(
        self, row: str, value_field: str | None = None, max_history_len: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """RecBole's padded histories of users (or items), in the same random order, without its loop over rows."""
        if value_field is not None and value_field not in self.inter_feat:
            raise ValueError(f"Value_field [{value_field}] should be one of `inter_feat`'s features.")
        order = torch.randperm(len(self.inter_feat))
        users, items = (self.inter_feat[field][order].numpy() for field in (self.uid_field, self.iid_field))
        by_user = row == "user"
        own, others = (users, items) if by_user else (items, users)
        n_own, n_others = (self.user_num, self.item_num) if by_user else (self.item_num, self.user_num)
        _, rank, counts = ranks(own)
        longest = int(counts.max())
        width = longest if max_history_len is None else min(max_history_len, longest)
        if width > n_others * 0.2:
            self.logger.warning(
                f"Max value of {row}'s history interaction records has reached {width / n_others * 100}% of the total."
            )
        kept = rank < width
        place = torch.from_numpy(own[kept]), torch.from_numpy(rank[kept])
        history = torch.zeros((n_own, width), dtype=torch.int64)
        history[place] = torch.from_numpy(others[kept])
        values = torch.zeros((n_own, width))
        values[place] = (
            1.0 if value_field is None else self.inter_feat[value_field][order][torch.from_numpy(kept)].float()
        )
        lengths = torch.from_numpy(np.minimum(np.bincount(own, minlength=n_own), width))
        return history, values, lengths


def read_frame(
    path: str, *, vocabularies: dict[str, TokenCodes] | None = None, **options: Any
) -> tuple[pd.DataFrame | None, dict[str, str]]:
    """Read columns as a frame whose tokens are categories; see :func:`recbole_signed.atomic.read_columns`."""
    vocabularies = {} if vocabularies is None else vocabularies
    columns, types = read_columns(path, vocabularies=vocabularies, **options)
    if columns is None:
        return None, types
    frame: dict[str, Any] = dict(columns)
    for name in types:
        if types[name] == FeatureType.TOKEN.value:
            frame[name] = pd.Categorical.from_codes(
                columns[name], categories=vocabularies[name].tokens(), validate=False
            )
    return pd.DataFrame(frame, columns=list(types), copy=False), types


def concatenate(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the rows of files that were read one after the other with the same vocabularies."""
    last = frames[-1]
    columns = {name: [frame[name] for frame in frames] for name in last}
    for name, parts in columns.items():
        if isinstance(last[name].dtype, pd.CategoricalDtype):
            codes = np.concatenate([part.cat.codes for part in parts])
            columns[name] = pd.Categorical.from_codes(codes, dtype=last[name].dtype, validate=False)
        else:
            columns[name] = pd.concat(parts, ignore_index=True)
    return pd.DataFrame(columns, copy=False)


@dataclass(frozen=True)
class SignReport:
    """What was found when the rows were separated by sign; counts of rows that stayed, then of what was resolved."""

    likes: int
    dislikes: int
    neutrals: int
    repeated_rows: int  # rows beyond the first of their user-item pair (within a part of a ready split)
    contradicting_pairs: int  # pairs that carry both a like and a dislike


def refuse_useless(likers: pd.Series, dislikers: pd.Series, settings: SignedSettings, name: str) -> None:
    """Refuse data without likes, and a sign rule that no user has both a like and a dislike by."""
    if not len(likers):
        raise UsageError(
            f"no row of '{name}' is a like; look at the sign column or at sign_rule "
            f"({settings.sign_rule or settings.sign_field})."
        )
    if settings.sign_rule is not None and not likers.isin(dislikers.unique()).any():
        raise UsageError(
            f"after sign_rule ({settings.sign_rule}) no user of '{name}' has both a like and a dislike; correct the "
            "rule, or leave it out to train on all rows as likes."
        )


def pair_keys(users: npt.NDArray[Any], items: npt.NDArray[Any], part: npt.NDArray[np.integer]) -> IntArray:
    """Return one number for each (part, user, item), ``[n_rows]``; users and items come as numbers from 0 on."""
    n_users, n_items = (int(codes.max(initial=0)) + 1 for codes in (users, items))
    keys = part.astype(np.int64)
    for size, codes in ((n_users, users), (n_items, items)):
        keys *= size
        keys += codes
    return keys
