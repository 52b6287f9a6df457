"""A trainer that goes on after training: events change recommendations at once, on a state that survives any crash."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import get_trainer

from recbole_signed.errors import UsageError
from recbole_signed.online.events import DISLIKE, LIKE, VIEW, Event, EventBatch
from recbole_signed.online.learners import Learner, Refreshed, best_items, learner_of
from recbole_signed.online.store import ItemSide, OnlineState, Update

KINDS = {"inter_feat": LIKE, "neg_feat": DISLIKE, "neutral_feat": VIEW}
SECOND = 1000
"""Milliseconds."""


@dataclass(frozen=True)
class UpdateResult:
    """What :meth:`OnlineTrainer.update` did."""

    update: Update
    seconds: float
    """From the call to the moment at which recommendations follow the events; they are on the disk by then."""


class OnlineTrainer(Trainer):
    """Trains a model as its own trainer does, then lets it learn from events.

    ``trainer: OnlineTrainer`` in a configuration, or ``OnlineTrainer(config, model)``. The class that comes out is also
    one of the model's own trainer, so that :meth:`fit` is what it always is; after it the training edges and the
    vocabulary are in a state directory (``online_state``, by default ``runs/online/<model>-<data set>``), and

    * :meth:`update` makes events durable and takes them in (T0 and T1);
    * :meth:`refresh` brings the item side up to date (T2);
    * :meth:`refit` learns from scratch in the background and is swapped in whole (T3); updates go on meanwhile, and
      what they brought is in the new version too;
    * :meth:`recommend` ranks for a user by its own id; :meth:`evaluate` is RecBole's evaluation of the model, without
      what a user's newest dislike does to its neighbours (``online/learners/dislike_push.py``);
    * :meth:`snapshot` saves a version; a trainer whose state directory is there starts from the newest one that is
      whole and replays what came after it, so that nothing that :meth:`update` returned for is ever lost.

    Raises:
        UsageError: the state directory belongs to another model, another vocabulary, or another process.
    """

    def __new__(cls, config: Any, model: Any) -> OnlineTrainer:
        """Return an instance of a class that is also the model's own trainer."""
        if cls is not OnlineTrainer:
            return object.__new__(cls)
        return object.__new__(online(get_trainer(config["MODEL_TYPE"], config["model"])))

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        default = Path("runs") / "online" / f"{config['model']}-{config['dataset']}"
        self.directory = Path(config["online_state"] or default)
        self.state: OnlineState | None = None
        self.learner: Learner | None = None
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="refit")

    # ---- starting

    def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Train as the model's own trainer does, then start the online state from the training part."""
        result = super().fit(train_data, *args, **kwargs)
        self.start(train_data._dataset)
        return result

    def start(self, dataset: Any) -> None:
        """Open the state directory: a new one begins with the edges of ``dataset``, one that is there goes on.

        Raises:
            UsageError: it is not of this model, or was begun with another vocabulary.
        """
        state = OnlineState.open(self.directory)
        try:
            learner = learner_of(self.model, self.config)
            if state.last_seq or len(state.items) > 1:
                self._resume(state, learner, dataset)
            else:
                _load_base(state, dataset)
                learner.fit(state.edges.export(), state.edges.n_users, state.edges.n_items)
                learner.attach(state.edges)
        except BaseException:
            state.close()
            raise
        self.state, self.learner = state, learner

    def _resume(self, state: OnlineState, learner: Learner, dataset: Any) -> None:
        for field, vocabulary in ((dataset.uid_field, state.users), (dataset.iid_field, state.items)):
            tokens = list(dataset.field2id_token[field][1:])
            if len(tokens) >= len(vocabulary) or (vocabulary.ids(tokens) != np.arange(1, len(tokens) + 1)).any():
                raise UsageError(
                    f"{self.directory} was begun with another vocabulary ({field}) than '{dataset.dataset_name}' has "
                    "now, so its rows would be those of others; set online_state to another folder."
                )
        snapshot = state.recover(model=self.config["model"])
        if snapshot is None:
            learner.fit(state.edges.export(), state.edges.n_users, state.edges.n_items)
        else:
            learner.load(snapshot.tensors, snapshot.meta)
        learner.attach(state.edges)
        for update in state.replay():
            learner.update(state.edges, update.changes)

    def _ready(self) -> tuple[OnlineState, Learner]:
        if self.state is None or self.learner is None:
            raise UsageError("the trainer has no online state yet; call fit(), or start() with the training data set.")
        return self.state, self.learner

    # ---- learning

    def update(self, events: EventBatch | Iterable[Event]) -> UpdateResult:
        """Make events durable and take them in; recommendations follow them from then on.

        Raises:
            UsageError: an event is not valid, or the disk is full; then none of them was taken.
        """
        started = time.perf_counter()
        batch = events if isinstance(events, EventBatch) else EventBatch.of(events)
        with self._lock:
            state, learner = self._ready()
            update = state.ingest(batch)
            if update.n_new:
                learner.update(state.edges, update.changes)
        return UpdateResult(update, time.perf_counter() - started)

    def refresh(self) -> Refreshed:
        """Bring the item side up to date; updates wait only while edges are copied and the result is swapped in."""
        return self._renew(lambda learner, edges, sizes: learner.refresh(edges, *sizes), times=False)

    def refit(self) -> Future[None]:
        """Learn from scratch in the background; the future is done when the new version is in force."""
        _, learner = self._ready()
        return self._pool.submit(
            self._renew, lambda learner, edges, sizes: learner.fit(edges, *sizes), times=learner.needs_times
        )

    def _renew(self, how: Any, times: bool) -> Any:
        with self._lock:
            state, learner = self._ready()
            fresh, copied = copy.deepcopy(learner), state.edges.export() if times else state.edges.item_side()
            sizes = state.edges.n_users, state.edges.n_items
        edges = copied.arrays() if isinstance(copied, ItemSide) else copied
        del copied
        result = how(fresh, edges, sizes)
        with self._lock:
            fresh.attach(state.edges)
            self.learner = fresh
        return result

    def snapshot(self) -> str:
        """Save a version of the model with the edges it reflects, and return its name."""
        with self._lock:
            state, learner = self._ready()
            return state.snapshot(*learner.state(), model=self.config["model"])

    def close(self) -> None:
        """Wait for a refit under way, and let go of the state directory."""
        self._pool.shutdown(wait=True)
        if self.state is not None:
            self.state.close()
            self.state = None

    # ---- ranking

    def recommend(self, user: str, k: int = 20) -> list[tuple[str, float]]:
        """Return the ``k`` best items for a user, with their scores, best first; none that the user has an edge to.

        Args:
            user: its id as events have it; one that is not known gets what a user without edges gets.
            k: how many; fewer where the catalogue has no more.
        """
        with self._lock:
            state, learner = self._ready()
            number = int(state.users.ids([user])[0])
            items, values = best_items(learner, state.edges, number, k)
            tokens = state.items.tokens(items.tolist())
        return [(token, value) for token, value in zip(tokens, values.tolist(), strict=True) if token is not None]

    def evaluate(self, eval_data: Any, load_best_model: bool = True, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as RecBole does: the live model once it is started, else the one that was trained."""
        if self.learner is None:
            return super().evaluate(eval_data, load_best_model, *args, **kwargs)
        trained: Any = self.model
        self.model: Any = _LiveModel(self, eval_data._dataset)
        try:
            return super().evaluate(eval_data, False, *args, **kwargs)
        finally:
            self.model = trained


@cache
def online(base: type) -> type:
    """Return the class that trains as ``base`` does and then goes on as an :class:`OnlineTrainer`."""
    return type(f"Online{base.__name__}", (OnlineTrainer, base), {"__module__": OnlineTrainer.__module__})


class _LiveModel:
    """What RecBole's evaluation asks of a model, answered by the learner for the ids of a data set."""

    def __init__(self, trainer: OnlineTrainer, dataset: Any) -> None:
        self.trainer = trainer
        self.user, self.item = dataset.uid_field, dataset.iid_field
        self.n_items = dataset.item_num
        self.device = trainer.device

    def eval(self) -> _LiveModel:
        return self

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        return self._scores(interaction[self.user])

    def predict(self, interaction: Any) -> torch.Tensor:
        users, row = interaction[self.user].unique(return_inverse=True)
        return self._scores(users)[row, interaction[self.item]]

    def _scores(self, users: torch.Tensor) -> torch.Tensor:
        state, learner = self.trainer._ready()
        return learner.scores(state.edges, users.cpu().numpy())[:, : self.n_items].to(self.device)


def _load_base(state: OnlineState, dataset: Any) -> None:
    """Begin a state with the edges of a training part; its vocabulary is that of the whole data set, ids included."""
    columns: dict[str, list[np.ndarray]] = {"user": [], "item": [], "kind": [], "time": []}
    for name, kind in KINDS.items():
        table = getattr(dataset, name, None)
        if table is None or not len(table):
            continue
        columns["user"].append(table[dataset.uid_field].numpy())
        columns["item"].append(table[dataset.iid_field].numpy())
        columns["kind"].append(np.full(len(table), kind, dtype=np.int8))
        columns["time"].append(_milliseconds(dataset, name, len(table)))
    user, item, kinds, times = [np.concatenate(each) for each in columns.values()]
    order = np.argsort(times, kind="stable")
    tokens = [
        [str(token) for token in dataset.field2id_token[field][1:]] for field in (dataset.uid_field, dataset.iid_field)
    ]
    state.bulk_load(tokens[0], tokens[1], user[order], item[order], kinds[order], times[order])


def _milliseconds(dataset: Any, name: str, n: int) -> np.ndarray:
    keys = getattr(dataset, "_row_keys", {}).get(name)
    if keys is None or keys.time is None:
        return np.zeros(n, dtype=np.int64)
    return np.rint(np.asarray(keys.time, dtype=np.float64) * SECOND).astype(np.int64)
