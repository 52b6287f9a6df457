"""Signed bipartite graphs: the two edge sets, their degrees, and the kernels that work on them."""

from recbole_signed.graph.signed_graph import SignedGraph

__all__ = ["SignedGraph"]
