"""Lists of edges between 6 users and 8 items, as Hypothesis draws them."""

import numpy as np
from hypothesis import strategies as st

EDGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=40)


def columns(edges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items."""
    array = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def dense(edges: list[tuple[int, int]]) -> np.ndarray:
    """Return the matrix of ones, ``[6, 8]``."""
    matrix = np.zeros((6, 8))
    for user, item in edges:
        matrix[user, item] = 1.0
    return matrix
