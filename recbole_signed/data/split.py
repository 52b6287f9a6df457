"""RecBole's splitting rules, vectorised, also for dislikes and neutral rows; no part's graph knows a later time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from recbole_signed.arrays import first_rows, spans
from recbole_signed.data.settings import COLD
from recbole_signed.errors import UsageError, ending

IntArray = npt.NDArray[np.int64]
TimeArray = npt.NDArray[np.int64] | npt.NDArray[np.float64]
N_PARTS = 3
_LEAVE_ONE_OUT = {"valid_and_test": (1, 1), "valid_only": (1, 0), "test_only": (0, 1)}


@dataclass(frozen=True)
class SplitRule:
    """One of RecBole's ``eval_args``: ``RS`` (ratio), ``LS`` (leave one out) or ``TS`` (global time, then ratio).

    Or ``CI`` and ``CU``: the test part has all edges of a share of the items, or users; then ``RS``.
    """

    mode: str
    ratios: tuple[float, float, float]
    leave_one_out: str
    by_user: bool
    by_time: bool
    cold: str = ""  # `item` or `user` under `CI` and `CU`; `ratios` are then those of the other rows
    cold_share: float = 0.0  # share of the items, or users, that are held out

    @classmethod
    def from_eval_args(cls, eval_args: Mapping[str, Any]) -> SplitRule:
        """Read RecBole's ``eval_args``."""
        order, split = eval_args["order"], eval_args["split"]
        if order not in ("RO", "TO"):
            raise UsageError(f"eval_args.order is '{order}'; it must be RO (random) or TO (time).")
        if not isinstance(split, dict) or len(split) != 1 or next(iter(split)) not in ("RS", "LS", "TS", *COLD):
            raise UsageError(
                f"eval_args.split is {split!r}; it must hold one of RS, LS and TS, such as {{'RS': [0.8, 0.1, 0.1]}}, "
                "or CI or CU, which hold out whole items or users."
            )
        ((mode, value),) = split.items()
        ratios, leave = (0.8, 0.1, 0.1), ""
        if mode == "LS":
            leave = value
            if leave not in _LEAVE_ONE_OUT:
                raise UsageError(
                    f"eval_args.split LS is '{leave}'; it must be one of {', '.join(_LEAVE_ONE_OUT)}"
                    f"{ending(leave, _LEAVE_ONE_OUT)}"
                )
        else:
            if not _are_ratios(value) or (mode == "TS" and not any(value[:2])):
                raise UsageError(
                    f"eval_args.split {mode} is {value!r}; it must hold three ratios: train, valid, test, which are 0 "
                    "or more, and not all for the test."
                )
            first, second, third = (float(ratio) / sum(value) for ratio in value)
            ratios = (first, second, third)
        group = str(eval_args.get("group_by") or "none").lower()
        if group not in ("user", "none"):
            raise UsageError(f"eval_args.group_by is '{group}'; it must be user or none.")
        if mode == "TS" and order != "TO":
            raise UsageError("eval_args.split TS splits by time; set eval_args.order to TO.")
        by_user, by_time = group == "user", order == "TO"
        if mode in COLD:
            train, valid, test = ratios
            if not train > 0 or not test > 0:
                raise UsageError(f"eval_args.split {mode} is {value!r}; the shares of train and test must be above 0.")
            rest = (train / (train + valid), valid / (train + valid), 0.0)
            return cls("RS", rest, leave, by_user, by_time, COLD[mode], test)
        return cls(mode, ratios, leave, by_user=by_user or mode != "RS", by_time=by_time)

    def sizes(self, counts: IntArray) -> IntArray:
        """Return how many rows of groups of ``counts [n_groups]`` rows go to each part, ``[n_groups, 3]``."""
        return _leave_out(counts, self.leave_one_out) if self.mode == "LS" else _by_ratio(counts, self.ratios)


def _are_ratios(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == N_PARTS
        and all(isinstance(ratio, (int, float)) and 0 <= ratio < np.inf for ratio in value)
        and sum(value) > 0
    )


def holds_nothing_out(eval_args: Mapping[str, Any]) -> bool:
    """Whether RecBole's ``eval_args`` ask for a model that is fitted to everything: ``RS: [1, 0, 0]``."""
    split = eval_args.get("split")
    ratios = split.get("RS") if isinstance(split, dict) else None
    return isinstance(ratios, (list, tuple)) and len(ratios) == N_PARTS and ratios[0] > 0 and not any(ratios[1:])


