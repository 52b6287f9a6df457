"""What a model's constructor asks of RecBole's data set, answered from the edges of a stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.data.interaction import Interaction

from recbole_signed.errors import UsageError
from recbole_signed.graph import SignedGraph
from recbole_signed.online.store.edges import EdgeArrays


class EdgeDataset:
    """A view of the current edges that a model can be built on; no files, no vocabulary.

    Attributes:
        inter_feat, neg_feat, neutral_feat (Interaction): likes, dislikes, and what was seen without a verdict, with
            the columns user and item; ids are those of the stream, 0 is padding.
    """

    def __init__(self, edges: EdgeArrays, n_users: int, n_items: int, config: Any) -> None:
        self.config = config
        self.dataset_name = config["dataset"]
        self.uid_field, self.iid_field = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
        self.user_num, self.item_num = n_users, n_items
        self._edges = edges
        self.inter_feat, self.neg_feat, self.neutral_feat = (
            self._table(each) for each in (edges.likes, edges.dislikes, edges.neutral)
        )
        signed = config["signed"]
        self.neutral_weight = float(signed.neutral_weight if signed else config["neutral_weight"] or 0.0)
        self._graph: SignedGraph | None = None

    def _table(self, pairs: np.ndarray) -> Interaction:
        users, items = torch.from_numpy(pairs.astype(np.int64))
        return Interaction({self.uid_field: users, self.iid_field: items})

    def __len__(self) -> int:
        return len(self.inter_feat)

    @property
    def inter_num(self) -> int:
        """Number of likes."""
        return len(self)

    def num(self, field: str) -> int:
        """Return the number of ids of a field, padding included.

        Raises:
            UsageError: it is neither the users' nor the items'.
        """
        sizes = {self.uid_field: self.user_num, self.iid_field: self.item_num}
        if field not in sizes:
            raise UsageError(f"a stream knows users and items alone, but the model asks for the field '{field}'.")
        return sizes[field]

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Return the likes as a sparse 0/1 matrix ``[n_users, n_items]``, ``form`` is ``coo`` or ``csr``."""
        if value_field is not None:
            raise UsageError(f"a stream has no values of edges, but the model asks for '{value_field}'.")
        users, items = self._edges.likes
        ones = np.ones(len(users), dtype=np.float32)
        return sp.coo_matrix((ones, (users, items)), shape=(self.user_num, self.item_num)).asformat(form)

    def signed_graph(self) -> SignedGraph:
        """Return all edges as one graph ``[n_users, n_items]``, built once."""
        if self._graph is None:
            likes, dislikes, neutral = (tuple(each) for each in self._sides())
            self._graph = SignedGraph.from_edges(
                likes, dislikes, self.user_num, self.item_num, neutral, self.neutral_weight
            )
        return self._graph

    def _sides(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._edges.likes, self._edges.dislikes, self._edges.neutral
