"""What a batch did to a state, and what a version is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_signed.live.store.edge_views import Changes, LogBatch
from recbole_signed.live.store.edges import FrozenEdges


@dataclass(frozen=True)
class Update:
    """What a batch did."""

    n_new: int
    n_duplicate: int
    logged: LogBatch
    changes: Changes
    n_refused: int = 0
    """Late events of forgotten users, see `Graves`."""
    status: np.ndarray | None = None
    """What became of each event of the batch, int8: :data:`NEW`, :data:`DUPLICATE` or :data:`LATE`; None on replay."""


@dataclass(frozen=True)
class Appended:
    """A batch that is in the log and not in the edges yet."""

    logged: LogBatch
    status: np.ndarray
    """See :attr:`Update.status`."""


@dataclass(frozen=True)
class Captured:
    """What a version says of itself, and its edges at that moment."""

    about: dict[str, Any]
    edges: FrozenEdges
