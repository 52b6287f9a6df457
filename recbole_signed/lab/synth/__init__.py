"""Synthetic signed bipartite graphs with time, as large as wanted, whose statistics match a real data set's."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
