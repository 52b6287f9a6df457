"""A trainer that goes on after training: events change recommendations at once, on a state that survives any crash."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.utils import get_trainer

from recbole_signed.atomic.feature_space import Features
from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import milliseconds, normal
from recbole_signed.live.events import DISLIKE, LIKE, VIEW
from recbole_signed.live.learners.base import Learner, learner_from, learner_of
from recbole_signed.live.learners.ranking import ranked_scores
from recbole_signed.live.recommender import EdgeColumns, OnlineRecommender
from recbole_signed.live.renewal import same_settings
from recbole_signed.live.store import Vocabulary
from recbole_signed.live.store.settings import StateSettings
from recbole_signed.live.store.state import OnlineState

KINDS = {"inter_feat": LIKE, "neg_feat": DISLIKE, "neutral_feat": VIEW}
_logger = logging.getLogger(__name__)


class OnlineTrainer(OnlineRecommender, Trainer):
    """Trains a model as its own trainer does, then lets it learn from events.

    ``trainer: OnlineTrainer`` in a configuration, or ``OnlineTrainer(config, model)``. The class that comes out is also
    one of the model's own trainer, so that :meth:`fit` is what it always is; after it the training edges and the
    vocabulary are in a state directory (``online_state``, by default ``runs/online/<model>-<data set>``), and it is an
    :class:`~recbole_signed.live.OnlineRecommender`. :meth:`evaluate` is RecBole's evaluation of what it ranks
    by, personal verdicts included (``live/learners/ranking.py``).

    A trainer whose state directory is there starts from the newest version that is whole and replays what came after
    it, so that nothing that :meth:`update` returned for is ever lost. Then the state is the truth: parameters that the
    configuration has changed take effect at the next :meth:`refit` (:attr:`parameters` tells), and users, items and
    interactions that were appended to the data set join by events. Users who were forgotten stay forgotten.

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
        self._prepare(Path(config["online_state"] or default), config["model"])

    # ---- starting

    def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Train as the model's own trainer does, then start the online state from the training part.

        Raises:
            UsageError: the model can't go on learning with this configuration, found before it is trained; or as
                :meth:`start`.
        """
        learner_of(self.model, self.config)
        result = super().fit(train_data, *args, **kwargs)
        self.start(train_data._dataset)
        return result

    def start(self, dataset: Any) -> None:
        """Open the state directory: a new one begins with the edges of ``dataset``, one that is there goes on.

        Raises:
            UsageError: it is not of this model, or was begun with another vocabulary.
        """
        state = OnlineState.open(self.directory, settings=StateSettings.from_config(self.config["online_limits"]))
        try:
            learner = learner_of(self.model, self.config)
            self._configured = learner_of(self.model, self.config).from_scratch()
            if state.last_seq or len(state.items) > 1:
                self._resume(state, learner, dataset)
            else:
                self._begin(state, learner, *base_of(dataset), unit_known=True)
        except BaseException:
            self.state = self.learner = None
            state.close()
            raise

    def _resume(self, state: OnlineState, learner: Learner, dataset: Any) -> None:
        grown = _has_grown(state, dataset)
        assert self._configured is not None
        for target in (learner, self._configured):
            self._take_features(target, state, dataset)
        if grown:
            learner.from_scratch()  # what was trained has rows that the state does not know
        snapshot = state.recover(model=self.model_name)
        description = snapshot.meta.get("learner") if snapshot is not None else None
        strength = learner.dislike_strength  # can be changed any time
        if description is not None and not same_settings(learner, description):
            learner = learner_from(description)
        self._go_on(state, learner, snapshot)
        learner.dislike_strength = strength
        self._compare()
        if self.wanted is not None:
            _logger.warning(
                "%s goes on with the parameters it has; the new ones take effect at refit().", state.directory
            )

    def _take_features(self, learner: Learner, state: OnlineState, dataset: Any) -> None:
        """Give the features of a data set to a learner by the ids of the state; those of others are left out."""
        features = getattr(self.model, "features", None)
        if features is not None:
            sides = (features.items, dataset.iid_field, state.items), (features.users, dataset.uid_field, state.users)
            learner.take_features(*(_moved(own, _ids_in(dataset, *names)) for own, *names in sides))

    # ---- ranking

    def evaluate(self, eval_data: Any, load_best_model: bool = True, *args: Any, **kwargs: Any) -> Any:
        """Evaluate as RecBole does: the live model once it is started, else the one that was trained."""
        if self.learner is None:
            return super().evaluate(eval_data, load_best_model, *args, **kwargs)
        trained: Any = self.model
        self.model: Any = LiveModel(self, eval_data._dataset, self.device)
        try:
            return super().evaluate(eval_data, False, *args, **kwargs)
        finally:
            self.model = trained


@cache
def online(base: type) -> type:
    """Return the class that trains as ``base`` does and then goes on as an :class:`OnlineTrainer`."""
    if issubclass(base, OnlineTrainer):
        return base
    return type(f"Online{base.__name__}", (OnlineTrainer, base), {"__module__": OnlineTrainer.__module__})


class LiveModel:
    """What RecBole's evaluation asks of a model, answered by the learner for the ids of a data set."""

    def __init__(self, live: OnlineRecommender, dataset: Any, device: torch.device) -> None:
        self.live = live
        self.user, self.item = dataset.uid_field, dataset.iid_field
        state, _ = live._ready()
        # ids of the state, which differ where the data set has grown since the state was begun
        self.users = _ids_in(dataset, self.user, state.users)
        self.items = _ids_in(dataset, self.item, state.items)
        self.device = device

    def eval(self) -> LiveModel:
        """Return this."""
        return self

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return what all items are ranked by for each user, ``[batch, n_items]``."""
        return self._scores(interaction[self.user])

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return what (user, item) pairs are ranked by, ``[batch]``."""
        users, row = interaction[self.user].unique(return_inverse=True)
        return self._scores(users)[row, interaction[self.item]]

    def _scores(self, users: torch.Tensor) -> torch.Tensor:
        state, learner = self.live._ready()
        keys = state.users.keys, state.items.keys
        scores = ranked_scores(learner, state.edges, self.users[users.cpu().numpy()], keys)
        items = torch.from_numpy(self.items)
        chosen = scores[:, items]
        chosen[:, items == 0] = scores.amin(dim=1, keepdim=True) - 1.0  # not known to the state
        return chosen.to(self.device)


