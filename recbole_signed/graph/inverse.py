r"""Exact updates of :math:`P = (X^T X + \lambda I)^{-1}` for changed rows (Jeunen et al., UMUAI 2022)."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from scipy.linalg import get_lapack_funcs
from threadpoolctl import threadpool_limits

from recbole_signed.errors import UsageError
from recbole_signed.graph.sparse_kernels import rows_product

BLOCK = 1024  # rows that are mirrored at a time
ONE_THREAD = 8192  # items up to which LAPACK gets one thread: OpenBLAS' threads spin, slow on a busy machine


def gram_inverse(
    matrix: sp.csr_matrix, ridge: float | npt.NDArray[np.float64], dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    r"""Return :math:`(X^T X + \lambda I)^{-1}` by Cholesky in place; ``ridge`` may be ``[n_items]``."""
    if not np.min(ridge) > 0:
        raise ValueError(f"the ridge must be positive, but is {np.min(ridge)}")
    n_items = matrix.shape[1]
    number = torch.empty(0, dtype=dtype).numpy().dtype
    refuse_too_large(n_items, number.itemsize)
    gram = np.empty((n_items, n_items), dtype=number)
    matrix = matrix.astype(number)
    rows = matrix.T.tocsr()
    step = max(1, (1 << 26) // max(1, n_items))
    for first in range(0, n_items, step):
        (rows[first : first + step] @ matrix).toarray(out=gram[first : first + step])
    gram[np.diag_indices(n_items)] += ridge
    # Fortran's view of a symmetric matrix is the matrix itself; the result is in the upper triangle of ``gram``
    potrf, potri = get_lapack_funcs(("potrf", "potri"), (gram,))
    steps = (lambda a: potrf(a, lower=1, clean=0, overwrite_a=1), lambda a: potri(a, lower=1, overwrite_c=1))
    with threadpool_limits(1 if n_items <= ONE_THREAD else None, user_api="blas"):
        for step_of in steps:
            done, info = step_of(gram.T)
            if info or not np.shares_memory(done, gram):
                raise ArithmeticError(f"LAPACK could not invert the Gram matrix of {n_items} items in place ({info}).")
    for first in range(0, n_items, BLOCK):
        last = min(first + BLOCK, n_items)
        gram[last:, first:last] = gram[first:last, last:].T
        corner = gram[first:last, first:last]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
    return torch.from_numpy(gram)


def ease_scores(rows: sp.csr_matrix, inverse: torch.Tensor) -> torch.Tensor:
    """Return :math:`x B` of rows x, with EASE's :math:`B_{ij} = -P_{ij} / P_{jj}`, :math:`B_{jj} = 0`."""
    known = torch.from_numpy(rows.toarray()).to(inverse.device)
    return known - rows_product(rows, inverse) / inverse.diagonal()


def refuse_too_large(n_items: int, itemsize: int = 4, n_matrices: int = 1) -> None:
    """Refuse matrices ``[n_items, n_items]`` that do not fit into the memory that is free."""
    needed = n_items**2 * itemsize * n_matrices
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with open("/proc/meminfo", encoding="ascii") as file:  # what is free or can be freed
            free = next((int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable")), free)
    except (OSError, ValueError, AttributeError):  # a system that does not tell
        return
    if needed > free:
        what = "an item-item matrix" if n_matrices == 1 else f"{n_matrices} item-item matrices"
        raise UsageError(
            f"{needed / 1e9:.1f} GB of memory are needed for {what} of {n_items:,} items, but {free / 1e9:.1f} GB are "
            "free; leave rare items out (item_inter_num_interval), or use a model without one, such as SSF."
        )


def replace_rows(inverse: torch.Tensor, old: sp.csr_matrix, new: sp.csr_matrix) -> torch.Tensor:
    r"""Update ``inverse`` in place for r rows of X that change from ``old`` to ``new``, and return it.

    :math:`P \leftarrow P - P W (C^{-1} + W^T P W)^{-1} W^T P` with :math:`W = [x_1 .. x_r, x'_1 .. x'_r]` and
    :math:`C = \mathrm{diag}(-1.., +1..)`. A new user has an empty old row, a forgotten one an empty new row.
    """
    both = sp.vstack([old, new]).tocsr()
    columns, places = np.unique(both.indices, return_inverse=True)
    small = sp.csr_matrix((both.data, places.ravel(), both.indptr), shape=(both.shape[0], len(columns)))
    weights = torch.from_numpy(small.toarray()).to(inverse)
    touched = torch.from_numpy(columns.astype(np.int64)).to(inverse.device)
    image = inverse[:, touched] @ weights.T  # [n_items, 2 r]
    signs = torch.ones(both.shape[0], dtype=inverse.dtype, device=inverse.device)
    signs[: old.shape[0]] = -1.0
    core = torch.diag(signs) + weights @ image[touched]
    return inverse.addmm_(image, torch.linalg.solve(core, image.T), alpha=-1.0)
