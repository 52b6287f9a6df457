"""The windows of a stream: their events, what is to be predicted in each, how well it was, and the files of that."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timezone
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recbole_signed.arrays import contains, distinct, spans
from recbole_signed.atomic import read_rows
from recbole_signed.atomic.feature_file import FeatureTable, read_features
from recbole_signed.atomic.feature_space import Features
from recbole_signed.atomic.signs import Settings
from recbole_signed.convert.token_codes import TokenCodes
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.metrics import dislike_share_at, ndcg_at, of_both_signs, recall_at
from recbole_signed.files import parse_json, replacing
from recbole_signed.graph.personal_verdict import NEAR
from recbole_signed.ids_and_times import iso_time, milliseconds
from recbole_signed.live import LIKE, EventBatch
from recbole_signed.live.events import DISLIKE, ITEM, SKIP, VIEW, content_id
from recbole_signed.live.learners.ranking import neighbourhoods
from recbole_signed.live.replay.stream_spec import ModelSpec, window_length
from recbole_signed.live.store.state import OnlineState
from recbole_signed.memory import memory_bytes

CELLS = 8_000_000  # scores that are computed at a time
MIN_WINDOWS = 10


@dataclass(frozen=True)
class Replay:
    """All events of a data set by time, and the first event of each window; ``bounds[-1]`` is the end."""

    events: EventBatch
    bounds: np.ndarray  # int64 `[n_windows + 1]`: window w holds the events `bounds[w]:bounds[w + 1]`

    @classmethod
    def read(
        cls,
        folder: Path,
        cut: float | str,
        windows: int | str,
        sign_rule: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Replay:
        """Read atomic files and cut them: ``cut`` is a share of events or a date, ``windows`` a number or a length."""
        if limit is not None and limit < MIN_WINDOWS:
            raise UsageError(f"max_windows is {limit}; at least {MIN_WINDOWS} windows are needed.")
        events = events_of(folder, sign_rule)
        first = _first_row(events.timestamp, cut, folder)
        bounds = _bounds(events.timestamp, first, windows)
        if limit is not None:
            bounds = bounds[: limit + 1]
        if len(bounds) - 1 < MIN_WINDOWS:
            raise UsageError(
                f"{folder.name}: the cut '{cut}' and windows '{windows}' leave {len(bounds) - 1} windows, but at least "
                f"{MIN_WINDOWS} are needed; cut earlier, or take shorter windows."
            )
        return cls(events, bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def window(self, number: int) -> EventBatch:
        """Return the events of a window."""
        return self.events[self.bounds[number] : self.bounds[number + 1]]

    def start(self, state: OnlineState) -> None:
        """Load the base into an empty state, pairs that repeat as they were seen last."""
        base = self.events[0 : int(self.bounds[0])]
        users, items = TokenCodes(), TokenCodes()
        user, item = (
            ids.codes(pl.Series(of)) + np.int64(1) for ids, of in ((users, base.user_id), (items, base.item_id))
        )
        tokens = users.series().to_list(), items.series().to_list()
        state.bulk_load(*tokens, user, item, base.type, base.timestamp, unit_known=True)


def events_of(path: Path, sign_rule: Mapping[str, str] | None = None) -> EventBatch:
    """Return the rows of a data set as events by time in milliseconds; a sign of 0 is a view."""
    rows = read_rows(path, sign_rule)
    if rows.times is None or rows.tokens is None:
        raise UsageError(
            f"{path} has no column of times, which a replay needs; set TIME_FIELD to a column of the type float."
        )
    times = milliseconds(rows.times, f"the time of {path}")
    if len(times) and times.min() < 0:
        raise UsageError(f"{path} holds times before 1970, which no event has; move all times to later ones.")
    order = np.argsort(times, kind="stable")
    users, items = (
        tokens.gather(codes[order]).to_list()
        for tokens, codes in zip(rows.tokens, (rows.users, rows.items), strict=True)
    )
    types, times = np.array([VIEW, LIKE, DISLIKE], dtype=np.int8)[rows.signs[order]], times[order]  # -1: from the end
    value = np.full(len(users), np.nan)
    columns = zip(users, items, types.tolist(), times.tolist(), value.tolist(), strict=True)
    return EventBatch([content_id(*row) for row in columns], users, items, types, times, value)


def _first_row(times: np.ndarray, cut: float | str, folder: Path) -> int:
    if isinstance(cut, str):
        try:
            moment = iso_time(cut)
        except ValueError as error:
            raise UsageError(
                f"the cut '{cut}' is neither a share of the events nor a date such as 2022-04-25."
            ) from error
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        first = int(np.searchsorted(times, int(moment.timestamp() * 1000)))
    else:
        if not 0 < cut < 1:
            raise UsageError(f"the cut {cut} must be a share of the events between 0 and 1, or a date.")
        first = int(np.searchsorted(times, times[int(len(times) * cut)])) if len(times) else 0
    if not 0 < first < len(times):
        raise UsageError(f"{folder.name}: the cut '{cut}' leaves nothing before it or nothing after it.")
    return first


def _bounds(times: np.ndarray, first: int, windows: int | str) -> np.ndarray:
    if isinstance(windows, int):
        places = np.linspace(first, len(times), windows + 1).astype(np.int64)
        # events of one moment stay together
        inner = np.searchsorted(times, times[places[1:-1]])
        return np.unique(np.concatenate([[first], inner, [len(times)]]))
    edges = np.arange(times[first], times[-1] + 1, window_length(windows))
    return np.unique(np.concatenate([np.searchsorted(times, edges), [len(times)]])).astype(np.int64)


BATCH = 5_000  # items that are announced together


def announced_features(models: tuple[ModelSpec, ...], folder: Path, state: OnlineState) -> dict[str, Features]:
    """Announce items for models with the key ``features``; return these by model, with the values of known items."""
    tables = {model.label: _read(model.features, folder) for model in models if model.features}
    if not tables:
        return {}
    known = state.edges.item_likes + state.edges.item_dislikes > 0
    for table in tables.values():
        _announce(table, state)
    ids = np.array(["", *state.items.tokens(range(1, len(state.items)))], dtype=object)
    features = {}
    for label, table in tables.items():
        space = Features.from_table(table, ids[: len(known)][known]).space
        features[label] = Features(space.matrix(table, ids), space)
    return features


def _read(features: Mapping[str, Any], folder: Path) -> FeatureTable:
    settings = Settings.read(folder / f"{folder.name}.yaml")
    settings |= {"features": features, "data_path": str(folder), "dataset": folder.name}
    table = read_features(Settings(settings), "item") if set(features) == {"item"} else None
    if table is None:
        raise UsageError(f"the features of a replayed model are {{item: [...]}}, but are {features!r}.")
    return table


def _announce(table: FeatureTable, state: OnlineState) -> None:
    new = [item for item in table.ids.to_list() if item not in state.items]
    time = int(state.edges.export().timestamp.max())
    for first in range(0, len(new), BATCH):
        items = new[first : first + BATCH]
        n = len(items)
        columns = np.full(n, ITEM, dtype=np.int8), np.full(n, time), np.full(n, np.nan)
        state.ingest(EventBatch([f"announce {item}" for item in items], [""] * n, items, *columns, ["{}"] * n))


def measure(
    cases: Cases, scores: Callable[[np.ndarray], torch.Tensor], n_items: int, cutoffs: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return metric -> values by case, float64 ``[n_cases]``, of scores ``[n_cases, n_items]``; NaN: undefined.

    ``repeatdislike@k`` is dislikerecall of those dislikes that are near an earlier dislike of the user.
    """
    depth = min(max(cutoffs), n_items - 1)
    size = max(1, CELLS // n_items)
    kinds = {
        "like": (cases.like_case, cases.like_item),
        "dislike": (cases.dislike_case, cases.dislike_item),
        "repeated": (cases.dislike_case[cases.repeated], cases.dislike_item[cases.repeated]),
    }
    relevant = {kind: distinct(case * n_items + item) for kind, (case, item) in kinds.items()}
    n_dislikes, n_repeated = (np.bincount(kinds[kind][0], minlength=len(cases)) for kind in ("dislike", "repeated"))
    order = np.argsort(cases.hidden[0], kind="stable")
    hidden_case, hidden_item = (array[order] for array in cases.hidden)
    shown: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    for first in range(0, len(cases), size):
        rows = np.arange(first, min(first + size, len(cases)))
        ranked = scores(rows)[:, :n_items]
        ranked[:, 0] = -torch.inf
        inside = slice(*np.searchsorted(hidden_case, [first, first + size]))
        ranked[hidden_case[inside] - first, hidden_item[inside]] = -torch.inf
        top = ranked.topk(depth, dim=1)
        keys = rows[:, None] * n_items + np.where(top.values.isfinite().numpy(), top.indices.numpy(), 0)
        for kind, of_rows in shown.items():
            of_rows.append(contains(relevant[kind], keys))
    hits, bads, again = (
        # fewer columns where there are fewer items than places
        np.pad(np.concatenate([np.zeros((0, depth), dtype=bool), *parts]), ((0, 0), (0, max(cutoffs) - depth)))
        for parts in shown.values()
    )
    values = {"recall": recall_at(hits, cases.n_likes), "ndcg": ndcg_at(hits, cases.n_likes)}
    of_dislikes = {"dislikerecall": recall_at(bads, n_dislikes), "dislikeshare": dislike_share_at(hits, bads)}
    values |= {name: of_both_signs(value, cases.n_likes, n_dislikes) for name, value in of_dislikes.items()}
    values["repeatdislike"] = of_both_signs(recall_at(again, n_repeated), cases.n_likes, n_repeated)
    return {f"{name}@{k}": value[:, k - 1] for k in cutoffs for name, value in values.items()}


def write_window(
    file: Path, cases: pl.DataFrame, times: Mapping[str, Any], window: EventBatch, made: Mapping[str, Any]
) -> None:
    """Write the cases of a window, and before them what :func:`read_times` gives, as ``.json`` beside ``file``."""
    about = {"start": int(window.timestamp[0]), "peak_memory_bytes": memory_bytes()[1]}
    file.with_suffix(".json").write_text(json.dumps({**times, **about, "made": made}), encoding="utf-8")
    with replacing(file) as partial:
        cases.write_parquet(partial)


def read_cases(folder: Path) -> pl.DataFrame:
    """Return the cases of all windows of a finished stream, with a column ``window``."""
    files = sorted(folder.glob("window-*.parquet"), key=_number_of)
    if not files:
        raise UsageError(f"{folder} holds no windows of a stream; run the stream first.")
    return pl.concat([pl.read_parquet(file).with_columns(window=number) for number, file in enumerate(files)])


def read_times(folder: Path) -> list[dict[str, Any]]:
    """Return what is known of each window beside its cases, in their order."""
    return [parse_json(file.read_bytes()) for file in sorted(folder.glob("window-*.json"), key=_number_of)]


def _number_of(file: Path) -> int:
    """Return the number of a window's file: by their text, that of 1000 comes before that of 101."""
    return int(file.stem.removeprefix("window-"))


BASE, NEW, UNKNOWN = 0, 1, 2
GROUPS = ("base", "new", "unknown")  # with an edge before the cut, who came after it, of whom nothing is known


@dataclass(frozen=True)
class Cases:
    """One case per user with a like in the window; pairs ``[n_pairs]``, without known items, are by case."""

    user: np.ndarray  # int64: id in the vocabulary as it is before the window, 0 for unknown users
    token: list[str]
    group: np.ndarray  # int8, see `GROUPS`
    n_likes: np.ndarray  # int64: all likes of the window, of unknown items too
    n_known_likes: np.ndarray  # int64: likes of the user before the window
    n_unknown: np.ndarray  # int64: likes of items that are not in the vocabulary yet
    like_case: np.ndarray
    like_item: np.ndarray
    dislike_case: np.ndarray
    dislike_item: np.ndarray
    repeated: np.ndarray  # which dislikes are among the ten items nearest to an earlier dislike of the user, bool
    hidden: tuple[np.ndarray, np.ndarray]  # case and item of all that the users touched before

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def from_window(cls, state: OnlineState, window: EventBatch, n_base_users: int) -> Cases:
        """Read the cases off a window that ``state`` has not seen; of a repeated pair the last verdict counts."""
        frame = pl.DataFrame({"user": window.user_id, "item": window.item_id, "kind": window.type})
        frame = frame.filter(~pl.col("kind").is_in([SKIP, VIEW]))  # no verdict, so they withdraw none
        frame = frame.unique(["user", "item"], keep="last", maintain_order=True)
        frame = frame.filter(pl.col("kind").is_in([LIKE, DISLIKE]))
        frame = frame.with_columns(
            pl.Series("user_id", state.users.ids(frame["user"].to_list()), dtype=pl.Int64),
            pl.Series("item_id", state.items.ids(frame["item"].to_list()), dtype=pl.Int64),
        )
        seen_case, seen_item = touched(state, np.unique(frame["user_id"].to_numpy()))
        seen = distinct(seen_case * len(state.items) + seen_item)
        keys = frame["user_id"].to_numpy() * len(state.items) + frame["item_id"].to_numpy()
        frame = frame.filter(pl.Series(~contains(seen, keys) | (frame["item_id"].to_numpy() == 0)))

        users = frame.filter(pl.col("kind") == LIKE)["user"].unique(maintain_order=True)
        frame = frame.join(pl.DataFrame({"user": users}).with_row_index("case"), on="user", maintain_order="left")
        likes, dislikes = (frame.filter(pl.col("kind") == kind) for kind in (LIKE, DISLIKE))
        user = state.users.ids(users.to_list())
        known, known_bad = (verdicts.filter(pl.col("item_id") > 0) for verdicts in (likes, dislikes))
        count = np.bincount(likes["case"].to_numpy(), minlength=len(users))
        reachable = np.bincount(known["case"].to_numpy(), minlength=len(users))
        bad = known_bad["case"].to_numpy().astype(np.int64), known_bad["item_id"].to_numpy()
        return cls(
            user=user,
            token=users.to_list(),
            group=np.select([user == 0, user < n_base_users], [UNKNOWN, BASE], NEW).astype(np.int8),
            n_likes=count,
            n_known_likes=np.where(user > 0, state.edges.user_likes[user], 0),
            n_unknown=count - reachable,
            like_case=known["case"].to_numpy().astype(np.int64),
            like_item=known["item_id"].to_numpy(),
            dislike_case=bad[0],
            dislike_item=bad[1],
            repeated=contains(near_dislikes(state, user), bad[0] * len(state.items) + bad[1]),
            hidden=touched(state, user, by_position=True),
        )


def near_dislikes(state: OnlineState, users: np.ndarray) -> np.ndarray:
    """Return the keys ``place * n_items + item`` of what is near to dislikes of users by their places, ascending."""
    rows = state.edges.of_users(users)
    disliked = rows.kind == DISLIKE
    case = np.repeat(np.arange(len(users)), np.diff(rows.indptr))[disliked]
    items, place = np.unique(rows.ids[disliked], return_inverse=True)
    near = neighbourhoods(state.edges, items)
    length = np.minimum(np.diff(near.indptr), NEAR)[place]
    entry = spans(near.indptr[place], length)
    return distinct(np.repeat(case, length) * len(state.items) + near.items[entry])


def touched(state: OnlineState, users: np.ndarray, by_position: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return (user, item) of all visible edges of some users; with ``by_position`` the place in ``users`` instead."""
    rows = state.edges.of_users(users)
    names = np.arange(len(users)) if by_position else users
    return np.repeat(names, np.diff(rows.indptr)).astype(np.int64), rows.ids.astype(np.int64)
