r"""Eigenvectors of the sign-aware Laplacian of a bipartite graph, from singular vectors of half its size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recbole_signed.graph.lanczos import gram_eigenvectors
from recbole_signed.graph.spectral import inverse_power

FloatArray = npt.NDArray[np.float64]


def laplacian_eigenvectors(likes: sp.csr_matrix, dislikes: sp.csr_matrix, alpha: float, k: int) -> FloatArray:
    r"""Return the eigenvectors of :math:`L = (L^+ + \alpha L^-) / (1 + \alpha)` with the ``k`` smallest eigenvalues.

    :math:`L^\pm = I - D_\pm^{-1/2} A^\pm D_\pm^{-1/2}` over users and items. Because the graph is bipartite,
    :math:`L = I - \frac{1}{1+\alpha} \begin{pmatrix} 0 & M \\ M^T & 0 \end{pmatrix}` with the normalised
    :math:`M = \hat P + \alpha \hat N`, and the wanted vectors are :math:`(u, v)/\sqrt 2` of the leading singular
    triplets of M; they come from the Gram matrix of its smaller side, by Lanczos from a fixed start.

    Eigenvectors of the eigenvalue 1 (singular value 0) are an arbitrary basis of what is left, and are left out, so
    fewer than ``k`` come back where M has a lower rank. The sign of each vector makes the sum of its cubes positive,
    so permuted nodes give permuted vectors.

    Args:
        likes: ``[n_users, n_items]``; entries above 1 count that often.
        dislikes: of the same shape.
        alpha: weight of the dislikes, above -1; positive: disliked pairs lie near each other, as liked ones do.
        k: how many vectors.

    Returns:
        float64 ``[n_users + n_items, at most k]``, by ascending eigenvalue, orthonormal columns.

    Raises:
        ValueError: ``alpha`` is -1 or less: the order of the eigenvalues would turn round.
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
