"""All features of SSF-T's score in one tensor, of a filter or of held-out likes."""

from __future__ import annotations

import numpy as np
import torch

from recbole_signed.ssf.order import OrderFilter
from recbole_signed.ssf.order_weights import Likes
from recbole_signed.ssf.user_edges import UserEdges


def features_of(made: OrderFilter, users: UserEdges) -> torch.Tensor:
    """Return the features of all items, ``[n_users, n_features, n_items]``."""
    return _joined(made.item_features, made.own_features(users, np.arange(made.item_features.shape[1])))


def features_in(likes: Likes) -> torch.Tensor:
    """Return the features of all candidates, ``[n_users, n_features, n_candidates]``."""
    return _joined(likes.shared, likes.own)


def _joined(shared: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return torch.cat([shared.expand(len(own), -1, -1), own], dim=1)
