"""The exposure matrix of a graph by itself, for tests of what is done with it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recbole_signed.graph import SignedGraph, exposure_rows, inverse_power


def exposure_matrix(
    graph: SignedGraph, dislike_weight: float, smoothing: float = 5.0, exponent: float = 0.5
) -> sp.csr_matrix:
    """Return the normalised signed exposure matrix R, float32 ``[n_users, n_items]``."""
    _, item_degrees = graph.degrees(dislike_weight)
    item_scale = inverse_power(item_degrees.astype(np.float64), smoothing, exponent)
    return exposure_rows(graph, item_scale, dislike_weight, smoothing, exponent)