def _by_ratio(counts: IntArray, ratios: tuple[float, float, float]) -> IntArray:
    """RecBole's rounding: later parts are rounded down, but get one row where they would get a fraction of one."""
    sizes = np.stack([(ratio * counts).astype(np.int64) for ratio in ratios], axis=1)
    sizes[:, 0] = counts - sizes[:, 1:].sum(axis=1)
    open_groups = np.ones(len(counts), dtype=bool)
    for part in (2, 1):
        open_groups &= sizes[:, 0] > 1
        share = ratios[part] * counts
        gains = open_groups & (share > 0) & (share < 1)
        sizes[gains, part] += 1
        sizes[gains, 0] -= 1
    return sizes


def _leave_out(counts: IntArray, mode: str) -> IntArray:
    valid, test = _LEAVE_ONE_OUT[mode]
    # the last part is served first: a user of two rows has no validation row
    last = 2 if test else 1
    sizes = np.zeros((len(counts), N_PARTS), dtype=np.int64)
    sizes[:, last] = counts > 1
    if valid and test:
        sizes[:, 1] = counts > 2
    sizes[:, 0] = counts - sizes[:, 1:].sum(axis=1)
    return sizes


def part_of_rows(users: IntArray, rule: SplitRule, times: TimeArray | None = None) -> IntArray:
    """Return the part (0 train, 1 valid, 2 test) of each row, ``[n_rows]``; only ``TS`` needs ``times``."""
    n_rows = len(users)
    if not n_rows:
        return np.zeros(0, dtype=np.int64)
    if not rule.by_user:
        return np.repeat(np.arange(N_PARTS), rule.sizes(np.array([n_rows]))[0])
    if rule.mode == "TS":
        return _by_global_time(users, rule, times)
    group_of_row, rank, counts = ranks(users)
    ends = np.cumsum(rule.sizes(counts), axis=1)
    return (rank >= ends[group_of_row, 0]).astype(np.int64) + (rank >= ends[group_of_row, 1])


def _by_global_time(users: IntArray, rule: SplitRule, times: TimeArray | None) -> IntArray:
    assert times is not None
    part = np.full(len(users), 2, dtype=np.int64)
    early = np.flatnonzero(times <= np.percentile(times, 100 * (1 - rule.ratios[2])))
    group_of_row, rank, counts = ranks(users[early])
    ends = (counts * (rule.ratios[0] / (1 - rule.ratios[2]))).astype(np.int64)
    part[early] = rank >= ends[group_of_row]
    return part


