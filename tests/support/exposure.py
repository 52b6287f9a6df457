"""The exposure matrix of a graph by itself, for tests of what is done with it."""

import scipy.sparse as sp

from recbole_signed.graph import SignedGraph
from recbole_signed.ssf import FilterSettings
from recbole_signed.ssf.filter import Exposure


def exposure_matrix(graph: SignedGraph, w: float, a: float = 5.0, e: float = 0.5) -> sp.csr_matrix:
    """Return R, float32 ``[n_users, n_items]``."""
    settings = FilterSettings(dislike_weight=w, degree_smoothing=a, degree_exponent=e)
    return Exposure.from_graph(graph, settings).matrix
