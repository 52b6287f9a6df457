"""Writes a model as a contribution to RecBole: one self-contained file and what belongs beside it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
