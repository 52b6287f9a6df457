"""Models of saved versions: what they were fitted with, and how they are fitted again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.live.events import ids_of
from recbole_signed.live.learners.base import Learner
from recbole_signed.live.learners.make import described, learner_from
from recbole_signed.live.store.edges import EdgeState
from recbole_signed.live.store.state import OnlineState
from recbole_signed.live.store.update import Update
from recbole_signed.live.store.versions import Snapshot


@dataclass(frozen=True)
class UpdateResult:
    """What :meth:`OnlineRecommender.update` did."""

    update: Update
    seconds: float
    """From the call to the moment at which recommendations follow the events; they are on the disk by then."""


def load_version(learner: Learner, snapshot: Snapshot) -> None:
    """Let a learner take a version over.

    Raises:
        UsageError: it does not hold what the model needs.
    """
    with _explained(snapshot):
        learner.load(snapshot.tensors, snapshot.meta)


@contextlib.contextmanager
def _explained(snapshot: Snapshot) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"Version {snapshot.name} does not hold what {snapshot.model} needs ({why}); roll back to another version, "
            "open it with the version of this package that saved it, or fit the model again from the data set."
        ) from error


def refit_version(
    snapshot: Snapshot, edges: EdgeState, forgotten: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fit the model of a version to other edges, and return its tensors and meta.

    Args:
        snapshot: the version.
        edges: those of the version, less those of users who were forgotten.
        forgotten: ids of these users, int64.

    Raises:
        UsageError: the version does not hold what the model needs.
    """
    learner = learner_from(snapshot.meta.get("learner", {}))
    with _explained(snapshot):
        learner.take_features_of(snapshot.tensors, snapshot.meta, forgotten)
    learner.fit(edges.export(), edges.n_users, edges.n_items)
    learner.attach(edges)
    tensors, meta = learner.state()
    return tensors, {**meta, "learner": described(learner)}


def same_settings(one: Learner, other: dict[str, Any]) -> bool:
    """Return whether a learner has the parameters of a description, as JSON has them, and reads the same features."""
    own = one.columns()
    if other.get("columns", own) != own:  # versions of before this was kept do not say it
        return False
    return json.dumps(one.parameters(), sort_keys=True) == json.dumps(other.get("parameters"), sort_keys=True)


def numbers_of(state: OnlineState, items: str | int | Iterable[str | int]) -> np.ndarray:
    """Return the numbers of those items that are known, int64; ``items`` may be a single one."""
    ids = state.items.ids(ids_of(items, "item"))
    return ids[(ids > 0) & (ids < state.edges.n_items)]
