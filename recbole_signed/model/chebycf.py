r"""ChebyCF
################################################
Reference:
    Chanwoo Kim et al. "Graph Spectral Filtering with Chebyshev Interpolation for Recommendation." in SIGIR 2025.
Reference code:
    https://github.com/chanwoo0806/ChebyCF
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_signed.model.training_free import IdealFilterRecommender


class ChebyCF(IdealFilterRecommender):
    r"""A plateau-shaped filter of the likes by Chebyshev interpolation, beside an ideal low-pass filter.

    With :math:`\tilde R = D_u^{-1/2} P D_i^{-1/2}` and the Laplacian :math:`L = I - \tilde R^T \tilde R`, moved to
    [-1, 1] as :math:`\tilde L = 2L - I`, a user's row :math:`p_u` has the scores

    .. math:: s_u = p_u D_i^{-\beta} \Big( \sum_{k=0}^{K} c_k T_k(\tilde L) + \alpha V V^T \Big) D_i^{\beta}

    with the Chebyshev polynomials :math:`T_k` and V the ``rank`` (:math:`\eta`) leading right singular vectors. The
    coefficients :math:`c_k` interpolate the plateau :math:`h(x) = (1 - \mathrm{sgn}(x) |x|^\phi) / 2`; as the authors'
    code does, from the values of h at the extrema of :math:`T_K`, entered at the zeros of :math:`T_{K+1}`.

    Departure: the singular vectors come from our Lanczos iteration, one connected component at a time.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.ideal_weight = float(config["alpha"])
        self.coefficients = interpolation(int(config["filter_order"]), float(config["flatness"]))
        scale = self.item_degrees.clamp(min=1e-12) ** float(config["beta"])
        self.register_buffer("item_scale", torch.where(self.item_degrees > 0, scale, 0.0), persistent=False)

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        rows = torch.from_numpy(self.signal(users).toarray()).to(self.device)
        with torch.no_grad():
            inverse = torch.where(self.item_scale > 0, 1.0 / self.item_scale.clamp(min=1e-12), 0.0)
            signal = rows * inverse
            scores = self.ideal_weight * ((signal @ self.item_factors) @ self.item_factors.T)
            before, term = signal, self._shifted(signal)
            for order, coefficient in enumerate(self.coefficients.tolist()):
                if order == 0:
                    scores += coefficient * signal
                    continue
                if order > 1:
                    before, term = term, 2.0 * self._shifted(term) - before
                scores += coefficient * term
            return scores * self.item_scale

    def _shifted(self, signal: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`y \tilde L = y - 2 y \tilde R^T \tilde R`."""
        return signal - 2.0 * self.linear.dense(signal)


def interpolation(order: int, flatness: float) -> npt.NDArray[np.float64]:
    r"""Return :math:`c_k = \frac{2 - [k = 0]}{K + 1} \sum_j h_j \cos(k \theta_j)`, ``[order + 1]``, of the plateau."""
    count = order + 1
    extrema = np.cos(np.pi * (order - np.arange(count)) / max(order, 1)).round(3) if order else np.array([-1.0])
    plateau = (0.5 - 0.5 * np.sign(extrema) * abs(extrema) ** flatness).round(3)
    angles = np.pi * (count - np.arange(count) - 0.5) / count
    coefficients = 2.0 / count * np.cos(np.arange(count)[:, None] * angles) @ plateau
    coefficients[0] /= 2.0
    return coefficients
