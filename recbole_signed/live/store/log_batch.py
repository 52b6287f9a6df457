"""Rows of the log as the rest of the system sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LogBatch:
    """Rows of the log, by rising ``seq``: int64 columns ``[n]`` with the ids of the vocabularies; value float64.

    ``n_users`` and ``n_items`` are the sizes of the vocabularies after it, padding included; ``first_seq`` is
    ``last_seq + 1`` where there is no row.
    """

    first_seq: int
    last_seq: int
    n_users: int
    n_items: int
    seq: np.ndarray
    user: np.ndarray
    item: np.ndarray
    type: np.ndarray
    timestamp: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.seq)
