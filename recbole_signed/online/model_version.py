"""Models of saved versions: what they were fitted with, and how they are fitted again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_signed.online.learners import Learner, described, learner_from
from recbole_signed.online.store import EdgeState, ItemSide, OnlineState, Snapshot, Update
from recbole_signed.online.store.edges import EdgeArrays


@dataclass(frozen=True)
class UpdateResult:
    """What :meth:`OnlineRecommender.update` did."""

    update: Update
    seconds: float
    """From the call to the moment at which recommendations follow the events; they are on the disk by then."""


def refit_version(snapshot: Snapshot, edges: EdgeState) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fit the model of a version to other edges, and return its tensors and meta."""
    learner = learner_from(snapshot.meta.get("learner", {}))
    learner.fit(edges.export(), edges.n_users, edges.n_items)
    learner.attach(edges)
    tensors, meta = learner.state()
    return tensors, {**meta, "learner": described(learner)}


def same_settings(one: Learner, other: dict[str, Any]) -> bool:
    """Return whether a learner has the parameters of a description, as JSON has them."""
    return json.dumps(one.parameters(), sort_keys=True) == json.dumps(other.get("parameters"), sort_keys=True)


def copied_edges(state: OnlineState, times: bool) -> ItemSide | EdgeArrays:
    """Return a copy of the edges, without their times where nobody looks at them: that takes less time."""
    return state.edges.export() if times else state.edges.item_side()
