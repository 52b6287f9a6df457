"""The SSF family, this package's own models: the filter and its score, search, recommenders."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