def base_of(dataset: Any) -> tuple[list[str], list[str], EdgeColumns]:
    """Return users, items and edges of a training part; the vocabulary is that of the whole data set, ids included."""
    columns: dict[str, list[np.ndarray]] = {"user": [], "item": [], "kind": [], "time": []}
    for name, kind in KINDS.items():
        table = getattr(dataset, name, None)
        if table is None or not len(table):
            continue
        columns["user"].append(table[dataset.uid_field].numpy())
        columns["item"].append(table[dataset.iid_field].numpy())
        columns["kind"].append(np.full(len(table), kind, dtype=np.int8))
        columns["time"].append(_milliseconds(dataset, name, len(table)))
    user, item, kinds, times = [np.concatenate(parts) for parts in columns.values()]
    order = np.argsort(times, kind="stable")
    tokens = [tokens_of(dataset, field) for field in (dataset.uid_field, dataset.iid_field)]
    return tokens[0], tokens[1], (user[order], item[order], kinds[order], times[order])


def tokens_of(dataset: Any, field: str) -> list[str]:
    """Return the tokens of ids 1, 2, ... of a data set, as events have them."""
    return [normal(str(token)) for token in dataset.field2id_token[field][1:]]


def _ids_in(dataset: Any, field: str, vocabulary: Vocabulary) -> np.ndarray:
    """Return the ids that a state has for those of a data set, int64 ``[n]``; 0 where it has none."""
    return vocabulary.ids(["", *tokens_of(dataset, field)])


def _moved(features: Features | None, ids: np.ndarray) -> Features | None:
    """Return features by other ids, those of its rows ``[n]``; rows with the id 0 are left out."""
    if features is None:
        return None
    rows = np.zeros(int(ids.max(initial=0)) + 1, dtype=np.int64)
    rows[ids] = np.arange(len(ids))
    rows[0] = 0  # padding, which has none
    return replace(features, matrix=features.matrix[rows])


def _has_grown(state: OnlineState, dataset: Any) -> bool:
    """Return whether a data set has ids that a state lacks; UsageError where an id stands for two tokens."""
    grown = False
    for number, (field, vocabulary) in enumerate(((dataset.uid_field, state.users), (dataset.iid_field, state.items))):
        tokens = tokens_of(dataset, field)
        begun = state.log.begun[number] if state.log.begun is not None else min(len(vocabulary), len(tokens) + 1)
        known = vocabulary.tokens(range(1, min(begun, len(tokens) + 1)))
        other = any(mine not in (None, theirs) for mine, theirs in zip(known, tokens, strict=False))
        if other or len(tokens) + 1 < begun:
            raise UsageError(
                f"{state.directory} was begun with another vocabulary ({field}) than '{dataset.dataset_name}' has "
                "now, so edges would be assigned to the wrong ones; set online_state to another folder."
            )
        new = len(tokens) + 1 - begun
        if new:
            grown = True
            _logger.warning(
                "'%s' has %d more of %s than the state began with; send their events.", dataset.dataset_name, new, field
            )
    return grown


def _milliseconds(dataset: Any, name: str, n: int) -> np.ndarray:
    times = dataset.times(name) if hasattr(dataset, "times") else None
    if times is None:
        return np.zeros(n, dtype=np.int64)
    return milliseconds(np.nan_to_num(times), f"the time of '{dataset.dataset_name}'")
