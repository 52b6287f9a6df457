"""Leading eigenvectors to full precision, for filters that cut off sharply: of a Gram matrix, of a signed Laplacian."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh

from recbole_signed.graph.spectral import inverse_power

FloatArray = npt.NDArray[np.float64]
DENSE_BELOW = 512  # nodes of a side up to which it is decomposed densely, or four times the vectors
EQUAL = 10  # decimals of the squared singular values, over the largest one, that have to differ for an order
NULL = 1e-12  # squared singular values below this part of the largest one are zero up to rounding
KEPT_BYTES = 1 << 29  # bytes of the decompositions that `kept_eigenvectors` keeps
_kept: ContextVar[OrderedDict[bytes, tuple[FloatArray, FloatArray]] | None] = ContextVar("kept", default=None)


@contextmanager
def kept_eigenvectors() -> Iterator[None]:
    """Let :func:`gram_eigenvectors` keep what it finds for a matrix and ``k``, up to a size, for searches."""
    token = _kept.set(OrderedDict())
    try:
        yield
    finally:
        _kept.reset(token)


def gram_eigenvectors(matrix: sp.csr_matrix, k: int) -> tuple[FloatArray, FloatArray]:
    """Return the ``k`` largest eigenvalues of :math:`M^T M`, descending, and its eigenvectors ``[n_columns, k]``.

    By Lanczos or densely, each connected component by itself: Lanczos misses an eigenvalue, such as 1, that occurs
    often.
    """
    kept = _kept.get()
    if kept is None:
        return _gram_eigenvectors(matrix, k)
    content = hashlib.blake2b(repr((k, matrix.shape)).encode())
    for part in (matrix.indptr, matrix.indices, matrix.data):
        content.update(np.ascontiguousarray(part).data)
    key = content.digest()
    if key in kept:
        kept.move_to_end(key)
    else:
        kept[key] = _gram_eigenvectors(matrix, k)
        while len(kept) > 1 and sum(vectors.nbytes for _, vectors in kept.values()) > KEPT_BYTES:
            kept.popitem(last=False)
    energy, vectors = kept[key]
    return energy.copy(), vectors.copy()


def _gram_eigenvectors(matrix: sp.csr_matrix, k: int) -> tuple[FloatArray, FloatArray]:
    parts = [(columns, *_of_connected(part, k)) for columns, part in _components(matrix)]
    energy = np.concatenate([np.zeros(0), *(values for _, values, _ in parts)])
    owner = np.repeat(np.arange(len(parts)), [len(values) for _, values, _ in parts])
    column = np.concatenate([np.zeros(0, dtype=int), *(np.arange(len(values)) for _, values, _ in parts)])
    largest = max(energy.max(initial=0.0), NULL)
    order = np.argsort(-np.round(energy / largest, EQUAL), kind="stable")[:k]
    order = order[energy[order] > NULL * largest]
    vectors = np.zeros((matrix.shape[1], len(order)))
    for place, number in enumerate(order):
        columns, _, local = parts[owner[number]]
        vectors[columns, place] = local[:, column[number]]
    return energy[order], vectors


def _components(matrix: sp.csr_matrix) -> Iterator[tuple[npt.NDArray[np.intp], sp.csr_matrix]]:
    """Yield the columns of each connected component that has an entry, and its part of the matrix; large ones first."""
    n_rows = matrix.shape[0]
    entries = sp.csr_matrix((np.ones(matrix.nnz, dtype=np.int8), matrix.indices, matrix.indptr), shape=matrix.shape)
    labels = connected_components(sp.bmat([[None, entries], [entries.T, None]], format="csr"), directed=False)[1]
    of_row, of_column = labels[:n_rows], labels[n_rows:]
    sizes = np.bincount(of_column, minlength=labels.max(initial=-1) + 1)
    rank = np.empty(len(sizes), dtype=np.intp)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    rows, columns = (np.argsort(rank[side], kind="stable") for side in (of_row, of_column))
    row_ends, column_ends = (np.bincount(rank[side], minlength=len(sizes)).cumsum() for side in (of_row, of_column))
    arranged = matrix[rows][:, columns]
    first_row = first_column = 0
    for row_end, column_end in zip(row_ends, column_ends, strict=True):
        if row_end > first_row and column_end > first_column:
            part = arranged[first_row:row_end, first_column:column_end]
            yield columns[first_column:column_end], part
        first_row, first_column = row_end, column_end


def _of_connected(matrix: sp.csr_matrix, k: int) -> tuple[FloatArray, FloatArray]:
    size = matrix.shape[1]
    transposed = matrix.T.tocsr()
    if size <= max(DENSE_BELOW, 4 * k):
        energy, vectors = np.linalg.eigh((transposed @ matrix).toarray())
    else:
        gram = LinearOperator((size, size), matvec=lambda vector: transposed @ (matrix @ vector), dtype=np.float64)
        energy, vectors = eigsh(gram, k=k, which="LA", v0=np.random.default_rng(0).standard_normal(size))
    order = np.argsort(-energy)[:k]
    return energy[order], vectors[:, order]


def laplacian_eigenvectors(likes: sp.csr_matrix, dislikes: sp.csr_matrix, alpha: float, k: int) -> FloatArray:
    r"""Return the eigenvectors of :math:`L = (L^+ + \alpha L^-) / (1 + \alpha)` with the ``k`` smallest eigenvalues.

    :math:`L^\pm = I - D_\pm^{-1/2} A^\pm D_\pm^{-1/2}`; they are :math:`(u, v)/\sqrt 2` of the leading singular
    triplets of :math:`M = \hat P + \alpha \hat N`. Those of the eigenvalue 1 are left out. The sum of cubes of each is
    positive.
    """
    if alpha <= -1:
        raise ValueError(f"alpha must be above -1, but is {alpha}")
    matrix = (_normalised(likes) + alpha * _normalised(dislikes)).tocsr()
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T.tocsr()
    energy, small = gram_eigenvectors(tall, k)
    large = tall @ (small / np.sqrt(energy))
    sides = (large, small) if tall is matrix else (small, large)
    vectors = np.concatenate(sides) / np.sqrt(2.0)
    return vectors * np.where((vectors**3).sum(axis=0) < 0, -1.0, 1.0)


def _normalised(matrix: sp.csr_matrix) -> sp.csr_matrix:
    matrix = matrix.tocsr().astype(np.float64)
    scales = [sp.diags(inverse_power(np.asarray(matrix.sum(axis=axis)).ravel(), 0.0, 0.5)) for axis in (1, 0)]
    return (scales[0] @ matrix @ scales[1]).tocsr()
