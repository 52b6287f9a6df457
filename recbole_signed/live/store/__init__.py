"""The durable store: log, vocabulary, current edges, and versions to go back to. Knows neither torch nor RecBole."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
