"""A RecBole data set whose interactions are the likes, so that stock code is right; dislikes lie beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType, set_color

from recbole_signed.arrays import distinct
from recbole_signed.atomic.feature_file import read_features
from recbole_signed.atomic.feature_space import Features
from recbole_signed.atomic.signs import HOW_TO_SIGN
from recbole_signed.convert.cleaning import resolve
from recbole_signed.data.columnar import ColumnarDataset, SignReport, codes_of, pair_keys, refuse_useless
from recbole_signed.data.item_lists import ItemLists
from recbole_signed.data.settings import SignedSettings, inter_columns
from recbole_signed.data.split import SplitRule, by_part, holds_nothing_out, split_cold, split_rows
from recbole_signed.errors import UsageError, counted, ending
from recbole_signed.graph import SignedGraph
from recbole_signed.ids_and_times import hashes

IntArray = npt.NDArray[np.int64]
SIGNS = {"inter_feat": 1, "neg_feat": -1, "neutral_feat": 0}


@dataclass
class _Rows:
    """Exact time and predefined part of the rows of one feature table, ``[n_rows]`` each."""

    time: npt.NDArray[Any] | None
    part: npt.NDArray[np.int16]
    number: IntArray | None = None  # of the like in the order of users and time, where rows are of sequences

    def take(self, rows: IntArray | npt.NDArray[np.bool_]) -> _Rows:
        time, number = (None if column is None else column[rows] for column in (self.time, self.number))
        return _Rows(time, self.part[rows], number)


class SignedDataset(ColumnarDataset):
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
        UsageError: blank ids or times, values of the sign column other than -1, 0 and 1, no likes at all, or a sign
            rule after which no user has both a like and a dislike.
    """

    neg_feat: Any
    neutral_feat: Any
    history: ItemLists
    trains_on = "a like"
    """What a training row is, in words."""
    _graph: SignedGraph | None = None

    def _get_field_from_config(self) -> None:
        super()._get_field_from_config()
        settings = self.config["signed"] or SignedSettings.from_config(self.config)
        if settings is None:
            raise UsageError(f"the data set '{self.dataset_name}' has no sign; {HOW_TO_SIGN}")
        self.signed: SignedSettings = settings

    # ---- loading ----

    def _get_load_and_unload_col(self, source: Any) -> tuple[set[str] | None, set[str] | None]:
        """Load ids, and what the sign and the order of time are made from, even where ``load_col`` leaves them out."""
        load, unload = super()._get_load_and_unload_col(source)
        if getattr(source, "value", source) == FeatureSource.INTERACTION.value:
            present = inter_columns(self.config) or {}
            if self.time_field not in (None, "timestamp", *present):  # which need not be there
                raise UsageError(
                    f"TIME_FIELD is '{self.time_field}', but the data set '{self.dataset_name}' has the columns "
                    f"{', '.join(present)}{ending(self.time_field, present)}"
                )
            needed = {self.uid_field, self.iid_field, self.time_field, *self.signed.sign.columns} & present.keys()
            load = load if load is None else load | needed
            unload = unload - needed if unload else unload
        return load, unload

    def _load_feat(self, filepath: str, source: Any) -> Any:
        if getattr(source, "value", source) == FeatureSource.INTERACTION.value:
            encoding = self.config["encoding"] or "utf-8"
            self.signed.sign.refuse_truth_values(filepath, self.config["field_separator"], encoding)
        return super()._load_feat(filepath, source)

    # ---- from rows to three tables ----

    def _data_processing(self) -> None:
        self.feat_name_list = self._build_feat_name_list()
        whole = self.benchmark_filename_list is None
        if whole:
            self._filter_nan_user_or_item()
            self.inter_feat.reset_index(drop=True, inplace=True)
        sizes = [len(self.inter_feat)] if whole else self.file_size_list
        part = np.repeat(np.arange(len(sizes), dtype=np.int16), sizes)
        sign, repeated, contradicting = self._resolve_pairs(part)
        if whole:
            self._filter_by_field_value()
            self._filter_inter_by_user_or_item()
        rows = self.inter_feat.index.to_numpy()
        self._separate_signs(sign[rows], part[rows], repeated, contradicting)
        if whole:
            self._filter_likes_by_count()
            self._reset_index()

        self._remap_ID_all()
        self._user_item_feat_preparation()
        self._fill_nan()
        self._set_label_by_threshold()
        self._normalize()
        self._discretization()
        self._preload_weight_matrix()

    def _resolve_pairs(self, part: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int8], int, int]:
        """Drop rows by ``duplicate_pairs``; return the sign of each row of the file, and what ``resolve`` counted.

        As in RecBole, before the filters: else an older like would come back where a dislike is filtered out. Only
        what lies outside of a window of time has no say, as if it had not happened.
        """
        frame, source = self.inter_feat, self.signed.sign
        sign = source.read({column: frame[column].to_numpy() for column in source.columns}, f"'{self.dataset_name}'")
        time = frame[self.time_field].to_numpy() if self.time_field in frame else None
        window = (self.config["val_interval"] or {}).get(self.time_field)
        rows = np.arange(len(frame))
        if time is not None and window is not None and self.benchmark_filename_list is None:
            rows = np.flatnonzero(self._within_intervals(time, self._parse_intervals_str(window)))
        pairs = pair_keys(codes_of(frame[self.uid_field]), codes_of(frame[self.iid_field]), part)[rows]
        times = None if time is None else time[rows]
        stays, repeated, contradicting = resolve(pairs, sign[rows], times, self.signed.duplicate_pairs)
        if not stays.all():
            frame.drop(index=rows[~stays], inplace=True)
        return sign, repeated, contradicting

    def _separate_signs(
        self, sign: npt.NDArray[np.int8], part: npt.NDArray[np.int16], repeated: int, contradicting: int
    ) -> None:
        frame = self.inter_feat
        time = frame[self.time_field].to_numpy() if self.time_field in frame else None
        if time is not None:
            undated = int((~np.isfinite(time)).sum())
            if undated:
                name = self.dataset_name
                have = counted(undated, f"row of '{name}' has", f"rows of '{name}' have")
                raise UsageError(
                    f"{have} no time in the column '{self.time_field}'; correct or drop them, or set TIME_FIELD: ~ to "
                    "do without times."
                )
            frame[self.time_field] = frame[self.time_field].astype(np.float64)  # what RecBole converts from
        if self.signed.sign_field in frame:
            self._del_col(frame, self.signed.sign_field)

        self._row_keys: dict[str, _Rows] = {}
        rows = _Rows(time, part)
        for name, value in SIGNS.items():
            chosen = np.flatnonzero(sign == value)
            setattr(self, name, frame.iloc[chosen].reset_index(drop=True))
            self._row_keys[name] = rows.take(chosen)
        self.sign_report = SignReport(
            likes=len(self.inter_feat),
            dislikes=len(self.neg_feat),
            neutrals=len(self.neutral_feat),
            repeated_rows=repeated,
            contradicting_pairs=contradicting,
        )
        users = self.uid_field
        refuse_useless(self.inter_feat[users], self.neg_feat[users], self.signed, self.dataset_name)
        if repeated:
            self.logger.warning(
                f"[{self.dataset_name}]: {counted(repeated, 'row repeats', 'rows repeat')} a user-item pair, "
                f"{counted(contradicting, 'pair carries', 'pairs carry')} both signs (duplicate_pairs: "
                f"{self.signed.duplicate_pairs})."
            )

    def _filter_likes_by_count(self) -> None:
        """RecBole's k-core, counted over likes; rows of other signs go with the last like of their user or item."""
        before = len(self.inter_feat)
        self._filter_by_inter_num()
        if len(self.inter_feat) == before:
            return
        if not len(self.inter_feat):
            users, items = (self.config[f"{side}_inter_num_interval"] for side in ("user", "item"))
            raise UsageError(
                f"no like of '{self.dataset_name}' is left by user_inter_num_interval ({users}) and "
                f"item_inter_num_interval ({items}), which count likes; check the filtering settings."
            )
        self._row_keys["inter_feat"] = self._row_keys["inter_feat"].take(self.inter_feat.index.to_numpy())
        for name in ("neg_feat", "neutral_feat"):
            frame = getattr(self, name)
            known = frame[self.uid_field].isin(self.inter_feat[self.uid_field].unique())
            known &= frame[self.iid_field].isin(self.inter_feat[self.iid_field].unique())
            setattr(self, name, frame[known].reset_index(drop=True))
            self._row_keys[name] = self._row_keys[name].take(known.to_numpy())
        likes, dislikes, neutrals = (len(getattr(self, name)) for name in SIGNS)
        self.sign_report = replace(self.sign_report, likes=likes, dislikes=dislikes, neutrals=neutrals)

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
        """RecBole's rule (padding for tokens, the mean for numbers), assigned: in place it does nothing on pandas 3."""
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

    def order_by_ids(self) -> None:
        """Put the rows of each table in the order of the hashes of their ids, so that no draw follows the file's."""
        sides = [(field, hashes(self.field2id_token[field])) for field in (self.iid_field, self.uid_field)]
        for name in SIGNS:
            frame, keys = getattr(self, name), self._row_keys[name]
            order = np.lexsort([keys_of_ids[frame[field].to_numpy()] for field, keys_of_ids in sides])
            setattr(self, name, frame.iloc[order].reset_index(drop=True))
            self._row_keys[name] = keys.take(order)

    def build(self) -> list[SignedDataset]:
        """Split likes as RecBole would, and the other rows by the same rule.

        The parts of a data set that is split already stay, unless ``eval_args.split`` is ``RS: [1, 0, 0]``: then all
        rows are training rows, and ``duplicate_pairs`` holds for pairs that are in several parts, too.

        Returns:
            The training, validation and test parts; each has its own ``inter_feat``, ``neg_feat`` and
            ``neutral_feat``, and the held-out parts have ``history``.
        """
        self._change_feat_format()
        self._drop_unused_col()
        if self.benchmark_filename_list is not None and not holds_nothing_out(self.config["eval_args"]):
            if len(self.benchmark_filename_list) != 3:
                raise UsageError(
                    f"benchmark_filename is {self.benchmark_filename_list!r}; a run needs a list of three, such as "
                    "[train, valid, test]."
                )
            rows = {name: by_part(keys.part, len(self.file_size_list)) for name, keys in self._row_keys.items()}
        else:
            rows = self._rows_by_rule(SplitRule.from_eval_args(self.config["eval_args"]))
            if self.benchmark_filename_list is not None:
                rows = self._without_repeats(rows)
        parts = []
        for number in range(len(rows["inter_feat"])):
            part = self.copy(_take(self.inter_feat, rows["inter_feat"][number]))
            part.neg_feat = _take(self.neg_feat, rows["neg_feat"][number])
            part.neutral_feat = _take(self.neutral_feat, rows["neutral_feat"][number])
            part._row_keys = {name: keys.take(rows[name][number]) for name, keys in self._row_keys.items()}
            parts.append(part)
        del rows
        if not len(parts[0].inter_feat):
            raise UsageError(
                f"no row of '{self.dataset_name}' is left to train on, which is {self.trains_on}; give the training "
                "part more (eval_args, benchmark_filename)."
            )
        self._set_histories(parts)
        return parts

    def _without_repeats(self, rows: dict[str, list[IntArray]]) -> dict[str, list[IntArray]]:
        """Apply ``duplicate_pairs`` to rows of parts that become one; at loading it held within each of them."""
        tables, keys = [getattr(self, name) for name in SIGNS], [self._row_keys[name] for name in SIGNS]
        sizes = [len(table) for table in tables]
        users, items = (np.concatenate(ids) for ids in zip(*map(self._pairs, tables), strict=True))
        order = np.argsort(np.concatenate([key.part for key in keys]), kind="stable")
        sign = np.repeat(np.array([*SIGNS.values()], dtype=np.int8), sizes)[order]
        times = [key.time for key in keys if key.time is not None]
        time = np.concatenate(times)[order] if times else None
        stays = np.empty(len(order), dtype=bool)
        stays[order], *_ = resolve((users * self.item_num + items)[order], sign, time, self.signed.duplicate_pairs)
        kept = dict(zip(SIGNS, np.split(stays, np.cumsum(sizes)[:-1]), strict=True))
        return {name: [part[kept[name][part]] for part in parts] for name, parts in rows.items()}

    def _rows_by_rule(self, rule: SplitRule) -> dict[str, list[IntArray]]:
        times = {name: keys.time for name, keys in self._row_keys.items()}
        users = {name: getattr(self, name)[self.uid_field].numpy() for name in SIGNS}
        if rule.by_time and times["inter_feat"] is None:
            raise UsageError(
                f"eval_args.order is TO, but '{self.dataset_name}' has no column '{self.time_field}'; "
                "set TIME_FIELD, or eval_args.order to RO."
            )
        by_cut = self.signed.dislike_split == "time"
        if by_cut and not rule.by_time:
            raise UsageError(
                "dislike_split is 'time', but eval_args.order is RO; set the order to TO, or leave dislike_split out."
            )
        if rule.cold:
            items = {name: getattr(self, name)[self.iid_field].numpy() for name in SIGNS}
            sizes = {"user": self.user_num, "item": self.item_num}
            return split_cold({"user": users, "item": items}, times, rule, sizes, self.config["seed"], by_cut)
        return split_rows(users, times, rule, self.user_num, self.config["seed"], by_cut)

    @property
    def shows_seen(self) -> bool:
        """Whether nothing is hidden at evaluation, whatever the user has seen of it."""
        return bool(self.config["repeatable"]) or not self.signed.mask_seen

    def _set_histories(self, parts: list[SignedDataset]) -> None:
        train = parts[0]
        touched = [train.liked_pairs(), *self._other_pairs(train)]
        for number, part in enumerate(parts[1:], start=1):
            if number == 2 and self.signed.mask_valid_at_test:
                known = self._other_pairs(parts[1]) if self.signed.dislike_split == "time" else []
                touched = [*touched, parts[1].liked_pairs(), *known]
            part.history = self._item_lists([] if self.shows_seen else [*touched, *part._read_pairs()])

    def _other_pairs(self, part: SignedDataset) -> list[tuple[IntArray, IntArray]]:
        """User and item of the rows of a part that are not likes and are hidden all the same."""
        hidden = {"neg_feat": self.signed.mask_dislikes, "neutral_feat": self.signed.mask_neutrals}
        return [self._pairs(getattr(part, name)) for name, is_hidden in hidden.items() if is_hidden]

    def _item_lists(self, pairs: list[tuple[IntArray, IntArray]]) -> ItemLists:
        keys = [np.zeros(0, dtype=np.int64), *(users * self.item_num + items for users, items in pairs)]
        return ItemLists.from_keys(distinct(np.concatenate(keys)), self.user_num, self.item_num)

    def _pairs(self, feat: Interaction) -> tuple[IntArray, IntArray]:
        return feat[self.uid_field].numpy(), feat[self.iid_field].numpy()

    def liked_pairs(self) -> tuple[IntArray, IntArray]:
        """User and item of the likes of this part, ``[n_likes]`` each."""
        return self._pairs(self.inter_feat)

    def _read_pairs(self) -> list[tuple[IntArray, IntArray]]:
        """User and item of the likes that the rows of this part are predicted from, if those are in no earlier part."""
        return []

    # ---- what signed code asks for ----

    def times(self, name: str) -> npt.NDArray[Any] | None:
        """Return the exact times of ``inter_feat``, ``neg_feat`` or ``neutral_feat``; None where the file has none."""
        return self._row_keys[name].time

    def features_of(self, side: str) -> Features | None:
        """Return the features of ``item`` or ``user`` that the key ``features`` asks for, by id; None for none.

        RecBole's own tables of features (``load_col``) are another thing, and stay as they are.

        Raises:
            UsageError: a file or column is missing, or a row is not fit.
        """
        table = read_features(self.config, side)
        field = self.iid_field if side == "item" else self.uid_field
        return None if table is None else Features.from_table(table, self.field2id_token[field])

    def signed_graph(self) -> SignedGraph:
        """Return the edges of this part as one graph over RecBole's ids (row and column 0 are padding), built once."""
        if self._graph is None:
            dislikes, neutrals = self._pairs(self.neg_feat), self._pairs(self.neutral_feat)
            graph = SignedGraph.from_edges(
                self.liked_pairs(), dislikes, self.user_num, self.item_num, neutrals, self.signed.neutral_weight
            )
            keys = (hashes(self.field2id_token[field]) for field in (self.uid_field, self.iid_field))
            self._graph = graph.keyed(*keys)
        return self._graph

    def copy(self, new_inter_feat: Interaction) -> SignedDataset:
        """Return a part with other likes, which has no graph yet."""
        part: SignedDataset = super().copy(new_inter_feat)
        part._graph = None
        return part

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


def _take(feat: Interaction, rows: IntArray) -> Interaction:
    """Index with a tensor: RecBole's own indexing turns the row numbers into a Python list."""
    index = torch.from_numpy(rows)
    return Interaction({column: feat[column][index] for column in feat.columns})


__all__ = ["SignReport", "SignedDataset"]
