r"""BSPM
################################################
Reference:
    Jeongwhan Choi et al. "Blurring-Sharpening Process Models for Collaborative Filtering." in SIGIR 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from recbole_signed.model.training_free import IdealFilterRecommender

Field = Callable[[torch.Tensor], torch.Tensor]
ORDERS = {"euler": 1, "rk4": 4}


class BSPM(IdealFilterRecommender):
    r"""Blurs the likes of a user by the heat equation and by an ideal low-pass filter, then sharpens them.

    With :math:`F = \tilde R^T \tilde R` and :math:`Q = D_i^{-1/2} V V^T D_i^{1/2}`:
    :math:`B' = B(F - I)` and :math:`L' = L(Q - I)` from :math:`p_u` over the times ``T_b`` and ``T_idl``;
    :math:`S' = -S F` over the time ``T_s``. With ``final_sharpening`` (the paper's early merge, EM) S starts from
    :math:`B + \beta L` and is the score; without (late merge, LM) it starts from B, and the score is
    :math:`S + \beta L`. The fields are linear, so a step of Euler or Runge-Kutta is a Taylor polynomial of the field.

    Departures: F is applied as two sparse products (theirs: items x items). The combination of several points in time
    is left out.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.ideal_weight = float(config["idl_beta"])
        self.final_sharpening = bool(config["final_sharpening"])
        self.times = {name: (float(config[f"T_{name}"]), int(config[f"K_{name}"])) for name in ("idl", "b", "s")}
        self.orders = {name: ORDERS[config[f"solver_{name}"]] for name in ("idl", "b", "s")}

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        likes = torch.from_numpy(self.graph.likes[users.cpu().numpy()].toarray()).to(self.device)
        with torch.no_grad():
            left, right = self.ideal()
            ideal = self.ideal_weight * self._solve("idl", lambda signal: signal @ left @ right - signal, likes)
            blurred = self._solve("b", lambda signal: self.linear.dense(signal) - signal, likes)
            if self.final_sharpening:
                return self._solve("s", lambda signal: -self.linear.dense(signal), blurred + ideal)
            return self._solve("s", lambda signal: -self.linear.dense(signal), blurred) + ideal

    def _solve(self, name: str, field: Field, signal: torch.Tensor) -> torch.Tensor:
        """Integrate ``signal' = field(signal)`` over the time of that name in its number of steps."""
        time, steps = self.times[name]
        for _ in range(steps):
            term = signal
            for order in range(1, self.orders[name] + 1):
                term = field(term) * (time / steps / order)
                signal = signal + term
        return signal
