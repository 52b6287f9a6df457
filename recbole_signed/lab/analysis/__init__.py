"""Analyses of a fitted model: the trade-off between likes and dislikes, segments of users."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