def ranks(users: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return each row's group (its user), its rank within the group, and the groups' sizes."""
    counts = np.bincount(users)
    rank = np.empty(len(users), dtype=np.int64)
    rank[_in_groups(users, len(counts))] = spans(np.zeros_like(counts), counts)
    return users, rank, counts


def _in_groups(groups: IntArray, n_groups: int) -> npt.NDArray[Any]:
    """Return the rows by their group, ``[n_rows]``, in the order in which they come: a counting sort, in O(n)."""
    rows = np.arange(len(groups), dtype=np.int32 if len(groups) < 2**31 else np.int64)
    filled = np.ones(len(groups), dtype=np.int8)
    return sp.csr_matrix((filled, (groups, rows)), shape=(n_groups, len(groups))).indices


def rows_of_parts(users: IntArray, part: IntArray, rule: SplitRule) -> list[IntArray]:
    """Return the row numbers of each part in RecBole's order: user by user as they first appear, else as they come."""
    rows = np.arange(len(users))
    if rule.by_user and len(users):
        rows = _in_groups(first_rows(users, int(users.max()) + 1)[users], len(users))
    return [rows[part[rows] == number] for number in range(N_PARTS)]


@dataclass(frozen=True)
class TimeCuts:
    """When rows may no longer be in an earlier part: the first held-out likes, ``[n_users]``, or ``[1]`` for all."""

    valid: npt.NDArray[np.float64] | TimeArray
    test: npt.NDArray[np.float64] | TimeArray

    @classmethod
    def from_likes(cls, users: IntArray, times: TimeArray, part: IntArray, rule: SplitRule, n_users: int) -> TimeCuts:
        """Find the cuts that the split of the likes implies."""
        per_user = rule.by_user
        never = np.iinfo(np.int64).max if times.dtype.kind == "i" else np.inf
        cuts = np.full((N_PARTS, n_users if per_user else 1), never, dtype=times.dtype)
        for number in (1, 2):
            held = part == number
            np.minimum.at(cuts[number], users[held] if per_user else np.zeros(held.sum(), dtype=np.int64), times[held])
        if rule.mode == "TS":  # the test part begins at one moment for all, those without a like in it too
            cuts[2] = cuts[2].min()
        return cls(np.minimum(cuts[1], cuts[2]), cuts[2])

    def part_of(self, users: IntArray, times: TimeArray) -> IntArray:
        """Return the earliest part in which a row of that user and time may be, ``[n_rows]``."""
        where = users if len(self.valid) > 1 else np.zeros(len(users), dtype=np.int64)
        return (times >= self.valid[where]).astype(np.int64) + (times >= self.test[where])


def part_of_others(
    users: IntArray,
    times: TimeArray | None,
    rule: SplitRule,
    cuts: TimeCuts | None,
    rng: np.random.Generator,
    by_cut_alone: bool = False,
) -> IntArray:
    """Return the part of each row that is no like: by the rule, in time order no earlier than the likes' cut."""
    if not rule.by_time:
        order = rng.permutation(len(users))
        part = np.empty(len(users), dtype=np.int64)
        part[order] = part_of_rows(users[order], rule)
        return part
    assert times is not None
    assert cuts is not None
    by_cut = cuts.part_of(users, times)
    if by_cut_alone or not rule.by_user or rule.mode == "TS":
        return by_cut
    order = np.argsort(times, kind="stable")
    by_rule = np.empty(len(users), dtype=np.int64)
    by_rule[order] = part_of_rows(users[order], rule)
    return np.maximum(by_rule, by_cut)


def split_rows(
    users: Mapping[str, IntArray],
    times: Mapping[str, Any],
    rule: SplitRule,
    n_users: int,
    seed: int,
    by_cut_alone: bool = False,
) -> dict[str, list[IntArray]]:
    """Return row numbers of the parts of each table: likes (``inter_feat``, the first) as by RecBole, then others."""
    likes, *others = users
    time: Any = times[likes]
    # RecBole's own draw, so that a file of likes alone is split in the same way
    order = np.argsort(time, kind="stable") if rule.by_time else torch.randperm(len(users[likes])).numpy()
    sorted_users = users[likes][order]
    sorted_time: Any = None if time is None else time[order]
    part = part_of_rows(sorted_users, rule, sorted_time)
    rows = {likes: [order[chosen] for chosen in rows_of_parts(sorted_users, part, rule)]}
    cuts = TimeCuts.from_likes(sorted_users, sorted_time, part, rule, n_users) if rule.by_time else None
    # a generator of its own: the likes' split and the model's start must not depend on how many dislikes there are
    rng = np.random.default_rng(seed)
    for name in others:
        rows[name] = by_part(part_of_others(users[name], times[name], rule, cuts, rng, by_cut_alone), N_PARTS)
    return rows


def split_cold(
    ids: Mapping[str, Mapping[str, IntArray]],
    times: Mapping[str, Any],
    rule: SplitRule,
    sizes: Mapping[str, int],
    seed: int,
    by_cut_alone: bool = False,
) -> dict[str, list[IntArray]]:
    """Hold out all rows of a share of the items, or users, and split the others by the rest of the rule."""
    n = sizes[rule.cold]
    cold = np.zeros(n, dtype=bool)
    cold[1 + np.random.default_rng(seed).permutation(n - 1)[: max(1, round(rule.cold_share * (n - 1)))]] = True
    held = {name: cold[column] for name, column in ids[rule.cold].items()}
    warm = {name: np.flatnonzero(~mask) for name, mask in held.items()}
    users = {name: ids["user"][name][rows] for name, rows in warm.items()}
    rest = {name: None if times[name] is None else times[name][rows] for name, rows in warm.items()}
    parts = split_rows(users, rest, rule, sizes["user"], seed, by_cut_alone)
    return {
        name: [*(rows[part] for part in parts[name][:-1]), np.flatnonzero(held[name])] for name, rows in warm.items()
    }


def by_part(part: npt.NDArray[np.integer], n_parts: int) -> list[IntArray]:
    """Return the rows of each part, in the order in which they come."""
    return [np.flatnonzero(part == number) for number in range(n_parts)]
