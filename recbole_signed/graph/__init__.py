"""Signed bipartite graphs and the kernels that work on them: sparse products, truncated SVD, propagation, walks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
