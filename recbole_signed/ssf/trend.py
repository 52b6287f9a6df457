r"""What is on the rise: exposures of items that forget, against those that do not.

:math:`T_i = (\rho_i + m) / (c\, d_i + m)`: of all :math:`d_i` exposures of item i, :math:`\rho_i` counts each with the
weight :math:`2^{-\text{age}/h}` (``recent_counts.py``), and :math:`c = \sum \rho / \sum d` is what is left
of the mean exposure. The weights are scaled to the sum :math:`\tfrac12 (\sum w)^2 / \sum w^2`, that of evenly spread
exposures, so m is in exposures of now, and the moment that ages are counted from cancels: nothing has to be worked out
again as time goes by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from recbole_signed.ssf.settings import TimeSettings


@dataclass(frozen=True)
class Trend:
    """The trends of items, which may differ in their half-lives, and what they multiply."""

    ratio: torch.Tensor
    """T, float32 ``[n_items]``."""
    popularity_ratio: torch.Tensor
    """T', float32 ``[n_items]``."""
    exponent: float
    """[eps] Tastes are multiplied by T to this power."""
    popularity: float
    """[omega] Likes are multiplied by T' to this power."""

    @classmethod
    def of(
        cls, counts: torch.Tensor, popularity_counts: torch.Tensor, exposures: torch.Tensor, s: TimeSettings
    ) -> Trend:
        """Return the trends of items.

        Args:
            counts: what the half-life of T leaves of the exposures, ``[n_items]``; zeros where nothing is known of
                time.
            popularity_counts: what that of T' leaves of them, ``[n_items]``.
            exposures: all exposures, ``[n_items]``.
            s: smoothing and exponents.
        """
        ratio, popularity_ratio = (ratios(each, exposures, s.trend_smoothing) for each in (counts, popularity_counts))
        return cls(ratio, popularity_ratio, s.trend_exponent, s.recent_popularity)

    @cached_property
    def factor(self) -> torch.Tensor:
        """What tastes are multiplied by, ``[n_items]``."""
        return self.ratio**self.exponent

    def likes(self, likes: torch.Tensor) -> torch.Tensor:
        """Return the likes of items as the share of popularity counts them, ``[n_items]``."""
        return likes * self.popularity_ratio**self.popularity


def ratios(counts: torch.Tensor, exposures: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return T of items, float32 ``[n_items]``, from what is left of their exposures, and all of them."""
    total, recent = exposures.double().sum(), counts.double().sum()
    if not recent > 0:
        return torch.ones_like(exposures, dtype=torch.float32)
    return ((counts.double() + smoothing) / (exposures.double() * (recent / total) + smoothing)).float()
