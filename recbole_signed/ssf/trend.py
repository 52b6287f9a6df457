r"""What is on the rise: exposures of items that forget, against those that do not.

:math:`T_i = (\rho_i + m) / (c\, d_i + m)`: of all :math:`d_i` exposures of item i, :math:`\rho_i` counts each with the
weight :math:`2^{-\text{age}/h}` (``online/store/recent_counts.py``), and :math:`c = \sum \rho / \sum d` is what is left
of the mean exposure. So m is in exposures of now, and where few are left there is no trend. The moment that ages are
counted from cancels: nothing has to be worked out again as time goes by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Trend:
    """The trend of items and what it multiplies."""

    ratio: torch.Tensor
    """T, float32 ``[n_items]``."""
    exponent: float
    """[eps] Tastes are multiplied by T to this power."""
    popularity: float
    """[omega] Likes are multiplied by T to this power."""

    @classmethod
    def of(
        cls, counts: torch.Tensor, exposures: torch.Tensor, smoothing: float, exponent: float, popularity: float
    ) -> Trend:
        """Return the trend of items.

        Args:
            counts: what is left of the exposures, ``[n_items]``; zeros where nothing is known of time.
            exposures: all exposures, ``[n_items]``.
            smoothing: m.
            exponent: eps.
            popularity: omega.
        """
        total, recent = exposures.double().sum(), counts.double().sum()
        if not recent > 0:
            return cls(torch.ones_like(exposures, dtype=torch.float32), exponent, popularity)
        ratio = (counts.double() + smoothing) / (exposures.double() * (recent / total) + smoothing)
        return cls(ratio.float(), exponent, popularity)

    @property
    def factor(self) -> torch.Tensor:
        """What tastes are multiplied by, ``[n_items]``."""
        return self.ratio**self.exponent

    def likes(self, likes: torch.Tensor) -> torch.Tensor:
        """Return the likes of items as the share of popularity counts them, ``[n_items]``."""
        return likes * self.ratio**self.popularity
